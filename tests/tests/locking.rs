//! One writer or several readers, whoever and wherever they are; and children made by `fork`, which are nobody's business.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Background, Create, Database, Durability, Error, Options};
use common::process::{self, Player, fork, say, start};
use common::{Expected, assert_clean, assert_holds, message, quiet, scratch, value_of};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The parts that other processes play in the tests below.
#[test]
#[ignore = "plays a part in other tests"]
fn plays_a_part() {
    let Some((part, dir)) = process::part() else { return };
    match part.as_str() {
        "writer" => holds(&dir, Options::new().cache_size(4 << 20)),
        "reader" => holds(&dir, quiet().read_only(true)),
        "busy writer" => writes_until_killed(&dir),
        _ => panic!("no such part: {part}"),
    }
}

fn holds(dir: &Path, options: Options) {
    let db = options.create(Create::Never).open(dir);
    match &db {
        Ok(_) => say("open"),
        Err(e) => say(e),
    }
    process::wait_for_end_of_input();
}

fn writes_until_killed(dir: &Path) {
    let db = Options::new().cache_size(4 << 20).log_limit(32 << 20).open(dir).unwrap();
    let keyspace = db.keyspace("busy").unwrap();
    for i in 0.. {
        keyspace.insert(format!("{i:08}"), value_of(i, 100)).unwrap();
        say(i);
    }
}

