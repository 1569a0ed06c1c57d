//! A log with many commits beyond the last checkpoint, replayed in one window and in many: so many keys that a window is handed to the trees
//! in lots, or leaf by leaf where the leaves stand in the file, and all of them are there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Options};
use common::{Expected, assert_clean, assert_holds, quiet, value_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KEYSPACES: [&str; 2] = ["one", "two"];
const KEYS: u32 = 12_000;
const COMMITS: u64 = 400;

fn options(sim: &Sim) -> Options {
    quiet().file_system(sim.fs()).log_limit(64 << 20)
}

/// A key of another length than its neighbours.
fn key(i: u32) -> Vec<u8> {
    let mut key = i.to_be_bytes().to_vec();
    key.resize(4 + i as usize % 13, b'k');
    key
}

/// Puts and removals in random order, most keys once, with a removal of a range between two halves; then the machine stops. Where the
/// trees are `full` at the checkpoint before, what is replayed changes leaves that stand in the file, splits and joins them.
fn written(seed: u64, full: bool) -> (Sim, [Expected; 2], u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let sim = Sim::new(SimOptions::new(seed));
    let db = options(&sim).open("/db").unwrap();
    let keyspaces = KEYSPACES.map(|name| db.keyspace(name).unwrap());
    let mut models = [Expected::new(), Expected::new()];
    // The upper half of the keys at one checkpoint, the lower half at the next: leaves do not stand in the order of their keys.
    for half in [KEYS / 2..KEYS, 0..KEYS / 2].into_iter().filter(|_| full) {
        let mut batch = db.batch();
        for i in half.filter(|i| i % 3 > 0) {
            for (keyspace, model) in keyspaces.iter().zip(&mut models) {
                let value = value_of(i.into(), i as usize % 120);
                model.insert(key(i), value.clone());
                batch.insert(keyspace, key(i), value).unwrap();
            }
        }
        batch.commit().unwrap();
        db.checkpoint().unwrap();
    }
    db.checkpoint().unwrap();
    for number in 0..COMMITS {
        let mut batch = db.batch();
        for _ in 0..60 {
            let (which, key) = (rng.random_range(0..2), key(rng.random_range(0..KEYS)));
            if rng.random_bool(0.1) {
                models[which].remove(&key);
                batch.remove(&keyspaces[which], key).unwrap();
            } else {
                let value = value_of(rng.random(), rng.random_range(0..150));
                models[which].insert(key.clone(), value.clone());
                batch.insert(&keyspaces[which], key, value).unwrap();
            }
        }
        batch.commit().unwrap();
        if number == COMMITS / 2 {
            let (from, to) = (key(KEYS / 3), key(KEYS / 2));
            keyspaces[0].remove_range(from.clone()..to.clone()).unwrap();
            models[0].retain(|key, _| *key < from || *key >= to);
        }
    }
    db.flush().unwrap();
    sim.crash();
    drop((keyspaces, db));
    (sim.restart(Restart::PowerCut, SimOptions::new(seed)), models, COMMITS + 1)
}

fn check(db: &Database, models: &[Expected; 2], commits: u64) {
    assert_eq!(db.stats().replayed, commits);
    for (name, model) in KEYSPACES.iter().zip(models) {
        assert!(model.len() > 4096, "{} keys: too few for several lots", model.len());
        assert_holds(&db.keyspace(name).unwrap(), model);
    }
    assert_clean(db);
}

#[test]
fn whatever_the_windows_every_key_of_a_long_log_is_there() {
    for (seed, window) in [(1, None), (2, Some(1 << 20)), (3, Some(100 << 10))] {
        for background in [Background::Manual, Background::Threads] {
            for full in [false, true] {
                let (sim, models, commits) = written(seed, full);
                let with = |options: Options| window.into_iter().fold(options, Options::recovery_window);
                let db = with(options(&sim)).read_only(true).open("/db").unwrap();
                check(&db, &models, commits);
                drop(db);
                let db = with(options(&sim)).background(background).open("/db").unwrap();
                check(&db, &models, commits);
            }
        }
    }
}
