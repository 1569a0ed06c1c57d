//! Whole trees against a map, with few frames and few slots a page so that small trees are deep and pages come and go.

use super::testing::{TestPool, checkpoint, page_count, random_key, random_value, small_pool, wait_for};
use super::{Bulk, BulkOptions, Change, Finding, LeafCopy, Observer, PoolSink, Seek, Tree, TreeId, TreeOp, limits};
use ashlar_bufferpool::PageId;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

type Value = (u8, Vec<u8>);
type Model = BTreeMap<Vec<u8>, Value>;

/// A tree, what it should hold, and the keys to choose from.
struct Pair {
    pool: TestPool,
    tree: Tree,
    model: Model,
    random: ChaCha8Rng,
    lsn: u64,
    key_max: usize,
}

/// Records what it is told of keys.
#[derive(Default)]
struct Told(Vec<(Vec<u8>, Option<Value>)>);

impl Observer for Told {
    fn replaced(&mut self, _page: PageId, key: &[u8], old: Option<(u8, &[u8])>) {
        self.0.push((key.to_vec(), old.map(|(kind, bytes)| (kind, bytes.to_vec()))));
    }
}

impl Pair {
    fn new(seed: u64, page_size: usize, frames: u32, slots_max: u16, key_max: usize) -> Pair {
        let pool = small_pool(page_size, frames);
        let tree = Tree { slots_max, ..Tree::create(&pool, TreeId(seed + 1)).unwrap() };
        Pair { pool, tree, model: Model::new(), random: ChaCha8Rng::seed_from_u64(seed), lsn: 0, key_max }
    }

    fn some_key(&mut self) -> Vec<u8> {
        match self.model.keys().choose(&mut self.random) {
            Some(key) if self.random.random() => key.clone(),
            _ => random_key(&mut self.random, self.key_max),
        }
    }

    fn apply_batch(&mut self, deletes: f64) {
        self.lsn += 1;
        let mut batch: BTreeMap<Vec<u8>, Option<Value>> = BTreeMap::new();
        for _ in 0..self.random.random_range(1..40) {
            let key = self.some_key();
            let delete = self.random.random_bool(deletes);
            let value = random_value(&mut self.random, &key, self.pool.page_size());
            batch.insert(key, (!delete).then_some(value));
        }
        let ops: Vec<TreeOp<'_>> = batch.iter().map(|(key, value)| TreeOp { key, change: change(value) }).collect();
        let mut told = Told::default();
        self.tree.apply(&self.pool, self.lsn, &ops, &mut told).unwrap();
        let expected: Vec<_> = batch.keys().map(|key| (key.clone(), self.model.get(key).cloned())).collect();
        assert_eq!(told.0, expected, "what the keys held");
        for (key, value) in batch {
            match value {
                Some(value) => self.model.insert(key, value),
                None => self.model.remove(&key),
            };
        }
    }

    fn remove_range(&mut self) {
        self.lsn += 1;
        let (a, b) = (self.some_key(), self.some_key());
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let bound = |key: Vec<u8>, how: u8| match how {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        };
        // Unbounded ranges are rare: they leave little.
        let choice = [0, 0, 0, 1, 1, 1, 2];
        let from = bound(low, choice[self.random.random_range(0..7)]);
        let to = bound(high, choice[self.random.random_range(0..7)]);
        let within = |key: &Vec<u8>| {
            let above = match &from {
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
                Bound::Unbounded => true,
            };
            above
                && match &to {
                    Bound::Included(to) => key <= to,
                    Bound::Excluded(to) => key < to,
                    Bound::Unbounded => true,
                }
        };
        let expected: Vec<_> =
            self.model.iter().filter(|(key, _)| within(key)).map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let mut told = Told::default();
        let (from_ref, to_ref) = (from.as_ref().map(|key| &key[..]), to.as_ref().map(|key| &key[..]));
        self.tree.remove_range(&self.pool, self.lsn, from_ref, to_ref, &mut told).unwrap();
        assert_eq!(told.0, expected);
        self.model.retain(|key, _| !within(key));
    }

    /// Check finds no fault, the model's entries, and all pages that the store knows.
    fn check(&self) -> usize {
        let (mut entries, mut pages, mut height) = (Model::new(), BTreeSet::new(), 0);
        self.tree
            .check(&self.pool, &mut |finding| match finding {
                Finding::Page { page, level, .. } => {
                    assert!(pages.insert(page), "{page} has two parents");
                    height = height.max(usize::from(level) + 1);
                }
                Finding::Entry { key, kind, value, .. } => {
                    assert!(entries.insert(key.to_vec(), (kind, value.to_vec())).is_none())
                }
                fault => panic!("{fault:?}"),
            })
            .unwrap();
        assert_eq!(entries, self.model);
        assert_eq!(pages.len(), page_count(&self.pool), "pages that no parent has");
        height
    }

    fn check_gets(&mut self) {
        for _ in 0..30 {
            let key = self.some_key();
            let found = wait_for(&self.pool, || {
                self.tree.get(&self.pool, &key, |found| {
                    assert!(found.lsn <= self.lsn);
                    found.value.map(|(kind, bytes)| (kind, bytes.to_vec()))
                })
            });
            assert_eq!(found, self.model.get(&key).cloned(), "{key:?}");
        }
    }

