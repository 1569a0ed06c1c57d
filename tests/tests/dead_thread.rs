//! A thread that dies between taking its commit's LSN and applying it: the commit belongs to the database by then, and nobody waits for
//! the dead. And the thread that merges what waits: others do its work.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::fault::Fault;
use ashlardb::{Background, Database, Durability, Error, Options};
use common::{assert_clean, quiet, scratch};
use std::path::Path;

fn open(dir: &Path, background: Background) -> Database {
    quiet().background(background).fault(Fault::DiesBeforeApply).open(dir.join("db")).unwrap()
}

/// Commits in a thread that does not survive it.
fn die(db: &Database, key: &'static str, durability: Durability) {
    let db = db.clone();
    let commits = move || {
        let keyspace = db.keyspace("k").unwrap();
        let mut tx = db.begin().unwrap();
        assert_eq!(tx.get(&keyspace, key).unwrap(), None);
        tx.insert(&keyspace, key, "of the dead").unwrap();
        tx.commit_with(durability).unwrap();
    };
    assert!(std::thread::Builder::new().name("dies".into()).spawn(commits).unwrap().join().is_err());
}

#[test]
fn others_commit_read_and_make_checkpoints() {
    let dir = scratch();
    let db = open(dir.path(), Background::Manual);
    let keyspace = db.keyspace("k").unwrap();
    for (key, durability) in [("a", Durability::Immediate), ("b", Durability::Eventual)] {
        die(&db, key, durability);
        // Nobody has applied it yet, and nobody waits for it.
        assert_eq!(keyspace.get(key).unwrap(), None);
        assert_eq!(keyspace.iter().count() as u64, keyspace.len().unwrap());
        db.checkpoint().unwrap();
        // Whoever commits next applies it first; a transaction that read what it changed would conflict, this one did not.
        keyspace.insert(key.to_owned() + "2", "of the living").unwrap();
        assert_eq!(keyspace.get(key).unwrap().unwrap(), "of the dead");
    }
    assert_eq!(keyspace.len().unwrap(), 4);
    assert!(db.stats().read_only.is_none());
    assert_clean(&db);
}

#[test]
fn it_is_applied_in_the_background_and_there_after_a_reopen() {
    let dir = scratch();
    let db = open(dir.path(), Background::Manual);
    let keyspace = db.keyspace("k").unwrap();
    die(&db, "a", Durability::Eventual);
    while db.maintain().unwrap() {}
    assert_eq!(keyspace.get("a").unwrap().unwrap(), "of the dead");
    die(&db, "b", Durability::Eventual);
    drop((keyspace, db));
    let db = Options::new().open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for key in ["a", "b"] {
        assert_eq!(keyspace.get(key).unwrap().unwrap(), "of the dead");
    }
    assert_clean(&db);
}

/// Many die, many live, at once.
#[test]
fn the_living_get_on_among_many_dead() {
    let dir = scratch();
    let db = open(dir.path(), Background::Threads);
    let keyspace = db.keyspace("n").unwrap();
    db.keyspace("k").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..40 {
                    db.transact(|tx| {
                        let n = tx.get(&keyspace, "n")?.map_or(0, |v| v[0]) + 1;
                        tx.insert(&keyspace, "n", [n])
                    })
                    .unwrap();
                }
            });
        }
        for key in ["a", "b", "c", "d", "e", "f"] {
            let db = &db;
            scope.spawn(move || die(db, key, Durability::Immediate));
        }
    });
    assert_eq!(keyspace.get("n").unwrap().unwrap(), [120]);
    keyspace.insert("last", "").unwrap();
    assert_eq!(db.keyspace("k").unwrap().len().unwrap(), 6);
    assert_clean(&db);
}

#[test]
fn what_waits_is_merged_without_the_thread_for_it() {
    const ENTRIES: u32 = 20_000;
    let dir = scratch();
    let options = || {
        let options =
            Options::new().page_size(4096).cache_size(256 << 10).durability(Durability::Eventual).postponed_limit(20 << 10);
        options.segment_size(1 << 20).log_limit(8 << 20)
    };
    let db = options().open(dir.path().join("db")).unwrap();
    let entries = (0..ENTRIES).map(|i| Ok::<_, Error>((i.to_be_bytes(), [0; 100])));
    db.keyspace("k").unwrap().bulk_load(entries).unwrap();
    db.close().unwrap();
    let db = options().fault(Fault::MergerDies).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut waited = 0;
    for i in 0..1000u32 {
        keyspace.insert((i * 7919 % ENTRIES).to_be_bytes(), [1; 100]).unwrap();
        waited = waited.max(db.stats().postponed);
    }
    // More than may wait was written, so that writers have merged some of it.
    assert!(waited > 50 && db.stats().postponed < 300, "{waited} at most, {} at last", db.stats().postponed);
    assert_eq!(keyspace.len().unwrap(), u64::from(ENTRIES));
    assert_eq!(keyspace.iter().map(Result::unwrap).filter(|(_, value)| value[0] == 1).count(), 1000);
    assert!(db.stats().read_only.is_none());
    keyspace.insert(b"last", b"").unwrap();
    drop(keyspace);
    db.close().unwrap();
    let db = options().read_only(true).open(dir.path().join("db")).unwrap();
    assert_eq!(db.keyspace("k").unwrap().len().unwrap(), u64::from(ENTRIES) + 1);
    assert_clean(&db);
}
