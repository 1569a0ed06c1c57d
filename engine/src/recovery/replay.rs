//! Replay: the commits that the log holds beyond the last checkpoint, applied again.
//!
//! In *windows* ([`window`](super::window)): the operations of many commits are gathered, the last one of each key kept, and applied in
//! key order, so that each leaf is read and changed once a window. All of a window bears the LSN of its last commit, or of the operation on a
//! range or a whole keyspace that it comes before: nobody reads before recovery is over, and no snapshot outlives a restart.
//!
//! The log's end must be found before anything is applied. What is met on the way there is gathered, as far as it fits one window
//! ([`Gathered`]): so the log is read once where it does, and what is behind that a second time.

use super::window::Window;
use crate::bulk::Placed;
use crate::commit::apply::{Applier, Names};
use crate::commit::record::{self, Operation};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::options::Options;
use crate::pages::EnginePool;
use crate::store::Draw;
use ashlar_wal::{LentRecord, LogScan, Lsn};

/// What the way to the log's end has shown of the commits beyond the checkpoint.
pub(super) struct Gathered {
    /// Commits up to here are in the checkpoint.
    in_checkpoint: u64,
    from_cut: bool,
    limit: usize,
    /// The first of them.
    window: Window,
    commits: u64,
    /// The LSN of the last one in the window.
    last: u64,
    /// The flush in which the first one begins that is not in the window.
    rest: Option<Lsn>,
    /// Runs of blobs and pages of bulk loads that all of them name.
    placed: Vec<Placed>,
    outcome: Result<()>,
}

impl Gathered {
    /// Nothing yet, of the commits beyond `last_commit`.
    pub(super) fn new(last_commit: u64, options: &Options) -> Gathered {
        Gathered {
            in_checkpoint: last_commit,
            from_cut: options.fault.is(Fault::ReplayFromCut),
            limit: options.recovery_window,
            window: Window::default(),
            commits: 0,
            last: 0,
            rest: None,
            placed: Vec::new(),
            outcome: Ok(()),
        }
    }

    /// Takes the next record of the log.
    pub(super) fn note(&mut self, record: LentRecord<'_>) {
        if self.outcome.is_ok() {
            self.outcome = self.take(record);
        }
    }

    fn take(&mut self, LentRecord { lsn, flush_start, body, .. }: LentRecord<'_>) -> Result<()> {
        let beyond = lsn.0 > self.in_checkpoint;
        if !beyond && !self.from_cut {
            return Ok(());
        }
        let placed = &mut self.placed;
        let mut note_placed = |operation: &Operation<'_>| match operation {
            Operation::PutBlob { blob, .. } if beyond => placed.extend(blob.runs.iter().map(|run| (run.page, run.at))),
            Operation::BulkLoad { placed: pages, .. } if beyond => placed.extend(pages),
            _ => {}
        };
        if self.rest.is_none() && self.window.weight() < self.limit {
            self.commits += 1;
            self.last = lsn.0;
            return self.window.add(body, lsn.0, note_placed);
        }
        self.rest.get_or_insert(flush_start);
        record::each(body, lsn.0, |_, operation| note_placed(&operation))
    }

    /// What of `data` the commits name: in use before anything is allocated.
    ///
    /// # Errors
    /// A record that is whole and no commit.
    pub(super) fn placed(&mut self) -> Result<Vec<Placed>> {
        std::mem::replace(&mut self.outcome, Ok(()))?;
        Ok(std::mem::take(&mut self.placed))
    }

    /// Applies the commits: those gathered, then those that did not fit, read from the log of `scan` again. Gives their number.
    pub(super) fn replay(mut self, pool: &EnginePool, applier: &mut Applier, names: &Names, scan: &LogScan) -> Result<u64> {
        self.outcome?;
        let (window, mut commits) = (&mut self.window, self.commits);
        window.apply(pool, applier, names)?;
        if let Some(from) = self.rest {
            let replayed = scan.each_record(from, |LentRecord { lsn, body, .. }| {
                if lsn.0 <= self.last {
                    return Ok(());
                }
                commits += 1;
                window.add(body, lsn.0, |_| ())?;
                if window.weight() >= self.limit { window.apply(pool, applier, names) } else { Ok(()) }
            });
            replayed.map_err(super::wal_error)??;
            window.apply(pool, applier, names)?;
        }
        pool.store().release_unclaimed(pool.epoch());
        Ok(commits)
    }
}

/// Room for pages that these may make dirty, if it can be had. On a full disk the estimate may be above what there is; but the
/// commits had room when they were made, and if others have taken it since, a page can't be written and opening ends with that.
pub(super) fn promise(pool: &EnginePool, operations: u64, bytes: usize) -> Result<Option<crate::store::Promise<'_>>> {
    let filled = 2 * (bytes / (pool.page_size() / 2)) as u64;
    match pool.store().promise(operations + filled + 16, || pool.dirty_pages(), Draw::Checkpoint) {
        Ok(promise) => Ok(Some(promise)),
        Err(Error::NoSpace { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}
