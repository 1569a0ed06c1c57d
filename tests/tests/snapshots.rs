//! Snapshots see the state of their moment, whatever is written since, and cost what they should: nothing when they are gone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
#[path = "snapshots/large_values.rs"]
mod large_values;
#[path = "snapshots/memory.rs"]
mod memory;
#[path = "snapshots/random.rs"]
mod random;

use ashlar_tests::dump::entries;
use ashlar_tests::state::{Bytes, Entries, State, difference_of_entries};
use ashlardb::{Database, Error, Keyspace, Snapshot, SpaceUse};

/// Checks that a snapshot sees exactly `expected`, in each way to ask; an error says what differs.
fn check(snapshot: &Snapshot, expected: &State) -> Result<(), String> {
    let text = |e: Error| format!("{e}");
    let names: Vec<&String> = expected.keys().collect();
    let seen = snapshot.keyspaces().map_err(text)?;
    if !seen.iter().eq(names.iter().copied()) {
        return Err(format!("keyspaces {seen:?}, expected {names:?}"));
    }
    for (name, expected) in expected {
        let keyspace = snapshot.keyspace(name).map_err(text)?.ok_or_else(|| format!("no handle on {name}"))?;
        check_keyspace(snapshot, &keyspace, expected).map_err(|e| format!("keyspace {name}: {e}"))?;
    }
    Ok(())
}

fn check_keyspace(snapshot: &Snapshot, keyspace: &Keyspace, expected: &Entries) -> Result<(), String> {
    let text = |e: Error| format!("{e}");
    for back in [false, true] {
        let found = entries(snapshot.iter(keyspace), back).map_err(text)?;
        if let Some(text) = difference_of_entries(expected, &found) {
            return Err(format!("a scan (from the back: {back}): {text}"));
        }
    }
    let len = snapshot.len(keyspace).map_err(text)?;
    if len != expected.len() as u64 {
        return Err(format!("len is {len}, there are {}", expected.len()));
    }
    let bytes = |value: ashlardb::Value| Bytes::from(&value[..]);
    for (key, value) in expected {
        let found = snapshot.get(keyspace, key).map_err(text)?.map(bytes);
        if found.as_ref() != Some(value) {
            return Err(format!("get of {} gives {:?} bytes", common::shown(key), found.map(|f| f.len())));
        }
    }
    let many = snapshot.get_many(keyspace, expected.keys()).map_err(text)?;
    if !many.into_iter().map(|value| value.map(bytes)).eq(expected.values().cloned().map(Some)) {
        return Err("get_many differs".into());
    }
    let first = snapshot.first(keyspace).map_err(text)?.map(|(key, _)| key);
    let last = snapshot.last(keyspace).map_err(text)?.map(|(key, _)| key);
    if first.as_ref() != expected.keys().next() || last.as_ref() != expected.keys().next_back() {
        return Err(format!("first and last: {first:?}, {last:?}"));
    }
    Ok(())
}

/// How the file is used when all that nobody needs has been freed.
fn settled(db: &Database) -> SpaceUse {
    for _ in 0..3 {
        while db.maintain().unwrap() {}
        db.checkpoint().unwrap();
    }
    db.stats().space
}

/// Nobody sees anything old: nothing is kept for anybody.
fn assert_nothing_is_kept(db: &Database) {
    while db.maintain().unwrap() {}
    let stats = db.stats();
    assert_eq!((stats.snapshots, stats.versions, stats.version_bytes), (0, 0, 0));
}
