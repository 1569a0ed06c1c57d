//! A page store in memory, for tests of the pool and of what stands above it.
//!
//! It keeps blocks, the durable map, each epoch's delta and the blocks that wait for a checkpoint, by the rules that
//! [`PageStore`] states, and checks them: an image is written only to free blocks, a durable block is never written, a page
//! reads as it was written. Reads and writes complete at once, or when told ([`MemoryOptions::deferred`]), in an order drawn
//! from a seed; any of them can be made to fail.

use crate::block_ptr::BlockPtr;
use crate::page_id::{Epoch, PageId};
use crate::store::{Fate, Located, PageRead, PageStore, WriteBatch, WriteOrder};
use crate::view::PageView;
use ashlar_disk::sync::{Condvar, Mutex};
use ashlar_disk::words::{self, Words};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
    fence,
};

/// How a [`MemoryStore`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct MemoryOptions {
    /// Size of a page in bytes; each image takes one block of the store.
    pub page_size: usize,
    /// Reads that are submitted, and writes, stay in flight until somebody waits or calls [`MemoryStore::complete`].
    pub deferred: bool,
    /// Draws the order of completions and of block addresses.
    pub seed: u64,
    /// How many blocks there are; a write that finds too few fails with [`MemoryError::NoSpace`].
    pub blocks: u64,
}

impl Default for MemoryOptions {
    fn default() -> MemoryOptions {
        MemoryOptions { page_size: 4096, deferred: false, seed: 0, blocks: 1 << 30 }
    }
}

/// What can go wrong in a [`MemoryStore`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum MemoryError {
    #[error("a failure that the test asked for")]
    Injected,
    #[error("no space left in the store")]
    NoSpace,
    #[error("{page} is not at {at}: {found}")]
    Corrupted { page: PageId, at: BlockPtr, found: String },
}

/// Pages in memory, as if on disk.
pub struct MemoryStore {
    options: MemoryOptions,
    state: Mutex<State>,
    changed: Condvar,
    fail_reads: AtomicBool,
    fail_writes: AtomicBool,
}

#[derive(Default)]
struct State {
    random: u64,
    blocks: BTreeMap<u64, Block>,
    free: BTreeSet<u64>,
    next_block: u64,
    /// Blocks that a write in flight goes to.
    writing: BTreeSet<u64>,
    birth: BTreeMap<u64, Epoch>,
    durable: BTreeMap<PageId, BlockPtr>,
    durable_blocks: BTreeSet<u64>,
    deltas: BTreeMap<Epoch, BTreeMap<PageId, Option<BlockPtr>>>,
    /// Blocks that are free once the checkpoint of the epoch is durable.
    waiting: BTreeMap<Epoch, Vec<BlockPtr>>,
    free_ids: Vec<PageId>,
    next_id: u64,
    in_flight: Vec<Transfer>,
    /// Completions so far.
    completed: u64,
}

struct Block {
    page: PageId,
    bytes: Box<[u8]>,
}

enum Transfer {
    Read(PageRead<MemoryError>),
    Write(WriteBatch<MemoryError>, Result<Vec<BlockPtr>, MemoryError>),
}

impl MemoryStore {
    /// An empty store.
    pub fn new(options: MemoryOptions) -> MemoryStore {
        let state = State { random: options.seed, next_block: BlockPtr::ADDRESS_MIN, ..State::default() };
        MemoryStore {
            options,
            state: Mutex::new(state),
            changed: Condvar::new(),
            fail_reads: AtomicBool::new(false),
            fail_writes: AtomicBool::new(false),
        }
    }

    /// Whether reads fail from now on.
    pub fn fail_reads(&self, fail: bool) {
        self.fail_reads.store(fail, Release);
    }

    /// Whether writes fail from now on.
    pub fn fail_writes(&self, fail: bool) {
        self.fail_writes.store(fail, Release);
    }

    /// How many reads and writes are in flight.
    pub fn in_flight(&self) -> usize {
        self.state.lock().in_flight.len()
    }

    /// Completes one of the transfers in flight. False where there is none.
    pub fn complete(&self) -> bool {
        let transfer = {
            let mut state = self.state.lock();
            if state.in_flight.is_empty() {
                return false;
            }
            let count = state.in_flight.len() as u64;
            let which = state.draw(count) as usize;
            state.in_flight.swap_remove(which)
        };
        self.run(transfer);
        self.state.lock().completed += 1;
        self.changed.notify_all();
        true
    }

    /// The checkpoint of `epoch` becomes durable: its delta enters the map, and what waited for it is free.
    pub fn finish_checkpoint(&self, epoch: Epoch) {
        let mut state = self.state.lock();
        for (page, at) in state.deltas.remove(&epoch).unwrap_or_default() {
            let before = match at {
                Some(at) => {
                    state.durable_blocks.insert(at.address());
                    state.durable.insert(page, at)
                }
                None => state.durable.remove(&page),
            };
            if let Some(before) = before {
                state.durable_blocks.remove(&before.address());
            }
        }
        for at in state.waiting.remove(&epoch).unwrap_or_default() {
            state.release(at);
        }
    }

