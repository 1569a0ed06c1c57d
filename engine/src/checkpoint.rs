//! The checkpoint: what is dirty goes to new blocks, the page map records where, the superblock makes it so.
//!
//! 1. *Cut*, between two commits, under the apply lock: A, the LSN of the last commit that is in the trees with all before it (the
//!    checkpoint is exactly the state at A; what waits is merged into the trees before, and what comes to wait meanwhile is beyond A); C, the
//!    log flush in which the first record after A begins or will begin; the counters; the epoch turns.
//! 2. Every page dirty in the old epoch is written to new blocks.
//! 3. The log is made durable up to A; the page map's changed nodes are written; the data file is synced.
//! 4. The superblock is written to the slot not in use, then its mirror, each synced. *This is the moment.*
//! 5. Only now: blocks that nothing refers to any more are free, log segments below C are recycled, and the file's end is given
//!    back if enough of it is free.
//!
//! Invariants:
//! 1. One checkpoint at a time: [`CheckpointState`]'s lock is held from cut to end.
//! 2. A checkpoint that fails in steps 2 to 4 fails the database: what reached the device is not known, and the next open
//!    starts from the last superblock that is whole.

use crate::database::Shared;
use crate::error::Result;
use crate::fault::Fault;
use crate::pages::EnginePool;
use crate::store::superblock::{Superblock, Superblocks};
use crate::store::{Draw, Promise, ShrinkTo};
use ashlar_bufferpool::{CheckpointProgress, Epoch, Pace};
use ashlar_disk::sync;
use ashlar_wal::Lsn;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of blocks waiting to be freed below which they alone are no reason for a checkpoint.
const WAITING_BYTES_MIN: u64 = 16 << 20;

/// What the checkpoint lock guards.
#[derive(Debug)]
pub(crate) struct CheckpointState {
    /// The superblock that is on disk.
    pub(crate) current: Superblock,
    /// Where the next one goes; `None` in a read-only database.
    pub(crate) superblocks: Option<Superblocks>,
}

/// How fast a checkpoint writes: one write in flight, so that durable commits beside it are not slowed; more when the log or the
/// pool presses.
impl Pace for Shared {
    fn before_write(&self, _so_far: CheckpointProgress) -> usize {
        let presses = self.log.as_ref().is_some_and(|log| {
            let pressure = log.pressure();
            pressure.waiting > 0 || pressure.used > pressure.limit / 4 * 3
        });
        let full = self.pool.dirty_pages() > self.pool.frames() as usize / 2;
        if presses || full { 4 } else { 1 }
    }
}

/// Steps of joining sparse pages before a checkpoint, at most: others may make sparse ones all the while.
const TENDED_MAX: usize = 4096;

/// What a checkpoint is to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holds {
    /// Everything that is applied when it begins.
    Everything,
    /// At least what is being merged into the trees, if anything is; what waits behind that may be left to the next.
    WhatIsMerged,
}

/// What a cut has noted.
struct Cut {
    epoch: Epoch,
    last_commit: u64,
    replay_from: u64,
    next_tree: u64,
}

impl Shared {
    /// Makes a checkpoint.
    pub(crate) fn checkpoint_now(&self, holds: Holds) -> Result<()> {
        // Pages that deletes have left sparse are free with this checkpoint, not with the one after it.
        for _ in 0..TENDED_MAX {
            if self.options.read_only || !self.tend_versions()? {
                break;
            }
        }
        let mut state = self.checkpoint.lock();
        self.run_checkpoint(&mut state, holds)
    }

    /// Makes a checkpoint because the log has no room, unless one that was under way has made some meanwhile.
    pub(crate) fn checkpoint_for_room(&self) -> Result<()> {
        let before = self.counters.checkpoints.load(Relaxed);
        let mut state = self.checkpoint.lock();
        if self.counters.checkpoints.load(Relaxed) != before {
            return Ok(());
        }
        self.run_checkpoint(&mut state, Holds::WhatIsMerged)
    }

    /// Whether a checkpoint is due: the log is half full, or a tenth of the file waits to be freed.
    pub(crate) fn checkpoint_due(&self) -> bool {
        let Some(log) = self.log.as_ref().map(ashlar_wal::Wal::pressure) else { return false };
        if log.used > log.limit / 2 || log.waiting > 0 || self.counters.owes_checkpoint() || self.postponed.owes_checkpoint() {
            return true;
        }
        let (waiting, total) = self.store().waiting_and_total();
        let block = self.store().block().bytes() as u64;
        // A dirty page's old image waits from the moment that the page is changed, and a checkpoint that frees it writes another of its
        // size: nothing is won by that, and checkpoints would follow each other without a pause. What has been evicted since counts.
        let dirty = (self.pool.dirty_pages() * self.pool.page_size()) as u64 / block;
        let waiting = waiting.saturating_sub(dirty);
        waiting > total / 10 && waiting * block > WAITING_BYTES_MIN.min(4 * self.options.grow_step)
    }

