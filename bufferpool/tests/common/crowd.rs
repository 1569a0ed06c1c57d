//! Readers, a writer, an evictor and a checkpointer at work on one small pool: the same program for the deterministic
//! scheduler and for real threads.
//!
//! The writer and the cut share the *apply lock*, as in the engine. A reader may see any version between the newest that was
//! complete when it began and the newest that had begun when it ended; the durable checkpoint must be the state at its cut.

use super::{pattern, stamp, version_of};
use ashlar_bufferpool::testing::{MemoryOptions, MemoryStore};
use ashlar_bufferpool::{CheckpointProgress, LoadError, Miss, Pace, PageId, Pool, PoolOptions, PoolStats, Unpaced};
use ashlar_disk::sync::{self, JoinHandle, Mutex};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// How much work, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) seed: u64,
    pub(crate) frames: u32,
    pub(crate) pages: usize,
    pub(crate) readers: usize,
    pub(crate) writes: usize,
    /// Reads and writes stay in flight until somebody reaps.
    pub(crate) deferred: bool,
    /// A thread reaps besides those who wait.
    pub(crate) reaper: bool,
    /// Whether the deterministic scheduler runs it.
    pub(crate) simulated: bool,
}

impl Crowd {
    /// Lets others run for a while: in a simulation, whose clock stands still while any thread can run, for so many steps.
    fn pause(&self, steps: u64) {
        if self.simulated {
            (0..steps).for_each(|_| sync::yield_point());
        } else {
            sync::sleep(Duration::from_micros(steps));
        }
    }
}

struct Shared {
    crowd: Crowd,
    pool: Pool<MemoryStore>,
    apply: Mutex<()>,
    /// Of each page that is there: the newest version that was begun, and the newest that was completed.
    truth: Mutex<BTreeMap<PageId, (u64, u64)>>,
    stop: AtomicBool,
}

/// Runs it, and gives what the pool has done; panics where something is not as it must be.
pub(crate) fn run(crowd: Crowd) -> PoolStats {
    let options = MemoryOptions { deferred: crowd.deferred, seed: crowd.seed, ..MemoryOptions::default() };
    let pool_options = PoolOptions { page_size: 4096, frames: crowd.frames, pages_max: 1 << 20, page_ids: 0 };
    let pool = Pool::new(pool_options, MemoryStore::new(options)).expect("a pool");
    let (apply, truth, stop) = (Mutex::new(()), Mutex::default(), AtomicBool::new(false));
    let shared = Arc::new(Shared { crowd, pool, apply, truth, stop });
    let start = |name: &str, number: u64, work: fn(&Shared, ChaCha8Rng)| -> JoinHandle {
        let shared = Arc::clone(&shared);
        let random = ChaCha8Rng::seed_from_u64(crowd.seed * 100 + number);
        sync::spawn(name, move || work(&shared, random)).expect("a thread")
    };
    let writer = start("writer", 50, write_pages);
    let mut helpers: Vec<_> = (0..crowd.readers as u64).map(|reader| start("reader", reader, read_pages)).collect();
    helpers.extend([start("evictor", 51, maintain), start("checkpointer", 52, checkpoint)]);
    if crowd.reaper {
        helpers.push(start("reaper", 53, reap));
    }
    let join = |thread: JoinHandle| thread.join().unwrap_or_else(|panicked| panic!("{panicked}"));
    join(writer);
    shared.stop.store(true, SeqCst);
    helpers.into_iter().for_each(join);
    settle(&shared);
    shared.pool.stats()
}

fn some_page(shared: &Shared, random: &mut ChaCha8Rng) -> Option<PageId> {
    let truth = shared.truth.lock();
    if truth.is_empty() {
        return None;
    }
    truth.keys().nth(random.random_range(0..truth.len())).copied()
}

fn read_pages(shared: &Shared, mut random: ChaCha8Rng) {
    while !shared.stop.load(SeqCst) {
        let Some(page) = some_page(shared, &mut random) else {
            shared.crowd.pause(10);
            continue;
        };
        if random.random_bool(0.1) {
            let pages: Vec<_> = (0..3).filter_map(|_| some_page(shared, &mut random)).collect();
            if random.random() {
                shared.pool.prefetch(&pages);
            } else {
                shared.pool.bring(&pages);
            }
        }
        let completed = shared.truth.lock().get(&page).map_or(0, |&(_, completed)| completed);
        let Some(seen) = read(shared, page, &mut random) else { continue };
        let begun = shared.truth.lock().get(&page).map_or(u64::MAX, |&(begun, _)| begun);
        assert!((completed..=begun).contains(&seen), "{page}: version {seen} was read, {completed} to {begun} was there");
    }
}

