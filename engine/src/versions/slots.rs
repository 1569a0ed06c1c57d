//! Who reads at which LSN: a slot for each live snapshot and transaction, and the horizon below which nothing new may begin.
//!
//! ```text
//!   reader:  slot ← S      then   horizon > S ?  start over with a newer S
//!   pruner:  horizon ← H   then   look at the slots; what is needed begins at the smallest of H and what stands there
//! ```
//!
//! Both sides store first and look second, all of it sequentially consistent: of a reader and a pruner that meet, at least one sees
//! the other (Dekker's mutual exclusion). So what the pruner takes for unneeded, no reader that goes on needs.
//!
//! Invariants:
//! 1. A slot is its owner's alone from being claimed until it is released; others only set the mark that takes the snapshot away.
//! 2. The mark is set before anything goes that the snapshot needs: whoever finds its slot unmarked *after* having read, has read
//!    what it should.

use crate::fault::Fault;
use ashlar_disk::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use ashlar_disk::sync::atomic::{AtomicU64, AtomicUsize, fence, thread_local};
use ashlar_disk::sync::{stall_point, yield_point};
use crossbeam::utils::CachePadded;
use std::cell::Cell;
use std::sync::OnceLock;

/// Slots of the first piece; each further piece has twice as many.
const FIRST: usize = 64;
const PIECES: usize = 16;

const FREE: u64 = 0;
/// Its owner may come to write: what it reads is validated against the commits since.
const WRITES: u64 = 1 << 62;
/// The snapshot was taken away.
const GONE: u64 = 1 << 63;
const LSN_MASK: u64 = WRITES - 1;

/// What the owner of a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It only reads.
    Reads,
    /// It may come to write.
    Writes,
}

/// A claimed slot. Not `Copy`: it is released once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    index: usize,
    lsn: u64,
}

impl Claim {
    /// The LSN at which its owner reads.
    pub(crate) fn lsn(&self) -> u64 {
        self.lsn
    }
}

type Slot = CachePadded<AtomicU64>;

/// See the module.
pub(crate) struct Slots {
    pieces: [OnceLock<Box<[Slot]>>; PIECES],
    /// Slots from here on were never claimed.
    end: AtomicUsize,
    /// Nothing new begins below.
    horizon: AtomicU64,
    /// Nothing new that may come to write begins below.
    writers_horizon: AtomicU64,
    fault: Fault,
}

thread_local! {
    /// The slot that this thread had last: most likely free, and in this processor's cache. Decides nothing but that.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

impl Slots {
    pub(crate) fn new(fault: Fault) -> Slots {
        Slots {
            fault,
            pieces: Default::default(),
            end: AtomicUsize::new(0),
            horizon: AtomicU64::new(0),
            writers_horizon: AtomicU64::new(0),
        }
    }

    fn slot(&self, index: usize) -> Option<&Slot> {
        let piece = (index / FIRST + 1).ilog2() as usize;
        let start = FIRST * ((1 << piece) - 1);
        let make = || (0..FIRST << piece).map(|_| Slot::new(AtomicU64::new(FREE))).collect();
        self.pieces.get(piece)?.get_or_init(make).get(index - start)
    }

    /// Claims a slot at an LSN that `newest` gives, asked again where the horizon has passed it meanwhile.
    pub(crate) fn claim(&self, kind: Kind, newest: impl Fn() -> u64) -> Claim {
        let bits = |lsn: u64| (lsn + 1) | if kind == Kind::Writes { WRITES } else { 0 };
        let mut lsn = newest();
        pause();
        let (index, slot) = self.claim_free(bits(lsn));
        // After the slot has been stored; see the module.
        while self.has_passed(kind, lsn) {
            lsn = newest();
            pause();
            slot.store(bits(lsn), SeqCst);
        }
        Claim { index, lsn }
    }

    fn has_passed(&self, kind: Kind, lsn: u64) -> bool {
        let pruned = self.horizon.load(SeqCst) > lsn && !self.fault.is(Fault::HorizonNotReread);
        if kind == Kind::Reads {
            return pruned;
        }
        let trimmed = self.writers_horizon.load(SeqCst) > lsn && !self.fault.is(Fault::WritersHorizonNotReread);
        pruned || trimmed
    }

    fn claim_free(&self, bits: u64) -> (usize, &Slot) {
        let hint = LAST.with(Cell::get);
        let mut tried = std::iter::once(hint).chain(0..);
        loop {
            let Some((index, slot)) = tried.next().and_then(|index| Some((index, self.slot(index)?))) else {
                // Millions of snapshots at once: wait for one of them to go.
                tried = std::iter::once(hint).chain(0..);
                yield_point();
                continue;
            };
            if slot.load(Relaxed) == FREE && slot.compare_exchange(FREE, bits, SeqCst, Relaxed).is_ok() {
                self.end.fetch_max(index + 1, SeqCst);
                // Again, now that `end` says that there is something to be seen.
                slot.store(bits, SeqCst);
                LAST.with(|last| last.set(index));
                return (index, slot);
            }
        }
    }

    /// The owner reads no more.
    pub(crate) fn release(&self, claim: &Claim) {
        if let Some(slot) = self.slot(claim.index) {
            slot.store(FREE, Release);
        }
    }

    /// Whether the snapshot was taken away.
    pub(crate) fn is_gone(&self, claim: &Claim) -> bool {
        // Acquire on both sides of reading: see invariant 2.
        fence(Acquire);
        self.slot(claim.index).is_none_or(|slot| slot.load(Acquire) & GONE != 0)
    }

    /// From now on nothing new begins below `lsn`; gives the smallest LSN at which anybody may still read.
    pub(crate) fn raise_horizon(&self, lsn: u64) -> u64 {
        self.horizon.fetch_max(lsn, SeqCst);
        pause();
        let holds = |kind: Kind| kind == Kind::Reads || !self.fault.is(Fault::TransactionsHoldNothing);
        self.live().filter(|&(_, _, kind)| holds(kind)).map(|(_, at, _)| at).min().map_or(lsn, |oldest| oldest.min(lsn))
    }

    /// From now on nothing new that may come to write begins below `lsn`; gives the smallest LSN at which such a one may still read.
    pub(crate) fn raise_writers_horizon(&self, lsn: u64) -> u64 {
        self.writers_horizon.fetch_max(lsn, SeqCst);
        self.live().filter(|(_, _, kind)| *kind == Kind::Writes).map(|(_, at, _)| at).min().map_or(lsn, |oldest| oldest.min(lsn))
    }

    /// Takes the oldest snapshot away, if there is one below `lsn`. False: there is none.
    pub(crate) fn take_oldest_away(&self, lsn: u64, kind: Option<Kind>) -> bool {
        let of_kind = |k: Kind| kind.is_none_or(|kind| kind == k);
        let oldest = self.live().filter(|&(_, at, k)| at < lsn && of_kind(k)).min_by_key(|&(index, at, _)| (at, index));
        let Some((index, _, _)) = oldest else { return false };
        if let Some(slot) = self.slot(index) {
            let bits = slot.load(SeqCst);
            // One that was released meanwhile, or claimed anew, stays as it is.
            if bits != FREE && (bits & LSN_MASK) - 1 < lsn {
                let _ = slot.compare_exchange(bits, bits | GONE, SeqCst, Relaxed);
            }
        }
        true
    }

    /// How many are live.
    pub(crate) fn count(&self) -> usize {
        self.live().count()
    }

    fn live(&self) -> impl Iterator<Item = (usize, u64, Kind)> + '_ {
        (0..self.end.load(SeqCst)).filter_map(|index| {
            let bits = self.slot(index)?.load(SeqCst);
            let kind = if bits & WRITES != 0 { Kind::Writes } else { Kind::Reads };
            (bits != FREE && bits & GONE == 0).then(|| (index, (bits & LSN_MASK) - 1, kind))
        })
    }
}