    /// The checkpoint of `epoch` is given up: what it has goes to epoch `into`, whose own entries win.
    pub fn merge(&self, epoch: Epoch, into: Epoch) {
        let mut state = self.state.lock();
        let older = state.deltas.remove(&epoch).unwrap_or_default();
        let delta = state.deltas.entry(into).or_default();
        for (page, at) in older {
            delta.entry(page).or_insert(at);
        }
        let older = state.waiting.remove(&epoch).unwrap_or_default();
        state.waiting.entry(into).or_default().extend(older);
    }

    /// What the last durable checkpoint holds: each page's bytes. Fails where a block of it does not hold the page.
    pub fn durable_pages(&self) -> Result<BTreeMap<PageId, Vec<u8>>, MemoryError> {
        let state = self.state.lock();
        let mut pages = BTreeMap::new();
        for (&page, &at) in &state.durable {
            pages.insert(page, state.block(page, at)?.to_vec());
        }
        Ok(pages)
    }

    /// Whether the blocks in use are just those that the last durable checkpoint refers to: so it must be when all has been
    /// written and nothing has changed since. The difference otherwise.
    pub fn leaked_blocks(&self) -> Vec<u64> {
        let state = self.state.lock();
        let used = state.blocks.keys().copied().filter(|address| !state.free.contains(address));
        used.collect::<BTreeSet<_>>().symmetric_difference(&state.durable_blocks).copied().collect()
    }

    /// A new store on what would survive if the machine stopped now: the last durable checkpoint.
    pub fn reopened(&self) -> MemoryStore {
        let old = self.state.lock();
        let store = MemoryStore::new(self.options);
        {
            let mut state = store.state.lock();
            state.next_block = old.next_block;
            state.durable = old.durable.clone();
            state.durable_blocks = old.durable_blocks.clone();
            state.next_id = old.durable.keys().next_back().map_or(0, |page| page.0 + 1);
            for (&page, at) in &old.durable {
                if let Some(block) = old.blocks.get(&at.address()) {
                    let bytes = block.bytes.clone();
                    state.blocks.insert(at.address(), Block { page, bytes });
                }
            }
            let used: BTreeSet<u64> = state.durable.keys().map(|page| page.0).collect();
            state.free_ids = (0..state.next_id).filter(|id| !used.contains(id)).map(PageId).collect();
        }
        store
    }

    /// Page ids that were ever given out are below this.
    pub fn page_ids(&self) -> u64 {
        self.state.lock().next_id
    }

    fn run(&self, transfer: Transfer) {
        match transfer {
            Transfer::Read(read) => {
                let result = self.read(read.page, read.at, read.frame.words());
                // Before `done`, so that the frame is nobody's but the pool's from then on.
                drop(read.frame);
                (read.done)(result);
            }
            Transfer::Write(batch, outcome) => {
                let mut state = self.state.lock();
                for (image, at) in batch.images.iter().zip(outcome.iter().flatten()) {
                    state.writing.remove(&at.address());
                    let bytes = batch.staging[image.offset..image.offset + image.len].into();
                    state.blocks.insert(at.address(), Block { page: image.page, bytes });
                }
                drop(state);
                (batch.done)(outcome, batch.staging);
            }
        }
    }

    fn start(&self, transfers: Vec<Transfer>) {
        if self.options.deferred {
            self.state.lock().in_flight.extend(transfers);
            self.changed.notify_all();
        } else {
            transfers.into_iter().for_each(|transfer| self.run(transfer));
        }
    }

    /// Pointers to blocks for the batch's images.
    fn allocate(&self, batch: &WriteBatch<MemoryError>) -> Result<Vec<BlockPtr>, MemoryError> {
        if self.fail_writes.load(Acquire) {
            return Err(MemoryError::Injected);
        }
        let mut state = self.state.lock();
        let mut pointers = Vec::new();
        for image in &batch.images {
            let bytes = &batch.staging[image.offset..image.offset + image.len];
            let Some(address) = state.allocate(self.options.blocks) else {
                pointers.into_iter().for_each(|at: BlockPtr| state.take_back(at));
                return Err(MemoryError::NoSpace);
            };
            pointers.extend(BlockPtr::new(address, 1, checksum(bytes)));
        }
        Ok(pointers)
    }
}

impl PageStore for MemoryStore {
    type Error = MemoryError;

    fn locate(&self, page: PageId) -> Located {
        self.state.lock().durable.get(&page).map_or(Located::NotAllocated, |&at| Located::At(at))
    }

    fn new_page_id(&self) -> PageId {
        let mut state = self.state.lock();
        state.free_ids.pop().unwrap_or_else(|| {
            state.next_id += 1;
            PageId(state.next_id - 1)
        })
    }

