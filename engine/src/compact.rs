//! Compacting: what stands at the end of the data file moves down, checkpoint by checkpoint, until the file is as short as it gets.
//!
//! A round: find how far down the end could come (`Store::plan_evacuation`); move what stands behind that; make a checkpoint, with
//! which the old places are free; cut the end off. Rounds go on while each makes the used part of the file shorter.
//!
//! 1. Pages of trees (nodes, overflow pages) move by being made dirty: whoever writes them finds them new, low blocks. That is a
//!    change of a tree, so it is made under the apply lock, a few pages at a time; reads that it will need are started before.
//! 2. What is a page and what a run of a blob is known from the tree alone: a page is named by the page above it, or by a leaf's
//!    cell, and it is looked up and moved under one hold of the apply lock. Nothing is believed that only looks like a page.
//! 3. Room for what becomes dirty is promised before. Moving never makes the file longer: where there is no room a checkpoint is
//!    made, and where there is none then, it ends.
//! 4. Runs of blobs are copied (`store::evacuate`).
//!
//! Commits, reads and checkpoints of others go on meanwhile.

use crate::btree::{LeafCopy, Seek, Tree};
use crate::checkpoint::Holds;
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::pages::{self, EnginePool, tree_error};
use crate::store::{Promise, ShrinkError, ShrinkTo};
use crate::value::cell::{self, Cell};
use crate::value::overflow;
use ashlar_bufferpool::PageId;
use std::collections::BTreeSet;

/// Pages that are made dirty under one hold of the apply lock.
const STEP: usize = 16;

/// Most rounds: each halves what is left, or better.
const ROUNDS_MAX: usize = 64;

/// What compacting has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Compaction {
    /// Bytes of the data file before.
    pub before: u64,
    /// Bytes of the data file after.
    pub after: u64,
    /// Pages, and runs of large values, that were moved.
    pub moved: u64,
}

/// Whether a step found room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Made,
    NoRoom,
}

impl Shared {
    /// Makes the data file as short as it gets.
    pub(crate) fn compact(&self) -> Result<Compaction> {
        self.health.check()?;
        let store = self.store();
        let _one = store.compacting.lock();
        let mut done = Compaction { before: store.space_use().file, ..Compaction::default() };
        self.free_dropped()?;
        let _low = store.low_first();
        self.checkpoint_and_shrink()?;
        for _ in 0..ROUNDS_MAX {
            let end = store.used_end();
            done.moved += self.evacuate()?;
            self.checkpoint_and_shrink()?;
            if store.used_end() >= end {
                break;
            }
        }
        done.after = store.space_use().file;
        Ok(done)
    }

    /// Frees what dropped keyspaces have left.
    fn free_dropped(&self) -> Result<()> {
        self.make_durable(self.wal()?.appended().0)?;
        while self.free_dropped_step()? {}
        Ok(())
    }

    fn checkpoint_and_shrink(&self) -> Result<()> {
        let mut state = self.checkpoint.lock();
        self.run_checkpoint(&mut state, Holds::Everything)?;
        self.shrink(ShrinkTo::WhatIsNeeded)
    }

    /// Gives the free end of the file back. With the checkpoint lock held, when the last checkpoint is durable.
    pub(crate) fn shrink(&self, to: ShrinkTo) -> Result<()> {
        match self.store().shrink(to, || self.pool.dirty_pages()) {
            Ok(_) => Ok(()),
            Err(ShrinkError::Cut(e)) => Err(e),
            Err(ShrinkError::Sync(e)) => {
                Err(self.fail_now(format!("syncing the data file failed after it was made shorter: {e}")))
            }
        }
    }

    /// One round of moving: how many pages and runs were moved.
    fn evacuate(&self) -> Result<u64> {
        let plan = self.store().plan_evacuation();
        let mut round = Round { shared: self, behind: plan.behind, moved: 0 };
        if plan.images == 0 {
            return Ok(0);
        }
        let trees: Vec<Tree> = {
            let applier = self.apply.lock();
            let keyspaces = applier.trees.values().filter_map(|keyspace| keyspace.tree().ok());
            keyspaces.chain([applier.catalog]).collect()
        };
        for &tree in &trees {
            if round.nodes(tree)? == Step::NoRoom {
                return Ok(round.moved);
            }
        }
        // What is left are overflow pages and runs of blobs, which only leaves name.
        if round.moved < plan.images {
            for &tree in &trees {
                if round.values(tree)? == Step::NoRoom {
                    break;
                }
            }
        }
        Ok(round.moved)
    }
}

