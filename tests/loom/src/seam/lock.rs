//! Stands in for `ashlar_disk::sync::{Mutex, Condvar}`.

use crate::mutation::{self, Mutated};
use std::ops::{Deref, DerefMut};

/// A lock around a value.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock around `value`, not taken.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    /// Takes the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("loom ends at the first panic")))
    }
}

/// The right to a mutex's value.
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("only taken out within a wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only taken out within a wait")
    }
}

/// A place to wait at.
#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    /// One that nobody waits at.
    pub fn new() -> Condvar {
        Condvar(loom::sync::Condvar::new())
    }

    /// Gives the lock back, waits to be notified, and takes the lock again.
    #[track_caller]
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.0.take().expect("only taken out within a wait");
        guard.0 = Some(self.0.wait(inner).expect("loom ends at the first panic"));
    }

    /// Wakes all threads that wait.
    #[track_caller]
    pub fn notify_all(&self) {
        if mutation::here() == Mutated::No {
            self.0.notify_all();
        }
    }
}
