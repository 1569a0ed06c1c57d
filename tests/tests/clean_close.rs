//! The clean mark on real files: who leaves it, who removes it, and what an open makes of a log that is not as the mark says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Background, Database, Durability, Error};
use common::damage::segments;
use common::{Expected, assert_clean, assert_holds, quiet, scratch, value_of};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the copies of a superblock stand, and the mark within them.
const COPIES: [u64; 4] = [0, 262_144, 524_288, 786_432];
const MARK: u64 = 1152;

/// The marks of the two copies of the newest superblock.
fn marks(dir: &Path) -> Vec<u32> {
    let data = std::fs::File::open(dir.join("data")).unwrap();
    let u64_at = |at: u64| {
        let mut bytes = [0; 8];
        data.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    let newest = COPIES.iter().map(|copy| u64_at(copy + 48)).max().unwrap();
    COPIES.iter().filter(|copy| u64_at(*copy + 48) == newest).map(|copy| u64_at(copy + MARK) as u32).collect()
}

fn marked(dir: &Path) -> bool {
    let marks = marks(dir);
    assert!(marks.len() == 2 && marks[0] == marks[1], "the newest superblock stands in two copies alike: {marks:?}");
    marks[0] == 1
}

/// Puts `n` values that go by `seed`.
fn fill(db: &Database, expected: &mut Expected, seed: u64, n: u64) {
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..n {
        let (key, value) = ((seed * 1000 + i).to_be_bytes(), value_of(seed + i, 300));
        keyspace.insert(key, &value).unwrap();
        expected.insert(key.to_vec(), value);
    }
}

fn assert_opens_with(dir: &Path, expected: &Expected) {
    let db = quiet().read_only(true).open(dir).unwrap();
    assert_holds(&db.keyspace("k").unwrap(), expected);
    assert_clean(&db);
}

#[test]
fn a_close_leaves_the_mark_and_an_open_for_writing_removes_it() {
    for background in [Background::Threads, Background::Manual] {
        let (dir, mut expected) = (scratch(), Expected::new());
        let open = || quiet().background(background).open(dir.path()).unwrap();
        let db = open();
        fill(&db, &mut expected, 1, 50);
        db.close().unwrap();
        assert!(marked(dir.path()));
        assert_opens_with(dir.path(), &expected);
        assert!(marked(dir.path()), "an open that only reads leaves it");
        for round in 2..5 {
            let db = open();
            assert!(!marked(dir.path()), "gone before anything is written");
            assert_eq!(db.stats().replayed, 0);
            if round != 3 {
                fill(&db, &mut expected, round, 20);
            }
            assert_clean(&db);
            db.close().unwrap();
            assert!(marked(dir.path()), "{round}");
            assert_opens_with(dir.path(), &expected);
        }
    }
}

#[test]
fn what_is_dropped_is_not_marked() {
    let (dir, mut expected) = (scratch(), Expected::new());
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 1, 20);
    db.checkpoint().unwrap();
    drop(db);
    assert!(!marked(dir.path()));
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 2, 20);
    drop(db);
    assert!(!marked(dir.path()));
    assert_opens_with(dir.path(), &expected);
}

#[test]
fn the_last_handle_marks_what_another_has_closed() {
    for background in [Background::Threads, Background::Manual] {
        let (dir, mut expected) = (scratch(), Expected::new());
        let db = quiet().background(background).open(dir.path()).unwrap();
        fill(&db, &mut expected, 1, 20);
        let keyspace = db.keyspace("k").unwrap();
        db.close().unwrap();
        assert!(!marked(dir.path()), "somebody may write yet");
        assert_holds(&keyspace, &expected);
        drop(keyspace);
        assert!(marked(dir.path()));
        assert_opens_with(dir.path(), &expected);
    }
}

