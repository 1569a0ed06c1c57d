//! Writes that are applied but not yet in their trees: their leaves are not in memory, and nobody needs them there.
//!
//! A blind write to a tree larger than memory would wait for the read of a leaf that it does not ask anything. So it waits in memory instead,
//! found by readers through its key, until many can be merged into the tree together, in the order of their keys and with many reads in flight
//! (see [`merge`](crate::commit::merge)).
//!
//! ```text
//!   reader ─▶ newest    what is applied now goes there
//!             merging   being merged into the trees, in key order; else nothing
//!             stranded  was to be put into the trees, but their leaves can't be read; else nothing
//!             trees     what was applied before
//! ```
//!
//! Invariants:
//! 1. Once something waits, everything that is applied later waits, too: what waits are the last of all applied commits, each with all
//!    that it writes. What `merging` holds is older than what `newest` holds.
//! 2. The write of a key that counts at an LSN is the newest at it or before: in `newest`, else in `merging`, else in `stranded`, else as
//!    the tree and its before-images say. They are looked at in this order, or under the latch of the leaf: a write leaves the tables when
//!    it is in its tree.
//! 3. A write goes from `merging` when it is in its tree or in `stranded`, and from there when it is in its tree, or nobody with a slot reads
//!    at it (whoever reads without one looks twice: [`Postponed::newest_stranded`]); of several of one key the oldest goes first, so that whoever looks finds the one that counts, or none, and finds that further down.
//! 4. While writes of a key are stranded, nothing newer of that key is in its tree (see [`strand`](crate::commit::strand)).
//! 5. Tables change under the apply lock alone. Readers find all three with one look.

mod sorted;
mod table;

pub(crate) use sorted::{Entry, Sorted, head};
pub(crate) use table::{OVERHEAD, RECORD_MAX, Span, Table, Write};

use crate::btree::TreeId;
use crate::error::Result;
use crate::value::cell;
use crate::versions::Before;
use arc_swap::ArcSwap;
use ashlar_disk::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use ashlar_disk::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that can be merged at once, under one hold of the apply lock.
const FEW: u64 = 64 << 10;

/// A commit of more than one in so many bytes that may wait is a large one.
const LARGE: u64 = 4;

/// How long somebody waits for less to wait before it looks again whether anybody is at it.
const LESS_PAUSE: Duration = Duration::from_millis(20);

/// Something waits to be merged.
const WAITS: u8 = 1;

/// Something is stranded.
const STRANDED: u8 = 2;

/// What readers use.
#[derive(Debug)]
pub(crate) struct Postponed {
    tables: ArcSwap<Tables>,
    /// [`WAITS`] and [`STRANDED`].
    states: AtomicU8,
    /// Writes that wait, and bytes that they take, about.
    writes: AtomicUsize,
    bytes: AtomicU64,
    /// Writes have been stranded that no checkpoint holds: their records are replayed until one does.
    owes_checkpoint: AtomicBool,
    /// So many bytes may wait before whoever commits waits for less; 0: nothing is postponed.
    limit: AtomicU64,
    /// So many may at least, after an open that had more wait: it comes down with what is merged.
    allowance: AtomicU64,
    /// The limit while somebody wants that hardly anything waits. It comes down with what is merged, so that others can go on meanwhile.
    ceiling: AtomicU64,
    /// How many want that.
    draining: AtomicUsize,
    /// How many want no window to begin.
    held: AtomicUsize,
    /// How many wait for less to wait.
    pressed: Mutex<usize>,
    less: Condvar,
}

/// Writes that wait, in the order of their trees and keys.
///
/// One thread adds and removes, whoever holds the apply lock; any number look, without a lock.
pub(crate) trait Writes: std::fmt::Debug + Send + Sync {
    /// The newest write of a key at `lsn` or before.
    fn newest(&self, tree: TreeId, key: &[u8], lsn: u64) -> Option<Write>;

    /// Hands over the newest write at `lsn` or before of each key of a tree from `from` on and below `to`.
    fn newest_of_range(&self, tree: TreeId, range: (&[u8], Option<&[u8]>), lsn: u64, each: &mut dyn FnMut(&Write));

    /// The writes of the first `keys` keys: in key order, of one key the oldest first.
    fn first(&self, keys: usize) -> Vec<Write>;

