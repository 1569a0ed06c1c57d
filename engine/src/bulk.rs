//! Bulk load: sorted entries become full pages, written around the pool to fresh runs, and one commit makes them a keyspace's tree.
//!
//! 1. The pages are built bottom-up, packed side by side in a transfer's memory, and written in large transfers, to blocks that nothing
//!    refers to, under page ids that were never used. While a few of these are in flight the next pages are built. Values too long for a leaf go to overflow pages (likewise) or blobs.
//! 2. The data file is synced.
//! 3. One record names the tree's root and every page and run: page id → block pointer. Applying it enters the pointers in the
//!    epoch's delta and gives the keyspace this tree; its empty one is dropped.
//!
//! Invariants:
//! 1. Until the record is in the log, all of it belongs to a [`Loading`], which gives blocks and ids back when it is dropped: a load
//!    is all or nothing, whatever happens.
//! 2. The keyspace is empty when the record takes its LSN: looked at under the apply lock and the commit lock, with nothing queued.
//! 3. Nobody sees the tree before the watermark has reached the record: its pages bear LSN 0, the keyspace says since when it
//!    has this tree.

use crate::blob;
use crate::btree::{Built, Bulk, BulkError, BulkOptions, PageSink, TreeId};
use crate::commit::record::{self, Operation};
use crate::commit::{Prepared, Refused, Until};
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::flight::Flight;
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::pages;
use crate::store::{Draw, page_header};
use crate::value::cell;
use crate::value::overflow;
use ashlar_bufferpool::{BlockPtr, PageId, PageMut};
use ashlar_disk::{AlignedBuf, Buffer};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of images that are gathered for one batch of writes.
const BATCH_BYTES: usize = 1 << 20;

/// Transfers in flight, at most, when a batch of them is added.
const IN_FLIGHT_MAX: usize = 4;

/// A page, or a run of a blob, that a bulk load has written.
pub(crate) type Placed = (PageId, BlockPtr);

/// What a bulk load has written so far and no commit names yet.
struct Loading<'a> {
    shared: &'a Shared,
    placed: Vec<Placed>,
    blobs: Vec<blob::NewBlob<'a>>,
    /// Where an overflow page is made.
    page: AlignedBuf,
    /// Images side by side, to become one transfer where their blocks are adjacent.
    staging: AlignedBuf,
    /// Bytes of `staging` in use, and the images in them.
    used: usize,
    images: Vec<(PageId, usize)>,
    flight: Flight,
    kept: bool,
}

/// Loads sorted entries into an empty keyspace; gives their number.
pub(crate) fn load<K: AsRef<[u8]>, V: AsRef<[u8]>, E: From<Error>>(
    keyspace: &Keyspace,
    entries: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
) -> std::result::Result<u64, E> {
    let shared = keyspace.shared();
    shared.owner.check().map_err(Error::from)?;
    shared.health.check()?;
    check_empty(keyspace)?;
    let new_tree = TreeId(shared.next_tree.fetch_add(1, Ordering::Relaxed));
    let options = BulkOptions {
        tree: new_tree,
        lsn: 0,
        page_size: shared.pool.page_size(),
        fill_percent: 100,
        slots_max: shared.options.slots_max,
    };
    let mut bulk = Bulk::new(Loading::new(shared), options);
    let mut count = 0;
    for entry in entries {
        let (key, value) = entry?;
        push(shared, &mut bulk, new_tree, key.as_ref(), value.as_ref(), count)?;
        count += 1;
    }
    let (tree, mut loading) = bulk.finish().map_err(|e| bulk_error(shared, e, count, 0))?;
    loading.finish()?;
    commit(keyspace, loading, tree.root, new_tree, count)?;
    Ok(count)
}

fn check_empty(keyspace: &Keyspace) -> Result<()> {
    if keyspace.is_empty()? { Ok(()) } else { Err(Error::KeyspaceNotEmpty { name: keyspace.name().to_owned() }) }
}

