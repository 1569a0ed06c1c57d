//! Large values that were read come from memory when they are read again: the right ones, no more than there is room for, and not at the
//! cost of those that are read often.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use ashlar_disk::sim::{FaultKind, FaultRates, Sim, SimOptions};
use ashlardb::{Background, Database, Durability, Error, Keyspace, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const FRAMES: u64 = 256;
const LEN: usize = 16 << 10;

fn options(sim: &Sim) -> Options {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).page_size(4096).segment_size(256 << 10);
    options.grow_step(256 << 10).cache_size(FRAMES << 12).blob_threshold(4096)
}

fn open(options: impl FnOnce(Options) -> Options) -> (Sim, Database, Keyspace) {
    let sim = Sim::new(SimOptions::new(1));
    let db = options(self::options(&sim)).open("/db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    (sim, db, keyspace)
}

fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random()).collect()
}

/// Reads of large values that found them in memory, and that did not.
fn counts(db: &Database) -> (u64, u64) {
    let stats = db.stats();
    (stats.blob_cache_hits, stats.blob_cache_misses)
}

#[test]
fn what_was_read_is_read_again_without_the_device_and_without_a_copy() {
    let (sim, db, keyspace) = open(|options| options);
    keyspace.insert(b"a", value(1, LEN)).unwrap();
    let first = keyspace.get(b"a").unwrap().unwrap();
    assert_eq!((first.to_vec(), counts(&db)), (value(1, LEN), (0, 1)));
    sim.set_faults(FaultRates::none().with(FaultKind::ReadError, FaultRates::OF));
    let again = keyspace.get(b"a").unwrap().unwrap();
    assert_eq!(again.as_ptr(), first.as_ptr());
    assert_eq!(again.clone().as_ptr(), first.as_ptr());
    let mut into = Vec::new();
    assert!(keyspace.get_into(b"a", &mut into).unwrap());
    let many = keyspace.get_many([b"a", b"b"]).unwrap();
    let scanned: Vec<_> = keyspace.iter().map(Result::unwrap).collect();
    let mut streamed = Vec::new();
    keyspace.blob_reader(b"a").unwrap().unwrap().read_to_end(&mut streamed).unwrap();
    for found in [&into[..], many[0].as_ref().unwrap(), &scanned[0].1, &streamed] {
        assert_eq!(found, value(1, LEN));
    }
    assert_eq!(counts(&db), (5, 1));
    assert!(db.stats().blob_cache_bytes >= LEN as u64);
}

#[test]
fn another_value_of_the_key_is_another_one() {
    let (_sim, db, keyspace) = open(|options| options);
    keyspace.insert(b"a", value(1, LEN)).unwrap();
    assert_eq!(keyspace.get(b"a").unwrap().unwrap(), value(1, LEN));
    let old = db.snapshot().unwrap();
    keyspace.insert(b"a", value(2, LEN)).unwrap();
    for _ in 0..2 {
        assert_eq!(keyspace.get(b"a").unwrap().unwrap(), value(2, LEN));
        assert_eq!(old.get(&keyspace, b"a").unwrap().unwrap(), value(1, LEN));
    }
    assert_eq!(counts(&db), (3, 2));
    keyspace.remove(b"a").unwrap();
    assert_eq!(keyspace.get(b"a").unwrap(), None);
    assert_eq!(old.get(&keyspace, b"a").unwrap().unwrap(), value(1, LEN));
    drop(old);
    // Both are freed, and nothing of them is kept.
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    while db.maintain().unwrap() {}
    assert_eq!(db.stats().blob_cache_bytes, 0);
}

/// Whatever is read, written and removed, ids and blocks used again: each read has what its key holds.
#[test]
fn values_that_come_and_go_are_never_mixed_up() {
    for seed in 0..12 {
        let (_sim, db, keyspace) = open(|options| options.blob_cache_size(100 << 10));
        let (mut rng, mut model) = (ChaCha8Rng::seed_from_u64(seed), BTreeMap::new());
        let mut old = None;
        for n in 0..600u64 {
            let key = vec![rng.random_range(0..12u8)];
            match rng.random_range(0..10) {
                0..3 => {
                    // Few lengths, so that ids and blocks are soon those of another value of the same length.
                    let value = value(n, [5000, LEN, LEN, 30 << 10][rng.random_range(0..4)]);
                    keyspace.insert(&key, &value).unwrap();
                    model.insert(key, value);
                }
                3 => {
                    keyspace.remove(&key).unwrap();
                    model.remove(&key);
                }
                4 if n % 4 == 0 => db.checkpoint().unwrap(),
                4 if n % 4 == 1 => drop(db.compact().unwrap()),
                4 if n % 4 == 2 => old = Some((db.snapshot().unwrap(), model.clone())),
                4 => drop(db.maintain().unwrap()),
                5 => {
                    if let Some((snapshot, model)) = &old {
                        assert_eq!(snapshot.get(&keyspace, &key).unwrap().as_deref(), model.get(&key).map(Vec::as_slice));
                    }
                }
                _ => assert_eq!(keyspace.get(&key).unwrap().as_deref(), model.get(&key).map(Vec::as_slice), "seed {seed}, {n}"),
            }
            assert!(db.stats().blob_cache_bytes <= 100 << 10);
        }
        assert!(counts(&db).0 > 50);
    }
}

