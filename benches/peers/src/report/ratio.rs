//! Medians, and what they are compared with.

use super::figure;
use super::records::{Place, Records, Runs};
use crate::engines::OURS;
use crate::fio::Device;
use crate::row::Row;
use std::collections::BTreeMap;

/// The median; with an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        0 => Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0),
        _ => Some(upper),
    }
}

/// The peer with the best median among those that survive a crash consistent, and how many times as good ours is.
pub fn best_peer(place: &Place, by_engine: &BTreeMap<String, Runs>) -> Option<(String, f64)> {
    let ours = median(&by_engine.get(OURS)?.figures())?;
    let more = place.1.figure().more_is_better();
    let peers = by_engine.iter().filter(|(name, runs)| *name != OURS && runs.consistent());
    let medians = peers.filter_map(|(name, runs)| Some((name, median(&runs.figures())?)));
    let best = medians.reduce(|a, b| if (a.1 >= b.1) == more { a } else { b })?;
    let ratio = if more { ours / best.1 } else { best.1 / ours };
    Some((best.0.clone(), ratio))
}

/// What ours gets of what the device gave just before and after, as the median over the repeats; and in words what the device did.
pub fn of_device(records: &Records, place: &Place) -> Option<(String, f64)> {
    let (ours, devices) = (records.runs.get(place)?.get(OURS)?, records.devices.get(place)?);
    let ratios: Vec<f64> =
        devices.iter().filter_map(|(repeat, around)| Some(in_unit(ours.rows.get(repeat)?, around) / mean(around)?)).collect();
    let job = devices.values().flatten().find_map(|device| device.figures.first())?.job;
    Some((job.words(), median(&ratios)?))
}

/// The first figure of each measurement around a row, on average.
fn mean(around: &[Device]) -> Option<f64> {
    let figures: Vec<f64> = around
        .iter()
        .filter_map(|device| device.figures.first())
        .map(|figure| if figure.job.counts_bytes() { figure.bytes_per_s } else { figure.iops })
        .collect();
    (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
}

/// The row's figure in the unit of the device's.
fn in_unit(row: &Row, around: &[Device]) -> f64 {
    let in_bytes = around.iter().flat_map(|device| &device.figures).next().is_some_and(|figure| figure.job.counts_bytes());
    if in_bytes { row.bytes as f64 / row.elapsed_s.max(1e-9) } else { figure(row).0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fio::{Figure, Job};
    use crate::host::{Host, Used};
    use crate::row::{Latency, Loaded, Plan, Profile};
    use crate::workload::Workload;

    /// A row that did so many operations in a second.
    pub(in crate::report) fn row(engine: &str, workload: Workload, repeat: u32, ops: u64, consistent: bool) -> Row {
        let plan = Plan {
            engine: engine.into(),
            workload,
            profile: Profile::Mem,
            n: 1000,
            threads: 1,
            seconds: 1.0,
            value_size: 100,
            blobs: 1,
            loaded: Loaded::Rand,
            cache_mb: None,
            limit_mb: None,
            load_limit: 1.0,
        };
        Row {
            plan,
            repeat,
            version: "1".into(),
            promise: "something".into(),
            consistent,
            started: 0,
            host: Host::default(),
            cache_bytes: 1 << 20,
            limit_bytes: None,
            cached_before_bytes: 0,
            ops,
            entries: ops,
            bytes: ops * 116,
            elapsed_s: 1.0,
            complete: true,
            latency: Latency::default(),
            step_ms: 100,
            entries_by_step: vec![ops / 10; 10],
            retries: 0,
            used: Used::default(),
            charged_peak_bytes: None,
            data_bytes: 116_000,
            space_bytes: 200_000,
            note: None,
        }
    }

    fn records(workload: Workload, rows: &[(&str, u64, bool)]) -> Records {
        let mut records = Records::default();
        for (engine, ops, consistent) in rows {
            for repeat in 1..=3u32 {
                // The second is the median.
                let run = row(engine, workload, repeat, ops + u64::from(repeat) - 2, *consistent);
                records.add_row(run);
            }
        }
        records
    }

    const PLACE: Place = (Profile::Mem, Workload::PutAsync, Loaded::Rand, 1);

    #[test]
    fn medians() {
        assert_eq!((median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (None, Some(2.0), Some(2.5)));
    }

    #[test]
    fn the_best_peer_is_one_that_survives() {
        let records = records(Workload::PutAsync, &[(OURS, 300, true), ("a", 100, true), ("b", 200, true), ("c", 900, false)]);
        assert_eq!(best_peer(&PLACE, &records.runs[&PLACE]), Some(("b".into(), 1.5)));
    }

    #[test]
    fn of_times_the_shortest_is_best() {
        let mut records = Records::default();
        for (engine, seconds) in [(OURS, 0.2), ("a", 0.1), ("b", 0.4)] {
            records.add_row(Row { elapsed_s: seconds, ..row(engine, Workload::Reopen, 1, 1, true) });
        }
        let place = (Profile::Mem, Workload::Reopen, Loaded::Rand, 1);
        assert_eq!(best_peer(&place, &records.runs[&place]), Some(("a".into(), 0.5)));
    }

    #[test]
    fn the_device_counts_as_it_was_around_the_row() {
        let mut records = records(Workload::PutAsync, &[(OURS, 300, true)]);
        let device = |iops: f64| Device {
            profile: Profile::Mem,
            workload: Workload::PutAsync,
            threads: 1,
            repeat: 2,
            figures: vec![Figure { job: Job::DurableWrite(1), iops, bytes_per_s: 0.0, mean_ns: 0.0 }],
            missing: None,
        };
        records.devices.entry(PLACE).or_default().insert(2, vec![device(300.0), device(500.0)]);
        let (words, ratio) = of_device(&records, &PLACE).unwrap();
        assert_eq!((words.as_str(), ratio), ("durable 4k writes, 1 jobs", 0.75));
        let bytes = Figure { job: Job::SequentialWrite, iops: 1.0, bytes_per_s: 69_600.0, mean_ns: 0.0 };
        records.devices.entry(PLACE).or_default().insert(2, vec![Device { figures: vec![bytes], ..device(0.0) }]);
        assert_eq!(of_device(&records, &PLACE).unwrap().1, 0.5);
    }
}
