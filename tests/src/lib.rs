//! Models, workloads and the crash harness of Ashlar, for its integration tests.
//!
//! Reading order: [`state`] (what a database holds, as plain maps), [`geometry`] (databases small enough that everything happens
//! all the time), [`workload`] (random keys, values, ranges), [`dump`] (a database read back whole, several ways), [`model`]
//! (random operations against ordered maps), [`history`] (commits of many threads and what may be found after a crash),
//! [`crash`] (histories on a simulated machine that loses power at any call), [`serial`] (histories of transactions and snapshots, checked
//! at every LSN), [`damage`] (small databases, each block of them damaged), [`failing`]
//! (the n-th call fails).

#![expect(clippy::panic, reason = "a library for tests: what goes wrong ends the test")]

pub mod crash;
pub mod damage;
pub mod dump;
pub mod failing;
pub mod geometry;
pub mod history;
pub mod images;
pub mod large;
pub mod lying;
pub mod model;
#[cfg(feature = "faults")]
pub mod mutations;
pub mod seeds;
#[cfg(feature = "faults")]
pub mod serial;
pub mod state;
mod stop;
pub mod workload;

/// A number from the environment, or `default` where there is none. `0x` begins a hexadecimal one.
///
/// # Panics
/// Where the variable is no number: a mistyped seed must not run another one.
pub fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.replace('_', "").parse(),
    };
    parsed.unwrap_or_else(|e| panic!("{name}={text:?} is no number: {e}"))
}

/// Where tests make databases on real files: `ASHLAR_TEST_DIR`, or a directory below the build's own.
///
/// # Panics
/// Where it can't be made.
pub fn test_dir() -> std::path::PathBuf {
    let below_target = || concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-databases").into();
    let dir: std::path::PathBuf = std::env::var_os("ASHLAR_TEST_DIR").map_or_else(below_target, Into::into);
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    dir
}
