//! `disk`: aligned direct I/O, and everything else that talks to the operating system.
//!
//! Nothing above this crate calls `open`, `read`, `write`, `fsync` or `mmap`, takes a lock that the operating system knows,
//! starts a thread, or asks for the time. This crate knows files, blocks and bytes; it knows nothing of pages, keys or the log,
//! and it never tries again what failed.
//!
//! Reading order: [`error`] and [`buffer`] (the vocabulary), [`fs`] (the seam: a trait over files, directories and queues of
//! transfers, with the contract of each call), [`sync`] (the other seam: locks, waits, threads, time), then the two
//! implementations: [`real`] and [`sim`].

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Ashlar runs on Linux only: it needs O_DIRECT, io_uring or preadv/pwritev, and statx. \
     The seam for another system is the trait `Fs` in this crate."
);

pub mod arena;
pub mod buffer;
pub mod checksum;
pub mod durable;
pub mod error;
pub mod fork_guard;
pub mod fs;
mod mapping;
pub mod memory;
mod parts;
mod past_caches;
pub mod real;
pub mod rescue;
pub mod sim;
mod spare;
pub mod sync;
mod sync_once;
pub mod words;

pub use arena::{Arena, ArenaSlice, Reserved};
pub use buffer::{AlignedBuf, BLOCK_SIZE_MIN, BlockSize};
pub use error::{Error, Op, Result};
pub use fs::{
    Access, Alignment, Buffer, Completed, Create, Durability, File, Fs, IoMode, Lock, LockMode, OpenHow, Queue, QueueKind,
    SyncKind, Transfer, TransferOp,
};
pub use parts::BufPart;
pub use past_caches::FarBuf;
pub use real::probe;
pub use spare::Spares;
pub use sync_once::SyncOnce;
