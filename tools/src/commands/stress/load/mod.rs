//! Works on a database with several threads as fast as it can, and tells what it does: what is killed, or has the power cut under it.
//!
//! Writers commit ([`writer`]), a reader looks whether every value is one that was written there, a keeper makes checkpoints, flushes
//! and compacts ([`others`]).

mod others;
mod writer;

pub(super) use others::findings;
pub(super) use writer::{SHARED, TURNS, account, mark};

use super::journal::{Event, Journal};
use super::ops::Shape;
use super::plan::{End, Lie, Plan};
use ashlardb::Database;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the threads share.
pub(super) struct Work<'a> {
    pub(super) db: &'a Database,
    journal: &'a Journal,
    seed: u64,
    life: u32,
    shape: Shape,
    lie: bool,
    stop: AtomicBool,
}

/// The child's part: does what its plan says. Returns when it was told to end by itself.
///
/// # Errors
/// Whatever goes wrong; nothing is expected to.
pub(super) fn run(plan: &Plan) -> Result<(), String> {
    let journal = plan.journal()?;
    let db = plan.open()?;
    journal.tell(Event::Opened { life: plan.life })?;
    match plan.end {
        End::Idle => {
            idle(&db)?;
            return Ok(());
        }
        // One that is not killed ends by itself some day, and at once if a thread of it fails.
        End::Killed => work(&db, plan, &journal, |work| work.rest(Duration::from_secs(600)))?,
        End::Close | End::Drop => work(&db, plan, &journal, |work| work.rest(Duration::from_millis(plan.millis)))?,
    }
    journal.tell(Event::Closing)?;
    if plan.end == End::Drop {
        drop(db);
    } else {
        db.close().map_err(|e| format!("close: {e}"))?;
    }
    journal.tell(Event::Closed)
}

/// Checkpoints of what recovery has found, until whoever holds stdin lets go of it.
fn idle(db: &Database) -> Result<(), String> {
    db.checkpoint().map_err(|e| format!("checkpoint after recovery: {e}"))?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map_err(|e| format!("stdin: {e}"))?;
    Ok(())
}

/// All threads at work, until `meanwhile` returns or one of them fails.
pub(super) fn work(db: &Database, plan: &Plan, journal: &Journal, meanwhile: impl FnOnce(&Work<'_>)) -> Result<(), String> {
    let shape = Shape::draw(plan.seed, plan.life, plan.size);
    let (seed, life, lie) = (plan.seed, plan.life, plan.lie == Some(Lie::Confirms));
    let work = &Work { db, journal, seed, life, shape, lie, stop: AtomicBool::new(false) };
    // What all of them use is made before, so that no thread meets it half-made.
    writer::prepare(work).map_err(|e| format!("preparing: {e}"))?;
    std::thread::scope(|scope| {
        let ended = |outcome: Result<(), String>| {
            if outcome.is_err() {
                work.stop.store(true, Ordering::Release);
            }
            outcome
        };
        let first = |writer: u8| plan.next.get(usize::from(writer)).copied().unwrap_or(1);
        let mut threads = Vec::new();
        for number in 0..shape.writers {
            threads.push(scope.spawn(move || ended(writer::run(work, number, first(number)))));
        }
        threads.push(scope.spawn(move || ended(others::read(work))));
        threads.push(scope.spawn(move || ended(others::keep(work, plan.manual()))));
        meanwhile(work);
        work.stop.store(true, Ordering::Release);
        let outcomes = threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())));
        outcomes.fold(Ok(()), Result::and)
    })
}

impl Work<'_> {
    /// Whether nobody has stopped it.
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// Sleeps, but not past the end.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.goes_on() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}
