//! The value that a leaf's cell names, from whatever is left of its pages and runs.
//!
//! A value is given out only if all of it is there and is what the cell says: of overflow pages the commit, the number of each and the
//! length, of runs the crc32c of each. A run bears no header, so one that nothing points at can't be found.

use super::find::OverflowPlace;
use super::map::FoundMap;
use super::pages::{Blocks, Place};
use crate::store::page_header::{COMMIT_LSN, KIND, PAGE_HEADER_LEN, PAGE_ID, PageKind, TREE_ID, get_u32, get_u64};
use crate::value::cell::{self, Cell, OverflowRef, StoredBlob, StoredRun};
use crate::value::overflow::piece_len_max;
use ashlar_bufferpool::{BlockPtr, PageId};
use ashlar_disk::AlignedBuf;
use std::collections::BTreeMap;

/// Where what a cell names may be found.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The map, as far as it was read.
    pub(super) map: Option<FoundMap>,
    /// What records of the log name.
    pub(super) logged: BTreeMap<PageId, BlockPtr>,
    /// Overflow pages that were found in the file; sorted.
    pub(super) overflow: Vec<OverflowPlace>,
}

/// A value.
#[derive(Debug)]
pub(super) enum Fetched {
    /// In memory.
    Bytes(Vec<u8>),
    /// In runs, to be read one after the other.
    Runs(StoredBlob),
}

/// A value that can't be had.
#[derive(Debug)]
pub(super) struct Lost {
    /// Its length, where that is known.
    pub(super) len: Option<u64>,
    /// Why.
    pub(super) why: String,
}

impl Places {
    fn pointers(&self, page: PageId) -> impl Iterator<Item = BlockPtr> {
        let mapped = self.map.as_ref().and_then(|map| map.get(page));
        mapped.into_iter().chain(self.logged.get(&page).copied())
    }

    /// The value of a cell in a leaf of `tree`.
    pub(super) fn fetch(&self, blocks: &mut Blocks, tree: u64, kind: u8, bytes: &[u8]) -> Result<Fetched, Lost> {
        let undecodable = || Lost { len: None, why: format!("the leaf's cell (kind {kind}) does not decode") };
        match Cell::decode(kind, bytes, piece_len_max(blocks.page_size)).ok_or_else(undecodable)? {
            Cell::Inline(bytes) => Ok(Fetched::Bytes(bytes.to_vec())),
            Cell::Overflow(list) => self.overflow(blocks, tree, &list).map(Fetched::Bytes),
            Cell::Blob(blob) => Ok(Fetched::Runs(blob)),
            Cell::LongBlob(list) => {
                let bytes = self.overflow(blocks, tree, &list).map_err(|lost| Lost { len: None, ..lost })?;
                cell::decode_blob(&bytes).map(Fetched::Runs).ok_or_else(undecodable)
            }
        }
    }

    fn overflow(&self, blocks: &mut Blocks, tree: u64, list: &OverflowRef) -> Result<Vec<u8>, Lost> {
        let mut out = Vec::new();
        for (number, &page) in list.pages.iter().enumerate() {
            let piece = self.piece(blocks, tree, list.lsn, number, page);
            out.extend(piece.map_err(|why| Lost { len: Some(list.len), why: format!("overflow page {}: {why}", page.0) })?);
        }
        if out.len() as u64 == list.len {
            return Ok(out);
        }
        Err(Lost { len: Some(list.len), why: format!("its overflow pages hold {} bytes", out.len()) })
    }

    fn piece(&self, blocks: &mut Blocks, tree: u64, lsn: u64, number: usize, page: PageId) -> Result<Vec<u8>, String> {
        let mut why = "it was not found".to_owned();
        for at in self.pointers(page) {
            match blocks.page(page, at) {
                Ok(bytes) => match piece_of(&bytes, tree, lsn, number, page) {
                    Some(piece) => return Ok(piece),
                    None => why = "it holds something else".into(),
                },
                Err(missing) => why = format!("block {}: {}", at.address(), missing.text()),
            }
        }
        for place in self.found(page, lsn) {
            let bytes = blocks.page_at(place);
            if let Some(piece) = bytes.ok().and_then(|bytes| piece_of(&bytes, tree, lsn, number, page)) {
                return Ok(piece);
            }
        }
        Err(why)
    }

