//! A tree in a pool that holds all of it: from the root to a key, and a key inserted. No log, no versions, no keyspace.
//!
//! `cargo bench -p ashlar-benches --bench tree`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends by panicking; criterion's macros make undocumented items")]

use ashlar_benches::data::{Walk, key};
use ashlar_bufferpool::testing::{MemoryOptions, MemoryStore};
use ashlar_bufferpool::{Pool, PoolOptions};
use ashlardb::btree::{Change, Tree, TreeId, TreeOp};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The engine's default.
const PAGE_SIZE: usize = 8192;
const VALUE: [u8; 100] = [7; 100];

struct InMemory {
    pool: Pool<MemoryStore>,
    tree: Tree,
}

impl InMemory {
    /// An empty tree, with room for `entries` entries.
    fn new(entries: u64) -> InMemory {
        let store = MemoryStore::new(MemoryOptions { page_size: PAGE_SIZE, ..MemoryOptions::default() });
        // At most three quarters of the frames may be changed and not written, and splits leave pages half full: about 30 entries each.
        let frames = (entries / 20).max(1024) as u32;
        let pool = Pool::new(PoolOptions { page_size: PAGE_SIZE, frames, pages_max: 1 << 30, page_ids: 0 }, store).unwrap();
        let tree = Tree::create(&pool, TreeId(1)).unwrap();
        InMemory { pool, tree }
    }

    fn insert(&self, n: u64) {
        let key = key(n);
        let op = TreeOp { key: &key, change: Change::Put { kind: 0, bytes: &VALUE } };
        let mut told = 0;
        let mut observer = |_: &[u8], old: Option<(u8, &[u8])>| {
            assert!(old.is_none(), "the key is new");
            told += 1;
        };
        self.tree.apply(&self.pool, n + 1, &[op], &mut observer).unwrap();
        assert_eq!(told, 1);
    }

    fn holds(&self, key: &[u8]) -> bool {
        let found = self.tree.get(&self.pool, key, |found| found.value.map(|(kind, bytes)| (kind, bytes == VALUE))).unwrap();
        assert!(found.is_none_or(|found| found == (0, true)), "a value is whole");
        found.is_some()
    }

    fn filled(entries: u64) -> InMemory {
        let tree = InMemory::new(entries);
        (0..entries).for_each(|n| tree.insert(n));
        assert_eq!(tree.pool.stats().evictions, 0, "all of it is in memory");
        tree
    }
}

fn descent(c: &mut Criterion) {
    let mut group = c.benchmark_group("descend");
    for entries in [100_000, 1_000_000] {
        let tree = InMemory::filled(entries);
        let height = tree.tree.height(&tree.pool).unwrap();
        let mut walk = Walk::below(entries);
        group.bench_function(format!("to a key among {entries}, {height} levels"), |b| {
            b.iter(|| assert!(tree.holds(black_box(&key(walk.step())))));
        });
        group.bench_function(format!("to a key that is not among {entries}"), |b| {
            b.iter(|| assert!(!tree.holds(black_box(&key(entries + walk.step())))));
        });
    }
    group.finish();
}

/// Inserts into trees that grow from `from` entries on by a tenth; then a new one. Making it is not measured.
fn insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert into a tree");
    group.sample_size(20);
    for from in [1_000, 100_000] {
        let to = from + from / 10;
        let mut grown: Option<(InMemory, u64)> = None;
        group.bench_function(format!("of {from} entries"), |b| {
            b.iter_custom(|iterations| {
                let mut left = iterations;
                let mut spent = Duration::ZERO;
                while left > 0 {
                    let (tree, next) = grown.take().unwrap_or_else(|| (InMemory::filled_for(from, to), from));
                    let end = to.min(next + left);
                    let start = Instant::now();
                    (next..end).for_each(|n| tree.insert(n));
                    spent += start.elapsed();
                    left -= end - next;
                    assert!(tree.holds(&key(next)) && tree.holds(&key(end - 1)) && !tree.holds(&key(end)));
                    grown = (end < to).then_some((tree, end));
                }
                spent
            });
        });
    }
    group.finish();
}

impl InMemory {
    /// `entries` entries, with room for `room`.
    fn filled_for(entries: u64, room: u64) -> InMemory {
        let tree = InMemory::new(room);
        (0..entries).for_each(|n| tree.insert(n));
        tree
    }
}

criterion_group!(benches, descent, insert);
criterion_main!(benches);
