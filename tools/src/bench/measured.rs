//! What a workload has measured.

use super::run::Sample;
use super::watch::Checkpoints;
use ashlardb::Stats;
use std::time::Duration;

/// The measurement of one workload, or of one part of its threads.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) threads: usize,
    pub(super) sample: Sample,
    /// Those that ended meanwhile.
    pub(super) checkpoints: Vec<Checkpoints>,
    /// What this workload alone has to say.
    pub(super) extra: Vec<(&'static str, Extra)>,
    /// Which point of which curve it is.
    pub(super) cost: Option<Cost>,
    /// What the engine did for all parts of the workload; in words it stands under the last.
    pub(super) engine: Delta,
    pub(super) is_last: bool,
}

/// A point of a curve: what something costs, against something that should not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cost {
    pub(super) of: &'static str,
    pub(super) against: &'static str,
    pub(super) x: u64,
}

/// Nanoseconds that operations took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

impl Measured {
    /// Of operations that were timed one by one: opens, say. The time between them does not count.
    pub(super) fn alone(name: String, sample: Sample, engine: Delta) -> Measured {
        let (checkpoints, extra) = (Vec::new(), Vec::new());
        Measured { name, threads: 1, sample, checkpoints, extra, cost: None, engine, is_last: true }
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let latency = &self.sample.latency;
        let at = |q: f64| latency.value_at_quantile(q);
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: latency.max() }
    }

    /// Operations in a second.
    pub(super) fn ops_per_s(&self) -> f64 {
        self.sample.rate(self.sample.ops)
    }

    /// Millions of bytes in a second.
    pub(super) fn mb_per_s(&self) -> f64 {
        self.sample.rate(self.sample.moved.bytes) / 1e6
    }
}

/// A figure of one workload alone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extra {
    Count(u64),
    /// In a second.
    Rate(f64),
    Time(Duration),
}

/// What the engine has done meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    pub(super) commits: u64,
    /// Records of the log: those of commits, and a few of the engine's own.
    pub(super) records: u64,
    /// Flushes that carried records.
    pub(super) flushes: u64,
    pub(super) log_bytes: u64,
    pub(super) pages_read: u64,
    pub(super) bytes_read: u64,
    pub(super) pages_written: u64,
    pub(super) bytes_written: u64,
    pub(super) evictions: u64,
    pub(super) copies: u64,
    pub(super) waits: u64,
    pub(super) checkpoints: u64,
    pub(super) checkpoint_time: Duration,
    pub(super) data_bytes: u64,
}

impl Delta {
    /// Since the database was opened.
    pub(super) fn since_open(stats: &Stats) -> Delta {
        let log = stats.log.unwrap_or_default();
        Delta {
            commits: stats.commits,
            records: log.records,
            // An empty one, that vouches for the one before when the log falls idle, is no group.
            flushes: log.flushes.saturating_sub(log.witnesses),
            log_bytes: log.bytes_written,
            pages_read: stats.pages_read,
            bytes_read: stats.bytes_read,
            pages_written: stats.pages_written,
            bytes_written: stats.bytes_written,
            evictions: stats.pool.evictions,
            copies: stats.pool.copies,
            waits: stats.pool.waits_for_frames,
            checkpoints: stats.checkpoints,
            checkpoint_time: stats.checkpoint_time,
            data_bytes: stats.space.file,
        }
    }

    /// Of the counters between two moments.
    pub(super) fn between(before: &Stats, after: &Stats) -> Delta {
        let (before, after) = (Delta::since_open(before), Delta::since_open(after));
        Delta {
            commits: after.commits - before.commits,
            records: after.records - before.records,
            flushes: after.flushes.saturating_sub(before.flushes),
            log_bytes: after.log_bytes - before.log_bytes,
            pages_read: after.pages_read - before.pages_read,
            bytes_read: after.bytes_read - before.bytes_read,
            pages_written: after.pages_written - before.pages_written,
            bytes_written: after.bytes_written - before.bytes_written,
            evictions: after.evictions - before.evictions,
            copies: after.copies - before.copies,
            waits: after.waits - before.waits,
            checkpoints: after.checkpoints - before.checkpoints,
            checkpoint_time: after.checkpoint_time.saturating_sub(before.checkpoint_time),
            data_bytes: after.data_bytes,
        }
    }

    /// How many records a flush carried, on average.
    pub(super) fn commits_per_flush(&self) -> f64 {
        self.records as f64 / self.flushes.max(1) as f64
    }
}
