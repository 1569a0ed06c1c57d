//! Blobs: values too large for the log, in runs of blocks of their own.
//!
//! Invariants:
//! 1. A blob's runs are written and the data file is synced before the log record that names them is appended; until then they
//!    belong to a [`NewBlob`], which gives blocks and page ids back when it is dropped.
//! 2. Each run has a page id and, from the epoch in which its commit is applied, an entry in the page map, like a page; the buffer
//!    pool never hears of it. The leaf holds the blob's length and each run's page id and crc32c.
//! 3. A run that no snapshot sees any more in epoch `e` is free when checkpoint `e` is durable, never earlier: the log names it. While
//!    it is being read its blocks are pinned.
//! 4. A reader has a snapshot that holds back the runs. It pins them and then asks whether the snapshot was taken away: if not, they
//!    are what it thinks.

use crate::error::{Corruption, Error, Result};
use crate::pages::{self, EnginePool};
use crate::store::page_header::POINTER_CRC_MASK;
use crate::store::{Extent, Store};
use crate::value::cell::{StoredBlob, StoredRun};
use ashlar_bufferpool::{BlockPtr, Located, PageId, PageStore};
use ashlar_disk::sync::Mutex;
use ashlar_disk::{AlignedBuf, Buffer, Durability, SyncKind, Transfer, TransferOp, checksum};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of the longest run: a larger blob has several.
pub(crate) const RUN_LEN_MAX: usize = 8 << 20;

/// Bytes of one transfer.
const TRANSFER_LEN: usize = 1 << 20;

/// Transfers in flight at once.
const IN_FLIGHT_MAX: usize = 4;

/// A run of adjacent blocks that hold a part of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlobRun {
    /// Its id in the page map.
    pub(crate) page: PageId,
    /// Where it stands.
    pub(crate) at: BlockPtr,
    /// crc32c of its bytes, zeros at the end included.
    pub(crate) crc: u32,
}

/// A blob as the log names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BlobRef {
    /// Its length in bytes.
    pub(crate) len: u64,
    /// Its runs, in the order of their bytes.
    pub(crate) runs: Vec<BlobRun>,
}

/// A blob that has been written and that no commit names yet.
#[derive(Debug)]
pub(crate) struct NewBlob<'a> {
    store: &'a Store,
    blob: BlobRef,
    kept: bool,
}

impl<'a> NewBlob<'a> {
    /// Without any bytes so far.
    pub(crate) fn empty(store: &'a Store) -> NewBlob<'a> {
        NewBlob { store, blob: BlobRef { len: 0, runs: Vec::new() }, kept: false }
    }

    /// Writes more bytes to runs of their own. What was appended before, if anything, filled its runs to the last block.
    pub(crate) fn append(&mut self, pool: &EnginePool, value: &[u8]) -> Result<()> {
        let store = pool.store();
        debug_assert!(self.blob.len.is_multiple_of(store.block().bytes() as u64), "a run in the middle is full");
        let failed: Arc<Mutex<Option<Error>>> = Arc::default();
        let mut rest = value;
        while !rest.is_empty() {
            let blocks = run_blocks(rest.len(), store.block().bytes());
            let (page, extent) = pages::take_ids(pool, 1, || store.allocate_run(blocks, || pool.dirty_pages()))?;
            let bytes = extent.len as usize * store.block().bytes();
            let part = &rest[..rest.len().min(bytes)];
            let crc = submit_run(store, extent, part, bytes, &failed);
            let Some(at) = BlockPtr::new(extent.start, extent.len as u32, crc) else {
                return Err(Corruption::page(page.0, None, "no pointer can name this run").into());
            };
            self.blob.runs.push(BlobRun { page, at, crc });
            rest = &rest[part.len()..];
        }
        store.queue().drain();
        self.blob.len += value.len() as u64;
        failed.lock().take().map_or(Ok(()), Err)
    }

    /// What the record names.
    pub(crate) fn reference(&self) -> &BlobRef {
        &self.blob
    }

    /// The record that names it has been appended.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewBlob<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // An error may have come while transfers were in flight: their blocks are nobody else's before they have ended.
            self.store.queue().drain();
            self.store.release_blob(&self.blob);
        }
    }
}

/// Writes a value's bytes to new runs. The caller syncs the data file ([`sync`]) before the record is appended.
pub(crate) fn write<'a>(pool: &'a EnginePool, value: &[u8]) -> Result<NewBlob<'a>> {
    let mut new = NewBlob::empty(pool.store());
    new.append(pool, value)?;
    Ok(new)
}

/// Makes written blobs durable.
pub(crate) fn sync(store: &Store) -> Result<()> {
    store.sync(SyncKind::Data)
}

/// The number of blocks of the next run of a blob that has `left` bytes: as many as a pointer can name in one, and at most
/// [`RUN_LEN_MAX`].
fn run_blocks(left: usize, block: usize) -> u64 {
    let blocks = left.div_ceil(block) as u64;
    let max = (RUN_LEN_MAX / block) as u64;
    if blocks <= 16 { blocks } else { 1 << blocks.min(max).ilog2() }
}

