//! What the log does when nothing goes wrong, and when the disk fails or is full.

mod common;

use ashlar_disk::Fs;
use ashlar_wal::{Error, LogEnd, LogRecord, LogStart, Lsn, Wal, holds_any_flush, read_log_until, remove_segments};
use common::{Log, body, id_of, memory, small};
use std::path::Path;
use std::sync::Arc;

fn new_log() -> Log {
    Log::create(memory(), Path::new("/wal"), small()).expect("create")
}

fn ids(records: &[LogRecord]) -> Vec<u64> {
    records.iter().map(|record| id_of(&record.body).expect("a record that was written")).collect()
}

#[test]
fn a_new_log_is_empty() {
    let mut log = new_log();
    let (wal, records) = log.open().expect("open");
    assert!(records.is_empty());
    assert_eq!((wal.durable(), wal.appended(), wal.cut_point()), (Lsn(0), Lsn(0), Lsn(0)));
    wal.flush_to(Lsn(u64::MAX)).expect("nothing to flush");
    assert!(!wal.witness().expect("nothing to vouch for"));
    wal.close().expect("close");
    assert_eq!(wal.stats().flushes, 0);
    assert_eq!(log.segments().len(), 1);
}

#[test]
fn records_come_back_with_their_positions() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    let lens = [8, 100, 5000, 16_000, 70_000, 200_000, 9, 8];
    let appended: Vec<_> = (0..).zip(lens).map(|(id, len)| wal.append(body(id, len))).collect();
    assert!(wal.durable() < appended[0].lsn);
    wal.flush_to(appended[7].lsn).expect("flush");
    assert!(wal.durable() >= appended[7].lsn);
    let records = log.records().expect("read");
    assert_eq!(ids(&records), (0..8).collect::<Vec<_>>());
    for (record, appended) in records.iter().zip(&appended) {
        assert_eq!((record.start, record.lsn, record.flush_start), (appended.start, appended.lsn, appended.flush_start));
    }
    // From the flush that a record begins in, that record is the first that is wanted and found.
    for appended in &appended {
        log.start.c = appended.flush_start;
        let records = log.records().expect("read");
        assert!(records.iter().any(|record| record.lsn == appended.lsn));
        assert!(records.iter().all(|record| record.flush_start >= log.start.c));
    }
}

#[test]
fn a_log_that_is_being_appended_to_is_read_as_far_as_it_was_durable() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    wal.flush_to(wal.append(body(0, 100)).lsn).expect("flush");
    let until = wal.durable();
    let unseen = wal.append(body(1, 100));
    wal.flush_to(unseen.lsn).expect("flush");
    assert!(wal.witness().expect("a flush that vouches for it"));
    // As if it had been written after the reader had been there: what stands behind it says that it was durable.
    log.flip(unseen.start, 1);
    assert!(matches!(log.scan(), Err(Error::Corrupted { .. })));
    let scan = |until| read_log_until(&log.fs, &log.dir, &log.options, &log.start, until);
    assert_eq!(scan(until).expect("nothing wrong up to there").tail().records, 1);
    assert!(matches!(scan(wal.durable()), Err(Error::Corrupted { .. })));
}

#[test]
fn what_a_flush_does_not_use_of_its_blocks_is_zero() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    for (id, len) in (0..).zip([16_000, 10, 9000, 5]) {
        wal.flush_to(wal.append(body(id, len)).lsn).expect("flush");
    }
    for flush in log.flushes().expect("inspect") {
        let blocks = log.peek(flush.lsn, flush.end.since(flush.lsn) as usize);
        assert!(blocks[flush.length as usize..].iter().all(|&byte| byte == 0), "{flush:?}");
    }
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let mut log = new_log();
    for round in 0..10 {
        let (wal, records) = log.open().expect("open");
        assert_eq!(ids(&records), (0..round * 2).collect::<Vec<_>>());
        assert_eq!(wal.appended(), records.last().map_or(Lsn(0), |record| record.lsn));
        wal.append(body(round * 2, 3000));
        wal.append(body(round * 2 + 1, 30_000));
        wal.close().expect("close");
    }
    let flushes = log.flushes().expect("inspect");
    assert!(flushes.windows(2).all(|pair| pair[0].end == pair[1].lsn && pair[0].incarnation <= pair[1].incarnation));
    assert!(flushes.iter().all(|flush| flush.durable == flush.lsn), "one flush at a time");
}

