//! The store: where every page stands on disk, now and in the next checkpoint.
//!
//! It is what the buffer pool reads from and writes to ([`PageStore`](ashlar_bufferpool::PageStore)), and what a checkpoint turns into a page map and a
//! superblock. It knows pages as images with a header and a checksum, not what they hold.
//!
//! Invariants (the design calls them "what an epoch owns"):
//! 1. Each epoch has a *delta*: page id → block pointer, or freed. The page map of a checkpoint is the previous one and its
//!    epoch's delta. The page table is never asked: its slots may already be an epoch ahead.
//! 2. An image enters the delta of the epoch in which its page became dirty, when its write has completed, whoever wrote it.
//! 3. A block superseded in the epoch its image belongs to is free at once (a blob's or bulk-loaded page's is not: the log names
//!    it; nor, for simplicity, any that enters the delta of an epoch with a bulk load). Superseded in
//!    a later epoch `e`, or a blob's, it is free when checkpoint `e` is durable, superblock and mirror.
//! 4. The tail of the file beyond what the space map knows is never used; growth is durable before it is, and what is cut off is
//!    out of the space map before it is.

pub mod page_header;
pub mod page_map;
pub mod space;
pub mod superblock;

mod blobs;
mod checkpoint;
mod evacuate;
mod grow;
mod held;
mod ids;
mod map_reads;
mod pages;
mod reads;
mod retired;
mod shrink;
mod sync;

pub(crate) use grow::{Draw, Promise};
pub use page_map::PageMap;
pub(crate) use shrink::{ShrinkError, ShrinkTo};
pub use space::{Extent, Space};
pub use superblock::Superblock;

use crate::blob::Cache;
use crate::error::{Corruption, Error, Result};
use crate::fault::Fault;
use crate::flight::Flight;
use ashlar_bufferpool::{BlockPtr, Epoch, PageId};
use ashlar_disk::sync::Mutex;
use ashlar_disk::{BlockSize, File, Queue, Spares};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What an epoch changes in the page map.
pub(crate) type Delta = BTreeMap<PageId, Option<BlockPtr>>;

/// The pages of one database.
#[derive(Debug)]
pub struct Store {
    file: Arc<dyn File>,
    queue: Arc<dyn Queue>,
    block: BlockSize,
    page_size: usize,
    /// The next write number: the incarnation in the high 24 bits, then a count.
    write_number: AtomicU64,
    /// How much the file grows at least, in bytes.
    grow_step: u64,
    /// Nothing is written: what is dirty stays in memory.
    read_only: bool,
    /// A read of several pages has failed: each is read by itself.
    reads_alone: Arc<AtomicBool>,
    inner: Mutex<Inner>,
    /// Held by whoever changes the file's length.
    growing: Mutex<()>,
    /// Held by whoever compacts.
    pub(crate) compacting: Mutex<()>,
    /// Held by whoever takes page ids that the pool does not ask for.
    pub(crate) giving_ids: Mutex<()>,
    on_failed_sync: sync::Listener,
    fault: Fault,
    /// Memory of large transfers that serves again.
    spares: Arc<Spares>,
    /// Large values that were read.
    blob_cache: Cache,
    pub(crate) counters: Counters,
}

/// What changes under the store's lock.
#[derive(Debug)]
struct Inner {
    space: Space,
    map: PageMap,
    deltas: BTreeMap<Epoch, Delta>,
    ids: ids::PageIds,
    retired: retired::Retired,
    held: held::Held,
    /// Units that commits under way have been promised.
    promised: u64,
    /// Units that were not needed at any time since the last checkpoint.
    least_spare: u64,
    /// Epochs, not yet durable, in which a bulk load was applied: the log names blocks of pages that then entered the delta.
    loaded_in: BTreeSet<Epoch>,
    /// Recovery: runs of blobs that the log names and that no leaf holds yet.
    logged_runs: BTreeMap<PageId, BlockPtr>,
    /// Compacting: the next checkpoint moves nodes of the map that stand behind this block.
    move_nodes_behind: Option<u64>,
}

/// Bytes and operations since the open.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) pages_read: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) pages_written: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) grown: AtomicU64,
    pub(crate) shrunk: AtomicU64,
}

