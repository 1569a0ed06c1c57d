//! Measurements as JSON: what `--json` prints, and what is in a report's `results.json`.

use super::measured::{Extra, Measured};
use super::timeline::STEP;
use serde_json::{Value, json};

/// A measurement as an object.
pub(super) fn object(measured: &Measured) -> Value {
    let Measured { name, threads, sample, engine, .. } = measured;
    let q = measured.quantiles();
    let checkpoints: Vec<Value> = measured
        .checkpoints
        .iter()
        .map(|c| json!({ "count": c.count, "begin_s": c.begin.as_secs_f64(), "end_s": c.end.as_secs_f64() }))
        .collect();
    let mut object = json!({
        "workload": name, "threads": threads, "operations": sample.ops, "entries": sample.moved.entries,
        "bytes": sample.moved.bytes, "seconds": sample.elapsed.as_secs_f64(), "ops_per_s": measured.ops_per_s(),
        "entries_per_s": sample.rate(sample.moved.entries), "mb_per_s": measured.mb_per_s(),
        "latency_ns": { "p50": q.p50, "p99": q.p99, "p99_9": q.p999, "max": q.max, "mean": sample.latency.mean() },
        "longest_pause_ns": u64::try_from(sample.longest_pause().as_nanos()).unwrap_or(u64::MAX),
        "over_time": {
            "step_s": STEP.as_secs_f64(), "operations": sample.timeline.counts(), "checkpoints": checkpoints,
        },
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
        let cost = measured.cost.map(|cost| json!({ "of": cost.of, "against": cost.against, "x": cost.x }));
        members.extend(cost.map(|cost| ("cost".to_owned(), cost)));
    }
    object
}

impl Extra {
    /// A member of an object; a time has its unit in its name.
    fn member(self, name: &str) -> (String, Value) {
        let name = name.replace(' ', "_");
        match self {
            Extra::Count(n) => (name, n.into()),
            Extra::Rate(r) => (name + "_per_s", r.into()),
            Extra::Time(t) => (name + "_ns", u64::try_from(t.as_nanos()).unwrap_or(u64::MAX).into()),
        }
    }
}