#[test]
fn what_was_not_flushed_is_gone() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    let kept = wal.append(body(0, 20_000));
    wal.flush_to(kept.lsn).expect("flush");
    wal.append(body(1, 10));
    drop(wal);
    assert_eq!(ids(&log.records().expect("read")), [0]);
    assert_eq!(log.scan().expect("read").tail().why, LogEnd::Unwritten);
}

#[test]
fn the_witness_is_written_once_and_only_when_idle() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    let first = wal.append(body(0, 10));
    assert!(!wal.witness().expect("something is pending"));
    wal.flush_to(first.lsn).expect("flush");
    assert!(wal.witness().expect("witness"));
    assert!(!wal.witness().expect("vouched already"));
    let flushes = log.flushes().expect("inspect");
    assert_eq!((flushes.len(), flushes[1].length, flushes[1].first_record), (2, 64, None));
    assert_eq!(flushes[1].durable, flushes[0].end);
    // A flush vouches for the one before: after two in a row one witness is enough.
    for id in 1..3 {
        wal.flush_to(wal.append(body(id, 10)).lsn).expect("flush");
    }
    wal.close().expect("close");
    assert_eq!(wal.stats().witnesses, 2);
    // After a restart without a clean close it is written, too.
    drop(wal);
    let (wal, _) = log.open().expect("open");
    wal.flush_to(wal.append(body(3, 10)).lsn).expect("flush");
    drop(wal);
    let (wal, records) = log.open().expect("open");
    assert_eq!(ids(&records), [0, 1, 2, 3]);
    assert!(wal.witness().expect("witness"));
}

#[test]
fn a_cut_starts_a_flush() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    wal.append(body(0, 10));
    let c = wal.cut_point();
    assert_eq!((c, wal.cut_point()), (Lsn(4096), Lsn(4096)));
    let later = wal.append(body(1, 10));
    assert_eq!(later.flush_start, c);
    wal.flush_to(later.lsn).expect("flush");
    log.start.c = c;
    assert_eq!(ids(&log.records().expect("read")), [1]);
}

#[test]
fn an_incarnation_is_used_once() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    wal.append(body(0, 10));
    wal.close().expect("close");
    let tail = *log.scan().expect("read").tail();
    for given in [0, 1] {
        let refused = Wal::open(&log.fs, &log.dir, log.options.clone(), &tail, given).map(|_| ());
        assert!(matches!(refused, Err(Error::Incarnation { last: 1, .. })), "{refused:?}");
    }
}

/// Fills the log and checkpoints, again and again: segments are used again and their number stays bounded.
#[test]
fn segments_are_recycled() {
    let mut log = new_log();
    log.options.log_limit = 512 << 10;
    let (wal, _) = log.open().expect("open");
    let mut next = 0;
    for round in 0..60 {
        let from = next;
        for _ in 0..20 {
            let room = wal.reserve(9000).expect("room");
            wal.append_with(room, body(next, 9000));
            next += 1;
        }
        wal.flush_to(wal.appended()).expect("flush");
        assert_eq!(ids(&log.records().expect("read")), (from..next).collect::<Vec<_>>(), "round {round}");
        let c = wal.cut_point();
        log.start = LogStart { c, incarnation_at_c: 1, newest_incarnation: 1, durable: wal.appended() };
        wal.recycle_below(c).expect("recycle");
        wal.prepare_segments().expect("prepare");
        assert!(log.segments().len() <= 4 + 6, "{:?}", log.segments());
    }
    let stats = wal.stats();
    assert!(stats.segments_reused > 50 && stats.segments_created < 12, "{stats:?}");
    wal.close().expect("close");
    let (wal, _) = log.open().expect("open");
    wal.recycle_below(log.start.c).expect("recycle");
}

#[test]
fn room_is_limited_and_comes_back() {
    let mut log = new_log();
    log.options.log_limit = 256 << 10;
    let (wal, _) = log.open().expect("open");
    let max = wal.record_size_max();
    let refused = wal.reserve(max + 1);
    assert!(matches!(refused, Err(Error::RecordTooLarge { .. })), "{refused:?}");
    let mut taken = Vec::new();
    while let Some(room) = wal.try_reserve(max).expect("room") {
        taken.push(room);
    }
    assert_eq!(taken.len(), 4);
    assert!(wal.try_reserve(1).expect("none").is_none());
    taken.pop();
    let room = wal.try_reserve(max).expect("room").expect("given back");
    let appended = wal.append_with(room, body(0, max as usize));
    wal.flush_to(appended.lsn).expect("flush");
    drop(taken);
    assert!(wal.pressure().used <= 64 << 10 && wal.pressure().reserved == 0, "{:?}", wal.pressure());
    wal.set_log_limit(128 << 10);
    let refused = wal.reserve(max);
    assert!(matches!(refused, Err(Error::RecordTooLarge { .. })), "{refused:?}");
}

