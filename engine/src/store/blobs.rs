//! Runs of blobs in the store: allocated, named by a delta, pinned while they are read, freed.

use super::page_header;
use super::page_map::extent;
use super::{Draw, Extent, Store};
use crate::blob::BlobRef;
use crate::bulk::Placed;
use crate::error::{Corruption, Result};
use crate::fault::Fault;
use ashlar_bufferpool::{BlockPtr, Epoch, PageId};

impl Store {
    /// Blocks and a page id for one run, while `dirty()` pages are dirty. Where no free stretch is that long the file grows.
    pub(crate) fn allocate_run(&self, blocks: u64, dirty: impl Fn() -> usize) -> Result<(PageId, Extent)> {
        let unit = (self.page_size / self.block.bytes()) as u64;
        // Held until the run is taken: a cut of the file's end must not take away what was just found to be there.
        let _promise = self.promise(blocks.div_ceil(unit), dirty, Draw::Ordinary)?;
        loop {
            let seen = self.waiting_and_total().1;
            if let Some(run) = self.try_allocate_run(blocks) {
                return Ok(run);
            }
            // What is appended is adjacent: long enough, unless somebody else is quicker.
            self.grow_by(blocks.div_ceil(unit), seen)?;
        }
    }

    fn try_allocate_run(&self, blocks: u64) -> Option<(PageId, Extent)> {
        let mut inner = self.inner.lock();
        let extent = inner.space.allocate_run(blocks)?;
        let early = self.fault.is(Fault::RunIdEarly);
        Some((if early { inner.ids.take_for_page() } else { inner.ids.take_for_run() }, extent))
    }

    /// Gives back a blob that no commit has named.
    pub(crate) fn release_blob(&self, blob: &BlobRef) {
        let mut inner = self.inner.lock();
        for run in &blob.runs {
            inner.space.release(extent(run.at));
            inner.ids.give_back(run.page);
        }
    }

    /// The commit that brings a blob is being applied: its runs enter the delta of `epoch`.
    pub(crate) fn install_blob(&self, blob: &BlobRef, epoch: Epoch) {
        let mut inner = self.inner.lock();
        for run in &blob.runs {
            inner.logged_runs.remove(&run.page);
            inner.enter(epoch, run.page, Some(run.at));
        }
    }

    /// A commit replaces a blob in `epoch`: its runs are free when that epoch's checkpoint is durable.
    pub(crate) fn free_blob(&self, pages: impl Iterator<Item = PageId>, epoch: Epoch) {
        let mut inner = self.inner.lock();
        for page in pages {
            if let Some(at) = inner.newest(page) {
                inner.space.release_after(epoch, extent(at));
                inner.enter(epoch, page, None);
                inner.ids.run_freed(page, epoch);
            }
        }
    }

    /// A commit replaces a blob in `epoch`, but older snapshots go on reading it: its runs are gone from that epoch's checkpoint on,
    /// and free at some time after [`Store::free_retired_blob`].
    pub(crate) fn retire_blob(&self, pages: impl Iterator<Item = PageId>, epoch: Epoch) {
        let mut inner = self.inner.lock();
        for page in pages {
            if let Some(at) = inner.newest(page) {
                inner.enter(epoch, page, None);
                inner.retired.retire_run(page, at);
            }
        }
    }

    /// Nobody reads a retired blob any more: its runs are free when the checkpoint of `epoch`, the current one, is durable.
    pub(crate) fn free_retired_blob(&self, pages: impl Iterator<Item = PageId>, epoch: Epoch) {
        let mut inner = self.inner.lock();
        for page in pages {
            if let Some(at) = inner.retired.run_gone(page) {
                inner.space.release_after(epoch, extent(at));
                inner.ids.run_freed(page, epoch);
            }
        }
    }

    /// A page id that was never given out before.
    pub(crate) fn take_fresh_id(&self) -> PageId {
        self.inner.lock().ids.take_fresh()
    }

