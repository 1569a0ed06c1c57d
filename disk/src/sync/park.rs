//! Waiting on a key, for locks that have no room for a queue of their own (a latch in one word).
//!
//! 1. `validate` runs while the key's queue is locked: a waker that first changes what `validate` reads and then unparks never
//!    misses a thread that is about to park.
//! 2. Keys of users never meet those of locks: whatever the number, it is set apart from every address (see `key_of`).

use super::simulation::{self, Wait};
use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};

/// No address of user space has its top bit set on any system this crate runs on, so that a key never is a lock's address.
fn key_of(key: usize) -> usize {
    key | 1 << (usize::BITS - 1)
}

/// Parks the caller on `key` if `validate()` is true; returns when unparked, or for no reason.
///
/// `validate` must be short and must not call anything of [`sync`](crate::sync): it runs with the queue of `key` locked.
#[track_caller]
pub fn park(key: usize, validate: impl FnOnce() -> bool) {
    if simulation::simulated() {
        return park_simulated(key, validate, Location::caller());
    }
    let mut validate = Some(validate);
    let mut panic = None;
    let guarded = || {
        // Called once by `park`; a panic must not leave the queue locked and is passed on below.
        let Some(validate) = validate.take() else { return false };
        catch_unwind(AssertUnwindSafe(validate)).unwrap_or_else(|payload| {
            panic = Some(payload);
            false
        })
    };
    // SAFETY: the key is no address, so it is nobody's but ours (2); `guarded` catches panics; the other closures are empty.
    unsafe {
        parking_lot_core::park(key_of(key), guarded, || {}, |_, _| {}, DEFAULT_PARK_TOKEN, None);
    }
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
}

fn park_simulated(key: usize, validate: impl FnOnce() -> bool, place: &'static Location<'static>) {
    simulation::with(|context| {
        context.switch(place);
        if validate() && !context.ends_for_no_reason() {
            context.block(Wait::Park(key), None, place);
        }
    });
}

/// Unparks every thread that is parked on `key`.
#[track_caller]
pub fn unpark_all(key: usize) {
    if simulation::simulated() {
        let place = Location::caller();
        return simulation::with(|context| {
            context.switch(place);
            context.wake_all(Wait::Park(key));
        });
    }
    // SAFETY: the key is nobody's but ours (2).
    unsafe {
        parking_lot_core::unpark_all(key_of(key), DEFAULT_UNPARK_TOKEN);
    }
}

/// Unparks one thread that is parked on `key`, if any is.
#[track_caller]
pub fn unpark_one(key: usize) {
    if simulation::simulated() {
        let place = Location::caller();
        return simulation::with(|context| {
            context.switch(place);
            context.wake_one(Wait::Park(key));
        });
    }
    // SAFETY: the key is nobody's but ours (2); the callback does nothing but answer.
    unsafe {
        parking_lot_core::unpark_one(key_of(key), |_| DEFAULT_UNPARK_TOKEN);
    }
}
