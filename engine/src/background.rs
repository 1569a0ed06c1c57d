//! What nobody waits for: durability of `Eventual` commits within their bound, log segments ahead of need, write-back, due
//! checkpoints, pruning before-images, joining sparse leaves, freeing dropped keyspaces, merging what was postponed into the trees. Three
//! threads, or the caller ([`Shared::maintain_step`]).
//!
//! - `ashlar-log` makes the log durable a bound after an `Eventual` commit, adds the flush that vouches for the last one when the
//!   log has fallen idle, and prepares segments.
//! - `ashlar-pages` makes due checkpoints, writes back and evicts ahead of need, prunes before-images, and frees dropped
//!   trees.
//! - `ashlar-merge` merges writes that wait.

use crate::checkpoint::Holds;
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::store::Draw;
use ashlar_disk::sync::{self, Condvar, JoinHandle, Mutex};
use ashlar_wal::Wal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the log is idle before the flush that vouches for the last one.
const IDLE: Duration = Duration::from_millis(5);

/// How often the log's thread looks whether the log has moved, when nobody calls it: while it moves, and while it does not.
const LOG_PAUSE: Duration = Duration::from_millis(20);
const LOG_PAUSE_IDLE: Duration = Duration::from_millis(100);

/// How often the pages' thread looks around when nobody calls it.
const PAGES_PAUSE: Duration = Duration::from_millis(20);

/// How often the merging thread looks around when nobody calls it.
const MERGE_PAUSE: Duration = Duration::from_millis(100);

/// Sparse leaves that are joined under one hold of the apply lock, at most.
const SETTLED_AT_ONCE: usize = 4;

/// What callers and threads tell each other.
#[derive(Debug, Default)]
pub(crate) struct BackgroundState {
    /// An `Eventual` commit has been applied since the log's thread last looked.
    eventual: AtomicBool,
    /// Something waits to be merged that did not when the merging thread last looked.
    merging: AtomicBool,
    stopping: AtomicBool,
    bell: Mutex<Bell>,
    log_rings: Condvar,
    pages_rings: Condvar,
    merge_rings: Condvar,
}

#[derive(Debug, Default)]
struct Bell {
    log: bool,
    pages: bool,
    merge: bool,
}

impl BackgroundState {
    /// An `Eventual` commit has been applied.
    pub(crate) fn note_eventual(&self) {
        if !self.eventual.load(Ordering::Relaxed) && !self.eventual.swap(true, Ordering::AcqRel) {
            self.bell.lock().log = true;
            self.log_rings.notify_one();
        }
    }

    /// Something waits to be merged.
    pub(crate) fn call_merging(&self) {
        if !self.merging.load(Ordering::Relaxed) && !self.merging.swap(true, Ordering::AcqRel) {
            self.bell.lock().merge = true;
            self.merge_rings.notify_one();
        }
    }

    /// The pages' thread has something to do.
    pub(crate) fn call_pages(&self) {
        self.bell.lock().pages = true;
        self.pages_rings.notify_one();
    }

    /// The threads end soon.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let mut bell = self.bell.lock();
        bell.log = true;
        bell.pages = true;
        bell.merge = true;
        drop(bell);
        self.log_rings.notify_all();
        self.pages_rings.notify_all();
        self.merge_rings.notify_all();
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits for a call, at most so long; false: no call came.
    fn wait_log(&self, at_most: Duration) -> bool {
        let mut bell = self.bell.lock();
        if !bell.log {
            self.log_rings.wait_for(&mut bell, at_most);
        }
        std::mem::take(&mut bell.log)
    }

    fn wait_pages(&self, at_most: Duration) -> bool {
        let mut bell = self.bell.lock();
        if !bell.pages {
            self.pages_rings.wait_for(&mut bell, at_most);
        }
        std::mem::take(&mut bell.pages)
    }

    fn wait_merging(&self, at_most: Duration) {
        let mut bell = self.bell.lock();
        if !bell.merge {
            self.merge_rings.wait_for(&mut bell, at_most);
        }
        bell.merge = false;
    }
}

/// Starts the threads, unless the caller does their work or there is nothing to write.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<Vec<JoinHandle>> {
    if shared.options.read_only || shared.options.background == crate::Background::Manual {
        return Ok(Vec::new());
    }
    let (log, pages, merging) = (shared.clone(), shared.clone(), shared.clone());
    let mut threads =
        vec![sync::spawn("ashlar-log", move || log_thread(&log))?, sync::spawn("ashlar-pages", move || pages_thread(&pages))?];
    if shared.postponed.is_possible() {
        threads.push(sync::spawn("ashlar-merge", move || merge_thread(&merging))?);
    }
    Ok(threads)
}

#[expect(clippy::panic, reason = "asked for by a test")]
fn merge_thread(shared: &Shared) {
    let state = &shared.background;
    while !state.stopping() {
        state.wait_merging(MERGE_PAUSE);
        state.merging.store(false, Ordering::Release);
        if shared.options.fault.is(Fault::MergerDies) && shared.postponed.waits() {
            panic!("the merging thread dies");
        }
        while !state.stopping() && !shared.health.failed() && shared.merge_step().unwrap_or(false) {}
    }
}

