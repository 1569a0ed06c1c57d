//! Verification: everything that the last durable checkpoint names, read from the device, around the pool of the database.
//!
//! 1. The four copies of the superblock.
//! 2. The page map, whole; every block with one owner.
//! 3. Every tree of that checkpoint, page by page through a pool of verification's own: checksum, identity, kind, key order, fences,
//!    levels; every value that stands elsewhere: overflow pages, blob runs and their checksums.
//! 4. Every entry of the page map is reached from exactly one tree, value or dropped tree.
//! 5. The numbers of entries in the catalog.
//! 6. The log from C on.
//!
//! A quick verification leaves out 3 to 5, all that needs a walk over trees.
//!
//! No checkpoint completes while it runs, so none of the blocks it reads is reused; commits go on until the log is full.

mod report;

pub use report::{Depth, Finding, Progress, Report};

use crate::blob;
use crate::btree::{Corrupt, Finding as TreeFinding, Tree};
use crate::catalog::{self, CATALOG_TREE, Entry};
use crate::database::Shared;
use crate::error::{Corruption, Error, Result};
use crate::pages::EnginePool;
use crate::recovery;
use crate::store::Store;
use crate::store::superblock::{self, Copy, Superblock};
use crate::value::cell::{self, Cell, OverflowRef, StoredBlob};
use crate::value::overflow;
use ashlar_bufferpool::{LoadError, PageId};
use std::collections::BTreeMap;

/// Frames of verification's own pool: it only passes through.
const FRAMES: u32 = 256;

/// Verifies the last durable checkpoint and the log, and tells `progress` about each page.
pub(crate) fn verify(shared: &Shared, depth: Depth, progress: &mut dyn FnMut(Progress)) -> Result<Report> {
    let state = shared.checkpoint.lock();
    let report = Report { depth, checkpoint: state.current.checkpoint, ..Report::default() };
    let mut walk = Walk { report, owners: BTreeMap::new(), progress };
    walk.superblocks(&superblock::read_copies(&**shared.store().file(), state.current.block_size), &state.current);
    match shared.store().reopen(&state.current) {
        Ok(store) => walk.checkpoint(shared, store, &state.current)?,
        Err(e) => walk.found_error(None, &e),
    }
    walk.log(shared, &state.current);
    Ok(walk.report)
}

/// What has been seen so far.
struct Walk<'a> {
    report: Report,
    /// Who owns each page id.
    owners: BTreeMap<PageId, String>,
    progress: &'a mut dyn FnMut(Progress),
}

