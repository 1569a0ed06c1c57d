//! The report as Markdown.

use super::plot::Drawn;
use super::ratio::{best_peer, median, of_device};
use super::records::{Place, Records, Runs};
use super::{bytes, count, targets, time};
use crate::engines::OURS;
use crate::row::{Loaded, Profile, Row};
use std::collections::BTreeMap;
use std::fmt::Write;

/// All of it.
pub fn report(records: &Records, drawn: &Drawn) -> String {
    let mut text = String::from("# Ashlar beside other engines\n\n");
    text.push_str(
        "Medians of the repeats. *Italic*: after an operating system's crash all may be lost or the database be corrupt; such engines \
         do not count as the best peer. `>`: a load that was stopped by its time limit (the rate until then). Of milliseconds the less \
         are the better; a ratio above 1 always means that Ashlar is better.\n\n",
    );
    for profile in [Profile::Mem, Profile::Disk] {
        let places: Vec<&Place> = records.runs.keys().filter(|place| place.0 == profile).collect();
        if !places.is_empty() {
            circumstances(&mut text, records, profile);
            overview(&mut text, records, &places);
            targets::table(&mut text, records, profile);
            pauses(&mut text, records, &places);
            devices(&mut text, records, profile);
        }
    }
    text.push_str("## Each row\n");
    for (place, by_engine) in &records.runs {
        detail(&mut text, place, by_engine, drawn);
    }
    text
}

/// What a row is called.
pub fn name(place: &Place) -> String {
    let loaded = if place.2 == Loaded::Bulk { ", bulk-loaded" } else { "" };
    let threads = if place.3 == 1 { String::new() } else { format!(", {} threads", place.3) };
    format!("{}{loaded}{threads}", place.1.name())
}

fn any_row(records: &Records, profile: Profile) -> Option<&Row> {
    let mut runs = records.runs.iter().filter(|(place, _)| place.0 == profile).flat_map(|(_, by_engine)| by_engine.values());
    runs.find_map(|runs| runs.rows.values().find(|row| !row.plan.workload.is_blob()))
}

fn circumstances(text: &mut String, records: &Records, profile: Profile) {
    let _ = writeln!(text, "## Profile {}\n", profile.name());
    let Some(row) = any_row(records, profile) else { return };
    let limit = row.limit_bytes.map_or(String::new(), |limit| format!(", {} for the whole process", bytes(limit)));
    let loads = records.runs.values().flat_map(|by_engine| by_engine.values()).flat_map(|runs| runs.rows.values());
    let loads: Vec<f64> = loads.filter(|row| row.plan.profile == profile).map(|row| row.host.load).collect();
    let _ = writeln!(
        text,
        "{} entries of {} bytes ({}), {} for the engine{limit}; {} cores ({}), kernel {}; load average while rows began {:.1} \
         (median), at most {:.1}.\n",
        row.plan.n,
        16 + row.plan.value_size,
        bytes(row.data_bytes),
        bytes(row.cache_bytes),
        row.host.cores,
        row.host.cpu,
        row.host.kernel,
        median(&loads).unwrap_or(0.0),
        loads.iter().copied().fold(0.0, f64::max),
    );
}

fn overview(text: &mut String, records: &Records, places: &[&Place]) {
    let engines = records.engines();
    let _ = writeln!(text, "| | unit | {} | ours : best peer | ours : device |", engines.join(" | "));
    let _ = writeln!(text, "| --- | --- |{} --- | --- |", " --- |".repeat(engines.len()));
    for place in places {
        let by_engine = &records.runs[place];
        let cells: Vec<String> = engines.iter().map(|engine| by_engine.get(engine).map_or(String::new(), cell)).collect();
        let best = best_peer(place, by_engine).map_or(String::new(), |(name, ratio)| format!("{ratio:.2} ({name})"));
        let device = of_device(records, place).map_or(String::new(), |(_, ratio)| format!("{ratio:.2}"));
        let unit = place.1.figure().unit();
        let _ = writeln!(text, "| {} | {unit} | {} | {best} | {device} |", name(place), cells.join(" | "));
    }
    text.push('\n');
}

/// How long ours made somebody wait.
fn pauses(text: &mut String, records: &Records, places: &[&Place]) {
    text.push_str(
        "How long an operation of Ashlar's took, and the longest time in which none ended (the longest of the repeats):\n\n",
    );
    text.push_str("| | p50 | p99 | p99.9 | longest pause |\n| --- | --- | --- | --- | --- |\n");
    for place in places {
        let Some(runs) = records.runs[place].get(OURS) else { continue };
        let Some(row) = runs.median_row() else { continue };
        let latencies = [row.latency.p50, row.latency.p99, row.latency.p999, longest(runs)].map(time);
        let _ = writeln!(text, "| {} | {} |", name(place), latencies.join(" | "));
    }
    text.push('\n');
}