    /// Where images of an overflow page of that commit were found, the newest first.
    fn found(&self, page: PageId, lsn: u64) -> impl Iterator<Item = Place> {
        let key = |found: &OverflowPlace| (found.page, found.lsn);
        let first = self.overflow.partition_point(|found| key(found) < (page.0, lsn));
        let end = self.overflow.partition_point(|found| key(found) <= (page.0, lsn));
        self.overflow[first..end].iter().rev().map(|found| found.place)
    }

    /// A run of a large value, checked: its bytes, padding included.
    pub(super) fn run(&self, blocks: &mut Blocks, run: StoredRun) -> Result<AlignedBuf, String> {
        let mut why = "nothing says where it stands: runs bear no header, so it can't be looked for".to_owned();
        for at in self.pointers(run.page) {
            match blocks.read(at.into()) {
                Ok(bytes) => {
                    let crc = crc32c::crc32c(&bytes[..at.blocks() as usize * blocks.block.bytes()]);
                    if crc == run.crc {
                        return Ok(bytes);
                    }
                    let expected = run.crc;
                    why = format!("block {}: its checksum is {crc:#010x}, expected {expected:#010x}", at.address());
                }
                Err(missing) => why = format!("block {}: {}", at.address(), missing.text()),
            }
        }
        Err(format!("run {}: {why}", run.page.0))
    }
}

/// The piece in an overflow page, if it is the one that is looked for.
fn piece_of(bytes: &[u8], tree: u64, lsn: u64, number: usize, page: PageId) -> Option<Vec<u8>> {
    let is_it = bytes[KIND] == PageKind::Overflow.code()
        && get_u64(bytes, PAGE_ID) == page.0
        && get_u64(bytes, TREE_ID) == tree
        && get_u64(bytes, COMMIT_LSN) == lsn
        && get_u32(bytes, PAGE_HEADER_LEN) as usize == number;
    let len = get_u32(bytes, PAGE_HEADER_LEN + 4) as usize;
    let piece = bytes.get(PAGE_HEADER_LEN + 8..)?.get(..len)?;
    is_it.then(|| piece.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::page_header::{format_header, put_u32, put_u64};

    #[test]
    fn a_piece_is_the_one_that_is_looked_for_or_none() {
        let mut page = vec![0; 4096];
        format_header(&mut page, PageKind::Overflow, 0, 7, 3);
        put_u64(&mut page, COMMIT_LSN, 900);
        put_u32(&mut page, PAGE_HEADER_LEN, 2);
        put_u32(&mut page, PAGE_HEADER_LEN + 4, 5);
        page[PAGE_HEADER_LEN + 8..][..5].copy_from_slice(b"piece");
        assert_eq!(piece_of(&page, 3, 900, 2, PageId(7)).as_deref(), Some(&b"piece"[..]));
        for (tree, lsn, number, id) in [(4, 900, 2, 7), (3, 901, 2, 7), (3, 900, 1, 7), (3, 900, 2, 8)] {
            assert_eq!(piece_of(&page, tree, lsn, number, PageId(id)), None, "{tree} {lsn} {number} {id}");
        }
        put_u32(&mut page, PAGE_HEADER_LEN + 4, 5000);
        assert_eq!(piece_of(&page, 3, 900, 2, PageId(7)), None, "longer than the page");
        page[KIND] = PageKind::Leaf.code();
        put_u32(&mut page, PAGE_HEADER_LEN + 4, 5);
        assert_eq!(piece_of(&page, 3, 900, 2, PageId(7)), None, "another kind");
    }
}
