//! Pages of a bulk load side by side in a transfer's memory, on the way to their blocks.
//!
//! 1. A page has an id from when it is packed. Until it has blocks, its id is given back when its [`Batch`] is dropped.
//! 2. Full batches go to a thread that places and writes them ([`Loading`]); where there is none yet, or the engine may have no threads,
//!    whoever packs does it.

use super::loading::Loading;
use super::stage::{Stage, gone};
use crate::Background;
use crate::btree::{Built, PageSink, TreeId};
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::pages;
use crate::store::page_header;
use crate::value::{cell, overflow};
use ashlar_bufferpool::{PageId, PageMut};
use ashlar_disk::AlignedBuf;
use std::sync::Arc;

/// Lots of entries that make a batch of pages, about.
const LOTS: usize = 4;

/// Images of pages that are to be placed.
pub(super) struct Batch {
    /// Side by side.
    pub(super) staging: AlignedBuf,
    pub(super) images: Images,
}

/// An image of a page that is to be placed, sealed.
#[derive(Clone, Copy)]
pub(super) struct Image {
    pub(super) page: PageId,
    /// Its bytes.
    pub(super) len: usize,
    /// Of its checksum what its block pointer will keep.
    pub(super) crc: u32,
}

/// The images in a [`Batch`], in their order.
pub(super) struct Images {
    shared: Arc<Shared>,
    list: Vec<Image>,
    bytes: usize,
}

impl Images {
    fn new(shared: Arc<Shared>) -> Images {
        Images { shared, list: Vec::new(), bytes: 0 }
    }

    pub(super) fn list(&self) -> &[Image] {
        &self.list
    }

    /// All of them have blocks: their ids, which are the caller's to give back from now on.
    pub(super) fn are_placed(mut self) -> impl Iterator<Item = PageId> {
        std::mem::take(&mut self.list).into_iter().map(|image| image.page)
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        if !self.list.is_empty() {
            self.shared.store().give_back_ids(self.list.iter().map(|image| image.page));
        }
    }
}

/// Who places what is packed.
enum Placer {
    Here(Box<Loading>),
    Beside(Stage<Batch, Box<Loading>>),
}

/// See the module.
pub(super) struct Packing {
    shared: Arc<Shared>,
    batch: Batch,
    /// Bytes of a full batch.
    batch_bytes: usize,
    /// Where an overflow page is made.
    page: AlignedBuf,
    /// `None` after an error.
    placer: Option<Placer>,
}

impl Packing {
    pub(super) fn new(shared: Arc<Shared>) -> Packing {
        let page_size = shared.pool.page_size();
        let batch_bytes = LOTS.saturating_mul(shared.options.bulk_lot).max(page_size);
        Packing {
            batch: Batch { staging: shared.store().spares().take(batch_bytes), images: Images::new(shared.clone()) },
            batch_bytes,
            page: AlignedBuf::zeroed(page_size),
            placer: Some(Placer::Here(Box::new(Loading::new(shared.clone())))),
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

    /// A page that `fill` makes.
    fn put_filled(&mut self, fill: impl FnOnce(PageId, &mut PageMut)) -> Result<PageId> {
        let id = self.next_page()?;
        self.page.fill(0);
        let page = PageMut::over(&mut self.page);
        fill(id, page);
        let Batch { staging, images } = &mut self.batch;
        let len = self.shared.store().pack_image(page.view(), &mut staging[images.bytes..]);
        self.take(id, len);
        Ok(id)
    }

    /// A fresh page id, and room for the page's image.
    fn next_page(&mut self) -> Result<PageId> {
        let store = self.shared.store();
        if self.batch.images.bytes + store.page_size() > self.batch_bytes {
            let staging = store.spares().take(self.batch_bytes);
            let next = Batch { staging, images: Images::new(self.shared.clone()) };
            let full = std::mem::replace(&mut self.batch, next);
            self.place(full)?;
        }
        let store = self.shared.store();
        pages::take_ids(&self.shared.pool, 1, || Ok(store.take_fresh_id()))
    }

    /// The image of a page stands behind those that are there. It is sealed while its bytes are in the processor's caches.
    fn take(&mut self, page: PageId, len: usize) {
        let Batch { staging, images } = &mut self.batch;
        let image = &mut staging[images.bytes..][..len];
        page_header::seal(image);
        images.list.push(Image { page, len, crc: page_header::pointer_crc(image) });
        images.bytes += len;
    }

    fn place(&mut self, batch: Batch) -> Result<()> {
        let weight = batch.images.bytes;
        let stage = match self.placer.take() {
            Some(Placer::Beside(stage)) => stage,
            Some(Placer::Here(loading)) if self.shared.options.background != Background::Manual => {
                Stage::start("ashlar-bulk-io", self.batch_bytes, loading, |loading, batch| loading.place(batch))?
            }
            Some(Placer::Here(mut loading)) => {
                loading.place(batch)?;
                self.placer = Some(Placer::Here(loading));
                return Ok(());
            }
            None => return Err(gone(&self.shared)),
        };
        if !stage.give(batch, weight) {
            // It tells why it takes nothing any more.
            return stage.end(|| gone(&self.shared)).and_then(|_| Err(gone(&self.shared)));
        }
        self.placer = Some(Placer::Beside(stage));
        Ok(())
    }

    /// All of it is written, and durable.
    ///
    /// # Errors
    /// Of placing and writing; all is given back.
    pub(super) fn finish(self) -> Result<Box<Loading>> {
        let mut loading = match self.placer {
            Some(Placer::Here(loading)) => loading,
            Some(Placer::Beside(stage)) => stage.end(|| gone(&self.shared))?,
            None => return Err(gone(&self.shared)),
        };
        loading.place(self.batch)?;
        loading.finish()?;
        Ok(loading)
    }
}

impl PageSink for Packing {
    type Error = Error;

    fn put(&mut self, page: Built<'_>) -> Result<PageId> {
        let id = self.next_page()?;
        let (front, back) = page.parts(id);
        let Batch { staging, images } = &mut self.batch;
        let len = self.shared.store().pack_parts(front, back, &mut staging[images.bytes..]);
        self.take(id, len);
        Ok(id)
    }
}