fn push(shared: &Shared, bulk: &mut Bulk<Loading<'_>>, tree: TreeId, key: &[u8], value: &[u8], index: u64) -> Result<()> {
    let limits = crate::btree::limits(shared.pool.page_size());
    let key_max = limits.key_max;
    if key.len() > key_max {
        return Err(Error::KeyTooLarge { len: key.len(), max: key_max });
    }
    let inline_max = limits.inline_value_max(key.len());
    let outcome = if value.len() <= inline_max {
        bulk.push(key, cell::INLINE, value)
    } else {
        let (kind, bytes) = bulk.sink().place_value(tree, value, inline_max)?;
        bulk.push(key, kind, &bytes)
    };
    outcome.map_err(|e| bulk_error(shared, e, index, key.len()))
}

fn bulk_error(shared: &Shared, e: BulkError<Error>, index: u64, key_len: usize) -> Error {
    match e {
        BulkError::OutOfOrder => Error::NotSorted { index },
        BulkError::TooLarge => Error::KeyTooLarge { len: key_len, max: crate::btree::limits(shared.pool.page_size()).key_max },
        BulkError::Sink(e) => e,
    }
}

/// Step 3.
fn commit(keyspace: &Keyspace, mut loading: Loading<'_>, root: PageId, new_tree: TreeId, count: u64) -> Result<()> {
    let shared = keyspace.shared();
    let _one = shared.ddl.lock();
    let tree = shared.tree_of(keyspace.state())?.id;
    let placed = std::mem::take(&mut loading.placed);
    let operation = Operation::BulkLoad { tree, new_tree, root, count, name: keyspace.name(), placed };
    let record = record::single(&operation);
    if let Operation::BulkLoad { placed, .. } = operation {
        loading.placed = placed;
    }
    let prepared = Prepared {
        record,
        hint: None,
        touches: &[tree],
        drops: &[tree],
        pages: shared.pages_for(8, 4 * shared.pool.page_size()),
        frees: false,
        only_if_empty: Some(keyspace.state()),
        unchanged: None,
        durability: Durability::Immediate,
        until: Until::Durable,
    };
    match shared.commit(prepared, || loading.keep()) {
        Ok(_) => Ok(()),
        Err(Refused::Error(e)) => Err(e),
        Err(Refused::TreeGone | Refused::NotEmpty | Refused::Conflict(_)) => {
            // Nobody is told of entries that a crash could still take back.
            shared.wait_visible(shared.visible.newest_applied())?;
            Err(Error::KeyspaceNotEmpty { name: keyspace.name().to_owned() })
        }
    }
}

