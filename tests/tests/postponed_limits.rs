//! Writes that wait to be merged, at the limits: a disk that is full, a database that has failed, a child made by `fork`, commits that
//! want to be durable.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use ashlar_disk::sim::{FaultKind, FaultRates, Sim, SimOptions};
use ashlardb::{Background, Database, Durability, Error, Keyspace, Options};
use common::process::fork;
use std::collections::BTreeMap;

const ENTRIES: u32 = 20_000;
/// A tenth of the leaves.
const FRAMES: u64 = 64;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(sim: &Sim) -> Options {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).page_size(4096).segment_size(256 << 10);
    options
        .grow_step(4 << 20)
        .log_limit(32 << 20)
        .cache_size(FRAMES << 12)
        .durability(Durability::Eventual)
        .postponed_limit(8 << 20)
        .stranded_limit(1 << 20)
}

fn key(i: u32) -> Vec<u8> {
    (i * 2).to_be_bytes().to_vec()
}

/// A database of entries with even keys, reopened, with the pages above the leaves in memory.
fn loaded() -> (Sim, Database, Keyspace, Model) {
    let sim = Sim::new(SimOptions::new(1));
    let model: Model = (0..ENTRIES).map(|i| (key(i), vec![i as u8; 100])).collect();
    let db = options(&sim).open("/db").unwrap();
    db.keyspace("k").unwrap().bulk_load(model.iter().map(|(k, v)| Ok::<_, Error>((k, v)))).unwrap();
    db.close().unwrap();
    let db = options(&sim).open("/db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in (0..ENTRIES).step_by(50) {
        keyspace.get(key(i)).unwrap();
    }
    (sim, db, keyspace, model)
}

fn check(keyspace: &Keyspace, model: &Model) {
    let found = keyspace.iter().map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
    assert!(found.eq(model.iter().map(|(k, v)| (k.clone(), v.clone()))));
    assert_eq!(keyspace.len().unwrap(), model.len() as u64);
}

/// Small writes, and behind them in key order large ones: while those wait, nobody else is promised the room that they need.
#[test]
fn the_room_of_large_writes_is_kept_until_they_are_merged() {
    const LARGE: u32 = 60;
    let (sim, db, keyspace, mut model) = loaded();
    let mut put = |key: Vec<u8>, value: Vec<u8>| {
        keyspace.insert(&key, &value).unwrap();
        model.insert(key, value);
    };
    for i in 0..1000 {
        put(key(i * 16), b"small".to_vec());
    }
    for i in 0..LARGE {
        put(key(ENTRIES - 1 - i * 60), vec![i as u8; 60_000]);
    }
    let all = db.stats().postponed;
    assert!(all > 1000, "{all} writes wait");
    // The window begins; of its writes the small ones are merged.
    while db.stats().postponed > u64::from(LARGE) + 4 {
        db.maintain().unwrap();
    }
    assert!(db.stats().postponed >= u64::from(LARGE));
    // A blob takes what it needs at once: all that is free but for less than those need.
    sim.set_capacity(sim.used() + (512 << 10));
    let blob = vec![1; (db.stats().space.free - 700 * 4096) as usize];
    match keyspace.insert(b"blob", &blob) {
        Ok(()) => drop(model.insert(b"blob".to_vec(), blob)),
        Err(e) => assert!(matches!(e, Error::NoSpace { .. }), "{e}"),
    }
    assert_eq!(db.stats().read_only, None);
    sim.set_capacity(u64::MAX);
    check(&keyspace, &model);
    db.checkpoint().unwrap();
    assert!(db.verify().unwrap().is_clean());
}

/// On a disk that is as good as full what is only replaced finds room for ever: what is promised to what waits comes back with a
/// checkpoint.
#[test]
fn what_waits_gives_its_room_back_where_there_is_no_other() {
    let (sim, db, keyspace, mut model) = loaded();
    keyspace.insert(key(1), b"first").unwrap();
    model.insert(key(1), b"first".to_vec());
    db.checkpoint().unwrap();
    // The log's segments are as they will be; the data file has a little to spare.
    for i in 0..1500u32 {
        if i == 200 {
            db.checkpoint().unwrap();
            sim.set_capacity(sim.used() + (600 << 10));
        }
        let key = key(i * 7919 % ENTRIES);
        keyspace.insert(&key, vec![i as u8; 100]).unwrap_or_else(|e| panic!("write {i}: {e}"));
        model.insert(key, vec![i as u8; 100]);
    }
    check(&keyspace, &model);
}

#[test]
fn a_database_that_has_failed_knows_its_numbers_of_entries() {
    let (sim, db, keyspace, mut model) = loaded();
    let (old, old_len) = (db.snapshot().unwrap(), model.len() as u64);
    for i in (0..ENTRIES).step_by(100) {
        keyspace.insert((i * 2 + 1).to_be_bytes(), b"new").unwrap();
        model.insert((i * 2 + 1).to_be_bytes().to_vec(), b"new".to_vec());
        keyspace.remove(key(i + 1)).unwrap();
        model.remove(&key(i + 1));
        // More, together, than is kept beside trees whose pages can't be read.
        keyspace.insert((i * 2 + 3).to_be_bytes(), [2; 20_000]).unwrap();
        model.insert((i * 2 + 3).to_be_bytes().to_vec(), vec![2; 20_000]);
    }
    // Some are merged, but their window does not end.
    for _ in 0..10 {
        db.maintain().unwrap();
    }
    assert!(db.stats().postponed > 100);
    sim.set_faults(FaultRates::none().with(FaultKind::ReadError, FaultRates::OF));
    db.checkpoint().unwrap_err();
    sim.set_faults(FaultRates::none());
    assert!(db.stats().read_only.is_some() && db.stats().postponed > 0);
    check(&keyspace, &model);
    assert_eq!(old.len(&keyspace).unwrap(), old_len);
}

#[test]
fn a_forked_child_merges_nothing() {
    let (_sim, db, keyspace, _) = loaded();
    let (snapshot, transaction) = (db.snapshot().unwrap(), db.begin().unwrap());
    for i in (0..ENTRIES).step_by(100) {
        keyspace.insert(key(i), b"new").unwrap();
    }
    let later = db.snapshot().unwrap();
    let waiting = db.stats().postponed;
    assert!(waiting > 0);
    let child = fork(|| {
        for len in [snapshot.len(&keyspace), later.len(&keyspace), transaction.len(&keyspace)] {
            if !matches!(len, Err(Error::ForkedChild)) {
                return Err(format!("{len:?}"));
            }
        }
        let waits = db.stats().postponed;
        std::mem::forget((snapshot, later, transaction, keyspace, db));
        if waits == waiting { Ok(()) } else { Err(format!("{waits} writes wait of {waiting}")) }
    });
    child.join().unwrap();
}
