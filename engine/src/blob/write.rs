//! Writing runs: a few transfers in flight, the checksum added up on the way.
//!
//! 1. For each run: blocks and a page id. Then piece by piece: take a buffer, copy the bytes there (the one copy), add them to the
//!    run's checksum, start the write.
//! 2. Nobody waits for a write before the value is whole, except for room among those in flight.
//!
//! Invariant: a [`NewBlob`] that is dropped gives its blocks back when no write to them is in flight any more.

use super::{BlobRef, BlobRun, IN_FLIGHT_MAX, RUN_LEN_MAX, transfer_len};
use crate::database::Shared;
use crate::error::Result;
use crate::flight::Flight;
use crate::pages::{self, EnginePool};
use crate::store::{Extent, Store};
use ashlar_bufferpool::{BlockPtr, PageId};
use ashlar_disk::{AlignedBuf, Buffer};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a piece of a value that is gathered before its length is known, and of its transfers.
pub(crate) const PIECE_LEN: usize = 256 << 10;

/// A blob that has been written and that no commit names yet.
#[derive(Debug)]
pub(crate) struct NewBlob<'a> {
    store: &'a Store,
    flight: Flight,
    blob: BlobRef,
    kept: bool,
}

impl<'a> NewBlob<'a> {
    /// Without any bytes so far.
    pub(crate) fn empty(store: &'a Store) -> NewBlob<'a> {
        NewBlob { store, flight: store.flight(), blob: BlobRef { len: 0, runs: Vec::new() }, kept: false }
    }

    /// Starts writing more bytes to runs of their own. What was appended before, if anything, filled its runs to the last block.
    pub(crate) fn append(&mut self, pool: &EnginePool, value: &[u8]) -> Result<()> {
        let transfer_len = transfer_len(value.len());
        let mut rest = value;
        while !rest.is_empty() {
            let (page, extent) = self.allocate(pool, rest.len())?;
            let part = &rest[..rest.len().min(self.bytes(extent))];
            let (mut crc, mut offset) = (0, self.offset(extent));
            for piece in part.chunks(transfer_len) {
                let len = piece.len().next_multiple_of(self.store.block().bytes());
                self.wait_for_room();
                let mut buf = self.store.spares().take(len);
                buf[..piece.len()].copy_from_slice(piece);
                buf[piece.len()..len].fill(0);
                crc = self.write(crc, offset, &Arc::new(buf), 0..len);
                offset += len as u64;
            }
            self.name(page, extent, crc, part.len());
            rest = &rest[part.len()..];
        }
        Ok(())
    }

    /// The same for `len` bytes that stand in pieces of [`PIECE_LEN`] each: they are written from there. Where there is no room, a
    /// checkpoint may make some.
    pub(crate) fn append_pieces(&mut self, shared: &Shared, mut pieces: Vec<AlignedBuf>, len: usize) -> Result<()> {
        let block = self.store.block().bytes();
        if let (Some(last), end) = (pieces.last_mut(), len % PIECE_LEN) {
            last[end..end.next_multiple_of(block)].fill(0);
        }
        let pieces: Vec<Arc<AlignedBuf>> = pieces.into_iter().map(Arc::new).collect();
        let mut at = 0;
        while at < len {
            let (page, extent) = shared.with_room(|| self.allocate(&shared.pool, len - at))?;
            let end = len.min(at + self.bytes(extent));
            let (mut crc, mut offset, run) = (0, self.offset(extent), at);
            while at < end {
                let range = at % PIECE_LEN..PIECE_LEN.min(at % PIECE_LEN + (end - at)).next_multiple_of(block);
                self.wait_for_room();
                crc = self.write(crc, offset, &pieces[at / PIECE_LEN], range.clone());
                offset += range.len() as u64;
                at = end.min(at + range.len());
            }
            self.name(page, extent, crc, end - run);
        }
        Ok(())
    }

    /// A page id and blocks for the next run of a blob that has `left` bytes. Gives the error of a write that has failed instead.
    fn allocate(&self, pool: &EnginePool, left: usize) -> Result<(PageId, Extent)> {
        debug_assert!(self.blob.len.is_multiple_of(self.store.block().bytes() as u64), "a run in the middle is full");
        self.flight.check()?;
        let blocks = run_blocks(left, self.store.block().bytes());
        pages::take_ids(pool, 1, || self.store.allocate_run(blocks, || pool.dirty_pages()))
    }

    fn bytes(&self, extent: Extent) -> usize {
        extent.len as usize * self.store.block().bytes()
    }

    fn offset(&self, extent: Extent) -> u64 {
        extent.start * self.store.block().bytes() as u64
    }

    /// Before a buffer is taken or filled: so that no more of them are in use than may be in flight.
    fn wait_for_room(&self) {
        self.flight.wait_until_few(IN_FLIGHT_MAX - 1);
    }

    /// Starts the write of one piece; gives the checksum of the run's bytes with these behind.
    fn write(&self, crc: u32, offset: u64, piece: &Arc<AlignedBuf>, range: Range<usize>) -> u32 {
        let crc = crc32c::crc32c_append(crc, &piece[range.clone()]);
        self.flight.write(offset, Buffer::Shared(piece.clone(), range));
        crc
    }

    /// A run of `len` bytes of the value is under way.
    fn name(&mut self, page: PageId, extent: Extent, crc: u32, len: usize) {
        let at = BlockPtr::new(extent.start, extent.len as u32, crc);
        let at = at.expect("run_blocks gives lengths, and the space map addresses, that a pointer can name");
        self.blob.runs.push(BlobRun { page, at, crc });
        self.blob.len += len as u64;
    }

    /// Waits until all of it is written: only then may a record name it, after a sync ([`super::sync`]).
    pub(crate) fn finish(&self) -> Result<()> {
        self.flight.finish()
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
            self.flight.wait_until_few(0);
            self.store.release_blob(&self.blob);
        }
    }
}

/// Writes a value's bytes to new runs. The caller syncs the data file ([`super::sync`]) before the record is appended.
pub(crate) fn write<'a>(pool: &'a EnginePool, value: &[u8]) -> Result<NewBlob<'a>> {
    let mut new = NewBlob::empty(pool.store());
    new.append(pool, value)?;
    new.finish()?;
    Ok(new)
}

/// The number of blocks of the next run of a blob that has `left` bytes: as many as a pointer can name in one, and at most
/// [`RUN_LEN_MAX`].
fn run_blocks(left: usize, block: usize) -> u64 {
    let blocks = left.div_ceil(block) as u64;
    let max = (RUN_LEN_MAX / block) as u64;
    if blocks <= 16 { blocks } else { 1 << blocks.min(max).ilog2() }
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
