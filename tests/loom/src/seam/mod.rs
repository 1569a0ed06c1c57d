//! Stands in for `ashlar_disk::sync`: the same calls, on loom's types.

pub mod atomic;
mod lock;
pub mod park;

pub use lock::{Condvar, Mutex, MutexGuard};

/// Nothing: loom gets between any two steps without it.
pub fn yield_point() {}

/// Likewise.
pub fn stall_point() {}
