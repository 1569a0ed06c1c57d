//! Writes that wait, in the order of their trees and keys; of one key the newest first.
//!
//! One thread adds and removes, whoever holds the apply lock; any number look, without a lock. The bytes of keys and values stand in the
//! records of their commits.

use super::Writes;
use crate::btree::TreeId;
use crate::commit::record::{self, Operation};
use crate::error::Result;
use crossbeam_skiplist::SkipSet;
use std::borrow::Borrow;
use std::cmp::{Ordering, Reverse};
use std::ops::Bound;
use std::sync::Arc;

/// Bytes that a waiting write takes beside its part of the record, about.
pub(crate) const OVERHEAD: u64 = (size_of::<Write>() + 48) as u64;

/// A write that waits.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) tree: TreeId,
    pub(crate) lsn: u64,
    pub(super) record: Record,
    pub(super) key: Span,
    /// `None`: the key is removed.
    pub(super) value: Option<Span>,
}

/// Bytes in which keys and values of writes stand.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// A commit's record.
    Commit(Arc<[u8]>),
    /// Records of several, one behind the other.
    Several(Arc<Vec<u8>>),
}

impl Record {
    fn bytes(&self) -> &[u8] {
        match self {
            Record::Commit(bytes) => bytes,
            Record::Several(bytes) => bytes,
        }
    }
}

/// A part of a record, of [`RECORD_MAX`] bytes at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// Bytes of the longest record whose writes can wait.
pub(crate) const RECORD_MAX: usize = u32::MAX as usize;

impl Span {
    /// Where `part` stands in `record`, which it is a part of.
    pub(crate) fn new(part: &[u8], record: &[u8]) -> Span {
        Span { at: (part.as_ptr() as usize - record.as_ptr() as usize) as u32, len: part.len() as u32 }
    }

    pub(crate) fn of(self, record: &[u8]) -> &[u8] {
        &record[self.at as usize..][..self.len as usize]
    }
}

impl Write {
    pub(crate) fn key(&self) -> &[u8] {
        self.key.of(self.record.bytes())
    }

    /// What the key holds from then on; `None`: nothing.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.value.map(|value| value.of(self.record.bytes()))
    }
}

/// Where a write stands in a table.
trait Place {
    fn place(&self) -> (TreeId, &[u8], Reverse<u64>);
}

impl Place for Write {
    fn place(&self) -> (TreeId, &[u8], Reverse<u64>) {
        (self.tree, self.key(), Reverse(self.lsn))
    }
}

