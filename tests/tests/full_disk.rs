//! A full disk: what needs room is refused whole, what needs none goes on, what is deleted makes room again, and nothing confirmed is
//! lost. On a small ext4 image behind a loop device, so as root only; without, under a limit on the length of files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Background, Database, Durability, Error, Keyspace, Options};
use common::process::{self, is_root, say, start};
use common::{Expected, assert_clean, assert_holds, scratch, skipped, value_of};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The parts that other processes play in the tests below.
#[test]
#[ignore = "plays a part in other tests"]
fn plays_a_part() {
    let Some((part, dir)) = process::part() else { return };
    match part.as_str() {
        "limited" => {
            // Above the limit a write gives EFBIG, and a signal that ends the process unless it is ignored.
            let limit = libc::rlimit { rlim_cur: 24 << 20, rlim_max: 24 << 20 };
            // SAFETY: ignores a signal, and sets a limit of this process from a whole structure.
            unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
            }
            file_size_limit(&dir);
            say("done");
        }
        "fills" => fills_until_killed(&dir),
        _ => panic!("no such part: {part}"),
    }
}

/// A file system of its own, taken away with the guard.
struct Small {
    mount: PathBuf,
    _dir: tempfile::TempDir,
}

impl Small {
    /// `None`, having said why, where that can't be had.
    fn new(test: &str, mib: u64) -> Option<Small> {
        if !is_root() {
            skipped(test, "only root can mount a small file system");
            return None;
        }
        let dir = scratch();
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir(&mount).unwrap();
        let quietly = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().is_ok_and(|s| s.success())
        };
        if !quietly(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-F"]).arg(&image)) {
            skipped(test, "mkfs.ext4 can't make a file system");
            return None;
        }
        let mut loop_device = Command::new("mount");
        if !quietly(loop_device.args(["-o", "loop"]).arg(&image).arg(&mount)) {
            skipped(test, "a loop device can't be mounted here");
            return None;
        }
        Some(Small { mount, _dir: dir })
    }

    fn path(&self) -> PathBuf {
        self.mount.join("db")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mount).status();
    }
}

fn options() -> Options {
    Options::new().cache_size(4 << 20).segment_size(1 << 20).log_limit(4 << 20).grow_step(1 << 20)
}

/// Inserts until there is no room; how many went in. Each refused insert has changed nothing.
fn fill(keyspace: &Keyspace, expected: &mut Expected, seed: u64, len: usize, durability: Durability) -> u64 {
    for i in 0..1_000_000 {
        let (key, value) = (format!("{seed} {i:06}").into_bytes(), value_of(seed * 1_000_003 + i, len));
        match keyspace.insert_with(&key, &value, durability) {
            Ok(()) => {
                expected.insert(key, value);
            }
            Err(e) => {
                assert!(matches!(e, Error::NoSpace { .. }), "{e}");
                let text = e.to_string();
                assert!(text.contains("no space left") && text.contains("nothing was applied"), "{text}");
                assert_eq!(keyspace.get(&key).unwrap(), None, "what was refused is not there");
                return i;
            }
        }
    }
    panic!("the disk never got full");
}

/// Deletes two of three entries, alone, in batches and in ranges.
fn delete_most(db: &Database, keyspace: &Keyspace, expected: &mut Expected, durability: Durability) {
    let keys: Vec<_> = expected.keys().cloned().collect();
    for (n, keys) in keys.chunks(90).enumerate() {
        let gone = &keys[..keys.len() * 2 / 3];
        if gone.is_empty() {
            continue;
        }
        match n % 3 {
            0 => gone.iter().for_each(|k| keyspace.remove_with(k, durability).unwrap_or_else(|e| panic!("delete {n}: {e}"))),
            1 => {
                let mut batch = db.batch();
                gone.iter().for_each(|k| batch.remove(keyspace, k).unwrap());
                batch.commit_with(durability).unwrap_or_else(|e| panic!("batch of deletes {n}: {e}"));
            }
            _ => {
                keyspace.remove_range(gone[0].clone()..=gone[gone.len() - 1].clone()).unwrap_or_else(|e| panic!("range {n}: {e}"))
            }
        }
        gone.iter().for_each(|k| drop(expected.remove(k)));
    }
}