    pub(crate) fn run_checkpoint(&self, state: &mut CheckpointState, holds: Holds) -> Result<()> {
        self.health.check()?;
        // Room for the catalog's pages is the only thing a checkpoint asks for, and it draws on the reserve; without it nothing has
        // happened yet, and the database goes on.
        let promise = self.store().promise(self.pages_for(64, 0), || self.pool.dirty_pages(), Draw::Checkpoint)?;
        let started = sync::now();
        let outcome = self.checkpoint_steps(state, promise, holds);
        match &outcome {
            Ok(()) => {
                self.counters.checkpoints.fetch_add(1, Relaxed);
                let took = sync::now().saturating_sub(started);
                self.counters.checkpoint_micros.fetch_add(took.as_micros() as u64, Relaxed);
                tracing::debug!(number = state.current.checkpoint, ?took, "checkpoint");
            }
            Err(e) => {
                self.fail_now(format!("a checkpoint failed: {e}"));
            }
        }
        outcome?;
        self.shrink(ShrinkTo::WhatIsWorthIt).or_else(|error| {
            // The checkpoint is made all the same, and a file that is too long harms nothing.
            tracing::warn!(%error, "the data file could not be made shorter");
            self.health.check()
        })
    }

    fn checkpoint_steps(&self, state: &mut CheckpointState, promise: Promise<'_>, holds: Holds) -> Result<()> {
        let hold = self.merge_for_cut(holds)?;
        let cut = self.cut()?;
        drop((hold, promise));
        if self.postponed.waits() {
            self.background.call_merging();
        }
        self.pool.write_epoch(cut.epoch, self)?;
        self.make_durable(cut.last_commit)?;
        let (map_root, map_height) = self.store().write_map(cut.epoch)?;
        let Some(superblocks) = state.superblocks.as_mut() else { return Ok(()) };
        let next = Superblock {
            number: state.current.number + 1,
            checkpoint: state.current.checkpoint + 1,
            replay_from: cut.replay_from,
            last_commit: cut.last_commit,
            incarnation_at_replay: state.current.incarnation,
            map_root,
            map_height,
            next_page_id: self.store().next_page_id(),
            next_tree_id: cut.next_tree,
            ..state.current.clone()
        };
        if self.options.fault.is(Fault::FreeBeforeSuperblock) {
            self.store().checkpoint_durable(cut.epoch);
            self.wal()?.recycle_below(Lsn(cut.replay_from)).map_err(|e| self.log_error(e))?;
        }
        if self.options.fault.is(Fault::ShrinkEarly) {
            self.store().shrink_early(cut.epoch);
        }
        superblocks.write(&next)?;
        state.current = next;
        self.store().checkpoint_durable(cut.epoch);
        let wal = self.wal()?;
        wal.set_log_limit(self.log_limit());
        self.postponed.set_limit(postponed_limit(&self.options, &self.pool, self.log_limit()));
        wal.recycle_below(Lsn(cut.replay_from)).map_err(|e| self.log_error(e))
    }

    /// Step 1. The numbers of entries go to the catalog first, so that they are part of the checkpoint.
    fn cut(&self) -> Result<Cut> {
        let mut applier = self.apply.lock();
        self.health.check()?;
        if !self.options.fault.is(Fault::CutInWindow) {
            self.finish_window(&mut applier)?;
        }
        // What nobody sees any more is free with this checkpoint already.
        self.prune(&mut applier)?;
        applier.note_lens(&self.pool)?;
        let wal = self.wal()?;
        let (last_commit, first_that_waits) = applier.cut_point();
        // Lock order: apply before commit. No record can take an LSN between the two answers.
        let order = self.order.lock();
        let first_unapplied = || order.first().map_or_else(|| wal.cut_point().0, |p| p.flush_start);
        let replay_from = first_that_waits.unwrap_or_else(first_unapplied);
        self.postponed.note_cut();
        let epoch = self.pool.turn();
        Ok(Cut { epoch, last_commit, replay_from, next_tree: applier.next_tree })
    }

    /// The log's limit: as asked for, or a quarter of the data, within 64 MiB and 1 GiB.
    pub(crate) fn log_limit(&self) -> u64 {
        let data = self.store().space_use();
        log_limit(&self.options, self.segment_size, data.file - data.free)
    }
}

/// Bytes of a cache for each one of writes that may wait beside it, where that is not set.
const POSTPONED_SHARE: u64 = 4;

/// And at most so many.
const POSTPONED_MAX: u64 = 32 << 20;

/// What waits keeps the log beyond the last checkpoint: it may be a small part of that.
const POSTPONED_SHARE_OF_LOG: u64 = 8;

/// Bytes of writes that may wait.
pub(crate) fn postponed_limit(options: &crate::Options, pool: &EnginePool, log_limit: u64) -> u64 {
    let cache = u64::from(pool.frames()) * pool.page_size() as u64;
    let default = (cache / POSTPONED_SHARE).min(POSTPONED_MAX).min(log_limit / POSTPONED_SHARE_OF_LOG);
    options.postponed_limit.unwrap_or(default)
}

/// See [`Shared::log_limit`].
pub(crate) fn log_limit(options: &crate::Options, segment_size: u64, data: u64) -> u64 {
    options.log_limit.unwrap_or_else(|| (data / 4).clamp(64 << 20, 1 << 30)).max(2 * segment_size)
}