    /// Removes writes, in this order: of one key the oldest goes first, so that whoever looks finds the one that counts, or none.
    fn remove(&self, writes: &[Write]);
}

#[derive(Debug, Default)]
struct Tables {
    newest: Arc<Table>,
    merging: Option<Arc<dyn Writes>>,
    stranded: Arc<Table>,
}

impl Tables {
    /// In the order in which they are looked at.
    fn each(&self) -> impl Iterator<Item = &dyn Writes> {
        [Some(&*self.newest as &dyn Writes), self.merging.as_deref(), Some(&*self.stranded)].into_iter().flatten()
    }
}

impl Postponed {
    /// Nothing waits; `limit` bytes may.
    pub(crate) fn new(limit: u64) -> Postponed {
        let (tables, states, writes, bytes, owes_checkpoint, allowance, ceiling, draining, held) = Default::default();
        Postponed {
            tables,
            states,
            writes,
            bytes,
            owes_checkpoint,
            limit: AtomicU64::new(limit),
            allowance,
            ceiling,
            draining,
            held,
            pressed: Mutex::new(0),
            less: Condvar::new(),
        }
    }

    /// Whether something waits to be merged.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.states.load(Ordering::Acquire) & WAITS != 0
    }

    /// Whether something is not in the trees. Where a reader's LSN was taken before, what it must find is found.
    #[inline]
    pub(crate) fn holds_any(&self) -> bool {
        // Acquire: who finds that there is nothing any more finds it all in the trees.
        self.states.load(Ordering::Acquire) != 0
    }

    fn set_state(&self, state: u8, on: bool) {
        // Release: pairs with the Acquire in `holds_any`.
        match on {
            true => self.states.fetch_or(state, Ordering::Release),
            false => self.states.fetch_and(!state, Ordering::Release),
        };
    }

    /// Whether writes may wait at all.
    pub(crate) fn is_possible(&self) -> bool {
        self.limit.load(Ordering::Relaxed) > 0
    }

    /// Whether a commit of so many bytes may wait. A large one would have others wait for it to be merged, and has many leaves in flight by
    /// itself.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        bytes <= RECORD_MAX && bytes as u64 <= self.limit.load(Ordering::Relaxed) / LARGE
    }

    /// Whether more waits than should.
    pub(crate) fn presses(&self) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let is_above = |bound: &AtomicU64| bytes > bound.load(Ordering::Relaxed);
        (is_above(&self.limit) && is_above(&self.allowance))
            || (self.draining.load(Ordering::Relaxed) > 0 && is_above(&self.ceiling))
    }

    /// Another limit.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Whether so little waits that all of it can be merged at once.
    pub(crate) fn is_little(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) <= FEW
    }

    /// Until what it gives is dropped, less and less may wait: half of what is merged meanwhile may come anew.
    pub(crate) fn drain(&self) -> Drain<'_> {
        if self.draining.fetch_add(1, Ordering::AcqRel) == 0 {
            self.ceiling.store(self.bytes.load(Ordering::Relaxed).max(FEW), Ordering::Relaxed);
        }
        Drain(self)
    }

    /// While more waits than should: waits until less does, or a moment. False: the moment has passed.
    pub(crate) fn wait_for_less(&self) -> bool {
        let mut pressed = self.pressed.lock();
        let mut presses = self.presses();
        if presses {
            *pressed += 1;
            self.less.wait_for(&mut pressed, LESS_PAUSE);
            *pressed -= 1;
            presses = self.presses();
        }
        !presses
    }

    /// How many writes wait, and bytes that they take, about.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.writes.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// The newest write of a key at `lsn` or before, if it is not in its tree.
    pub(crate) fn newest(&self, tree: TreeId, key: &[u8], lsn: u64) -> Option<Write> {
        if !self.holds_any() {
            return None;
        }
        self.tables.load().each().find_map(|table| table.newest(tree, key, lsn))
    }

    /// Lays what is not in the tree of the keys of a leaf, as of `lsn`, over `before`: the keys for which the leaf is not right, sorted, and
    /// what they held. Under the latch of the leaf, whose keys go from `from` on and lie below `to`. Gives the LSN of the newest.
    pub(crate) fn lay_over(&self, tree: TreeId, fences: (&[u8], Option<&[u8]>), lsn: u64, before: &mut Vec<Before>) -> u64 {
        if self.holds_any() { lay_over(self.tables.load().each(), tree, fences, lsn, before) } else { 0 }
    }

    /// Adds the writes of the commit at `lsn`, the newest. Under the apply lock.
    pub(crate) fn add(&self, lsn: u64, record: &Arc<[u8]>) -> Result<(usize, u64)> {
        let (writes, bytes) = self.tables.load().newest.add(lsn, record)?;
        self.writes.fetch_add(writes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Before the commit is told of as applied.
        self.set_state(WAITS, true);
        Ok((writes, bytes))
    }

    /// The writes of the log beyond the last checkpoint are to be merged; what comes later waits apart. They count for `bytes` bytes. Before
    /// the database is open, and nothing waits.
    pub(crate) fn begin_replayed(&self, writes: Sorted, bytes: u64) -> Arc<dyn Writes> {
        let Tables { newest, merging, stranded } = &**self.tables.load();
        debug_assert!(newest.is_empty() && merging.is_none());
        self.writes.fetch_add(writes.len(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.allowance.store(bytes + bytes / 8, Ordering::Relaxed);
        let writes: Arc<dyn Writes> = Arc::new(writes);
        let tables = Tables { newest: newest.clone(), merging: Some(writes.clone()), stranded: stranded.clone() };
        self.tables.store(Arc::new(tables));
        self.set_state(WAITS, true);
        writes
    }

    /// What waits is to be merged; what comes later waits apart. Under the apply lock, while nothing is being merged.
    pub(crate) fn begin_merging(&self) -> Arc<dyn Writes> {
        let Tables { newest, stranded, .. } = &**self.tables.load();
        let window: Arc<dyn Writes> = newest.clone();
        let tables = Tables { newest: Arc::default(), merging: Some(window.clone()), stranded: stranded.clone() };
        self.tables.store(Arc::new(tables));
        window
    }

    /// These are in the trees, or stranded, and go: of one key the oldest stands first. What was counted for them were `bytes`. Under the
    /// apply lock.
    pub(crate) fn merged(&self, writes: &[Write], bytes: u64) {
        if let Some(merging) = &self.tables.load().merging {
            merging.remove(writes);
        }
        self.writes.fetch_sub(writes.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let allowance = self.allowance.load(Ordering::Relaxed);
        if allowance > 0 {
            self.allowance.store(allowance.saturating_sub(bytes / 2), Ordering::Relaxed);
        }
        if self.draining.load(Ordering::Relaxed) > 0 {
            let ceiling = self.ceiling.load(Ordering::Relaxed);
            self.ceiling.store(ceiling.saturating_sub(bytes / 2).max(FEW), Ordering::Relaxed);
        }
        let pressed = self.pressed.lock();
        if *pressed > 0 && !self.presses() {
            self.less.notify_all();
        }
    }

    /// All that was being merged is in the trees, or stranded. Under the apply lock.
    pub(crate) fn end_merging(&self, waits: bool) {
        let Tables { newest, stranded, .. } = &**self.tables.load();
        self.tables.store(Arc::new(Tables { newest: newest.clone(), merging: None, stranded: stranded.clone() }));
        self.set_state(WAITS, waits);
    }

    /// The write of this record, made by the commit at `lsn`, can't be put into its tree. Under the apply lock, before it goes from where it
    /// was.
    pub(crate) fn strand(&self, lsn: u64, record: &Arc<[u8]>) -> Result<()> {
        self.tables.load().stranded.add(lsn, record)?;
        self.set_state(STRANDED, true);
        self.owes_checkpoint.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// LSN of the newest stranded write of a key. Writes that nobody with a slot reads at go when a newer one is stranded: whoever reads without
    /// one, and sees only older ones than this, may have missed the one that counts. What is further down is older still.
    pub(crate) fn newest_stranded(&self, tree: TreeId, key: &[u8]) -> Option<u64> {
        if !self.is_any_stranded() {
            return None;
        }
        self.tables.load().stranded.newest(tree, key, u64::MAX).map(|write| write.lsn)
    }

    /// What is stranded of a key, oldest first.
    pub(crate) fn stranded_of(&self, tree: TreeId, key: &[u8]) -> Vec<Write> {
        self.tables.load().stranded.all_of(tree, key)
    }

    /// Whether something is stranded.
    pub(crate) fn is_any_stranded(&self) -> bool {
        self.states.load(Ordering::Acquire) & STRANDED != 0
    }

    /// Whether something of a tree is stranded.
    pub(crate) fn is_stranded_in(&self, tree: TreeId) -> bool {
        self.is_any_stranded() && self.tables.load().stranded.has(tree)
    }

    /// These are not stranded any more: they are in their tree, or nobody reads at them. Of one key the oldest stands first. Under the apply
    /// lock.
    pub(crate) fn unstrand(&self, writes: &[Write]) {
        let stranded = &self.tables.load().stranded;
        stranded.remove(writes);
        self.set_state(STRANDED, !stranded.is_empty());
    }

    /// Nobody reads this tree any more. Under the apply lock.
    pub(crate) fn forget_stranded(&self, tree: TreeId) {
        if self.is_stranded_in(tree) {
            self.unstrand(&self.tables.load().stranded.all_in(tree));
        }
    }

    /// How many writes are stranded.
    pub(crate) fn stranded(&self) -> usize {
        self.tables.load().stranded.len()
    }

    /// Whether writes have been stranded that no checkpoint holds.
    pub(crate) fn owes_checkpoint(&self) -> bool {
        self.owes_checkpoint.load(Ordering::Relaxed)
    }

    /// A cut is made: what is stranded is part of it. Under the apply lock.
    pub(crate) fn note_cut(&self) {
        self.owes_checkpoint.store(false, Ordering::Relaxed);
    }

    /// Until what it gives is dropped, nothing begins to be merged, but what has to be at once.
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.held.fetch_add(1, Ordering::AcqRel);
        Hold(self)
    }

    /// Whether a hold is out.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0
    }
}

/// See [`Postponed::lay_over`]: the tables in the order in which they are looked at.
pub(crate) fn lay_over<'a>(
    tables: impl Iterator<Item = &'a dyn Writes>,
    tree: TreeId,
    range: (&[u8], Option<&[u8]>),
    lsn: u64,
    before: &mut Vec<Before>,
) -> u64 {
    let (mut over, mut newest) = (Vec::<Before>::new(), 0);
    for table in tables {
        table.newest_of_range(tree, range, lsn, &mut |write| {
            newest = newest.max(write.lsn);
            over.push((write.key().into(), write.value().map(|value| (cell::INLINE, value.into()))));
        });
    }
    if !over.is_empty() {
        over.append(before);
        // Stably: of each key the first counts.
        over.sort_by(|a, b| a.0.cmp(&b.0));
        over.dedup_by(|later, first| later.0 == first.0);
        *before = over;
    }
    newest
}

/// See [`Postponed::drain`].
pub(crate) struct Drain<'a>(&'a Postponed);

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.0.draining.fetch_sub(1, Ordering::AcqRel);
    }
}

