//! The log read and taken apart by a thread of its own, beside the one that applies it.
//!
//! 1. Parts come in the order of the log, each once. What waits to be taken is bounded by its weight.
//! 2. Whatever ends the reader, a panic too, the taker is told; whatever ends the taker, the reader stops at its next part.
//! 3. Where the engine may have no threads, the reader runs in the caller's, and each part is taken at once.

use super::part::Part;
use crate::Background;
use crate::error::{Error, Result};
use crate::handover::{self, Next, Taker};
use ashlar_disk::sync::{JoinHandle, Mutex, spawn};
use std::sync::Arc;

/// What the reader hands over.
pub(super) enum Given {
    /// The next part.
    Part(Part),
    /// There is no further one. The reader may go on to find out whether there should have been.
    Last,
}

impl Given {
    fn weight(&self) -> usize {
        if let Given::Part(part) = self { part.weight } else { 0 }
    }
}

/// Whoever takes parts, and the reader, which is told when this goes, and waited for.
struct Taking {
    parts: Option<Taker<Given>>,
    reader: Option<JoinHandle>,
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.parts = None;
        // What it panicked with has been told; without an outcome of its own the caller finds that out.
        let _ = self.reader.take().map(|reader| reader.join());
    }
}

/// Runs `read`, and gives what it gives. What it hands over, until it is told to stop, goes to `take`; while nothing is there `idle` is
/// called, as long as it says that there is more to do. Parts that wait have at most this weight, or are one.
///
/// # Errors
/// Of `take`; that of starting a thread; a panic of the reader.
pub(super) fn beside<T: Send + 'static>(
    background: Background,
    at_most: usize,
    read: impl FnOnce(&mut dyn FnMut(Given) -> bool) -> T + Send + 'static,
    mut take: impl FnMut(Given) -> Result<()>,
    mut idle: impl FnMut() -> bool,
) -> Result<T> {
    if background == Background::Manual {
        let mut taken = Ok(());
        let outcome = read(&mut |given| {
            if taken.is_ok() {
                taken = take(given);
            }
            taken.is_ok()
        });
        return taken.map(|()| outcome);
    }
    let (giver, taker) = handover::queue(at_most);
    let outcome: Arc<Mutex<Option<T>>> = Arc::default();
    let told = outcome.clone();
    let reader = spawn("ashlar-replay", move || {
        // With the closure the giver goes, when the outcome is told.
        let giver = giver;
        let outcome = read(&mut |given: Given| {
            let weight = given.weight();
            giver.give(given, weight)
        });
        *told.lock() = Some(outcome);
    })?;
    let taking = Taking { parts: Some(taker), reader: Some(reader) };
    let mut busy = true;
    while let Some(parts) = &taking.parts {
        match parts.next(!busy) {
            Next::Given(given) => {
                take(given)?;
                busy = true;
            }
            Next::Nothing => busy = idle(),
            Next::Over => break,
        }
    }
    drop(taking);
    let outcome = outcome.lock().take();
    outcome.ok_or_else(|| Error::WalCorrupted { detail: "the thread that read it has panicked: see what it said".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    fn part(commits: u64, weight: usize) -> Given {
        Given::Part(Part { commits, weight, ..Part::default() })
    }

    fn number(given: &Given) -> u64 {
        if let Given::Part(part) = given { part.commits } else { u64::MAX }
    }

    #[test]
    fn all_parts_come_in_order_with_and_without_a_thread() {
        for background in [Background::Threads, Background::Manual] {
            let mut seen = Vec::new();
            let read = |give: &mut dyn FnMut(Given) -> bool| {
                let given = (0..500).filter(|&i| give(part(i, 10))).count();
                give(Given::Last);
                given
            };
            let taken = |given: Given| {
                seen.push(number(&given));
                Ok(())
            };
            assert_eq!(beside(background, 25, read, taken, || false).unwrap(), 500);
            assert!(seen.into_iter().eq((0..500).chain([u64::MAX])), "{background:?}");
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let (given, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, mut taken) = (given.clone(), 0);
        let read = move |give: &mut dyn FnMut(Given) -> bool| {
            for i in 0..300 {
                counted.fetch_add(1, Relaxed);
                give(part(i, 10));
            }
        };
        let take = |_: Given| {
            std::thread::sleep(std::time::Duration::from_micros(100));
            most.fetch_max(given.load(Relaxed) - taken, Relaxed);
            taken += 1;
            Ok(())
        };
        beside(Background::Threads, 30, read, take, || false).unwrap();
        // Three that wait, the one that is taken, and the one that waits for room.
        assert!((2..=5).contains(&most.load(Relaxed)), "{}", most.load(Relaxed));
    }

    #[test]
    fn a_taker_that_fails_stops_the_reader() {
        for background in [Background::Threads, Background::Manual] {
            let given = Arc::new(AtomicUsize::new(0));
            let counted = given.clone();
            let read = move |give: &mut dyn FnMut(Given) -> bool| {
                while give(part(0, 10)) {
                    counted.fetch_add(1, Relaxed);
                }
            };
            let outcome = beside(background, 10, read, |_| Err(Error::Conflict), || false);
            assert!(matches!(outcome, Err(Error::Conflict)), "{background:?}");
            assert!(given.load(Relaxed) <= 2, "{background:?}");
        }
    }

    #[test]
    fn a_reader_that_panics_is_told() {
        let read = |give: &mut dyn FnMut(Given) -> bool| {
            give(part(0, 1));
            panic!("on purpose");
        };
        let outcome: Result<()> = beside(Background::Threads, 10, read, |_| Ok(()), || false);
        assert!(outcome.is_err_and(|e| e.to_string().contains("panicked")));
    }

    #[test]
    fn an_idle_taker_has_something_to_do() {
        let called = Arc::new(AtomicUsize::new(0));
        let seen = called.clone();
        let read = move |give: &mut dyn FnMut(Given) -> bool| {
            while seen.load(Relaxed) < 5 {
                std::thread::yield_now();
            }
            give(Given::Last);
        };
        // As long as it says that there is more to do; and once more, perhaps, between the last part and the end.
        let idle = || called.fetch_add(1, Relaxed) < 4;
        beside(Background::Threads, 10, read, |_| Ok(()), idle).unwrap();
        assert!((5..=6).contains(&called.load(Relaxed)));
    }
}
