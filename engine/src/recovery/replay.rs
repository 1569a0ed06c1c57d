//! Replay: the commits that the log holds beyond the last checkpoint, applied again.
//!
//! In *windows* ([`window`](super::window)): the operations of many commits are gathered, sorted, the last one of each key kept, and applied
//! leaf by leaf ([`by_leaf`](super::by_leaf)), so that each leaf is read and changed once a window. All of a window bears the LSN of its last
//! commit, or of the operation on a range or a whole keyspace that it comes before: nobody reads before recovery is over, and no snapshot
//! outlives a restart.
//!
//! The log is read, checked and taken apart by a thread of its own, [`part`](super::part) by part ([`handover`](super::handover)); meanwhile
//! parts are sorted, and memory for the pages taken that they will need.
//!
//! The log's end must be found before anything is applied. What is met on the way there is gathered, as far as it fits one window
//! ([`Gathered`]): so the log is read once where it does, and what is behind that a second time.
//!
//! Where that is all, and nothing but puts and removals of keys, it may wait to be merged into the trees once the database is open
//! ([`Window::postpone`]).

use super::handover::{Given, beside};
use super::part::Part;
use super::window::Window;
use crate::bulk::Placed;
use crate::commit::apply::{Applier, Names};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::options::{Background, Options};
use crate::pages::EnginePool;
use crate::store::Draw;
use ashlar_wal::{LentRecord, LogScan, LogStart, Lsn, Met, Source};

/// Bytes of records in a part.
const PART: usize = 1 << 20;

/// Memory for pages that is taken while the log is read, in bytes, at most.
const TAKEN_MAX: usize = 64 << 20;

/// What the way to the log's end has shown of the commits beyond the checkpoint.
pub(super) struct Gathered {
    background: Background,
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
}

/// Writes of the log may wait to be merged into the trees.
pub(super) struct MayWait {
    /// The flush from which on the log is replayed.
    pub(super) from: u64,
    /// Bytes that they may take.
    pub(super) bytes_max: u64,
}

/// Takes records apart, and hands parts over.
struct Reader<'a> {
    part: Part,
    /// Bytes of records in a part.
    size: usize,
    /// The weight of all records taken.
    weight: usize,
    give: &'a mut dyn FnMut(Given) -> bool,
    outcome: Result<()>,
}

impl Reader<'_> {
    fn new(limit: usize, give: &mut dyn FnMut(Given) -> bool) -> Reader<'_> {
        let size = PART.min(limit);
        Reader { part: Part::with_room(size), size, weight: 0, give, outcome: Ok(()) }
    }

    /// Takes a record. False: no further one is wanted.
    fn add(&mut self, record: &LentRecord<'_>) -> bool {
        if !self.part.is_empty() && self.part.bodies.len() + record.body.len() > self.size && !self.flush() {
            return false;
        }
        let before = self.part.weight;
        let good = self.note(|part| part.add(record.body, record.lsn.0));
        self.weight += self.part.weight - before;
        good
    }

    /// Takes of a record only what it names of `data`.
    fn add_placed(&mut self, record: &LentRecord<'_>) {
        self.note(|part| part.add_placed(record.body, record.lsn.0));
    }

    fn note(&mut self, change: impl FnOnce(&mut Part) -> Result<()>) -> bool {
        if self.outcome.is_ok() {
            self.outcome = change(&mut self.part);
        }
        self.outcome.is_ok()
    }

    /// Hands over what there is.
    fn flush(&mut self) -> bool {
        let part = std::mem::replace(&mut self.part, Part::with_room(self.size));
        part.is_empty() || (self.give)(Given::Part(part))
    }

    /// There is no further record.
    fn last(&mut self) {
        let part = std::mem::take(&mut self.part);
        if part.is_empty() || (self.give)(Given::Part(part)) {
            (self.give)(Given::Last);
        }
    }
}

impl Gathered {
    /// Nothing.
    pub(super) fn none(options: &Options) -> Gathered {
        Gathered {
            background: options.background,
            limit: options.recovery_window_size(),
            window: Window::default(),
            commits: 0,
            last: 0,
            rest: None,
            placed: Vec::new(),
        }
    }

