//! What the tests of this module share: keys that are hard on a page, and values that tell whether they are whole.

use super::{Stop, limits};
use ashlar_bufferpool::testing::{MemoryError, MemoryOptions, MemoryStore};
use ashlar_bufferpool::{
    BlockPtr, Epoch, Fate, LoadError, Located, PageId, PageRead, PageStore, PageView, Pool, PoolOptions, Unpaced, WriteBatch,
    WriteOrder,
};
use ashlar_disk::words::Words;
use rand::{Rng, RngExt};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A key out of one of several families: short, empty, long shared prefixes, runs of 0xFF and of zeros, the longest there is.
pub(crate) fn random_key(random: &mut impl Rng, key_max: usize) -> Vec<u8> {
    let len = match random.random_range(0..20) {
        0 => 0,
        1..8 => random.random_range(0..6),
        8..18 => random.random_range(0..40),
        18 => random.random_range(0..=key_max),
        _ => key_max,
    };
    let mut key = match random.random_range(0..4) {
        0 => vec![0xFF; len],
        1 => vec![0; len],
        2 => b"a long shared prefix that many of the keys have, ".iter().copied().cycle().take(len).collect(),
        _ => vec![b'k'; len],
    };
    for _ in 0..random.random_range(0..3) {
        if let Some(at) = len.checked_sub(random.random_range(1..=4)) {
            key[at] = [0, 1, b'a', b'b', 0x7F, 0x80, 0xFE, 0xFF][random.random_range(0..8)];
        }
    }
    if random.random_range(0..3) == 0 && len > 0 {
        let at = random.random_range(0..len);
        key[at] = random.random();
    }
    key
}

/// A value that may stand beside `key`, mostly short.
pub(crate) fn random_value(random: &mut impl Rng, key: &[u8], page_size: usize) -> (u8, Vec<u8>) {
    let max = limits(page_size).inline_value_max(key.len());
    let len = match random.random_range(0..10) {
        0 => 0,
        1..9 => random.random_range(0..100.min(max + 1)),
        _ => random.random_range(0..=max),
    };
    (random.random_range(0..3), (0..len).map(|_| random.random()).collect())
}

/// A store that knows how many pages there are.
pub(crate) struct CountingStore {
    pub(crate) memory: MemoryStore,
    pages: AtomicUsize,
}

pub(crate) type TestPool = Pool<CountingStore>;

pub(crate) fn small_pool(page_size: usize, frames: u32) -> TestPool {
    let memory = MemoryStore::new(MemoryOptions { page_size, ..MemoryOptions::default() });
    let store = CountingStore { memory, pages: AtomicUsize::new(0) };
    Pool::new(PoolOptions { page_size, frames, pages_max: 1 << 30, page_ids: 0 }, store).unwrap()
}

pub(crate) fn page_count(pool: &TestPool) -> usize {
    pool.store().pages.load(Relaxed)
}

/// A checkpoint: what is dirty is frozen, and written.
pub(crate) fn checkpoint(pool: &TestPool) {
    let epoch = pool.turn();
    pool.write_epoch(epoch, &Unpaced).unwrap();
    pool.store().memory.finish_checkpoint(epoch);
}

/// Looks again until all pages are there, loading one after the other.
pub(crate) fn wait_for<T>(pool: &TestPool, mut look: impl FnMut() -> Result<T, Stop>) -> T {
    let mut holds = Vec::new();
    loop {
        match look() {
            Ok(found) => return found,
            Err(Stop::Missing(page)) => match pool.load(page) {
                Ok(hold) => holds.push(hold),
                // Freed since the look.
                Err(LoadError::NotAllocated(_)) => {}
                Err(error) => panic!("{error}"),
            },
            Err(Stop::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    }
}

impl PageStore for CountingStore {
    type Error = MemoryError;

    fn locate(&self, page: PageId) -> Located {
        self.memory.locate(page)
    }

    fn new_page_id(&self) -> PageId {
        self.pages.fetch_add(1, Relaxed);
        self.memory.new_page_id()
    }

    fn read(&self, page: PageId, at: BlockPtr, frame: &Words) -> Result<(), MemoryError> {
        self.memory.read(page, at, frame)
    }

    fn submit_reads(&self, reads: Vec<PageRead<MemoryError>>) {
        self.memory.submit_reads(reads);
    }

    fn wait(&self, until: &dyn Fn() -> bool) {
        self.memory.wait(until);
    }

    fn order(&self, page: PageView<'_>) -> WriteOrder {
        super::write_order(page)
    }

    /// Only what the header says is live reaches the disk.
    fn pack(&self, page: PageId, view: PageView<'_>, out: &mut [u8]) -> usize {
        let (lower, upper) = (view.u32(40) as usize, view.u32(44) as usize);
        let len = self.memory.pack(page, view, out);
        out[lower..upper].fill(0xEE);
        len
    }

    fn write(&self, batch: WriteBatch<MemoryError>) {
        self.memory.write(batch);
    }

    fn record(&self, page: PageId, epoch: Epoch, at: BlockPtr, fate: Fate) {
        self.memory.record(page, epoch, at, fate);
    }

    fn superseded(&self, page: PageId, at: BlockPtr, epoch: Epoch) {
        self.memory.superseded(page, at, epoch);
    }

    fn freed(&self, page: PageId, epoch: Epoch) {
        self.pages.fetch_sub(1, Relaxed);
        self.memory.freed(page, epoch);
    }

    fn retired(&self, page: PageId, epoch: Epoch) {
        self.memory.retired(page, epoch);
    }
}
