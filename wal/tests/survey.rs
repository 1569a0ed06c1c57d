//! A survey of a damaged log gives every record whose flushes are whole, and says where something is missing.

mod common;

use ashlar_wal::{FlushInfo, Lsn, Piece, SurveyOptions, log_traits, survey};
use common::{Log, body, id_of, memory, small};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use std::path::Path;

/// A log of many records over several segments and incarnations; where each record stands.
fn written(seed: u64) -> (Log, Vec<Range<u64>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut log = Log::create(memory(), Path::new("/wal"), small()).expect("create");
    let mut count = 0;
    for _ in 0..3 {
        let (wal, _) = log.open().expect("open");
        for _ in 0..rng.random_range(5..25) {
            let len = if rng.random_ratio(1, 6) { rng.random_range(8..40_000) } else { rng.random_range(8..300) };
            wal.append(body(count, len));
            count += 1;
            if rng.random_bool(0.5) {
                wal.flush_to(wal.appended()).expect("flush");
            }
        }
        wal.close().expect("close");
    }
    let places: Vec<_> = log.records().expect("read").iter().map(|record| record.start.0..record.lsn.0).collect();
    assert_eq!(places.len() as u64, count);
    (log, places)
}

fn options(log: &Log, from: Option<Lsn>) -> SurveyOptions {
    SurveyOptions {
        segment_size: log.options.segment_size,
        block: log.options.block,
        uuid_tag: log.options.uuid_tag(),
        mode: log.options.mode,
        from,
        incarnation_min: 0,
        incarnation_max: u32::MAX,
    }
}

/// From where, and to where if anything follows.
type Gap = (Lsn, Option<Lsn>);

/// The ids of the records that are found, the gaps between, and the incarnations.
fn found(log: &Log, from: Option<Lsn>) -> (Vec<u64>, Vec<Gap>, Vec<u32>) {
    let (mut ids, mut gaps, mut turns) = (Vec::new(), Vec::new(), Vec::new());
    for piece in survey(&log.fs, &log.dir, &options(log, from)).expect("survey") {
        match piece {
            Piece::Record { record, incarnation } => {
                ids.push(id_of(&record.body).expect("a record that was written"));
                assert!(turns.last().is_none_or(|last| *last == incarnation));
            }
            Piece::Gap { from, to, .. } => gaps.push((from, to)),
            Piece::Turn { incarnation, .. } => turns.push(incarnation),
            Piece::Unreadable { path, .. } => unreachable!("{} can be read", path.display()),
        }
    }
    (ids, gaps, turns)
}

fn zero(log: &Log, flush: &FlushInfo) {
    log.poke(flush.lsn, &mut ashlar_disk::AlignedBuf::zeroed(log.options.block.bytes()));
}

#[test]
fn a_whole_log_is_surveyed_whole() {
    let (log, places) = written(1);
    let all: Vec<u64> = (0..places.len() as u64).collect();
    for from in [None, Some(Lsn(0)), Some(Lsn(17))] {
        let (ids, gaps, turns) = found(&log, from);
        assert_eq!((ids, turns), (all.clone(), vec![1, 2, 3]));
        assert_eq!(gaps, [(log.scan().expect("read").tail().end, None)]);
    }
    let traits = log_traits(&log.fs, &log.dir, log.options.mode).expect("look").expect("flushes are there");
    assert_eq!((traits.segment_size, traits.uuid_tag), (log.options.segment_size, log.options.uuid_tag()));
}

#[test]
fn each_damaged_flush_costs_the_records_that_it_touches() {
    for seed in 0..10 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (log, places) = written(seed);
        let flushes = log.flushes().expect("inspect");
        let hurt: Vec<&FlushInfo> = (0..3).map(|_| &flushes[rng.random_range(0..flushes.len())]).collect();
        hurt.iter().for_each(|flush| zero(&log, flush));
        let is_whole =
            |place: &Range<u64>| hurt.iter().all(|f| place.end <= f.lsn.0 || place.start >= f.lsn.0 + u64::from(f.length));
        let expected: Vec<u64> = (0..).zip(&places).filter(|(_, place)| is_whole(place)).map(|(id, _)| id).collect();
        let (ids, gaps, _) = found(&log, None);
        assert_eq!(ids, expected, "seed {seed}: {hurt:?}");
        for flush in hurt {
            let before_all = flush.lsn == Lsn(0);
            let within = |(from, to): &Gap| *from <= flush.lsn && to.is_none_or(|to| flush.lsn < to);
            assert!(before_all || gaps.iter().any(within), "seed {seed}: {flush:?} {gaps:?}");
        }
    }
}

#[test]
fn a_missing_segment_costs_what_stood_in_it() {
    let (log, places) = written(4);
    let size = log.options.segment_size;
    let path = log.dir.join("000000000001.wal");
    log.fs.remove(&path).expect("there are several");
    let expected: Vec<u64> =
        (0..).zip(&places).filter(|(_, place)| place.end <= size || place.start >= 2 * size).map(|(id, _)| id).collect();
    let (ids, gaps, _) = found(&log, Some(Lsn(0)));
    assert!(ids.len() < places.len() && gaps.len() == 2, "{gaps:?}");
    assert_eq!(ids, expected);
    assert!(gaps[0].0 <= Lsn(size) && gaps[0].1 == Some(Lsn(2 * size)));
}
