//! Readers beside a writer that keeps splitting and joining pages under them: on real threads, and under the deterministic
//! scheduler.
//!
//! Every value says which key it belongs to and at which LSN it was written. Keys of the *stable* kind are always there; a
//! reader that misses one, or sees one go back in time, has met the tree within a step.

use super::testing::{TestPool, checkpoint, page_count, small_pool, wait_for};
use super::{Change, Finding, LeafCopy, Seek, Tree, TreeId, TreeOp, Upcoming};
use ashlar_disk::sync::simulation::Options;
use ashlar_disk::sync::{simulate, spawn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

const KEYS: u64 = 600;

#[derive(Clone, Copy)]
struct Crowd {
    seed: u64,
    frames: u32,
    slots_max: u16,
    readers: u64,
    commits: u64,
    /// Looks of each reader; 0: until the writer has ended.
    looks: u64,
}

struct Shared {
    pool: TestPool,
    tree: Tree,
    ended: AtomicBool,
}

fn key(i: u64) -> Vec<u8> {
    format!("{:.*}{i:05}", (i % 5) as usize * 3, "the same start").into_bytes()
}

/// Every fourth key below the half; above, whole ranges come and go.
fn is_stable(i: u64) -> bool {
    i < KEYS / 2 && i.is_multiple_of(4)
}

fn value(i: u64, lsn: u64) -> Vec<u8> {
    let mut bytes = [i.to_le_bytes(), lsn.to_le_bytes()].concat();
    bytes.resize(16 + ((i * 7 + lsn * 13) % 90) as usize, (i ^ lsn) as u8);
    bytes
}

/// The LSN at which the value was written, if it is a whole value of key `i`.
fn lsn_of(i: u64, bytes: &[u8]) -> u64 {
    let lsn = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    assert_eq!(bytes, value(i, lsn), "this is no value of key {i}");
    lsn
}

fn change_of(value: &Option<Vec<u8>>) -> Change<'_> {
    value.as_ref().map_or(Change::Delete, |bytes| Change::Put { kind: 1, bytes })
}

impl Shared {
    fn write(&self, random: &mut ChaCha8Rng, lsn: u64) {
        let ignore = &mut |_: &[u8], _: Option<(u8, &[u8])>| {};
        if lsn.is_multiple_of(9) {
            // Between two keys with the same start there are only keys with that start, and none is stable in the upper half.
            let from = random.random_range(KEYS / 2..KEYS - 5);
            let (low, high) = (key(from), key(KEYS - 5 + from % 5));
            self.tree.remove_range(&self.pool, lsn, Bound::Included(&low), Bound::Included(&high), ignore).unwrap();
        }
        let mut batch = BTreeMap::new();
        let start = random.random_range(0..KEYS);
        for step in 0..random.random_range(1..40) {
            let i = if random.random() { (start + step) % KEYS } else { random.random_range(0..KEYS) };
            let delete = !is_stable(i) && random.random_range(0..5) < 2;
            batch.insert(key(i), (!delete).then(|| value(i, lsn)));
        }
        let ops: Vec<TreeOp<'_>> = batch.iter().map(|(key, value)| TreeOp { key, change: change_of(value) }).collect();
        self.tree.apply(&self.pool, lsn, &ops, ignore).unwrap();
        if lsn.is_multiple_of(20) {
            checkpoint(&self.pool);
        }
    }

    fn load_stable(&self) {
        for i in (0..KEYS).filter(|&i| is_stable(i)) {
            let (key, value) = (key(i), value(i, 1));
            let op = TreeOp { key: &key, change: Change::Put { kind: 1, bytes: &value } };
            self.tree.apply(&self.pool, 1, &[op], &mut |_: &[u8], _: Option<(u8, &[u8])>| {}).unwrap();
        }
    }

    fn look(&self, random: &mut ChaCha8Rng, newest: &mut BTreeMap<u64, u64>) {
        for _ in 0..20 {
            let i = random.random_range(0..KEYS);
            let wanted = key(i);
            let found = wait_for(&self.pool, || {
                self.tree.get(&self.pool, &wanted, |found| {
                    let lsn = found.value.map(|(_, bytes)| lsn_of(i, bytes));
                    assert!(lsn <= Some(found.lsn), "the leaf is older than its entry");
                    lsn
                })
            });
            assert!(found.is_some() || !is_stable(i), "key {i} is gone");
            if let Some(lsn) = found {
                let before = newest.insert(i, lsn);
                assert!(before <= Some(lsn), "key {i} has gone back from {before:?} to {lsn}");
            }
        }
        match random.random_range(0..4) {
            0 => self.scan(true),
            1 => self.scan(false),
            _ => {}
        }
    }

