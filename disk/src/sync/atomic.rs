//! Atomics: those of `std`, imported from here by code whose steps `tests/loom` checks with atomics of its own, and what else it
//! replaces there.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
pub use std::thread_local;

/// Rounds of [`spin`]: about a microsecond, the time a page is changed or copied in.
const SPINS_MAX: u32 = 40;

/// Spins for a moment, counting in `rounds`, which begins at 0. False: it was long enough, and it is time to park.
#[inline]
pub fn spin(rounds: &mut u32) -> bool {
    let more = *rounds < SPINS_MAX;
    if more {
        *rounds += 1;
        spin_loop();
        super::yield_point();
    }
    more
}
