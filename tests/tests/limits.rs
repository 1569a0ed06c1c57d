//! Keys and values of every length at which something changes: where the value stands, how it travels, how many pages or runs it
//! takes. Each is written, read in every way, scanned, overwritten by others and removed; as is, after a checkpoint, after a
//! kill and after a reopen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Database, Durability, Error, Keyspace, Options};
use common::{Expected, assert_clean, assert_holds, copy_database, message, quiet, scratch, value_of};
use std::path::Path;

/// The blob threshold, and a kibibyte.
const THRESHOLD: usize = 64 << 10;
const KIB: usize = 1 << 10;

/// Lengths of values around which something changes.
fn lengths(page: usize, key_len: usize) -> Vec<usize> {
    let inline = ashlardb::btree::limits(page).inline_value_max(key_len);
    let piece = page - 56;
    let changes = [1, 110, inline, page, piece, 2 * piece, 3 * piece, THRESHOLD, 17 * 4 * KIB, 128 * KIB, 32 * 4 * KIB + 4 * KIB];
    let mut all: Vec<usize> = changes.iter().flat_map(|&at| [at - 1, at, at + 1]).chain([0, 1 << 20, (8 << 20) + 1]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn options(page: usize) -> Options {
    // 32 MiB of log for records of up to 8 MiB; the cache is a fourth of what the values take together.
    quiet().page_size(page).cache_size(8 << 20).segment_size(1 << 20).log_limit(32 << 20)
}

/// Checks what is there: as is, as a kill now would leave it, and in a database opened read-only.
fn check(db: &Database, dir: &Path, stage: &str, expected: &Expected) {
    assert_holds(&db.keyspace("k").unwrap(), expected);
    read_in_other_ways(&db.keyspace("k").unwrap(), expected);
    db.flush().unwrap();
    let copy = dir.join(format!("copy {stage}"));
    copy_database(db.path(), &copy);
    let reader = Options::new().cache_size(256 << 20).read_only(true).open(&copy).unwrap();
    assert_holds(&reader.keyspace("k").unwrap(), expected);
    drop(reader);
    let killed = options(db.page_size()).open(&copy).unwrap();
    assert_holds(&killed.keyspace("k").unwrap(), expected);
    assert_clean(&killed);
    killed.close().unwrap();
    let reopened = options(db.page_size()).open(&copy).unwrap();
    assert_holds(&reopened.keyspace("k").unwrap(), expected);
    drop(reopened);
    std::fs::remove_dir_all(copy).unwrap();
}

fn read_in_other_ways(keyspace: &Keyspace, expected: &Expected) {
    let mut out = vec![7; 10];
    for (key, value) in expected {
        assert!(keyspace.get_into(key, &mut out).unwrap());
        assert!(out == *value, "get_into of {}", common::shown(key));
        assert!(keyspace.contains_key(key).unwrap());
    }
    let keys: Vec<&Vec<u8>> = expected.keys().collect();
    for keys in keys.chunks(8) {
        let values = keyspace.get_many(keys).unwrap();
        assert!(values.iter().zip(keys).all(|(found, key)| **found.as_ref().unwrap() == expected[*key][..]));
    }
    let first_and_last = (keyspace.first().unwrap(), keyspace.last().unwrap());
    assert_eq!(first_and_last.0.map(|(k, _)| k).as_ref(), expected.keys().next());
    assert_eq!(first_and_last.1.map(|(k, _)| k).as_ref(), expected.keys().next_back());
}

fn every_length(page: usize) {
    let dir = scratch();
    let mut db = options(page).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let lengths = lengths(page, 8);
    let mut expected = Expected::new();
    let key = |i: usize| format!("key {i:04}").into_bytes();
    for (i, &len) in lengths.iter().enumerate() {
        let value = value_of(i as u64, len);
        keyspace.insert(key(i), &value).unwrap();
        expected.insert(key(i), value);
    }
    check(&db, dir.path(), "written", &expected);
    db.checkpoint().unwrap();
    check(&db, dir.path(), "in a checkpoint", &expected);
    // Each takes another's length, so that every kind of value is replaced by others, in one batch and alone.
    let mut batch = db.batch();
    for (i, &len) in lengths.iter().enumerate() {
        let value = value_of(1000 + i as u64, lengths[(i + lengths.len() / 2) % lengths.len()]);
        assert!(value.len() != len || lengths.len() == 1);
        if i % 2 == 0 {
            batch.insert(&keyspace, key(i), &value).unwrap();
        } else {
            keyspace.insert_with(key(i), &value, Durability::Eventual).unwrap();
        }
        expected.insert(key(i), value);
    }
    batch.commit().unwrap();
    check(&db, dir.path(), "overwritten", &expected);
    drop(keyspace);
    drop(db);
    db = options(page).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    check(&db, dir.path(), "reopened", &expected);
    for i in (0..lengths.len()).step_by(3) {
        keyspace.remove(key(i)).unwrap();
        expected.remove(&key(i));
    }
    keyspace.remove_range(key(20)..key(30)).unwrap();
    expected.retain(|k, _| !(key(20)..key(30)).contains(k));
    check(&db, dir.path(), "some removed", &expected);
    keyspace.remove_range::<&[u8]>(..).unwrap();
    check(&db, dir.path(), "all removed", &Expected::new());
    let full = db.stats().space.file;
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    let space = db.stats().space;
    assert!(space.file - space.free < full / 2, "what was removed is free again: {space:?}, {full} bytes before");
    assert_clean(&db);
}

#[test]
fn values_of_every_length_in_pages_of_4096() {
    every_length(4096);
}

#[test]
fn values_of_every_length_in_pages_of_8192() {
    every_length(8192);
}

#[test]
fn values_of_every_length_in_pages_of_65536() {
    every_length(65536);
}

#[test]
fn keys_of_every_length() {
    for page in [4096, 8192, 65536] {
        let dir = scratch();
        let db = options(page).open(dir.path().join("db")).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let max = db.key_len_max();
        assert!(max >= page / 4 - 64, "{max}");
        let mut expected = Expected::new();
        let lens = [0, 1, 2, 3, 4, 5, 7, 8, 9, 255, 256, 257, max / 2, max - 2, max - 1, max];
        for (n, &len) in lens.iter().enumerate() {
            // All zeros, all ones, and two that differ in the last byte only.
            let base = value_of(page as u64, len);
            let mut twin = base.clone();
            twin.iter_mut().last().into_iter().for_each(|b| *b ^= 1);
            for (m, key) in [vec![0; len], vec![0xFF; len], base, twin].into_iter().enumerate() {
                let value = value_of((n * 10 + m) as u64, [0, 10, 300, 5000][m]);
                keyspace.insert(&key, &value).unwrap();
                expected.insert(key, value);
            }
        }
        check(&db, dir.path(), "written", &expected);
        db.checkpoint().unwrap();
        check(&db, dir.path(), "in a checkpoint", &expected);
        one_more(&db, &keyspace, max);
        let removed: Vec<_> = expected.keys().step_by(2).cloned().collect();
        for key in removed {
            keyspace.remove(&key).unwrap();
            assert_eq!(keyspace.get(&key).unwrap(), None);
            expected.remove(&key);
        }
        check(&db, dir.path(), "some removed", &expected);
    }
}

/// A key of one byte more than can be: refused in every write, nowhere a panic, and nothing is changed.
fn one_more(db: &Database, keyspace: &Keyspace, max: usize) {
    let before = keyspace.len().unwrap();
    for len in [max + 1, 2 * max, 1 << 20] {
        let key = vec![0xFF; len];
        let parts = [&format!("the key has {len} bytes")[..], &format!("at most {max} are possible")];
        message(keyspace.insert(&key, "v"), &parts);
        message(keyspace.remove(&key), &parts);
        message(db.batch().insert(keyspace, &key, "v"), &parts);
        message(db.batch().remove(keyspace, &key), &parts);
        assert!(matches!(keyspace.insert(&key, "v"), Err(Error::KeyTooLarge { .. })));
        let absent =
            |found: Result<bool, Error>| assert!(matches!(found, Ok(false) | Err(Error::KeyTooLarge { .. })), "{found:?}");
        absent(keyspace.get(&key).map(|v| v.is_some()));
        absent(keyspace.contains_key(&key));
        absent(keyspace.get_many([&key]).map(|v| v[0].is_some()));
        assert_eq!(keyspace.range(key.clone()..).count(), 0);
        assert_eq!(keyspace.range(..key.clone()).count() as u64, before);
        assert_eq!(keyspace.range(..key.clone()).rev().count() as u64, before);
        assert_eq!(keyspace.prefix(&key).count(), 0);
        let _ = keyspace.remove_range(key.clone()..);
    }
    assert_eq!(keyspace.len().unwrap(), before);
}

/// Many of the longest keys in the smallest pages: inner pages of the fewest children, deep trees.
#[test]
fn a_deep_tree_of_the_longest_keys() {
    let dir = scratch();
    let db = options(4096).cache_size(1 << 20).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let max = db.key_len_max();
    let key = |i: u64| {
        let mut key = value_of(1, max);
        key[max - 8..].copy_from_slice(&(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes());
        key
    };
    let mut expected = Expected::new();
    for i in 0..600 {
        let value = value_of(i, if i % 50 == 0 { 3000 } else { 20 });
        keyspace.insert_with(key(i), &value, Durability::Eventual).unwrap();
        expected.insert(key(i), value);
    }
    db.checkpoint().unwrap();
    assert_holds(&keyspace, &expected);
    for i in 0..590 {
        keyspace.remove_with(key(i), Durability::Eventual).unwrap();
        expected.remove(&key(i));
    }
    check(&db, dir.path(), "nearly empty", &expected);
}

/// Values larger than the cache, and larger than the log takes.
#[test]
fn values_larger_than_the_cache() {
    let dir = scratch();
    let path = dir.path().join("db");
    let open = || quiet().cache_size(4 << 20).segment_size(1 << 20).log_limit(4 << 20).open(&path).unwrap();
    let mut db = open();
    let mut keyspace = db.keyspace("k").unwrap();
    let hundred = value_of(1, 100 << 20);
    keyspace.insert("100 MiB", &hundred).unwrap();
    keyspace.insert("24 MiB", value_of(2, (24 << 20) + 1)).unwrap();
    for round in 0..3 {
        assert!(*keyspace.get("100 MiB").unwrap().unwrap() == hundred[..], "round {round}");
        let (key, value) = keyspace.iter().next().unwrap().unwrap();
        assert!(key == b"100 MiB" && *value == hundred[..]);
        drop(value);
        assert!(*keyspace.get("24 MiB").unwrap().unwrap() == value_of(2, (24 << 20) + 1)[..]);
        match round {
            0 => db.checkpoint().unwrap(),
            1 => {
                drop(keyspace);
                drop(db);
                db = open();
                keyspace = db.keyspace("k").unwrap();
            }
            _ => {}
        }
    }
    assert_clean(&db);
    let full = db.stats().space.file;
    keyspace.insert("100 MiB", "short now").unwrap();
    keyspace.remove("24 MiB").unwrap();
    db.checkpoint().unwrap();
    let space = db.stats().space;
    assert!(space.file - space.free < 4 << 20, "both are free again: {space:?}");
    keyspace.insert("again", &hundred).unwrap();
    assert!(db.stats().space.file <= full, "the room is used again");
    drop(keyspace);
    drop(db);
    let db = open();
    let keyspace = db.keyspace("k").unwrap();
    assert!(*keyspace.get("again").unwrap().unwrap() == hundred[..]);
    assert_eq!(keyspace.get("100 MiB").unwrap().unwrap(), b"short now");
    assert_eq!(keyspace.get("24 MiB").unwrap(), None);
    assert_clean(&db);
}

/// Batches larger than the log takes: refused as a whole, and the database goes on.
#[test]
fn a_batch_larger_than_the_log() {
    let dir = scratch();
    let db = quiet().cache_size(4 << 20).segment_size(64 << 10).log_limit(1 << 20).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("before", "1").unwrap();
    let batch = |entries: u64| {
        let mut batch = db.batch();
        (0..entries).for_each(|i| batch.insert(&keyspace, format!("{i:06}"), value_of(i, 1000)).unwrap());
        batch.commit()
    };
    message(batch(2000), &["the transaction needs", "bytes of log", "split it, or raise the limit"]);
    assert_eq!(keyspace.len().unwrap(), 1);
    batch(100).unwrap();
    let full = ((1 << 20) / 4) / 1100;
    for n in full - 40..full + 40 {
        match batch(n) {
            Ok(()) => {}
            Err(e) => assert!(matches!(e, Error::TransactionTooLarge { .. }), "{n} entries: {e}"),
        }
    }
    assert_eq!(keyspace.get("before").unwrap().unwrap(), b"1");
    (0..100).for_each(|i| assert_eq!(keyspace.get(format!("{i:06}")).unwrap().unwrap(), value_of(i, 1000)));
    drop(keyspace);
    db.close().unwrap();
}

#[test]
fn empty_things() {
    let dir = scratch();
    let db = quiet().open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    assert!(keyspace.is_empty().unwrap() && keyspace.first().unwrap().is_none() && keyspace.last().unwrap().is_none());
    assert_eq!(keyspace.iter().count() + keyspace.iter().rev().count() + keyspace.prefix("").count(), 0);
    keyspace.remove("absent").unwrap();
    keyspace.remove_range("a".."z").unwrap();
    keyspace.clear().unwrap();
    db.batch().commit().unwrap();
    assert_eq!(keyspace.get_many::<&str>([]).unwrap(), []);
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    keyspace.insert("", "").unwrap();
    assert_eq!(keyspace.get("").unwrap().unwrap(), b"");
    assert_eq!((keyspace.len().unwrap(), keyspace.contains_key("").unwrap()), (1, true));
    assert_eq!(keyspace.range("b".."a").count() + keyspace.range("a".."a").count(), 0);
    keyspace.remove_range("z".."a").unwrap();
    check(&db, dir.path(), "one empty entry", &[(Vec::new(), Vec::new())].into());
    keyspace.remove("").unwrap();
    assert!(keyspace.is_empty().unwrap());
}
