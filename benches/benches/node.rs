//! Searching one page, and inserting into one: no pool, no latch, no descent.
//!
//! Key shapes, which decide what a search costs:
//!
//! - *even*: the first four bytes of the keys differ, so that the heads in the slots decide;
//! - *prefix*: a long prefix that all have in common, which the page's fences strip;
//! - *equal heads*: the fences do not strip it, and every slot's head is the same: each comparison looks at the cell.
//!
//! `cargo bench -p ashlar-benches --bench node`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends by panicking; criterion's macros make undocumented items")]

use ashlar_benches::data::{Walk, key};
use ashlar_benches::nodes::Page;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use std::hint::black_box;

/// The engine's default.
const PAGE_SIZE: usize = 8192;
const VALUE_LEN: usize = 20;

/// Keys of one kind, and fences around them.
struct Shape {
    name: &'static str,
    lower: &'static [u8],
    upper: Option<&'static [u8]>,
    prefix: &'static [u8],
}

const SHAPES: [Shape; 3] = [
    Shape { name: "even", lower: b"", upper: None, prefix: b"" },
    Shape { name: "prefix", lower: b"accounts/eu/", upper: Some(b"accounts/eu/\xFF\xFF"), prefix: b"accounts/eu/" },
    Shape { name: "equal heads", lower: b"", upper: None, prefix: b"accounts/eu/" },
];

impl Shape {
    /// `n` keys, sorted.
    fn keys(&self, n: usize) -> Vec<Vec<u8>> {
        // The first byte is never 0xFF, so that all lie below the upper fence.
        let mut keys: Vec<Vec<u8>> = (0..n as u64).map(|i| [self.prefix, &[(i % 251) as u8], &key(i)].concat()).collect();
        keys.sort();
        keys
    }

    /// The largest leaf of which at most `percent` are in use, and its keys.
    fn leaf(&self, percent: usize) -> (Page, Vec<Vec<u8>>) {
        fullest(percent, |n| Page::leaf(PAGE_SIZE, self.lower, self.upper, &self.keys(n), VALUE_LEN), |n| self.keys(n))
    }

    fn inner(&self, percent: usize) -> (Page, Vec<Vec<u8>>) {
        fullest(percent, |n| Page::inner(PAGE_SIZE, self.lower, self.upper, &self.keys(n)), |n| self.keys(n))
    }
}

fn fullest(percent: usize, page: impl Fn(usize) -> Option<Page>, keys: impl Fn(usize) -> Vec<Vec<u8>>) -> (Page, Vec<Vec<u8>>) {
    let fits = |n: &usize| page(*n).is_some_and(|page| page.fill() * 100.0 <= percent as f64);
    let n = (1..).take_while(fits).last().unwrap();
    (page(n).unwrap(), keys(n))
}

fn search(c: &mut Criterion) {
    let mut group = c.benchmark_group("search a leaf");
    each(|shape, percent| {
        let (page, keys) = shape.leaf(percent);
        assert_eq!(page.count(), keys.len());
        let mut walk = Walk::below(keys.len() as u64);
        group.bench_function(format!("{}, {percent} % full, {} entries", shape.name, keys.len()), |b| {
            b.iter(|| {
                let slot = walk.step() as usize;
                assert_eq!(page.find(black_box(&keys[slot])), Some((slot, VALUE_LEN)));
            });
        });
    });
    group.finish();

    let mut group = c.benchmark_group("search an inner page");
    each(|shape, percent| {
        let (mut page, keys) = shape.inner(percent);
        let view = page.inner_view();
        let mut walk = Walk::below(keys.len() as u64);
        group.bench_function(format!("{}, {percent} % full, {} children", shape.name, keys.len() + 1), |b| {
            b.iter(|| {
                let slot = walk.step();
                // The separator of child n + 1 is keys[n].
                assert_eq!(view.child(black_box(&keys[slot as usize])), Some(slot + 1));
            });
        });
    });
    group.finish();
}

fn each(mut measure: impl FnMut(&Shape, usize)) {
    for shape in &SHAPES {
        for percent in [25, 50, 100] {
            measure(shape, percent);
        }
    }
}

fn insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert into a leaf");
    for shape in &SHAPES {
        insert_into(&mut group, shape);
    }
    group.finish();
}

/// One insert into a copy of a page that is half full, which is also what is left out of the measurement.
fn insert_into(group: &mut BenchmarkGroup<'_, WallTime>, shape: &Shape) {
    let (page, keys) = shape.leaf(50);
    let new: Vec<Vec<u8>> = (0..256u64).map(|i| [shape.prefix, &[(i % 251) as u8], &key(1_000_000 + i)].concat()).collect();
    assert!(new.iter().all(|key| page.find(key).is_none()), "the keys are new");
    let mut walk = Walk::below(new.len() as u64);
    group.bench_function(format!("{}, 50 % full, {} entries", shape.name, keys.len()), |b| {
        b.iter_batched_ref(
            || (page.clone(), &new[walk.step() as usize]),
            |(page, key)| assert!(page.insert(black_box(key), &[9; VALUE_LEN])),
            BatchSize::SmallInput,
        );
    });
    // What was measured does what it says.
    let mut page = page;
    let before = page.count();
    assert!(page.insert(&new[0], &[9; VALUE_LEN]));
    let (slot, len) = page.find(&new[0]).unwrap();
    assert_eq!((page.count(), len), (before + 1, VALUE_LEN));
    assert!(page.remove(slot) && page.find(&new[0]).is_none());
}

criterion_group!(benches, search, insert);
criterion_main!(benches);
