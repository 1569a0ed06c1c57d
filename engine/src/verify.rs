//! Verification: everything that the last durable checkpoint names, read from the device, around the pool of the database.
//!
//! 1. The four copies of the superblock (`superblocks`).
//! 2. The log from C on, as far as it is known to have been written; every commit in it decodes (`log`).
//! 3. The page map, whole; every block with one owner, those that the log names as well.
//! 4. Every tree of that checkpoint, page by page through a pool of verification's own: checksum, identity, kind, key order, fences,
//!    levels (`trees`); every value that stands elsewhere: overflow pages, blob runs and their checksums (`values`).
//! 5. What only the log names: large values and bulk loads beyond A.
//! 6. Every entry of the page map is reached from exactly one tree, value or dropped tree. What nothing reaches, since what names it
//!    can't be read, is checked on its own.
//! 7. The numbers of entries in the catalog, and the writes that it has beside the trees.
//!
//! A quick verification leaves out 4 to 7, all that needs a walk over trees.
//!
//! Invariants:
//! 1. 1 to 3 are read under the checkpoint's lock: superblock, map and log belong together. From there on the checkpoint is held: commits
//!    and checkpoints go on, and none of the blocks that are read is given out again.
//! 2. What is wrong ends nothing: it is a finding, and the rest is looked at. Only memory or threads that can't be had are errors.

mod log;
mod report;
mod superblocks;
mod trees;
mod values;

pub use report::{Depth, Finding, Progress, Report};

use crate::catalog::CATALOG_TREE;
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::recovery;
use crate::store::superblock::{self, Superblock};
use crate::store::{Store, page_map};
use ashlar_bufferpool::{Epoch, Located, PageId, PageStore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Frames of verification's own pool: it only passes through.
const FRAMES: u32 = 256;

/// Verifies the last durable checkpoint and the log, and tells `progress` about each page.
pub(crate) fn verify(shared: &Shared, depth: Depth, progress: &mut dyn FnMut(Progress)) -> Result<Report> {
    let state = shared.checkpoint.lock();
    let current = state.current.clone();
    let mut walk = Walk::new(shared, depth, &current, progress);
    walk.superblocks(&superblock::read_copies(&**shared.store().file(), current.block_size), &current);
    let logged = walk.log(shared, &current);
    let store = walk.store(shared, &current, &logged)?;
    if depth == Depth::Quick {
        return Ok(walk.report);
    }
    let _held = Hold::last(shared.store());
    drop(state);
    walk.tell();
    let pages: Vec<PageId> = store.checkpoint_pages().into_iter().chain(logged.placed.iter().map(|placed| placed.0)).collect();
    let pool = recovery::pool_over(store, FRAMES)?;
    if current.map_root.is_some() {
        walk.trees(&pool, &current, shared.options.slots_max)?;
    }
    walk.logged(&pool, &logged, shared.options.slots_max)?;
    walk.unreached(&pool, &pages);
    walk.report.bytes += pool.store().counters.bytes_read.load(std::sync::atomic::Ordering::Relaxed);
    Ok(walk.report)
}

/// The last durable checkpoint, held.
struct Hold<'a> {
    store: &'a Store,
    epoch: Epoch,
}

impl Hold<'_> {
    /// Under the checkpoint's lock.
    fn last(store: &Store) -> Hold<'_> {
        Hold { store, epoch: store.hold_checkpoint() }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.store.release_checkpoint(self.epoch);
    }
}

