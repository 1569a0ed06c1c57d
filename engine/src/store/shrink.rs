//! Giving the free end of the file back to the file system.
//!
//! Blocks that are free may be overwritten at any time, whatever crash comes: no superblock that an open could choose names them,
//! nor the log behind it, and no transfer is on them. So they may as well be gone. What is more to it:
//!
//! 1. The end leaves the space map first, then the file: nobody is given a block that is being cut off. The growth lock is held
//!    over both, so that the file never grows while it is cut.
//! 2. Promises count: the units that stay free cover all that is promised, looked at under the lock that guards promises.
//! 3. It is done with the checkpoint lock held, when a checkpoint is durable, superblock and mirror: what waited for it has just
//!    become free. Whoever reads an older checkpoint, as a verification does, holds it: what it names is not free, and stays.
//! 4. What was needed since the last checkpoint is likely to be needed until the next one: only units that were to spare all that
//!    time are given back, unless more is asked for. So a file that is used evenly is not cut and grown by turns.
//! 5. A crash before the sync leaves the file as long as it was, or as short; the next open takes what it finds. Whatever of the
//!    file is used again after growing is behind a sync that came after the cut.

use super::space::TailRule;
use super::{Store, grow};
use crate::error::Error;
use ashlar_bufferpool::Epoch;
use ashlar_disk::SyncKind;
use std::sync::atomic::Ordering::Relaxed;

/// How short the file becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShrinkTo {
    /// Shorter only where that is worth it, with room to grow again.
    WhatIsWorthIt,
    /// As short as promises allow.
    WhatIsNeeded,
}

/// Why the file did not become shorter for sure.
#[derive(Debug)]
pub(crate) enum ShrinkError {
    /// It was not cut, which harms nothing.
    Cut(Error),
    /// The sync failed: nothing may be assumed of what was written before.
    Sync(Error),
}

impl Store {
    /// Gives back the free end of the file, as far as `to` says, while `dirty()` pages are dirty: by how many bytes the file is
    /// shorter. Called with the checkpoint lock held, when the last checkpoint is durable.
    pub(crate) fn shrink(&self, to: ShrinkTo, dirty: impl Fn() -> usize) -> Result<u64, ShrinkError> {
        if self.read_only {
            return Ok(0);
        }
        let _length_is_ours = self.growing.lock();
        let Some((old, new)) = self.cut_space(to, dirty) else { return Ok(0) };
        self.cut_file(new)?;
        self.counters.shrunk.fetch_add(1, Relaxed);
        let bytes = self.byte_offset(old - new);
        tracing::debug!(blocks = new, bytes, "the data file is shorter");
        Ok(bytes)
    }

    /// Takes the end out of the space map: blocks before and after.
    fn cut_space(&self, to: ShrinkTo, dirty: impl Fn() -> usize) -> Option<(u64, u64)> {
        let mut inner = self.inner.lock();
        let total = inner.space.total();
        let spare = inner.spare(dirty() as u64);
        let least_spare = std::mem::replace(&mut inner.least_spare, spare).min(spare);
        inner.space.start_over_if_roomy();
        let (rule, spare) = match to {
            ShrinkTo::WhatIsWorthIt => (TailRule::when_worth_it(total, self.grow_step_blocks()), least_spare),
            ShrinkTo::WhatIsNeeded => (TailRule::all(), spare),
        };
        let end = rule.cut_point(total, inner.space.tail(), spare, inner.space.unit())?;
        inner.space.cut(end);
        inner.least_spare = inner.spare(dirty() as u64);
        Some((total, end))
    }

    fn grow_step_blocks(&self) -> u64 {
        self.grow_step.min(grow::GROW_STEP_CAP).div_ceil(self.block.bytes() as u64)
    }

    fn cut_file(&self, blocks: u64) -> Result<(), ShrinkError> {
        // Where this fails the file is longer than the space map says, which harms nothing: it grows over what is there.
        self.file.set_len(self.byte_offset(blocks)).map_err(|e| ShrinkError::Cut(e.into()))?;
        self.sync(SyncKind::All).map_err(ShrinkError::Sync)
    }

    /// See [`Fault::ShrinkEarly`](crate::fault::Fault): what waits for the checkpoint of `epoch` is cut off before its superblock is
    /// written.
    pub(crate) fn shrink_early(&self, epoch: Epoch) {
        let _length_is_ours = self.growing.lock();
        let end = {
            let inner = self.inner.lock();
            let mut space = inner.space.clone();
            space.checkpoint_durable(epoch);
            (space.tail() < inner.space.tail()).then_some(space.tail())
        };
        if let Some(end) = end {
            let _ = self.cut_file(end);
        }
    }
}
