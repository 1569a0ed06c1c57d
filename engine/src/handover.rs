//! A queue from one thread to another: who gives waits where much is waiting, who takes waits where nothing is.
//!
//! 1. What is given is taken in that order, each thing once. What waits is bounded by its weight, or is one thing.
//! 2. However the giver ends, by a panic too, the taker is told, after everything that was given; however the taker ends, the giver is
//!    told when it gives the next thing, which is dropped.

use ashlar_disk::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// The weight of what may wait.
    at_most: usize,
}

#[derive(Debug)]
struct State<T> {
    /// Each with its weight.
    waiting: VecDeque<(T, usize)>,
    weight: usize,
    /// The giver is gone.
    over: bool,
    /// The taker is gone.
    stopped: bool,
}

impl<T> Queue<T> {
    fn set(&self, change: impl FnOnce(&mut State<T>)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

/// What the taker finds.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Next<T> {
    /// The next thing.
    Given(T),
    /// Nothing yet.
    Nothing,
    /// Nothing, and the giver is gone.
    Over,
}

/// Whoever gives.
#[derive(Debug)]
pub(crate) struct Giver<T>(Arc<Queue<T>>);

/// Whoever takes.
#[derive(Debug)]
pub(crate) struct Taker<T>(Arc<Queue<T>>);

/// Both ends of a queue in which things of the weight `at_most` may wait.
pub(crate) fn queue<T>(at_most: usize) -> (Giver<T>, Taker<T>) {
    let state = State { waiting: VecDeque::new(), weight: 0, over: false, stopped: false };
    let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new(), at_most });
    (Giver(queue.clone()), Taker(queue))
}

impl<T> Giver<T> {
    /// Hands something over, waiting for room. False: nothing is wanted any more.
    pub(crate) fn give(&self, thing: T, weight: usize) -> bool {
        let mut state = self.0.state.lock();
        while !state.stopped && !state.waiting.is_empty() && state.weight.saturating_add(weight) > self.0.at_most {
            self.0.changed.wait(&mut state);
        }
        if !state.stopped {
            state.weight += weight;
            state.waiting.push_back((thing, weight));
            self.0.changed.notify_all();
        }
        !state.stopped
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.set(|state| state.over = true);
    }
}

impl<T> Taker<T> {
    /// The next thing; where `wait` is set it waits for it.
    pub(crate) fn next(&self, wait: bool) -> Next<T> {
        let mut state = self.0.state.lock();
        loop {
            match state.waiting.pop_front() {
                Some((thing, weight)) => {
                    state.weight -= weight;
                    self.0.changed.notify_all();
                    return Next::Given(thing);
                }
                None if state.over => return Next::Over,
                None if !wait => return Next::Nothing,
                None => self.0.changed.wait(&mut state),
            }
        }
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut unwanted = VecDeque::new();
        self.0.set(|state| {
            state.stopped = true;
            unwanted = std::mem::take(&mut state.waiting);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    #[test]
    fn things_come_in_order_each_once_and_then_the_end() {
        let (giver, taker) = queue(25);
        let thread = std::thread::spawn(move || (0..500).filter(|&i| giver.give(i, 10)).count());
        let mut seen = Vec::new();
        while let Next::Given(i) = taker.next(true) {
            seen.push(i);
        }
        assert!(seen.into_iter().eq(0..500));
        assert_eq!(thread.join().unwrap(), 500);
    }

    #[test]
    fn what_waits_is_bounded_but_for_one_thing() {
        let (giver, taker) = queue(30);
        let given = Arc::new(AtomicUsize::new(0));
        let counted = given.clone();
        let thread = std::thread::spawn(move || {
            for weight in [10, 10, 10, 10, 100, 10] {
                giver.give(weight, weight);
                counted.fetch_add(1, Relaxed);
            }
        });
        // The heavy one waits until nothing else does, and the one behind until it is taken.
        for expected in [3, 4, 4, 4, 5, 6] {
            while given.load(Relaxed) < expected {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(given.load(Relaxed), expected);
            assert!(matches!(taker.next(true), Next::Given(_)));
        }
        thread.join().unwrap();
        assert_eq!(taker.next(false), Next::Over);
    }

    #[test]
    fn each_is_told_when_the_other_is_gone() {
        let (giver, taker) = queue(10);
        assert_eq!(taker.next(false), Next::Nothing);
        let token = Arc::new(());
        assert!(giver.give(token.clone(), 10));
        // It waits for room when the taker goes.
        let told = token.clone();
        let thread = std::thread::spawn(move || giver.give(told, 10));
        std::thread::sleep(Duration::from_millis(20));
        drop(taker);
        assert!(!thread.join().unwrap());
        assert_eq!(Arc::strong_count(&token), 1, "what waited is dropped");

        let (giver, taker) = queue::<()>(10);
        let thread = std::thread::spawn(move || {
            let _giver = giver;
            panic!("on purpose");
        });
        assert_eq!(taker.next(true), Next::Over);
        assert!(thread.join().is_err());
    }
}