impl Walk<'_> {
    fn found(&mut self, page: Option<PageId>, keyspace: Option<&str>, what: impl Into<String>) {
        self.report.findings.push(Finding { page: page.map(|p| p.0), keyspace: keyspace.map(str::to_owned), what: what.into() });
    }

    fn found_error(&mut self, keyspace: Option<&str>, e: &Error) {
        let page = match e {
            Error::Corrupt(corruption) => corruption.page,
            _ => None,
        };
        self.found(page.map(PageId), keyspace, e.to_string());
    }

    fn superblocks(&mut self, copies: &[Copy; 4], current: &Superblock) {
        let mut newest = 0;
        for (i, copy) in copies.iter().enumerate() {
            match copy {
                Copy::Whole(s) if s.uuid != current.uuid => {
                    self.found(None, None, format!("superblock copy {i}: it belongs to another database"));
                }
                Copy::Whole(s) => newest += usize::from(s.number == current.number),
                Copy::Bad(why) => {
                    self.found(None, None, format!("superblock copy {i} at byte {}: {why}", superblock::COPY_OFFSETS[i]));
                }
                Copy::Unknown { version, .. } => self.found(None, None, format!("superblock copy {i}: format version {version}")),
            }
        }
        if newest < 2 {
            self.found(None, None, format!("superblock {} stands in {newest} copies, not in 2", current.number));
        }
    }

    fn checkpoint(&mut self, shared: &Shared, store: Store, superblock: &Superblock) -> Result<()> {
        let pages = store.checkpoint_pages();
        self.report.mapped_pages = pages.len() as u64;
        (self.report.map_nodes, self.report.bytes) = store.map_nodes();
        if self.report.depth == Depth::Quick || superblock.map_root.is_none() {
            return Ok(());
        }
        self.tell();
        let pool = recovery::pool_over(store, FRAMES)?;
        let catalog = Tree { id: CATALOG_TREE, root: PageId(superblock.catalog_root), slots_max: shared.options.slots_max };
        let mut trees = Vec::new();
        self.tree(&pool, catalog, "the catalog", &mut |key, value| trees.push((key.to_vec(), value.to_vec())))?;
        for (key, value) in trees {
            match catalog::decode(&key, &value, shared.options.slots_max) {
                Ok(Entry::Keyspace(state)) => {
                    let entries = self.tree(&pool, state.tree()?, &state.name, &mut |_, _| {})?;
                    let noted = state.len.load(std::sync::atomic::Ordering::Relaxed);
                    if entries != noted {
                        self.found(None, Some(&state.name), format!("the catalog says {noted} entries, there are {entries}"));
                    }
                    self.report.entries += entries;
                }
                Ok(Entry::Dropped(tree)) => {
                    self.tree(&pool, tree, &format!("dropped tree {}", tree.id.0), &mut |_, _| {})?;
                }
                Ok(Entry::Setting) => {}
                Err(e) => self.found_error(Some("the catalog"), &e),
            }
        }
        for page in pages {
            if !self.owners.contains_key(&page) {
                self.found(Some(page), None, format!("page {} stands in the page map, but nothing refers to it", page.0));
            }
        }
        self.report.bytes += pool.store().counters.bytes_read.load(std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Walks one tree; gives the number of its entries.
    fn tree(&mut self, pool: &EnginePool, tree: Tree, name: &str, entry: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut entries = 0;
        let mut elsewhere = Vec::new();
        let walked = tree.check(pool, &mut |finding| match finding {
            TreeFinding::Page { page, .. } => {
                self.report.tree_pages += 1;
                self.own(page, name);
            }
            TreeFinding::Entry { page, key, kind, value } => {
                entries += 1;
                if kind == cell::INLINE {
                    entry(key, value);
                } else {
                    elsewhere.push((page, key.to_vec(), kind, value.to_vec()));
                }
            }
            TreeFinding::Corrupt(Corrupt { page, what }) => {
                self.found(Some(page), Some(name), Corruption::page(page.0, Some(tree.id.0), what).to_string());
            }
            TreeFinding::Unreadable { page, error } => self.found(Some(page), Some(name), load_text(page, error)),
        });
        walked.map_err(|e| crate::pages::tree_error(pool, tree.id, e))?;
        for (page, key, kind, bytes) in elsewhere {
            self.value(pool, name, page, &key, kind, &bytes);
        }
        Ok(entries)
    }

    fn tell(&mut self) {
        let total = self.report.mapped_pages;
        (self.progress)(Progress { done: total.min(self.owners.len() as u64), total });
    }

    fn own(&mut self, page: PageId, owner: &str) {
        if let Some(other) = self.owners.insert(page, owner.to_owned()) {
            self.found(Some(page), Some(owner), format!("page {} is reached twice: it belongs to {other} already", page.0));
        }
        self.tell();
    }

    fn value(&mut self, pool: &EnginePool, name: &str, leaf: PageId, key: &[u8], kind: u8, bytes: &[u8]) {
        match Cell::decode(kind, bytes, overflow::piece_len_max(pool.page_size())) {
            Some(Cell::Overflow(list)) => {
                self.overflow(pool, name, key, &list);
            }
            Some(Cell::Blob(blob)) => self.blob(pool, name, key, &blob),
            Some(Cell::LongBlob(list)) => match self.overflow(pool, name, key, &list).as_deref().map(cell::decode_blob) {
                Some(Some(blob)) => self.blob(pool, name, key, &blob),
                Some(None) => self.found(
                    Some(leaf),
                    Some(name),
                    format!("the value of key \"{}\": its list of runs does not decode", key.escape_ascii()),
                ),
                None => {}
            },
            Some(Cell::Inline(_)) => {}
            None => {
                self.found(
                    Some(leaf),
                    Some(name),
                    format!("page {}: the cell of key \"{}\" (kind {kind}) does not decode", leaf.0, key.escape_ascii()),
                );
            }
        }
    }

    fn overflow(&mut self, pool: &EnginePool, name: &str, key: &[u8], list: &OverflowRef) -> Option<Vec<u8>> {
        for &page in &list.pages {
            self.own(page, name);
            self.report.overflow_pages += 1;
        }
        match overflow::read(pool, list) {
            Ok(Some(bytes)) => Some(bytes),
            Ok(None) => {
                let what =
                    format!("the overflow pages of key \"{}\" ({:?}) are not what its leaf says", key.escape_ascii(), list.pages);
                self.found(list.pages.first().copied(), Some(name), what);
                None
            }
            Err(e) => {
                self.found_error(Some(name), &e);
                None
            }
        }
    }

    fn blob(&mut self, pool: &EnginePool, name: &str, key: &[u8], blob: &StoredBlob) {
        for page in blob.pages() {
            self.own(page, name);
            self.report.blob_runs += 1;
        }
        match blob::read(pool.store(), blob, || true) {
            Ok(bytes) => self.report.bytes += bytes.map_or(0, |bytes| bytes.len() as u64),
            Err(e) => {
                self.found_error(Some(name), &e);
                self.found(blob.pages().next(), Some(name), format!("the value of key \"{}\" can't be read", key.escape_ascii()));
            }
        }
    }

    fn log(&mut self, shared: &Shared, superblock: &Superblock) {
        match recovery::scan_log(shared, superblock) {
            Ok(records) => self.report.log_records = records,
            Err(e) => self.found_error(None, &e),
        }
    }
}

fn load_text(page: PageId, error: &LoadError<Error>) -> String {
    match error {
        LoadError::Store(e) => e.to_string(),
        other => format!("page {}: {other}", page.0),
    }
}
