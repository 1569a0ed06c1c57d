//! What a commit's record in the log says: its operations as results, in bytes.
//!
//! A record is a format byte (1), then operations until the end. Numbers are LEB128 varints unless a size is given; a *string*
//! is its length and its bytes.
//!
//! | code | operation | fields |
//! | --- | --- | --- |
//! | 1 | put | tree id, key string, value string |
//! | 2 | delete | tree id, key string |
//! | 3 | delete range | tree id, lower bound, upper bound; a bound is a byte (0 none, 1 included, 2 excluded) and, unless none, a string |
//! | 4 | create keyspace | tree id, name string |
//! | 5 | drop keyspace | tree id, name string |
//! | 6 | clear keyspace | tree id, tree id of the empty tree that takes its place, name string |
//! | 7 | put blob | tree id, key string, length, number of runs, each run: page id, block pointer (8 bytes), crc32c (4 bytes) |
//! | 8 | bulk load | tree id, tree id of the tree that takes its place, page id of that one's root, number of entries, name string, number of pages and runs, each: page id less the one before it, block pointer (8 bytes) |
//!
//! Invariants:
//! 1. Point operations of one tree that stand next to each other ascend by key, each key once: of several operations on one
//!    key the last counts. A range, create, drop or clear ends such a group.
//! 2. [`read`] accepts exactly what a writer makes, and gives an error for anything else, never a panic.

use crate::blob::{BlobRef, BlobRun};
use crate::btree::TreeId;
use crate::bulk::Placed;
use crate::error::{Corruption, Error, Result};
use ashlar_bufferpool::{BlockPtr, PageId};
use smallvec::SmallVec;
use std::ops::{Bound, Range};

const FORMAT: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;
const CREATE: u8 = 4;
const DROP: u8 = 5;
const CLEAR: u8 = 6;
const PUT_BLOB: u8 = 7;
const BULK_LOAD: u8 = 8;