    fn check_scans(&mut self) {
        let start = self.some_key();
        let forward = self.scan(Seek::AtOrAfter(&start), |copy| copy.upper().map(<[u8]>::to_vec), |key| Seek::AtOrAfter(key));
        let forward: Vec<_> = forward.into_iter().flatten().filter(|(key, _)| *key >= start).collect();
        let expected: Vec<_> = self.model.range(start.clone()..).map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(forward, expected);
        let lower = |copy: &LeafCopy| Some(copy.lower().to_vec()).filter(|lower| !lower.is_empty());
        let mut backward = self.scan(Seek::Before(&start), lower, |key| Seek::Before(key));
        backward.reverse();
        let backward: Vec<_> = backward.into_iter().flatten().filter(|(key, _)| *key < start).collect();
        let expected: Vec<_> = self.model.range(..start).map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(backward, expected);
    }

    fn scan(
        &self,
        first: Seek<'_>,
        next: impl Fn(&LeafCopy) -> Option<Vec<u8>>,
        seek: impl for<'k> Fn(&'k [u8]) -> Seek<'k>,
    ) -> Vec<Vec<(Vec<u8>, Value)>> {
        let (mut copy, mut leaves) = (LeafCopy::new(), Vec::new());
        wait_for(&self.pool, || self.tree.read_leaf(&self.pool, first, &mut copy));
        loop {
            let entries = (0..copy.len()).map(|index| {
                let (kind, bytes) = copy.value(index);
                assert_eq!(copy.find(&copy.key(index)), Ok(index));
                (copy.key(index), (kind, bytes.to_vec()))
            });
            leaves.push(entries.collect());
            let Some(at) = next(&copy) else { return leaves };
            wait_for(&self.pool, || self.tree.read_leaf(&self.pool, seek(&at), &mut copy));
        }
    }

    /// Destroys the tree; no page is left.
    fn destroy(self) {
        let mut told = Told::default();
        while !self.tree.destroy_step(&self.pool, &mut told).unwrap() {}
        let expected: Vec<_> = self.model.into_iter().map(|(key, value)| (key, Some(value))).collect();
        assert_eq!(told.0, expected);
        assert_eq!(page_count(&self.pool), 0);
    }
}

fn change(value: &Option<Value>) -> Change<'_> {
    value.as_ref().map_or(Change::Delete, |(kind, bytes)| Change::Put { kind: *kind, bytes })
}

#[test]
fn a_tree_is_a_sorted_map() {
    let mut heights = BTreeSet::new();
    for seed in 0..40 {
        let page_size = 4096 << [0, 0, 0, 1, 2][seed as usize % 5];
        let (slots_max, key_max) = [(4, 40), (0, limits(page_size).key_max), (5, 20), (9, 300)][seed as usize % 4];
        let frames = if slots_max == 0 { 16 } else { 24 + (seed as u32 % 3) * 20 };
        let mut pair = Pair::new(seed, page_size, frames, slots_max, key_max);
        for round in 0..60 {
            // Growth, then shrinking, then growth.
            pair.apply_batch(if (20..40).contains(&round) { 0.8 } else { 0.2 });
            if round % 3 == 0 {
                checkpoint(&pair.pool);
            }
            if round % 7 == 6 {
                pair.remove_range();
            }
            heights.insert(pair.check());
            pair.check_gets();
            if round % 5 == 0 {
                pair.check_scans();
            }
        }
        pair.destroy();
    }
    assert!(heights.contains(&1) && heights.iter().max() >= Some(&4), "{heights:?}");
}

/// Ascending and descending loads leave full leaves.
#[test]
fn loads_in_order_leave_full_pages() {
    for descending in [false, true] {
        let pool = small_pool(4096, 2000);
        let tree = Tree::create(&pool, TreeId(1)).unwrap();
        for i in 0..20_000u64 {
            let key = if descending { u64::MAX - i } else { i }.to_be_bytes();
            let op = TreeOp { key: &key, change: Change::Put { kind: 0, bytes: &[7; 50] } };
            tree.apply(&pool, i + 1, &[op], &mut |_: &[u8], _: Option<(u8, &[u8])>| {}).unwrap();
        }
        let (mut used, mut leaves, mut entries) = (0, 0, 0);
        tree.check(&pool, &mut |finding| match finding {
            Finding::Page { level: 0, used: bytes, .. } => (used, leaves) = (used + bytes, leaves + 1),
            Finding::Entry { .. } => entries += 1,
            finding => assert!(!finding.is_fault(), "{finding:?}"),
        })
        .unwrap();
        assert_eq!(entries, 20_000);
        let fill = used * 100 / (leaves * 4032);
        assert!(fill >= 88, "leaves are {fill} % full, descending: {descending}");
    }
}

#[test]
fn a_bulk_build_is_the_same_map_in_full_pages() {
    for seed in 0..20 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (slots_max, key_max) = [(0, 976), (4, 30), (0, 24)][seed as usize % 3];
        let pool = small_pool(4096, 64);
        let mut model = Model::new();
        for _ in 0..[0, 1, 300, 3000][seed as usize % 4] {
            let key = random_key(&mut random, key_max);
            let value = random_value(&mut random, &key, 4096);
            model.insert(key, value);
        }
        let options = BulkOptions { tree: TreeId(3), lsn: 9, page_size: 4096, fill_percent: 100, slots_max };
        let mut bulk = Bulk::new(PoolSink(&pool), options);
        for (key, (kind, value)) in &model {
            bulk.push(key, *kind, value).unwrap();
        }
        let (tree, _) = bulk.finish().unwrap();
        let mut pair = Pair { pool, tree, model, random, lsn: 9, key_max };
        pair.check();
        pair.check_scans();
        for _ in 0..10 {
            pair.apply_batch(0.5);
            pair.check();
        }
        pair.destroy();
    }
}