fn cell(runs: &Runs) -> String {
    let Some(value) = median(&runs.figures()) else { return "failed".into() };
    let (mark, more) = (if runs.consistent() { "" } else { "*" }, if runs.complete() { "" } else { "> " });
    let failed = if runs.failed.is_empty() { "" } else { " (!)" };
    format!("{mark}{more}{}{mark}{failed}", count(value))
}

fn devices(text: &mut String, records: &Records, profile: Profile) {
    let mut by_job: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let mut missing = None;
    for device in records.devices.iter().filter(|(place, _)| place.0 == profile).flat_map(|(_, around)| around.values().flatten())
    {
        missing = missing.or(device.missing.as_ref());
        for figure in &device.figures {
            let (iops, rate) = by_job.entry(figure.job.words()).or_default();
            iops.push(figure.iops);
            rate.push(figure.bytes_per_s / 1e6);
        }
    }
    if let Some(why) = missing {
        let _ = writeln!(text, "The device was not always measured: {why}.\n");
    }
    if by_job.is_empty() {
        return;
    }
    text.push_str("The device, as `fio` measured it just before and after the rows (median, lowest to highest):\n\n");
    text.push_str("| | a second | MB/s | times |\n| --- | --- | --- | --- |\n");
    for (words, (iops, rate)) in by_job {
        let (low, high) = range(&iops);
        let middle = median(&iops).unwrap_or(0.0);
        let rate = median(&rate).unwrap_or(0.0);
        let _ =
            writeln!(text, "| {words} | {} ({} to {}) | {rate:.0} | {} |", count(middle), count(low), count(high), iops.len());
    }
    text.push('\n');
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), &value| (low.min(value), high.max(value)))
}

fn detail(text: &mut String, place: &Place, by_engine: &BTreeMap<String, Runs>, drawn: &Drawn) {
    let _ = writeln!(text, "\n### {}: {}\n", place.0.name(), name(place));
    let unit = place.1.figure().unit();
    let _ = writeln!(
        text,
        "| engine | {unit} | lowest to highest | p50 | p99 | p99.9 | longest pause | space : data | peak memory | read | written \
         | CPU | after an OS crash |"
    );
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    let mut failures = Vec::new();
    for (engine, runs) in by_engine {
        failures.extend(runs.failed.iter().map(|why| format!("{engine}: {why}")));
        let Some(row) = runs.median_row() else { continue };
        let (low, high) = range(&runs.figures());
        let (latency, used) = (&row.latency, &row.used);
        let _ = writeln!(
            text,
            "| {engine} {} | {} | {} to {} | {} | {} | {} | {} | {:.2} | {} | {} | {} | {:.1} s | {} |",
            row.version,
            cell(runs),
            count(low),
            count(high),
            time(latency.p50),
            time(latency.p99),
            time(latency.p999),
            time(longest(runs)),
            row.space_bytes as f64 / row.data_bytes.max(1) as f64,
            bytes(row.charged_peak_bytes.unwrap_or(used.peak_rss_bytes)),
            bytes(used.read_bytes),
            bytes(used.write_bytes),
            used.cpu_s,
            row.promise,
        );
    }
    for failure in failures {
        let _ = writeln!(text, "\nFailed: {}", failure.replace('\n', " "));
    }
    for file in drawn.get(place).into_iter().flatten() {
        let _ = writeln!(text, "\n![{}](plots/{file})", name(place));
    }
}

fn longest(runs: &Runs) -> u64 {
    runs.rows.values().map(|row| row.latency.max).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::ratio::tests::row;
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn the_table_says_what_was_measured() {
        let mut records = Records::default();
        for (engine, ops, consistent) in [(OURS, 3000, true), ("a", 2000, true), ("b", 9000, false)] {
            records.add_row(row(engine, Workload::PutAsync, 1, ops, consistent));
        }
        records.add_row(Row { complete: false, ..row("a", Workload::LoadRand, 1, 100, true) });
        let text = report(&records, &Drawn::default());
        assert!(text.contains("| | unit | ashlar | a | b | ours : best peer | ours : device |"), "{text}");
        assert!(text.contains("| put-async | ops/s | 3.0 k | 2.0 k | *9.0 k* | 1.50 (a) |  |"), "{text}");
        assert!(text.contains("| load-rand | entries/s |  | > 100 |  |  |  |"), "{text}");
    }
}
