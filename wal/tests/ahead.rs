//! A log that is read ahead gives what one that is read piece by piece gives, and the same errors.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::sim::{FaultKind, FaultRates, Sim, SimOptions};
use ashlar_disk::{Fs, QueueKind};
use ashlar_wal::{Error, LogRecord, LogScan, Lsn, Met, Result, Source, WalOptions};
use common::{Log, body, small};
use rand::{RngExt, SeedableRng};
use std::path::Path;
use std::sync::Arc;

/// Segments of several pieces, flushes of up to one and a half.
fn options() -> WalOptions {
    WalOptions { segment_size: 4 << 20, flush_size_max: 3 << 19, log_limit: 64 << 20, ..small() }
}

fn read_ahead(fs: &Arc<dyn Fs>, log: &Log) -> Result<(LogScan, Vec<LogRecord>)> {
    let queue = fs.queue(QueueKind::Threads, 8)?;
    let mut records = Vec::new();
    let source = Source::new(fs, &log.dir, &log.options).ahead_by(queue);
    let mut over = 0;
    let scan = source.read(&log.start, |met| match met {
        Met::Record(record) => {
            assert_eq!(over, 0, "a record behind the last one");
            records.push(record.to_owned());
        }
        Met::NoFurther => over += 1,
    })?;
    assert_eq!(over, 1, "that there is no further record is told once");
    Ok((scan, records))
}

fn written(sim: &Sim, seed: u64) -> Log {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut log = Log::create(sim.fs(), Path::new("/wal"), options()).unwrap();
    let (wal, _) = log.open().unwrap();
    for id in 0..rng.random_range(10..120) {
        let len = if rng.random_bool(0.1) { rng.random_range(20..2 << 20) } else { rng.random_range(20..3000) };
        let room = wal.reserve(len as u64).unwrap();
        let appended = wal.append_with(room, body(id, len));
        if rng.random_bool(0.5) {
            wal.flush_to(appended.lsn).unwrap();
        }
    }
    wal.close().unwrap();
    log
}

#[test]
fn what_is_read_ahead_is_what_is_there() {
    for seed in 0..12 {
        let sim = Sim::new(SimOptions::new(seed));
        let log = written(&sim, seed);
        let expected = log.records().unwrap();
        let (scan, records) = read_ahead(&log.fs, &log).unwrap();
        assert!(records == expected && scan.tail() == log.scan().unwrap().tail(), "seed {seed}");
        // Again, from the flush of any record on.
        for (i, record) in expected.iter().enumerate().step_by(7) {
            let mut again = Vec::new();
            let each = |record: ashlar_wal::LentRecord<'_>| {
                again.push(record.to_owned());
                Ok::<_, ()>(())
            };
            scan.each_record(record.flush_start, each).unwrap().unwrap();
            let first = expected.iter().position(|other| other.flush_start == record.flush_start).unwrap();
            assert!(again == expected[first..], "seed {seed}, record {i}");
        }
    }
}

#[test]
fn an_error_ends_handing_over() {
    let log = written(&Sim::new(SimOptions::new(3)), 3);
    let (scan, records) = read_ahead(&log.fs, &log).unwrap();
    let mut met = 0;
    let outcome = scan.each_record(log.start.c, |record| {
        met += 1;
        if record.lsn == records[4].lsn { Err("enough") } else { Ok(()) }
    });
    assert_eq!((outcome.unwrap(), met), (Err("enough"), 5));
}

#[test]
fn a_read_that_fails_is_made_again_and_an_error_is_that_of_the_disk() {
    let mut failed = 0;
    for seed in 0..40 {
        let sim = Sim::new(SimOptions::new(seed));
        let log = written(&sim, seed);
        let expected = log.records().unwrap();
        sim.set_faults(FaultRates::none().with(FaultKind::ReadError, FaultRates::OF / 16));
        match read_ahead(&log.fs, &log) {
            Ok((_, records)) => assert!(records == expected, "seed {seed}"),
            Err(Error::Disk(_)) => failed += 1,
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    assert!((5..38).contains(&failed), "{failed} of 40");
}

#[test]
fn damage_is_told_as_ever() {
    let sim = Sim::new(SimOptions::new(9));
    let log = written(&sim, 9);
    let flushes = log.flushes().unwrap();
    for flush in flushes.iter().take(flushes.len() - 1) {
        log.flip(flush.lsn.plus(70), 1);
        let told = |outcome: Result<()>| match outcome {
            Err(Error::Corrupted { from, damage, .. }) => (from, damage),
            other => panic!("{other:?}"),
        };
        let here = told(read_ahead(&log.fs, &log).map(drop));
        assert_eq!(here, told(log.scan().map(drop)));
        assert_eq!(here.0, flush.lsn);
        log.flip(flush.lsn.plus(70), 1);
    }
    assert!(log.scan().is_ok() && flushes[0].lsn == Lsn(0));
}
