//! What the workloads of `ashlar bench` and of the comparison with other engines have in common: data sets and choices.
//!
//! ```text
//!   data    keys and values as functions of numbers; pseudo-random words, permutations
//!   zipf    skewed choices
//!   grown   entries that workloads add behind the data set
//!   ycsb    what the core workloads of YCSB do next
//! ```
//!
//! Nothing here reads a clock or knows an engine: two runs of a seed make the same choices.

pub mod data;
mod grown;
pub mod ycsb;
mod zipf;

pub use data::{Permutation, Random};
pub use grown::Grown;
pub use zipf::Zipf;
