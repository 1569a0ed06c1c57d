//! One thread, random operations, against a map from page to version: contents, checkpoints, block reuse, leaks.
//!
//! The rules under test are those of epochs, deltas and block reuse. After each step the blocks of the last durable checkpoint
//! hold exactly what the pages held at its cut (the store checks at each write that no such block is freed or overwritten),
//! and whatever is read is the newest version. Other operations run inside a checkpoint through its pace.

#![allow(clippy::panic, reason = "tests")]

mod common;

use ashlar_bufferpool::testing::{MemoryError, MemoryOptions, MemoryStore};
use ashlar_bufferpool::{CheckpointProgress, Epoch, Hold, LoadError, Miss, Pace, PageId, Pool, PoolOptions, ReserveError};
use common::{stamp, version_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;

const PAGES: usize = 30;

struct Model<'a> {
    pool: &'a Pool<MemoryStore>,
    random: ChaCha8Rng,
    version: u64,
    /// What each page holds.
    truth: BTreeMap<PageId, u64>,
    /// What each page held at the cut of the last durable checkpoint.
    durable: BTreeMap<PageId, u64>,
    /// The checkpoint in progress: its epoch, and what each page held at its cut.
    cut: Option<(Epoch, BTreeMap<PageId, u64>)>,
    holds: Vec<Hold<'a, MemoryStore>>,
    failing: bool,
}

impl<'a> Model<'a> {
    fn some_page(&mut self) -> Option<PageId> {
        if self.truth.is_empty() {
            return None;
        }
        let which = self.random.random_range(0..self.truth.len());
        self.truth.keys().nth(which).copied()
    }

    /// Loads the page, or says that reads or writes are made to fail.
    fn load(&mut self, page: PageId) -> Option<Hold<'a, MemoryStore>> {
        match self.pool.load(page) {
            Ok(hold) => Some(hold),
            Err(LoadError::Store(MemoryError::Injected) | LoadError::WriteBack(_)) if self.failing => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&mut self, page: PageId) {
        let Some(_hold) = self.load(page) else { return };
        let mut frames = match self.pool.reserve(1) {
            Ok(frames) => frames,
            Err(ReserveError::WriteBack(_)) if self.failing => return,
            Err(error) => panic!("{error}"),
        };
        let mut guard = self.pool.exclusive(page, &mut frames).expect("it is held");
        assert_eq!(version_of(page, guard.bytes()), self.truth[&page]);
        self.version += 1;
        stamp(&mut guard, page, self.version);
        self.truth.insert(page, self.version);
    }

    fn create(&mut self) {
        let mut frames = match self.pool.reserve(2) {
            Ok(frames) => frames,
            Err(ReserveError::WriteBack(_)) if self.failing => return,
            Err(error) => panic!("{error}"),
        };
        let mut guard = self.pool.create(&mut frames);
        let page = guard.page();
        assert!(guard.bytes().iter().all(|&byte| byte == 0), "a new page is zero");
        self.version += 1;
        stamp(&mut guard, page, self.version);
        assert_eq!(self.truth.insert(page, self.version), None);
    }

    fn free(&mut self, page: PageId) {
        if self.random.random() {
            match self.pool.discard(page) {
                Ok(()) => {}
                Err(Miss::NotResident(_)) => return,
                Err(miss) => panic!("{miss:?}"),
            }
        } else {
            let Some(_hold) = self.load(page) else { return };
            let Ok(mut frames) = self.pool.reserve(1) else { return };
            let guard = self.pool.exclusive(page, &mut frames).expect("it is held");
            self.pool.free(guard);
        }
        self.truth.remove(&page);
        assert_eq!(self.pool.shared(page).err(), Some(Miss::NotAllocated(page)));
        assert!(matches!(self.pool.load(page), Err(LoadError::NotAllocated(_))));
    }

    fn read(&mut self, page: PageId) {
        if self.random.random() {
            let Some(_hold) = self.load(page) else { return };
            assert!(self.pool.shared(page).is_ok(), "a held page stays");
        }
        if let Ok(look) = self.pool.optimistic(page) {
            let mut bytes = vec![0; self.pool.page_size()];
            assert!(look.view().copy_to(0, &mut bytes) && look.validate());
            assert_eq!(version_of(page, &bytes), self.truth[&page]);
        }
        if let Ok(guard) = self.pool.shared(page) {
            assert_eq!(version_of(page, guard.bytes()), self.truth[&page]);
        }
    }

    fn step(&mut self) {
        let dice = self.random.random_range(0..100);
        let page = self.some_page();
        match (dice, page) {
            (0..10, _) if self.truth.len() < PAGES => self.create(),
            (10..40, Some(page)) => self.write(page),
            (40..46, Some(page)) => self.free(page),
            (46..60, Some(page)) => self.read(page),
            (60..66, Some(_)) => {
                let pages: Vec<_> = (0..4).filter_map(|_| self.some_page()).collect();
                if self.random.random() {
                    self.pool.prefetch(&pages);
                } else {
                    self.pool.bring(&pages);
                }
            }
            (66..74, _) => drop(self.pool.store().complete()),
            (74..80, _) => drop(self.pool.maintain()),
            (80..84, Some(page)) if self.holds.len() < 3 => {
                let hold = self.load(page);
                self.holds.extend(hold);
            }
            (84..90, _) if !self.holds.is_empty() => {
                let which = self.random.random_range(0..self.holds.len());
                self.holds.swap_remove(which);
            }
            (90..92, _) if self.cut.is_none() => {
                let fail = self.random.random_bool(0.3);
                self.failing |= fail;
                self.pool.store().fail_writes(fail);
            }
            (92..93, _) => {
                let fail = self.random.random_bool(0.5);
                self.failing |= fail;
                self.pool.store().fail_reads(fail);
            }
            _ => {}
        }
        self.check();
    }

