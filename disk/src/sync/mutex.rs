//! Mutual exclusion.

use super::simulation::{self, Wait};
use std::ops::{Deref, DerefMut};
use std::panic::Location;

/// A lock around a value: one byte beside it, no poisoning.
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    inner: parking_lot::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A lock around `value`, not taken.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { inner: parking_lot::Mutex::new(value) }
    }

    /// The value, where nobody else has the lock any more.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting for it. Taking it twice in one thread waits for ever (a simulation reports it).
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if simulation::simulated() {
            return self.lock_simulated(Location::caller());
        }
        self.guard(self.inner.lock())
    }

    /// Takes the lock if nobody has it.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        if simulation::simulated() {
            return self.try_lock_simulated(Location::caller());
        }
        Some(self.guard(self.inner.try_lock()?))
    }

    /// The value; `&mut self` proves that nobody has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>().addr()
    }

    fn guard<'a>(&'a self, inner: parking_lot::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { inner, released: Released { key: self.key() } }
    }

    #[cold]
    fn lock_simulated(&self, place: &'static Location<'static>) -> MutexGuard<'_, T> {
        let inner = simulation::with(|context| {
            context.switch(place);
            loop {
                if let Some(inner) = self.inner.try_lock() {
                    context.took_mutex(self.key());
                    return inner;
                }
                context.block(Wait::Mutex(self.key()), None, place);
            }
        });
        self.guard(inner)
    }

    #[cold]
    fn try_lock_simulated(&self, place: &'static Location<'static>) -> Option<MutexGuard<'_, T>> {
        let inner = simulation::with(|context| {
            context.switch(place);
            let inner = self.inner.try_lock()?;
            context.took_mutex(self.key());
            Some(inner)
        });
        Some(self.guard(inner?))
    }
}

impl<T: ?Sized + std::fmt::Debug> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

/// The right to a mutex's value, given back when dropped.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    // The order matters: fields are dropped in it, so the lock is free when `released` tells a simulation.
    pub(super) inner: parking_lot::MutexGuard<'a, T>,
    pub(super) released: Released,
}

/// Tells a simulation, when dropped, that a mutex has been given back.
pub(super) struct Released {
    pub(super) key: usize,
}

impl Drop for Released {
    #[inline]
    fn drop(&mut self) {
        if simulation::simulated() {
            released_simulated(self.key);
        }
    }
}

#[cold]
fn released_simulated(key: usize) {
    simulation::with(|context| {
        context.released_mutex(key);
        context.switch(Location::caller());
    });
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + std::fmt::Debug> std::fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}
