//! Ashlar beside its peers: the same workloads on each engine, one process a row, every read checked.
//!
//! ```text
//!   (ashlar-workload)   keys and values from numbers, choices among them ──┐
//!   engine              what a row asks of an engine ──────────────────────┼─> work ──> row (one measured row, as JSON)
//!   engines/*           one file an engine, each behind a feature ─────────┤     ^
//!   clock               threads, latencies, throughput over time ──────────┘     │
//!   host, memcg, cached the machine, the memory limit, the page cache ───────────┤
//!   stage               loaded data sets, kept and copied ───────────────────────┤
//!   matrix, driver      which rows, alternating, resumable ──────────────────────┤
//!   fio                 what the device gives ───────────────────────────────────┘
//!   report/*            JSONs ──> tables with ratios, plots
//! ```
//!
//! 1. A row is measured by a process of its own, which does nothing else and writes one JSON file. A file that is there is not measured
//!    again.
//! 2. The data set is a function of its size, so any read can be checked; a wrong one ends the row with an error.
//! 3. All engines get the same memory, the same two background threads at most, and no compression; what each promises after a crash
//!    stands beside its figures.

pub mod cached;
pub mod cli;
pub mod clock;
pub mod driver;
pub mod engine;
pub mod engines;
pub mod fio;
pub mod host;
pub mod matrix;
pub mod memcg;
pub mod report;
pub mod row;
pub mod stage;
pub mod ticker;
pub mod work;
pub mod workload;
