//! Whole trees against a map, with few frames and few slots a page so that small trees are deep and pages come and go.

use super::testing::{TestPool, checkpoint, page_count, random_key, random_value, small_pool, wait_for};
use super::{
    Bulk, BulkOptions, Change, Finding, LeafCopy, Observer, PoolSink, Seek, Tree, TreeError, TreeId, TreeOp, Upcoming, limits,
};
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

/// A leaf that a scan has met.
struct Leaf {
    page: PageId,
    entries: Vec<(Vec<u8>, Value)>,
}

/// Records what it is told of keys.
#[derive(Default)]
struct Told(Vec<(Vec<u8>, Option<Value>)>);

impl Observer for Told {
    fn replaced(&mut self, _page: PageId, key: &[u8], old: Option<(u8, &[u8])>) {
        self.0.push((key.to_vec(), old.map(|(kind, bytes)| (kind, bytes.to_vec()))));
    }
}

/// Keeps for every key that was ever touched the leaf that it belongs to, from what it is told alone; lets no leaf of an odd id
/// be freed.
#[derive(Default)]
struct Places {
    leaf_of: BTreeMap<Vec<u8>, PageId>,
    sparse: BTreeSet<Vec<u8>>,
    free_all: bool,
}

impl Observer for Places {
    fn replaced(&mut self, page: PageId, key: &[u8], _old: Option<(u8, &[u8])>) {
        let known = self.leaf_of.insert(key.to_vec(), page);
        assert!(known.is_none_or(|known| known == page), "{key:?} was in {known:?}, not in {page}");
    }

    fn moved(&mut self, source: PageId, target: PageId, lower: &[u8], upper: Option<&[u8]>) {
        for (key, page) in
            self.leaf_of.range_mut(lower.to_vec()..).take_while(|(key, _)| upper.is_none_or(|upper| &key[..] < upper))
        {
            assert_eq!(*page, source, "{key:?} moves to {target}");
            *page = target;
        }
    }

    fn may_free(&mut self, page: PageId) -> bool {
        self.free_all || page.0.is_multiple_of(2)
    }

