//! One rule a test: what a caller may rely on.

#![allow(clippy::panic, reason = "tests")]

mod common;

use ashlar_bufferpool::testing::{MemoryError, MemoryOptions, MemoryStore};
use ashlar_bufferpool::{LoadError, Miss, PageId, Pool, PoolError, PoolOptions, ReserveError, Unpaced};
use ashlar_disk::sync;
use common::{stamp, version_of};
use std::sync::Arc;

const OPTIONS: PoolOptions = PoolOptions { page_size: 4096, frames: 16, pages_max: 64, page_ids: 0 };

fn pool(deferred: bool) -> Pool<MemoryStore> {
    Pool::new(OPTIONS, MemoryStore::new(MemoryOptions { deferred, ..MemoryOptions::default() })).expect("a pool")
}

fn create(pool: &Pool<MemoryStore>, version: u64) -> PageId {
    let mut frames = pool.reserve(1).expect("a frame");
    let mut guard = pool.create(&mut frames);
    let page = guard.page();
    stamp(&mut guard, page, version);
    page
}

/// So many pages, of versions from 0 on.
fn create_many(pool: &Pool<MemoryStore>, count: u64) -> Vec<PageId> {
    (0..count).map(|version| create(pool, version)).collect()
}

fn change(pool: &Pool<MemoryStore>, page: PageId, version: u64) {
    let _hold = pool.load(page).expect("it is there");
    let mut frames = pool.reserve(1).expect("a frame");
    stamp(&mut pool.exclusive(page, &mut frames).expect("it is held"), page, version);
}

fn version(pool: &Pool<MemoryStore>, page: PageId) -> u64 {
    let _hold = pool.load(page).expect("it is there");
    version_of(page, pool.shared(page).expect("it is held").bytes())
}

fn checkpoint(pool: &Pool<MemoryStore>) {
    let last = pool.turn();
    pool.write_epoch(last, &Unpaced).expect("writing works");
    pool.store().finish_checkpoint(last);
}

/// Evicts all that can be evicted: with the most frames reserved, a few are left.
fn squeeze(pool: &Pool<MemoryStore>) {
    checkpoint(pool);
    drop(pool.reserve(pool.reservation_max()).expect("all is clean"));
}

#[test]
fn options_that_make_no_pool_are_refused() {
    let make = |options| Pool::new(options, MemoryStore::new(MemoryOptions::default())).err();
    for page_size in [0, 2048, 4097, 131_072] {
        assert!(matches!(make(PoolOptions { page_size, ..OPTIONS }), Some(PoolError::PageSize { .. })));
    }
    for frames in [0, 15, u32::MAX] {
        assert!(matches!(make(PoolOptions { frames, ..OPTIONS }), Some(PoolError::Frames { .. })));
    }
    assert!(matches!(make(PoolOptions { page_ids: 65, ..OPTIONS }), Some(PoolError::Pages { .. })));
}

#[test]
fn what_the_pool_can_never_give_is_refused_at_once() {
    let pool = pool(false);
    assert_eq!(pool.reservation_max(), 12);
    let error = pool.reserve(13).err();
    assert!(matches!(error, Some(ReserveError::CacheTooSmall { needed: 13, frames_max: 12 })));
}

#[test]
fn the_last_page_id_is_the_last() {
    let pool = pool(false);
    create_many(&pool, 64);
    assert!(matches!(pool.reserve(1).err(), Some(ReserveError::TooManyPages { pages_max: 64 })));
    assert!(matches!(pool.load(PageId(64)).err(), Some(LoadError::NotAllocated(PageId(64)))));
    assert_eq!(pool.optimistic(PageId(u64::MAX)).err().map(Miss::page), Some(PageId(u64::MAX)));
}

#[test]
fn a_look_is_valid_until_the_page_changes_or_leaves() {
    let pool = pool(false);
    let page = create(&pool, 1);
    let look = pool.optimistic(page).expect("resident");
    assert!(look.validate());
    drop(pool.shared(page));
    assert!(look.validate(), "sharers change nothing");
    change(&pool, page, 2);
    assert!(!look.validate());
    checkpoint(&pool);
    let look = pool.optimistic(page).expect("resident");
    assert!(look.validate());
    pool.discard(page).expect("resident");
    assert!(!look.validate());
}