/// The version of the page, or that it is gone.
fn read(shared: &Shared, page: PageId, random: &mut ChaCha8Rng) -> Option<u64> {
    let mut held = None;
    loop {
        let found = if random.random() { look(shared, page) } else { read_shared(shared, page) };
        match found {
            Ok(Some(version)) => return Some(version),
            Ok(None) => {}
            Err(Miss::NotAllocated(_)) => return None,
            Err(Miss::NotResident(_)) => {
                drop(held.take());
                match shared.pool.load(page) {
                    Ok(hold) => held = Some(hold),
                    Err(LoadError::NotAllocated(_)) => return None,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

fn look(shared: &Shared, page: PageId) -> Result<Option<u64>, Miss> {
    let look = shared.pool.optimistic(page)?;
    let view = look.view();
    let mut bytes = vec![0; view.len()];
    let (front, back) = bytes.split_at_mut(view.len() / 2);
    assert!(view.copy_to(0, front));
    sync::yield_point();
    assert!(view.copy_to(front.len(), back));
    Ok(look.validate().then(|| version_of(page, &bytes)))
}

fn read_shared(shared: &Shared, page: PageId) -> Result<Option<u64>, Miss> {
    let guard = shared.pool.shared(page)?;
    let version = version_of(page, guard.bytes());
    sync::yield_point();
    assert_eq!(version_of(page, guard.bytes()), version, "it does not change under the shared latch");
    Ok(Some(version))
}

fn write_pages(shared: &Shared, mut random: ChaCha8Rng) {
    for version in 1..=shared.crowd.writes as u64 {
        let page = some_page(shared, &mut random);
        let count = shared.truth.lock().len();
        // Loads and reservations come before the lock that the cut needs.
        let _hold = page.map(|page| shared.pool.load(page).expect("only this thread frees pages"));
        let mut frames = shared.pool.reserve(2).expect("a small reservation");
        let _apply = shared.apply.lock();
        match (random.random_range(0..10), page) {
            (0..2, Some(page)) if count > shared.crowd.pages / 2 => free(shared, page, &mut frames, &mut random),
            (2..4, _) | (_, None) if count < shared.crowd.pages => {
                let mut guard = shared.pool.create(&mut frames);
                let page = guard.page();
                stamp(&mut guard, page, version);
                shared.truth.lock().insert(page, (version, version));
            }
            (_, Some(page)) => change(shared, page, version, &mut frames),
            (_, None) => {}
        }
    }
}

type Frames<'a> = ashlar_bufferpool::Reservation<'a, MemoryStore>;

fn change(shared: &Shared, page: PageId, version: u64, frames: &mut Frames<'_>) {
    let mut guard = shared.pool.exclusive(page, frames).expect("it is held");
    shared.truth.lock().entry(page).and_modify(|seen| seen.0 = version);
    // Half of it, and then the rest, with others at work in between.
    for offset in (0..guard.len() / 2).step_by(8) {
        guard.put_u64(offset, pattern(page, version));
    }
    sync::yield_point();
    stamp(&mut guard, page, version);
    drop(guard);
    shared.truth.lock().entry(page).and_modify(|seen| seen.1 = version);
}

fn free(shared: &Shared, page: PageId, frames: &mut Frames<'_>, random: &mut ChaCha8Rng) {
    shared.truth.lock().remove(&page);
    if random.random() {
        shared.pool.discard(page).expect("it is held, so it is not being read");
    } else {
        let guard = shared.pool.exclusive(page, frames).expect("it is held");
        shared.pool.free(guard);
    }
}

fn maintain(shared: &Shared, _random: ChaCha8Rng) {
    while !shared.stop.load(SeqCst) {
        shared.pool.maintain();
        shared.crowd.pause(20);
    }
}

fn reap(shared: &Shared, _random: ChaCha8Rng) {
    while !shared.stop.load(SeqCst) {
        shared.pool.store().complete();
        shared.crowd.pause(10);
    }
}

fn checkpoint(shared: &Shared, mut random: ChaCha8Rng) {
    while !shared.stop.load(SeqCst) {
        let (last, truth) = cut(shared);
        // Time for writers to meet frozen frames.
        shared.crowd.pause(random.random_range(0..200));
        assert_eq!(shared.pool.write_epoch(last, &Slow(shared.crowd)), Ok(()));
        if random.random_bool(0.2) {
            shared.pool.merge_epoch(last);
            shared.pool.store().merge(last, shared.pool.epoch());
        } else {
            shared.pool.store().finish_checkpoint(last);
            check_durable(shared, &truth);
        }
        shared.crowd.pause(50);
    }
}

/// Lets others run between a checkpoint's writes.
struct Slow(Crowd);

impl Pace for Slow {
    fn before_write(&self, so_far: CheckpointProgress) -> usize {
        self.0.pause(20);
        1 + so_far.images_left % 2
    }
}

fn cut(shared: &Shared) -> (ashlar_bufferpool::Epoch, BTreeMap<PageId, u64>) {
    let _apply = shared.apply.lock();
    let truth = shared.truth.lock().iter().map(|(&page, &(_, completed))| (page, completed)).collect();
    (shared.pool.turn(), truth)
}

fn check_durable(shared: &Shared, truth: &BTreeMap<PageId, u64>) {
    let durable = shared.pool.store().durable_pages().expect("every durable block holds its page");
    let found: BTreeMap<_, _> = durable.iter().map(|(&page, bytes)| (page, version_of(page, bytes))).collect();
    assert_eq!(&found, truth, "the durable checkpoint is the state at its cut");
}

fn settle(shared: &Shared) {
    while shared.pool.store().complete() {}
    for _ in 0..2 {
        let (last, truth) = cut(shared);
        assert_eq!(shared.pool.write_epoch(last, &Unpaced), Ok(()));
        shared.pool.store().finish_checkpoint(last);
        check_durable(shared, &truth);
    }
    let stats = shared.pool.stats();
    assert_eq!((stats.frames_unclean, stats.frames_reserved, stats.in_flight), (0, 0, 0), "{stats:?}");
    assert_eq!(shared.pool.store().leaked_blocks(), []);
    let _all = shared.pool.reserve(shared.pool.reservation_max()).expect("all frames can be had again");
}