#[test]
fn whoever_waits_for_room_is_woken_by_recycling() {
    let mut log = new_log();
    log.options.log_limit = 128 << 10;
    let (wal, _) = log.open().expect("open");
    let wal = Arc::new(wal);
    let waiters: Vec<_> = (0..4)
        .map(|thread| {
            let wal = wal.clone();
            let write = move || {
                for i in 0..50 {
                    let room = wal.reserve(5000).expect("room");
                    let appended = wal.append_with(room, body(thread * 50 + i, 5000));
                    wal.flush_to(appended.lsn).expect("flush");
                }
            };
            ashlar_disk::sync::spawn("writer", write).expect("spawn")
        })
        .collect();
    while waiters.iter().any(|waiter| !waiter.is_finished()) {
        let pressure = wal.pressure();
        assert!(pressure.used + pressure.reserved <= pressure.limit, "{pressure:?}");
        if pressure.waiting > 0 {
            wal.flush_to(wal.appended()).expect("flush");
            wal.recycle_below(wal.durable()).expect("recycle");
        }
        ashlar_disk::sync::sleep(std::time::Duration::from_micros(50));
    }
    waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
    let stats = wal.stats();
    assert!(stats.records == 200 && stats.room_waits > 0, "{stats:?}");
}

#[test]
fn refusing_room_ends_waits_for_it_and_no_flush() {
    let mut log = new_log();
    log.options.log_limit = 64 << 10;
    let (wal, _) = log.open().expect("open");
    let wal = Arc::new(wal);
    let appended = wal.append(body(0, 60_000));
    let waiter = {
        let wal = wal.clone();
        let wait = move || assert!(matches!(wal.reserve(5000), Err(Error::Options("the reason"))));
        ashlar_disk::sync::spawn("waiter", wait).expect("spawn")
    };
    while wal.pressure().waiting == 0 {
        ashlar_disk::sync::sleep(std::time::Duration::from_micros(50));
    }
    wal.refuse_room(Error::Options("the reason"));
    waiter.join().expect("no panic");
    assert!(wal.try_reserve(1).is_err());
    wal.flush_to(appended.lsn).expect("what was appended is written");
    assert_eq!(ids(&log.records().expect("read")), [0]);
}

#[test]
fn many_threads_commit_in_groups() {
    let mut log = new_log();
    let (wal, _) = log.open().expect("open");
    let wal = Arc::new(wal);
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let wal = wal.clone();
            let commit = move || {
                for i in 0..100 {
                    let appended = wal.append(body(thread * 1000 + i, 50));
                    wal.flush_to(appended.lsn).expect("flush");
                    assert!(wal.durable() >= appended.lsn);
                }
            };
            ashlar_disk::sync::spawn("committer", commit).expect("spawn")
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let mut found = ids(&log.records().expect("read"));
    for thread in 0..16 {
        let of_thread: Vec<_> = found.iter().filter(|&&id| id / 1000 == thread).map(|id| id % 1000).collect();
        assert_eq!(of_thread, (0..100).collect::<Vec<_>>());
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 1600);
    println!("{:?}", wal.stats());
}

#[test]
fn leftovers_are_told_from_a_log() {
    let mut log = new_log();
    let holds = |log: &Log| holds_any_flush(&log.fs, &log.dir, log.options.mode, log.options.block).expect("look");
    assert!(!holds(&log));
    let (wal, _) = log.open().expect("open");
    wal.append(body(0, 60_000));
    wal.close().expect("close");
    assert!(holds(&log));
    for flush in log.flushes().expect("inspect") {
        assert!(holds(&log));
        log.flip(flush.lsn.plus(u64::from(flush.length) - 1), 1);
    }
    assert!(!holds(&log));
    remove_segments(&log.fs, &log.dir).expect("remove");
    assert!(log.segments().is_empty());
    let _: Arc<dyn Fs> = log.fs;
}
