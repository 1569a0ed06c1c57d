//! The deterministic scheduler: runs a program's threads one at a time, in an order that a seed decides.
//!
//! A run ([`simulate`]) starts with one thread; those it starts with [`spawn`](crate::sync::spawn) belong to it as well. Every
//! call of [`sync`](crate::sync) and of a simulated disk is a scheduling point, where the seed chooses what comes next: any
//! thread that can run, or the completion of any transfer in flight; if there is neither, the clock moves to the next thread's
//! time. If nothing at all can happen, the run fails and tells which thread waits where.
//!
//! 1. The same program and seed give the same run ([`Outcome::trace`] hashes every choice).
//! 2. A mutex excludes, as in production; waits may end for no reason, and now and then do.
//! 3. When the first thread returns, or the run fails, the threads left are unwound (a panic that nobody sees), so that
//!    locks, files and buffers are given back. Threads that can't be unwound (a destructor waits for ever) are abandoned.
//! 4. The threads of a run wait only for each other and only here: a lock held by a thread outside looks like a deadlock, and
//!    a thread that waits in any other way (a channel, a lock of `std`) holds up the whole run.
//! 5. Simulated threads run on threads of the operating system that are used again: a thread-local value set in one run may
//!    be seen in the next.
//!
//! Not simulated: weak memory (a run is sequentially consistent), threads that loop without a scheduling point.

mod context;
mod handle;
mod panics;
pub(crate) mod rng;
mod scheduler;
mod state;
#[cfg(test)]
mod tests;
mod worker;

use crate::Error;
use crate::sync::Panicked;
use parking_lot::Mutex;
use scheduler::Scheduler;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use context::{simulated, with};
pub(crate) use handle::Handle;
pub use worker::bind;

/// What a simulated thread waits for. Keys are addresses; they are compared and decide nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    Mutex(usize),
    Condvar(usize),
    Park(usize),
    Join(usize),
    Sleep,
    Io(usize),
}

/// Something that has transfers in flight which the scheduler may complete.
pub(crate) trait Device: Send + Sync {
    /// How many.
    fn in_flight(&self) -> usize;
    /// Completes one of them, by its place, and wakes who waits for it. Runs in a simulated thread; no scheduling point.
    fn complete(&self, nth: usize);
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides every choice.
    pub seed: u64,
    /// How many choices a run may take; more is [`Failure::TooManySteps`]: some thread turns in circles.
    pub steps_max: u64,
}

impl Options {
    /// A run of `seed` with at most five million steps.
    pub fn new(seed: u64) -> Options {
        Options { seed, steps_max: 5_000_000 }
    }
}

/// Why a run failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// A thread panicked. The others went on.
    #[error("{0}")]
    Panicked(Panicked),
    /// No thread could run, no time was awaited, no transfer was in flight. The text tells who waits where.
    #[error("deadlock: {0}")]
    Deadlock(String),
    /// The run took more than [`Options::steps_max`] steps. The text tells who stood where.
    #[error("too many steps: {0}")]
    TooManySteps(String),
    /// The operating system gave no thread to begin with.
    #[error("no thread: {0}")]
    NoThread(Error),
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// What the first thread returned, if it did.
    pub value: Option<T>,
    /// The first thing that went wrong in any thread.
    pub failure: Option<Failure>,
    /// The seed.
    pub seed: u64,
    /// How many choices were made.
    pub steps: u64,
    /// A hash over all choices: equal for equal runs.
    pub trace: u64,
    /// The simulated time at the end.
    pub clock: Duration,
    /// The names of the threads that had not ended when the first one returned; they were unwound.
    pub left: Vec<String>,
    /// How many threads could not even be unwound.
    pub abandoned: usize,
}

impl<T> Outcome<T> {
    /// What the first thread returned.
    ///
    /// # Panics
    /// Where the run failed, with its seed and report.
    #[track_caller]
    #[expect(clippy::panic, reason = "for tests: the one call that turns a failed run into a failed test")]
    pub fn expect(self, what: &str) -> T {
        match (self.value, self.failure) {
            (Some(value), None) => value,
            (_, Some(failure)) => panic!("{what}: seed {}: {failure}", self.seed),
            (None, None) => panic!("{what}: seed {}: the first thread did not return", self.seed),
        }
    }
}

/// Runs `f` as the first thread of a simulation and returns when every thread of it has ended.
///
/// # Panics
/// Where the caller is a simulated thread itself.
pub fn simulate<T: Send + 'static>(options: &Options, f: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    assert!(!simulated(), "a simulation inside a simulation");
    panics::install_hook();
    let scheduler = Scheduler::new(options);
    let value = Arc::new(Mutex::new(None));
    let returned = value.clone();
    let first = Box::new(move || {
        let value = f();
        *returned.lock() = Some(value);
    });
    match scheduler.add("main", first) {
        Ok(_) => scheduler.run(),
        Err(e) => {
            let error = Error::from_io(crate::Op::Thread, "main".as_ref(), None, &e);
            scheduler.state.lock().failure = Some(Failure::NoThread(error));
        }
    }
    let value = value.lock().take();
    outcome(&scheduler, value)
}

fn outcome<T>(scheduler: &Scheduler, value: Option<T>) -> Outcome<T> {
    let mut state = scheduler.state.lock();
    let devices = std::mem::take(&mut state.devices);
    let outcome = Outcome {
        value,
        failure: state.failure.take(),
        seed: state.seed,
        steps: state.steps,
        trace: state.trace,
        clock: state.clock,
        left: std::mem::take(&mut state.left),
        abandoned: state.alive.len(),
    };
    // A device may be freed here, and what its transfers own: not under the lock.
    drop(state);
    drop(devices);
    outcome
}
