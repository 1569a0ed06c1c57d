//! Transactions, one thing at a time: what one sees of its own writes, savepoints, keyspaces made and dropped inside of one, what it
//! conflicts with, how it ends; and random ones against ordered maps.
//!
//! What two may do to each other by the names of the literature is in `anomalies.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
#[path = "transactions/conflicts.rs"]
mod conflicts;
#[path = "transactions/ends.rs"]
mod ends;
#[path = "transactions/iterators.rs"]
mod iterators;
#[path = "transactions/keyspaces.rs"]
mod keyspaces;
#[path = "transactions/own_writes.rs"]
mod own_writes;
#[path = "transactions/random.rs"]
mod random;
#[path = "transactions/savepoints.rs"]
mod savepoints;

use ashlardb::{Database, Error, Keyspace, Transaction};
use common::{Expected, quiet, scratch, shown};

/// A database with one keyspace, `k`.
struct One {
    db: Database,
    k: Keyspace,
    _dir: tempfile::TempDir,
}

impl One {
    fn new() -> One {
        let dir = scratch();
        let db = quiet().segment_size(64 << 10).slots_max(6).open(dir.path().join("db")).unwrap();
        let k = db.keyspace("k").unwrap();
        One { db, k, _dir: dir }
    }

    /// With keys of one letter, each the value of itself.
    fn with_letters(letters: &str) -> One {
        let one = One::new();
        letters.chars().for_each(|letter| one.k.insert(letter.to_string(), letter.to_string()).unwrap());
        one
    }
}

/// The letters that a keyspace holds.
fn letters(keyspace: &Keyspace) -> String {
    keyspace.iter().map(|entry| String::from_utf8(entry.unwrap().0).unwrap()).collect()
}

/// Whether the commit was refused for a conflict.
fn conflicts(transaction: Transaction) -> bool {
    match transaction.commit() {
        Ok(()) => false,
        Err(Error::Conflict) => true,
        Err(e) => panic!("{e}"),
    }
}

fn is_no_such_keyspace<T>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::NoSuchKeyspace { .. }))
}

/// Checks that within a transaction a keyspace holds exactly `expected`, in each way to ask.
fn assert_sees(tx: &Transaction, k: &Keyspace, expected: &Expected) {
    assert_eq!(tx.len(k).unwrap(), expected.len() as u64, "len");
    assert_eq!(tx.is_empty(k).unwrap(), expected.is_empty());
    for (key, value) in expected {
        let found = tx.get(k, key).unwrap().unwrap_or_else(|| panic!("{} is not seen", shown(key)));
        assert!(found == *value, "{}: {} bytes found, {} expected", shown(key), found.len(), value.len());
    }
    let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    let all: Vec<(Vec<u8>, Vec<u8>)> = expected.iter().map(owned).collect();
    let entry = |entry: Result<(Vec<u8>, ashlardb::Value), Error>| entry.map(|(key, value)| (key, value.to_vec())).unwrap();
    assert!(tx.iter(k).map(entry).eq(all.iter().cloned()), "forward");
    assert!(tx.iter(k).rev().map(entry).eq(all.iter().rev().cloned()), "in reverse");
    assert!(tx.first(k).unwrap().map(|e| entry(Ok(e))) == all.first().cloned(), "first");
    assert!(tx.last(k).unwrap().map(|e| entry(Ok(e))) == all.last().cloned(), "last");
    // From both ends, meeting at each place, and stopping there.
    for meet in 0..=all.len() {
        let mut range = tx.iter(k);
        assert!(range.by_ref().take(meet).map(entry).eq(all[..meet].iter().cloned()));
        assert!(range.by_ref().rev().map(entry).eq(all[meet..].iter().rev().cloned()), "meeting at {meet}");
        assert!(range.next().is_none() && range.next_back().is_none());
    }
    for (from, to) in all.iter().zip(all.iter().skip(2)) {
        let within: Vec<_> = expected.range(from.0.clone()..to.0.clone()).map(owned).collect();
        assert!(
            tx.range(k, &from.0[..]..&to.0[..]).map(entry).eq(within.iter().cloned()),
            "{}..{}",
            shown(&from.0),
            shown(&to.0)
        );
        assert!(tx.range(k, &from.0[..]..&to.0[..]).rev().map(entry).eq(within.iter().rev().cloned()));
        assert_eq!(tx.range(k, &to.0[..]..&from.0[..]).count(), 0, "crossed bounds");
    }
    let mut keys: Vec<Vec<u8>> = expected.keys().cloned().collect();
    keys.push(b"\xFF absent".to_vec());
    let found = tx.get_many(k, &keys).unwrap();
    assert!(found.iter().zip(&keys).all(|(found, key)| found.as_deref() == expected.get(key).map(|v| &v[..])), "get_many");
    let with_prefix = expected.keys().filter(|key| key.starts_with(b"key 1")).count();
    assert_eq!(tx.prefix(k, "key 1").count(), with_prefix, "prefix");
}