impl<'a> Loading<'a> {
    fn new(shared: &'a Shared) -> Loading<'a> {
        let page_size = shared.pool.page_size();
        Loading {
            shared,
            placed: Vec::new(),
            blobs: Vec::new(),
            page: AlignedBuf::zeroed(page_size),
            staging: shared.store().spares().take(BATCH_BYTES),
            used: 0,
            images: Vec::new(),
            flight: shared.store().flight(),
            kept: false,
        }
    }

    /// Puts a value that is too long for a leaf elsewhere; its cell.
    fn place_value(&mut self, tree: TreeId, value: &[u8], inline_max: usize) -> Result<(u8, Vec<u8>)> {
        if value.len() <= self.shared.options.blob_threshold {
            return Ok((cell::OVERFLOW, cell::encode_overflow(&self.overflow(tree, value)?)));
        }
        let new = blob::write(&self.shared.pool, value)?;
        let bytes = cell::encode_blob(new.reference());
        self.blobs.push(new);
        if bytes.len() <= inline_max {
            return Ok((cell::BLOB, bytes));
        }
        Ok((cell::LONG_BLOB, cell::encode_overflow(&self.overflow(tree, &bytes)?)))
    }

    /// Overflow pages with LSN 0: their ids were never used, so no reader can take them for others.
    fn overflow(&mut self, tree: TreeId, value: &[u8]) -> Result<cell::OverflowRef> {
        let page_size = self.shared.pool.page_size();
        let mut page_ids = Vec::new();
        for (number, piece) in value.chunks(overflow::piece_len_max(page_size)).enumerate() {
            page_ids.push(self.put_filled(|id, page| overflow::fill(page, id, tree, 0, number, piece))?);
        }
        Ok(cell::OverflowRef { len: value.len() as u64, lsn: 0, pages: page_ids })
    }

    /// Writes what is gathered, adjacent as far as free space allows.
    fn write_batch(&mut self) -> Result<()> {
        if self.images.is_empty() {
            return Ok(());
        }
        let store = self.shared.store();
        let block = store.block().bytes();
        let lens: Vec<u64> = self.images.iter().map(|(_, len)| (len / block) as u64).collect();
        let _promise = store.promise(lens.len() as u64, || self.shared.pool.dirty_pages(), Draw::Ordinary)?;
        let extents = store.allocate_batch(&lens)?;
        // Before the next batch has memory.
        self.flight.wait_until_few(IN_FLIGHT_MAX - 1);
        let staging = std::mem::replace(&mut self.staging, store.spares().take(BATCH_BYTES));
        let mut at = 0;
        let mut stretches: Vec<(u64, usize, usize)> = Vec::new();
        for (&(page, len), extent) in self.images.iter().zip(&extents) {
            let crc = page_header::pointer_crc(&staging[at..at + len]);
            let Some(pointer) = BlockPtr::new(extent.start, extent.len as u32, crc) else {
                return Err(crate::error::Corruption::page(page.0, None, "no pointer can name its blocks").into());
            };
            self.placed.push((page, pointer));
            let offset = extent.start * block as u64;
            match stretches.last_mut() {
                Some((start, from, to)) if *start + (*to - *from) as u64 == offset => *to += len,
                _ => stretches.push((offset, at, at + len)),
            }
            at += len;
        }
        self.images.clear();
        self.used = 0;
        let staging = Arc::new(staging);
        let writes = stretches.into_iter().map(|(offset, from, to)| (offset, Buffer::Shared(staging.clone(), from..to)));
        self.flight.write_all(writes);
        self.flight.check()
    }

    /// A fresh page id, and room for the page's image in `staging`.
    fn next_page(&mut self) -> Result<PageId> {
        let store = self.shared.store();
        if self.used + store.page_size() > BATCH_BYTES {
            self.write_batch()?;
        }
        pages::take_ids(&self.shared.pool, 1, || Ok(store.take_fresh_id()))
    }

    /// A page that `fill` makes.
    fn put_filled(&mut self, fill: impl FnOnce(PageId, &mut PageMut)) -> Result<PageId> {
        let id = self.next_page()?;
        self.page.fill(0);
        let page = PageMut::over(&mut self.page);
        fill(id, page);
        let len = self.shared.store().pack_image(page.view(), &mut self.staging[self.used..]);
        self.take(id, len);
        Ok(id)
    }

    /// The image of a page stands behind those that are gathered.
    fn take(&mut self, page: PageId, len: usize) {
        self.images.push((page, len));
        self.used += len;
    }

    /// Step 2: all of it is durable.
    fn finish(&mut self) -> Result<()> {
        self.write_batch()?;
        self.flight.finish()?;
        blob::sync(self.shared.store()).map_err(|e| self.shared.fail_now(format!("syncing a bulk load failed: {e}")))?;
        let runs = self.blobs.iter().flat_map(|b| b.reference().runs.iter().map(|r| (r.page, r.at)));
        self.placed.extend(runs);
        self.placed.sort();
        Ok(())
    }

    /// The record that names it all is in the log.
    fn keep(mut self) {
        self.kept = true;
        self.blobs.drain(..).for_each(blob::NewBlob::keep);
    }
}

impl PageSink for Loading<'_> {
    type Error = Error;

    fn put(&mut self, page: Built<'_>) -> Result<PageId> {
        let id = self.next_page()?;
        let (front, back) = page.parts(id);
        let len = self.shared.store().pack_parts(front, back, &mut self.staging[self.used..]);
        self.take(id, len);
        Ok(id)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let store = self.shared.store();
        self.flight.wait_until_few(0);
        let blobs: std::collections::BTreeSet<PageId> =
            self.blobs.iter().flat_map(|b| b.reference().runs.iter().map(|r| r.page)).collect();
        let placed = self.placed.iter().filter(|(page, _)| !blobs.contains(page)).copied();
        store.release_placed(placed, self.images.iter().map(|(page, _)| *page));
    }
}
