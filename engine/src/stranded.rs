//! How writes whose leaves can't be read stand in the catalog: the checksum of what follows (CRC-32C, 4 bytes), the LSN (8 bytes), the write
//! as a record of its own; cut into pieces that an entry takes.
//!
//! Invariants:
//! 1. The pieces of a write are numbered from 0 on, without a gap.
//! 2. Of each key there is one write at most, the newest.
//! 3. The checksum is for salvage, which may find pieces of one number that belong to different writes.

use crate::btree::TreeId;
use crate::catalog::{CATALOG_TREE, StrandedPiece};
use crate::commit::record::{self, Operation};
use crate::error::{Corruption, Result};
use crate::postponed::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A write as the catalog has it.
#[derive(Debug)]
pub(crate) struct StrandedWrite {
    pub(crate) number: u64,
    pub(crate) pieces: u16,
    pub(crate) lsn: u64,
    pub(crate) record: Arc<[u8]>,
}

impl StrandedWrite {
    /// What it writes.
    pub(crate) fn operation(&self) -> Result<(TreeId, &[u8])> {
        let bad = |what: &str| corruption(self.number, what);
        match record::read(&self.record, self.lsn).as_deref() {
            Ok([Operation::Put { tree, key, .. } | Operation::Delete { tree, key }]) => Ok((*tree, key)),
            Ok(_) => Err(bad("it is no put or removal of a key").into()),
            Err(_) => Err(bad("it is no record").into()),
        }
    }
}

fn corruption(number: u64, what: &str) -> Corruption {
    let place = format!("write {number} in the catalog that waits for its page");
    Corruption { place, page: None, block: None, tree: Some(CATALOG_TREE.0), what: what.into() }
}

/// The pieces of a write, of so many bytes at most; `None`: they are too many.
pub(crate) fn split(lsn: u64, record: &[u8], piece_max: usize) -> Option<Vec<Vec<u8>>> {
    let body = [&lsn.to_le_bytes()[..], record].concat();
    let whole = [&crc32c::crc32c(&body).to_le_bytes()[..], &body].concat();
    let pieces: Vec<Vec<u8>> = whole.chunks(piece_max).map(<[u8]>::to_vec).collect();
    u16::try_from(pieces.len()).is_ok().then_some(pieces)
}

/// Pieces that were found, in whatever order.
#[derive(Default, Debug)]
pub(crate) struct Pieces(BTreeMap<u64, BTreeMap<u16, Vec<u8>>>);

impl Pieces {
    pub(crate) fn add(&mut self, piece: StrandedPiece) {
        self.0.entry(piece.number).or_default().insert(piece.piece, piece.bytes);
    }

    /// The writes that they make up, in the order of their numbers; or what is wrong with one.
    pub(crate) fn writes(self) -> impl Iterator<Item = Result<StrandedWrite>> {
        self.0.into_iter().map(|(number, pieces)| {
            let count = pieces.len() as u16;
            if pieces.last_key_value().is_none_or(|(last, _)| usize::from(*last) + 1 != pieces.len()) {
                return Err(corruption(number, "a piece of it is missing").into());
            }
            let whole: Vec<u8> = pieces.into_values().flatten().collect();
            let Some((crc, body)) = whole.split_first_chunk::<4>() else {
                return Err(corruption(number, "it has no checksum").into());
            };
            if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
                return Err(corruption(number, "its checksum is wrong").into());
            }
            let Some((lsn, record)) = body.split_first_chunk() else { return Err(corruption(number, "it has no LSN").into()) };
            let write = StrandedWrite { number, pieces: count, lsn: u64::from_le_bytes(*lsn), record: record.into() };
            write.operation()?;
            Ok(write)
        })
    }

    /// The same in a checkpoint whose last commit is at `last_commit`: each LSN is at most that, and of each key there is one.
    pub(crate) fn checked(self, last_commit: u64) -> impl Iterator<Item = Result<StrandedWrite>> {
        let mut seen = BTreeSet::new();
        self.writes().map(move |write| {
            let write = write?;
            if write.lsn > last_commit {
                let what = format!("its LSN {} is beyond the checkpoint's last commit, at {last_commit}", write.lsn);
                return Err(corruption(write.number, &what).into());
            }
            let (tree, key) = write.operation()?;
            match seen.insert((tree, key.to_vec())) {
                true => Ok(write),
                false => Err(corruption(write.number, "it is the second of its key").into()),
            }
        })
    }

    /// The same as a table.
    pub(crate) fn table(self, last_commit: u64) -> Result<Table> {
        let table = Table::default();
        for write in self.checked(last_commit) {
            let write = write?;
            table.add(write.lsn, &write.record)?;
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: u64, piece: u16, bytes: &[u8]) -> StrandedPiece {
        StrandedPiece { number, piece, bytes: bytes.to_vec() }
    }

    #[test]
    fn what_was_split_comes_back() {
        for len in [0, 1, 70, 79, 80, 81, 82, 500] {
            let value = vec![7; len];
            let put = Operation::Put { tree: TreeId(5), key: b"key", value: &value };
            let split = split(9, &record::single(&put), 100).unwrap();
            let mut pieces = Pieces::default();
            for (at, bytes) in split.iter().enumerate().rev() {
                assert!(bytes.len() == 100 || at + 1 == split.len());
                pieces.add(piece(3, at as u16, bytes));
            }
            let write = pieces.writes().next().unwrap().unwrap();
            assert_eq!((write.number, usize::from(write.pieces), write.lsn), (3, split.len(), 9));
            assert_eq!(record::read(&write.record, 9).unwrap()[..], [put]);
        }
        assert!(split(9, &[0; 70_000], 1).is_none());
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let put = record::single(&Operation::Put { tree: TreeId(5), key: b"key", value: &[7; 50] });
        let removal = record::single(&Operation::DropKeyspace { tree: TreeId(5), name: "k" });
        let whole = split(9, &put, 20).unwrap();
        let all_but = |left_out: usize| {
            let kept = whole.iter().enumerate().filter(|(at, _)| *at != left_out);
            kept.map(|(at, bytes)| piece(1, at as u16, bytes)).collect::<Vec<_>>()
        };
        let mut twice = Pieces::default();
        for number in 0..2 {
            whole.iter().enumerate().for_each(|(at, bytes)| twice.add(piece(number, at as u16, bytes)));
        }
        let outcomes: Vec<bool> = twice.checked(9).map(|write| write.is_ok()).collect();
        assert_eq!(outcomes, [true, false], "of a key there is one");
        let mut late = Pieces::default();
        whole.iter().enumerate().for_each(|(at, bytes)| late.add(piece(0, at as u16, bytes)));
        assert!(late.checked(8).next().unwrap().is_err(), "beyond the checkpoint");
        let cases = (0..whole.len())
            .map(all_but)
            .chain([vec![piece(1, 0, b"short")], vec![piece(1, 0, &split(9, &removal, 99).unwrap()[0])]]);
        for pieces in cases {
            let mut found = Pieces::default();
            pieces.into_iter().for_each(|piece| found.add(piece));
            assert!(found.writes().next().unwrap().is_err());
        }
    }
}