#[test]
fn reading_everything_once_drives_nothing_out() {
    let (_sim, db, keyspace) = open(|options| options.blob_cache_size(8 * LEN as u64));
    for i in 0..100u8 {
        keyspace.insert([i], value(u64::from(i), LEN)).unwrap();
    }
    for i in 0..8u8 {
        keyspace.get([i]).unwrap();
    }
    assert_eq!(keyspace.iter().map(Result::unwrap).filter(|(_, v)| v.len() == LEN).count(), 100);
    let before = counts(&db);
    for i in 0..8u8 {
        assert_eq!(keyspace.get([i]).unwrap().unwrap(), value(u64::from(i), LEN));
    }
    assert_eq!(counts(&db), (before.0 + 8, before.1));
    // Read again soon, others come in, in place of what was read longest ago.
    for i in [95, 96, 95, 96, 95, 96] {
        assert_eq!(keyspace.get([i]).unwrap().unwrap(), value(u64::from(i), LEN));
    }
    let before = counts(&db);
    for i in [2, 3, 4, 5, 6, 7, 95, 96] {
        keyspace.get([i]).unwrap();
    }
    assert_eq!(counts(&db), (before.0 + 8, before.1));
    assert_eq!(db.stats().blob_cache_bytes, 8 * LEN as u64);
    keyspace.get([0]).unwrap();
    assert_eq!(counts(&db).1, before.1 + 1);
}

#[test]
fn pages_take_the_room_and_a_part_of_it_stays() {
    let (_sim, db, keyspace) = open(|options| options);
    let whole = FRAMES << 12;
    for i in 0..200u32 {
        keyspace.insert(i.to_be_bytes(), value(u64::from(i), LEN / 2)).unwrap();
        keyspace.get(i.to_be_bytes()).unwrap();
    }
    let before = db.stats();
    let idle = (before.pool.frames - before.pool.frames_used) as u64 * 4096;
    assert!((whole / 2..=idle).contains(&before.blob_cache_bytes), "{} bytes of {idle}", before.blob_cache_bytes);
    db.keyspace("pages").unwrap().bulk_load((0..20_000u32).map(|i| Ok::<_, Error>((i.to_be_bytes(), [0; 100])))).unwrap();
    assert_eq!(db.keyspace("pages").unwrap().iter().map(Result::unwrap).count(), 20_000);
    while db.maintain().unwrap() {}
    let after = db.stats();
    assert_eq!(after.pool.frames, after.pool.frames_used);
    assert!((1..=whole / 16).contains(&after.blob_cache_bytes), "{} bytes", after.blob_cache_bytes);
}

#[test]
fn without_room_each_is_read_from_the_device() {
    let (_sim, db, keyspace) = open(|options| options.blob_cache_size(0));
    keyspace.insert(b"a", value(1, LEN)).unwrap();
    for _ in 0..3 {
        assert_eq!(keyspace.get(b"a").unwrap().unwrap(), value(1, LEN));
    }
    assert_eq!((counts(&db), db.stats().blob_cache_bytes), ((0, 3), 0));
    drop((keyspace, db));
    // And one that is larger than its share.
    let (_sim, db, keyspace) = open(|options| options.blob_cache_size(4 * LEN as u64 - 1));
    keyspace.insert(b"a", value(1, LEN)).unwrap();
    keyspace.get(b"a").unwrap();
    assert_eq!(db.stats().blob_cache_bytes, 0);
}

/// Threads: ids and blocks go from one value to the next while others read, some of whose snapshots are taken away meanwhile.
#[test]
fn readers_beside_writers_find_what_was_written() {
    const KEYS: u8 = 6;
    let dir = tempfile::tempdir_in(ashlar_tests::test_dir()).unwrap();
    let options = Options::new().page_size(4096).cache_size(1 << 20).blob_threshold(4096).blob_cache_size(120 << 10);
    let options = options.durability(Durability::Eventual).versions_limit(4000).tend_every(1, 1);
    let db = options.open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let seed = |key: u8, count: u64| u64::from(key) << 32 | count;
    let check = |key: u8, found: &[u8]| {
        let count = u64::from_le_bytes(found[..8].try_into().unwrap());
        assert_eq!(found[8..], value(seed(key, count), found.len() - 8), "key {key}, value {count}");
        count
    };
    let put = |key: u8, count: u64| {
        let bytes = value(seed(key, count), [5000, 9000, 9000, 20_000][count as usize % 4]);
        keyspace.insert([key], [&count.to_le_bytes()[..], &bytes].concat()).unwrap();
    };
    (0..KEYS).for_each(|key| put(key, 0));
    let told: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let (stop, gone) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Until what is to be met has been met.
            let is_enough = || counts(&db).0 > 300 && gone.load(Ordering::Relaxed) > 0;
            for count in (1..20_000).take_while(|&count| count < 1000 || !is_enough()) {
                let key = (count % u64::from(KEYS)) as u8;
                put(key, count);
                told[usize::from(key)].store(count, Ordering::Release);
                if count % 10 == 0 {
                    db.checkpoint().unwrap();
                }
            }
            stop.store(true, Ordering::Release);
        });
        for reader in 0..2 {
            let (db, keyspace, told, stop, gone) = (&db, &keyspace, &told, &stop, &gone);
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(reader);
                while !stop.load(Ordering::Acquire) {
                    let key = rng.random_range(0..KEYS);
                    let least = told[usize::from(key)].load(Ordering::Acquire);
                    assert!(check(key, &keyspace.get([key]).unwrap().unwrap()) >= least);
                    let snapshot = db.snapshot().unwrap();
                    for key in 0..KEYS {
                        match snapshot.get(keyspace, [key]) {
                            Ok(found) => drop(check(key, &found.unwrap())),
                            Err(Error::SnapshotTooOld { .. }) => drop(gone.fetch_add(1, Ordering::Relaxed)),
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            });
        }
    });
    assert!(db.verify().unwrap().is_clean());
}
