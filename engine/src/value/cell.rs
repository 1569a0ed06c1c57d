//! What stands in a leaf for a value: the value itself, or where it is.
//!
//! | kind | what | bytes |
//! | --- | --- | --- |
//! | 0 | inline | the value |
//! | 1 | overflow | length, LSN (8 bytes) of the commit that wrote the pages, then the page ids, as many as the length needs |
//! | 2 | blob | length, number of runs, each run: page id, crc32c (4 bytes) |
//! | 3 | blob with a long list | like an overflow cell; its pages hold the bytes of a blob cell |
//!
//! Numbers are LEB128 varints unless a size is given.

use crate::blob::BlobRef;
use crate::commit::record::{Reader, varint};
use ashlar_bufferpool::PageId;

/// Kind of a cell that is the value.
pub(crate) const INLINE: u8 = 0;
/// Kind of a cell whose value lives in overflow pages.
pub(crate) const OVERFLOW: u8 = 1;
/// Kind of a cell whose value lives in extents of its own.
pub(crate) const BLOB: u8 = 2;
/// Kind of a cell whose overflow pages hold a blob cell.
pub(crate) const LONG_BLOB: u8 = 3;

/// Where a value's overflow pages are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OverflowRef {
    /// Length of the value in bytes.
    pub(crate) len: u64,
    /// The commit that wrote the pages: every one of them bears it, so that a reader can tell a page that has since been freed
    /// and used again.
    pub(crate) lsn: u64,
    /// The pages, in the order of their bytes.
    pub(crate) pages: Vec<PageId>,
}

/// A run of a blob as the leaf knows it: its place is in the page map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StoredRun {
    pub(crate) page: PageId,
    pub(crate) crc: u32,
}

/// A blob as the leaf knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoredBlob {
    pub(crate) len: u64,
    pub(crate) runs: Vec<StoredRun>,
}

impl StoredBlob {
    /// The page ids of its runs.
    pub(crate) fn pages(&self) -> impl Iterator<Item = PageId> + '_ {
        self.runs.iter().map(|r| r.page)
    }
}

/// A cell, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cell<'a> {
    Inline(&'a [u8]),
    Overflow(OverflowRef),
    Blob(StoredBlob),
    LongBlob(OverflowRef),
}

impl Cell<'_> {
    /// Decodes a cell; `None` where kind or bytes are none that [`encode_overflow`] or [`encode_blob`] makes. `piece`: bytes of
    /// a value that an overflow page holds.
    pub(crate) fn decode(kind: u8, bytes: &[u8], piece: usize) -> Option<Cell<'_>> {
        match kind {
            INLINE => Some(Cell::Inline(bytes)),
            OVERFLOW => decode_overflow(bytes, piece).map(Cell::Overflow),
            LONG_BLOB => decode_overflow(bytes, piece).map(Cell::LongBlob),
            BLOB => decode_blob(bytes).map(Cell::Blob),
            _ => None,
        }
    }
}

/// The overflow pages that a cell names, for reading them ahead. What does not decode names none: whoever comes there is told.
pub(crate) fn overflow_pages(kind: u8, bytes: &[u8], piece: usize) -> Vec<PageId> {
    match kind {
        OVERFLOW | LONG_BLOB => decode_overflow(bytes, piece).map_or_else(Vec::new, |list| list.pages),
        _ => Vec::new(),
    }
}

/// The bytes of an overflow cell.
pub(crate) fn encode_overflow(overflow: &OverflowRef) -> Vec<u8> {
    let mut out = Vec::with_capacity(18 + overflow.pages.len() * 5);
    varint(&mut out, overflow.len);
    out.extend(overflow.lsn.to_le_bytes());
    overflow.pages.iter().for_each(|page| varint(&mut out, page.0));
    out
}

/// The bytes of a blob cell.
pub(crate) fn encode_blob(blob: &BlobRef) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + blob.runs.len() * 9);
    varint(&mut out, blob.len);
    varint(&mut out, blob.runs.len() as u64);
    for run in &blob.runs {
        varint(&mut out, run.page.0);
        out.extend(run.crc.to_le_bytes());
    }
    out
}

fn decode_overflow(bytes: &[u8], piece: usize) -> Option<OverflowRef> {
    let mut reader = Reader { bytes };
    let len = reader.varint()?;
    let lsn = reader.u64()?;
    let count = usize::try_from(len.div_ceil(piece as u64)).ok()?;
    if count > reader.bytes.len() {
        return None;
    }
    let pages: Option<Vec<PageId>> = (0..count).map(|_| reader.varint().map(PageId)).collect();
    reader.bytes.is_empty().then_some(OverflowRef { len, lsn, pages: pages? })
}

/// Decodes the bytes of a blob cell.
pub(crate) fn decode_blob(bytes: &[u8]) -> Option<StoredBlob> {
    let mut reader = Reader { bytes };
    let len = reader.varint()?;
    let count = usize::try_from(reader.varint()?).ok()?;
    if count > reader.bytes.len() {
        return None;
    }
    let runs: Option<Vec<StoredRun>> =
        (0..count).map(|_| Some(StoredRun { page: PageId(reader.varint()?), crc: reader.u32()? })).collect();
    reader.bytes.is_empty().then_some(StoredBlob { len, runs: runs? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobRun;
    use ashlar_bufferpool::BlockPtr;
    use proptest::prelude::*;

    #[test]
    fn cells_come_back() {
        let overflow = OverflowRef { len: 9000, lsn: 77, pages: vec![PageId(3), PageId(1 << 40), PageId(0)] };
        let bytes = encode_overflow(&overflow);
        assert_eq!(Cell::decode(OVERFLOW, &bytes, 4000), Some(Cell::Overflow(overflow.clone())));
        assert_eq!(Cell::decode(LONG_BLOB, &bytes, 4000), Some(Cell::LongBlob(overflow.clone())));
        assert_eq!(Cell::decode(OVERFLOW, &bytes, 5000), None, "another number of pages");
        assert_eq!(overflow_pages(OVERFLOW, &bytes, 4000), overflow.pages);
        assert_eq!(overflow_pages(LONG_BLOB, &bytes, 4000), overflow.pages);
        assert_eq!(overflow_pages(OVERFLOW, &bytes, 5000), []);
        let at = BlockPtr::new(300, 16, 5).unwrap();
        let blob = BlobRef {
            len: 1 << 20,
            runs: vec![BlobRun { page: PageId(8), at, crc: 9 }, BlobRun { page: PageId(9), at, crc: 1 }],
        };
        let stored =
            StoredBlob { len: 1 << 20, runs: vec![StoredRun { page: PageId(8), crc: 9 }, StoredRun { page: PageId(9), crc: 1 }] };
        assert_eq!(Cell::decode(BLOB, &encode_blob(&blob), 4000), Some(Cell::Blob(stored)));
        assert_eq!(overflow_pages(BLOB, &encode_blob(&blob), 4000), [], "its runs are no pages of the pool");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(kind in 0u8..6, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Cell::decode(kind, &bytes, 4000);
        }
    }
}