/// Lets the deterministic scheduler of debug builds get between two steps of the protocol.
#[inline]
fn pause() {
    if cfg!(debug_assertions) {
        stall_point();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_live_one_holds_back() {
        let slots = Slots::new(Fault::None);
        assert_eq!(slots.raise_horizon(10), 10);
        let a = slots.claim(Kind::Reads, || 12);
        let b = slots.claim(Kind::Writes, || 15);
        assert_eq!((a.lsn(), b.lsn(), slots.count()), (12, 15, 2));
        assert_eq!(slots.raise_horizon(20), 12);
        assert_eq!(slots.raise_writers_horizon(16), 15);
        slots.release(&a);
        assert_eq!(slots.raise_horizon(20), 15);
        slots.release(&b);
        assert_eq!(slots.raise_horizon(20), 20);
    }

    #[test]
    fn nothing_begins_below_the_horizon() {
        let slots = Slots::new(Fault::None);
        slots.raise_horizon(20);
        let newest = AtomicU64::new(17);
        let claim = slots.claim(Kind::Reads, || newest.fetch_add(1, Relaxed));
        assert_eq!(claim.lsn(), 20);
        assert_eq!(slots.raise_horizon(30), 20);
        slots.raise_writers_horizon(40);
        let (reader, writer) = (slots.claim(Kind::Reads, || 30), slots.claim(Kind::Writes, || newest.fetch_add(10, Relaxed)));
        assert_eq!((reader.lsn(), writer.lsn()), (30, 41));
    }

    #[test]
    fn the_oldest_is_taken_away_and_holds_nothing_back() {
        let slots = Slots::new(Fault::None);
        let (a, b) = (slots.claim(Kind::Reads, || 5), slots.claim(Kind::Writes, || 6));
        assert!(!slots.take_oldest_away(5, None));
        assert!(slots.take_oldest_away(9, Some(Kind::Writes)));
        assert!(slots.is_gone(&b) && !slots.is_gone(&a));
        assert!(slots.take_oldest_away(9, None));
        assert!(slots.is_gone(&a));
        assert!(!slots.take_oldest_away(9, None));
        assert_eq!(slots.raise_horizon(9), 9);
        slots.release(&a);
        let c = slots.claim(Kind::Reads, || 9);
        assert!(!slots.is_gone(&c));
    }

    #[test]
    fn there_are_slots_for_many() {
        let slots = Slots::new(Fault::None);
        let claims: Vec<Claim> = (0..1000).map(|lsn| slots.claim(Kind::Reads, || lsn)).collect();
        assert_eq!(slots.count(), 1000);
        assert_eq!(slots.raise_horizon(5000), 0);
        claims.iter().for_each(|c| slots.release(c));
        assert_eq!(slots.count(), 0);
    }
}
