//! Which segments there are: in use, ready, or free to become ready.
//!
//! ```text
//!     free          in use                   ready                    (free: beyond a hole, after a crash)
//!   ├──────┤├──────────────────────┤├──────────────────────┤
//!           │ C's segment      end's │                       │ ready_end
//! ```
//!
//! Invariants:
//! 1. Every segment from C's to the one before `ready_end` exists at full length, and its name is durable.
//! 2. A segment becomes free only below C of a durable superblock; its file then gets the number `ready_end`, or is removed.
//! 3. After a failed sync of the directory no segment becomes ready any more.

use crate::layout::Geometry;
use crate::lsn::SegmentNo;
use crate::segment::Directory;
use crate::stats::Counters;
use crate::{Damage, Error, Lsn, Result};
use ashlar_disk::sync::Mutex;
use ashlar_disk::{Access, File};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The segments of a log that is open for writing.
pub(crate) struct Pool {
    directory: Directory,
    counters: Arc<Counters>,
    ready_end: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// C's segment.
    first: SegmentNo,
    free: BTreeSet<SegmentNo>,
    failed: Option<Error>,
}

impl Pool {
    /// Takes stock of the directory. The segments from C's to the end's must be there, and the one after if the end's has been
    /// written to.
    pub(crate) fn open(directory: Directory, geometry: &Geometry, c: Lsn, end: Lsn, counters: Arc<Counters>) -> Result<Pool> {
        let mut free: BTreeSet<_> = directory.list()?.into_iter().collect();
        let first = geometry.segment_of(c);
        let mut ready_end = first;
        while free.remove(&ready_end) {
            ready_end = ready_end.next();
        }
        let needed = last_needed(geometry, end);
        if ready_end <= needed {
            return Err(directory.damaged(ready_end, Damage::MissingSegment));
        }
        let state = State { first, free, failed: None };
        Ok(Pool { directory, counters, ready_end: AtomicU64::new(ready_end.0), state: Mutex::new(state) })
    }

    /// Sees to it that the segments up to `last` are ready. One comparison when they are.
    ///
    /// # Errors
    /// Of the disk. No space leaves everything as it was.
    pub(crate) fn ensure(&self, last: SegmentNo) -> Result<()> {
        if self.ready_end() > last {
            return Ok(());
        }
        let mut state = self.state.lock();
        while self.ready_end() <= last {
            state.check()?;
            let next = self.ready_end();
            if !self.reuse_one(&mut state, next)? {
                self.directory.fill_unfinished()?;
                self.directory.name_unfinished(next)?;
                Counters::add(&self.counters.segments_created, 1);
            }
            self.publish(&mut state, next.next())?;
        }
        Ok(())
    }

    /// The first segment that isn't ready.
    pub(crate) fn ready_end(&self) -> SegmentNo {
        // Acquire pairs with the release in `publish`: who sees a segment ready sees its file.
        SegmentNo(self.ready_end.load(Ordering::Acquire))
    }

    /// Opens a segment for writing.
    pub(crate) fn open_segment(&self, segment: SegmentNo) -> Result<Arc<dyn File>> {
        self.directory.open(segment, Access::ReadWrite)
    }

    /// Frees the segments below `first`; as many as make `ready_wanted` the first that isn't ready get new numbers, the others
    /// are removed.
    pub(crate) fn recycle(&self, first: SegmentNo, ready_wanted: SegmentNo) -> Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let freed = state.first.0..first.0;
        state.free.extend(freed.map(SegmentNo));
        state.first = state.first.max(first);
        let mut next = self.ready_end();
        while next < ready_wanted && self.reuse_one(&mut state, next)? {
            next = next.next();
        }
        while let Some(segment) = state.free.pop_first() {
            self.directory.remove(segment)?;
            Counters::add(&self.counters.segments_removed, 1);
        }
        self.publish(&mut state, next)
    }

    /// Gives some free segment the number `next`, if there is one that can be used. Not durable yet.
    fn reuse_one(&self, state: &mut State, next: SegmentNo) -> Result<bool> {
        if state.free.remove(&next) && self.is_whole(next)? {
            return Ok(true);
        }
        while let Some(segment) = state.free.pop_first() {
            if self.is_whole(segment)? {
                self.directory.reuse(segment, next)?;
                Counters::add(&self.counters.segments_reused, 1);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a free file can be used again; it is removed if not.
    fn is_whole(&self, segment: SegmentNo) -> Result<bool> {
        match self.directory.open(segment, Access::Read) {
            Ok(_) => Ok(true),
            Err(Error::Corrupted { damage: Damage::SegmentLength { .. }, .. }) => {
                self.directory.remove(segment)?;
                Ok(false)
            }
            Err(Error::Corrupted { damage: Damage::MissingSegment, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes names durable, then counts on them.
    fn publish(&self, state: &mut State, ready_end: SegmentNo) -> Result<()> {
        if let Err(error) = self.directory.sync_names() {
            state.failed = Some(error.clone());
            return Err(error);
        }
        // Release pairs with the acquire in `ready_end`.
        self.ready_end.store(ready_end.0, Ordering::Release);
        Ok(())
    }
}

impl State {
    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

/// The last segment that must exist when the log ends at `end`: the one after the newest in use.
pub(crate) fn last_needed(geometry: &Geometry, end: Lsn) -> SegmentNo {
    let segment = geometry.segment_of(end);
    if geometry.offset_of(end) == 0 { segment } else { segment.next() }
}