/// What has been seen so far.
struct Walk<'a> {
    report: Report,
    /// The file of pages.
    data: PathBuf,
    /// Bytes of a block.
    block: u64,
    /// Who owns each page id.
    owners: BTreeMap<PageId, Arc<str>>,
    /// The keyspaces' names by tree id.
    names: BTreeMap<u64, Arc<str>>,
    /// Something could not be read that may name other pages.
    hidden: bool,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Walk<'a> {
    fn new(shared: &Shared, depth: Depth, current: &Superblock, progress: &'a mut dyn FnMut(Progress)) -> Walk<'a> {
        Walk {
            report: Report { depth, checkpoint: current.checkpoint, ..Report::default() },
            data: shared.store().file().path().to_owned(),
            block: current.block_size.bytes() as u64,
            owners: BTreeMap::new(),
            names: BTreeMap::from([(CATALOG_TREE.0, "the catalog".into())]),
            hidden: false,
            progress,
        }
    }

    /// The page map of that checkpoint, as far as it can be read, with what the log names beside it.
    fn store(&mut self, shared: &Shared, current: &Superblock, logged: &log::Logged) -> Result<Store> {
        let store = shared.store().reopen_with(current, &mut |error| {
            self.hidden = true;
            self.error(None, &error);
            Ok(())
        })?;
        self.report.mapped_pages = store.checkpoint_pages().len() as u64;
        self.report.logged_pages = logged.placed.len() as u64;
        (self.report.map_nodes, self.report.bytes) = store.map_nodes();
        match store.reserve_logged(&logged.placed) {
            Ok(()) => store.install_placed(&logged.placed, Epoch(0)),
            Err(e) => self.error(None, &e),
        }
        Ok(store)
    }

    fn tell(&mut self) {
        let total = self.report.mapped_pages + self.report.logged_pages;
        (self.progress)(Progress { done: total.min(self.owners.len() as u64), total });
    }

    /// Something is wrong with what stands at `block` of `data`. `thing`: what it is, in words.
    fn found_at(&mut self, block: u64, thing: &str, keyspace: Option<&str>, what: &str) {
        let what = format!("{}, block {block}, {thing}: {what}", self.data.display());
        self.push(self.data.clone(), Some(block), None, keyspace, what);
    }

    /// Something is wrong with a page, or run, of that store. `thing`: what it is, in words.
    fn found_page(&mut self, store: &Store, page: PageId, thing: &str, keyspace: Option<&str>, what: &str) {
        let block = place_of(store, page);
        let at = block.map_or_else(|| "in no block".to_owned(), |block| format!("block {block}"));
        let what = format!("{}, {at}, {thing} {}: {what}", self.data.display(), page.0);
        self.push(self.data.clone(), block, Some(page.0), keyspace, what);
    }

    /// An error that a read gave, by what it says of its place.
    fn error(&mut self, keyspace: Option<&str>, e: &Error) {
        let (file, block, page) = match e {
            Error::Corrupt(corruption) => (None, corruption.block, corruption.page),
            Error::Io(ashlar_disk::Error::Io { path, offset, .. }) => (Some(path.clone()), *offset, None),
            Error::Io(ashlar_disk::Error::Short { path, offset, .. }) => (Some(path.clone()), Some(*offset), None),
            _ => (None, None, None),
        };
        let block = if file.is_some() { block.map(|offset| offset / self.block) } else { block };
        self.push(file.unwrap_or_else(|| self.data.clone()), block, page, keyspace, e.to_string());
    }

    /// The error that reading a page of that store gave.
    fn page_error(&mut self, store: &Store, page: PageId, keyspace: Option<&str>, e: &Error) {
        match e {
            Error::Corrupt(corruption) if corruption.block.is_none() => {
                self.found_page(store, page, "page", keyspace, &corruption.what);
            }
            Error::Corrupt(_) => self.error(keyspace, e),
            // The device, which knows offsets and not pages.
            other => self.found_page(store, page, "page", keyspace, &other.to_string()),
        }
    }

    fn push(&mut self, file: PathBuf, block: Option<u64>, page: Option<u64>, keyspace: Option<&str>, what: String) {
        self.report.findings.push(Finding { file, block, page, keyspace: keyspace.map(str::to_owned), what });
    }
}

/// The first block of a page or run.
fn place_of(store: &Store, page: PageId) -> Option<u64> {
    match store.locate(page) {
        Located::At(at) => Some(page_map::extent(at).start),
        Located::NotAllocated => None,
    }
}

/// The segment of the log with the byte at `lsn`, and the block in it.
fn segment_of(dir: &Path, lsn: u64, superblock: &Superblock) -> (PathBuf, u64) {
    let (segment, offset) = (lsn / superblock.segment_size, lsn % superblock.segment_size);
    (dir.join(format!("{segment:012}.wal")), offset / superblock.block_size.bytes() as u64)
}
