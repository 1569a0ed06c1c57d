//! The store as the buffer pool sees it: pages read and checked, images written to new blocks, and what became of them.

use super::page_header;
use super::page_map::extent;
use super::{Inner, Store};
use crate::error::{Corruption, Error, Result};
use crate::fault::Fault;
use ashlar_bufferpool::{BlockPtr, Epoch, Fate, Located, PageId, PageRead, PageStore, PageView, WriteBatch, WriteOrder};
use ashlar_disk::sync::Mutex;
use ashlar_disk::words::Words;
use ashlar_disk::{AlignedBuf, Buffer, Completed, Durability, Transfer, TransferOp};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl PageStore for Store {
    type Error = Error;

    fn locate(&self, page: PageId) -> Located {
        match self.inner.lock().newest(page) {
            Some(at) => Located::At(at),
            None => Located::NotAllocated,
        }
    }

    fn new_page_id(&self) -> PageId {
        self.inner.lock().ids.take_for_page()
    }

    fn ids_end(&self) -> u64 {
        self.next_page_id()
    }

    fn read(&self, page: PageId, at: BlockPtr, frame: &Words) -> Result<()> {
        let len = self.image_len(page, at)?;
        self.file.read(self.byte_offset(at.address()), &[&frame[..len / 8]])?;
        self.check_read(page, at, frame, len)
    }

    fn submit_reads(&self, reads: Vec<PageRead<Error>>) {
        self.start_reads(reads);
    }

    fn wait(&self, until: &dyn Fn() -> bool) {
        self.queue.wait(until);
    }

    fn order(&self, page: PageView<'_>) -> WriteOrder {
        crate::btree::write_order(page)
    }

    fn pack(&self, _page: PageId, view: PageView<'_>, out: &mut [u8]) -> usize {
        self.pack_image(view, out)
    }

    fn write(&self, batch: WriteBatch<Error>) {
        if self.read_only {
            // Recovery's changes of a read-only open stay in memory: what does not fit the cache ends it.
            let needed = (self.inner.lock().ids.next() + 16) * self.page_size as u64 * 4 / 3;
            return (batch.done)(Err(Error::CacheTooSmall { needed }), batch.staging);
        }
        match self.place_batch(&batch) {
            Ok(places) => self.start_batch(batch, places),
            Err(e) => (batch.done)(Err(e), batch.staging),
        }
    }

    fn record(&self, page: PageId, epoch: Epoch, at: BlockPtr, fate: Fate) {
        let mut inner = self.inner.lock();
        match fate {
            Fate::Current if inner.retired.swallows(page, epoch) => {}
            Fate::Current => inner.enter(epoch, page, Some(at)),
            Fate::SupersededInEpoch => inner.space.release(extent(at)),
            Fate::SupersededIn(later) => {
                if !inner.retired.swallows(page, epoch) && !self.fault.is(Fault::OldImageLeftOut) {
                    let named_in = if self.fault.is(Fault::SupersededLate) { later } else { epoch };
                    inner.enter(named_in, page, Some(at));
                }
                inner.space.release_after(later, extent(at));
            }
        }
    }

    fn superseded(&self, page: PageId, at: BlockPtr, epoch: Epoch) {
        let mut inner = self.inner.lock();
        let own = inner.deltas.get(&epoch).and_then(|d| d.get(&page)).is_some_and(|&p| p == Some(at));
        if own && !inner.loaded_in.contains(&epoch) {
            // The delta goes on naming blocks that may soon be somebody else's. It is not read before this page's next image
            // is in it (or it is freed): the page is dirty in this epoch, and a checkpoint waits for that.
            inner.space.release(extent(at));
        } else {
            inner.space.release_after(epoch, extent(at));
        }
    }

    fn freed(&self, page: PageId, epoch: Epoch) {
        let mut inner = self.inner.lock();
        inner.enter(epoch, page, None);
        inner.retired.page_gone(page, epoch);
        inner.ids.page_freed(page, epoch);
    }

    fn copies_frozen(&self) -> bool {
        !self.fault.is(Fault::WriteFrozen)
    }

    fn retired(&self, page: PageId, epoch: Epoch) {
        let mut inner = self.inner.lock();
        inner.enter(epoch, page, None);
        inner.retired.retire_page(page, epoch);
    }
}

impl Store {
    /// Packs a page into `out`, sealed; its length on disk in bytes.
    pub(crate) fn pack_image(&self, view: PageView<'_>, out: &mut [u8]) -> usize {
        page_header::pack(view, self.block, self.next_write_number(), out)
    }

    /// The length of the image a pointer names, if it can be one.
    pub(super) fn image_len(&self, page: PageId, at: BlockPtr) -> Result<usize> {
        let len = at.blocks() as usize * self.block.bytes();
        if len > self.page_size || at.address() == 0 {
            let what =
                format!("the page map gives it {} blocks, a page has {}", at.blocks(), self.page_size / self.block.bytes());
            return Err(Corruption::page(page.0, None, what).into());
        }
        Ok(len)
    }

    pub(super) fn count_read(&self, len: usize) {
        self.counters.pages_read.fetch_add(1, Relaxed);
        self.counters.bytes_read.fetch_add(len as u64, Relaxed);
    }

