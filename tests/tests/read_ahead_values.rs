//! Values that stand in pages of their own, read from a database larger than memory: what comes next was asked for by the time it is
//! needed, each page once, many of them with one transfer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_disk::sim::{Sim, SimOptions};
use ashlardb::{Background, Cursor, Database, Error, Keyspace, Options};
use std::ops::Range;

const PAGE: usize = 4096;
/// Less than a tenth of the pages of every test.
const FRAMES: u64 = 200;

/// Pages that are asked for ahead of a scan, at most, with so few frames.
const AHEAD: u64 = FRAMES / 32;

/// More than there are pages.
const FRAMES_FOR_ALL: u64 = 20_000;

fn open(sim: &Sim, frames: u64) -> Database {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).page_size(PAGE);
    options.cache_size(frames * PAGE as u64).blob_threshold(1 << 20).open("/db").unwrap()
}

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

fn value(i: u32, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32 / 7 + i * 31) as u8).collect()
}

/// A tree of one load, whose pages stand side by side in the file. `len_of` gives the length of each value.
fn loaded(count: u32, len_of: impl Fn(u32) -> usize) -> Sim {
    let sim = Sim::new(SimOptions::new(1));
    let db = open(&sim, FRAMES_FOR_ALL);
    let entries = (0..count).map(|i| Ok::<_, Error>((key(i), value(i, len_of(i)))));
    db.keyspace("k").unwrap().bulk_load(entries).unwrap();
    db.checkpoint().unwrap();
    sim
}

/// What something took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Pages read,
    pages: u64,
    /// those of them that somebody waited for without their having been asked for,
    waited_for: u64,
    /// and calls to the disk.
    calls: u64,
}

/// What `work` takes on a database with nothing in memory.
fn cost(sim: &Sim, frames: u64, work: impl FnOnce(&Keyspace)) -> Cost {
    let db = open(sim, frames);
    let keyspace = db.keyspace("k").unwrap();
    cost_of(sim, &db, || work(&keyspace))
}

fn cost_of(sim: &Sim, db: &Database, work: impl FnOnce()) -> Cost {
    let (before, calls) = (db.stats(), sim.calls());
    work();
    let (after, calls) = (db.stats(), sim.calls() - calls);
    Cost { pages: after.pages_read - before.pages_read, waited_for: after.pool.loads - before.pool.loads, calls }
}

fn step(cursor: &mut Cursor, forward: bool) -> Option<(&[u8], &[u8])> {
    if forward { cursor.next() } else { cursor.next_back() }.unwrap()
}

/// Looks at the entries `range`, in order or backwards.
fn scan(keyspace: &Keyspace, mut range: Range<u32>, forward: bool, len_of: impl Fn(u32) -> usize) {
    let mut cursor = keyspace.cursor(key(range.start)..key(range.end));
    while let Some(i) = if forward { range.next() } else { range.next_back() } {
        assert!(step(&mut cursor, forward) == Some((&key(i)[..], &value(i, len_of(i))[..])), "entry {i}");
    }
    assert_eq!(step(&mut cursor, forward), None);
}

/// Values of one page, of several, of more than are asked for ahead, of all sorts; and mixed with values that stand in their leaves.
#[test]
fn every_page_of_a_long_scan_is_read_once_and_before_it_is_needed() {
    check_long_scans("one page", 12, 4000, |_| 3000);
    check_long_scans("three pages", 6, 1500, |_| 10_000);
    check_long_scans("of all sorts", 8, 1500, |i| (i as usize * 7919) % 12_000);
    check_long_scans("mixed", 30, 4000, |i| if i.is_multiple_of(3) { 100 } else { 3000 });
    check_long_scans("many pages", 6, 60, |_| 100_000);
    check_long_scans("more pages than frames", 6, 20, |_| 400_000);
}

/// `waits_max`: pages that may be waited for without their having been asked for, where the window is not as small as can be.
fn check_long_scans(name: &str, waits_max: u64, count: u32, len_of: impl Fn(u32) -> usize + Copy) {
    let sim = loaded(count, len_of);
    // Where nothing ever leaves memory, nothing is read twice.
    let pages = cost(&sim, FRAMES_FOR_ALL, |keyspace| scan(keyspace, 0..count, true, len_of)).pages;
    assert!(pages > 7 * FRAMES);
    // Of a hundred pages, how many may be read twice, and how many transfers there may be.
    for (frames, again, calls) in [(1000, 1, 25), (FRAMES, 1, 70), (64, 1, 85), (32, 1, 101), (16, 3, 103)] {
        for forward in [true, false] {
            let found = cost(&sim, frames, |keyspace| scan(keyspace, 0..count, forward, len_of));
            let told = format!("{name}, {pages} pages, {frames} frames, forward: {forward}: {found:?}");
            assert!(found.pages <= pages + pages * again / 100, "{told}");
            assert!(found.calls <= pages * calls / 100, "{told}");
            assert!(found.waited_for <= waits_max || frames < FRAMES, "{told}");
            assert!(found.waited_for <= waits_max * 2 || frames < 64, "{told}");
        }
    }
}

