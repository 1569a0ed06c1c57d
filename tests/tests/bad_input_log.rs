//! The log, damaged: what was once confirmed is never dropped in silence, and what never was is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Database, Error, Options};
use common::damage::{self, BLOCK, Flush, flushes, segments};
use common::{Expected, copy_database, message, quiet, scratch, value_of};
use std::path::{Path, PathBuf};

/// Small segments, and room for many of them beyond the last checkpoint.
fn options() -> Options {
    quiet().segment_size(64 << 10).log_limit(16 << 20)
}

/// A database that was dropped without a checkpoint: `count` durable commits stand in the log, which vouches for all of them.
fn made(path: &Path, count: u64, len: usize) -> Expected {
    let db = options().open(path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut expected = Expected::new();
    for i in 0..count {
        let (key, value) = (format!("key {i:05}").into_bytes(), value_of(i, len));
        keyspace.insert(&key, &value).unwrap();
        expected.insert(key, value);
    }
    expected
}

fn assert_whole(path: &Path, expected: &Expected) {
    let db = options().open(path).unwrap();
    common::assert_holds(&db.keyspace("k").unwrap(), expected);
    common::assert_clean(&db);
}

/// All flushes of a log, with the file each stands in.
fn all_flushes(path: &Path) -> Vec<(PathBuf, Flush)> {
    let files = segments(path);
    files.iter().flat_map(|f| flushes(&damage::bytes_of(f)).into_iter().map(|flush| (f.clone(), flush))).collect()
}

/// Both ways of opening are refused, and nothing is changed.
fn assert_refused(path: &Path, parts: &[&str], what: &str) {
    let before: Vec<_> = segments(path).iter().map(|s| damage::bytes_of(s)).collect();
    let data = damage::bytes_of(&path.join("data"));
    for read_only in [true, false] {
        match options().read_only(read_only).open(path) {
            Err(e @ Error::WalCorrupted { .. }) => {
                message::<()>(Err(e), &["the log is damaged", "nothing was dropped"]);
            }
            Err(e) => panic!("{what}: {e}"),
            Ok(db) => panic!("{what}: opened with {:?} entries", db.keyspace("k").map(|k| k.len())),
        }
        message(options().read_only(read_only).open(path), parts);
    }
    assert!(before == segments(path).iter().map(|s| damage::bytes_of(s)).collect::<Vec<_>>(), "{what}: the log was changed");
    assert!(damage::bytes_of(&path.join("data")) == data, "{what}: data was changed");
}

#[test]
fn a_flipped_bit_in_the_confirmed_part() {
    let dir = scratch();
    let path = dir.path().join("db");
    let expected = made(&path, 60, 700);
    let all = all_flushes(&path);
    assert!(all.len() > 60, "{} flushes", all.len());
    // The last one vouches for the others, and nothing for it: it holds no commit.
    let (file, last) = all.last().unwrap();
    assert_eq!(last.length, 64, "{last:?}");
    for (file, flush) in all.iter().take(all.len() - 1) {
        for at in [0, 5, 9, 13, 17, 25, 33, 41, 50, flush.length - 1] {
            damage::flip(file, flush.offset + at, (at % 8) as u8);
            assert_refused(&path, &["wal/0000", &flush.lsn.to_string()], &format!("byte {at} of {flush:?}"));
            damage::flip(file, flush.offset + at, (at % 8) as u8);
            if flush.offset as usize / BLOCK % 8 != 1 {
                break;
            }
        }
    }
    damage::flip(file, last.offset + 30, 1);
    assert_whole(&path, &expected);
}

#[test]
fn a_part_overwritten() {
    let dir = scratch();
    let path = dir.path().join("db");
    let expected = made(&path, 60, 700);
    let all = all_flushes(&path);
    let whole: Vec<_> = segments(&path).iter().map(|s| (s.clone(), damage::bytes_of(s))).collect();
    let middle = all.len() / 2;
    for (from, to) in [(0, 1), (0, middle), (middle, middle + 3), (middle, all.len() - 1)] {
        for byte in [0, 0xA5] {
            for (file, flush) in &all[from..to] {
                damage::put(file, flush.offset, &vec![byte; (flush.length as usize).next_multiple_of(BLOCK)]);
            }
            assert_refused(&path, &["wal/0000", &all[from].1.lsn.to_string()], &format!("flushes {from} to {to}, {byte:#x}"));
            whole.iter().for_each(|(s, bytes)| std::fs::write(s, bytes).unwrap());
        }
    }
    assert_whole(&path, &expected);
}

/// What a crash in the middle of a flush leaves: the flush that was never confirmed is dropped, and nothing else.
#[test]
fn a_torn_tail() {
    let dir = scratch();
    let path = dir.path().join("db");
    let db = quiet().open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut expected = Expected::new();
    for i in 0..20 {
        let (key, value) = (format!("key {i:05}").into_bytes(), value_of(i, 700));
        keyspace.insert(&key, &value).unwrap();
        expected.insert(key, value);
    }
    let before = dir.path().join("before");
    copy_database(&path, &before);
    keyspace.insert("torn", value_of(99, 30_000)).unwrap();
    let after = dir.path().join("after");
    copy_database(&path, &after);
    drop(keyspace);
    drop(db);
    let (old, new) = (damage::bytes_of(&segments(&before)[0]), damage::bytes_of(&segments(&after)[0]));
    let changed: Vec<usize> = (0..old.len()).filter(|&i| old[i] != new[i]).collect();
    let (from, to) = (changed[0] / 512 * 512, *changed.last().unwrap() + 1);
    assert!(to - from > 30_000, "the last commit is one flush of several blocks");
    for (n, arrived) in torn_parts(from, to).into_iter().enumerate() {
        let torn = dir.path().join(format!("torn {n}"));
        copy_database(&before, &torn);
        for sector in arrived {
            damage::put(&segments(&torn)[0], sector as u64, &new[sector..sector + 512]);
        }
        assert_whole(&torn, &expected);
        // And it can be built upon.
        let db = options().open(&torn).unwrap();
        db.keyspace("k").unwrap().insert("later", "x").unwrap();
        drop(db);
        let mut later = expected.clone();
        later.insert(b"later".to_vec(), b"x".to_vec());
        assert_whole(&torn, &later);
    }
    expected.insert(b"torn".to_vec(), value_of(99, 30_000));
    assert_whole(&after, &expected);
}

/// Sets of sectors of a flush that may have arrived, none of them all.
fn torn_parts(from: usize, to: usize) -> Vec<Vec<usize>> {
    let sectors: Vec<usize> = (from..to).step_by(512).collect();
    let n = sectors.len();
    vec![
        sectors[..1].to_vec(),
        sectors[1..].to_vec(),
        sectors[..n / 2].to_vec(),
        sectors[..n - 1].to_vec(),
        sectors.iter().copied().step_by(2).collect(),
        [&sectors[..8], &sectors[n - 8..]].concat(),
    ]
}

/// Until something later vouches for it, the last confirmed flush can't be told from a torn one: at most that one is lost.
#[test]
fn the_last_flush_before_anything_vouches_for_it() {
    let dir = scratch();
    let path = dir.path().join("db");
    let db = options().open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..20 {
        keyspace.insert(format!("{i}"), value_of(i, 100)).unwrap();
    }
    let copy = dir.path().join("copy");
    copy_database(&path, &copy);
    let (file, last) = all_flushes(&copy).pop().unwrap();
    damage::flip(&file, last.offset + 70, 1);
    let opened = options().open(&copy).unwrap();
    assert_eq!(opened.keyspace("k").unwrap().len().unwrap(), 19);
}

#[test]
fn segments_missing_swapped_or_of_another_length() {
    let dir = scratch();
    let path = dir.path().join("db");
    let expected = made(&path, 60, 10_000);
    let files = segments(&path);
    assert!(files.len() >= 10, "{files:?}");
    let used = files.iter().filter(|f| !flushes(&damage::bytes_of(f)).is_empty()).count();
    let aside = dir.path().join("aside");
    for (n, file) in files.iter().enumerate().take(used + 1) {
        std::fs::rename(file, &aside).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_refused(&path, &[name, "missing"], &format!("segment {n} of {used} missing"));
        std::fs::rename(&aside, file).unwrap();
    }
    for (a, b) in [(0, 1), (1, 2), (0, used - 1), (used - 2, used - 1), (2, used)] {
        swap(&files[a], &files[b], &aside);
        let name = files[a].file_name().unwrap().to_str().unwrap();
        assert_refused(&path, &[name], &format!("segments {a} and {b} of {used} swapped"));
        swap(&files[a], &files[b], &aside);
    }
    for len in [0, 4096, (64 << 10) - 1, (64 << 10) + 4096] {
        let whole = damage::bytes_of(&files[2]);
        damage::cut(&files[2], len);
        assert_refused(&path, &["000000000002.wal", "bytes long instead of 65536"], &format!("segment 2 of {len} bytes"));
        std::fs::write(&files[2], &whole).unwrap();
    }
    assert_whole(&path, &expected);
}

fn swap(a: &Path, b: &Path, aside: &Path) {
    std::fs::rename(a, aside).unwrap();
    std::fs::rename(b, a).unwrap();
    std::fs::rename(aside, b).unwrap();
}

#[test]
fn the_whole_log_missing() {
    let dir = scratch();
    let path = dir.path().join("db");
    let expected = made(&path, 20, 500);
    let (wal, aside) = (path.join("wal"), dir.path().join("aside"));
    std::fs::rename(&wal, &aside).unwrap();
    for present in [false, true] {
        if present {
            std::fs::create_dir(&wal).unwrap();
        }
        for read_only in [true, false] {
            message(options().read_only(read_only).open(&path), &["wal"]);
        }
    }
    std::fs::remove_dir_all(&wal).unwrap();
    std::fs::rename(&aside, &wal).unwrap();
    assert_whole(&path, &expected);
}

/// Files of others in the log's directory, and leftovers of our own: neither is touched or taken for a segment.
#[test]
fn strange_files_beside_the_segments() {
    let dir = scratch();
    let path = dir.path().join("db");
    let expected = made(&path, 20, 500);
    for name in ["notes.txt", "000000000001.wal.bak", "1.wal", "next.tmp", "99999999999999999999.wal", "abc.wal"] {
        std::fs::write(path.join("wal").join(name), "something").unwrap();
    }
    assert_whole(&path, &expected);
    assert_whole(&path, &expected);
    assert_eq!(std::fs::read(path.join("wal/notes.txt")).unwrap(), b"something");
    assert_eq!(std::fs::read(path.join("wal/000000000001.wal.bak")).unwrap(), b"something");
}

/// The log on another directory, by option; without it no open.
#[test]
fn a_log_elsewhere() {
    let dir = scratch();
    let (path, elsewhere) = (dir.path().join("db"), dir.path().join("elsewhere"));
    let db = options().wal_dir(&elsewhere).open(&path).unwrap();
    let fill = |db: &Database| (0..20).for_each(|i| db.keyspace("k").unwrap().insert(format!("{i}"), value_of(i, 9)).unwrap());
    fill(&db);
    drop(db);
    assert!(!path.join("wal").exists() && elsewhere.join("000000000000.wal").exists());
    let db = options().open(&path).unwrap();
    assert_eq!(db.keyspace("k").unwrap().len().unwrap(), 20);
    drop(db);
    let aside = dir.path().join("aside");
    std::fs::rename(&elsewhere, &aside).unwrap();
    message(options().open(&path), &["elsewhere"]);
    std::fs::rename(&aside, &elsewhere).unwrap();
    assert_eq!(options().open(&path).unwrap().keyspace("k").unwrap().len().unwrap(), 20);
}

/// A flush of a log format of the future: refused with both numbers, not taken for damage or for the end.
#[test]
fn a_log_format_of_the_future() {
    let dir = scratch();
    let path = dir.path().join("db");
    made(&path, 20, 500);
    let (file, flush) = all_flushes(&path)[10].clone();
    let mut bytes = damage::bytes_of(&file)[flush.offset as usize..][..flush.length as usize].to_vec();
    bytes[8..10].copy_from_slice(&9u16.to_le_bytes());
    let crc = damage::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    damage::put(&file, flush.offset, &bytes);
    for read_only in [true, false] {
        message(options().read_only(read_only).open(&path), &["format version 9", "knows version 1"]);
    }
}
