//! A file of the simulated disk: what reads see, what certainly survives a power cut, and the changes between the two.
//!
//! 1. `live` is `durable` with all of `pending` applied in order, as far as a reader can tell.
//! 2. A *certain* change stays in `pending` only while an uncertain one stands before it, and is never left out; so applying
//!    `pending` in order comes out right whatever else is left out.
//! 3. Metadata survives as a prefix of its order (a journal); data survives sector by sector.

use super::content::{CHUNK, Change, Chunk, Content};
use super::copy::hash_chunk;
use super::survival::{Fate, Survival};
use crate::SyncKind;
use crate::sync::simulation::rng::Rng;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Pending {
    /// Its number in time, over the whole disk.
    number: u64,
    change: Change,
    certain: bool,
}

/// A file.
#[derive(Clone, Default, Debug)]
pub(super) struct Inode {
    pub(super) live: Content,
    durable: Content,
    pending: VecDeque<Pending>,
    /// How many open files there are.
    pub(super) handles: usize,
    /// Chunks that can't be read until they are written again.
    pub(super) bad: BTreeSet<u64>,
}

impl Inode {
    /// A file that holds `content`, all of it durable.
    pub(super) fn durable(content: Content) -> Inode {
        Inode { live: content.clone(), durable: content, ..Inode::default() }
    }

    /// Gives all that it holds and may hold, as words.
    pub(super) fn hash_into(&self, add: &mut impl FnMut(u64)) {
        self.durable.hash_into(add);
        self.bad.iter().for_each(|&number| add(number));
        for pending in &self.pending {
            add(1 + u64::from(pending.certain));
            match &pending.change {
                Change::Write { first, chunks } => {
                    (*first..).zip(chunks).for_each(|(number, chunk)| hash_chunk(number, chunk, add));
                }
                Change::Grow { to } => [3, *to].into_iter().for_each(&mut *add),
                Change::Allocate { first, end, grow_to } => [4, *first, *end, *grow_to].into_iter().for_each(&mut *add),
                Change::Cut { to } => [5, *to].into_iter().for_each(&mut *add),
                Change::Punch { start, end } => [6, *start, *end].into_iter().for_each(&mut *add),
            }
        }
    }

    /// Makes a change, which is `number` in time. A certain one survives a power cut whatever else does.
    pub(super) fn change(&mut self, number: u64, change: Change, certain: bool) {
        self.live.apply(&change);
        self.pending.push_back(Pending { number, change, certain });
        self.forget_certain();
    }

    /// Writes chunks and grows the file to hold them. A certain write is durable, but not the length.
    pub(super) fn write(&mut self, number: u64, first: u64, chunks: Vec<Chunk>, certain: bool) {
        let end = (first + chunks.len() as u64) * CHUNK as u64;
        if !self.bad.is_empty() {
            self.bad.retain(|bad| !(first..first + chunks.len() as u64).contains(bad));
        }
        if end > self.live.len {
            self.change(number, Change::Grow { to: end }, false);
        }
        self.change(number, Change::Write { first, chunks }, certain);
    }

    /// What is certain and comes first is durable (2).
    fn forget_certain(&mut self) {
        while let Some(first) = self.pending.pop_front_if(|p| p.certain) {
            self.durable.apply(&first.change);
        }
    }

    /// Makes durable what changed up to the number `until`.
    pub(super) fn sync(&mut self, kind: SyncKind, until: u64) {
        let count = self.pending.partition_point(|p| p.number <= until);
        let later = self.pending.split_off(count);
        let changes = std::mem::replace(&mut self.pending, later);
        // To read what was written where something was cut or punched, that must be durable, too.
        if kind == SyncKind::All || changes.iter().any(|p| p.change.takes_away()) {
            changes.iter().for_each(|p| self.durable.apply(&p.change));
        } else {
            self.sync_data(changes);
        }
        self.forget_certain();
    }

    /// Makes the data durable and no more of the length than it takes to read it.
    fn sync_data(&mut self, changes: VecDeque<Pending>) {
        let mut rest = VecDeque::new();
        for pending in changes {
            if let Change::Write { first, chunks } = &pending.change {
                let end = (first + chunks.len() as u64) * CHUNK as u64;
                self.durable.apply(&pending.change);
                self.durable.len = self.durable.len.max(end.min(self.live.len));
            } else {
                rest.push_back(pending);
            }
        }
        rest.append(&mut self.pending);
        self.pending = rest;
    }

