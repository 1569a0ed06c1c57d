//! Counters.

use crate::Lsn;
use crate::layout::{FlushPlan, Geometry};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the log has done since it was opened, and how it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalStats {
    /// Records written.
    pub records: u64,
    /// Flushes written, witnesses included. Records by flushes is the mean size of a group.
    pub flushes: u64,
    /// Bytes of headers and records in them.
    pub bytes_used: u64,
    /// Bytes written, padding included.
    pub bytes_written: u64,
    /// Empty flushes written to vouch for the one before.
    pub witnesses: u64,
    /// Segments made and filled with zeros.
    pub segments_created: u64,
    /// Segments used again under a new number.
    pub segments_reused: u64,
    /// Segments removed.
    pub segments_removed: u64,
    /// How often a caller had to wait for room.
    pub room_waits: u64,
    /// The end of the last record appended.
    pub appended: Lsn,
    /// Up to where the log is durable.
    pub durable: Lsn,
    /// Bytes of log between where replay would start and the end.
    pub used: u64,
    /// The limit for it, in bytes.
    pub limit: u64,
}

/// The counters that rise.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: AtomicU64,
    flushes: AtomicU64,
    bytes_used: AtomicU64,
    bytes_written: AtomicU64,
    witnesses: AtomicU64,
    pub(crate) segments_created: AtomicU64,
    pub(crate) segments_reused: AtomicU64,
    pub(crate) segments_removed: AtomicU64,
    pub(crate) room_waits: AtomicU64,
}

impl Counters {
    /// Counts; nothing is ordered by it.
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// A flush was written.
    pub(crate) fn flush(&self, plan: &FlushPlan, geometry: &Geometry) {
        Self::add(&self.flushes, 1);
        Self::add(&self.bytes_used, plan.length);
        Self::add(&self.bytes_written, plan.end(geometry).since(plan.start));
        Self::add(&self.witnesses, u64::from(plan.is_empty()));
    }

    /// The counters' part of the stats.
    pub(crate) fn stats(&self) -> WalStats {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        WalStats {
            records: of(&self.records),
            flushes: of(&self.flushes),
            bytes_used: of(&self.bytes_used),
            bytes_written: of(&self.bytes_written),
            witnesses: of(&self.witnesses),
            segments_created: of(&self.segments_created),
            segments_reused: of(&self.segments_reused),
            segments_removed: of(&self.segments_removed),
            room_waits: of(&self.room_waits),
            ..WalStats::default()
        }
    }
}
