//! Iterators of transactions and snapshots stay right whatever happens to the tree under them: splits, merges, checkpoints,
//! evictions from a cache of 16 frames, clears.

use super::common::{Expected, assert_clean, value_of};
use super::quiet;
use ashlar_disk::sim::{Sim, SimOptions};
use ashlardb::{Durability, Error, QueueKind, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

type Iter<'a> = Box<dyn DoubleEnded + 'a>;
type Item = Result<(Vec<u8>, Value), Error>;

/// A `DoubleEndedIterator` behind a pointer.
trait DoubleEnded {
    fn step(&mut self, back: bool) -> Option<Item>;
}

impl<T: DoubleEndedIterator<Item = Item>> DoubleEnded for T {
    fn step(&mut self, back: bool) -> Option<Item> {
        if back { self.next_back() } else { self.next() }
    }
}

const KEYS: u64 = 300;

fn key(n: u64) -> Vec<u8> {
    format!("{n:04}").into_bytes()
}

fn len(rng: &mut impl rand::Rng) -> usize {
    match rng.random_range(0..20) {
        0 => 9000,
        1 => 40_000,
        _ => rng.random_range(0..80),
    }
}

fn run(seed: u64) {
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let fs = Sim::new(SimOptions::new(seed)).fs();
    let options = quiet()
        .file_system(fs)
        .queue_kind(QueueKind::Threads)
        .page_size(4096)
        .cache_size(16 * 4096)
        .slots_max(6)
        .segment_size(64 << 10)
        .log_limit(256 << 10);
    let db = options.blob_threshold(16 << 10).grow_step(256 << 10).open("/iterators").unwrap();
    let k = db.keyspace("k").unwrap();
    let mut base = Expected::new();
    for n in (0..KEYS).filter(|n| n % 3 != 0) {
        let value = value_of(n, len(&mut rng));
        k.insert_with(key(n), &value, Durability::Eventual).unwrap();
        base.insert(key(n), value);
    }
    db.checkpoint().unwrap();
    let mut tx = db.begin().unwrap();
    let mut seen = base.clone();
    for _ in 0..40 {
        let n = rng.random_range(0..KEYS);
        if rng.random() {
            let value = value_of(n + 1000, len(&mut rng));
            tx.insert(&k, key(n), &value).unwrap();
            seen.insert(key(n), value);
        } else {
            tx.remove(&k, key(n)).unwrap();
            seen.remove(&key(n));
        }
    }
    tx.remove_range(&k, key(100)..key(120)).unwrap();
    seen.retain(|k, _| !(key(100)..key(120)).contains(k));
    let snapshot = db.snapshot().unwrap();
    let iters: [(Iter<'_>, &Expected); 4] = [
        (Box::new(tx.iter(&k)), &seen),
        (Box::new(snapshot.iter(&k)), &base),
        (Box::new(k.iter()), &base),
        (Box::new(tx.range(&k, key(50)..)), &seen),
    ];
    let mut iters: Vec<_> = iters.into_iter().map(|(iter, expected)| (Some(iter), expected.clone())).collect();
    iters[3].1.retain(|k, _| *k >= key(50));
    let mut now: BTreeMap<Vec<u8>, Vec<u8>> = base.clone();
    let mut round = 0u64;
    while iters.iter().any(|(iter, _)| iter.is_some()) {
        round += 1;
        for _ in 0..6 {
            change(&k, &mut now, &mut rng, round);
        }
        match rng.random_range(0..12) {
            0 => db.checkpoint().unwrap(),
            1..4 => drop(db.maintain().unwrap()),
            4 if rng.random_range(0..8) == 0 => {
                k.clear().unwrap();
                now.clear();
            }
            _ => {}
        }
        for (number, (iter, left)) in iters.iter_mut().enumerate() {
            let Some(some) = iter else { continue };
            for _ in 0..rng.random_range(0..6) {
                let back = rng.random();
                let expected = if back { left.pop_last() } else { left.pop_first() };
                let found = some.step(back).map(|item| item.unwrap()).map(|(key, value)| (key, value.to_vec()));
                assert!(found == expected, "iterator {number}, back {back}: {:?}", found.map(|f| String::from_utf8(f.0)));
                if expected.is_none() {
                    *iter = None;
                    break;
                }
            }
        }
    }
    drop(iters);
    super::assert_sees(&tx, &k, &Expected::from_iter(seen));
    drop((tx, snapshot));
    super::common::assert_holds(&k, &now);
    while db.maintain().unwrap() {}
    db.checkpoint().unwrap();
    assert_clean(&db);
}

/// What others do: mostly all over, now and then in one place, so that leaves fill and empty.
fn change(k: &ashlardb::Keyspace, now: &mut Expected, rng: &mut ChaCha8Rng, round: u64) {
    let n =
        if (round / 16).is_multiple_of(2) { rng.random_range(0..KEYS) } else { round / 16 * 37 % KEYS + rng.random_range(0..12) };
    match rng.random_range(0..20) {
        0 => {
            let range = key(n)..key(n + rng.random_range(1..30));
            k.remove_range(range.clone()).unwrap();
            now.retain(|k, _| !range.contains(k));
        }
        1..9 => {
            k.remove_with(key(n), Durability::Eventual).unwrap();
            now.remove(&key(n));
        }
        _ => {
            let mut inserted = key(n);
            inserted.extend((0..rng.random_range(0..3)).map(|_| rng.random_range(b'a'..=b'z')));
            let value = value_of(round * 100 + n, len(rng));
            k.insert_with(&inserted, &value, Durability::Eventual).unwrap();
            now.insert(inserted, value);
        }
    }
}

#[test]
fn they_stay_right_whatever_happens_to_the_tree() {
    let first = ashlar_tests::number("ASHLAR_SEED", 0);
    (first..first + ashlar_tests::number("ASHLAR_ITERATOR_RUNS", 10)).for_each(run);
}