/// A round of moving.
struct Round<'a> {
    shared: &'a Shared,
    /// What ends behind this block is moved.
    behind: u64,
    moved: u64,
}

impl<'a> Round<'a> {
    fn stands_behind(&self, page: PageId) -> bool {
        self.shared.store().ends_behind(page, self.behind)
    }

    /// Room for `pages` more dirty ones. Where there is none, a checkpoint frees what was moved so far.
    fn room(&self, pages: usize) -> Result<Option<Promise<'a>>> {
        let shared = self.shared;
        shared.health.check()?;
        let promise = || shared.store().promise_within(pages as u64, || shared.pool.dirty_pages());
        if let Some(promise) = promise() {
            return Ok(Some(promise));
        }
        shared.checkpoint_now(Holds::Everything)?;
        Ok(promise())
    }

    /// Whether a tree is there. Under the apply lock.
    fn is_there(applier: &crate::commit::apply::Applier, tree: Tree) -> bool {
        tree.id == applier.catalog.id || applier.trees.contains_key(&tree.id)
    }

    /// Makes the nodes of a tree dirty that are to be moved.
    fn nodes(&mut self, tree: Tree) -> Result<Step> {
        let pool = &self.shared.pool;
        let error = |e| tree_error(pool, tree.id, e);
        // Pages above the leaves come up at each step, but are made dirty once.
        let mut above = BTreeSet::new();
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            let pick = || tree.pick(pool, &key, STEP, &|page| self.stands_behind(page)).map_err(error);
            {
                let applier = self.shared.apply.lock();
                if !Self::is_there(&applier, tree) {
                    break;
                }
                let picked = pick()?;
                if picked.leaves.is_empty() && picked.above.iter().all(|page| above.contains(page)) {
                    from = picked.next;
                    continue;
                }
                pool.prefetch(&picked.leaves);
            }
            // As many as one step can be of: those above are a handful.
            let Some(promise) = self.room(2 * STEP)? else { return Ok(Step::NoRoom) };
            let applier = self.shared.apply.lock();
            if !Self::is_there(&applier, tree) {
                break;
            }
            let picked = pick()?;
            let mut pages: Vec<PageId> = picked.above.into_iter().filter(|&page| above.insert(page)).collect();
            pages.extend(picked.leaves);
            tree.touch(pool, &pages).map_err(error)?;
            drop((applier, promise));
            self.moved += pages.len() as u64;
            from = picked.next;
        }
        Ok(Step::Made)
    }

    /// Moves what the leaves of a tree name: overflow pages, and runs of blobs.
    fn values(&mut self, tree: Tree) -> Result<Step> {
        let mut leaf = LeafCopy::new();
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            self.shared.health.check()?;
            if !self.read_leaf(tree, &key, &mut leaf)? {
                break;
            }
            from = leaf.upper().map(<[u8]>::to_vec);
            for index in 0..leaf.len() {
                let (kind, bytes) = leaf.value(index);
                if kind != cell::INLINE && self.names_something_behind(kind, bytes) {
                    let key = leaf.key(index);
                    if self.value(tree, &key)? == Step::NoRoom {
                        return Ok(Step::NoRoom);
                    }
                }
            }
        }
        Ok(Step::Made)
    }

    /// Copies the leaf of a key. False: the tree has gone.
    fn read_leaf(&self, tree: Tree, key: &[u8], leaf: &mut LeafCopy) -> Result<bool> {
        match pages::read_leaf(&self.shared.pool, tree, Seek::AtOrAfter(key), leaf) {
            Ok(()) => Ok(true),
            Err(Error::Corrupt(_)) if !Self::is_there(&self.shared.apply.lock(), tree) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether a cell names a page or run that is to be moved, as far as it can be told without reading any.
    fn names_something_behind(&self, kind: u8, bytes: &[u8]) -> bool {
        match Cell::decode(kind, bytes, self.piece_len()) {
            Some(Cell::Overflow(list)) => list.pages.iter().any(|&page| self.stands_behind(page)),
            Some(Cell::Blob(blob)) => blob.pages().any(|page| self.stands_behind(page)),
            // What the blob's runs are stands in the list's pages.
            Some(Cell::LongBlob(_)) => true,
            Some(Cell::Inline(_)) | None => false,
        }
    }

    fn piece_len(&self) -> usize {
        overflow::piece_len_max(self.shared.pool.page_size())
    }

    /// Moves what one key's cell names: a few overflow pages at a time, then the runs, one by one.
    fn value(&mut self, tree: Tree, key: &[u8]) -> Result<Step> {
        let shared = self.shared;
        // What was moved, or could not be, is not tried again: it may still end behind the block.
        let mut tried = BTreeSet::new();
        loop {
            let Some(promise) = self.room(STEP)? else { return Ok(Step::NoRoom) };
            let applier = shared.apply.lock();
            if !Self::is_there(&applier, tree) {
                return Ok(Step::Made);
            }
            let Some(named) = self.named(tree, key)? else { return Ok(Step::Made) };
            let is_due = |page: &PageId| self.stands_behind(*page) && !tried.contains(page);
            let pages: Vec<PageId> = named.pages.into_iter().filter(is_due).take(STEP).collect();
            let run = named.runs.into_iter().find(is_due);
            if !pages.is_empty() {
                pages.iter().try_for_each(|&page| touch_overflow(&shared.pool, page))?;
                self.moved += pages.len() as u64;
                tried.extend(pages);
                continue;
            }
            drop(promise);
            let Some(run) = run else { return Ok(Step::Made) };
            tried.insert(run);
            let moving = shared.store().begin_move(run, self.behind, || shared.pool.dirty_pages());
            drop(applier);
            let Some(moving) = moving else { continue };
            if shared.store().copy_run(&moving)? {
                let _applier = shared.apply.lock();
                self.moved += u64::from(shared.store().finish_move(moving, shared.pool.epoch()));
            } else {
                tracing::warn!(run = run.0, "a part of a large value is damaged, and stays where it is: verify the database");
            }
        }
    }

    /// What a key's cell names now; `None` where it names nothing. Under the apply lock.
    fn named(&self, tree: Tree, key: &[u8]) -> Result<Option<Named>> {
        let pool = &self.shared.pool;
        let found = pages::find(pool, tree, key, |found| found.value.map(|(kind, bytes)| (kind, bytes.to_vec())))?;
        let Some((kind, bytes)) = found else { return Ok(None) };
        Ok(match Cell::decode(kind, &bytes, self.piece_len()) {
            Some(Cell::Overflow(list)) => Some(Named { pages: list.pages, runs: Vec::new() }),
            Some(Cell::Blob(blob)) => Some(Named { pages: Vec::new(), runs: blob.pages().collect() }),
            Some(Cell::LongBlob(list)) => {
                let bytes = overflow::read(pool, &list)?;
                let blob = bytes.as_deref().and_then(cell::decode_blob);
                Some(Named { pages: list.pages, runs: blob.map_or_else(Vec::new, |blob| blob.pages().collect()) })
            }
            Some(Cell::Inline(_)) | None => None,
        })
    }
}

/// Makes an overflow page dirty. Under the apply lock, as everything that changes or frees one.
fn touch_overflow(pool: &EnginePool, page: PageId) -> Result<()> {
    // One frame to load it into, one to copy it to.
    let mut frames = pages::reserve(pool, 2)?;
    let hold = pages::load_into(pool, page, Some(&mut frames))?;
    // Held, it is there; where there is no such page, there is nothing to move.
    if hold.is_some() {
        let _ = pool.exclusive(page, &mut frames);
    }
    Ok(())
}

/// Pages and runs that a cell names.
struct Named {
    pages: Vec<PageId>,
    runs: Vec<PageId>,
}
