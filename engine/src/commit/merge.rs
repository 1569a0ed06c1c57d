//! Merging what was postponed into the trees: many writes at a time, in the order of their keys, with many reads in flight.
//!
//! A *window* is all that waited when it began; what is applied meanwhile waits for the next. It is merged in *lots* of some keys, each under
//! one hold of the apply lock, with its leaves brought in before: between lots commits are applied, and wait. The window's last lot ends it:
//! only then is everything up to its last commit in the trees, and only then can a checkpoint's cut be made. Here and elsewhere what is *in the
//! trees* is there or stranded beside them ([`strand`](super::strand)).
//!
//! Invariants:
//! 1. All writes of a key in a window are in one lot, in the order of their commits. Those that nobody can read at any more count as one.
//! 2. A cut falls between windows, never into one: a checkpoint is exactly the state at the LSN that it names. Whoever is to make one lets
//!    no window begin ([`Postponed::hold`]), and sees the one under way to its end.
//! 3. A commit that is more than puts and removals of keys is applied when nothing waits: under the same hold of the apply lock what waits is
//!    merged before.
//! 4. Room for the pages that merging makes dirty is promised from before the commits took their LSNs until they are dirty.
//! 5. Numbers of entries change at a window's end, for each commit that somebody may still read at by itself.
//!
//! Lock order: checkpoint > merging > apply.

use super::apply::Applier;
use super::change::Lens;
use super::record::Operation;
use super::{FailOnPanic, Pending};
use crate::btree::{Ahead, Lsns, Tree, TreeId};
use crate::catalog;
use crate::checkpoint::Holds;
use crate::database::{Shared, pages_for};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::options::Background;
use crate::pages::{self, EnginePool};
use crate::postponed::{self, Postponed, Sorted, Write, Writes};
use crate::versions;
use ashlar_disk::sync::MutexGuard;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Keys of a lot, at most. The leaves of the next lot are read meanwhile.
const LOT: usize = 64;

/// One frame in so many is for the leaves of a lot, at most.
const LOT_SHARE: usize = 16;

/// Keys of a lot, at most, where everything has to be merged at once.
const LOT_AT_ONCE: usize = 1024;

/// Reads of what is stranded that may fail before a checkpoint's cut.
const STRANDED_TRIES: usize = 4;

/// How often somebody who wants a window to begin looks whether one may.
const HELD_PAUSE: Duration = Duration::from_micros(200);

/// What waits, for whoever holds the apply lock.
#[derive(Debug)]
pub(crate) struct Waiting {
    postponed: Arc<Postponed>,
    /// What has been applied since the window began, or since anything waits.
    newest: Fill,
    window: Option<Window>,
    /// While something waits: LSN of the last commit that does not, and neither do those before.
    merged: u64,
    /// Windows begun.
    windows: u64,
}

/// How much a table holds.
#[derive(Debug, Default)]
struct Fill {
    /// The log flush in which the record of its first commit begins; `None`: there is none.
    first_flush: Option<u64>,
    /// LSN of its last commit.
    last: u64,
    /// Writes that are not in the trees, and what is counted for them.
    writes: usize,
    bytes: u64,
    record_bytes: usize,
    /// Pages that are promised for them.
    promised: u64,
}

/// What is being merged.
#[derive(Debug)]
struct Window {
    number: u64,
    writes: Arc<dyn Writes>,
    fill: Fill,
    /// Writes that were merged: they are not in the table any more.
    done: usize,
    /// By how much commits have changed numbers of entries.
    lens: BTreeMap<TreeId, Vec<(u64, i64)>>,
}

/// Some writes of a window, in key order.
struct Lot {
    window: u64,
    /// Writes of the window that are merged before.
    done: usize,
    writes: Vec<Write>,
    /// Those of the lot after it.
    ahead: Vec<Write>,
    trees: Vec<Tree>,
    catalog: Tree,
}

impl Lot {
    fn keys<'a>(&'a self, writes: &'a [Write]) -> impl Iterator<Item = (Tree, &'a [u8])> {
        writes.iter().filter_map(|write| Some((*self.trees.iter().find(|tree| tree.id == write.tree)?, write.key())))
    }
}

impl Waiting {
    /// Nothing waits.
    pub(crate) fn new(postponed: Arc<Postponed>) -> Waiting {
        Waiting { postponed, newest: Fill::default(), window: None, merged: 0, windows: 0 }
    }

