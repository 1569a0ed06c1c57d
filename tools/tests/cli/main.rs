//! The command as its users run it: a process, its output, its exit status.

#![expect(clippy::unwrap_used, reason = "tests: what fails here fails the test")]

mod basics;
mod bench;
mod common;
mod compact;
mod dump_load;
mod inspect;
mod pages;
mod peers;
mod salvage;
mod scan;
mod stress;
mod stress_sim;
