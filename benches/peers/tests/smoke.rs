//! Every engine of this build through every workload with a small data set, and the program from the driver to the report.
//!
//! Each row is a process, as when it is measured.

#![allow(clippy::unwrap_used)]

use peers::engine::Spec;
use peers::engines;
use peers::matrix::{Spot, spot_name};
use peers::row::{Loaded, Profile, Row};
use peers::workload::{Start, Workload};
use std::path::Path;
use std::process::{Command, Output};

const N: &str = "2000";

fn peers(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers")).args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> Output {
    let output = peers(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs a row in a directory of its own; its record.
fn run(spec: &Spec, workload: Workload, threads: &str, dir: &Path) -> Row {
    let (db, json) = (dir.join("db"), dir.join("row.json"));
    let common = ["--engine", spec.name, "--n", N, "--value-size", "100", "--dir", db.to_str().unwrap()];
    if spec.mode_of.is_some() && workload.start() != Start::Empty {
        succeed(&[&["load", "--workload", "get-rand", "--engine", spec.data_of()], &common[2..]].concat());
    }
    let own = ["--workload", &workload.name(), "--threads", threads, "--seconds", "0.2", "--blobs", "4", "--json"];
    succeed(&[&["run"], &common[..], &own[..], &[json.to_str().unwrap()]].concat());
    peers::row::read(&json).unwrap()
}

#[test]
fn every_engine_runs_every_workload() {
    for spec in engines::all() {
        let (mut ran, mut lacking) = (0, 0);
        for workload in Workload::ALL {
            let dir = tempfile::tempdir_in(".").unwrap();
            if workload.lacks(spec).is_some() {
                let name = workload.name();
                let refused = peers(&["run", "--engine", spec.name, "--workload", &name, "--dir", dir.path().to_str().unwrap()]);
                assert!(!refused.status.success(), "{} runs {name}", spec.name);
                lacking += 1;
                continue;
            }
            let threads = if workload == Workload::BulkLoad || workload.is_open() { "1" } else { "2" };
            let row = run(spec, workload, threads, dir.path());
            let name = format!("{} {}", spec.name, workload.name());
            assert!(row.ops > 0 && row.entries > 0 && row.bytes > 0 && row.elapsed_s > 0.0 && row.complete, "{name}");
            assert!(row.latency.p50 > 0 && row.latency.p50 <= row.latency.p999 && row.latency.p999 <= row.latency.max, "{name}");
            assert!(row.used.peak_rss_bytes > 0 && row.space_bytes > 0, "{name}");
            match workload {
                Workload::LoadSeq | Workload::LoadRand | Workload::BulkLoad => assert_eq!(row.entries, 2000, "{name}"),
                Workload::BlobPut => assert_eq!(row.bytes, 4 * ((1 << 20) + 16), "{name}"),
                _ => {}
            }
            let timed = workload.writes() && workload != Workload::BulkLoad && !workload.is_open();
            assert_eq!(row.entries_by_step.iter().sum::<u64>(), if timed { row.entries } else { 0 }, "{name}");
            assert_eq!(row.promise.is_empty(), !workload.writes(), "{name}");
            ran += 1;
        }
        println!("{}: {ran} workloads, {lacking} that it lacks", spec.name);
        assert!(ran > 5, "{}", spec.name);
    }
}

#[test]
fn a_load_in_any_order_leaves_the_same_data() {
    for spec in engines::all().into_iter().filter(|spec| spec.mode_of.is_none()) {
        for loaded in ["rand", "bulk"] {
            let dir = tempfile::tempdir_in(".").unwrap();
            let (db, json) = (dir.path().join("db"), dir.path().join("row.json"));
            let common = ["--engine", spec.name, "--n", N, "--loaded", loaded, "--dir", db.to_str().unwrap()];
            succeed(&[&["load", "--workload", "scan-full"], &common[..]].concat());
            let own = ["--workload", "scan-full", "--seconds", "0.1", "--json", json.to_str().unwrap()];
            succeed(&[&["run"], &common[..], &own[..]].concat());
            let row = peers::row::read(&json).unwrap();
            assert!(row.entries >= 2000 && row.entries.is_multiple_of(2000), "{} {loaded}", spec.name);
        }
    }
}

#[test]
fn data_that_is_missing_ends_a_row() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let db = dir.path().to_str().unwrap();
    succeed(&["load", "--workload", "get-rand", "--engine", engines::OURS, "--n", "1000", "--dir", db]);
    let more = ["run", "--engine", engines::OURS, "--n", "2000", "--seconds", "0.5", "--dir", db, "--workload"];
    for workload in ["get-rand", "scan-full", "get-many", "update-rand"] {
        let output = peers(&[&more[..], &[workload]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("wrong data"), "{workload}: {text}");
    }
}

#[test]
fn the_driver_measures_once_and_reports() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().to_str().unwrap();
    let arguments = ["--dir", path, "--engines", engines::OURS, "--n", N, "--seconds", "0.5", "--repeats", "2", "--threads", "1"];
    let all = |workloads: &str| succeed(&[&["all", "--no-fio", "--workloads", workloads], &arguments[..]].concat());
    all("get-rand,put-async");
    let spot = |workload| Spot { workload, threads: 1, loaded: Loaded::Rand };
    let record = |workload, repeat: u32| {
        let name = spot_name(Profile::Mem, spot(workload));
        dir.path().join("results").join(format!("{name}-{}-r{repeat}.json", engines::OURS))
    };
    let first = std::fs::read(record(Workload::GetRand, 1)).unwrap();
    assert!(record(Workload::GetRand, 2).exists() && record(Workload::PutAsync, 2).exists());
    std::fs::remove_file(record(Workload::GetRand, 2)).unwrap();
    all("get-rand,put-async,reopen");
    assert_eq!(std::fs::read(record(Workload::GetRand, 1)).unwrap(), first, "measured again");
    assert!(record(Workload::GetRand, 2).exists() && record(Workload::Reopen, 1).exists());
    let report = std::fs::read_to_string(dir.path().join("report.md")).unwrap();
    assert!(report.contains("| get-rand | ops/s |") && report.contains("| reopen | ms |"), "{report}");
    assert!(dir.path().join("plots/mem-put-async-t1-time.svg").exists());
    // A data set that a killed row may have left is loaded anew: its mark is gone afterwards.
    let home = std::fs::read_dir(dir.path().join("data")).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap().path();
    assert!(home.join("about").exists() && !home.join("in-use").exists());
}