#[test]
fn a_frozen_page_goes_on_in_a_copy_and_its_holds_with_it() {
    let pool = pool(false);
    let pages: Vec<_> = (0..4).map(|version| create(&pool, version + 1)).collect();
    let hold = pool.load(pages[0]).expect("it is there");
    let last = pool.turn();
    change(&pool, pages[0], 9);
    assert_eq!(pool.stats().copies, 1);
    change(&pool, pages[0], 10);
    assert_eq!(pool.stats().copies, 1, "the copy belongs to the current epoch");
    pool.write_epoch(last, &Unpaced).expect("writing works");
    pool.store().finish_checkpoint(last);
    let durable = pool.store().durable_pages().expect("whole");
    assert_eq!(version_of(pages[0], &durable[&pages[0]]), 1, "as it was at the cut");
    squeeze(&pool);
    assert!(pool.shared(pages[0]).is_ok(), "held, wherever it is");
    drop(hold);
    assert_eq!(version(&pool, pages[0]), 10);
}

#[test]
fn a_hold_says_nothing_about_the_next_page_of_its_id() {
    let pool = pool(false);
    let page = create(&pool, 1);
    let old = pool.load(page).expect("it is there");
    pool.discard(page).expect("resident");
    assert_eq!(create(&pool, 2), page, "the id is used again");
    let new = pool.load(page).expect("it is there");
    drop(old);
    create_many(&pool, 20);
    squeeze(&pool);
    assert!(pool.shared(page).is_ok(), "the new page's own hold keeps it");
    drop(new);
}

#[test]
fn failed_writes_end_waits_and_a_merge_heals() {
    let pool = pool(false);
    let pages = create_many(&pool, 11);
    pool.store().fail_writes(true);
    let error = pool.reserve(4).err();
    assert!(matches!(error, Some(ReserveError::WriteBack(MemoryError::Injected))), "{error:?}");
    assert_eq!(pool.write_error(), Some(MemoryError::Injected));
    assert_eq!(version(&pool, pages[3]), 3, "reads go on");
    let last = pool.turn();
    assert_eq!(pool.write_epoch(last, &Unpaced), Err(MemoryError::Injected));
    pool.store().fail_writes(false);
    assert_eq!(pool.write_epoch(last, &Unpaced), Err(MemoryError::Injected), "only a merge heals");
    pool.merge_epoch(last);
    pool.store().merge(last, pool.epoch());
    drop(pool.reserve(12).expect("writing works again"));
    checkpoint(&pool);
    assert_eq!(pool.store().leaked_blocks(), []);
    pages.iter().zip(0..).for_each(|(&page, expected)| assert_eq!(version(&pool, page), expected));
}

#[test]
fn a_failed_read_is_told_to_who_waits_and_tried_again_by_the_next() {
    let pool = pool(true);
    let pages = create_many(&pool, 20);
    squeeze(&pool);
    let gone = pages.iter().copied().find(|&page| pool.shared(page).is_err()).expect("most were evicted");
    assert_eq!(pool.prefetch(&[gone, gone]), 1, "one read of a page at a time");
    assert_eq!(pool.shared(gone).err(), Some(Miss::NotResident(gone)));
    assert!(pool.is_being_read(gone) && !pool.is_resident(gone));
    pool.store().fail_reads(true);
    assert!(matches!(pool.load(gone).err(), Some(LoadError::Store(MemoryError::Injected))));
    assert!(matches!(pool.load(gone).err(), Some(LoadError::Store(MemoryError::Injected))));
    pool.store().fail_reads(false);
    assert_eq!(version(&pool, gone), gone.0);
    assert_eq!(pool.stats().read_errors, 2);
}