/// One operation of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Operation<'a> {
    Put { tree: TreeId, key: &'a [u8], value: &'a [u8] },
    PutBlob { tree: TreeId, key: &'a [u8], blob: BlobRef },
    Delete { tree: TreeId, key: &'a [u8] },
    DeleteRange { tree: TreeId, from: Bound<&'a [u8]>, to: Bound<&'a [u8]> },
    CreateKeyspace { tree: TreeId, name: &'a str },
    DropKeyspace { tree: TreeId, name: &'a str },
    ClearKeyspace { tree: TreeId, new_tree: TreeId, name: &'a str },
    BulkLoad { tree: TreeId, new_tree: TreeId, root: PageId, count: u64, name: &'a str, placed: Vec<Placed> },
}

/// Operations of a record. Most have one, which takes no memory of its own.
pub(crate) type Operations<'a> = SmallVec<[Operation<'a>; 1]>;

impl Operation<'_> {
    /// The tree that it is about.
    pub(crate) fn tree(&self) -> TreeId {
        match self {
            Operation::Put { tree, .. }
            | Operation::PutBlob { tree, .. }
            | Operation::Delete { tree, .. }
            | Operation::DeleteRange { tree, .. }
            | Operation::CreateKeyspace { tree, .. }
            | Operation::DropKeyspace { tree, .. }
            | Operation::ClearKeyspace { tree, .. }
            | Operation::BulkLoad { tree, .. } => *tree,
        }
    }

    /// The tree and key of a point operation.
    pub(crate) fn point(&self) -> Option<(TreeId, &[u8])> {
        match self {
            Operation::Put { tree, key, .. } | Operation::PutBlob { tree, key, .. } | Operation::Delete { tree, key } => {
                Some((*tree, key))
            }
            _ => None,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Operation::Put { tree, key, value } => {
                head(out, PUT, *tree);
                string(out, key);
                string(out, value);
            }
            Operation::PutBlob { tree, key, blob } => {
                head(out, PUT_BLOB, *tree);
                string(out, key);
                varint(out, blob.len);
                varint(out, blob.runs.len() as u64);
                for run in &blob.runs {
                    varint(out, run.page.0);
                    out.extend(run.at.to_bits().to_le_bytes());
                    out.extend(run.crc.to_le_bytes());
                }
            }
            Operation::Delete { tree, key } => {
                head(out, DELETE, *tree);
                string(out, key);
            }
            Operation::DeleteRange { tree, from, to } => {
                head(out, DELETE_RANGE, *tree);
                bound(out, from);
                bound(out, to);
            }
            Operation::CreateKeyspace { tree, name } => {
                head(out, CREATE, *tree);
                string(out, name.as_bytes());
            }
            Operation::DropKeyspace { tree, name } => {
                head(out, DROP, *tree);
                string(out, name.as_bytes());
            }
            Operation::ClearKeyspace { tree, new_tree, name } => {
                head(out, CLEAR, *tree);
                varint(out, new_tree.0);
                string(out, name.as_bytes());
            }
            Operation::BulkLoad { tree, new_tree, root, count, name, placed } => {
                head(out, BULK_LOAD, *tree);
                varint(out, new_tree.0);
                varint(out, root.0);
                varint(out, *count);
                string(out, name.as_bytes());
                placed_list(out, placed);
            }
        }
    }
}

/// The record of a single put, without any intermediate copy: the hot path of small commits.
pub(crate) fn single(operation: &Operation<'_>) -> Vec<u8> {
    let size = match operation {
        Operation::Put { key, value, .. } => 32 + key.len() + value.len(),
        Operation::Delete { key, .. } => 24 + key.len(),
        _ => 64,
    };
    let mut out = Vec::with_capacity(size);
    out.push(FORMAT);
    operation.encode(&mut out);
    out
}

/// The record of several operations, in the order they were made; later ones count (invariant 1).
pub(crate) fn many(operations: &[Operation<'_>]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    let mut rest = operations;
    while let Some(first) = rest.first() {
        if first.point().is_none() {
            first.encode(&mut out);
            rest = &rest[1..];
            continue;
        }
        let group = rest.iter().take_while(|o| o.point().is_some()).count();
        encode_points(&rest[..group], &mut out);
        rest = &rest[group..];
    }
    out
}

/// Sorts a group of point operations by tree and key, keeps the last of each key, and encodes them.
fn encode_points(group: &[Operation<'_>], out: &mut Vec<u8>) {
    let mut order: Vec<&Operation<'_>> = group.iter().collect();
    order.sort_by_key(|o| o.point());
    for (i, operation) in order.iter().enumerate() {
        let overtaken = order.get(i + 1).is_some_and(|next| next.point() == operation.point());
        if !overtaken {
            operation.encode(out);
        }
    }
}

/// The operations of a record. `lsn` is for the error.
pub(crate) fn read(record: &[u8], lsn: u64) -> Result<Operations<'_>> {
    let mut out = Operations::new();
    each(record, lsn, |_, operation| out.push(operation))?;
    Ok(out)
}

/// Hands over the operations of a record, and where in it each one stands.
pub(crate) fn each<'a>(record: &'a [u8], lsn: u64, mut each: impl FnMut(Range<usize>, Operation<'a>)) -> Result<()> {
    let mut reader = Reader { bytes: record };
    if reader.byte() != Some(FORMAT) {
        return Err(Corruption::record(lsn, "unknown record format").into());
    }
    while !reader.bytes.is_empty() {
        let start = record.len() - reader.bytes.len();
        let operation = reader.operation().ok_or_else(|| malformed(lsn, record.len() - reader.bytes.len()))?;
        each(start..record.len() - reader.bytes.len(), operation);
    }
    Ok(())
}

/// The operation that `bytes`, a part of a record, begin with.
pub(crate) fn one(bytes: &[u8], lsn: u64) -> Result<Operation<'_>> {
    Reader { bytes }.operation().ok_or_else(|| malformed(lsn, 0))
}

fn malformed(lsn: u64, at: usize) -> Error {
    Corruption::record(lsn, format!("operation before byte {at} is malformed")).into()
}

fn head(out: &mut Vec<u8>, code: u8, tree: TreeId) {
    out.push(code);
    varint(out, tree.0);
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Pages in ascending order of their ids.
fn placed_list(out: &mut Vec<u8>, placed: &[Placed]) {
    varint(out, placed.len() as u64);
    let mut before = 0;
    for (page, at) in placed {
        debug_assert!(page.0 >= before);
        varint(out, page.0 - before);
        out.extend(at.to_bits().to_le_bytes());
        before = page.0;
    }
}

fn bound(out: &mut Vec<u8>, bound: &Bound<&[u8]>) {
    match bound {
        Bound::Unbounded => out.push(0),
        Bound::Included(key) => {
            out.push(1);
            string(out, key);
        }
        Bound::Excluded(key) => {
            out.push(2);
            string(out, key);
        }
    }
}

/// Appends a number as a LEB128 varint.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what the functions above write; `None` at anything else.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(head)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }

    fn name(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    fn tree(&mut self) -> Option<TreeId> {
        self.varint().map(TreeId)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn bound(&mut self) -> Option<Bound<&'a [u8]>> {
        match self.byte()? {
            0 => Some(Bound::Unbounded),
            1 => self.string().map(Bound::Included),
            2 => self.string().map(Bound::Excluded),
            _ => None,
        }
    }

    fn operation(&mut self) -> Option<Operation<'a>> {
        let code = self.byte()?;
        let tree = self.tree()?;
        Some(match code {
            PUT => Operation::Put { tree, key: self.string()?, value: self.string()? },
            DELETE => Operation::Delete { tree, key: self.string()? },
            DELETE_RANGE => Operation::DeleteRange { tree, from: self.bound()?, to: self.bound()? },
            CREATE => Operation::CreateKeyspace { tree, name: self.name()? },
            DROP => Operation::DropKeyspace { tree, name: self.name()? },
            CLEAR => Operation::ClearKeyspace { tree, new_tree: self.tree()?, name: self.name()? },
            BULK_LOAD => Operation::BulkLoad {
                tree,
                new_tree: self.tree()?,
                root: PageId(self.varint()?),
                count: self.varint()?,
                name: self.name()?,
                placed: self.placed()?,
            },
            PUT_BLOB => Operation::PutBlob { tree, key: self.string()?, blob: self.blob()? },
            _ => return None,
        })
    }

    fn placed(&mut self) -> Option<Vec<Placed>> {
        let count = self.varint()?;
        let mut placed = Vec::new();
        let mut page = 0u64;
        for _ in 0..count {
            page = page.checked_add(self.varint()?)?;
            placed.push((PageId(page), BlockPtr::from_bits(self.u64()?)?));
        }
        Some(placed)
    }

    fn blob(&mut self) -> Option<BlobRef> {
        let len = self.varint()?;
        let count = self.varint()?;
        let mut runs = Vec::new();
        for _ in 0..count {
            let page = PageId(self.varint()?);
            let at = BlockPtr::from_bits(self.u64()?)?;
            runs.push(BlobRun { page, at, crc: self.u32()? });
        }
        Some(BlobRef { len, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put<'a>(tree: u64, key: &'a [u8], value: &'a [u8]) -> Operation<'a> {
        Operation::Put { tree: TreeId(tree), key, value }
    }

    #[test]
    fn every_operation_comes_back() {
        let blob = BlobRef {
            len: 70_000,
            runs: vec![BlobRun { page: PageId(5), at: BlockPtr::new(1000, 16, 77).unwrap(), crc: 0xDEAD_BEEF }],
        };
        let operations = [
            Operation::CreateKeyspace { tree: TreeId(9), name: "users" },
            Operation::PutBlob { tree: TreeId(9), key: b"big", blob },
            Operation::DeleteRange { tree: TreeId(9), from: Bound::Included(b""), to: Bound::Excluded(b"x") },
            Operation::DeleteRange { tree: TreeId(9), from: Bound::Unbounded, to: Bound::Unbounded },
            Operation::ClearKeyspace { tree: TreeId(9), new_tree: TreeId(1 << 40), name: "users" },
            Operation::DropKeyspace { tree: TreeId(1 << 40), name: "users" },
            Operation::BulkLoad {
                tree: TreeId(1),
                new_tree: TreeId(2),
                root: PageId(9),
                count: 77,
                name: "users",
                placed: vec![(PageId(0), BlockPtr::new(99, 1, 5).unwrap()), (PageId(900), BlockPtr::new(16, 2, 0).unwrap())],
            },
            put(u64::MAX, b"", b""),
        ];
        assert_eq!(read(&many(&operations), 1).unwrap().to_vec(), operations);
        assert_eq!(read(&single(&operations[7]), 1).unwrap().to_vec(), operations[7..]);
    }

    #[test]
    fn of_a_key_the_last_operation_counts_and_ranges_keep_their_place() {
        let range = Operation::DeleteRange { tree: TreeId(1), from: Bound::Unbounded, to: Bound::Unbounded };
        let given = [
            put(1, b"b", b"1"),
            put(1, b"a", b"1"),
            put(1, b"b", b"2"),
            range.clone(),
            put(1, b"z", b""),
            Operation::Delete { tree: TreeId(1), key: b"z" },
        ];
        let record = many(&given);
        let expected = [put(1, b"a", b"1"), put(1, b"b", b"2"), range, Operation::Delete { tree: TreeId(1), key: b"z" }];
        assert_eq!(read(&record, 1).unwrap().to_vec(), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 1);
        }

        #[test]
        fn a_record_cut_short_is_refused_or_a_shorter_record(cut in 0usize..60) {
            let record = many(&[put(1, b"key one", b"value one"), put(1, b"key two", b"value two")]);
            let _ = read(&record[..cut.min(record.len())], 1);
        }

        #[test]
        fn varints_come_back(value in any::<u64>()) {
            let mut out = Vec::new();
            varint(&mut out, value);
            prop_assert_eq!(Reader { bytes: &out }.varint(), Some(value));
        }
    }
}
