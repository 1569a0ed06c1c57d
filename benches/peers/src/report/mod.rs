//! Records of rows as a Markdown table with ratios, and as plots.
//!
//! ```text
//!   records   what is in DIR/results ──> ratio (medians, ours : best peer, ours : device) ──> table ──> DIR/report.md
//!                                                                                        └──> plot  ──> DIR/plots/*.svg
//! ```

pub mod plot;
pub mod ratio;
pub mod records;
pub mod table;
pub mod targets;

use crate::engine::Spec;
use crate::row::Row;
use crate::workload::Figure;
use anyhow::{Context, Result};
use records::Records;
use std::path::{Path, PathBuf};

/// Makes the report of the records in `dir/results`; where it is.
///
/// # Errors
/// There are no records, or it can't be written.
pub fn make(dir: &Path) -> Result<PathBuf> {
    let records = Records::read(&dir.join("results"))?;
    let plots = dir.join("plots");
    std::fs::create_dir_all(&plots).with_context(|| format!("making {}", plots.display()))?;
    let drawn = plot::draw(&records, &plots)?;
    let path = dir.join("report.md");
    std::fs::write(&path, table::report(&records, &drawn)).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// The figure of a row, and its unit.
pub fn figure(row: &Row) -> (f64, &'static str) {
    let figure = row.plan.workload.figure();
    let seconds = row.elapsed_s.max(1e-9);
    let value = match figure {
        Figure::Operations => row.ops as f64 / seconds,
        Figure::Entries => row.entries as f64 / seconds,
        Figure::Megabytes => row.bytes as f64 / seconds / 1e6,
        Figure::Milliseconds => row.elapsed_s * 1e3,
    };
    (value, figure.unit())
}

/// A figure in three digits or so.
pub fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e5 => format!("{:.0} k", v / 1e3),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A time.
pub fn time(ns: u64) -> String {
    match ns as f64 {
        t if t >= 1e9 => format!("{:.2} s", t / 1e9),
        t if t >= 1e8 => format!("{:.0} ms", t / 1e6),
        t if t >= 1e6 => format!("{:.1} ms", t / 1e6),
        t if t >= 1e5 => format!("{:.0} µs", t / 1e3),
        t if t >= 1e3 => format!("{:.1} µs", t / 1e3),
        t => format!("{t:.0} ns"),
    }
}

/// Bytes in units of 1024.
pub fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= (1u64 << 30) as f64 => format!("{:.2} GiB", b / (1u64 << 30) as f64),
        b if b >= (1u64 << 20) as f64 => format!("{:.0} MiB", b / (1u64 << 20) as f64),
        b => format!("{:.0} KiB", b / 1024.0),
    }
}

/// What engines promise, as a table.
pub fn engines_table(specs: &[&Spec]) -> String {
    let mut text = String::from(
        "| engine | version | durable commits | eventual commits: after an OS crash | bulk load |\n| --- | --- | --- | --- | --- |\n",
    );
    for spec in specs {
        let sync = spec.sync.map_or("has none", |promise| promise.words);
        let mark = if spec.eventual.consistent { "" } else { "*" };
        let (name, version, eventual) = (spec.name, spec.version(), spec.eventual.words);
        let bulk = spec.bulk.unwrap_or("has none");
        text.push_str(&format!("| {name} | {version} | {sync} | {mark}{eventual}{mark} | {bulk} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown: Vec<_> = [0.123, 12.34, 123.4, 1234.0, 123_456.0, 1_234_567.0].map(count).into();
        assert_eq!(shown, ["0.12", "12.3", "123", "1.2 k", "123 k", "1.23 M"]);
        assert_eq!(
            [999, 1_500, 150_000, 2_500_000, 3_000_000_000].map(time).join(", "),
            "999 ns, 1.5 µs, 150 µs, 2.5 ms, 3.00 s"
        );
        assert_eq!([2048, 3 << 20, 3 << 29].map(bytes).join(", "), "2 KiB, 3 MiB, 1.50 GiB");
    }
}