/// Where a range ends is known; where somebody stops, is not.
#[test]
fn a_short_scan_reads_little_that_it_does_not_come_to() {
    let sim = loaded(4000, |_| 3000);
    for len in [1, 2, 3, 10, 50, 500] {
        for forward in [true, false] {
            let bounded = cost(&sim, FRAMES, |keyspace| scan(keyspace, 2000..2000 + len, forward, |_| 3000));
            let stopped = cost(&sim, FRAMES, |keyspace| {
                let mut cursor = keyspace.cursor(key(1000)..key(3000));
                (0..len).for_each(|_| assert!(step(&mut cursor, forward).is_some()));
            });
            let told = format!("{len} entries, forward: {forward}: {bounded:?}, {stopped:?}");
            // The way there, and the ends of leaves.
            let needed = u64::from(len) + 3 + u64::from(len) / 100;
            assert!(bounded.pages <= needed, "{told}");
            assert!(stopped.pages <= needed + AHEAD.min(u64::from(len - 1) * 2), "{told}");
            assert!(bounded.waited_for <= 8 && stopped.waited_for <= 8, "{told}");
        }
    }
}

/// Each end has a window of its own, and what both have come to is read once.
#[test]
fn a_scan_from_both_ends_reads_each_page_once() {
    let sim = loaded(2000, |_| 3000);
    let all = cost(&sim, FRAMES_FOR_ALL, |keyspace| scan(keyspace, 0..2000, true, |_| 3000));
    let found = cost(&sim, FRAMES, |keyspace| {
        let mut cursor = keyspace.cursor::<[u8; 4]>(..);
        for i in 0..1000 {
            assert_eq!(step(&mut cursor, true).unwrap().0, key(i));
            assert_eq!(step(&mut cursor, false).unwrap().0, key(1999 - i));
        }
        assert_eq!(step(&mut cursor, true), None);
    });
    assert!(found.pages <= all.pages + 8 && found.waited_for <= 16 && found.calls <= all.pages / 2, "{found:?}, {all:?}");
}

/// What a snapshot sees is asked for, not what has replaced it since.
#[test]
fn a_scan_of_a_snapshot_asks_for_what_it_sees() {
    const COUNT: u32 = 1000;
    for forward in [true, false] {
        let sim = loaded(COUNT, |_| 3000);
        let db = open(&sim, FRAMES);
        let keyspace = db.keyspace("k").unwrap();
        let snapshot = db.snapshot().unwrap();
        for i in 0..COUNT {
            keyspace.insert(key(i), value(i + 1, 3000)).unwrap();
        }
        db.checkpoint().unwrap();
        let found = cost_of(&sim, &db, || {
            let mut cursor = snapshot.cursor::<[u8; 4]>(&keyspace, ..);
            let mut expected = 0..COUNT;
            while let Some(i) = if forward { expected.next() } else { expected.next_back() } {
                assert!(step(&mut cursor, forward) == Some((&key(i)[..], &value(i, 3000)[..])), "entry {i}");
            }
        });
        assert!(
            found.pages <= u64::from(COUNT) + 8 && found.waited_for <= 8 && found.calls <= 500,
            "forward: {forward}: {found:?}"
        );
    }
}

#[test]
fn a_value_of_several_pages_comes_with_one_transfer() {
    let sim = loaded(500, |_| 20_000);
    let db = open(&sim, FRAMES);
    let keyspace = db.keyspace("k").unwrap();
    // The way to the leaf.
    keyspace.get(key(100)).unwrap();
    for i in (101..110).chain(120..125) {
        let found = cost_of(&sim, &db, || assert!(keyspace.get(key(i)).unwrap().unwrap() == value(i, 20_000), "entry {i}"));
        // Two where the load's own transfers have left a gap between its pages.
        assert!(found.pages == 5 && found.calls <= 2 && found.waited_for == 0, "entry {i}: {found:?}");
    }
}

/// The pages of the values of many keys are in flight together, too.
#[test]
fn values_of_many_keys_are_asked_for_together() {
    // Of a hundred pages, how many may be read twice, and how many transfers there may be, with frames for a window and with hardly any.
    for (name, len, calls) in [("one page", 3000, 103), ("three pages", 10_000, 35), ("many pages", 100_000, 5)] {
        let sim = loaded(600, |_| len);
        let keys: Vec<u32> = (0..200).map(|i| i * 3).collect();
        for (frames, again) in [(1000, 3), (FRAMES, 3), (32, 3), (16, 10)] {
            let found = cost(&sim, frames, |keyspace| {
                let values = keyspace.get_many(keys.iter().map(|&i| key(i))).unwrap();
                assert!(values.iter().zip(&keys).all(|(found, &i)| *found.as_ref().unwrap() == value(i, len)), "{name}");
            });
            let pages = (keys.len() * len.div_ceil(PAGE - 56)) as u64;
            let told = format!("{name}, {pages} pages, {frames} frames: {found:?}");
            assert!(found.pages <= pages + pages * again / 100, "{told}");
            assert!(found.calls <= pages * calls / 100 || frames < FRAMES, "{told}");
            assert!(found.waited_for <= 4 || frames < 32, "{told}");
        }
    }
}