#[test]
fn what_is_committed_after_a_close_is_kept_and_nothing_is_marked() {
    for durability in [Durability::Immediate, Durability::Eventual] {
        let (dir, mut expected) = (scratch(), Expected::new());
        let db = quiet().open(dir.path()).unwrap();
        fill(&db, &mut expected, 1, 20);
        let other = db.clone();
        db.close().unwrap();
        let mut batch = other.batch();
        batch.insert(&other.keyspace("k").unwrap(), b"late", b"kept").unwrap();
        batch.commit_with(durability).unwrap();
        expected.insert(b"late".to_vec(), b"kept".to_vec());
        drop(other);
        assert!(!marked(dir.path()));
        assert_opens_with(dir.path(), &expected);
        quiet().open(dir.path()).unwrap().close().unwrap();
        assert!(marked(dir.path()));
        assert_opens_with(dir.path(), &expected);
    }
}

/// Junk where the log's next flushes go is of no interest, and what is written there afterwards counts.
#[test]
fn junk_behind_a_marked_end_harms_nothing() {
    let (dir, mut expected) = (scratch(), Expected::new());
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 1, 20);
    db.close().unwrap();
    for (i, path) in segments(dir.path()).iter().enumerate() {
        let segment = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let from = if i == 0 { 512 << 10 } else { 0 };
        segment.write_all_at(&value_of(9, (1 << 20) - from), from as u64).unwrap();
    }
    assert_opens_with(dir.path(), &expected);
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 2, 3000);
    drop(db);
    assert!(!marked(dir.path()));
    assert_opens_with(dir.path(), &expected);
}

#[test]
fn segments_that_are_gone_are_told() {
    let (dir, mut expected) = (scratch(), Expected::new());
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 1, 20);
    db.close().unwrap();
    let paths = segments(dir.path());
    for path in &paths {
        let aside = dir.path().join("aside");
        std::fs::rename(path, &aside).unwrap();
        for read_only in [true, false] {
            match quiet().read_only(read_only).open(dir.path()) {
                // One more than appending needs may be there.
                Ok(db) if Some(path) == paths.get(2) => drop(db),
                Err(Error::WalCorrupted { detail }) => assert!(detail.contains("missing") && detail.contains(".wal"), "{detail}"),
                other => panic!("{}: {other:?}", path.display()),
            }
        }
        std::fs::rename(&aside, path).unwrap();
    }
    assert_opens_with(dir.path(), &expected);
}

/// A disk that has lost all superblocks written since the close, or a `data` brought back from then beside a newer log.
#[test]
fn a_flush_where_the_mark_says_that_none_is_is_told() {
    let (dir, mut expected) = (scratch(), Expected::new());
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 1, 20);
    db.close().unwrap();
    let before = std::fs::read(dir.path().join("data")).unwrap();
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 2, 20);
    drop(db);
    std::fs::write(dir.path().join("data"), before).unwrap();
    for read_only in [true, false] {
        match quiet().read_only(read_only).open(dir.path()) {
            Err(Error::WalCorrupted { detail }) => assert!(detail.contains("incarnation"), "{detail}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A copy of the superblock that rots after the next open does not bring the mark back.
#[test]
fn a_rotten_copy_does_not_bring_the_mark_back() {
    let (dir, mut expected) = (scratch(), Expected::new());
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 1, 20);
    db.close().unwrap();
    let db = quiet().open(dir.path()).unwrap();
    fill(&db, &mut expected, 2, 20);
    drop(db);
    for copy in COPIES {
        let data = std::fs::OpenOptions::new().read(true).write(true).open(dir.path().join("data")).unwrap();
        let mut was = [0; 4096];
        data.read_exact_at(&mut was, copy).unwrap();
        data.write_all_at(&[0xA5; 64], copy + 100).unwrap();
        let db = quiet().read_only(true).open(dir.path()).unwrap();
        assert_holds(&db.keyspace("k").unwrap(), &expected);
        drop(db);
        data.write_all_at(&was, copy).unwrap();
    }
}
