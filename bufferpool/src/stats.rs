//! What the pool has done, and how full it is. Nothing here is counted on a hit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of slow paths.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) loads: Counter,
    pub(crate) prefetches: Counter,
    pub(crate) read_errors: Counter,
    pub(crate) evictions: Counter,
    pub(crate) copies: Counter,
    pub(crate) images_written: Counter,
    pub(crate) bytes_written: Counter,
    pub(crate) batches_written: Counter,
    pub(crate) write_errors: Counter,
    pub(crate) waits_for_frames: Counter,
}

/// A count that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a pool has done since it was made, and how full it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolStats {
    /// Size of a page in bytes.
    pub page_size: usize,
    /// All frames.
    pub frames: usize,
    /// Frames that were ever used: the memory that the pool has touched.
    pub frames_used: usize,
    /// Frames that are free now.
    pub frames_free: usize,
    /// Frames in reservations.
    pub frames_reserved: usize,
    /// Frames that hold changes not yet on disk, or are being written.
    pub frames_unclean: usize,
    /// Frames whose pages have proved hot.
    pub frames_hot: usize,
    /// Bytes of the page table that are open.
    pub page_table_bytes: usize,
    /// Reads and writes in flight.
    pub in_flight: usize,
    /// Pages read because somebody waited for them.
    pub loads: u64,
    /// Pages read ahead.
    pub prefetches: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Pages that left memory to make room.
    pub evictions: u64,
    /// Copies of frozen frames.
    pub copies: u64,
    /// Page images written.
    pub images_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// In how many batches.
    pub batches_written: u64,
    /// Batches that failed.
    pub write_errors: u64,
    /// How often somebody had to wait for a free frame.
    pub waits_for_frames: u64,
}