    fn left_sparse(&mut self, key: &[u8]) {
        self.sparse.insert(key.to_vec());
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

    /// Keys that stand side by side behind some key, at times many.
    fn run_of_keys(&mut self) -> Vec<Vec<u8>> {
        let (base, tail) = (self.some_key(), self.random.random_range(0..10));
        let count = [3, 20, 200][self.random.random_range(0..3)];
        let keys = (0..count).map(|nth: u16| [&base[..], &nth.to_be_bytes(), &vec![7; tail]].concat());
        keys.filter(|key| key.len() <= self.key_max).collect()
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
        let run = if self.random.random_bool(0.2) { self.run_of_keys() } else { Vec::new() };
        for key in run {
            let delete = self.random.random_bool(deletes / 20.0);
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
        self.check_upcoming(&start, true, forward.iter().map(|leaf| leaf.page));
        let forward = forward.into_iter().flat_map(|leaf| leaf.entries);
        let forward: Vec<_> = forward.filter(|(key, _)| *key >= start).collect();
        let expected: Vec<_> = self.model.range(start.clone()..).map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(forward, expected);
        let lower = |copy: &LeafCopy| Some(copy.lower().to_vec()).filter(|lower| !lower.is_empty());
        let mut backward = self.scan(Seek::Before(&start), lower, |key| Seek::Before(key));
        self.check_upcoming(&start, false, backward.iter().map(|leaf| leaf.page));
        backward.reverse();
        let backward = backward.into_iter().flat_map(|leaf| leaf.entries);
        let backward: Vec<_> = backward.filter(|(key, _)| *key < start).collect();
        let expected: Vec<_> = self.model.range(..start).map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(backward, expected);
    }

    fn scan(
        &self,
        first: Seek<'_>,
        next: impl Fn(&LeafCopy) -> Option<Vec<u8>>,
        seek: impl for<'k> Fn(&'k [u8]) -> Seek<'k>,
    ) -> Vec<Leaf> {
        let (mut copy, mut leaves) = (LeafCopy::new(), Vec::new());
        wait_for(&self.pool, || self.tree.read_leaf(&self.pool, first, &mut copy, |_, _, _| ()));
        loop {
            let entries = (0..copy.len()).map(|index| {
                let (kind, bytes) = copy.value(index);
                assert_eq!(copy.find(&copy.key(index)), Ok(index));
                (copy.key(index), (kind, bytes.to_vec()))
            });
            leaves.push(Leaf { page: copy.page(), entries: entries.collect() });
            let Some(at) = next(&copy) else { return leaves };
            wait_for(&self.pool, || self.tree.read_leaf(&self.pool, seek(&at), &mut copy, |_, _, _| ()));
        }
    }

    /// Lists that follow each other name the leaves of a scan, each once.
    fn check_upcoming(&mut self, start: &[u8], forward: bool, leaves: impl Iterator<Item = PageId>) {
        let (mut list, mut listed, mut next) = (Upcoming::new(), Vec::new(), Some(start.to_vec()));
        while let Some(key) = next {
            let max = self.random.random_range(1..9);
            wait_for(&self.pool, || match forward {
                true => self.tree.leaves_from(&self.pool, &key, max, &mut list),
                false => self.tree.leaves_before(&self.pool, &key, max, &mut list),
            });
            assert!((1..=max).contains(&list.pages.len()));
            listed.append(&mut list.pages);
            next = list.next.take();
        }
        assert_eq!(listed, leaves.collect::<Vec<_>>(), "forward {forward}, from {start:?}");
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

/// What an observer is told of moves is enough to know every key's leaf; a leaf that may not be freed stays until it may.
#[test]
fn observers_know_where_every_key_belongs() {
    let mut sparse = 0;
    for seed in 0..30 {
        let mut pair = Pair::new(seed, 4096, 200, [4, 6, 0][seed as usize % 3], 40);
        let mut places = Places::default();
        for round in 0..60 {
            let mut keys: BTreeSet<Vec<u8>> = (0..20).map(|_| pair.some_key()).collect();
            keys.extend(if round % 4 == 0 { pair.run_of_keys() } else { Vec::new() });
            let bytes = vec![round as u8; pair.random.random_range(0..300)];
            let delete = round > 20 && pair.random.random_bool(0.7);
            let change = if delete { Change::Delete } else { Change::Put { kind: 0, bytes: &bytes } };
            let ops: Vec<TreeOp<'_>> = keys.iter().map(|key| TreeOp { key, change }).collect();
            pair.tree.apply(&pair.pool, round + 1, &ops, &mut places).unwrap();
            for key in keys {
                match change {
                    Change::Put { kind, bytes } => pair.model.insert(key, (kind, bytes.to_vec())),
                    Change::Delete => pair.model.remove(&key),
                };
            }
            for (key, page) in &places.leaf_of {
                let found = wait_for(&pair.pool, || pair.tree.get(&pair.pool, key, |found| (found.page, found.lsn)));
                assert_eq!(found.0, *page, "{key:?}");
                assert!(found.1 > 0);
            }
            pair.check();
        }
        let before = page_count(&pair.pool);
        sparse += places.sparse.len();
        places.free_all = true;
        for key in std::mem::take(&mut places.sparse) {
            pair.tree.settle(&pair.pool, &key, &mut places).unwrap();
        }
        assert!(page_count(&pair.pool) <= before && places.sparse.is_empty());
        pair.check();
        pair.destroy();
    }
    assert!(sparse > 30, "{sparse}");
}

/// A page that can't be read ends a batch between two leaves: what was told of is changed, the rest is not, the tree is whole.
#[test]
fn a_read_that_fails_leaves_a_whole_tree() {
    let mut failed = 0;
    for seed in 0..30 {
        let mut pair = Pair::new(seed, 4096, 40, 5, 60);
        for _ in 0..20 {
            pair.apply_batch(0.2);
        }
        for lsn in 100..130 {
            let mut batch: BTreeSet<Vec<u8>> = (0..10).map(|_| pair.some_key()).collect();
            batch.extend(if lsn % 5 == 0 { pair.run_of_keys() } else { Vec::new() });
            let change = if lsn % 2 == 0 { Change::Delete } else { Change::Put { kind: 2, bytes: b"another value" } };
            let ops: Vec<TreeOp<'_>> = batch.iter().map(|key| TreeOp { key, change }).collect();
            let mut told = Told::default();
            checkpoint(&pair.pool);
            pair.pool.store().memory.fail_reads(true);
            let outcome = pair.tree.apply(&pair.pool, lsn, &ops, &mut told);
            pair.pool.store().memory.fail_reads(false);
            match outcome {
                Ok(()) => assert_eq!(told.0.len(), ops.len()),
                Err(TreeError::Load(_)) => failed += 1,
                Err(other) => panic!("{other}"),
            }
            for (key, _) in told.0 {
                match change {
                    Change::Put { kind, bytes } => pair.model.insert(key, (kind, bytes.to_vec())),
                    Change::Delete => pair.model.remove(&key),
                };
            }
            pair.check();
        }
    }
    assert!(failed > 300, "{failed}");
}

/// Whatever stands in the pages, nothing panics, hangs or goes on for ever.
#[test]
fn wrong_pages_are_faults_not_panics() {
    let mut faults = 0;
    for seed in 0..300 {
        // Enough frames that nothing wrong has to be written.
        let mut pair = Pair::new(seed, 4096, 3000, [4, 5, 0][seed as usize % 3], 60);
        for _ in 0..12 {
            pair.apply_batch(0.1);
        }
        let mut pages = Vec::new();
        pair.tree
            .check(&pair.pool, &mut |finding| {
                pages.extend(if let Finding::Page { page, .. } = finding { Some(page) } else { None })
            })
            .unwrap();
        for _ in 0..pair.random.random_range(1..8) {
            let page = *pages.iter().choose(&mut pair.random).unwrap();
            let mut frames = pair.pool.reserve(1).unwrap();
            let mut guard = pair.pool.exclusive(page, &mut frames).unwrap();
            let at = match pair.random.random_range(0..3) {
                0 => pair.random.random_range(0..64),
                1 => pair.random.random_range(64..200),
                _ => pair.random.random_range(0..4096),
            };
            guard.put_u8(at, pair.random.random());
        }
        faults += usize::from(use_everything(&mut pair));
    }
    assert!(faults > 100, "{faults}");
}

/// Tries all that can be done with a tree. True: something was found wrong.
fn use_everything(pair: &mut Pair) -> bool {
    let Pair { pool, tree, .. } = &*pair;
    let (mut copy, mut told, mut wrong) = (LeafCopy::new(), Told::default(), false);
    for key in pair.model.keys() {
        wrong |= tree.get(pool, key, |_| ()).is_err();
        wrong |= tree.read_leaf(pool, Seek::Before(key), &mut copy, |_, _, _| ()).is_err();
        let _ = tree.leaves_from(pool, key, 3, &mut Upcoming::new());
    }
    let mut at = Vec::new();
    while tree.read_leaf(pool, Seek::AtOrAfter(&at), &mut copy, |_, _, _| ()).is_ok() {
        let _all: Vec<_> = (0..copy.len()).map(|index| (copy.key(index), copy.value(index).1.len(), copy.find(&at))).collect();
        let Some(upper) = copy.upper() else { break };
        at = upper.to_vec();
    }
    tree.check(pool, &mut |finding| wrong |= finding.is_fault()).unwrap();
    let bytes = vec![1; 700];
    for _ in 0..30 {
        let key = pair.some_key();
        let ops = [TreeOp { key: &key, change: Change::Put { kind: 0, bytes: &bytes[..pair.random.random_range(0..700)] } }];
        wrong |= pair.tree.apply(&pair.pool, 99, &ops, &mut told).is_err();
        let ops = [TreeOp { key: &key, change: Change::Delete }];
        wrong |= pair.random.random() && pair.tree.apply(&pair.pool, 99, &ops, &mut told).is_err();
        wrong |= pair.tree.settle(&pair.pool, &key, &mut told).is_err();
        let run = pair.run_of_keys();
        let ops: Vec<_> = run.iter().map(|key| TreeOp { key, change: Change::Put { kind: 0, bytes: &bytes[..40] } }).collect();
        wrong |= pair.tree.apply(&pair.pool, 99, &ops, &mut told).is_err();
    }
    wrong |= pair.tree.remove_range(&pair.pool, 100, Bound::Included(b"k"), Bound::Unbounded, &mut told).is_err();
    for _ in 0..1000 {
        match pair.tree.destroy_step(&pair.pool, &mut told) {
            Ok(true) => return wrong,
            Ok(false) => {}
            Err(_) => return true,
        }
    }
    wrong
}
