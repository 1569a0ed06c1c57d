//! The n-th call fails, for every n: the first error is final, what was confirmed stays, nobody waits for ever.

mod common;

use ashlar_wal::{Error, Lsn};
use common::faulty::{Fault, FaultyFs, Plan};
use common::{Log, body, id_of, memory, small};
use std::path::Path;
use std::sync::Arc;

/// Some commits, checkpoints and idle moments over several segments. Gives the ids that were confirmed, and what ended it.
fn work(log: &mut Log) -> (Vec<u64>, Result<(), Error>) {
    let mut confirmed = Vec::new();
    let outcome = work_until_error(log, &mut confirmed);
    (confirmed, outcome)
}

fn work_until_error(log: &mut Log, confirmed: &mut Vec<u64>) -> Result<(), Error> {
    let (wal, _) = log.open()?;
    for id in 0..40 {
        let room = match wal.reserve(7000) {
            Err(Error::Disk(error)) if error.is_no_space() => wal.reserve(7000),
            other => other,
        };
        let appended = wal.append_with(room?, body(id, 7000));
        if let Err(first) = wal.flush_to(appended.lsn) {
            let durable = wal.durable();
            let again = wal.flush_to(appended.lsn).expect_err("the first error is final");
            assert_eq!(first.to_string(), again.to_string());
            assert_eq!(wal.reserve(1).expect_err("nothing is promised any more").to_string(), first.to_string());
            assert!(wal.flush_to(durable).is_ok(), "what was confirmed stays confirmed");
            wal.append(body(99, 100));
            assert!(wal.witness().is_err() && wal.close().is_err());
            assert_eq!(wal.durable(), durable);
            return Err(first);
        }
        confirmed.push(id);
        if id % 8 == 3 {
            wal.witness()?;
            wal.prepare_segments()?;
        }
    }
    wal.close()
}

fn new_log(fault: Fault) -> (Log, Arc<Plan>) {
    let (fs, plan) = FaultyFs::over(memory(), fault);
    (Log::create(fs, Path::new("/wal"), small()).expect("create"), plan)
}

fn found(log: &mut Log) -> Vec<u64> {
    let (_, records) = log.open().expect("recover");
    records.iter().map(|record| id_of(&record.body).expect("a record that was written")).collect()
}

#[test]
fn every_call_fails_once() {
    let (mut log, plan) = new_log(Fault::Eio);
    let before = plan.calls();
    work(&mut log).1.expect("no fault yet");
    let calls = plan.calls() - before;
    assert!(calls > 100);
    for n in 1..=calls {
        let (mut log, plan) = new_log(Fault::Eio);
        plan.fail_after(n);
        let (confirmed, outcome) = work(&mut log);
        assert!(outcome.is_err() || plan.calls() - before > n, "call {n} of {calls} failed and nobody was told");
        let found = found(&mut log);
        assert!(found.len() >= confirmed.len() && found.iter().copied().eq(0..found.len() as u64), "call {n}: {found:?}");
    }
}

#[test]
fn no_space_for_a_segment_is_told_before_anything_is_appended() {
    for n in 1..400 {
        let (mut log, plan) = new_log(Fault::NoSpace);
        plan.fail_after(n);
        let (confirmed, outcome) = work(&mut log);
        let found = found(&mut log);
        assert!(found.len() >= confirmed.len() && found.iter().copied().eq(0..found.len() as u64), "call {n}: {found:?}");
        // One failure is survived wherever a segment was to be made; only a flush that is told there is no space, in a file
        // whose space is there, is the end.
        if let Err(error) = outcome {
            assert!(matches!(&error, Error::Disk(error) if error.is_no_space()), "{error}");
        }
    }
}

#[test]
fn a_full_disk_fails_the_reservation_and_not_the_log() {
    let (mut log, plan) = new_log(Fault::NoSpace);
    let (wal, _) = log.open().expect("open");
    let mut id = 0;
    loop {
        plan.fail_after(1);
        match wal.try_reserve(20_000) {
            Ok(room) => {
                plan.fail_after(1 << 40);
                let appended = wal.append_with(room.expect("the log is not full"), body(id, 20_000));
                wal.flush_to(appended.lsn).expect("the segments are there");
                id += 1;
            }
            Err(error) => {
                assert!(matches!(&error, Error::Disk(error) if error.is_no_space()), "{error}");
                break;
            }
        }
    }
    assert_eq!(wal.pressure().reserved, 0);
    plan.fail_after(1 << 40);
    let room = wal.reserve(20_000).expect("space came back");
    wal.flush_to(wal.append_with(room, body(id, 20_000)).lsn).expect("flush");
    assert!(wal.durable() > Lsn(0));
    assert_eq!(found(&mut log).len() as u64, id + 1);
}
