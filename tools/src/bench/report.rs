//! What a workload has measured, in words and as JSON.

use super::run::Sample;
use crate::error::Result;
use crate::output::Output;
use crate::units::{bytes, count, counted, rate, time};
use ashlardb::Stats;
use serde_json::json;
use std::time::Duration;

/// Of the first column, which holds names.
const NAME_WIDTH: usize = 21;

/// The measurement of one workload, or of one part of its threads.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) threads: usize,
    pub(super) sample: Sample,
    /// What this workload alone has to say.
    pub(super) extra: Vec<(&'static str, Extra)>,
    /// What the engine did for all parts of the workload; in words it stands under the last.
    pub(super) engine: Delta,
    pub(super) is_last: bool,
}

/// A figure of one workload alone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extra {
    Count(u64),
    Time(Duration),
}

impl Extra {
    fn words(self) -> String {
        match self {
            Extra::Count(n) => count(n),
            Extra::Time(t) => time(t),
        }
    }

    /// The same as a member of an object; a time has its unit in its name.
    fn member(self, name: &str) -> (String, serde_json::Value) {
        let name = name.replace(' ', "_");
        match self {
            Extra::Count(n) => (name, n.into()),
            Extra::Time(t) => (name + "_ns", u64::try_from(t.as_nanos()).unwrap_or(u64::MAX).into()),
        }
    }
}

/// What the engine has done meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    commits: u64,
    /// Records of the log: those of commits, and a few of the engine's own.
    records: u64,
    /// Flushes that carried records.
    flushes: u64,
    log_bytes: u64,
    pages_read: u64,
    bytes_read: u64,
    pages_written: u64,
    bytes_written: u64,
    evictions: u64,
    copies: u64,
    waits: u64,
    checkpoints: u64,
    checkpoint_time: Duration,
    data_bytes: u64,
}

impl Delta {
    /// Of the counters between two moments.
    pub(super) fn between(before: &Stats, after: &Stats) -> Delta {
        let (log_before, log_after) = (before.log.unwrap_or_default(), after.log.unwrap_or_default());
        let flushes = log_after.flushes - log_before.flushes;
        Delta {
            commits: after.commits - before.commits,
            records: log_after.records - log_before.records,
            // An empty one, that vouches for the one before when the log falls idle, is no group.
            flushes: flushes.saturating_sub(log_after.witnesses - log_before.witnesses),
            log_bytes: log_after.bytes_written - log_before.bytes_written,
            pages_read: after.pages_read - before.pages_read,
            bytes_read: after.bytes_read - before.bytes_read,
            pages_written: after.pages_written - before.pages_written,
            bytes_written: after.bytes_written - before.bytes_written,
            evictions: after.pool.evictions - before.pool.evictions,
            copies: after.pool.copies - before.pool.copies,
            waits: after.pool.waits_for_frames - before.pool.waits_for_frames,
            checkpoints: after.checkpoints - before.checkpoints,
            checkpoint_time: after.checkpoint_time.saturating_sub(before.checkpoint_time),
            data_bytes: after.space.file,
        }
    }

    /// How many records a flush carried, on average.
    fn commits_per_flush(&self) -> f64 {
        self.records as f64 / self.flushes.max(1) as f64
    }

    fn line(&self) -> String {
        let mut parts = Vec::new();
        if self.commits > 0 {
            let group = self.commits_per_flush();
            parts.push(format!(
                "{} in {} ({group:.1} a flush, {})",
                counted(self.commits, "commit", "commits"),
                counted(self.flushes, "flush", "flushes"),
                bytes(self.log_bytes)
            ));
        }
        parts.push(format!("read {} ({})", counted(self.pages_read, "page", "pages"), bytes(self.bytes_read)));
        if self.pages_written > 0 {
            parts.push(format!("wrote {} ({})", count(self.pages_written), bytes(self.bytes_written)));
        }
        for (n, what) in [(self.evictions, "evicted"), (self.copies, "copied"), (self.waits, "waits for a frame")] {
            if n > 0 {
                parts.push(format!("{} {what}", count(n)));
            }
        }
        if self.checkpoints > 0 {
            let checkpoints = counted(self.checkpoints, "checkpoint", "checkpoints");
            parts.push(format!("{checkpoints} ({})", time(self.checkpoint_time)));
        }
        parts.push(format!("data {}", bytes(self.data_bytes)));
        parts.join(", ")
    }
}

/// The columns' names.
pub(super) fn heading(out: &mut Output) -> Result<()> {
    if out.is_json() {
        return Ok(());
    }
    out.line(format_args!(
        "{:<NAME_WIDTH$}{:>7}{:>12}{:>10}{:>11}{:>11}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "workload", "threads", "operations", "time", "ops/s", "entries/s", "MB/s", "p50", "p99", "p99.9", "max"
    ))
}

/// A measurement.
pub(super) fn show(measured: &Measured, out: &mut Output) -> Result<()> {
    let Measured { name, threads, sample, engine, .. } = measured;
    let quantile = |q: f64| sample.latency.value_at_quantile(q);
    let (p50, p99, p999, max) = (quantile(0.5), quantile(0.99), quantile(0.999), sample.latency.max());
    let megabytes = sample.rate(sample.moved.bytes) / 1e6;
    if out.is_json() {
        let mut object = json!({
            "workload": name, "threads": threads, "operations": sample.ops, "entries": sample.moved.entries,
            "bytes": sample.moved.bytes, "seconds": sample.elapsed.as_secs_f64(), "ops_per_s": sample.rate(sample.ops),
            "entries_per_s": sample.rate(sample.moved.entries), "mb_per_s": megabytes,
            "latency_ns": { "p50": p50, "p99": p99, "p99_9": p999, "max": max, "mean": sample.latency.mean() },
            "engine": {
                "commits": engine.commits, "log_flushes": engine.flushes, "commits_per_flush": engine.commits_per_flush(),
                "log_bytes": engine.log_bytes,
                "pages_read": engine.pages_read, "bytes_read": engine.bytes_read, "pages_written": engine.pages_written,
                "bytes_written": engine.bytes_written, "evictions": engine.evictions, "frozen_copies": engine.copies,
                "frame_waits": engine.waits, "checkpoints": engine.checkpoints,
                "checkpoint_seconds": engine.checkpoint_time.as_secs_f64(), "data_bytes": engine.data_bytes,
            },
        });
        if let Some(members) = object.as_object_mut() {
            members.extend(measured.extra.iter().map(|(name, extra)| extra.member(name)));
        }
        return out.object(&object);
    }
    let t = |nanos| time(Duration::from_nanos(nanos));
    out.line(format_args!(
        "{name:<NAME_WIDTH$}{threads:>7}{:>12}{:>10}{:>11}{:>11}{megabytes:>10.1}{:>10}{:>10}{:>10}{:>10}",
        count(sample.ops),
        time(sample.elapsed),
        rate(sample.rate(sample.ops)),
        rate(sample.rate(sample.moved.entries)),
        t(p50),
        t(p99),
        t(p999),
        t(max)
    ))?;
    if !measured.extra.is_empty() {
        let words: Vec<String> = measured.extra.iter().map(|(name, extra)| format!("{name} {}", extra.words())).collect();
        out.line(format_args!("{:NAME_WIDTH$}{}", "", words.join(", ")))?;
    }
    match measured.is_last {
        true => out.line(format_args!("{:NAME_WIDTH$}{}", "", engine.line())),
        false => Ok(()),
    }
}