    /// What readers use.
    pub(crate) fn postponed(&self) -> &Arc<Postponed> {
        &self.postponed
    }

    /// Whether something waits.
    pub(crate) fn waits(&self) -> bool {
        self.window.is_some() || self.newest.first_flush.is_some()
    }

    /// While something waits: LSN of the last commit that does not.
    pub(crate) fn merged(&self) -> Option<u64> {
        self.waits().then_some(self.merged)
    }

    /// Whether a window is under way.
    pub(crate) fn is_merging(&self) -> bool {
        self.window.is_some()
    }

    /// LSN of the last commit of the window under way, if this is its next lot.
    fn last_of(&self, lot: &Lot) -> Option<u64> {
        let window = self.window.as_ref().filter(|window| (window.number, window.done) == (lot.window, lot.done))?;
        Some(window.fill.last)
    }

    /// All that waits is to be merged. While no window is under way.
    fn begin_window(&mut self) {
        let fill = std::mem::take(&mut self.newest);
        self.begin(self.postponed.begin_merging(), fill);
    }

    /// These are to be merged.
    fn begin(&mut self, writes: Arc<dyn Writes>, fill: Fill) {
        debug_assert!(self.window.is_none());
        self.windows += 1;
        self.window = Some(Window { number: self.windows, writes, fill, done: 0, lens: BTreeMap::new() });
    }
}

impl Fill {
    /// Its writes and their bytes are other ones: so is the room that they need.
    fn promise(&mut self, pool: &EnginePool) {
        let pages = if self.writes == 0 { 0 } else { pages_for(pool, self.writes, self.record_bytes) };
        pool.store().change_promise(self.promised, pages);
        self.promised = pages;
    }
}

impl Applier {
    /// Applies a commit of puts and removals of keys by having it wait. The caller sees to it that room for its pages is promised.
    pub(super) fn postpone(&mut self, pool: &EnginePool, commit: &Pending) -> Result<()> {
        if !self.waiting.waits() {
            self.waiting.merged = self.applied;
        }
        let (writes, bytes) = self.waiting.postponed.add(commit.lsn, &commit.record)?;
        let fill = &mut self.waiting.newest;
        fill.first_flush.get_or_insert(commit.flush_start);
        fill.last = commit.lsn;
        fill.writes += writes;
        fill.bytes += bytes;
        fill.record_bytes += commit.record.len();
        fill.promise(pool);
        self.applied = commit.lsn;
        Ok(())
    }

    /// Applies all commits of the log beyond the last checkpoint by having what they write wait, as a window that has begun. Their records, from
    /// the flush at `from` on, are `record_bytes` long together. Before the database is open, and nothing waits.
    pub(crate) fn postpone_replayed(&mut self, pool: &EnginePool, from: u64, record_bytes: usize, replayed: Sorted) {
        let (last, writes) = (replayed.lsn(), replayed.len());
        debug_assert!(!self.waiting.waits() && last > self.applied && writes > 0);
        let bytes = record_bytes as u64 + writes as u64 * postponed::OVERHEAD;
        let mut fill = Fill { first_flush: Some(from), last, writes, bytes, record_bytes, promised: 0 };
        fill.promise(pool);
        let waiting = &mut self.waiting;
        waiting.merged = self.applied;
        waiting.begin(waiting.postponed.begin_replayed(replayed, bytes), fill);
        self.applied = last;
    }

    /// For a checkpoint's cut: the LSN of the last commit that is in the trees, as all before it are, and the log flush in which the record
    /// of the first that waits begins, if any does.
    pub(crate) fn cut_point(&self) -> (u64, Option<u64>) {
        let waiting = &self.waiting;
        let first = waiting.newest.first_flush.filter(|_| !self.fault.is(Fault::WaitingNotReplayed));
        match &waiting.window {
            Some(window) if self.fault.is(Fault::CutInWindow) => (window.fill.last, first),
            window => {
                debug_assert!(window.is_none(), "a checkpoint's cut beside a window that is being merged");
                (self.merged(), first)
            }
        }
    }

    /// The next lot of the window under way, of so many keys.
    fn next_lot(&self, keys: usize) -> Option<Lot> {
        let window = self.waiting.window.as_ref()?;
        let mut writes = window.writes.first(2 * keys);
        let of_lot = writes.chunk_by(is_same_key).take(keys).map(<[Write]>::len).sum();
        let ahead = writes.split_off(of_lot);
        let mut trees: Vec<TreeId> = writes.iter().chain(&ahead).map(|write| write.tree).collect();
        trees.dedup();
        let trees = trees.into_iter().filter_map(|tree| self.keyspace(tree)?.tree().ok()).collect();
        Some(Lot { window: window.number, done: window.done, writes, ahead, trees, catalog: self.catalog })
    }

