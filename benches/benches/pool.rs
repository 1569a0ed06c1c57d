//! The buffer pool alone, over a store in memory: from a page id to its bytes, and what a miss costs beside the reading.
//!
//! `cargo bench -p ashlar-benches --bench pool`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends by panicking; criterion's macros make undocumented items")]

use ashlar_benches::data::Walk;
use ashlar_bufferpool::testing::{MemoryOptions, MemoryStore};
use ashlar_bufferpool::{Miss, PageId, Pool, PoolOptions, Unpaced};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const PAGE_SIZE: usize = 4096;
/// Where a page has its own number; the store reads what stands before it.
const NUMBER_AT: usize = 64;

/// A pool of `frames` frames and a store of `pages` pages, all written and clean.
fn filled(frames: u32, pages: u64) -> Pool<MemoryStore> {
    let store = MemoryStore::new(MemoryOptions { page_size: PAGE_SIZE, ..MemoryOptions::default() });
    let options = PoolOptions { page_size: PAGE_SIZE, frames, pages_max: pages + u64::from(frames), page_ids: 0 };
    let pool = Pool::new(options, store).unwrap();
    for n in 0..pages {
        let mut frames = pool.reserve(1).unwrap();
        let mut page = pool.create(&mut frames);
        assert_eq!(page.page(), PageId(n), "ids are dense");
        page.put_u64(NUMBER_AT, n);
    }
    let epoch = pool.turn();
    pool.write_epoch(epoch, &Unpaced).unwrap();
    pool.store().finish_checkpoint(epoch);
    assert_eq!(pool.dirty_pages(), 0);
    pool
}

/// Page id to frame where all pages are in memory: few pages, whose frames stay in the processor's caches, and many.
fn translation(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate a page id");
    for (name, pages) in [("64 pages", 64), ("65536 pages", 65536)] {
        let pool = filled(pages + 16, pages.into());
        let mut walk = Walk::below(pages.into());
        group.bench_function(format!("{name}, without a latch, validated"), |b| {
            b.iter(|| {
                let n = walk.step();
                let page = pool.optimistic(black_box(PageId(n))).unwrap();
                let found = page.view().u64(NUMBER_AT);
                assert!(page.validate());
                assert_eq!(found, n);
            });
        });
        group.bench_function(format!("{name}, under the shared latch"), |b| {
            b.iter(|| {
                let n = walk.step();
                assert_eq!(pool.shared(black_box(PageId(n))).unwrap().view().u64(NUMBER_AT), n);
            });
        });
        assert_eq!(pool.stats().loads, 0, "nothing was missing");
    }
    group.finish();
}

/// Twice as many pages as frames, touched one after the other, so that each is missing: a victim, a read (a copy of 4 KiB), a look.
fn eviction(c: &mut Criterion) {
    let (frames, pages) = (1024, 2048);
    let pool = filled(frames, pages);
    let mut n = 0;
    let before = pool.stats();
    let (mut touched, mut missed) = (0, 0);
    c.bench_function("touch a page of twice as many as there are frames, in a circle", |b| {
        b.iter(|| {
            n = (n + 1) % pages;
            touched += 1;
            let hold = match pool.optimistic(black_box(PageId(n))) {
                Ok(_) => None,
                Err(miss) => {
                    assert_eq!(miss, Miss::NotResident(PageId(n)));
                    missed += 1;
                    Some(pool.load(miss.page()).unwrap())
                }
            };
            assert_eq!(pool.shared(PageId(n)).unwrap().view().u64(NUMBER_AT), n);
            drop(hold);
        });
    });
    let after = pool.stats();
    assert_eq!(after.loads - before.loads, missed);
    assert!(after.evictions - before.evictions >= missed.saturating_sub(u64::from(frames)), "{after:?}");
    println!("    {missed} of {touched} touches were misses");
}

criterion_group!(benches, translation, eviction);
criterion_main!(benches);
