//! What the device is asked for, and how long that takes by a simple model: so much for each transfer, and so much for each KiB.

use clap::Args;
use serde::Serialize;

/// Transfers in one direction.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Io {
    pub(crate) transfers: u64,
    pub(crate) blocks: u64,
}

impl Io {
    /// One more.
    pub(crate) fn add(&mut self, blocks: u64) {
        self.transfers += 1;
        self.blocks += blocks;
    }
}

/// What has been done.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Pages that were changed and written.
    pub(crate) updated: u64,
    /// Pages written only because they stood in the way.
    pub(crate) moved: u64,
    pub(crate) written: Io,
    pub(crate) read: Io,
    /// Checkpoints beyond one a batch: only they could make room.
    pub(crate) extra_checkpoints: u64,
}

impl Tally {
    /// What has come since `before`.
    pub(crate) fn since(&self, before: &Tally) -> Tally {
        let io = |now: Io, before: Io| Io { transfers: now.transfers - before.transfers, blocks: now.blocks - before.blocks };
        Tally {
            updated: self.updated - before.updated,
            moved: self.moved - before.moved,
            written: io(self.written, before.written),
            read: io(self.read, before.read),
            extra_checkpoints: self.extra_checkpoints - before.extra_checkpoints,
        }
    }
}

/// What transfers cost. The defaults were measured: see docs/performance.md.
#[derive(Clone, Copy, PartialEq, Debug, Args, Serialize)]
pub(crate) struct Cost {
    /// Microseconds for each write.
    #[arg(long, default_value_t = 8.6)]
    pub(crate) write_us: f64,
    /// Microseconds for each KiB written.
    #[arg(long, default_value_t = 0.51)]
    pub(crate) write_kib_us: f64,
    /// Microseconds for each read.
    #[arg(long, default_value_t = 11.5)]
    pub(crate) read_us: f64,
    /// Microseconds for each KiB read.
    #[arg(long, default_value_t = 0.8)]
    pub(crate) read_kib_us: f64,
}

impl Cost {
    /// Microseconds of these writes.
    pub(crate) fn of_writes(&self, io: Io, block_kib: u64) -> f64 {
        io.transfers as f64 * self.write_us + (io.blocks * block_kib) as f64 * self.write_kib_us
    }

    /// Microseconds of these reads.
    pub(crate) fn of_reads(&self, io: Io, block_kib: u64) -> f64 {
        io.transfers as f64 * self.read_us + (io.blocks * block_kib) as f64 * self.read_kib_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_that_of_transfers_and_that_of_bytes() {
        let cost = Cost { write_us: 10.0, write_kib_us: 0.5, read_us: 7.0, read_kib_us: 0.25 };
        let mut io = Io::default();
        io.add(2);
        io.add(6);
        assert_eq!(cost.of_writes(io, 4), 20.0 + 16.0);
        assert_eq!(cost.of_reads(io, 4), 14.0 + 8.0);
    }

    #[test]
    fn what_came_since_is_the_difference_of_every_count() {
        let mut before = Tally { updated: 3, moved: 1, extra_checkpoints: 1, ..Tally::default() };
        before.written.add(4);
        before.read.add(5);
        let mut now = Tally { updated: 10, moved: 5, extra_checkpoints: 4, ..before };
        now.written.add(7);
        now.read.add(9);
        let one = |blocks| Io { transfers: 1, blocks };
        let since = Tally { updated: 7, moved: 4, written: one(7), read: one(9), extra_checkpoints: 3 };
        assert_eq!(now.since(&before), since);
    }
}
