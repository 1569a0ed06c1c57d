//! Where the pages of a bulk load go: fresh blocks, written in large transfers, around the pool.
//!
//! Until a commit names them they belong to the [`Loading`], which gives blocks and ids back when it is dropped.

use super::Placed;
use super::packing::{Batch, Image};
use crate::blob;
use crate::database::Shared;
use crate::error::{Corruption, Result};
use crate::flight::Flight;
use crate::store::Draw;
use ashlar_bufferpool::BlockPtr;
use ashlar_disk::Buffer;
use std::sync::Arc;

/// Transfers in flight, at most, when a batch of them is added.
const IN_FLIGHT_MAX: usize = 4;

/// What a bulk load has written so far and no commit names yet.
pub(super) struct Loading {
    shared: Arc<Shared>,
    placed: Vec<Placed>,
    flight: Flight,
    kept: bool,
}

impl Loading {
    pub(super) fn new(shared: Arc<Shared>) -> Loading {
        let flight = shared.store().flight();
        Loading { placed: Vec::new(), flight, kept: false, shared }
    }

    /// Writes the images of a batch, adjacent as far as free space allows.
    pub(super) fn place(&mut self, batch: Batch) -> Result<()> {
        let Batch { staging, images } = batch;
        if images.list().is_empty() {
            return Ok(());
        }
        let store = self.shared.store();
        let block = store.block().bytes();
        let lens: Vec<u64> = images.list().iter().map(|image| (image.len / block) as u64).collect();
        let _promise = store.promise(lens.len() as u64, || self.shared.pool.dirty_pages(), Draw::Ordinary)?;
        let extents = store.allocate_batch(&lens)?;
        // Before there is memory for the next batch.
        self.flight.wait_until_few(IN_FLIGHT_MAX - 1);
        let (mut at, mut pointers) = (0, Vec::with_capacity(extents.len()));
        let mut stretches: Vec<(u64, usize, usize)> = Vec::new();
        for (&Image { page, len, crc }, extent) in images.list().iter().zip(&extents) {
            let Some(pointer) = BlockPtr::new(extent.start, extent.len as u32, crc) else {
                return Err(Corruption::page(page.0, None, "no pointer can name its blocks").into());
            };
            pointers.push(pointer);
            let offset = extent.start * block as u64;
            match stretches.last_mut() {
                Some((start, from, to)) if *start + (*to - *from) as u64 == offset => *to += len,
                _ => stretches.push((offset, at, at + len)),
            }
            at += len;
        }
        self.placed.extend(images.are_placed().zip(pointers));
        let staging = Arc::new(staging);
        let writes = stretches.into_iter().map(|(offset, from, to)| (offset, Buffer::Shared(staging.clone(), from..to)));
        self.flight.write_all(writes);
        self.flight.check()
    }

    /// All of it is written, and durable, as is whatever else was written to the data file before.
    pub(super) fn finish(&mut self) -> Result<()> {
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

impl Drop for Loading {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.flight.wait_until_few(0);
        self.shared.store().release_placed(self.placed.iter().copied());
    }
}