/// What a store is made of.
pub(crate) struct StoreParts {
    pub(crate) file: Arc<dyn File>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) block: BlockSize,
    pub(crate) page_size: usize,
    pub(crate) incarnation: u32,
    pub(crate) grow_step: u64,
    pub(crate) read_only: bool,
    pub(crate) fault: Fault,
    pub(crate) spares: Arc<Spares>,
    pub(crate) blob_cache: Cache,
}

/// A summary of blocks and pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceUse {
    /// Bytes of `data`.
    pub file: u64,
    /// Bytes nothing refers to.
    pub free: u64,
    /// Bytes that wait for a checkpoint to become free.
    pub waiting: u64,
    /// Pages ever given an id, less those free again.
    pub pages: u64,
}

impl Store {
    /// A store over the pages of `superblock`: reads the page map whole and finds the free blocks.
    pub(crate) fn open(parts: StoreParts, superblock: &Superblock) -> Result<Store> {
        Store::open_with(parts, superblock, &mut Err)
    }

    /// The same, telling `complain` of all that is wrong with the map. Where that gives an error, opening ends with it; else the store
    /// has as much of the map as is whole, for reading only: nothing is known of free blocks then.
    fn open_with(parts: StoreParts, superblock: &Superblock, complain: &mut dyn FnMut(Error) -> Result<()>) -> Result<Store> {
        let total = parts.file.len()? / parts.block.bytes() as u64;
        let unit = (parts.page_size / parts.block.bytes()) as u64;
        let map = PageMap::read(parts.page_size, superblock.map_root, superblock.map_height, |level, nodes, found| {
            map_reads::read_nodes(&parts, total, level, nodes, complain, found)
        })?;
        let reserved = superblock::RESERVED_BYTES / parts.block.bytes() as u64;
        let mut space = Space::new(total, unit);
        if total > reserved {
            space.release(Extent { start: reserved, len: total - reserved });
        }
        claim_all(&parts, &mut space, &map, complain)?;
        space.set_reuse_early(parts.fault.is(Fault::ReuseEarly));
        let free_ids = free_ids(&map, superblock.next_page_id, complain)?;
        Ok(Store {
            write_number: AtomicU64::new(u64::from(parts.incarnation) << 40),
            inner: Mutex::new(Inner {
                space,
                map,
                deltas: BTreeMap::new(),
                ids: ids::PageIds::new(superblock.next_page_id, free_ids),
                retired: retired::Retired::default(),
                held: held::Held::new(),
                promised: 0,
                least_spare: u64::MAX,
                loaded_in: BTreeSet::new(),
                logged_runs: BTreeMap::new(),
                move_nodes_behind: None,
            }),
            growing: Mutex::new(()),
            compacting: Mutex::new(()),
            giving_ids: Mutex::new(()),
            on_failed_sync: sync::Listener::default(),
            fault: parts.fault,
            spares: parts.spares,
            blob_cache: parts.blob_cache,
            file: parts.file,
            queue: parts.queue,
            block: parts.block,
            page_size: parts.page_size,
            grow_step: parts.grow_step,
            read_only: parts.read_only,
            reads_alone: Arc::default(),
            counters: Counters::default(),
        })
    }

    /// Another store over the same file, of the checkpoint that `superblock` is of: for reading only.
    pub(crate) fn reopen(&self, superblock: &Superblock) -> Result<Store> {
        self.reopen_with(superblock, &mut Err)
    }

    /// The same, telling `complain` of all that is wrong with the map, and going on where that gives no error.
    pub(crate) fn reopen_with(&self, superblock: &Superblock, complain: &mut dyn FnMut(Error) -> Result<()>) -> Result<Store> {
        let parts = StoreParts {
            file: self.file.clone(),
            queue: self.queue.clone(),
            block: self.block,
            page_size: self.page_size,
            incarnation: 0,
            grow_step: self.grow_step,
            read_only: true,
            fault: Fault::None,
            spares: self.spares.clone(),
            blob_cache: Cache::new(Some(0)),
        };
        Store::open_with(parts, superblock, complain)
    }

