//! Snapshots of the last checkpoint: they last for as long as they are held, whatever is written meanwhile, and hold back nothing
//! afterwards. And compare-and-swap.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Background, Database, Durability, Error, Options, Swap};
use common::{Expected, assert_clean, scratch, value_of};

fn options() -> Options {
    Options::new()
        .cache_size(16 * 8192)
        .slots_max(6)
        .segment_size(64 << 10)
        .grow_step(64 << 10)
        .durability(Durability::Eventual)
        .background(Background::Manual)
}

/// Values of every kind, by number.
fn put(db: &Database, seed: u64, expected: &mut Expected) {
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..300u64 {
        let key = (i * 7 % 300).to_be_bytes();
        let len = match i % 25 {
            0 => 100_000,
            1 => 9_000,
            _ => 20 + (i % 60) as usize,
        };
        let value = value_of(seed + i, len);
        keyspace.insert(key, &value).unwrap();
        expected.insert(key.to_vec(), value);
    }
}

#[test]
fn it_shows_the_checkpoint_until_it_is_dropped_and_holds_nothing_back_then() {
    let dir = scratch();
    let db = options().open(dir.path().join("db")).unwrap();
    assert!(db.checkpoint_snapshot().unwrap().keyspaces().unwrap().is_empty());
    let mut first = Expected::new();
    put(&db, 1, &mut first);
    db.checkpoint().unwrap();
    let snapshot = db.checkpoint_snapshot().unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut now = first.clone();
    let mut sizes = Vec::new();
    for round in 0..12 {
        put(&db, 1000 * (round + 2), &mut now);
        keyspace.remove_range(10u64.to_be_bytes()..=40u64.to_be_bytes()).unwrap();
        if round % 3 == 2 {
            db.checkpoint().unwrap();
        }
        while db.maintain().unwrap() {}
        check(&snapshot, &first);
        sizes.push(db.stats().space.file);
    }
    db.drop_keyspace("k").unwrap();
    db.checkpoint().unwrap();
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    check(&snapshot, &first);
    assert_eq!(snapshot.keyspaces().unwrap(), ["k"]);
    let handle = snapshot.keyspace("k").unwrap().unwrap();
    assert!(matches!(handle.get(b"k"), Err(Error::NoSuchKeyspace { .. })));
    assert!(matches!(handle.insert(b"k", b"v"), Err(Error::NoSuchKeyspace { .. })));
    let held = db.stats().space;
    drop(snapshot);
    let free = db.stats().space;
    assert!(free.free > held.free + 1_000_000, "{held:?} {free:?}");
    assert_clean(&db);
}

fn check(snapshot: &ashlardb::Snapshot, expected: &Expected) {
    let keyspace = snapshot.keyspace("k").unwrap().unwrap();
    assert_eq!(snapshot.len(&keyspace).unwrap(), expected.len() as u64);
    let forward: Vec<_> = snapshot.iter(&keyspace).map(|e| e.unwrap()).collect();
    assert!(forward.iter().map(|(k, v)| (k, v.to_vec())).eq(expected.iter().map(|(k, v)| (k, v.clone()))));
    let mut backward: Vec<_> = snapshot.iter(&keyspace).rev().map(|e| e.unwrap()).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let keys: Vec<_> = expected.keys().step_by(7).collect();
    let found = snapshot.get_many(&keyspace, keys.iter()).unwrap();
    assert!(keys.iter().zip(found).all(|(key, value)| value.unwrap() == expected[*key]));
}

/// Checkpoints held one after the other and beside each other.
#[test]
fn of_several_each_shows_its_own() {
    let dir = scratch();
    let db = options().open(dir.path().join("db")).unwrap();
    let mut now = Expected::new();
    let mut held = Vec::new();
    for round in 0..10u64 {
        put(&db, 1000 * round, &mut now);
        db.checkpoint().unwrap();
        held.push((db.checkpoint_snapshot().unwrap(), now.clone()));
        if round % 3 == 1 {
            held.remove((round as usize * 5) % held.len());
        }
        held.iter().for_each(|(snapshot, expected)| check(snapshot, expected));
    }
    held.clear();
    put(&db, 1, &mut now);
    db.checkpoint().unwrap();
    let before = db.stats().space.file;
    for round in 0..6 {
        put(&db, round, &mut now);
        db.checkpoint().unwrap();
    }
    assert!(db.stats().space.file <= before, "the file grows though nothing is held");
    assert_clean(&db);
}

#[test]
fn compare_and_swap_changes_what_was_expected_and_nothing_else() {
    let dir = scratch();
    let db = options().open(dir.path().join("db")).unwrap();
    let k = db.keyspace("k").unwrap();
    assert_eq!(k.compare_and_swap("a", None, Some(b"1")).unwrap(), Swap::Done);
    let Swap::Differs(Some(found)) = k.compare_and_swap("a", None, Some(b"2")).unwrap() else { panic!("it holds something") };
    assert_eq!(found, b"1");
    assert_eq!(k.compare_and_swap("a", Some(b"1"), None).unwrap(), Swap::Done);
    assert_eq!(k.compare_and_swap("a", Some(b"1"), Some(b"2")).unwrap(), Swap::Differs(None));
    assert_eq!(k.get("a").unwrap(), None);
}