/// Full, then emptied, then full again, several times over.
fn full_and_emptied(test: &str, durability: Durability, background: Background, len: usize) {
    let Some(small) = Small::new(test, 24) else { return };
    let open = || options().background(background).open(small.path()).unwrap();
    let mut db = open();
    let mut expected = Expected::new();
    let mut counts = Vec::new();
    for round in 0..3 {
        let keyspace = db.keyspace("k").unwrap();
        counts.push(fill(&keyspace, &mut expected, round, len, durability));
        // Full: reading, checkpoints and verification go on.
        assert_holds(&keyspace, &expected);
        db.flush().unwrap();
        db.checkpoint().unwrap();
        assert_holds(&keyspace, &expected);
        assert_clean(&db);
        if round == 1 {
            // So does opening, with the log as it is.
            drop(keyspace);
            drop(db);
            db = open();
        }
        let keyspace = db.keyspace("k").unwrap();
        assert_holds(&keyspace, &expected);
        delete_most(&db, &keyspace, &mut expected, durability);
        assert_holds(&keyspace, &expected);
        db.flush().unwrap();
        db.checkpoint().unwrap();
        db.checkpoint().unwrap();
        assert_clean(&db);
    }
    assert!(counts[1] * 2 > counts[0] && counts[2] * 2 > counts[0], "deleting makes room: {counts:?} went in");
    db.close().unwrap();
    let db = open();
    let keyspace = db.keyspace("k").unwrap();
    assert_holds(&keyspace, &expected);
    keyspace.clear().unwrap();
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    let mut again = Expected::new();
    let count = fill(&keyspace, &mut again, 9, len, durability);
    assert!(count * 3 > counts[0] * 2, "clearing makes room: {count} went in, {counts:?} before");
    assert_holds(&keyspace, &again);
}

#[test]
fn small_values_immediate() {
    full_and_emptied("small_values_immediate", Durability::Immediate, Background::Manual, 1500);
}

#[test]
fn small_values_eventual() {
    full_and_emptied("small_values_eventual", Durability::Eventual, Background::Threads, 700);
}

#[test]
fn long_values_immediate() {
    full_and_emptied("long_values_immediate", Durability::Immediate, Background::Threads, 20_000);
}

#[test]
fn large_values_eventual() {
    full_and_emptied("large_values_eventual", Durability::Eventual, Background::Manual, 150_000);
}

/// A value that has no room at all is refused, and the room it took on trial is given back.
#[test]
fn a_value_larger_than_the_disk() {
    let Some(small) = Small::new("a_value_larger_than_the_disk", 48) else { return };
    let db = options().background(Background::Manual).open(small.path()).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("there", "before").unwrap();
    let huge = value_of(1, 100 << 20);
    for _ in 0..3 {
        let outcome = keyspace.insert("huge", &huge);
        assert!(matches!(outcome, Err(Error::NoSpace { .. })), "{outcome:?}");
        assert_eq!(keyspace.get("huge").unwrap(), None);
    }
    keyspace.insert("smaller", value_of(2, 10 << 20)).unwrap();
    assert!(*keyspace.get("smaller").unwrap().unwrap() == value_of(2, 10 << 20)[..]);
    assert_eq!(keyspace.get("there").unwrap().unwrap(), b"before");
    assert_clean(&db);
}

/// Another program takes all the room, also what the log would need for another segment; then gives it back.
#[test]
fn room_taken_by_others() {
    let Some(small) = Small::new("room_taken_by_others", 32) else { return };
    for background in [Background::Threads, Background::Manual] {
        let path = small.mount.join(format!("{background:?}"));
        let db = options().background(background).open(&path).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let mut expected = Expected::new();
        for i in 0..500 {
            let (key, value) = (format!("before {i:04}").into_bytes(), value_of(i, 1000));
            keyspace.insert_with(&key, &value, Durability::Eventual).unwrap();
            expected.insert(key, value);
        }
        let others = small.mount.join("others");
        let mut file = std::fs::File::create(&others).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        let _ = file.sync_all();
        fill(&keyspace, &mut expected, 1, 1000, Durability::Immediate);
        assert_holds(&keyspace, &expected);
        let keys: Vec<_> = expected.keys().take(100).cloned().collect();
        for key in keys {
            keyspace.remove(&key).unwrap();
            expected.remove(&key);
        }
        db.checkpoint().unwrap();
        assert_holds(&keyspace, &expected);
        drop(file);
        std::fs::remove_file(&others).unwrap();
        for i in 0..500 {
            let (key, value) = (format!("after {i:04}").into_bytes(), value_of(i, 1000));
            keyspace.insert(&key, &value).unwrap_or_else(|e| panic!("{background:?}, {i}: {e}"));
            expected.insert(key, value);
        }
        assert_holds(&keyspace, &expected);
        drop(keyspace);
        drop(db);
        let db = options().open(&path).unwrap();
        assert_holds(&db.keyspace("k").unwrap(), &expected);
        assert_clean(&db);
        drop(db);
        std::fs::remove_dir_all(&path).unwrap();
    }
}