    /// Packs a page of a bulk load that stands in two parts, all up to its slots' end and all from its heap's start on, into `out`; its
    /// length on disk in bytes. It is still to be sealed.
    pub(crate) fn pack_parts(&self, front: &[u8], back: &[u8], out: &mut [u8]) -> usize {
        let used = front.len() + back.len();
        let len = used.next_multiple_of(self.block.bytes());
        out[..front.len()].copy_from_slice(front);
        out[front.len()..used].copy_from_slice(back);
        out[used..len].fill(0);
        page_header::put_u64(out, page_header::WRITE_NUMBER, self.next_write_number());
        len
    }

    /// A bulk load is being applied: its pages and runs enter the delta of `epoch`.
    pub(crate) fn install_placed(&self, placed: &[Placed], epoch: Epoch) {
        let mut inner = self.inner.lock();
        inner.loaded_in.insert(epoch);
        for &(page, at) in placed {
            inner.logged_runs.remove(&page);
            inner.enter(epoch, page, Some(at));
        }
    }

    /// Gives back pages of a bulk load that no commit has named.
    pub(crate) fn release_placed(&self, placed: impl Iterator<Item = Placed>) {
        let mut inner = self.inner.lock();
        for (page, at) in placed {
            inner.space.release(extent(at));
            inner.ids.give_back(page);
        }
    }

    /// Gives back page ids of a bulk load that have no blocks yet.
    pub(crate) fn give_back_ids(&self, ids: impl Iterator<Item = PageId>) {
        let mut inner = self.inner.lock();
        ids.for_each(|page| inner.ids.give_back(page));
    }

    /// Keeps the runs' blocks from being reused, until [`Store::unpin_runs`]; `None` where one of them is not known (any more).
    pub(crate) fn pin_runs(&self, pages: &[PageId]) -> Option<Vec<BlockPtr>> {
        let mut inner = self.inner.lock();
        let places: Option<Vec<BlockPtr>> = pages.iter().map(|&p| inner.newest(p).or_else(|| inner.retired.run(p))).collect();
        let places = places?;
        places.iter().for_each(|at| inner.space.pin(at.address()));
        Some(places)
    }

    pub(crate) fn unpin_runs(&self, places: &[BlockPtr]) {
        let mut inner = self.inner.lock();
        places.iter().for_each(|at| inner.space.unpin(at.address()));
    }

    /// Recovery: what the log names (runs of blobs, pages of bulk loads) is in use before anything is allocated, and the ids leave
    /// the free list. Blocks that are in use already (a page of the checkpoint) contradict the log, and so do ids.
    pub(crate) fn reserve_logged(&self, placed: &[Placed]) -> Result<()> {
        let mut inner = self.inner.lock();
        for &(page, at) in placed {
            if !inner.space.claim(extent(at)) {
                let what = format!("the log names these blocks, but they are in use or outside the file ({at})");
                return Err(Corruption::page(page.0, None, what).into());
            }
            if inner.map.get(page).is_some() || inner.logged_runs.insert(page, at).is_some() {
                return Err(Corruption::page(page.0, None, "the log names its id, but it is in use").into());
            }
        }
        let inner = &mut *inner;
        if let Some((highest, _)) = inner.logged_runs.last_key_value() {
            inner.ids.reserve(highest.0 + 1, |page| inner.logged_runs.contains_key(&page));
        }
        Ok(())
    }

    /// Recovery has applied the log: runs that it named and that no leaf came to hold are free, when the log that names them is
    /// behind a checkpoint.
    pub(crate) fn release_unclaimed(&self, epoch: Epoch) {
        let mut inner = self.inner.lock();
        for (page, at) in std::mem::take(&mut inner.logged_runs) {
            inner.space.release_after(epoch, extent(at));
            inner.ids.run_freed(page, epoch);
        }
    }
}
