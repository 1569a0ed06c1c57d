//! What Ashlar aims at, and how far it came: a table of the rows for which there is a target.

use super::count;
use super::ratio::{best_peer, median, of_device};
use super::records::{Place, Records};
use super::table::name;
use crate::engines::OURS;
use crate::row::{Loaded, Profile};
use crate::workload::Workload;
use std::fmt::Write;

/// What a row is to reach, in whatever it is measured against.
struct Target {
    place: Place,
    /// Times the best peer's.
    peer: f64,
    /// Of what the device gives, at least.
    device: Option<f64>,
    /// In the row's own unit.
    figure: Option<f64>,
}

fn target(profile: Profile, workload: Workload, threads: u32, peer: f64) -> Target {
    Target { place: (profile, workload, Loaded::Rand, threads), peer, device: None, figure: None }
}

impl Target {
    fn of_device(self, device: f64) -> Target {
        Target { device: Some(device), ..self }
    }

    fn at(self, figure: f64) -> Target {
        Target { figure: Some(figure), ..self }
    }

    fn bulk_loaded(self) -> Target {
        let (profile, workload, _, threads) = self.place;
        Target { place: (profile, workload, Loaded::Bulk, threads), ..self }
    }
}

/// All of them. Rows that have none are to be as good as the best peer; they stand in the overview.
fn targets() -> Vec<Target> {
    use Profile::{Disk, Mem};
    use Workload::*;
    vec![
        target(Mem, LoadSeq, 1, 1.0).at(1e6),
        target(Mem, LoadRand, 1, 1.5),
        target(Mem, BulkLoad, 1, 2.0).at(4e6),
        target(Mem, GetRand, 1, 1.3).at(1e6),
        target(Mem, GetZipf, 1, 1.3).at(1e6),
        target(Mem, ScanFull, 1, 1.0),
        target(Mem, Scan100, 1, 1.0),
        target(Mem, PutSync, 1, 1.3).of_device(0.9),
        target(Mem, PutSync, 8, 1.3),
        target(Mem, PutSync, 16, 1.3),
        target(Mem, PutAsync, 1, 1.5).at(500e3),
        target(Mem, UpdateRand, 1, 1.5).at(500e3),
        target(Mem, YcsbA, 1, 1.5).at(500e3),
        target(Mem, YcsbF, 1, 1.5).at(500e3),
        target(Mem, BlobPut, 1, 1.0).of_device(0.7),
        target(Mem, BlobGet, 1, 1.0),
        target(Mem, Reopen, 1, 1.0).at(50.0),
        target(Mem, Recover, 1, 1.0),
        target(Disk, GetRand, 1, 1.0).of_device(0.9),
        target(Disk, GetRand, 8, 1.0).of_device(0.9),
        target(Disk, GetMany, 1, 3.0).of_device(0.85),
        target(Disk, ScanFull, 1, 1.5).of_device(0.8).bulk_loaded(),
        target(Disk, LoadRand, 1, 1.0),
        target(Disk, UpdateRand, 1, 1.0),
        target(Disk, BlobPut, 1, 1.0).of_device(0.7),
        target(Disk, BlobGet, 1, 1.0).of_device(0.7),
        target(Disk, Reopen, 1, 1.0).at(50.0),
        target(Disk, Recover, 1, 1.0),
    ]
}

/// The targets of a profile for which there are records, each with what was measured.
pub fn table(text: &mut String, records: &Records, profile: Profile) {
    let mut rows = String::new();
    for Target { place, peer, device, figure } in targets().into_iter().filter(|target| target.place.0 == profile) {
        let Some(by_engine) = records.runs.get(&place) else { continue };
        let Some(ours) = by_engine.get(OURS).and_then(|runs| median(&runs.figures())) else { continue };
        let (unit, more) = (place.1.figure().unit(), place.1.figure().more_is_better());
        let mut wanted = vec![format!("{peer:.1} × the best peer")];
        let mut cells = [String::new(), String::new()];
        let mut missed = Vec::new();
        if let Some((who, ratio)) = best_peer(&place, by_engine) {
            cells[0] = format!("{ratio:.2} ({who})");
            missed.extend((ratio < peer).then_some("peer"));
        }
        if let Some(device) = device {
            wanted.push(format!("{device:.2} of the device"));
            if let Some((_, ratio)) = of_device(records, &place) {
                cells[1] = format!("{ratio:.2}");
                missed.extend((ratio < device).then_some("device"));
            }
        }
        if let Some(figure) = figure {
            wanted.push(format!("{} {} {unit}", if more { "at least" } else { "at most" }, count(figure)));
            let reached = if more { ours >= figure } else { ours <= figure };
            missed.extend((!reached).then_some("figure"));
        }
        let verdict = if missed.is_empty() { "held".into() } else { format!("missed: {}", missed.join(", ")) };
        let [best, device] = cells;
        let _ = writeln!(
            rows,
            "| {} | {} | {} {unit} | {best} | {device} | {verdict} |",
            name(&place),
            wanted.join(", "),
            count(ours)
        );
    }
    if !rows.is_empty() {
        text.push_str("What was aimed at:\n\n| | target | ashlar | ours : best peer | ours : device | |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- |\n");
        text.push_str(&rows);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::ratio::tests::row;
    use super::*;

    #[test]
    fn a_target_is_held_or_says_what_is_missed() {
        let mut records = Records::default();
        for (engine, ops) in [(OURS, 400_000), ("a", 100_000)] {
            records.add_row(row(engine, Workload::PutAsync, 1, ops, true));
            records.add_row(row(engine, Workload::LoadSeq, 1, 10 * ops, true));
        }
        let mut text = String::new();
        table(&mut text, &records, Profile::Mem);
        assert!(
            text.contains(
                "| put-async | 1.5 × the best peer, at least 500 k ops/s | 400 k ops/s | 4.00 (a) |  | missed: figure |"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "| load-seq | 1.0 × the best peer, at least 1.00 M entries/s | 4.00 M entries/s | 4.00 (a) |  | held |"
            ),
            "{text}"
        );
        let mut none = String::new();
        table(&mut none, &records, Profile::Disk);
        assert!(none.is_empty());
    }

    #[test]
    fn each_place_has_one_target() {
        let mut places: Vec<_> = targets().iter().map(|target| target.place).collect();
        let count = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), count);
    }
}