/// No room to make a database: refused, and what was left does not keep it from being made later.
#[test]
fn no_room_to_begin_with() {
    let Some(small) = Small::new("no_room_to_begin_with", 16) else { return };
    let others = small.mount.join("others");
    let mut file = std::fs::File::create(&others).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    let _ = file.sync_all();
    let mut len = file.metadata().unwrap().len();
    // With a little more room each time, so that it ends at each step of the creation.
    let made = loop {
        match options().segment_size(64 << 10).log_limit(1 << 20).open(small.path()) {
            Ok(db) => break db,
            Err(e) => assert!(matches!(e, Error::NoSpace { .. }), "{e}"),
        }
        len = len.checked_sub(64 << 10).expect("it can be made when there is room");
        file.set_len(len).unwrap();
        file.sync_all().unwrap();
    };
    drop(file);
    std::fs::remove_file(&others).unwrap();
    let keyspace = made.keyspace("k").unwrap();
    keyspace.insert("a", "1").unwrap();
    drop(keyspace);
    drop(made);
    assert_eq!(options().open(small.path()).unwrap().keyspace("k").unwrap().get("a").unwrap().unwrap(), b"1");
}

fn fills_until_killed(dir: &Path) {
    let db = options().open(dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..u64::MAX {
        match keyspace.insert(format!("{i:08}"), value_of(i, 1700)) {
            Ok(()) => say(format!("in {i}")),
            Err(Error::NoSpace { .. }) => {
                say("full");
                if keyspace.remove_range(format!("{:08}", i / 2)..format!("{i:08}")).is_err() {
                    say("stuck");
                }
                say(format!("out {}", i / 2));
                return process::wait_for_end_of_input();
            }
            Err(e) => panic!("{e}"),
        }
    }
}

/// Killed when the disk is full and half of it has been deleted: what is there again is what was confirmed.
#[test]
fn killed_on_a_full_disk() {
    let Some(small) = Small::new("killed_on_a_full_disk", 20) else { return };
    let mut player = start("fills", &small.path());
    let (mut last, mut cut) = (0, None);
    while cut.is_none() {
        let line = player.hears().expect("the player goes on");
        match line.split_once(' ') {
            Some(("in", i)) => last = i.parse().unwrap(),
            Some(("out", i)) => cut = Some(i.parse::<u64>().unwrap()),
            _ => assert_eq!(line, "full"),
        }
    }
    player.kill();
    let db = options().open(small.path()).unwrap();
    let expected: Expected = (0..cut.unwrap()).map(|i| (format!("{i:08}").into_bytes(), value_of(i, 1700))).collect();
    assert!(last > 2000, "{last} went in");
    assert_holds(&db.keyspace("k").unwrap(), &expected);
    assert_clean(&db);
    let keyspace = db.keyspace("k").unwrap();
    db.checkpoint().unwrap();
    for i in 0..1000 {
        keyspace.insert(format!("again {i}"), value_of(i, 1700)).unwrap_or_else(|e| panic!("{i}: {e}"));
    }
}

/// A limit on the length of files, for who is not root: what is refused is refused whole, reading goes on, nothing is lost.
#[test]
fn a_limit_on_the_length_of_files() {
    let dir = scratch();
    let path = dir.path().join("db");
    let mut player = start("limited", &path);
    assert_eq!(player.hears().as_deref(), Some("done"));
    player.ends();
    let db = options().open(&path).unwrap();
    assert_clean(&db);
    let keyspace = db.keyspace("k").unwrap();
    assert_eq!(keyspace.get("last").unwrap().unwrap(), b"word");
    // The limit was that process's: here there is room.
    for i in 0..500 {
        keyspace.insert(format!("more {i}"), value_of(i, 100_000)).unwrap();
    }
    assert_clean(&db);
}

fn file_size_limit(dir: &Path) {
    let db = options().background(Background::Manual).open(dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut expected = Expected::new();
    for i in 0..100_000 {
        let (key, value) = (format!("{i:06}").into_bytes(), value_of(i, 2000));
        match keyspace.insert(&key, &value) {
            Ok(()) => expected.insert(key, value),
            Err(e) => {
                let text = e.to_string();
                assert!(text.contains("data") && text.contains("no space"), "{text}");
                assert!(i > 2000, "refused at {i}");
                break;
            }
        };
    }
    assert_holds(&keyspace, &expected);
    db.checkpoint().unwrap();
    let keys: Vec<_> = expected.keys().step_by(2).cloned().collect();
    for key in keys {
        keyspace.remove(&key).unwrap();
        expected.remove(&key);
    }
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    assert_holds(&keyspace, &expected);
    assert_clean(&db);
    keyspace.insert("last", "word").unwrap();
}