    fn read(&self, page: PageId, at: BlockPtr, frame: &Words) -> Result<(), MemoryError> {
        if self.fail_reads.load(Acquire) {
            return Err(MemoryError::Injected);
        }
        let state = self.state.lock();
        let bytes = state.block(page, at)?;
        // Release: see `PageRead::frame`.
        fence(Release);
        words::copy_in(frame, 0, bytes);
        Ok(())
    }

    fn submit_reads(&self, reads: Vec<PageRead<MemoryError>>) {
        self.start(reads.into_iter().map(Transfer::Read).collect());
    }

    fn wait(&self, until: &dyn Fn() -> bool) {
        loop {
            let before = self.state.lock().completed;
            if until() {
                return;
            }
            if self.complete() {
                continue;
            }
            let mut state = self.state.lock();
            if state.in_flight.is_empty() && state.completed == before {
                self.changed.wait(&mut state);
            }
        }
    }

    fn order(&self, page: PageView<'_>) -> WriteOrder {
        (page.u64(16), u128::from(page.u64(8)))
    }

    fn pack(&self, _page: PageId, view: PageView<'_>, out: &mut [u8]) -> usize {
        let copied = view.copy_to(0, out);
        assert!(copied, "room for exactly a page");
        out.len()
    }

    fn write(&self, batch: WriteBatch<MemoryError>) {
        let outcome = self.allocate(&batch);
        match outcome {
            // What can't even be started has failed before anybody could wait for it.
            Err(error) => (batch.done)(Err(error), batch.staging),
            outcome => self.start(vec![Transfer::Write(batch, outcome)]),
        }
    }

    fn record(&self, page: PageId, epoch: Epoch, at: BlockPtr, fate: Fate) {
        let mut state = self.state.lock();
        state.birth.insert(at.address(), epoch);
        match fate {
            Fate::SupersededInEpoch => return state.release(at),
            Fate::SupersededIn(later) => state.waiting.entry(later).or_default().push(at),
            Fate::Current => {}
        }
        state.deltas.entry(epoch).or_default().insert(page, Some(at));
    }

    fn superseded(&self, _page: PageId, at: BlockPtr, epoch: Epoch) {
        let mut state = self.state.lock();
        if state.birth.get(&at.address()) == Some(&epoch) {
            state.release(at);
        } else {
            state.waiting.entry(epoch).or_default().push(at);
        }
    }

    fn freed(&self, page: PageId, epoch: Epoch) {
        let mut state = self.state.lock();
        state.deltas.entry(epoch).or_default().insert(page, None);
        state.free_ids.push(page);
    }

    fn retired(&self, page: PageId, epoch: Epoch) {
        self.state.lock().deltas.entry(epoch).or_default().insert(page, None);
    }
}

impl State {
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn allocate(&mut self, blocks: u64) -> Option<u64> {
        let address = if self.free.is_empty() || self.next_block < blocks && self.draw(4) == 0 {
            if self.next_block >= blocks {
                return None;
            }
            self.next_block += 1;
            self.next_block - 1
        } else {
            let from = self.draw(self.next_block);
            *self.free.range(from..).next().or_else(|| self.free.first())?
        };
        self.free.remove(&address);
        self.blocks.remove(&address);
        assert!(!self.durable_blocks.contains(&address), "block {address} of the durable checkpoint is overwritten");
        assert!(self.writing.insert(address), "two writes to block {address}");
        Some(address)
    }

    /// A block that was allocated, and will not be written after all.
    fn take_back(&mut self, at: BlockPtr) {
        self.writing.remove(&at.address());
        self.free.insert(at.address());
    }

    fn release(&mut self, at: BlockPtr) {
        let address = at.address();
        assert!(!self.durable_blocks.contains(&address), "block {address} of the durable checkpoint is freed");
        assert!(!self.writing.contains(&address), "block {address} is freed while it is being written");
        assert!(self.free.insert(address), "block {address} is freed twice");
        self.birth.remove(&address);
    }

    fn block(&self, page: PageId, at: BlockPtr) -> Result<&[u8], MemoryError> {
        let wrong = |found: &str| MemoryError::Corrupted { page, at, found: found.to_owned() };
        if self.free.contains(&at.address()) {
            return Err(wrong("the block is free"));
        }
        let block = self.blocks.get(&at.address()).ok_or_else(|| wrong("the block was never written"))?;
        if block.page != page {
            return Err(wrong(&format!("the block holds {}", block.page)));
        }
        if checksum(&block.bytes) & BlockPtr::CRC_MASK != at.crc() {
            return Err(wrong("the block holds another image of it"));
        }
        Ok(&block.bytes)
    }
}

/// FNV-1a, a word at a time.
fn checksum(bytes: &[u8]) -> u32 {
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let hash = bytes.chunks(8).fold(0xCBF2_9CE4_8422_2325u64, |hash, chunk| (hash ^ word(chunk)).wrapping_mul(0x0100_0000_01B3));
    (hash ^ hash >> 32) as u32
}
