//! Looks at a run from the side: when checkpoints were, and how far it is, for whoever waits at a terminal.
//!
//! The engine's counters are read every few milliseconds. A checkpoint has ended where one more is counted, to within that time; how
//! long it took the engine says itself. One that is not over with the run is not seen.

use super::run::Tally;
use crate::error::Result;
use crate::progress::Progress;
use crate::units::rate;
use ashlar_disk::sync::{Condvar, JoinHandle, Mutex, now, spawn};
use ashlardb::Database;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(10);
/// Looks for each time that the bar is drawn.
const LOOKS_A_BAR: u32 = 10;

/// Checkpoints, since the beginning of the run. Almost always one; where several have ended between two looks, they are told together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Checkpoints {
    pub(super) count: u64,
    pub(super) begin: Duration,
    pub(super) end: Duration,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// It ends after this time.
    Time(Duration),
    /// It ends after so many entries.
    Entries(u64),
    /// It can't be told.
    Unknown,
}

/// What is shown of it.
pub(super) struct Live {
    name: String,
    goal: Goal,
    progress: Progress,
}

impl Live {
    pub(super) fn new(out: &crate::output::Output, name: &str, goal: Goal) -> Live {
        let total = match goal {
            Goal::Time(limit) => Some(limit.as_secs_f64().ceil() as u64),
            Goal::Entries(n) => Some(n),
            Goal::Unknown => None,
        };
        Live { name: name.to_owned(), goal, progress: Progress::new(out, name.to_owned(), total) }
    }

    fn show(&mut self, since: Duration, tally: &Tally) {
        let (operations, entries) = tally.sum();
        let done = match self.goal {
            Goal::Time(_) => since.as_secs(),
            Goal::Entries(_) => entries,
            Goal::Unknown => operations,
        };
        let per_second = operations as f64 / since.as_secs_f64().max(1e-9);
        self.progress.now_at(done, || format!("{}, {}/s", self.name, rate(per_second)));
    }
}

/// A thread that looks. It holds the database open, and ends with this.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle>,
}

#[derive(Default)]
struct Shared {
    is_over: Mutex<bool>,
    changed: Condvar,
    seen: Mutex<Vec<Checkpoints>>,
}

impl Watch {
    /// Looks at a run that begins at `start`.
    pub(super) fn start(db: &Database, start: Duration, tally: Arc<Tally>, mut live: Live) -> Result<Watch> {
        let shared = Arc::new(Shared::default());
        let (theirs, db) = (shared.clone(), db.clone());
        let mut counted = Counted::of(&db);
        let thread = spawn("bench-watch", move || {
            for look in 1u32.. {
                let is_over = theirs.wait();
                let since = now() - start;
                theirs.seen.lock().extend(counted.next(Counted::of(&db), since));
                if is_over {
                    return;
                }
                if look.is_multiple_of(LOOKS_A_BAR) {
                    live.show(since, &tally);
                }
            }
        })?;
        Ok(Watch { shared, thread: Some(thread) })
    }

    /// The run is over: the checkpoints that ended meanwhile.
    pub(super) fn finish(mut self) -> Result<Vec<Checkpoints>> {
        self.end()?;
        Ok(std::mem::take(&mut self.shared.seen.lock()))
    }

    fn end(&mut self) -> Result<()> {
        *self.shared.is_over.lock() = true;
        self.shared.changed.notify_all();
        Ok(self.thread.take().map_or(Ok(()), JoinHandle::join)?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The run has failed, and says why.
        let _ = self.end();
    }
}

impl Shared {
    /// Waits until it is time to look; whether it is for the last time.
    fn wait(&self) -> bool {
        let mut is_over = self.is_over.lock();
        if !*is_over {
            self.changed.wait_for(&mut is_over, EVERY);
        }
        *is_over
    }
}

/// The engine's counters.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    checkpoints: u64,
    time: Duration,
}

impl Counted {
    fn of(db: &Database) -> Counted {
        let stats = db.stats();
        Counted { checkpoints: stats.checkpoints, time: stats.checkpoint_time }
    }

    /// What has ended since the look before, if anything has.
    fn next(&mut self, now: Counted, since: Duration) -> Option<Checkpoints> {
        let before = std::mem::replace(self, now);
        let count = now.checkpoints - before.checkpoints;
        let begin = since.saturating_sub(now.time.saturating_sub(before.time));
        (count > 0).then_some(Checkpoints { count, begin, end: since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_seen_once_with_its_beginning() {
        let ms = Duration::from_millis;
        let mut counted = Counted { checkpoints: 3, time: ms(500) };
        assert_eq!(counted.next(Counted { checkpoints: 3, time: ms(500) }, ms(10)), None);
        let now = Counted { checkpoints: 4, time: ms(530) };
        assert_eq!(counted.next(now, ms(100)), Some(Checkpoints { count: 1, begin: ms(70), end: ms(100) }));
        assert_eq!(counted.next(now, ms(110)), None);
        // Begun before the run.
        let last = Counted { checkpoints: 6, time: ms(900) };
        assert_eq!(counted.next(last, ms(120)), Some(Checkpoints { count: 2, begin: Duration::ZERO, end: ms(120) }));
    }

    #[test]
    fn checkpoints_of_a_database_are_seen_by_the_thread() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::options().cache_size(4 << 20).io_mode(ashlardb::IoMode::Buffered).open(dir.path().join("db")).unwrap();
        let out = crate::output::Output::new(true);
        let before = db.stats().checkpoints;
        let watch = Watch::start(&db, now(), Arc::new(Tally::new(1)), Live::new(&out, "x", Goal::Unknown)).unwrap();
        db.keyspace("k").unwrap().insert(b"a", b"b").unwrap();
        db.checkpoint().unwrap();
        let seen = watch.finish().unwrap();
        assert_eq!(seen.iter().map(|c| c.count).sum::<u64>(), db.stats().checkpoints - before);
        assert!(!seen.is_empty() && seen.iter().all(|c| c.begin < c.end));
    }
}
