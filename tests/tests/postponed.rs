//! Blind `Eventual` writes to more data than fits in memory: they read no leaf before they are merged, every read finds them at once, and
//! checkpoints, reopens and failures find them like any other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_disk::sim::{FaultKind, FaultRates, Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Durability, Error, Keyspace, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ENTRIES: u32 = 20_000;
/// A tenth of the leaves.
const FRAMES: u64 = 64;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(sim: &Sim, limit: u64) -> Options {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).page_size(4096).segment_size(256 << 10);
    options
        .grow_step(256 << 10)
        .log_limit(4 << 20)
        .cache_size(FRAMES << 12)
        .durability(Durability::Eventual)
        .postponed_limit(limit)
        .stranded_limit(1 << 20)
}

fn key(i: u32) -> Vec<u8> {
    (i * 2).to_be_bytes().to_vec()
}

/// A database of entries with even keys, reopened: nothing but the catalog is in memory.
fn loaded(limit: u64) -> (Sim, Database, Keyspace, Model) {
    let sim = Sim::new(SimOptions::new(1));
    let model: Model = (0..ENTRIES).map(|i| (key(i), vec![i as u8; 100])).collect();
    let db = options(&sim, limit).open("/db").unwrap();
    db.keyspace("k").unwrap().bulk_load(model.iter().map(|(k, v)| Ok::<_, Error>((k, v)))).unwrap();
    db.close().unwrap();
    let db = options(&sim, limit).open("/db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    (sim, db, keyspace, model)
}

/// Everything, read in each way that there is.
fn check(keyspace: &Keyspace, model: &Model, rng: &mut ChaCha8Rng) {
    let snapshot = keyspace.database().snapshot().unwrap();
    let forward = keyspace.iter().map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
    assert!(forward.eq(model.iter().map(|(k, v)| (k.clone(), v.clone()))), "forwards");
    let backward = snapshot.iter(keyspace).rev().map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
    assert!(backward.eq(model.iter().rev().map(|(k, v)| (k.clone(), v.clone()))), "backwards");
    let some: Vec<Vec<u8>> = (0..200).map(|_| rng.random_range(0..ENTRIES * 2 + 9).to_be_bytes().to_vec()).collect();
    let many = keyspace.get_many(&some).unwrap();
    let transaction = keyspace.database().begin().unwrap();
    for (key, many) in some.iter().zip(many) {
        let expected = model.get(key).map(Vec::as_slice);
        assert_eq!(keyspace.get(key).unwrap().as_deref(), expected);
        assert_eq!(snapshot.get(keyspace, key).unwrap().as_deref(), expected);
        assert_eq!(transaction.get(keyspace, key).unwrap().as_deref(), expected);
        assert_eq!(many.as_deref(), expected);
        assert_eq!(keyspace.contains_key(key).unwrap(), expected.is_some());
    }
    transaction.rollback().unwrap();
}

#[test]
fn a_blind_write_reads_no_leaf_and_is_found_at_once() {
    let (sim, db, keyspace, mut model) = loaded(1 << 20);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // The pages above the leaves.
    for i in (0..ENTRIES).step_by(50) {
        keyspace.get(key(i)).unwrap();
    }
    let before = db.stats();
    let old = db.snapshot().unwrap();
    let old_model = model.clone();
    let mut written = Vec::new();
    for n in 0..500u32 {
        let key = rng.random_range(0..ENTRIES * 2).to_be_bytes().to_vec();
        match n % 5 {
            0 => {
                keyspace.remove(&key).unwrap();
                model.remove(&key);
            }
            _ => {
                let value = vec![n as u8; if n % 50 == 1 { 3000 } else { 120 }];
                keyspace.insert(&key, &value).unwrap();
                model.insert(key.clone(), value);
            }
        }
        written.push(key);
    }
    let after = db.stats();
    assert!(after.postponed >= 450, "{} of 500 writes wait", after.postponed);
    assert!(after.pages_read - before.pages_read < 50, "{} pages were read", after.pages_read - before.pages_read);
    for key in &written {
        assert_eq!(keyspace.get(key).unwrap().as_deref(), model.get(key).map(Vec::as_slice));
    }
    assert!(db.stats().pages_read - before.pages_read < 50, "what waits is found without a read");
    check(&keyspace, &model, &mut rng);
    assert_eq!(old.iter(&keyspace).map(Result::unwrap).map(|(k, v)| (k, v.to_vec())).collect::<Model>(), old_model);
    assert!(db.stats().postponed > 0);
    // A number of entries is known of what is in the trees.
    assert_eq!(old.len(&keyspace).unwrap(), old_model.len() as u64);
    assert_eq!(keyspace.len().unwrap(), model.len() as u64);
    assert_eq!(db.stats().postponed, 0);
    check(&keyspace, &model, &mut rng);
    assert_eq!(old.iter(&keyspace).map(Result::unwrap).map(|(k, v)| (k, v.to_vec())).collect::<Model>(), old_model);
    assert_eq!(old.len(&keyspace).unwrap(), old_model.len() as u64);
    // What waits when the power goes is in the log.
    let last = rng.random_range(0..ENTRIES).to_be_bytes().to_vec();
    keyspace.insert(&last, b"the last").unwrap();
    model.insert(last, b"the last".to_vec());
    db.flush().unwrap();
    assert!(db.stats().postponed > 0);
    sim.crash();
    drop((old, keyspace, db));
    let sim = sim.restart(Restart::PowerCut, SimOptions::new(2));
    let db = options(&sim, 1 << 20).open("/db").unwrap();
    check(&db.keyspace("k").unwrap(), &model, &mut rng);
    assert!(db.verify().unwrap().is_clean());
}

#[test]
fn without_a_limit_for_them_no_write_waits() {
    let (_sim, db, keyspace, _) = loaded(0);
    let before = db.stats().pages_read;
    for i in (0..ENTRIES).step_by(200) {
        keyspace.insert(key(i), b"new").unwrap();
        assert_eq!(db.stats().postponed, 0);
    }
    assert!(db.stats().pages_read - before >= 100);
}

/// Commits of every kind in between, merged in lots now and then, with snapshots that see what stood between two lots.
#[test]
fn whatever_comes_between_finds_what_waits() {
    for seed in 0..6 {
        let (sim, mut db, mut keyspace, mut model) = loaded(40 << 10);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut snapshots: Vec<(ashlardb::Snapshot, Model)> = Vec::new();
        let mut waited = 0;
        for step in 0..3000u32 {
            let key = rng.random_range(0..ENTRIES * 2).to_be_bytes().to_vec();
            let value = vec![step as u8; rng.random_range(0..300)];
            match rng.random_range(0..1000) {
                0..600 => {
                    keyspace.insert(&key, &value).unwrap();
                    model.insert(key, value);
                }
                600..700 => {
                    keyspace.remove(&key).unwrap();
                    model.remove(&key);
                }
                700..760 => {
                    keyspace.insert_with(&key, &value, Durability::Immediate).unwrap();
                    model.insert(key, value);
                }
                760..820 => {
                    let mut batch = db.batch();
                    for _ in 0..20 {
                        let key = rng.random_range(0..ENTRIES * 2).to_be_bytes().to_vec();
                        batch.insert(&keyspace, &key, &value).unwrap();
                        model.insert(key, value.clone());
                    }
                    batch.commit().unwrap();
                }
                820..870 => {
                    let expected = model.get(&key).cloned();
                    let swapped = keyspace.compare_and_swap(&key, expected.as_deref(), Some(&value)).unwrap();
                    assert_eq!(swapped, ashlardb::Swap::Done);
                    model.insert(key, value);
                }
                870..875 => {
                    let to = (u32::from_be_bytes(key[..].try_into().unwrap()) + 100).to_be_bytes().to_vec();
                    keyspace.remove_range(key.clone()..to.clone()).unwrap();
                    model.retain(|k, _| *k < key || *k >= to);
                }
                875..880 => {
                    let value = vec![7; 70_000];
                    keyspace.insert(&key, &value).unwrap();
                    model.insert(key, value);
                }
                880..900 => drop(db.maintain().unwrap()),
                900..905 => db.checkpoint().unwrap(),
                905..910 if snapshots.len() < 4 => snapshots.push((db.snapshot().unwrap(), model.clone())),
                910..913 => drop(snapshots.pop()),
                913..915 => {
                    snapshots.clear();
                    drop(keyspace);
                    drop(db);
                    db = options(&sim, 40 << 10).open("/db").unwrap();
                    keyspace = db.keyspace("k").unwrap();
                }
                915..918 => assert_eq!(keyspace.len().unwrap(), model.len() as u64),
                _ => {
                    assert_eq!(keyspace.get(&key).unwrap().as_deref(), model.get(&key).map(Vec::as_slice));
                    if let Some((snapshot, model)) = snapshots.last() {
                        assert_eq!(snapshot.get(&keyspace, &key).unwrap().as_deref(), model.get(&key).map(Vec::as_slice));
                    }
                }
            }
            waited = waited.max(db.stats().postponed);
        }
        assert!(waited > 100, "at most {waited} writes waited");
        check(&keyspace, &model, &mut rng);
        for (snapshot, model) in &snapshots {
            let seen = snapshot.iter(&keyspace).map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
            assert!(seen.eq(model.iter().map(|(k, v)| (k.clone(), v.clone()))), "seed {seed}");
            assert_eq!(snapshot.len(&keyspace).unwrap(), model.len() as u64);
        }
        snapshots.clear();
        assert_eq!(keyspace.len().unwrap(), model.len() as u64);
        db.checkpoint().unwrap();
        assert!(db.verify().unwrap().is_clean());
    }
}

/// Threads: whoever reads meets what it was told of, and what was written together, together.
#[test]
fn readers_beside_merges_see_every_commit_whole() {
    const KEYS: u32 = 3000;
    let dir = tempfile::tempdir_in(ashlar_tests::test_dir()).unwrap();
    let options = Options::new().page_size(4096).cache_size(FRAMES << 12).durability(Durability::Eventual);
    let db = options.postponed_limit(20 << 10).segment_size(1 << 20).log_limit(8 << 20).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    // Each number stands under three keys, far from each other.
    let keys = |n: u32| [n, n + KEYS, n + 2 * KEYS].map(u32::to_be_bytes);
    let value = |count: u64| [&count.to_be_bytes()[..], &[0; 300]].concat();
    let count_of = |value: &[u8]| u64::from_be_bytes(value[..8].try_into().unwrap());
    keyspace.bulk_load((0..3 * KEYS).map(|n| Ok::<_, Error>((n.to_be_bytes(), value(0))))).unwrap();
    let told: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let (stop, waited) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            for count in 1..12_000u64 {
                let n = rng.random_range(0..KEYS);
                let mut batch = db.batch();
                keys(n).iter().for_each(|key| batch.insert(&keyspace, key, value(count)).unwrap());
                batch.commit_with(if count % 50 == 0 { Durability::Immediate } else { Durability::Eventual }).unwrap();
                told[n as usize].store(count, Ordering::Release);
                waited.fetch_max(db.stats().postponed, Ordering::Relaxed);
            }
            stop.store(true, Ordering::Release);
        });
        for seed in 0..2 {
            let (db, keyspace, told, stop) = (&db, &keyspace, &told, &stop);
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                while !stop.load(Ordering::Acquire) {
                    let n = rng.random_range(0..KEYS);
                    let least = told[n as usize].load(Ordering::Acquire);
                    let [a, b, c] = keys(n);
                    assert!(count_of(&keyspace.get(a).unwrap().unwrap()) >= least);
                    let together = keyspace.get_many([a, b, c]).unwrap();
                    let counts: Vec<u64> = together.iter().map(|v| count_of(v.as_ref().unwrap())).collect();
                    assert!(counts[0] >= least && counts.iter().all(|c| *c == counts[0]), "{n}: {counts:?}");
                    let snapshot = db.snapshot().unwrap();
                    let scanned = [c, a, b].map(|key| snapshot.range(keyspace, &key[..]..).next().unwrap().unwrap());
                    let counts = scanned.map(|(_, value)| count_of(&value));
                    assert!(counts[0] >= least && counts.iter().all(|c| *c == counts[0]), "{n}: {counts:?}");
                    if n % 64 == 0 {
                        assert_eq!(keyspace.len().unwrap(), u64::from(3 * KEYS));
                    }
                }
            });
        }
    });
    assert!(waited.into_inner() > 10);
    db.checkpoint().unwrap();
    assert!(db.verify().unwrap().is_clean());
}