/// See [`Postponed::hold`].
pub(crate) struct Hold<'a>(&'a Postponed);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_open_the_bound_comes_down_with_what_is_merged() {
        let postponed = Postponed::new(100);
        let record = b"keyvalue".to_vec();
        let (key, value) = (Span::new(&record[..3], &record), Span::new(&record[3..], &record));
        let entry = Entry { tree: TreeId(7), head: head(b""), record: 0, key, value: Some(value) };
        let (sorted, bytes) = (Sorted::new(9, vec![record], b"key".to_vec(), vec![entry]), 80_000);
        let window = postponed.begin_replayed(sorted, bytes);
        assert!(postponed.waits() && postponed.newest(TreeId(7), b"key", 9).is_some());
        assert!(!postponed.presses(), "far above the limit, and nobody waits for it");
        let come = |bytes| postponed.bytes.fetch_add(bytes, Ordering::Relaxed);
        come(bytes / 5);
        assert!(postponed.presses(), "but not much more may come");
        // Of what is merged half may come anew, in the end no more than the limit says.
        postponed.merged(&window.first(1), bytes / 2);
        assert!(!postponed.presses());
        come(bytes / 4);
        assert!(postponed.presses());
        while postponed.size().1 > 200 {
            let half = postponed.size().1 / 2;
            postponed.merged(&[], half);
            come(half / 2);
        }
        come(200);
        assert!(postponed.presses());
    }
}
