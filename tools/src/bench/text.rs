//! Measurements in words, for 80 columns.

use super::measured::{Delta, Extra, Measured};
use crate::error::Result;
use crate::output::Output;
use crate::units::{bytes, count, counted, rate, time};
use std::time::Duration;

/// Of the first column, which holds names.
const NAME_WIDTH: usize = 21;
/// Of a line.
const WIDTH: usize = 80;

/// A row's figures.
pub(super) const COLUMNS: [&str; 6] = ["ops/s", "p50", "p99", "p99.9", "max", "pause"];

fn row(name: &str, cells: [String; 6]) -> String {
    cells.iter().fold(format!("{name:<NAME_WIDTH$}"), |row, cell| row + &format!("{cell:>9}"))
}

fn heading(out: &mut Output) -> Result<()> {
    out.line(row("workload", COLUMNS.map(str::to_owned)))
}

/// The figures of [`COLUMNS`].
pub(super) fn cells(measured: &Measured) -> [String; 6] {
    let t = |nanos| time(Duration::from_nanos(nanos));
    let q = measured.quantiles();
    let pause = time(measured.sample.longest_pause());
    [rate(measured.ops_per_s()), t(q.p50), t(q.p99), t(q.p999), t(q.max), pause]
}

/// Before the first measurement.
pub(super) fn begin(out: &mut Output) -> Result<()> {
    if out.is_json() { Ok(()) } else { heading(out) }
}

/// A measurement, as soon as there is one.
pub(super) fn show(measured: &Measured, out: &mut Output) -> Result<()> {
    out.line(row(&measured.name, cells(measured)))?;
    let mut lines = vec![work(measured)];
    if !measured.extra.is_empty() {
        lines.push(measured.extra.iter().map(|(name, extra)| format!("{name} {}", extra.words())).collect());
    }
    if measured.is_last {
        lines.push(engine(&measured.engine));
    }
    lines.iter().flat_map(|parts| wrap(parts)).try_for_each(|line| out.line(line))
}

/// All of them once more, one a line.
pub(super) fn summary(all: &[Measured], out: &mut Output) -> Result<()> {
    if all.len() < 2 {
        return Ok(());
    }
    out.line("")?;
    heading(out)?;
    all.iter().try_for_each(|measured| out.line(row(&measured.name, cells(measured))))
}

/// Parts on indented lines, none longer than [`WIDTH`] if that is possible.
fn wrap(parts: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let comma = if i + 1 < parts.len() { "," } else { "" };
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + part.chars().count() + comma.len() <= WIDTH => {
                *line += &format!(" {part}{comma}");
            }
            _ => lines.push(format!("  {part}{comma}")),
        }
    }
    lines
}

fn work(measured: &Measured) -> Vec<String> {
    let sample = &measured.sample;
    let (operations, threads) = (counted(sample.ops, "operation", "operations"), measured.threads as u64);
    let mut parts = vec![format!("{operations} of {} in {}", counted(threads, "thread", "threads"), time(sample.elapsed))];
    if sample.moved.entries != sample.ops && sample.moved.entries > 0 {
        parts.push(format!("{} entries/s", rate(sample.rate(sample.moved.entries))));
    }
    if sample.moved.bytes > 0 {
        parts.push(format!("{:.1} MB/s", measured.mb_per_s()));
    }
    parts
}

fn engine(engine: &Delta) -> Vec<String> {
    let mut parts = Vec::new();
    if engine.commits > 0 {
        let group = engine.commits_per_flush();
        parts.push(format!(
            "{} in {} ({group:.1} a flush, {})",
            counted(engine.commits, "commit", "commits"),
            counted(engine.flushes, "flush", "flushes"),
            bytes(engine.log_bytes)
        ));
    }
    parts.push(format!("read {} ({})", counted(engine.pages_read, "page", "pages"), bytes(engine.bytes_read)));
    if engine.pages_written > 0 {
        parts.push(format!("wrote {} ({})", count(engine.pages_written), bytes(engine.bytes_written)));
    }
    for (n, what) in [(engine.evictions, "evicted"), (engine.copies, "copied"), (engine.waits, "waits for a frame")] {
        if n > 0 {
            parts.push(format!("{} {what}", count(n)));
        }
    }
    if engine.checkpoints > 0 {
        let checkpoints = counted(engine.checkpoints, "checkpoint", "checkpoints");
        parts.push(format!("{checkpoints} ({})", time(engine.checkpoint_time)));
    }
    parts.push(format!("data {}", bytes(engine.data_bytes)));
    parts
}

impl Extra {
    fn words(self) -> String {
        match self {
            Extra::Count(n) => count(n),
            Extra::Rate(r) => format!("{}/s", rate(r)),
            Extra::Time(t) => time(t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let widest = "999 999".to_owned();
        let row = row("get-rand-writers get", [(); 6].map(|()| widest.clone()));
        assert!(row.chars().count() <= WIDTH && row.ends_with("  999 999"));
        let parts: Vec<String> = (0..12).map(|i| format!("{i} thousands of pages")).collect();
        let lines = wrap(&parts);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.starts_with("  ") && line.len() <= WIDTH));
        assert_eq!(lines.join(" ").split_whitespace().collect::<Vec<_>>().join(" "), parts.join(", "));
        // What is too long by itself stays whole.
        assert_eq!(wrap(&["x".repeat(90)]), [format!("  {}", "x".repeat(90))]);
        assert!(wrap(&[]).is_empty());
    }
}