/// Starts the writes of one run, a few in flight; gives the crc32c of its bytes.
fn submit_run(store: &Store, extent: Extent, part: &[u8], bytes: usize, failed: &Arc<Mutex<Option<Error>>>) -> u32 {
    let mut crc = 0;
    for from in (0..bytes).step_by(TRANSFER_LEN) {
        let len = TRANSFER_LEN.min(bytes - from);
        let mut buf = AlignedBuf::zeroed(len);
        let piece = &part[from.min(part.len())..(from + len).min(part.len())];
        buf[..piece.len()].copy_from_slice(piece);
        crc = crc32c::crc32c_append(crc, &buf[..len]);
        let failed = failed.clone();
        store.queue().wait(&|| store.queue().in_flight() < IN_FLIGHT_MAX);
        store.queue().submit(vec![Transfer {
            file: store.file().clone(),
            op: TransferOp::Write(Durability::Later),
            offset: extent.start * store.block().bytes() as u64 + from as u64,
            buffers: vec![Buffer::Heap(buf)],
            done: Box::new(move |completed| {
                if let Err(e) = completed.result {
                    failed.lock().get_or_insert(e.into());
                }
            }),
        }]);
    }
    crc
}

/// Reads a whole blob, into a buffer that is longer by less than a block. `None`: it was freed meanwhile. `is_valid`: whether
/// whoever reads holds it back still (invariant 4).
pub(crate) fn read(store: &Store, blob: &StoredBlob, is_valid: impl FnOnce() -> bool) -> Result<Option<AlignedBuf>> {
    let pages: Vec<PageId> = blob.runs.iter().map(|r| r.page).collect();
    let pins = store.pin_runs(&pages);
    if !is_valid() {
        return Ok(None);
    }
    let Some(pins) = pins else { return Err(unknown_run(blob)) };
    let block = store.block().bytes();
    let total: usize = pins.places.iter().map(|at| at.blocks() as usize * block).sum();
    if (total as u64) < blob.len {
        return Err(unknown_run(blob));
    }
    let mut buf = AlignedBuf::zeroed(total);
    let mut from = 0;
    for (run, &at) in blob.runs.iter().zip(&pins.places) {
        let len = at.blocks() as usize * block;
        store.file().read(at.address() * block as u64, &[&buf.words_mut()[from / 8..(from + len) / 8]])?;
        let crc = crc32c::crc32c(&buf[from..from + len]);
        if !checksum::fits(crc, run.crc) {
            return Err(run_fault(store, run.page, at, crc, run.crc));
        }
        from += len;
    }
    Ok(Some(buf))
}

/// Reads a run, several transfers in flight, and checks it: its length in bytes. For runs of a checkpoint that is held.
pub(crate) fn check_run(store: &Store, run: &StoredRun) -> Result<u64> {
    let Located::At(at) = store.locate(run.page) else {
        let what = "a leaf names this run, but the page map has no place for it";
        return Err(Corruption::page(run.page.0, None, what).into());
    };
    let block = store.block().bytes();
    let bytes = at.blocks() as usize * block;
    let pieces: Arc<Mutex<BTreeMap<usize, Result<Vec<Buffer>>>>> = Arc::default();
    let starts: Vec<usize> = (0..bytes).step_by(TRANSFER_LEN).collect();
    let transfers = starts.iter().map(|&from| {
        let pieces = pieces.clone();
        Transfer {
            file: store.file().clone(),
            op: TransferOp::Read,
            offset: at.address() * block as u64 + from as u64,
            buffers: vec![Buffer::Heap(AlignedBuf::zeroed(TRANSFER_LEN.min(bytes - from)))],
            done: Box::new(move |completed| {
                let outcome = completed.result.map(|()| completed.buffers).map_err(Error::from);
                pieces.lock().insert(from, outcome);
            }),
        }
    });
    store.queue().submit(transfers.collect());
    store.queue().wait(&|| pieces.lock().len() == starts.len());
    let mut crc = 0;
    for (_, buffers) in std::mem::take(&mut *pieces.lock()) {
        for buffer in buffers? {
            if let Buffer::Heap(buf) = buffer {
                crc = crc32c::crc32c_append(crc, &buf);
            }
        }
    }
    if !checksum::fits(crc, run.crc) {
        return Err(run_fault(store, run.page, at, crc, run.crc));
    }
    if !checksum::fits(crc & POINTER_CRC_MASK, at.crc()) {
        let what = format!("checksum {:#08x} in the block pointer, expected {:#08x}", at.crc(), crc & POINTER_CRC_MASK);
        return Err(Corruption::page(run.page.0, None, what).into());
    }
    Ok(bytes as u64)
}

pub(crate) fn unknown_run(blob: &StoredBlob) -> Error {
    let page = blob.runs.first().map_or(0, |r| r.page.0);
    Corruption::page(page, None, format!("a blob of {} bytes names runs that the page map does not have, or too few", blob.len))
        .into()
}

/// The error of a run whose bytes are not what was written.
pub(crate) fn run_fault(store: &Store, page: PageId, at: BlockPtr, found: u32, expected: u32) -> Error {
    Corruption {
        place: format!("{}, block {}, blob run {}", store.file().path().display(), at.address(), page.0),
        page: Some(page.0),
        block: Some(at.address()),
        tree: None,
        what: format!("checksum {found:#010x}, expected {expected:#010x}"),
    }
    .into()
}

/// Blocks that are not handed out while this lives.
pub(crate) struct Pins<'a> {
    pub(crate) store: &'a Store,
    pub(crate) places: Vec<BlockPtr>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        self.store.unpin_runs(&self.places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_lengths_that_a_pointer_can_name_and_cover_the_value() {
        for len in [1, 4096, 4097, 65536, 65537, 70_000, 131_071, 131_073, 1 << 20, (8 << 20) + 1, 100 << 20] {
            let mut left: usize = len;
            let mut runs = 0;
            while left > 0 {
                let blocks = run_blocks(left, 4096);
                assert!(BlockPtr::new(100, blocks as u32, 0).is_some(), "{blocks} blocks");
                left = left.saturating_sub(blocks as usize * 4096);
                runs += 1;
            }
            assert!(runs <= 12 + len / RUN_LEN_MAX, "{len} bytes take {runs} runs");
        }
    }
}