#[test]
fn bringing_pages_in_writes_what_is_in_the_way() {
    for deferred in [false, true] {
        let pool = pool(deferred);
        let pages = create_many(&pool, 30);
        squeeze(&pool);
        let (changed, wanted) = pages.split_at(12);
        changed.iter().for_each(|&page| change(&pool, page, page.0 + 100));
        assert_eq!((pool.dirty_pages(), pool.reservation_max()), (12, 12));
        let before = pool.stats();
        let on_disk = wanted.iter().filter(|&&page| !pool.is_resident(page)).count();
        assert!(on_disk > 14, "more than there are frames for");
        pool.bring(wanted);
        let after = pool.stats();
        // Those that were in memory may have left before their turn.
        assert!((on_disk..=wanted.len()).contains(&((after.prefetches - before.prefetches) as usize)), "each is read");
        assert_eq!(after.loads, before.loads, "none is waited for");
        // Where reads end at once the clean frames serve one page after the other.
        assert_eq!(after.images_written > before.images_written, deferred);
        assert_eq!(pool.dirty_pages() < 12, deferred);
        wanted.iter().for_each(|&page| assert_eq!(version(&pool, page), page.0));
        changed.iter().for_each(|&page| assert_eq!(version(&pool, page), page.0 + 100));
    }
}

#[test]
fn bringing_pages_in_ends_where_nothing_can_be_written() {
    let pool = pool(true);
    let pages = create_many(&pool, 30);
    squeeze(&pool);
    let (changed, wanted) = pages.split_at(12);
    changed.iter().for_each(|&page| change(&pool, page, 1));
    pool.store().fail_writes(true);
    let before = pool.stats().prefetches;
    pool.bring(wanted);
    assert_eq!((pool.write_error(), pool.dirty_pages()), (Some(MemoryError::Injected), 12));
    assert!(pool.stats().prefetches - before > 4, "the other frames serve one page after the other");
    wanted.iter().for_each(|&page| assert_eq!(version(&pool, page), page.0));
}

#[test]
fn freeing_gives_back_frames_ids_and_blocks() {
    let pool = pool(false);
    let pages = create_many(&pool, 10);
    checkpoint(&pool);
    for &page in &pages[..5] {
        pool.discard(page).expect("resident");
        assert_eq!(pool.discard(page), Err(Miss::NotAllocated(page)));
    }
    assert_eq!(pool.stats().frames_free, 11);
    checkpoint(&pool);
    checkpoint(&pool);
    assert_eq!(pool.store().leaked_blocks(), []);
    assert_eq!(create(&pool, 1), pages[4]);
}

#[test]
fn background_work_makes_room_ahead() {
    let pool = pool(true);
    create_many(&pool, 12);
    let before = pool.dirty_pages();
    while pool.maintain() {}
    assert!(before > 8 && pool.dirty_pages() <= 8, "{before} dirty pages before, {} after", pool.dirty_pages());
    assert!(pool.stats().frames_free > 0);
}

/// Small enough for Miri: readers look on while a writer stores, and slices are taken under latches.
#[test]
fn readers_may_look_on_while_a_page_changes() {
    let pool = Arc::new(pool(false));
    let page = create(&pool, 0);
    let rounds = if cfg!(miri) { 4 } else { 5000 };
    let reader = {
        let pool = Arc::clone(&pool);
        let read = move || {
            for _ in 0..rounds {
                let look = pool.optimistic(page).expect("it stays");
                let (first, last) = (look.view().u64(0), look.view().u64(4088));
                assert!(!look.validate() || first == last);
                let guard = pool.shared(page).expect("it stays");
                assert_eq!(guard.bytes()[..8], guard.bytes()[4088..]);
            }
        };
        sync::spawn("reader", read).expect("a thread")
    };
    let mut frames = pool.reserve(1).expect("a frame");
    for round in 1..=rounds {
        let mut guard = pool.exclusive(page, &mut frames).expect("it stays");
        guard.put_u64(0, round);
        guard.fill(8, 64, round as u8);
        guard.put_u64(4088, round);
        assert_eq!(guard.bytes()[..8], round.to_le_bytes());
    }
    drop(frames);
    reader.join().expect("the reader has seen nothing torn");
}
