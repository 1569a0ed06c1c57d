//! A thread of a bulk load: it does one step of the work with each thing that it is given.
//!
//! 1. Things are taken in the order in which they are given, and few of them wait.
//! 2. What the thread works on comes back when it ends, or the error at which it did. What still waited then is dropped.
//! 3. No thread is left when a [`Stage`] is gone, however that ends.

use crate::database::Shared;
use crate::error::{Error, Result};
use crate::handover::{self, Giver, Next};
use ashlar_disk::sync::{JoinHandle, Mutex, spawn};
use std::sync::Arc;

/// Things that may wait, but for a lighter one more.
const WAITING: usize = 2;

/// See the module. It is given `T`s and works on an `S`.
pub(super) struct Stage<T, S> {
    /// Until the thread is to end.
    giver: Option<Giver<T>>,
    handle: Option<JoinHandle>,
    outcome: Arc<Mutex<Option<Result<S>>>>,
}

impl<T: Send + 'static, S: Send + 'static> Stage<T, S> {
    /// Starts the thread `name`, for things of the weight `weight` each, about.
    ///
    /// # Errors
    /// There can be no thread; `work` is dropped.
    pub(super) fn start(
        name: &str,
        weight: usize,
        mut work: S,
        mut step: impl FnMut(&mut S, T) -> Result<()> + Send + 'static,
    ) -> Result<Stage<T, S>> {
        let (giver, taker) = handover::queue::<T>(WAITING * weight);
        let outcome: Arc<Mutex<Option<Result<S>>>> = Arc::default();
        let told = outcome.clone();
        let handle = spawn(name, move || {
            let mut done = Ok(());
            while done.is_ok()
                && let Next::Given(thing) = taker.next(true)
            {
                done = step(&mut work, thing);
            }
            *told.lock() = Some(done.map(|()| work));
        })?;
        Ok(Stage { giver: Some(giver), handle: Some(handle), outcome })
    }
}

impl<T, S> Stage<T, S> {
    /// Hands something over, waiting for room. False: nothing is taken any more, and [`Stage::end`] says why.
    pub(super) fn give(&self, thing: T, weight: usize) -> bool {
        self.giver.as_ref().is_some_and(|giver| giver.give(thing, weight))
    }

    /// Waits until everything that was given is done.
    ///
    /// # Errors
    /// Of the first step that failed; `panicked`, where one did.
    pub(super) fn end(mut self, panicked: impl FnOnce() -> Error) -> Result<S> {
        self.join();
        let outcome = self.outcome.lock().take();
        outcome.unwrap_or_else(|| Err(panicked()))
    }

    fn join(&mut self) {
        self.giver = None;
        // A panic has been told; that there is no outcome says the rest.
        let _ = self.handle.take().map(JoinHandle::join);
    }
}

impl<T, S> Drop for Stage<T, S> {
    fn drop(&mut self) {
        self.join();
    }
}

/// Stops the database: the thread of a stage has not told why it takes nothing any more.
pub(super) fn gone(shared: &Shared) -> Error {
    shared.fail_now("a thread of a bulk load has panicked: see what it said".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds up numbers; 13 fails, 99 panics.
    fn adder() -> Stage<u64, Vec<u64>> {
        let step = |seen: &mut Vec<u64>, number| {
            assert_ne!(number, 99, "on purpose");
            seen.push(number);
            if number == 13 { Err(Error::NoSuchKeyspace { name: "13".into() }) } else { Ok(()) }
        };
        Stage::start("ashlar-test", 1, Vec::new(), step).unwrap()
    }

    fn panicked() -> Error {
        Error::NoSuchKeyspace { name: "panicked".into() }
    }

    fn name_of(outcome: Result<Vec<u64>>) -> String {
        match outcome {
            Err(Error::NoSuchKeyspace { name }) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_is_done_in_its_order_before_the_end() {
        let stage = adder();
        assert!((0..10).chain(20..90).all(|number| stage.give(number, 1)));
        assert_eq!(stage.end(panicked).unwrap(), (0..10).chain(20..90).collect::<Vec<_>>());
    }

    #[test]
    fn after_an_error_nothing_is_taken_and_the_end_tells_it() {
        let stage = adder();
        let taken = (0..1000).filter(|&number| stage.give(number, 1)).count();
        assert!((14..=14 + WAITING).contains(&taken), "{taken}");
        assert_eq!(name_of(stage.end(panicked)), "13");
    }

    #[test]
    fn of_a_panic_the_end_says_that_there_was_one() {
        let stage = adder();
        assert!(stage.give(99, 1));
        assert_eq!(name_of(stage.end(panicked)), "panicked");
    }

    #[test]
    fn what_a_thread_works_on_is_gone_with_its_stage() {
        let token = Arc::new(());
        let (held, waits) = (token.clone(), token.clone());
        let stage = Stage::start("ashlar-test", 1, held, |_, _: Arc<()>| Ok(())).unwrap();
        assert!(stage.give(waits, 1));
        drop(stage);
        assert_eq!(Arc::strong_count(&token), 1);
    }
}
