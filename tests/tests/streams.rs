//! Large values piece by piece, and cursors that lend.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Background, Database, Durability, Error, Options};
use common::{assert_clean, scratch, value_of};
use std::io::{Read, Seek, SeekFrom, Write};

fn open(dir: &std::path::Path) -> Database {
    let options = Options::new().cache_size(1 << 20).segment_size(1 << 20).background(Background::Manual);
    options.durability(Durability::Eventual).open(dir.join("db")).unwrap()
}

/// Lengths around every limit: inline, overflow pages, runs, several runs.
const LENGTHS: [usize; 9] = [0, 10, 5_000, 65_536, 65_537, 300_000, 8 << 20, (8 << 20) + 1, 20_000_003];

#[test]
fn what_is_written_piece_by_piece_is_read_piece_by_piece() {
    let dir = scratch();
    let db = open(dir.path());
    let keyspace = db.keyspace("k").unwrap();
    for (number, &len) in LENGTHS.iter().enumerate() {
        let value = value_of(number as u64, len);
        let key = (number as u64).to_be_bytes();
        let mut writer = keyspace.blob_writer(key).unwrap();
        for piece in value.chunks(100_003) {
            writer.write_all(piece).unwrap();
        }
        assert_eq!(keyspace.get(key).unwrap(), None, "it is seen before it is finished");
        writer.finish().unwrap();
    }
    let reopened = {
        drop((keyspace, db));
        open(dir.path())
    };
    let keyspace = reopened.keyspace("k").unwrap();
    assert_eq!(keyspace.len().unwrap(), LENGTHS.len() as u64);
    for (number, &len) in LENGTHS.iter().enumerate() {
        let (key, value) = ((number as u64).to_be_bytes(), value_of(number as u64, len));
        assert_eq!(keyspace.get(key).unwrap().unwrap(), value);
        let mut reader = keyspace.blob_reader(key).unwrap().unwrap();
        assert_eq!((reader.len(), reader.is_empty()), (len as u64, len == 0));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == value, "{len} bytes");
        for at in [0, len / 3, len / 2, len.saturating_sub(7), len] {
            reader.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut some = vec![0; 5000.min(len - at)];
            reader.read_exact(&mut some).unwrap();
            assert!(some == value[at..at + some.len()]);
        }
        assert_eq!(reader.seek(SeekFrom::End(10)).unwrap(), len as u64 + 10);
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
        assert!(reader.seek(SeekFrom::Current(-(len as i64) - 11)).is_err());
    }
    assert!(keyspace.blob_reader("absent").unwrap().is_none());
    assert_clean(&reopened);
}

/// A reader goes on with the value that it began with.
#[test]
fn a_reader_is_not_disturbed_by_what_becomes_of_the_value() {
    let dir = scratch();
    let db = open(dir.path());
    let keyspace = db.keyspace("k").unwrap();
    for len in [50_000, 20_000_000] {
        let value = value_of(1, len);
        keyspace.insert("v", &value).unwrap();
        db.checkpoint().unwrap();
        let mut reader = keyspace.blob_reader("v").unwrap().unwrap();
        let mut found = vec![0; len / 2];
        reader.read_exact(&mut found).unwrap();
        for round in 0..4 {
            match round {
                0 => keyspace.remove("v").unwrap(),
                1 => keyspace.insert("v", value_of(2, len)).unwrap(),
                2 => keyspace.clear().unwrap(),
                _ => keyspace.insert("w", value_of(3, 3 * len / 2)).unwrap(),
            }
            db.checkpoint().unwrap();
            while db.maintain().unwrap() {}
        }
        reader.read_to_end(&mut found).unwrap();
        assert!(found == value);
    }
    assert_clean(&db);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let dir = scratch();
    let db = open(dir.path());
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("v", "before").unwrap();
    db.checkpoint().unwrap();
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let mut writer = keyspace.blob_writer("v").unwrap();
        writer.write_all(&value_of(1, 20_000_000)).unwrap();
        writer.flush().unwrap();
        drop(writer);
        db.checkpoint().unwrap();
        sizes.push(db.stats().space.file);
        assert_eq!(keyspace.get("v").unwrap().unwrap(), "before");
    }
    assert_eq!(sizes[0], sizes[4], "{sizes:?}");
    assert!(matches!(keyspace.blob_writer(vec![0; 5000]), Err(Error::KeyTooLarge { .. })));
    assert_clean(&db);
}

#[test]
fn a_cursor_lends_what_an_iterator_gives() {
    let dir = scratch();
    let db = open(dir.path());
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..3000u64 {
        let len = if i % 100 == 0 { 9000 } else { 40 };
        keyspace.insert((i * 2).to_be_bytes(), value_of(i, len)).unwrap();
    }
    let snapshot = db.snapshot().unwrap();
    let (from, to) = (300u64.to_be_bytes(), 5000u64.to_be_bytes());
    let given: Vec<(Vec<u8>, Vec<u8>)> =
        snapshot.range(&keyspace, from..to).map(|e| e.map(|(k, v)| (k, v.to_vec())).unwrap()).collect();
    // Every key of the snapshot is replaced or removed, and others come between.
    for i in 0..3000u64 {
        keyspace.insert((i * 2 + 1).to_be_bytes(), value_of(i + 9, 60)).unwrap();
        if i % 2 == 0 { keyspace.remove((i * 2).to_be_bytes()) } else { keyspace.insert((i * 2).to_be_bytes(), "new") }.unwrap();
    }
    let mut cursor = snapshot.cursor(&keyspace, from..to);
    let mut forward = Vec::new();
    while let Some((key, value)) = cursor.next().unwrap() {
        forward.push((key.to_vec(), value.to_vec()));
    }
    assert!(cursor.next().unwrap().is_none());
    assert!(forward == given);
    let mut cursor = snapshot.cursor(&keyspace, from..to);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    while let Some((key, value)) = cursor.next().unwrap() {
        front.push((key.to_vec(), value.to_vec()));
        let Some((key, value)) = cursor.next_back().unwrap() else { break };
        back.push((key.to_vec(), value.to_vec()));
    }
    front.extend(back.into_iter().rev());
    assert!(front == given);
    let mut now = keyspace.cursor::<&[u8]>(..);
    let mut count = 0;
    while now.next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, keyspace.len().unwrap());
}
