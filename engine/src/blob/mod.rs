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
//! 5. Large values go around the pool: between the device and one buffer each, which the reader gets, and which is kept for the next reader
//!    where there is room ([`cache`]). Several transfers of a value are in flight, and none is left when its read or write has ended, however
//!    that was.

mod cache;
mod read;
mod write;

pub(crate) use cache::Cache;
pub(crate) use read::{Pins, Reading, check_run, read};
pub(crate) use write::{NewBlob, PIECE_LEN, write};

use crate::error::{Corruption, Error, Result};
use crate::store::Store;
use crate::value::cell::StoredBlob;
use ashlar_bufferpool::{BlockPtr, PageId};
use ashlar_disk::SyncKind;

/// Bytes of the longest run: a larger blob has several.
pub(crate) const RUN_LEN_MAX: usize = 8 << 20;

/// Bytes of the shortest transfer that a value is divided into: below it a division gains nothing.
const TRANSFER_LEN_MIN: usize = 128 << 10;

/// Bytes of the longest transfer.
const TRANSFER_LEN_MAX: usize = 256 << 10;

/// Transfers of one value in flight at once.
const IN_FLIGHT_MAX: usize = 8;

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

/// Makes written blobs durable.
pub(crate) fn sync(store: &Store) -> Result<()> {
    store.sync(SyncKind::Data)
}

/// Bytes of the transfers that a value of `len` bytes is divided into: a whole number of blocks.
fn transfer_len(len: usize) -> usize {
    (len / IN_FLIGHT_MAX).next_power_of_two().clamp(TRANSFER_LEN_MIN, TRANSFER_LEN_MAX)
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

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::buffer::BLOCK_SIZE_MAX;

    #[test]
    fn transfers_are_whole_blocks_whatever_the_block() {
        let expected = [(1, 128), (256, 128), (1024, 128), (1500, 256), (8192, 256), (1 << 20, 256)];
        for (kib, transfer_kib) in expected {
            assert_eq!(transfer_len(kib << 10), transfer_kib << 10, "{kib} KiB");
        }
        assert!(TRANSFER_LEN_MIN.is_multiple_of(BLOCK_SIZE_MAX) && write::PIECE_LEN.is_multiple_of(BLOCK_SIZE_MAX));
    }
}
