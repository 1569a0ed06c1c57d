//! The seam for locks, waits, threads, time and randomness: nothing above this crate uses another.
//!
//! In production these are parking_lot, threads of the operating system, a monotonic clock and the kernel's random numbers. A
//! thread that belongs to a simulation is told apart by one thread-local flag, and there a deterministic scheduler stands
//! behind the same calls: one thread runs at a time, the next one chosen by a seed.
//!
//! Rules for users:
//! 1. Every call here may switch threads in a simulation; what stands between two calls runs as one step. Code that other
//!    threads may meet half-way without a lock (atomics) puts a [`yield_point`] there, and one into every loop that spins.
//! 2. [`Condvar`] waits and [`park::park`] may return without having been woken: ask again in a loop.
//! 3. A mutex is not poisoned by a panic, and there is no order among those who wait for it.
//! 4. No address, clock or thread identity decides anything outside: that is what makes a seed repeat.
//!
//! Atomics are plain ones of `std`; rule 1 says how a simulation gets between them. Not here: reader-writer locks, channels.

pub mod atomic;
mod condvar;
mod mutex;
pub mod park;
mod random;
pub mod simulation;
mod thread;
mod time;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use random::random_u64;
pub use simulation::simulate;
pub use thread::{JoinHandle, Panicked, spawn, stall_point, yield_point};
pub use time::{now, sleep};
