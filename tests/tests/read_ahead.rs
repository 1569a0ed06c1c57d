//! Scans of more data than fits in memory: what comes next was asked for by the time it is needed, each leaf once, from the first to the
//! last, in either direction; and hardly anything is read that no scan needs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_disk::sim::{Sim, SimOptions};
use ashlardb::{Background, Database, Error, Options, Stats};

const ENTRIES: u32 = 60_000;
/// A tenth of the pages.
const FRAMES: u64 = 200;
/// More than there are pages.
const FRAMES_FOR_ALL: u64 = 10_000;

/// Leaves that a scan asks for ahead, at most, with so few frames.
const AHEAD: u64 = FRAMES / 32;

fn open(sim: &Sim, frames: u64) -> Database {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).page_size(4096);
    options.cache_size(frames << 12).open("/db").unwrap()
}

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

fn value(i: u32) -> Vec<u8> {
    vec![i as u8; 100]
}

/// A tree of one load, whose leaves stand side by side in the file.
fn loaded() -> Sim {
    let sim = Sim::new(SimOptions::new(1));
    let db = open(&sim, FRAMES_FOR_ALL);
    let entries = (0..ENTRIES).map(|i| Ok::<_, Error>((key(i), value(i))));
    db.keyspace("k").unwrap().bulk_load(entries).unwrap();
    db.checkpoint().unwrap();
    sim
}

/// What was done between two moments: (pages read, those of them that somebody waited for without their having been asked for).
fn between(before: &Stats, after: &Stats) -> (u64, u64) {
    (after.pages_read - before.pages_read, after.pool.loads - before.pool.loads)
}

/// Looks at the entries `range`, in order or backwards, with nothing of them in memory before.
fn scan(sim: &Sim, frames: u64, range: std::ops::Range<u32>, forward: bool) -> (u64, u64) {
    let db = open(sim, frames);
    let keyspace = db.keyspace("k").unwrap();
    let before = db.stats();
    let mut cursor = keyspace.cursor(key(range.start)..key(range.end));
    let mut expected = range;
    while let Some(i) = if forward { expected.next() } else { expected.next_back() } {
        let entry = if forward { cursor.next() } else { cursor.next_back() }.unwrap();
        assert_eq!(entry, Some((&key(i)[..], &value(i)[..])));
    }
    assert_eq!(if forward { cursor.next() } else { cursor.next_back() }.unwrap(), None);
    between(&before, &db.stats())
}

#[test]
fn every_leaf_of_a_long_scan_is_asked_for_once_and_before_it_is_needed() {
    let sim = loaded();
    // Where nothing ever leaves memory, nothing is read twice.
    let (pages, _) = scan(&sim, FRAMES_FOR_ALL, 0..ENTRIES, true);
    assert!(pages > 8 * FRAMES);
    for forward in [true, false] {
        let (read, waited_for) = scan(&sim, FRAMES, 0..ENTRIES, forward);
        assert!(read <= pages + 4, "{read} reads of {pages} pages, forward: {forward}");
        // The way to the first leaf, the first two leaves, and one inner page or two that come early.
        assert!(waited_for <= 8, "{waited_for} of {read} pages were waited for, forward: {forward}");
    }
}

#[test]
fn a_short_scan_reads_little_beyond_its_end() {
    let sim = loaded();
    let (pages, _) = scan(&sim, FRAMES_FOR_ALL, 0..ENTRIES, true);
    for (len, beyond) in [(1, 0), (30, 1), (100, 4), (4000, AHEAD), (20_000, AHEAD)] {
        for forward in [true, false] {
            let (read, _) = scan(&sim, FRAMES, 30_000..30_000 + len, forward);
            // With both ends, and the way there.
            let needed = pages * u64::from(len) / u64::from(ENTRIES) + 5;
            assert!(read <= needed + beyond, "{read} pages were read for {len} entries, {needed} needed, forward: {forward}");
        }
    }
}

/// Scans that go through a few leaves each wait for these once, not for one after the other, when that has been learned; and nothing is read
/// for scans that need one leaf.
#[test]
fn what_scans_usually_need_is_asked_for_at_once() {
    let sim = loaded();
    for forward in [true, false] {
        let db = open(&sim, FRAMES);
        let keyspace = db.keyspace("k").unwrap();
        // Far from each other, so that nothing of one scan is in memory in the next, but for the pages above.
        let scans = |from: u32, len: u32| {
            let before = db.stats();
            for n in from..from + 20 {
                let start = n * 17_011 % (ENTRIES - 200);
                let mut cursor = match forward {
                    true => keyspace.cursor(key(start)..),
                    false => keyspace.cursor(..key(start + len)),
                };
                let mut expected = start..start + len;
                while let Some(i) = if forward { expected.next() } else { expected.next_back() } {
                    let entry = if forward { cursor.next() } else { cursor.next_back() }.unwrap();
                    assert_eq!(entry, Some((&key(i)[..], &value(i)[..])));
                }
            }
            let (read, waited_for) = between(&before, &db.stats());
            (read as f64 / 20.0, waited_for as f64 / 20.0)
        };
        scans(0, 100);
        scans(20, 100);
        let (read, waited_for) = scans(40, 100);
        assert!(read < 5.5, "{read} pages read a scan of some four leaves, forward: {forward}");
        assert!(waited_for < 0.5, "{waited_for} pages a scan were waited for that were not asked for, forward: {forward}");
        for n in 3..12 {
            scans(n * 20, 1);
        }
        let (read, _) = scans(240, 1);
        assert!(read < 1.2, "{read} pages read a scan of one leaf, forward: {forward}");
    }
}
