//! The pool's part in a checkpoint: writing an epoch, or giving it up; and background work.
//!
//! A checkpoint of epoch e, as its caller runs it: [`Pool::turn`](crate::Pool::turn) ends e between two commits;
//! [`Pool::write_epoch`](crate::Pool::write_epoch) returns when every image of e has been written and told to the store; the
//! store's delta of e then is whole. Or, where that fails, [`Pool::merge_epoch`](crate::Pool::merge_epoch) moves all of e into
//! the current epoch.

use crate::core::Core;
use crate::held;
use crate::page_id::Epoch;
use crate::slot::FrameId;
use crate::states::State;
use crate::store::PageStore;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire},
};

/// How fast a checkpoint writes.
pub trait Pace {
    /// Asked before each write (of 256 KiB at most), with nothing latched: may sleep. Gives how many writes may be in flight,
    /// that one included; 0 counts as 1.
    fn before_write(&self, so_far: CheckpointProgress) -> usize;
}

/// How far writing an epoch has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointProgress {
    /// Images of the epoch that have yet to be written.
    pub images_left: usize,
    /// Bytes that this checkpoint has handed to the device.
    pub bytes_written: u64,
}

/// As fast as the device takes it, with a few writes in flight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpaced;

impl Pace for Unpaced {
    fn before_write(&self, _so_far: CheckpointProgress) -> usize {
        4
    }
}

impl<S: PageStore> Core<S> {
    /// Returns when every image of epochs up to `last` has been written and recorded, or with the first error of a write.
    pub(crate) fn write_epoch(self: &Arc<Self>, last: Epoch, pace: &dyn Pace) -> Result<(), S::Error> {
        held::assert_no_latch("writing an epoch");
        assert!(last < self.epoch(), "{last} has not ended");
        let mut writer = EpochWriter { core: self, last, pace, in_flight: Arc::default(), bytes_written: 0 };
        // First what is there now, in order. It stays in the queues meanwhile, so that who needs frames can write some of it.
        let queued = self.ledger.queued_up_to(last);
        writer.write(self.sorted(&queued))?;
        drop(queued);
        // Then what was being written or rewritten when it was looked at: it comes into the queues again.
        loop {
            let seen = self.progress.seen();
            if let Some(error) = self.write_error() {
                return Err(error);
            }
            if self.ledger.owed_up_to(last) == 0 {
                self.ledger.close(last);
                return Ok(());
            }
            let frames = self.unlist(self.ledger.take_up_to(last));
            if frames.is_empty() {
                self.progress.wait(&self.store, seen);
            } else {
                writer.write(self.sorted(&frames))?;
            }
        }
    }

    /// Moves all that belongs to epochs up to `last`, whose checkpoint will not be finished, into the current epoch.
    pub(crate) fn merge_epoch(&self, last: Epoch) {
        let into = self.epoch();
        assert_eq!(last.next(), into, "only the epoch before the current one can be merged");
        for frame in (0..self.free.used()).map(FrameId) {
            let mut body = self.frames.get(frame).lock();
            let next = body.state.merge(last, into);
            if next == body.state {
                continue;
            }
            self.set_state(frame, &mut body, next);
            drop(body);
            if next == State::Free {
                self.free.put(frame);
            }
        }
        self.ledger.close(last);
        assert_eq!(self.ledger.owed_up_to(last), 0, "nothing of {last} is left");
        self.clear_write_error();
        self.progress.happened();
    }

    /// One step of background work, waited for. True if there is more.
    pub(crate) fn maintain(self: &Arc<Self>) -> bool {
        held::assert_no_latch("background work");
        self.write_behind() | self.evict_ahead() | self.populate_ahead()
    }

    /// Writes what has been dirty longest, while more than the set share of the pool is unclean.
    fn write_behind(self: &Arc<Self>) -> bool {
        let excess = self.ledger.unclean().saturating_sub(self.limits.write_behind);
        if excess == 0 || self.write_error().is_some() {
            return false;
        }
        let seen = self.progress.seen();
        if self.writes_in_flight() == 0 && self.write_oldest().is_empty() {
            return false;
        }
        self.progress.wait(&self.store, seen);
        self.write_error().is_none() && self.ledger.unclean() > self.limits.write_behind
    }

    /// Evicts while fewer frames are free than should be.
    fn evict_ahead(self: &Arc<Self>) -> bool {
        let missing = self.limits.free_target.saturating_sub(self.free.len());
        if missing == 0 {
            return false;
        }
        let found = self.evict(missing.min(self.limits.victims));
        let mut written = 0;
        if found.freed == 0 && !found.dirty.is_empty() && self.write_error().is_none() {
            let seen = self.progress.seen();
            written = self.write_frames(&found.dirty).len();
            self.progress.wait(&self.store, seen);
        }
        found.freed + written > 0 && self.free.len() < self.limits.free_target
    }
}

/// A checkpoint's writes.
struct EpochWriter<'a, S: PageStore> {
    core: &'a Arc<Core<S>>,
    last: Epoch,
    pace: &'a dyn Pace,
    /// Its writes in flight.
    in_flight: Arc<AtomicUsize>,
    bytes_written: u64,
}

impl<S: PageStore> EpochWriter<'_, S> {
    /// Writes those of `frames` that still are to be written for the epoch, batch by batch.
    fn write(&mut self, frames: Vec<FrameId>) -> Result<(), S::Error> {
        let (core, last) = (self.core, self.last);
        let is_due = move |frame: &FrameId| {
            let state = core.frames.get(*frame).lock().state;
            state.pack().is_some_and(|(_, epoch)| epoch <= last)
        };
        let mut rest = frames.into_iter().filter(is_due).peekable();
        while rest.peek().is_some() {
            let so_far = CheckpointProgress { images_left: core.ledger.owed_up_to(self.last), bytes_written: self.bytes_written };
            let depth = self.pace.before_write(so_far).max(1);
            core.progress.wait_until(&core.store, || self.in_flight.load(Acquire) < depth);
            if let Some(error) = core.write_error() {
                return Err(error);
            }
            let batch = core.pack_batch(&mut rest);
            self.bytes_written += batch.bytes() as u64;
            self.in_flight.fetch_add(1, AcqRel);
            let in_flight = Arc::clone(&self.in_flight);
            let ended = move || {
                in_flight.fetch_sub(1, AcqRel);
            };
            core.submit(batch, ended);
        }
        Ok(())
    }
}