    /// Merges a lot, unless somebody else has. Where that fails, or panics, its window stays under way for good.
    fn merge(&mut self, pool: &EnginePool, lot: &Lot) -> Result<()> {
        let Some(last) = self.waiting.last_of(lot) else { return Ok(()) };
        let lens = self.merge_into_trees(pool, lot, last)?;
        let Waiting { window: Some(window), postponed, .. } = &mut self.waiting else { return Ok(()) };
        for (tree, lens) in lens {
            window.lens.entry(tree).or_default().extend(lens);
        }
        window.advance(pool, &lot.writes, postponed);
        if lot.ahead.is_empty() {
            self.end_window();
        }
        Ok(())
    }

    /// Merges a lot of a window whose last commit is at `last`. Gives by how much that changes numbers of entries.
    fn merge_into_trees(&mut self, pool: &EnginePool, lot: &Lot, last: u64) -> Result<Vec<(TreeId, Lens)>> {
        let nobody_below = match self.fault.is(Fault::MergedUntold) {
            true => u64::MAX,
            false => self.versions.as_ref().map_or(0, versions::Writer::pruned_to),
        };
        let mut out = Vec::new();
        for of_tree in lot.writes.chunk_by(|a, b| a.tree == b.tree) {
            let tree = of_tree[0].tree;
            // Whoever drops a keyspace has merged all that waits before.
            let Some(keyspace) = self.keyspace(tree) else { continue };
            let (mut operations, mut lsns) = (Vec::with_capacity(of_tree.len()), Vec::with_capacity(of_tree.len()));
            for (index, write) in of_tree.iter().enumerate() {
                let next = of_tree.get(index + 1).filter(|next| is_same_key(write, next));
                if next.is_some_and(|next| next.lsn <= nobody_below) {
                    continue;
                }
                lsns.push(write.lsn);
                operations.push(match write.value() {
                    Some(value) => Operation::Put { tree, key: write.key(), value },
                    None => Operation::Delete { tree, key: write.key() },
                });
            }
            let commits = (Lsns::Each(&lsns), last, nobody_below);
            let (replaced, lens) = self.change(pool, &keyspace, commits, &operations, None)?;
            replaced.retire(pool, last, self.versions.as_mut())?;
            out.push((tree, lens));
        }
        Ok(out)
    }

    /// All of a window is in the trees.
    fn end_window(&mut self) {
        let nobody_below = self.versions.as_ref().map_or(0, versions::Writer::pruned_to);
        let lens = self.waiting.window.as_mut().map(|window| std::mem::take(&mut window.lens));
        for (tree, lens) in lens.into_iter().flatten() {
            let Some(keyspace) = self.keyspace(tree) else { continue };
            self.change_len(&keyspace, &by_commit(lens, nobody_below));
        }
        // Only now: until the numbers are right, nothing of it counts as merged.
        let Some(window) = self.waiting.window.take() else { return };
        debug_assert_eq!((window.fill.writes, window.fill.promised), (0, 0));
        self.waiting.merged = window.fill.last;
        let waits = self.waiting.newest.first_flush.is_some();
        self.waiting.postponed.end_merging(waits);
        tracing::trace!(commit = window.fill.last, writes = window.done, "a window was merged");
    }
}

impl Window {
    /// These were merged.
    fn advance(&mut self, pool: &EnginePool, writes: &[Write], waiting: &Postponed) {
        let fill = &mut self.fill;
        let is_rest = writes.len() == fill.writes;
        // Each with its own: a few large ones may be left when most have gone, and need their room. What stands in the records beside
        // the writes goes with the last.
        let record_bytes = writes.iter().map(|write| write.key().len() + write.value().map_or(0, <[u8]>::len)).sum();
        let of_writes = record_bytes as u64 + writes.len() as u64 * postponed::OVERHEAD;
        let (bytes, record_bytes) = if is_rest { (fill.bytes, fill.record_bytes) } else { (of_writes, record_bytes) };
        waiting.merged(writes, bytes);
        fill.writes -= writes.len();
        fill.bytes -= bytes;
        fill.record_bytes -= record_bytes;
        fill.promise(pool);
        self.done += writes.len();
    }
}

