//! Room in the file: promised to commits before they take an LSN, grown in large steps, durable before it is used.

use super::{Extent, Inner, Store};
use crate::error::{Error, Result};
use ashlar_disk::SyncKind;
use std::sync::atomic::Ordering::Relaxed;

/// Units kept back for a checkpoint, which must be possible whatever the disk holds: what it asks for itself, and the map nodes
/// that this adds.
const CHECKPOINT_RESERVE_UNITS: u64 = 96;

/// Units kept back beside, for commits that only delete: a few at a time, each followed by a checkpoint where need be.
const DELETE_RESERVE_UNITS: u64 = 64;

/// Units that a file keeps free beside, when it is cut as short as it can be: so that it need not grow for the next commit.
const SLACK_UNITS: u64 = 64;

/// Who asks for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Draw {
    /// Leaves the reserves untouched.
    Ordinary,
    /// Only deletes: leaves what a checkpoint needs.
    Deletes,
    /// A checkpoint, or recovery: may use all.
    Checkpoint,
}

/// The largest step by which the file grows, in bytes.
const GROW_STEP_MAX: u64 = 256 << 20;

/// A least step above this is taken for this: one that the disk has no room for takes all that there is, if only for a moment, from
/// everybody else.
pub(super) const GROW_STEP_CAP: u64 = 1 << 30;

/// A promise that so many pages more can become dirty and be written. Given back when dropped: by then the pages it was for
/// are counted as dirty.
#[derive(Debug)]
pub(crate) struct Promise<'a> {
    store: &'a Store,
    units: u64,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.store.inner.lock().promised -= self.units;
    }
}

impl Store {
    /// Promises that `units` more pages can become dirty while `dirty()` are, growing the file if need be. Asked under the lock
    /// that guards promises: a page is dirty before the promise it was for is given back, so it is counted at least once.
    pub(crate) fn promise(&self, units: u64, dirty: impl Fn() -> usize, draw: Draw) -> Result<Promise<'_>> {
        if self.read_only {
            self.inner.lock().promised += units;
            return Ok(Promise { store: self, units });
        }
        loop {
            let (missing, seen) = {
                let mut inner = self.inner.lock();
                let dirty = dirty() as u64;
                let missing = inner.space.shortfall(inner.wanted(units, dirty, draw));
                if missing == 0 {
                    inner.promised += units;
                    inner.least_spare = inner.least_spare.min(inner.spare(dirty));
                    return Ok(Promise { store: self, units });
                }
                (missing, inner.space.total())
            };
            self.grow_by(missing, seen)?;
        }
    }

    /// Makes a promise that nobody holds another one, with no look at whether there is room: that is made smaller, or is a part of one that
    /// somebody still holds.
    pub(crate) fn change_promise(&self, from: u64, to: u64) {
        let mut inner = self.inner.lock();
        inner.promised = inner.promised - from + to;
    }

    /// The same promise, if it can be given without growing the file.
    pub(crate) fn promise_within(&self, units: u64, dirty: impl Fn() -> usize) -> Option<Promise<'_>> {
        let mut inner = self.inner.lock();
        if inner.space.shortfall(inner.wanted(units, dirty() as u64, Draw::Ordinary)) > 0 {
            return None;
        }
        inner.promised += units;
        Some(Promise { store: self, units })
    }

    /// Makes the file longer by at least `units` units, unless it has grown since the caller saw it with `seen` blocks: then what
    /// is missing is to be looked at again. The new length is durable before anybody can use the room.
    pub(super) fn grow_by(&self, units: u64, seen: u64) -> Result<()> {
        let _one_at_a_time = self.growing.lock();
        let block = self.block.bytes() as u64;
        let total = self.inner.lock().space.total();
        if total != seen {
            return Ok(());
        }
        let page = self.page_size as u64;
        let needed = units * page;
        let least = self.grow_step.min(GROW_STEP_CAP);
        let step = (total * block / 8).clamp(least, GROW_STEP_MAX.max(least)).max(needed).next_multiple_of(page);
        match self.try_grow(total * block, step) {
            Err(Error::NoSpace { .. }) if needed < step => self.try_grow(total * block, needed),
            outcome => outcome,
        }
    }

    fn try_grow(&self, old_len: u64, step: u64) -> Result<()> {
        self.file.allocate(old_len, step)?;
        self.sync(SyncKind::All)?;
        let block = self.block.bytes() as u64;
        let (old, new) = (old_len / block, (old_len + step) / block);
        let mut inner = self.inner.lock();
        let units = inner.space.free_units();
        inner.space.extend_to(new);
        inner.space.release(Extent { start: old, len: new - old });
        // They would have been to spare before.
        inner.least_spare = inner.least_spare.saturating_add(inner.space.free_units() - units);
        self.counters.grown.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl Inner {
    /// Units that are free and that nobody needs, while `dirty` pages are dirty.
    pub(super) fn spare(&self, dirty: u64) -> u64 {
        self.space.free_units().saturating_sub(self.wanted(SLACK_UNITS, dirty, Draw::Ordinary))
    }

    /// Units that must be free so that `units` more pages can become dirty while `dirty` are.
    fn wanted(&self, units: u64, dirty: u64, draw: Draw) -> u64 {
        let pages = units + dirty + self.promised;
        let reserve = match draw {
            Draw::Ordinary => CHECKPOINT_RESERVE_UNITS + DELETE_RESERVE_UNITS,
            Draw::Deletes => CHECKPOINT_RESERVE_UNITS,
            Draw::Checkpoint => 0,
        };
        pages + self.map.nodes_max(pages) + reserve
    }
}