fn log_thread(shared: &Shared) {
    let (state, Some(wal)) = (&shared.background, &shared.log) else { return };
    let mut seen = wal.appended();
    while !state.stopping() {
        let moved = wal.appended() != seen;
        seen = wal.appended();
        let called = state.wait_log(if moved { LOG_PAUSE } else { LOG_PAUSE_IDLE });
        if shared.health.failed() {
            continue;
        }
        if called && state.eventual.load(Ordering::Acquire) {
            sync_eventual(shared, wal);
        }
        let _ = wal.prepare_segments().map_err(|e| shared.log_error(e));
        vouch_when_idle(shared, wal);
    }
}

/// Waits the bound out (commits gather meanwhile), then makes them durable.
fn sync_eventual(shared: &Shared, wal: &Wal) {
    let state = &shared.background;
    let until = sync::now().saturating_add(shared.options.eventual_bound);
    while !state.stopping() && sync::now() < until {
        state.wait_log(until.saturating_sub(sync::now()));
    }
    state.eventual.store(false, Ordering::Release);
    let _ = shared.make_durable(wal.appended().0);
}

/// When nothing was appended for a moment, adds the flush that vouches for the last one.
fn vouch_when_idle(shared: &Shared, wal: &Wal) {
    let before = wal.appended();
    if wal.durable() < before || shared.background.stopping() {
        return;
    }
    sync::sleep(IDLE);
    if wal.appended() == before
        && let Err(e) = wal.witness()
    {
        shared.log_failed(e);
    }
}

fn pages_thread(shared: &Shared) {
    while !shared.background.stopping() {
        shared.background.wait_pages(PAGES_PAUSE);
        while !shared.background.stopping() && !shared.health.failed() {
            match shared.pages_step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "background work failed");
                    break;
                }
            }
        }
    }
}

impl Shared {
    /// One step of the pages' work; true while there is more.
    fn pages_step(&self) -> Result<bool> {
        if self.checkpoint_due() {
            self.checkpoint_now(Holds::WhatIsMerged)?;
        }
        self.store().blob_cache().shrink(&self.pool);
        let joining = self.tend_versions()?;
        let freeing = self.free_dropped_step()?;
        Ok(self.pool.maintain() || freeing || joining)
    }

    /// One step of all background work, by the caller; true while there is more.
    pub(crate) fn maintain_step(&self) -> Result<bool> {
        if self.options.read_only {
            return Ok(false);
        }
        self.health.check()?;
        self.background.eventual.store(false, Ordering::Release);
        let wal = self.wal()?;
        self.make_durable(wal.appended().0)?;
        wal.prepare_segments().map_err(|e| self.log_error(e))?;
        wal.witness().map_err(|e| self.log_failed(e))?;
        let merging = self.merge_step()?;
        Ok(self.pages_step()? || merging)
    }

    /// Frees a part of a dropped keyspace, once no snapshot can see it.
    pub(crate) fn free_dropped_step(&self) -> Result<bool> {
        if !self.apply.lock().has_droppable() {
            return Ok(false);
        }
        let _promise = self.room_on_disk(self.pages_for(64, 0), true)?;
        let mut applier = self.apply.lock();
        applier.free_dropped(&self.pool).map_err(|e| self.fail_now(format!("freeing a dropped keyspace failed: {e}")))
    }

    /// Lets before-images go that no snapshot needs, and joins some of the leaves that could not be joined while they had any. True
    /// while there is more to join.
    pub(crate) fn tend_versions(&self) -> Result<bool> {
        {
            let mut applier = self.apply.lock();
            self.apply_leftovers(&mut applier)?;
            self.prune(&mut applier)?;
            if !applier.has_sparse() {
                return Ok(false);
            }
        }
        let promise =
            match self.store().promise(self.pages_for(SETTLED_AT_ONCE * 4, 0), || self.pool.dirty_pages(), Draw::Deletes) {
                Err(Error::NoSpace { .. }) => return Ok(false),
                promise => promise?,
            };
        let mut applier = self.apply.lock();
        for _ in 0..SETTLED_AT_ONCE {
            match applier.settle_next(&self.pool) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // The tree is whole, and its leaf as sparse as it was.
                Err(error) => tracing::warn!(%error, "a sparse page could not be joined with its neighbour"),
            }
        }
        drop(promise);
        Ok(applier.has_sparse())
    }

    /// After a commit: has a due checkpoint made. With nobody in the background the committer does it.
    pub(crate) fn checkpoint_if_due(&self) {
        if self.counters.tick() && self.checkpoint_due() {
            match self.options.background {
                crate::Background::Threads => self.background.call_pages(),
                crate::Background::Manual => {
                    let _ = self.checkpoint_now(Holds::WhatIsMerged);
                }
            }
        }
    }
}