fn is_same_key(a: &Write, b: &Write) -> bool {
    (a.tree, a.key()) == (b.tree, b.key())
}

/// Changes of a number of entries, oldest commit first, each commit's as one, and those of commits that nobody reads below as one.
fn by_commit(mut lens: Vec<(u64, i64)>, nobody_below: u64) -> Vec<(u64, i64)> {
    lens.sort_by_key(|(lsn, _)| *lsn);
    let mut out: Vec<(u64, i64)> = Vec::new();
    for (lsn, by) in lens {
        match out.last_mut() {
            Some((last, sum)) if *last == lsn || lsn <= nobody_below => (*last, *sum) = (lsn, *sum + by),
            _ => out.push((lsn, by)),
        }
    }
    out
}

impl Shared {
    /// Merges a lot, with its leaves brought in before. False: nothing waits, or no window may begin.
    pub(crate) fn merge_step(&self) -> Result<bool> {
        if !self.postponed.waits() {
            return Ok(false);
        }
        self.merge_next(self.merging.lock())
    }

    fn merge_next(&self, _turn: MutexGuard<'_, ()>) -> Result<bool> {
        let Some(lot) = self.take_lot()? else { return Ok(false) };
        let mut ahead = Ahead::new(&self.pool);
        if lot.done == 0 {
            ahead.ask(&self.pool, lot.keys(&lot.writes));
        }
        ahead.ask(&self.pool, lot.keys(&lot.ahead));
        let mut is_any_unreadable = false;
        for (tree, key) in lot.keys(&lot.writes) {
            // What can't be read is tried again before it counts.
            is_any_unreadable |= pages::find(&self.pool, tree, key, |_| ()).is_err();
        }
        if is_any_unreadable {
            // What is stranded goes there: brought in without the lock, and tried again as well.
            let _ = pages::find(&self.pool, lot.catalog, &catalog::stranded_key(u64::MAX, 0), |_| ());
        }
        let mut applier = self.apply.lock();
        self.merge_lot(&mut applier, &lot)?;
        Ok(true)
    }

    /// The next lot, of a window that begins if none is under way and one may.
    fn take_lot(&self) -> Result<Option<Lot>> {
        let mut applier = self.apply.lock();
        self.health.check()?;
        if !applier.waiting.is_merging() {
            if !applier.waiting.waits() || self.postponed.is_held() {
                return Ok(None);
            }
            // What nobody can read any more need not be told.
            self.prune(&mut applier)?;
            applier.waiting.begin_window();
        }
        Ok(applier.next_lot(LOT.min(self.pool.frames() as usize / LOT_SHARE).max(1)))
    }

    fn merge_lot(&self, applier: &mut Applier, lot: &Lot) -> Result<()> {
        let _guard = FailOnPanic(self);
        self.health.check()?;
        let merged = applier.merge(&self.pool, lot);
        merged.map_err(|e| self.fail_now(format!("merging what commits have written into its tree failed: {e}")))?;
        self.tend(applier)
    }

    /// Merges all that waits, under one hold of the apply lock.
    pub(super) fn merge_all(&self, applier: &mut Applier) -> Result<()> {
        while applier.waiting.waits() {
            if !applier.waiting.is_merging() {
                applier.waiting.begin_window();
            }
            self.finish_window(applier)?;
        }
        Ok(())
    }

    /// Merges what is left of the window under way, if one is, under one hold of the apply lock.
    pub(crate) fn finish_window(&self, applier: &mut Applier) -> Result<()> {
        while let Some(lot) = applier.next_lot(LOT_AT_ONCE) {
            self.merge_lot(applier, &lot)?;
        }
        Ok(())
    }

    /// Sees to it that everything up to the commit at `lsn`, which is applied, is in the trees.
    pub(crate) fn merge_up_to(&self, lsn: u64) -> Result<()> {
        while self.postponed.waits() {
            if self.apply.lock().merged() >= lsn {
                break;
            }
            if !self.merge_step()? {
                // No window may begin now.
                return self.merge_all(&mut self.apply.lock());
            }
        }
        Ok(())
    }

