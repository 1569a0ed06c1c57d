//! The watermark: the newest LSN that readers may see.
//!
//! Invariants:
//! 1. The watermark is the largest LSN such that every commit up to it is applied and has the durability it asked for. It only
//!    rises.
//! 2. Commits are told of in LSN order ([`Visibility::applied`], under the apply lock). Those that are applied and not yet
//!    visible stand in a queue; its front is what the watermark waits for. A commit that is found applied stands there or is visible,
//!    so that whoever then makes it durable makes it visible.

use ashlar_disk::sync::atomic::{AtomicU64, Ordering};
use ashlar_disk::sync::{Condvar, Mutex};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(crate) struct Visibility {
    watermark: AtomicU64,
    /// The newest LSN up to which everything is applied.
    applied: AtomicU64,
    /// The newest `Eventual` commit that has returned: whoever made it reads it, even where the watermark waits for an older one.
    own: AtomicU64,
    queue: Mutex<Queue>,
    raised: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// LSN, and whether it must be durable to be seen.
    applied: VecDeque<(u64, bool)>,
    durable: u64,
    waiters: usize,
    /// Nothing will be raised any more.
    stopped: bool,
}

impl Visibility {
    /// Everything up to `lsn` is applied and durable.
    pub(crate) fn new(lsn: u64) -> Visibility {
        Visibility {
            watermark: AtomicU64::new(lsn),
            applied: AtomicU64::new(lsn),
            own: AtomicU64::new(lsn),
            queue: Mutex::new(Queue { durable: lsn, ..Queue::default() }),
            raised: Condvar::new(),
        }
    }

    /// The newest LSN that readers may see.
    pub(crate) fn watermark(&self) -> u64 {
        // Acquire: pairs with the Release in `raise`; who sees the LSN sees what its commit has written.
        self.watermark.load(Ordering::Acquire)
    }

    /// The newest LSN up to which everything is applied.
    pub(crate) fn newest_applied(&self) -> u64 {
        // Acquire: pairs with the Release in `applied`; who sees the LSN sees what its commit has written.
        self.applied.load(Ordering::Acquire)
    }

    /// An `Eventual` commit returns.
    pub(crate) fn note_own(&self, lsn: u64) {
        if lsn > self.watermark() {
            self.own.fetch_max(lsn, Ordering::AcqRel);
        }
    }

    /// The newest commit whose maker expects to read it.
    pub(crate) fn own(&self) -> u64 {
        self.own.load(Ordering::Acquire)
    }

    /// The commit `lsn` has been applied; all before it have been told of.
    pub(crate) fn applied(&self, lsn: u64, must_be_durable: bool) {
        let mut queue = self.queue.lock();
        queue.applied.push_back((lsn, must_be_durable));
        // Only now: whoever finds its commit applied, and makes it durable, must find it in the queue, or it would return before the
        // watermark has passed it.
        self.applied.store(lsn, Ordering::Release);
        self.raise(&mut queue);
    }

    /// Every commit up to `lsn` is durable.
    pub(crate) fn durable(&self, lsn: u64) {
        let mut queue = self.queue.lock();
        queue.durable = queue.durable.max(lsn);
        self.raise(&mut queue);
    }

    fn raise(&self, queue: &mut Queue) {
        let mut newest = None;
        while let Some(&(lsn, must_be_durable)) = queue.applied.front() {
            if must_be_durable && lsn > queue.durable {
                break;
            }
            newest = Some(lsn);
            queue.applied.pop_front();
        }
        if let Some(lsn) = newest {
            debug_assert!(lsn >= self.watermark.load(Ordering::Relaxed), "the watermark would fall to {lsn}");
            self.watermark.store(lsn, Ordering::Release);
            if queue.waiters > 0 {
                self.raised.notify_all();
            }
        }
    }

    /// Waits until `lsn` may be seen. False: it never will be (see [`Visibility::stop`]).
    pub(crate) fn wait(&self, lsn: u64) -> bool {
        if self.watermark() >= lsn {
            return true;
        }
        let mut queue = self.queue.lock();
        queue.waiters += 1;
        while self.watermark() < lsn && !queue.stopped {
            self.raised.wait(&mut queue);
        }
        queue.waiters -= 1;
        self.watermark() >= lsn
    }

    /// The database has failed: what is not visible now never will be. Wakes all who wait.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.raised.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::sync::{simulate, simulation, spawn, yield_point};
    use std::sync::Arc;

    #[test]
    fn the_watermark_waits_for_the_first_that_is_not_durable() {
        let v = Visibility::new(10);
        v.applied(20, false);
        assert_eq!(v.watermark(), 20);
        v.applied(30, true);
        v.applied(40, false);
        assert_eq!(v.watermark(), 20);
        v.durable(29);
        assert_eq!(v.watermark(), 20);
        v.durable(30);
        assert_eq!(v.watermark(), 40);
        v.durable(100);
        v.applied(50, true);
        assert_eq!(v.watermark(), 50);
    }

    #[test]
    fn what_is_found_applied_and_is_then_made_durable_is_visible() {
        for seed in 0..200 {
            let outcome = simulate(&simulation::Options::new(seed), || {
                let v = Arc::new(Visibility::new(10));
                let other = v.clone();
                let applier = spawn("applier", move || other.applied(20, true)).unwrap();
                while v.newest_applied() < 20 {
                    yield_point();
                }
                v.durable(20);
                assert_eq!(v.watermark(), 20);
                applier.join().unwrap();
            });
            outcome.expect("a commit that is applied and durable");
        }
    }

    #[test]
    fn a_stop_wakes_who_waits_in_vain() {
        let v = Visibility::new(1);
        v.stop();
        assert!(!v.wait(2));
        assert!(v.wait(1));
    }
}
