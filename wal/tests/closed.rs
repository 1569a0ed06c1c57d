//! Sealing a log, and opening one that its superblock says was closed with nothing behind C.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::AlignedBuf;
use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_wal::{Damage, Error, LogStart, Lsn, Wal, read_closed_log};
use common::{Log, small};
use std::path::Path;

fn new_log() -> Log {
    Log::create(Sim::new(SimOptions::new(1)).fs(), Path::new("/wal"), small()).unwrap()
}

/// What a superblock says after a checkpoint that holds all records.
fn closed_at(log: &Log, c: Lsn, appended: Lsn) -> LogStart {
    LogStart { c, incarnation_at_c: log.start.newest_incarnation, durable: appended, ..log.start }
}

fn commit(wal: &Wal, body: &[u8]) -> Lsn {
    let room = wal.reserve(body.len() as u64).unwrap();
    let appended = wal.append_with(room, body.to_vec());
    wal.flush_to(appended.lsn).unwrap();
    appended.lsn
}

#[test]
fn only_a_log_at_rest_is_sealed_and_only_at_its_end() {
    let mut log = new_log();
    let (wal, _) = log.open().unwrap();
    commit(&wal, b"one");
    let c = wal.cut_point();
    wal.append(b"two".to_vec());
    assert!(!wal.seal(c).unwrap(), "a record is pending");
    assert!(!wal.seal(wal.cut_point()).unwrap(), "its flush is not written");
    wal.flush_to(wal.appended()).unwrap();
    assert!(!wal.seal(c).unwrap(), "a flush stands there");
    assert!(wal.witness().unwrap(), "what was not sealed is written to");
    assert_eq!(log.records().unwrap().len(), 2);
    commit(&wal, b"three");
    assert!(wal.seal(wal.cut_point()).unwrap());
}

#[test]
fn a_sealed_log_is_not_written_to_any_more() {
    let mut log = new_log();
    let (wal, _) = log.open().unwrap();
    let lsn = commit(&wal, b"one");
    let c = wal.cut_point();
    assert!(wal.seal(c).unwrap());
    assert!(matches!(wal.witness(), Err(Error::Sealed)));
    assert!(matches!(wal.reserve(3), Err(Error::Sealed)));
    let late = wal.append(b"late".to_vec());
    assert!(matches!(wal.flush_to(late.lsn), Err(Error::Sealed)));
    wal.flush_to(lsn).unwrap();
    assert!(matches!(wal.seal(c), Err(Error::Sealed)));
    assert_eq!(log.records().unwrap().len(), 1);
    assert_eq!(log.flushes().unwrap().len(), 1);
}

#[test]
fn a_closed_log_goes_on_where_it_ended() {
    let mut log = new_log();
    let mut records = 0;
    for round in 0..60u8 {
        let (wal, found) = log.open().unwrap();
        assert_eq!(found.len(), 0, "{round}: all were in a checkpoint");
        let mut last = log.start.durable;
        // Over segments, some rounds without anything.
        for i in 0..round % 7 {
            last = commit(&wal, &vec![i; 3000 * usize::from(i)]);
            records += 1;
        }
        if round % 3 == 0 {
            wal.witness().unwrap();
        }
        let c = wal.cut_point();
        wal.recycle_below(c).unwrap();
        assert!(wal.seal(c).unwrap());
        drop(wal);
        let start = closed_at(&log, c, last);
        let scan = read_closed_log(&log.fs, &log.dir, &log.options, &start).unwrap();
        log.start = start;
        assert_eq!(scan.tail(), log.scan().unwrap().tail(), "{round}: as if it had been read");
        assert_eq!(scan.records().unwrap().count(), 0);
    }
    assert!(records > 100);
}

#[test]
fn a_flush_behind_the_end_of_a_closed_log_is_told() {
    let mut log = new_log();
    let (wal, _) = log.open().unwrap();
    let lsn = commit(&wal, b"one");
    let c = wal.cut_point();
    let start = closed_at(&log, c, lsn);
    assert!(read_closed_log(&log.fs, &log.dir, &log.options, &start).is_ok());
    commit(&wal, b"two");
    let damage = |start: &LogStart| match read_closed_log(&log.fs, &log.dir, &log.options, start) {
        Err(Error::Corrupted { from, damage, .. }) => (from, damage),
        other => panic!("{other:?}"),
    };
    assert_eq!(damage(&start), (c, Damage::NotEmpty { found: 1 }));
    // The superblock of the open that wrote it was lost.
    let older = LogStart { incarnation_at_c: 0, newest_incarnation: 0, ..start };
    assert_eq!(damage(&older), (c, Damage::UnknownIncarnation { found: 1, newest: 0 }));
    // The flush at C is gone; one that begins a later segment vouches for it.
    for i in 0..20 {
        commit(&wal, &[i; 9000]);
    }
    log.poke(c, &mut AlignedBuf::zeroed(4096));
    assert!(matches!(damage(&start), (at, Damage::Confirmed { .. }) if at == c));
}