    /// Reads the log to its end, and gathers the commits beyond `in_checkpoint`, the LSN of the checkpoint's last.
    ///
    /// # Errors
    /// Those of reading, and then: a record that is whole and no commit.
    pub(super) fn read(
        source: Source,
        start: LogStart,
        in_checkpoint: u64,
        options: &Options,
        pool: &EnginePool,
    ) -> Result<(LogScan, Gathered)> {
        let mut gathered = Gathered::none(options);
        let (limit, from_cut) = (gathered.limit, options.fault.is(Fault::ReplayFromCut));
        let read = move |give: &mut dyn FnMut(Given) -> bool| {
            let mut reader = Reader::new(limit, give);
            let mut rest = None;
            let scan = source.read(&start, |met| {
                let Met::Record(record) = met else { return reader.last() };
                let beyond = record.lsn.0 > in_checkpoint;
                if !beyond && !from_cut {
                    return;
                }
                if rest.is_none() && reader.weight < limit {
                    reader.add(&record);
                    if !beyond {
                        reader.part.placed.clear();
                    }
                } else {
                    rest.get_or_insert(record.flush_start);
                    reader.add_placed(&record);
                }
            });
            (scan, reader.outcome, rest)
        };
        let pages = pool.store().space_use().pages;
        let (window, placed) = (&mut gathered.window, &mut gathered.placed);
        let points = std::cell::Cell::new(0);
        let take = |given| {
            match given {
                Given::Part(mut part) => {
                    placed.append(&mut part.placed);
                    gathered.commits += part.commits;
                    gathered.last = part.last.max(gathered.last);
                    window.add(part);
                    points.set(window.points() as u64);
                }
                Given::Last => window.merge(),
            }
            Ok(())
        };
        // Each operation needs a leaf at most, which is there already, or is one of few new ones. That many may be on the same leaves is
        // not known yet: hence a bound.
        let idle = || pool.take_memory((points.get().min(pages) as usize).min(TAKEN_MAX / pool.page_size()));
        let (scan, outcome, rest) = beside(gathered.background, usize::MAX, read, take, idle)?;
        let scan = scan.map_err(super::wal_error)?;
        outcome?;
        gathered.rest = rest;
        Ok((scan, gathered))
    }

    /// What of `data` the commits name: in use before anything is allocated.
    pub(super) fn placed(&mut self) -> Vec<Placed> {
        std::mem::take(&mut self.placed)
    }

    /// Applies the commits: those gathered, then those that did not fit, read from the log of `scan` again. Gives their number. Where all of
    /// them were gathered and are puts and removals of keys, they may wait (see [`Window::postpone`]).
    pub(super) fn replay(
        mut self,
        pool: &EnginePool,
        applier: &mut Applier,
        names: &Names,
        scan: &LogScan,
        may_wait: Option<MayWait>,
    ) -> Result<u64> {
        let (window, commits) = (&mut self.window, &mut self.commits);
        let may_wait = may_wait.filter(|_| self.rest.is_none());
        if !may_wait.is_some_and(|MayWait { from, bytes_max }| window.postpone(pool, applier, from, bytes_max)) {
            window.apply(pool, applier, names)?;
        }
        if let Some(from) = self.rest {
            let (scan, last, limit) = (scan.clone(), self.last, self.limit);
            let read = move |give: &mut dyn FnMut(Given) -> bool| {
                let mut reader = Reader::new(limit, give);
                let replayed = scan.each_record(from, |record| match record.lsn.0 <= last || reader.add(&record) {
                    true => Ok(()),
                    false => Err(()),
                });
                let replayed = replayed.map(|outcome| {
                    if outcome.is_ok() {
                        reader.last()
                    }
                });
                (replayed, reader.outcome)
            };
            let take = |given| {
                let Given::Part(part) = given else { return Ok(()) };
                *commits += part.commits;
                window.add(part);
                if window.weight() >= limit { window.apply(pool, applier, names) } else { Ok(()) }
            };
            let (replayed, outcome) = beside(self.background, limit / 2, read, take, || false)?;
            replayed.map_err(super::wal_error)?;
            outcome?;
            window.apply(pool, applier, names)?;
        }
        pool.store().release_unclaimed(pool.epoch());
        Ok(*commits)
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
