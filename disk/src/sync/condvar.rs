//! Waiting under a mutex until told.

use super::MutexGuard;
use super::simulation::{self, Wait};
use std::panic::Location;
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
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        if simulation::simulated() {
            self.wait_simulated(guard, None, Location::caller());
            return;
        }
        self.inner.wait(&mut guard.inner);
    }

    /// Like [`wait`](Self::wait), for `timeout` at most; gives whether that time has passed without a notification.
    #[track_caller]
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> bool {
        if simulation::simulated() {
            return self.wait_simulated(guard, Some(timeout), Location::caller());
        }
        self.inner.wait_for(&mut guard.inner, timeout).timed_out()
    }

    /// Wakes one thread that waits, if any does.
    #[track_caller]
    pub fn notify_one(&self) {
        if simulation::simulated() {
            let place = Location::caller();
            return simulation::with(|context| {
                context.switch(place);
                context.wake_one(Wait::Condvar(self.key()));
            });
        }
        self.inner.notify_one();
    }

    /// Wakes all threads that wait.
    #[track_caller]
    pub fn notify_all(&self) {
        if simulation::simulated() {
            let place = Location::caller();
            return simulation::with(|context| {
                context.switch(place);
                context.wake_all(Wait::Condvar(self.key()));
            });
        }
        self.inner.notify_all();
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[cold]
    fn wait_simulated<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Option<Duration>,
        place: &'static Location<'static>,
    ) -> bool {
        let mutex = parking_lot::MutexGuard::mutex(&guard.inner);
        let key = guard.released.key;
        simulation::with(|context| {
            context.switch(place);
            let for_no_reason = context.ends_for_no_reason();
            // What runs in here must not unwind while the mutex is another thread's: taking it back would stop the run for good.
            let timed_out = parking_lot::MutexGuard::unlocked(&mut guard.inner, || {
                context.released_mutex(key);
                let timed_out = if for_no_reason {
                    context.switch_quietly(place);
                    false
                } else {
                    context.block_quietly(Wait::Condvar(self.key()), timeout, place)
                };
                while mutex.is_locked() {
                    context.block_quietly(Wait::Mutex(key), None, place);
                }
                timed_out
            });
            context.took_mutex(key);
            context.unwind_if_over();
            timed_out
        })
    }
}
