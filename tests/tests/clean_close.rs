//! The clean mark, mostly on real files: who leaves it, who removes it, and what an open makes of a log that is not as the mark says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::Durability::Later;
use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlar_disk::{Access, AlignedBuf, BLOCK_SIZE_MIN, BlockSize, Create, Fs, IoMode, OpenHow};
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

/// What copied a database need not have synced the copy: from the first open for writing on it counts like any other.
#[test]
fn a_copy_of_a_closed_database_keeps_what_is_committed_to_it() {
    let mut shorter = 0;
    for seed in 0..30 {
        let mut sim = Sim::new(SimOptions::new(seed));
        let (from, to) = (Path::new("/from"), Path::new("/to"));
        let open = |sim: &Sim, dir: &Path| {
            let options = quiet().file_system(sim.fs()).background(Background::Manual).cache_size(1 << 20);
            options.open(dir)
        };
        let db = open(&sim, from).unwrap();
        db.keyspace("k").unwrap().insert(b"old", b"kept").unwrap();
        db.close().unwrap();
        copy_unsynced(&sim, from, to);
        if seed % 3 == 0 {
            // Else there would be nothing to be lost.
            let lost = sim.copy(SimOptions::new(seed)).restart(Restart::PowerCut, SimOptions::new(seed));
            shorter += u32::from(!matches!(open(&lost, to), Ok(db) if db.keyspace("k").unwrap().get(b"old").unwrap().is_some()));
        }
        let db = open(&sim, to).unwrap();
        db.keyspace("k").unwrap().insert(b"new", b"kept").unwrap();
        drop(db);
        for life in 0..2 {
            sim = sim.restart(Restart::PowerCut, SimOptions::new(seed * 10 + life));
            let db = open(&sim, to).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let keyspace = db.keyspace("k").unwrap();
            for key in [b"old", b"new"] {
                assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(&b"kept"[..]), "seed {seed}");
            }
        }
    }
    assert!(shorter > 0, "a power cut takes what was not synced");
}

/// Copies the files of a database one by one, and makes nothing durable but the new directory's name.
fn copy_unsynced(sim: &Sim, from: &Path, to: &Path) {
    let fs = sim.fs();
    let how = |access, create| OpenHow { access, create, mode: IoMode::Direct, block: BlockSize::MIN };
    for dir in ["", "wal"] {
        fs.create_dir(&to.join(dir)).unwrap();
        for name in fs.list(&from.join(dir)).unwrap() {
            let (old, new) = (from.join(dir).join(&name), to.join(dir).join(&name));
            let Ok(file) = fs.open(&old, &how(Access::Read, Create::Never)) else { continue };
            let len = file.len().unwrap();
            let copy = fs.open(&new, &how(Access::ReadWrite, Create::New)).unwrap();
            copy.set_len(len).unwrap();
            let whole = len - len % BLOCK_SIZE_MIN as u64;
            let mut bytes = AlignedBuf::zeroed(whole as usize);
            if whole > 0 {
                file.read(0, &[bytes.words_mut()]).unwrap();
                copy.write(0, &[bytes.words_mut()], Later).unwrap();
            }
        }
    }
    fs.sync_dir(Path::new("/")).unwrap();
}
