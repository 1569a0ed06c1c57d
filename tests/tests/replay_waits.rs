//! An open after a crash has the writes of the log wait: it reads no leaf for them, and everything is there, whatever comes next: more
//! commits, another crash before or in the middle of merging, a checkpoint.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Durability, Options};
use common::{Expected, assert_clean, assert_holds, quiet, value_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KEYS: u32 = 6000;
const NAME: &str = "k";

fn options(sim: &Sim) -> Options {
    quiet().file_system(sim.fs()).background(Background::Manual).page_size(4096).cache_size(8 << 20).log_limit(16 << 20)
}

fn key(i: u32) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

/// Commits random puts and removals of keys.
fn write(db: &Database, model: &mut Expected, rng: &mut ChaCha8Rng, commits: u32) {
    let keyspace = db.keyspace(NAME).unwrap();
    for _ in 0..commits {
        let mut batch = db.batch();
        for _ in 0..rng.random_range(1..4) {
            let key = key(rng.random_range(0..KEYS));
            if rng.random_bool(0.2) {
                batch.remove(&keyspace, &key).unwrap();
                model.remove(&key);
            } else {
                let value = value_of(rng.random(), rng.random_range(0..100));
                batch.insert(&keyspace, &key, &value).unwrap();
                model.insert(key, value);
            }
        }
        batch.commit_with(Durability::Eventual).unwrap();
    }
    db.flush().unwrap();
}

/// A database whose trees stand in the file, with so many commits in the log behind the checkpoint; the machine has stopped.
fn stopped(seed: u64, commits: u32) -> (Sim, Expected, ChaCha8Rng) {
    let sim = Sim::new(SimOptions::new(seed));
    let db = options(&sim).open("/db").unwrap();
    let keyspace = db.keyspace(NAME).unwrap();
    let mut model = Expected::new();
    let mut batch = db.batch();
    for i in 0..KEYS {
        let value = value_of(i.into(), 80);
        batch.insert(&keyspace, key(i), &value).unwrap();
        model.insert(key(i), value);
    }
    batch.commit().unwrap();
    db.checkpoint().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    write(&db, &mut model, &mut rng, commits);
    drop(keyspace);
    (stop(sim, db, seed), model, rng)
}

fn stop(sim: Sim, db: Database, seed: u64) -> Sim {
    sim.crash();
    drop(db);
    sim.restart(Restart::PowerCut, SimOptions::new(seed))
}

#[test]
fn no_leaf_is_read_and_everything_is_found() {
    let (sim, model, _) = stopped(1, 400);
    let db = options(&sim).open("/db").unwrap();
    let stats = db.stats();
    assert!(stats.replayed == 400 && stats.postponed > 300 && stats.pages_read < 10, "{stats:?}");
    let keyspace = db.keyspace(NAME).unwrap();
    let before = db.snapshot().unwrap();
    for i in (0..KEYS).step_by(7) {
        assert_eq!(keyspace.get(key(i)).unwrap().as_deref(), model.get(&key(i)).map(Vec::as_slice));
    }
    let scanned: Vec<_> =
        keyspace.iter().map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect();
    assert!(scanned.into_iter().eq(model.clone()), "a scan, while all of it waits");
    assert!(db.stats().postponed > 300, "reads merge nothing");
    assert_eq!(keyspace.len().unwrap(), model.len() as u64);
    assert_eq!(db.stats().postponed, 0, "a number of entries needs them merged");
    assert_holds(&keyspace, &model);
    assert_eq!(before.get(&keyspace, key(7)).unwrap().as_deref(), model.get(&key(7)).map(Vec::as_slice));
    drop(before);
    assert_clean(&db);
}

/// Each time with commits of its own, and something of what waits merged, all of it, or nothing; now and then a checkpoint.
#[test]
fn one_crash_after_the_other_loses_nothing() {
    for seed in 0..20 {
        let (mut sim, mut model, mut rng) = stopped(seed, 150);
        for round in 0..6 {
            let db = options(&sim).open("/db").unwrap();
            assert_holds(&db.keyspace(NAME).unwrap(), &model);
            for _ in 0..rng.random_range(0..4) {
                match rng.random_range(0..6) {
                    0 => db.checkpoint().unwrap(),
                    1 | 2 => _ = db.maintain().unwrap(),
                    3 => assert_eq!(db.keyspace(NAME).unwrap().len().unwrap(), model.len() as u64),
                    _ => write(&db, &mut model, &mut rng, 20),
                }
            }
            assert!(db.stats().read_only.is_none(), "seed {seed}, round {round}");
            sim = stop(sim, db, seed * 10 + round);
        }
        let db = options(&sim).open("/db").unwrap();
        assert_holds(&db.keyspace(NAME).unwrap(), &model);
        assert_clean(&db);
    }
}

/// Where they may not wait, or something has to be in its place among them, they are applied before the open ends.
#[test]
fn what_may_not_wait_is_applied_at_once() {
    type How = fn(Options) -> Options;
    let ways: [(&str, How); 4] = [
        ("no limit for them", |options| options.postponed_limit(0)),
        ("read only", |options| options.read_only(true)),
        ("several windows", |options| options.recovery_window(4 << 10)),
        ("a small cache", |options| options.cache_size(32 << 12)),
    ];
    for (why, how) in ways {
        let (sim, model, _) = stopped(3, 400);
        let db = how(options(&sim)).open("/db").unwrap();
        assert_eq!((db.stats().replayed, db.stats().postponed), (400, 0), "{why}");
        assert_holds(&db.keyspace(NAME).unwrap(), &model);
    }
    for what in ["a range", "a large value", "a keyspace"] {
        let (sim, mut model, mut rng) = stopped(4, 100);
        let db = options(&sim).open("/db").unwrap();
        let keyspace = db.keyspace(NAME).unwrap();
        db.checkpoint().unwrap();
        match what {
            "a range" => {
                keyspace.remove_range(key(100)..key(2000)).unwrap();
                model.retain(|k, _| *k < key(100) || *k >= key(2000));
            }
            "a large value" => {
                keyspace.insert(key(9), vec![9; 200_000]).unwrap();
                model.insert(key(9), vec![9; 200_000]);
            }
            _ => drop(db.keyspace("another").unwrap()),
        }
        drop(keyspace);
        write(&db, &mut model, &mut rng, 50);
        let sim = stop(sim, db, 5);
        let db = options(&sim).open("/db").unwrap();
        assert_eq!((db.stats().replayed, db.stats().postponed), (51, 0), "{what}");
        assert_holds(&db.keyspace(NAME).unwrap(), &model);
        assert_clean(&db);
    }
}