fn small(dir: &Path) -> Expected {
    let db = quiet().open(dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("a", "1").unwrap();
    drop(keyspace);
    db.close().unwrap();
    [(b"a".to_vec(), b"1".to_vec())].into()
}

fn opens(part: &str, dir: &Path) -> Player {
    let mut player = start(part, dir);
    assert_eq!(player.hears().as_deref(), Some("open"));
    player
}

#[test]
fn two_openers_in_one_process() {
    let dir = scratch();
    small(dir.path());
    let mine = format!("process {}", std::process::id());
    let db = quiet().open(dir.path()).unwrap();
    for options in [quiet(), quiet().read_only(true), quiet().create(Create::Never)] {
        message(options.clone().open(dir.path()), &["LOCK", "locked", &mine, "close the database there first"]);
        assert!(matches!(options.open(dir.path()), Err(Error::Locked { pid: Some(pid), .. }) if pid == std::process::id()));
    }
    // A handle of any kind keeps it open.
    let keyspace = db.keyspace("k").unwrap();
    drop(db);
    message(quiet().open(dir.path()), &["locked"]);
    let mut scan = keyspace.iter();
    drop(keyspace);
    message(quiet().open(dir.path()), &["locked"]);
    assert_eq!(scan.next().unwrap().unwrap().0, b"a");
    drop(scan);
    quiet().open(dir.path()).unwrap();
}

/// By whatever name the directory goes, it is one database.
#[test]
fn the_same_directory_by_another_name() {
    let dir = scratch();
    let path = dir.path().join("db");
    small(&path);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let _db = quiet().open(&path).unwrap();
    for name in [link, path.join("../db"), dir.path().join("./db/.")] {
        message(quiet().open(name), &["locked by process"]);
    }
}

#[test]
fn two_openers_in_two_processes() {
    let dir = scratch();
    let expected = small(dir.path());
    let writer = opens("writer", dir.path());
    let theirs = format!("process {}", writer.child.id());
    message(quiet().open(dir.path()), &["LOCK", &theirs, "close the database there first"]);
    message(quiet().read_only(true).open(dir.path()), &["LOCK", &theirs]);
    let mut third = start("writer", dir.path());
    assert!(third.hears().unwrap().contains(&theirs));
    third.ends();
    writer.ends();
    let db = quiet().open(dir.path()).unwrap();
    assert_holds(&db.keyspace("k").unwrap(), &expected);
    let mut late = start("reader", dir.path());
    assert!(late.hears().unwrap().contains(&format!("process {}", std::process::id())));
    late.ends();
}

#[test]
fn readers_beside_readers_and_no_writer() {
    let dir = scratch();
    let expected = small(dir.path());
    let there = opens("reader", dir.path());
    let readers: Vec<Database> = (0..3).map(|_| quiet().read_only(true).open(dir.path()).unwrap()).collect();
    let text = message(quiet().open(dir.path()), &["LOCK", "locked", "close the database there first"]);
    assert!(!text.contains("None"), "{text}");
    for reader in &readers {
        assert_holds(&reader.keyspace("k").unwrap(), &expected);
    }
    drop(readers);
    message(quiet().open(dir.path()), &["locked"]);
    there.ends();
    quiet().open(dir.path()).unwrap();
}

#[test]
fn a_killed_holder_frees_the_lock() {
    let dir = scratch();
    small(dir.path());
    for round in 0..3 {
        let mut writer = start("busy writer", dir.path());
        let mut confirmed = 0;
        while confirmed < 50 * (round + 1) {
            confirmed = writer.hears().unwrap().parse().unwrap();
        }
        message(quiet().open(dir.path()), &[&format!("process {}", writer.child.id())]);
        writer.kill();
        while let Some(line) = writer.hears() {
            confirmed = line.parse().unwrap();
        }
        let db = quiet().open(dir.path()).unwrap();
        let keyspace = db.keyspace("busy").unwrap();
        let found = keyspace.len().unwrap();
        assert!(found > confirmed, "{confirmed} confirmed, {found} there");
        for i in 0..=confirmed {
            assert_eq!(keyspace.get(format!("{i:08}")).unwrap().unwrap(), value_of(i, 100));
        }
        assert_clean(&db);
        keyspace.clear().unwrap();
    }
}

/// What a handle gives in a child made by `fork`.
fn is_refused<T>(what: &str, outcome: Result<T, Error>) -> Result<(), String> {
    match outcome {
        Err(Error::ForkedChild) => Ok(()),
        Err(e) => Err(format!("{what}: {e}")),
        Ok(_) => Err(format!("{what}: no error")),
    }
}

#[test]
fn a_forked_child_is_refused_everything() {
    let dir = scratch();
    let path = dir.path().join("db");
    let mut expected = small(&path);
    let db = quiet().background(Background::Threads).open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut scan = keyspace.iter();
    let mut batch = db.batch();
    batch.insert(&keyspace, "b", "2").unwrap();
    // The closure, and with it its handles, is dropped here as soon as the child is there: this one keeps the database open.
    let parents = db.clone();
    let child = fork(|| {
        is_refused("get", keyspace.get("a"))?;
        is_refused("get_into", keyspace.get_into("a", &mut Vec::new()))?;
        is_refused("contains_key", keyspace.contains_key("a"))?;
        is_refused("get_many", keyspace.get_many(["a"]))?;
        is_refused("insert", keyspace.insert("a", "2"))?;
        is_refused("insert Eventual", keyspace.insert_with("a", "2", Durability::Eventual))?;
        is_refused("insert blob", keyspace.insert("a", vec![1; 100_000]))?;
        is_refused("remove", keyspace.remove("a"))?;
        is_refused("remove_range", keyspace.remove_range("a".."b"))?;
        is_refused("clear", keyspace.clear())?;
        is_refused("len", keyspace.len())?;
        is_refused("is_empty", keyspace.is_empty())?;
        is_refused("first", keyspace.first())?;
        is_refused("last", keyspace.last())?;
        is_refused("a scan from before", scan.next().transpose())?;
        is_refused("a scan backwards", keyspace.iter().next_back().transpose())?;
        is_refused("a batch from before", batch.commit())?;
        is_refused("an empty batch", db.batch().commit())?;
        is_refused("keyspace", db.keyspace("k"))?;
        is_refused("a new keyspace", db.keyspace("new"))?;
        is_refused("existing_keyspace", db.existing_keyspace("k"))?;
        is_refused("keyspaces", db.keyspaces())?;
        is_refused("drop_keyspace", db.drop_keyspace("k"))?;
        is_refused("drop_keyspace of none", db.drop_keyspace("none"))?;
        is_refused("flush", db.flush())?;
        is_refused("checkpoint", db.checkpoint())?;
        is_refused("maintain", db.maintain())?;
        is_refused("verify", db.verify())?;
        is_refused("verify_quick", db.verify_quick())?;
        is_refused("verify_with", db.verify_with(|_| {}))?;
        is_refused("page_cache_residue", db.page_cache_residue())?;
        is_refused("close", db.clone().close())?;
        // The parent still has it.
        match quiet().open(&path) {
            Err(Error::Locked { .. }) => {}
            other => return Err(format!("opened beside the parent: {:?}", other.err())),
        }
        // Whatever is dropped here, it is not the parent's.
        drop((scan, keyspace, db));
        Ok(())
    });
    child.join().unwrap();
    drop(parents);
    let db = quiet().open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("c", "3").unwrap();
    expected.insert(b"c".to_vec(), b"3".to_vec());
    assert_holds(&keyspace, &expected);
    assert_clean(&db);
}

/// A child's drop of the last handle it knows neither flushes nor unlocks: the parent goes on.
#[test]
fn dropping_in_a_child_harms_nothing() {
    for background in [Background::Threads, Background::Manual] {
        let dir = scratch();
        let path = dir.path().join("db");
        let mut expected = small(&path);
        let db = quiet().background(background).open(&path).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for i in 0..20 {
            let (key, value) = (format!("{i}").into_bytes(), value_of(i, 2000));
            keyspace.insert_with(&key, &value, Durability::Eventual).unwrap();
            expected.insert(key, value);
            // SAFETY: copies of all handles there are; only the child drops them, and it ends without touching the originals.
            let handles = unsafe { std::mem::ManuallyDrop::new((std::ptr::read(&db), std::ptr::read(&keyspace))) };
            let child = fork(|| {
                drop(std::mem::ManuallyDrop::into_inner(handles));
                Ok(())
            });
            child.join().unwrap();
            message(quiet().open(&path), &["locked by process"]);
        }
        db.flush().unwrap();
        assert_holds(&keyspace, &expected);
        assert_clean(&db);
        drop((db, keyspace));
        let db = quiet().open(&path).unwrap();
        assert_holds(&db.keyspace("k").unwrap(), &expected);
    }
}

/// A child keeps no lock: when the parent has closed, it can open the database itself.
#[test]
fn a_child_opens_the_database_after_its_parent_closed_it() {
    let dir = scratch();
    let path = dir.path().join("db");
    let expected = small(&path);
    let db = quiet().open(&path).unwrap();
    let closed = dir.path().join("closed");
    let child = fork(|| {
        let until = Instant::now() + Duration::from_secs(20);
        while !closed.exists() {
            if Instant::now() > until {
                return Err("the parent never closed".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let own = quiet().open(&path).map_err(|e| e.to_string())?;
        let keyspace = own.keyspace("k").map_err(|e| e.to_string())?;
        keyspace.insert("by the child", "yes").map_err(|e| e.to_string())?;
        // The inherited handle is still none of its own.
        is_refused("the parent's handle", db.keyspaces())?;
        drop(keyspace);
        own.close().map_err(|e| e.to_string())
    });
    db.close().unwrap();
    std::fs::write(&closed, "").unwrap();
    child.join().unwrap();
    let db = quiet().open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    assert_eq!(keyspace.get("by the child").unwrap().unwrap(), b"yes");
    assert_eq!(keyspace.len().unwrap(), expected.len() as u64 + 1);
}

/// Forking again and again while pages are written, evicted, read and checkpointed: no transfer goes to a page that a child
/// shares, so every byte is right.
#[test]
fn a_fork_storm_during_heavy_traffic() {
    let dir = scratch();
    let path = dir.path().join("db");
    let options = || Options::new().cache_size(2 << 20).segment_size(1 << 20).log_limit(8 << 20).grow_step(1 << 20);
    let db = options().open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let (stop, written, forks) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    const KEYS: u64 = 4000;
    let value =
        |round: u64, key: u64| value_of(round * KEYS + key, [90, 900, 4000, 20_000, 90_000][(key % 97 / 24) as usize % 5]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0.. {
                let (round, key) = (n / KEYS, n % KEYS * 2_654_435_761 % KEYS);
                let durability = if n % 50 == 0 { Durability::Immediate } else { Durability::Eventual };
                keyspace.insert_with(key.to_be_bytes(), value(round, key), durability).unwrap();
                written.store(n + 1, Ordering::Release);
                if stop.load(Ordering::Acquire) {
                    return n;
                }
            }
            unreachable!()
        });
        for reader in 0..2 {
            let (keyspace, stop, written) = (&keyspace, &stop, &written);
            scope.spawn(move || {
                let mut n: u64 = reader;
                while !stop.load(Ordering::Acquire) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let key = (n >> 33) % KEYS;
                    let before = written.load(Ordering::Acquire) / KEYS;
                    let Some(found) = keyspace.get(key.to_be_bytes()).unwrap() else { continue };
                    let after = written.load(Ordering::Acquire) / KEYS + 1;
                    let right = (before.saturating_sub(1)..=after).any(|round| *found == value(round, key)[..]);
                    assert!(right, "a wrong byte in key {key}");
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(seconds());
        while Instant::now() < until {
            // The child touches memory and ends, or is killed in the middle of nothing.
            let child = fork(|| is_refused("get", keyspace.get([0; 8])));
            child.join().unwrap();
            forks.fetch_add(1, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Release);
        let last = writer.join().unwrap();
        let (round, upto) = (last / KEYS, last % KEYS);
        let mut expected = Expected::new();
        for n in 0..=last {
            if n + KEYS > last {
                let key = n % KEYS * 2_654_435_761 % KEYS;
                expected.insert(key.to_be_bytes().to_vec(), value(n / KEYS, key));
            }
        }
        assert_holds(&keyspace, &expected);
        assert_clean(&db);
        eprintln!("{} forks, {round} rounds and {upto} writes, {:?}", forks.load(Ordering::Relaxed), db.stats().pool);
        assert!(forks.load(Ordering::Relaxed) > 20);
    });
    let expected_len = keyspace.len().unwrap();
    drop(keyspace);
    drop(db);
    let db = options().open(&path).unwrap();
    assert_eq!(db.keyspace("k").unwrap().len().unwrap(), expected_len);
    let entries: Result<Vec<_>, Error> = db.keyspace("k").unwrap().iter().collect();
    assert_eq!(entries.unwrap().len() as u64, expected_len);
    assert_clean(&db);
}

/// How long the storm lasts: `ASHLAR_FORK_SECONDS`, else 4 s.
fn seconds() -> u64 {
    std::env::var("ASHLAR_FORK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4)
}
