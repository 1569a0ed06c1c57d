//! Bulk loads: what they load is there, also from the log alone; what fails leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Error, Options};

fn options(sim: &Sim) -> Options {
    Options::new()
        .file_system(sim.fs())
        .background(Background::Manual)
        .page_size(4096)
        .cache_size(64 << 12)
        .segment_size(256 << 10)
        .grow_step(256 << 10)
        .blob_threshold(20_000)
}

/// Sorted entries with values that stand in the leaf, in overflow pages, and in blobs.
fn entries(count: u32) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
    (0..count).map(|i| {
        let len = match i % 97 {
            0 => 30_000,
            1 => 9_000,
            _ => i as usize % 200,
        };
        Ok((format!("key {i:08}").into_bytes(), vec![i as u8; len]))
    })
}

fn check(db: &Database, count: u32) {
    let loaded = db.keyspace("loaded").unwrap();
    assert_eq!(loaded.len().unwrap(), u64::from(count));
    let mut expected = entries(count);
    for entry in loaded.iter() {
        let (key, value) = entry.unwrap();
        let (k, v) = expected.next().unwrap().unwrap();
        assert!(key == k && value == v, "{}", key.escape_ascii());
    }
    assert!(expected.next().is_none());
    let report = db.verify().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

#[test]
fn a_load_is_there_at_once_from_the_log_alone_and_after_a_checkpoint() {
    let mut sim = Sim::new(SimOptions::new(1));
    let db = options(&sim).open("/db").unwrap();
    let loaded = db.keyspace("loaded").unwrap();
    assert_eq!(loaded.bulk_load(entries(5000)).unwrap(), 5000);
    check(&db, 5000);
    drop((loaded, db));
    for (round, restart) in [Restart::PowerCut, Restart::Kill, Restart::PowerCut].into_iter().enumerate() {
        sim = sim.restart(restart, SimOptions::new(round as u64 + 2));
        let db = options(&sim).open("/db").unwrap();
        check(&db, 5000);
        if round == 1 {
            db.checkpoint().unwrap();
            check(&db, 5000);
        }
    }
    let db = options(&sim).open("/db").unwrap();
    let loaded = db.keyspace("loaded").unwrap();
    for i in 0..5000 {
        loaded.remove(format!("key {i:08}")).unwrap();
    }
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    assert!(loaded.is_empty().unwrap());
    let report = db.verify().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.blob_runs, report.overflow_pages), (0, 0));
}

#[test]
fn a_load_that_fails_changes_nothing_and_leaves_no_blocks_behind() {
    let sim = Sim::new(SimOptions::new(1));
    let db = options(&sim).open("/db").unwrap();
    let loaded = db.keyspace("loaded").unwrap();
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    let used = |db: &Database| {
        let space = db.stats().space;
        space.file - space.free
    };
    let before = used(&db);
    let swapped = entries(3000).chain(entries(1));
    assert!(matches!(loaded.bulk_load(swapped), Err(Error::NotSorted { index: 3000 })));
    let broken = entries(3000).chain(std::iter::once(Err(Error::NoSuchKeyspace { name: "mine".into() })));
    assert!(matches!(loaded.bulk_load(broken), Err(Error::NoSuchKeyspace { .. })));
    let long = entries(3000).chain(std::iter::once(Ok((vec![0xFF; 5000], Vec::new()))));
    assert!(matches!(loaded.bulk_load(long), Err(Error::KeyTooLarge { len: 5000, .. })));
    assert!(loaded.is_empty().unwrap());
    assert_eq!(used(&db), before);
    loaded.insert("one", "1").unwrap();
    assert!(matches!(loaded.bulk_load(entries(10)), Err(Error::KeyspaceNotEmpty { .. })));
    assert_eq!(loaded.get("one").unwrap().unwrap(), "1");
    loaded.clear().unwrap();
    assert_eq!(loaded.bulk_load(entries(3000)).unwrap(), 3000);
    check(&db, 3000);
}

#[test]
fn an_empty_load_is_a_load() {
    let sim = Sim::new(SimOptions::new(1));
    let db = options(&sim).open("/db").unwrap();
    assert_eq!(db.keyspace("loaded").unwrap().bulk_load(entries(0)).unwrap(), 0);
    check(&db, 0);
}

#[test]
fn blocks_that_the_log_names_for_a_load_are_not_reused_before_the_next_checkpoint() {
    let sim = Sim::new(SimOptions::new(5));
    let small = |sim: &Sim| options(sim).cache_size(32 << 12).log_limit(16 << 20);
    let db = small(&sim).open("/db").unwrap();
    let loaded = db.keyspace("loaded").unwrap();
    let key = |i: u32| format!("key {i:08}").into_bytes();
    loaded.bulk_load((0..4000).map(|i| Ok::<_, Error>((key(i), vec![1; 200])))).unwrap();
    let checkpoints = db.stats().checkpoints;
    // Every loaded page changes, is evicted, and its old blocks would be taken by the next image.
    for round in 2..5u8 {
        let mut batch = db.batch();
        (0..4000).filter(|i| i % 3 == 0).for_each(|i| batch.insert(&loaded, key(i), vec![round; 200]).unwrap());
        batch.commit().unwrap();
    }
    assert_eq!(db.stats().checkpoints, checkpoints, "the test is about what happens without one");
    drop((loaded, db));
    let sim = sim.restart(Restart::PowerCut, SimOptions::new(6));
    let db = small(&sim).open("/db").unwrap();
    let loaded = db.keyspace("loaded").unwrap();
    for i in 0..4000 {
        let expected = if i % 3 == 0 { 4 } else { 1 };
        assert_eq!(loaded.get(key(i)).unwrap().unwrap(), vec![expected; 200], "key {i}");
    }
    assert!(db.verify().unwrap().is_clean());
}