impl Place for (TreeId, &[u8], u64) {
    fn place(&self) -> (TreeId, &[u8], Reverse<u64>) {
        (self.0, self.1, Reverse(self.2))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl<'a> Borrow<dyn Place + 'a> for Write {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl PartialEq for Write {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Write {}

impl PartialOrd for Write {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Write {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Table {
    writes: SkipSet<Write>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} writes)", self.writes.len())
    }
}

impl Table {
    /// Adds the writes of a commit, all of them puts and removals of keys. Gives their number, and bytes that they take, about.
    pub(crate) fn add(&self, lsn: u64, record: &Arc<[u8]>) -> Result<(usize, u64)> {
        debug_assert!(record.len() <= RECORD_MAX);
        let mut writes = 0;
        record::each(record, lsn, |_, operation| {
            let span = |bytes: &[u8]| Span::new(bytes, record);
            let (tree, key, value) = match operation {
                Operation::Put { tree, key, value } => (tree, span(key), Some(span(value))),
                Operation::Delete { tree, key } => (tree, span(key), None),
                _ => {
                    debug_assert!(false, "only puts and removals of keys wait");
                    return;
                }
            };
            self.writes.insert(Write { tree, lsn, record: Record::Commit(record.clone()), key, value });
            writes += 1;
        })?;
        Ok((writes, record.len() as u64 + writes as u64 * OVERHEAD))
    }

    /// All writes of a key, oldest first.
    pub(super) fn all_of(&self, tree: TreeId, key: &[u8]) -> Vec<Write> {
        let (newest, oldest): (&dyn Place, &dyn Place) = (&(tree, key, u64::MAX), &(tree, key, 0));
        let found = self.writes.range::<dyn Place, _>((Bound::Included(newest), Bound::Included(oldest)));
        let mut out: Vec<Write> = found.map(|found| found.value().clone()).collect();
        out.reverse();
        out
    }

    /// All writes of a tree: in key order, of one key the oldest first.
    pub(super) fn all_in(&self, tree: TreeId) -> Vec<Write> {
        let mut out: Vec<Write> = self.of_tree(tree).map(|found| found.value().clone()).collect();
        out.sort_by(|a, b| (a.key(), a.lsn).cmp(&(b.key(), b.lsn)));
        out
    }

    /// Whether there is a write of a tree.
    pub(crate) fn has(&self, tree: TreeId) -> bool {
        self.of_tree(tree).next().is_some()
    }

    fn of_tree(&self, tree: TreeId) -> impl Iterator<Item = crossbeam_skiplist::set::Entry<'_, Write>> {
        let first = self.writes.lower_bound::<dyn Place>(Bound::Included(&(tree, &[][..], u64::MAX)));
        std::iter::successors(first, |found| found.next()).take_while(move |found| found.value().tree == tree)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }
}

impl Writes for Table {
    fn newest(&self, tree: TreeId, key: &[u8], lsn: u64) -> Option<Write> {
        let place: &dyn Place = &(tree, key, lsn);
        let found = self.writes.lower_bound(Bound::Included(place))?;
        let write = found.value();
        (write.tree == tree && write.key() == key).then(|| write.clone())
    }

    fn newest_of_range(&self, tree: TreeId, (from, to): (&[u8], Option<&[u8]>), lsn: u64, each: &mut dyn FnMut(&Write)) {
        let from: &dyn Place = &(tree, from, u64::MAX);
        let mut last: Option<crossbeam_skiplist::set::Entry<'_, Write>> = None;
        for found in self.writes.range::<dyn Place, _>((Bound::Included(from), Bound::Unbounded)) {
            let write = found.value();
            if write.tree != tree || to.is_some_and(|to| write.key() >= to) {
                return;
            }
            if write.lsn <= lsn && last.as_ref().is_none_or(|last| last.value().key() != write.key()) {
                each(write);
                last = Some(found);
            }
        }
    }

    fn remove(&self, writes: &[Write]) {
        for write in writes {
            self.writes.remove(write);
        }
    }

    fn first(&self, keys: usize) -> Vec<Write> {
        let (mut out, mut of_key, mut left) = (Vec::<Write>::new(), 0, keys);
        for found in self.writes.iter() {
            let write = found.value();
            if out.last().is_none_or(|last| (last.tree, last.key()) != (write.tree, write.key())) {
                out[of_key..].reverse();
                of_key = out.len();
                if left == 0 {
                    return out;
                }
                left -= 1;
            }
            out.push(write.clone());
        }
        out[of_key..].reverse();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: TreeId = TreeId(7);

    fn put(tree: TreeId, key: &str, value: &str) -> Arc<[u8]> {
        record::single(&Operation::Put { tree, key: key.as_bytes(), value: value.as_bytes() }).into()
    }

    fn table() -> Table {
        let table = Table::default();
        table.add(10, &put(TREE, "b", "b at 10")).unwrap();
        table.add(20, &record::single(&Operation::Delete { tree: TREE, key: b"b" }).into()).unwrap();
        table.add(30, &put(TreeId(6), "b", "another tree's")).unwrap();
        let both = [
            Operation::Put { tree: TREE, key: b"", value: b"the empty key's" },
            Operation::Put { tree: TREE, key: b"c", value: b"" },
        ];
        table.add(40, &record::many(&both).into()).unwrap();
        table.add(50, &put(TREE, "b", "b at 50")).unwrap();
        table
    }

    #[test]
    fn the_newest_at_an_lsn_is_found() {
        let table = table();
        let newest = |tree, key: &str, lsn| {
            table.newest(tree, key.as_bytes(), lsn).map(|w| (w.lsn, w.value().map(|v| String::from_utf8(v.to_vec()).unwrap())))
        };
        assert_eq!(newest(TREE, "b", 9), None);
        assert_eq!(newest(TREE, "b", 10), Some((10, Some("b at 10".into()))));
        assert_eq!(newest(TREE, "b", 49), Some((20, None)));
        assert_eq!(newest(TREE, "b", u64::MAX), Some((50, Some("b at 50".into()))));
        assert_eq!(newest(TREE, "", 40), Some((40, Some("the empty key's".into()))));
        assert_eq!(newest(TREE, "c", 40), Some((40, Some(String::new()))));
        assert_eq!(newest(TREE, "a", 40), None);
        assert_eq!(newest(TREE, "d", 40), None);
        assert_eq!(newest(TreeId(6), "b", 40), Some((30, Some("another tree's".into()))));
        assert_eq!(newest(TreeId(8), "", 40), None);
    }

    #[test]
    fn of_a_range_each_key_comes_once() {
        let table = table();
        let range = |from: &str, to: Option<&str>, lsn| {
            let mut out = Vec::new();
            table.newest_of_range(TREE, (from.as_bytes(), to.map(str::as_bytes)), lsn, &mut |w| {
                out.push((String::from_utf8(w.key().to_vec()).unwrap(), w.lsn));
            });
            out
        };
        let own = |all: &[(&str, u64)]| all.iter().map(|(k, l)| ((*k).to_owned(), *l)).collect::<Vec<_>>();
        assert_eq!(range("", None, 50), own(&[("", 40), ("b", 50), ("c", 40)]));
        assert_eq!(range("", None, 45), own(&[("", 40), ("b", 20), ("c", 40)]));
        assert_eq!(range("a", Some("c"), 45), own(&[("b", 20)]));
        assert_eq!(range("a", Some("b"), 45), own(&[]));
        assert_eq!(range("", None, 5), own(&[]));
    }

    #[test]
    fn all_come_in_lots_with_the_versions_of_a_key_together_and_in_their_order() {
        for keys in 1..6 {
            let table = table();
            let mut out: Vec<Write> = Vec::new();
            loop {
                let some = table.first(keys);
                if some.is_empty() {
                    break;
                }
                table.remove(&some);
                let mut distinct: Vec<_> = some.iter().map(|w| (w.tree, w.key())).collect();
                distinct.dedup();
                assert!(distinct.len() <= keys);
                out.extend(some);
            }
            let lsns: Vec<u64> = out.iter().map(|w| w.lsn).collect();
            assert_eq!(lsns, [30, 40, 10, 20, 50, 40], "{keys} at a time");
        }
    }
}