    /// A sync up to the number `until` has failed: of each write that it was to make durable all, a part or nothing is left, and what
    /// is left is no more durable than before. A journal keeps the metadata.
    pub(super) fn fail_sync(&mut self, until: u64, rng: &mut Rng) {
        for mut pending in std::mem::take(&mut self.pending) {
            if let Change::Write { first, chunks } = &mut pending.change
                && pending.number <= until
                && !pending.certain
            {
                let edge = rng.below(chunks.len() + 1);
                match rng.below(4) {
                    0 => chunks.clear(),
                    1 => chunks.truncate(edge),
                    2 => {
                        chunks.drain(..edge);
                        *first += edge as u64;
                    }
                    _ => {}
                }
                if chunks.is_empty() {
                    continue;
                }
            }
            self.pending.push_back(pending);
        }
        self.live = self.durable.clone();
        self.pending.iter().for_each(|p| self.live.apply(&p.change));
        self.forget_certain();
    }

    /// Flips bits of a byte of a chunk, in whichever version of it is on the medium.
    pub(super) fn flip(&mut self, number: u64, at: usize, mask: u8) {
        self.live.flip(number, at, mask);
        self.durable.flip(number, at, mask);
        for pending in &mut self.pending {
            if let Change::Write { first, chunks } = &mut pending.change
                && let Some(chunk) = number.checked_sub(*first).and_then(|nth| chunks.get_mut(nth as usize))
            {
                Arc::make_mut(chunk.get_or_insert_with(|| Arc::new([0; CHUNK])))[at] ^= mask;
            }
        }
    }

    /// What a power cut leaves.
    pub(super) fn survivors(&self, survival: &mut Survival) -> Survivors {
        let mut left = Survivors { content: self.durable.clone(), journal_goes_on: true, bad: self.bad.clone() };
        for pending in &self.pending {
            let fate = match &pending.change {
                _ if pending.certain => Fate::Whole,
                change if change.is_metadata() && survival.survives(pending.number) => Fate::Whole,
                change if change.is_metadata() => Fate::Lost,
                _ => survival.fate(pending.number),
            };
            left.land(&pending.change, fate, survival);
        }
        left
    }
}

/// What a power cut leaves of a file, while it is being found out.
pub(super) struct Survivors {
    content: Content,
    /// Whether no metadata change has been lost yet (3).
    journal_goes_on: bool,
    bad: BTreeSet<u64>,
}

impl Survivors {
    /// Applies what `fate` leaves of a change.
    fn land(&mut self, change: &Change, fate: Fate, survival: &mut Survival) {
        match (change, fate) {
            (Change::Write { first, chunks }, Fate::Torn) => {
                let old = self.content.chunks(*first, chunks.len() as u64);
                let chunks = survival.tear(&old, chunks);
                self.content.apply(&Change::Write { first: *first, chunks });
            }
            (Change::Write { .. }, Fate::Whole) => self.content.apply(change),
            (Change::Write { .. }, Fate::Lost) => {}
            (_, fate) => {
                self.journal_goes_on &= fate == Fate::Whole;
                if self.journal_goes_on {
                    self.content.apply(change);
                }
            }
        }
    }

    /// Applies what is left of a write that had not completed.
    pub(super) fn land_in_flight(&mut self, first: u64, chunks: Vec<Chunk>, survival: &mut Survival) {
        let to = (first + chunks.len() as u64) * CHUNK as u64;
        let (fate, grows) = (survival.fate_in_flight(), survival.rng.chance(128));
        if to > self.content.len && grows {
            self.land(&Change::Grow { to }, Fate::Whole, survival);
        }
        self.land(&Change::Write { first, chunks }, fate, survival);
    }

    /// The file as it is found after the restart.
    pub(super) fn into_inode(mut self) -> Inode {
        self.content.forget_past_the_end();
        Inode { bad: self.bad, ..Inode::durable(self.content) }
    }
}
