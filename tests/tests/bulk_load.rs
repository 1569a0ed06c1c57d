//! Bulk loads: what they load is there, also from the log alone; what fails leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Error, Options};

/// Whether the caller builds and writes the pages, or threads beside it, and how much is handed over at once.
#[derive(Clone, Copy, Debug)]
struct Builder(Background, usize);

const BUILDERS: [Builder; 3] =
    [Builder(Background::Manual, 256 << 10), Builder(Background::Threads, 256 << 10), Builder(Background::Threads, 16 << 10)];

fn options(sim: &Sim) -> Options {
    built_by(BUILDERS[0], sim)
}

fn built_by(Builder(background, lot): Builder, sim: &Sim) -> Options {
    Options::new()
        .file_system(sim.fs())
        .background(background)
        .bulk_lot(lot)
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
    BUILDERS.into_iter().for_each(is_there);
}

fn is_there(builder: Builder) {
    let mut sim = Sim::new(SimOptions::new(1));
    let db = built_by(builder, &sim).open("/db").unwrap();
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

/// Bytes and page ids in use, when nothing waits for a checkpoint.
fn used(db: &Database) -> (u64, u64) {
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    let space = db.stats().space;
    (space.file - space.free, space.pages)
}

#[test]
fn a_load_that_fails_changes_nothing_and_leaves_no_blocks_behind() {
    BUILDERS.into_iter().for_each(fails);
}

fn fails(builder: Builder) {
    let sim = Sim::new(SimOptions::new(1));
    let db = built_by(builder, &sim).open("/db").unwrap();
    let loaded = db.keyspace("loaded").unwrap();
    let before = used(&db);
    let swapped = entries(3000).chain(entries(1));
    assert!(matches!(loaded.bulk_load(swapped), Err(Error::NotSorted { index: 3000 })));
    let double = entries(10).chain(entries(10).skip(9));
    assert!(matches!(loaded.bulk_load(double), Err(Error::NotSorted { index: 10 })));
    // These fill what is handed over at once to the last byte.
    let lot = (0..32u32).chain([31]).map(|i| Ok::<_, Error>((i.to_be_bytes(), [7; 8188])));
    assert!(matches!(loaded.bulk_load(lot), Err(Error::NotSorted { index: 32 })));
    let broken = entries(3000).chain(std::iter::once(Err(Error::NoSuchKeyspace { name: "mine".into() })));
    assert!(matches!(loaded.bulk_load(broken), Err(Error::NoSuchKeyspace { .. })));
    let long = entries(3000).chain(std::iter::once(Ok((vec![0xFF; 5000], Vec::new()))));
    assert!(matches!(loaded.bulk_load(long), Err(Error::KeyTooLarge { len: 5000, .. })));
    let panics =
        || loaded.bulk_load(entries(3000).map(|entry| entry.inspect(|(key, _)| assert!(key < &b"key 00002999".to_vec()))));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    assert!(loaded.is_empty().unwrap());
    assert_eq!(used(&db), before, "{builder:?}");
    loaded.insert("one", "1").unwrap();
    assert!(matches!(loaded.bulk_load(entries(10)), Err(Error::KeyspaceNotEmpty { .. })));
    assert_eq!(loaded.get("one").unwrap().unwrap(), "1");
    loaded.clear().unwrap();
    assert_eq!(loaded.bulk_load(entries(3000)).unwrap(), 3000);
    check(&db, 3000);
}

/// The error is that of whoever met it, and comes before all entries are taken.
#[test]
fn a_load_on_a_disk_that_becomes_full_tells_so_and_leaves_no_blocks_behind() {
    for builder in BUILDERS {
        let sim = Sim::new(SimOptions::new(3));
        let db = built_by(builder, &sim).open("/db").unwrap();
        let loaded = db.keyspace("loaded").unwrap();
        let before = used(&db);
        sim.set_capacity(8 << 20);
        let mut taken = 0;
        let small = (0..1_000_000u32).inspect(|_| taken += 1).map(|i| Ok::<_, Error>((i.to_be_bytes(), [7; 200])));
        let outcome = loaded.bulk_load(small);
        assert!(matches!(outcome, Err(Error::NoSpace { .. })), "{outcome:?}");
        assert!((20_000..60_000).contains(&taken), "{builder:?}: {taken} entries were taken");
        sim.set_capacity(1 << 30);
        assert!(loaded.is_empty().unwrap());
        assert_eq!(used(&db), before, "{builder:?}");
        assert_eq!(loaded.bulk_load(entries(3000)).unwrap(), 3000);
        check(&db, 3000);
    }
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