    /// Sees to it that what a checkpoint is to hold is in the trees, and that no window begins while what it gives is kept. The one under way is
    /// finished, but for what the cut itself may find left.
    pub(crate) fn merge_for_cut(&self, holds: Holds) -> Result<crate::postponed::Hold<'_>> {
        if holds == Holds::Everything || !self.apply.lock().waiting.is_merging() {
            self.merge_up_to(self.visible.newest_applied())?;
        }
        let hold = self.postponed.hold();
        while !self.options.fault.is(Fault::CutInWindow) && self.merge_step()? {}
        self.retry_stranded()?;
        Ok(hold)
    }

    /// Tries to put into the trees what is stranded, from where the last try has ended and around, until some leaves could not be read. While no
    /// window may begin.
    fn retry_stranded(&self) -> Result<()> {
        let begin = self.apply.lock().stranded_tried().clone();
        let (mut last, mut is_around, mut failing) = (begin.clone(), begin.is_none(), 0);
        while failing < STRANDED_TRIES && self.postponed.is_any_stranded() {
            let mut some = self.apply.lock().some_stranded(last.as_ref(), LOT);
            if let Some((of, end)) = begin.as_ref().filter(|_| is_around) {
                some.retain(|(tree, key)| (tree.id, key) <= (*of, end));
            }
            if some.is_empty() {
                if is_around {
                    break;
                }
                (last, is_around) = (None, true);
                continue;
            }
            let mut readable = Vec::new();
            for (tree, key) in some {
                if failing == STRANDED_TRIES {
                    break;
                }
                last = Some((tree.id, key.clone()));
                match pages::find(&self.pool, tree, &key, |_| ()) {
                    Ok(()) => readable.push((tree, key)),
                    Err(_) => failing += 1,
                }
            }
            let mut applier = self.apply.lock();
            let _guard = FailOnPanic(self);
            self.health.check()?;
            if !readable.is_empty() && !applier.waiting.is_merging() {
                let retried = applier.retry_some_stranded(&self.pool, &readable);
                retried.map_err(|e| self.fail_now(format!("putting into its tree what waited for a page failed: {e}")))?;
            }
        }
        *self.apply.lock().stranded_tried() = last;
        Ok(())
    }

    /// Where more waits than should, whoever makes it more waits until less does, or merges it, where nobody does in the background.
    pub(super) fn wait_for_merging(&self) -> Result<()> {
        while self.postponed.presses() {
            self.health.check()?;
            match self.options.background {
                Background::Threads => {
                    self.background.call_merging();
                    if !self.postponed.wait_for_less()
                        && let Some(turn) = self.merging.try_lock()
                    {
                        // Nobody is at it: the thread may have died.
                        self.merge_next(turn)?;
                    }
                }
                Background::Manual if self.merge_step()? => {}
                // No window may begin now.
                Background::Manual => break,
            }
        }
        Ok(())
    }

    /// Whether a commit of puts and removals of keys, of so many bytes, may wait, rather than its leaves be read. Not while some page can't be
    /// read: that should be told to whoever writes to its keys.
    pub(crate) fn may_postpone(&self, bytes: usize) -> bool {
        let may_miss = self.pool.may_miss() || self.options.postpone_always;
        may_miss && self.postponed.takes(bytes) && !self.postponed.is_any_stranded()
    }

    /// Sees to it that what is applied so far is in the trees, and that little waits: for whoever will merge the rest under the apply lock.
    /// Others can go on writing meanwhile, and slower.
    pub(super) fn merge_nearly_all(&self) -> Result<()> {
        let _drain = self.postponed.drain();
        while !self.postponed.is_little() {
            if !self.merge_step()? {
                // Until the cut has been made that no window may begin before.
                ashlar_disk::sync::sleep(HELD_PAUSE);
            }
        }
        Ok(())
    }

    /// What an error of merging means to whoever was helping: the database has failed.
    pub(super) fn unknown(&self) -> Error {
        Error::OutcomeUnknown { cause: self.health.cause() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_entries_change_by_commit_where_somebody_may_read() {
        let lens = vec![(30, 1), (10, 1), (20, -1), (10, 1), (40, 1), (30, 1)];
        assert_eq!(by_commit(lens.clone(), 0), [(10, 2), (20, -1), (30, 2), (40, 1)]);
        assert_eq!(by_commit(lens.clone(), 25), [(20, 1), (30, 2), (40, 1)]);
        assert_eq!(by_commit(lens.clone(), 40), [(40, 4)]);
        assert_eq!(by_commit(Vec::new(), 40), []);
        assert_eq!(by_commit(lens, u64::MAX), [(40, 4)]);
    }
}