    fn check_read(&self, page: PageId, at: BlockPtr, frame: &Words, len: usize) -> Result<()> {
        self.count_read(len);
        // SAFETY: the transfer has ended, and until the read returns the frame is its alone.
        unsafe { page_header::check_and_unpack(frame, len, page, at, self.fault) }
            .map_err(|fault| self.image_error("page", page.0, at, &fault))
    }

    /// Blocks for each image of a batch, and the pointers that will name them.
    fn place_batch(&self, batch: &WriteBatch<Error>) -> Result<Vec<BlockPtr>> {
        let block = self.block.bytes();
        let lens: Vec<u64> = batch.images.iter().map(|i| (i.len / block) as u64).collect();
        let extents = self.allocate_batch(&lens)?;
        let places = batch.images.iter().zip(extents).map(|(image, at)| {
            let crc = page_header::pointer_crc(&batch.staging[image.offset..image.offset + image.len]);
            BlockPtr::new(at.start, at.len as u32, crc)
                .ok_or_else(|| Corruption::page(image.page.0, None, "no pointer can name its blocks").into())
        });
        places.collect()
    }

    /// Blocks for images of these lengths. What was promised to the pages' writers is there; growing is the way out if free
    /// space is less than it was thought to be.
    pub(crate) fn allocate_batch(&self, lens: &[u64]) -> Result<Vec<super::Extent>> {
        loop {
            let mut inner = self.inner.lock();
            if let Some(extents) = inner.space.allocate_batch(lens) {
                return Ok(extents);
            }
            let seen = inner.space.total();
            drop(inner);
            self.grow_by(lens.len() as u64, seen)?;
        }
    }

    /// Starts the writes of a batch: one transfer for each stretch of adjacent blocks.
    fn start_batch(&self, batch: WriteBatch<Error>, places: Vec<BlockPtr>) {
        let WriteBatch { images, staging, done } = batch;
        let mut stretches: Vec<(u64, usize, usize)> = Vec::new();
        for (image, at) in images.iter().zip(&places) {
            let offset = self.byte_offset(at.address());
            match stretches.last_mut() {
                Some((start, from, to)) if *start + (*to - *from) as u64 == offset && *to == image.offset => *to += image.len,
                _ => stretches.push((offset, image.offset, image.offset + image.len)),
            }
        }
        self.count_write(&stretches, images.len());
        let staging = Arc::new(staging);
        let pending =
            Arc::new(Mutex::new(Some(Pending { left: stretches.len(), error: None, places, staging: staging.clone(), done })));
        let transfers = stretches.into_iter().map(|(offset, from, to)| {
            let pending = pending.clone();
            Transfer {
                file: self.file.clone(),
                op: TransferOp::Write(Durability::Later),
                offset,
                buffers: vec![Buffer::Shared(staging.clone(), from..to)],
                done: Box::new(move |completed| finish_part(&pending, completed)),
            }
        });
        let transfers = transfers.collect();
        drop(staging);
        self.queue.submit(transfers);
    }

    pub(super) fn count_write(&self, stretches: &[(u64, usize, usize)], pages: usize) {
        let bytes: usize = stretches.iter().map(|(_, from, to)| to - from).sum();
        self.counters.pages_written.fetch_add(pages as u64, Relaxed);
        self.counters.bytes_written.fetch_add(bytes as u64, Relaxed);
        self.counters.writes.fetch_add(stretches.len() as u64, Relaxed);
    }
}

/// A batch whose transfers are in flight.
struct Pending {
    left: usize,
    error: Option<Error>,
    places: Vec<BlockPtr>,
    staging: Arc<AlignedBuf>,
    done: Box<dyn FnOnce(Result<Vec<BlockPtr>>, AlignedBuf) + Send>,
}

/// One transfer of a batch has ended; the last one ends the batch.
fn finish_part(pending: &Mutex<Option<Pending>>, completed: Completed) {
    let error = completed.result.err().map(Error::from);
    drop(completed.buffers);
    let finished = {
        let mut guard = pending.lock();
        let Some(batch) = guard.as_mut() else { return };
        batch.left -= 1;
        batch.error = batch.error.take().or(error);
        if batch.left > 0 {
            return;
        }
        guard.take()
    };
    let Some(Pending { error, places, staging, done, .. }) = finished else { return };
    let staging = Arc::try_unwrap(staging).unwrap_or_else(|_| AlignedBuf::zeroed(0));
    done(error.map_or(Ok(places), Err), staging);
}

impl Inner {
    /// Where a page stands as of the newest image on disk: in the newest delta that names it, else in the page map.
    pub(super) fn newest(&self, page: PageId) -> Option<BlockPtr> {
        let changed = self.deltas.values().rev().find_map(|d| d.get(&page).copied());
        changed.unwrap_or_else(|| self.map.get(page))
    }

    /// Enters an image, or the end of a page, into an epoch's delta.
    pub(super) fn enter(&mut self, epoch: Epoch, page: PageId, at: Option<BlockPtr>) {
        self.deltas.entry(epoch).or_default().insert(page, at);
    }
}