    fn check(&mut self) {
        let durable = self.pool.store().durable_pages().expect("every durable block holds its page");
        let found: BTreeMap<_, _> = durable.iter().map(|(&page, bytes)| (page, version_of(page, bytes))).collect();
        assert_eq!(found, self.durable, "the durable checkpoint");
        for page in (0..self.pool.store().page_ids()).map(PageId) {
            if let Ok(guard) = self.pool.shared(page) {
                assert_eq!(Some(&version_of(page, guard.bytes())), self.truth.get(&page));
            }
        }
    }
}

/// Runs other operations before each of a checkpoint's writes.
struct Interleave<'a, 'b>(&'b RefCell<Model<'a>>);

impl Pace for Interleave<'_, '_> {
    fn before_write(&self, _so_far: CheckpointProgress) -> usize {
        let mut model = self.0.borrow_mut();
        for _ in 0..model.random.random_range(0..12) {
            model.step();
        }
        model.random.random_range(0..4)
    }
}

fn checkpoint(model: &RefCell<Model<'_>>, give_up: f64) {
    let pool = model.borrow().pool;
    let last = pool.turn();
    {
        let mut model = model.borrow_mut();
        let truth = model.truth.clone();
        model.cut = Some((last, truth));
        for _ in 0..model.random.random_range(0..20) {
            model.step();
        }
    }
    let written = pool.write_epoch(last, &Interleave(model));
    let mut model = model.borrow_mut();
    for _ in 0..model.random.random_range(0..8) {
        model.step();
    }
    let (_, truth) = model.cut.take().expect("a checkpoint is in progress");
    if let Err(error) = &written {
        assert!(model.failing, "{error}");
    }
    if written.is_ok() && !model.random.random_bool(give_up) {
        pool.store().finish_checkpoint(last);
        model.durable = truth;
    } else {
        pool.merge_epoch(last);
        pool.store().merge(last, pool.epoch());
    }
    model.check();
}

/// With everything written and nothing changed, the only blocks in use are those of the durable checkpoint.
fn settle(model: &RefCell<Model<'_>>) {
    {
        let mut model = model.borrow_mut();
        let model = &mut *model;
        model.holds.clear();
        model.failing = false;
        model.pool.store().fail_writes(false);
        model.pool.store().fail_reads(false);
        if model.pool.write_error().is_some() {
            let last = model.pool.turn();
            model.pool.merge_epoch(last);
            model.pool.store().merge(last, model.pool.epoch());
        }
        while model.pool.store().complete() {}
    }
    let pool = model.borrow().pool;
    for _ in 0..2 {
        let last = pool.turn();
        pool.write_epoch(last, &ashlar_bufferpool::Unpaced).expect("nothing fails any more");
        pool.store().finish_checkpoint(last);
    }
    let mut model = model.borrow_mut();
    model.durable = model.truth.clone();
    model.check();
    assert_eq!(pool.store().leaked_blocks(), [], "blocks that nothing refers to, or that are missing");
    let stats = pool.stats();
    assert_eq!((stats.frames_unclean, stats.frames_reserved, stats.in_flight), (0, 0, 0), "{stats:?}");
    for (&page, &version) in &model.truth {
        let _hold = pool.load(page).expect("it is there");
        assert_eq!(version_of(page, pool.shared(page).expect("it is held").bytes()), version);
    }
    let _all = pool.reserve(pool.reservation_max()).expect("all frames can be had again");
}

fn run(seed: u64, steps: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let options = MemoryOptions {
        deferred: random.random(),
        seed,
        blocks: if random.random_bool(0.2) { 16 + 2 * PAGES as u64 } else { 1 << 20 },
        ..Default::default()
    };
    let pool_options = PoolOptions { page_size: 4096, frames: 16, pages_max: 1 << 20, page_ids: 0 };
    let pool = Pool::new(pool_options, MemoryStore::new(options)).expect("a small pool");
    let failing = options.blocks < 1 << 20;
    let model = RefCell::new(Model {
        pool: &pool,
        random,
        version: 0,
        truth: BTreeMap::new(),
        durable: BTreeMap::new(),
        cut: None,
        holds: Vec::new(),
        failing,
    });
    for _ in 0..steps {
        let cut = model.borrow_mut().random.random_bool(0.03);
        if cut {
            checkpoint(&model, 0.2);
        } else {
            model.borrow_mut().step();
        }
    }
    settle(&model);
}

#[test]
fn random_histories_keep_every_page_and_every_checkpoint() {
    let first = std::env::var("POOL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..400, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed, 400));
        assert!(outcome.is_ok(), "seed {seed}: repeat it with POOL_SEED={seed}");
    }
}
