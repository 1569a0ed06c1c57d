//! Positions in the log.

use std::fmt;

/// A byte position in the endless log. A commit's LSN is the position after its record's last byte, so of two commits the later
/// has the larger LSN, and a commit is durable when the log is durable up to its LSN. Zero is the beginning: no record ends there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position `bytes` further on. Positions don't wrap: at 10 GB/s the log's end is 58 years away, and it stays there.
    pub fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// How many bytes lie between `earlier` and this; zero if it isn't earlier.
    pub fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a segment: segment n holds the positions from n × segment size on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct SegmentNo(pub(crate) u64);

impl SegmentNo {
    /// The segment after this one.
    pub(crate) fn next(self) -> SegmentNo {
        SegmentNo(self.0.saturating_add(1))
    }
}

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
