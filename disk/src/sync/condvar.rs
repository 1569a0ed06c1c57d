//! Waiting under a mutex until told.

use super::MutexGuard;
use std::time::Duration;

/// A place to wait at for a change of what a mutex protects. Waits at one condition variable all use the same mutex.
#[derive(Default, Debug)]
pub struct Condvar {
    inner: parking_lot::Condvar,
}

impl Condvar {
    /// One that nobody waits at.
    pub const fn new() -> Condvar {
        Condvar { inner: parking_lot::Condvar::new() }
    }

    /// Gives the lock back, waits to be notified, and takes the lock again. May return without a notification.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.inner.wait(&mut guard.inner);
    }

    /// Like [`wait`](Self::wait), for `timeout` at most; gives whether that time has passed without a notification.
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> bool {
        self.inner.wait_for(&mut guard.inner, timeout).timed_out()
    }

    /// Wakes one thread that waits, if any does.
    pub fn notify_one(&self) {
        self.inner.notify_one();
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        self.inner.notify_all();
    }
}