    /// The page ids that the last checkpoint's map names.
    pub(crate) fn checkpoint_pages(&self) -> Vec<PageId> {
        self.inner.lock().map.pages().map(|(page, _)| page).collect()
    }

    /// How many nodes the page map has on disk, and how many bytes they take there.
    pub(crate) fn map_nodes(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        let sizes = inner.map.nodes().map(|(_, _, at)| u64::from(at.blocks()) * self.block.bytes() as u64);
        sizes.fold((0, 0), |(nodes, bytes), size| (nodes + 1, bytes + size))
    }

    /// The unit of the file.
    pub fn block(&self) -> BlockSize {
        self.block
    }

    /// The size of a page in bytes.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// The file `data`.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The queue of transfers.
    pub(crate) fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// Transfers of one operation on the file.
    pub(crate) fn flight(&self) -> Flight {
        Flight::new(self.queue.clone(), self.file.clone())
    }

    /// Memory for large transfers.
    pub(crate) fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// Large values that were read.
    pub(crate) fn blob_cache(&self) -> &Cache {
        &self.blob_cache
    }

    /// How the file is used.
    pub fn space_use(&self) -> SpaceUse {
        let inner = self.inner.lock();
        let bytes = self.block.bytes() as u64;
        SpaceUse {
            file: inner.space.total() * bytes,
            free: inner.space.free_blocks() * bytes,
            waiting: inner.space.waiting_blocks() * bytes,
            pages: inner.ids.next() - inner.ids.free(),
        }
    }

    /// Blocks that wait for a checkpoint, and blocks of the file.
    pub(crate) fn waiting_and_total(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        // What waits for somebody who reads an older checkpoint no new one sets free.
        let held_back = inner.held.holds_back().map_or(0, |durable| inner.space.waiting_up_to(durable));
        (inner.space.waiting_blocks() - held_back, inner.space.total())
    }

    fn next_write_number(&self) -> u64 {
        self.write_number.fetch_add(1, Relaxed) + 1
    }

    fn byte_offset(&self, address: u64) -> u64 {
        address * self.block.bytes() as u64
    }

    /// An error that names file, block and page.
    fn image_error(&self, kind: &str, page: u64, at: BlockPtr, fault: &page_header::ImageFault) -> Error {
        Corruption::image(self.file.path(), kind, page, at.address(), fault).into()
    }
}

/// Claims every block the map names. A block with two owners, or outside the file, is damage.
fn claim_all(parts: &StoreParts, space: &mut Space, map: &PageMap, complain: &mut dyn FnMut(Error) -> Result<()>) -> Result<()> {
    let owned_twice = |owner: String, at: BlockPtr| Corruption {
        place: format!("{}, block {}, {owner}", parts.file.path().display(), at.address()),
        page: None,
        block: Some(at.address()),
        tree: None,
        what: "the page map gives these blocks a second owner, or they lie outside the file".into(),
    };
    for (level, index, at) in map.nodes() {
        if !space.claim(page_map::extent(at)) {
            complain(owned_twice(format!("page-map node {index} of level {level}"), at).into())?;
        }
    }
    for (page, at) in map.pages() {
        if !space.claim(page_map::extent(at)) {
            complain(owned_twice(format!("page {}", page.0), at).into())?;
        }
    }
    Ok(())
}

/// The ids below `next` that the map does not name, highest first (so that the lowest is used first).
fn free_ids(map: &PageMap, next: u64, complain: &mut dyn FnMut(Error) -> Result<()>) -> Result<Vec<u64>> {
    let mut free = Vec::new();
    let mut expected = 0;
    for (page, _) in map.pages() {
        if page.0 >= next {
            let what = format!("the page map names it, but ids are given out up to {next} only");
            complain(Corruption::page(page.0, None, what).into())?;
            break;
        }
        free.extend(expected..page.0);
        expected = page.0 + 1;
    }
    let rest = next - expected;
    if usize::try_from(rest).is_err() || free.try_reserve_exact(rest as usize).is_err() {
        let what = format!("{next} page ids are said to have been given out: more than memory can hold");
        return Err(Corruption { place: "superblock of data".into(), page: None, block: Some(0), tree: None, what }.into());
    }
    free.extend(expected..next);
    free.reverse();
    Ok(free)
}
