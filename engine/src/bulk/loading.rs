//! Where the pages of a bulk load go: packed side by side in a transfer's memory, then written to fresh blocks, around the pool.
//!
//! Until a commit names them they belong to the [`Loading`], which gives blocks and ids back when it is dropped.

use super::Placed;
use crate::blob;
use crate::btree::{Built, PageSink, TreeId};
use crate::database::Shared;
use crate::error::{Corruption, Error, Result};
use crate::flight::Flight;
use crate::pages;
use crate::store::{Draw, page_header};
use crate::value::{cell, overflow};
use ashlar_bufferpool::{BlockPtr, PageId, PageMut};
use ashlar_disk::{AlignedBuf, Buffer};
use std::sync::Arc;

/// Bytes of images that are gathered for one batch of writes.
const BATCH_BYTES: usize = 1 << 20;

/// Transfers in flight, at most, when a batch of them is added.
const IN_FLIGHT_MAX: usize = 4;

/// What a bulk load has written so far and no commit names yet.
pub(super) struct Loading {
    shared: Arc<Shared>,
    placed: Vec<Placed>,
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

impl Loading {
    pub(super) fn new(shared: Arc<Shared>) -> Loading {
        let (page_size, store) = (shared.pool.page_size(), shared.store());
        let (staging, flight) = (store.spares().take(BATCH_BYTES), store.flight());
        Loading {
            placed: Vec::new(),
            page: AlignedBuf::zeroed(page_size),
            staging,
            used: 0,
            images: Vec::new(),
            flight,
            kept: false,
            shared,
        }
    }

    /// Puts bytes that are too many for a leaf on overflow pages, with LSN 0: their ids were never used, so no reader can take them for
    /// others.
    pub(super) fn overflow(&mut self, tree: TreeId, bytes: &[u8]) -> Result<cell::OverflowRef> {
        let mut page_ids = Vec::new();
        for (number, piece) in bytes.chunks(overflow::piece_len_max(self.page.len())).enumerate() {
            page_ids.push(self.put_filled(|id, page| overflow::fill(page, id, tree, 0, number, piece))?);
        }
        Ok(cell::OverflowRef { len: bytes.len() as u64, lsn: 0, pages: page_ids })
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
                return Err(Corruption::page(page.0, None, "no pointer can name its blocks").into());
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
        if self.used + self.shared.store().page_size() > BATCH_BYTES {
            self.write_batch()?;
        }
        let store = self.shared.store();
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

    /// All of it is written, and durable, as is whatever else was written to the data file before.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.write_batch()?;
        self.flight.finish()?;
        blob::sync(self.shared.store()).map_err(|e| self.shared.fail_now(format!("syncing a bulk load failed: {e}")))
    }

    /// What was written where.
    pub(super) fn placed(&self) -> &[Placed] {
        &self.placed
    }

    /// The record that names it all is in the log.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl PageSink for Loading {
    type Error = Error;

    fn put(&mut self, page: Built<'_>) -> Result<PageId> {
        let id = self.next_page()?;
        let (front, back) = page.parts(id);
        let len = self.shared.store().pack_parts(front, back, &mut self.staging[self.used..]);
        self.take(id, len);
        Ok(id)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.flight.wait_until_few(0);
        self.shared.store().release_placed(self.placed.iter().copied(), self.images.iter().map(|(page, _)| *page));
    }
}
