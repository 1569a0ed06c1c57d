//! The command as its users run it: a process, its output, its exit status.

mod basics;
mod bench;
mod common;
mod dump_load;
mod inspect;
mod peers;
mod scan;