/// Where neither the page of a write can be read when it is merged, nor that of the catalog which keeps such writes, no more is written; what
/// was told can be read, and is in the log.
#[test]
fn where_nothing_can_be_read_writing_ends_and_nothing_else() {
    let (sim, db, keyspace, mut model) = loaded(1 << 20);
    for i in (0..ENTRIES).step_by(50) {
        keyspace.get(key(i)).unwrap();
    }
    for i in (0..ENTRIES).step_by(100) {
        keyspace.insert(key(i), b"new").unwrap();
        model.insert(key(i), b"new".to_vec());
    }
    db.flush().unwrap();
    sim.set_faults(FaultRates::none().with(FaultKind::ReadError, FaultRates::OF));
    let error = db.checkpoint().unwrap_err();
    sim.set_faults(FaultRates::none());
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert!(db.stats().read_only.unwrap().contains("merging"));
    assert!(matches!(keyspace.insert(b"more", b""), Err(Error::ReadOnly { .. })));
    for (key, value) in model.iter().step_by(37) {
        assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(&value[..]));
    }
    let found = keyspace.iter().map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
    assert!(found.eq(model.iter().map(|(k, v)| (k.clone(), v.clone()))));
    sim.crash();
    drop((keyspace, db));
    let sim = sim.restart(Restart::PowerCut, SimOptions::new(2));
    let db = options(&sim, 1 << 20).open("/db").unwrap();
    check(&db.keyspace("k").unwrap(), &model, &mut ChaCha8Rng::seed_from_u64(1));
}

/// A commit that is more than puts and removals of keys has its LSN by the time that the last of what waits is merged. Where that fails the
/// commit may be in the log: nobody is told that it is not.
#[test]
fn a_commit_before_which_nothing_can_be_merged_has_an_unknown_outcome() {
    let (sim, db, keyspace, mut model) = loaded(4 << 20);
    db.keyspace("other").unwrap();
    // More than is kept beside trees whose pages can't be read.
    for i in (0..ENTRIES).step_by(250) {
        let value = vec![i as u8; 20_000];
        keyspace.insert(key(i), &value).unwrap();
        model.insert(key(i), value);
    }
    assert!(db.stats().postponed > 0);
    sim.set_faults(FaultRates::none().with(FaultKind::ReadError, FaultRates::OF));
    let error = db.drop_keyspace("other").unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    sim.set_faults(FaultRates::none());
    assert!(db.stats().read_only.unwrap().contains("merging"));
    check(&keyspace, &model, &mut ChaCha8Rng::seed_from_u64(1));
}
