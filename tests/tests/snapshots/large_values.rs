//! Values in overflow pages and in runs of their own, replaced and removed while a snapshot sees them: readable as long as it lives,
//! over checkpoints, and free afterwards.

use super::common::{assert_clean, quiet, scratch, value_of};
use super::{assert_nothing_is_kept, check, settled};
use ashlar_tests::state::{Bytes, State};
use ashlardb::{Database, Durability};

/// In the leaf, in overflow pages, in runs, in runs whose list itself is long.
const LENS: [usize; 4] = [100, 30_000, 200_000, 5_000_000];

fn fill(db: &Database, round: u64) -> State {
    let k = db.keyspace("k").unwrap();
    let mut state = State::new();
    let entries = state.entry("k".into()).or_default();
    for (n, len) in (0u64..).zip(LENS) {
        let value = value_of(round * 10 + n, len + round as usize);
        k.insert_with(format!("{n}"), &value, Durability::Eventual).unwrap();
        entries.insert(format!("{n}").into_bytes(), Bytes::from(value));
    }
    state
}

fn used(db: &Database) -> u64 {
    let space = settled(db);
    space.file - space.free
}

#[test]
fn replaced_removed_cleared_and_dropped() {
    let dir = scratch();
    let db = quiet().cache_size(1 << 20).log_limit(4 << 20).open(dir.path().join("db")).unwrap();
    let mut held = Vec::new();
    for round in 0..3 {
        let state = fill(&db, round);
        held.push((db.snapshot().unwrap(), state));
        if round != 1 {
            db.checkpoint().unwrap();
        }
    }
    let k = db.keyspace("k").unwrap();
    k.remove("2").unwrap();
    k.remove("1").unwrap();
    db.checkpoint().unwrap();
    let check_all =
        |held: &[(ashlardb::Snapshot, State)]| held.iter().for_each(|(snapshot, state)| check(snapshot, state).unwrap());
    check_all(&held);
    k.clear().unwrap();
    fill(&db, 9);
    db.checkpoint().unwrap();
    while db.maintain().unwrap() {}
    check_all(&held);
    db.drop_keyspace("k").unwrap();
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    // Many new ones: whatever was freed too early is used again by now.
    let other = db.keyspace("other").unwrap();
    for n in 0..8 {
        other.insert_with([n], value_of(n.into(), 2_000_000), Durability::Eventual).unwrap();
        other.insert_with([n, n], value_of(n.into(), 30_000), Durability::Eventual).unwrap();
    }
    db.checkpoint().unwrap();
    check_all(&held);
    db.drop_keyspace("other").unwrap();
    // Each takes what only it has seen along; from the middle, then the oldest.
    let all = used(&db);
    held.remove(1);
    check_all(&held);
    let without_middle = used(&db);
    held.remove(0);
    check_all(&held);
    let only_last = used(&db);
    held.clear();
    let none = used(&db);
    println!("used: {all}, without the middle one {without_middle}, the last alone {only_last}, none {none}");
    let round = LENS.iter().sum::<usize>() as u64;
    assert!(only_last + round < all, "what only the first two saw is free");
    assert!(none + round < only_last && none < 2 << 20, "all is free");
    assert_nothing_is_kept(&db);
    assert_clean(&db);
    let before = db.stats().space;
    drop((k, other));
    db.close().unwrap();
    let db = quiet().open(dir.path().join("db")).unwrap();
    assert_eq!(db.stats().space.free, before.free);
    assert_clean(&db);
}

/// A value that was got stays what it was; an iterator that stands on one goes on.
#[test]
fn values_and_iterators_outlive_their_snapshot() {
    let dir = scratch();
    let db = quiet().cache_size(1 << 20).open(dir.path().join("db")).unwrap();
    let state = fill(&db, 1);
    let k = db.keyspace("k").unwrap();
    let snapshot = db.snapshot().unwrap();
    let value = snapshot.get(&k, "2").unwrap().unwrap();
    let mut iter = snapshot.iter(&k);
    assert_eq!(iter.next().unwrap().unwrap().0, b"0");
    drop(snapshot);
    fill(&db, 2);
    db.checkpoint().unwrap();
    k.remove_range::<&[u8]>(..).unwrap();
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    fill(&db, 3);
    db.checkpoint().unwrap();
    assert_eq!(value, state["k"][&b"2"[..]]);
    let rest: Vec<_> = iter.map(|entry| entry.unwrap()).collect();
    assert_eq!(rest.len(), 3);
    assert!(rest.iter().all(|(key, value)| *value == state["k"][key]));
    assert_nothing_is_kept(&db);
}

/// What is overwritten while a snapshot lives stays until it goes, also what it does not see: what lies between two snapshots
/// goes with the older one.
#[test]
fn overwritten_again_and_again() {
    let dir = scratch();
    let db = quiet().cache_size(1 << 20).open(dir.path().join("db")).unwrap();
    let state = fill(&db, 0);
    let k = db.keyspace("k").unwrap();
    let before = used(&db);
    let snapshot = db.snapshot().unwrap();
    let overwrite = |n: u64| {
        k.insert_with("2", value_of(n, 200_000), Durability::Eventual).unwrap();
        k.insert_with("1", value_of(n, 30_000), Durability::Eventual).unwrap();
    };
    (0..40).for_each(overwrite);
    check(&snapshot, &state).unwrap();
    let held = used(&db);
    drop(snapshot);
    let after = used(&db);
    println!("used: {before} before, {held} with the snapshot, {after} without");
    assert!(held > before + 40 * 200_000);
    (0..40).for_each(overwrite);
    assert!(used(&db) < before + (1 << 20), "with nobody looking nothing is held back");
    assert!(after < before + (1 << 20), "{after} bytes are used, {before} before");
    assert_nothing_is_kept(&db);
    assert_clean(&db);
}