    /// Scans all; keys come in order, and the stable ones are all met.
    fn scan(&self, forward: bool) {
        let mut copy = LeafCopy::new();
        let (mut at, mut last): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        let mut met = BTreeSet::new();
        let (mut ahead, mut leaf_before) = (Upcoming::new(), None);
        loop {
            let seek = match &at {
                Some(at) if forward => Seek::AtOrAfter(at),
                Some(at) => Seek::Before(at),
                None if forward => Seek::First,
                None => Seek::Last,
            };
            wait_for(&self.pool, || self.tree.read_leaf(&self.pool, seek, &mut copy, |_, _, _| ()));
            let indices: Vec<usize> = if forward { (0..copy.len()).collect() } else { (0..copy.len()).rev().collect() };
            for index in indices {
                let key = copy.key(index);
                // A leaf that was joined with the one before it shows that one's keys again.
                let again = at.as_ref().is_some_and(|at| if forward { key < *at } else { key >= *at });
                if !again {
                    let in_order = last.as_ref().is_none_or(|last| if forward { *last < key } else { *last > key });
                    assert!(in_order, "{last:?} before {key:?}");
                    met.insert(key.clone());
                    last = Some(key);
                }
            }
            let next =
                if forward { copy.upper().map(<[u8]>::to_vec) } else { Some(copy.lower().to_vec()).filter(|at| !at.is_empty()) };
            let Some(next) = next else { break };
            if forward {
                wait_for(&self.pool, || self.tree.leaves_from(&self.pool, &next, 4, &mut ahead));
            } else {
                wait_for(&self.pool, || self.tree.leaves_before(&self.pool, &next, 4, &mut ahead));
            }
            assert!(ahead.pages.len() <= 4 && leaf_before != Some(next.clone()), "a scan must move on");
            self.pool.prefetch(&ahead.pages);
            leaf_before = Some(next.clone());
            at = Some(next);
        }
        assert!((0..KEYS).filter(|&i| is_stable(i)).all(|i| met.contains(&key(i))), "a scan has missed a key");
    }
}

fn run(crowd: Crowd) {
    let pool = small_pool(4096, crowd.frames);
    let tree = Tree { slots_max: crowd.slots_max, ..Tree::create(&pool, TreeId(1)).unwrap() };
    let shared = Arc::new(Shared { pool, tree, ended: AtomicBool::new(false) });
    shared.load_stable();
    let readers: Vec<_> = (0..crowd.readers)
        .map(|reader| {
            let shared = Arc::clone(&shared);
            spawn("reader", move || {
                let mut random = ChaCha8Rng::seed_from_u64(crowd.seed << 8 | reader);
                let (mut newest, mut looks) = (BTreeMap::new(), 0);
                while looks < crowd.looks || crowd.looks == 0 && !shared.ended.load(Acquire) {
                    shared.look(&mut random, &mut newest);
                    looks += 1;
                }
            })
            .unwrap()
        })
        .collect();
    let mut random = ChaCha8Rng::seed_from_u64(crowd.seed);
    for lsn in 2..crowd.commits {
        shared.write(&mut random, lsn);
    }
    shared.ended.store(true, Release);
    for reader in readers {
        reader.join().expect("no reader panics");
    }
    let mut pages = 0;
    shared
        .tree
        .check(&shared.pool, &mut |finding| {
            assert!(!finding.is_fault(), "{finding:?}");
            pages += usize::from(matches!(finding, Finding::Page { .. }));
        })
        .unwrap();
    assert_eq!(pages, page_count(&shared.pool));
}

#[test]
fn readers_on_real_threads_see_whole_steps() {
    for (seed, frames) in [(1, 48), (2, 1000), (3, 100), (4, 1000)] {
        run(Crowd { seed, frames, slots_max: 4 + seed as u16, readers: 3, commits: 600, looks: 0 });
    }
}

#[test]
fn readers_under_the_scheduler_see_whole_steps() {
    let first = std::env::var("CROWD_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in first.map_or(0..20, |seed: u64| seed..seed + 1) {
        let frames = [60, 90, 300][seed as usize % 3];
        let crowd = Crowd { seed, frames, slots_max: 5, readers: 2, commits: 60, looks: 12 };
        simulate(&Options::new(seed), move || run(crowd)).expect("CROWD_SEED repeats it");
    }
}
