//! What a transaction has written and nobody else has seen.
//!
//! Invariants:
//! 1. A keyspace's writes are what they result in: the ranges that are removed, and on top of them the last write of each key. So the
//!    record has the ranges first and then the keys, and a read asks the keys first and then the ranges.
//! 2. While there is a savepoint, every change is noted with what it replaces, so that rolling back to the savepoint takes the notes
//!    from the end.

use super::footprint::{KeyRange, contains};
use crate::btree::TreeId;
use crate::catalog::KeyspaceState;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The last write of a key: a value, or that it is removed.
pub(crate) type Write = Option<Box<[u8]>>;

/// A keyspace within a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub(crate) state: Arc<KeyspaceState>,
    /// The tree that it had when the transaction began; `None`: the transaction makes it.
    pub(crate) base: Option<TreeId>,
    /// The tree that is written to: another one than `base` if the keyspace is cleared or made.
    pub(crate) target: TreeId,
    pub(crate) keys: BTreeMap<Vec<u8>, Write>,
    pub(crate) removed: Vec<KeyRange>,
    pub(crate) dropped: bool,
}

/// What is known of a key within a transaction.
pub(crate) enum Own<'a> {
    /// The transaction has written it.
    Written(Option<&'a [u8]>),
    /// It has not.
    Unknown,
}

impl Space {
    /// What the transaction itself says of a key.
    pub(crate) fn own(&self, key: &[u8]) -> Own<'_> {
        match self.keys.get(key) {
            Some(write) => Own::Written(write.as_deref()),
            None if self.is_hidden(key) => Own::Written(None),
            None => Own::Unknown,
        }
    }

    /// Whether what the database holds under a key is removed with a range, or with the whole keyspace.
    pub(crate) fn is_hidden(&self, key: &[u8]) -> bool {
        self.base != Some(self.target) || self.removed.iter().any(|range| contains(range, key))
    }

    /// Whether anything is written.
    pub(crate) fn is_changed(&self) -> bool {
        self.base != Some(self.target) || self.dropped || !self.keys.is_empty() || !self.removed.is_empty()
    }
}

/// An operation on a whole keyspace, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whole {
    Create(usize),
    Drop(usize),
    Clear(usize),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WriteSet {
    pub(crate) spaces: Vec<Space>,
    /// In the order in which they were made.
    pub(crate) wholes: Vec<Whole>,
    /// Bytes that the writes take, about.
    pub(crate) bytes: u64,
    undo: Vec<Undo>,
    noting: bool,
}

#[derive(Debug)]
enum Undo {
    /// A key held this write, or none.
    Key(usize, Vec<u8>, Option<Write>),
    /// A keyspace was this, and so many operations on whole keyspaces had been made.
    Space(usize, Box<Space>, usize),
    /// There were so many keyspaces, and so many operations on whole ones.
    Spaces(usize, usize),
}

/// Bytes that a key or range takes beside its bytes, about.
const OVERHEAD: u64 = 64;

fn size(key: &[u8], write: &Write) -> u64 {
    OVERHEAD + key.len() as u64 + write.as_ref().map_or(0, |value| value.len() as u64)
}

impl WriteSet {
    pub(crate) fn is_empty(&self) -> bool {
        !self.spaces.iter().any(Space::is_changed)
    }

    /// The number of the keyspace with this state, if the transaction has met it.
    pub(crate) fn find(&self, state: &Arc<KeyspaceState>) -> Option<usize> {
        self.spaces.iter().position(|space| Arc::ptr_eq(&space.state, state))
    }

    /// The number of the keyspace that has this name within the transaction.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.spaces.iter().rposition(|space| space.state.name == name && !space.dropped)
    }

    /// Enters a keyspace. One that is only read leaves no note: it does no harm.
    pub(crate) fn enter(&mut self, state: Arc<KeyspaceState>, tree: TreeId) -> usize {
        let (keys, removed) = Default::default();
        self.spaces.push(Space { state, base: Some(tree), target: tree, keys, removed, dropped: false });
        self.spaces.len() - 1
    }

    /// Enters a keyspace that the transaction makes.
    pub(crate) fn create(&mut self, state: Arc<KeyspaceState>, tree: TreeId) {
        if self.noting {
            self.undo.push(Undo::Spaces(self.spaces.len(), self.wholes.len()));
        }
        let index = self.enter(state, tree);
        self.spaces[index].base = None;
        self.wholes.push(Whole::Create(index));
    }

    pub(crate) fn write(&mut self, space: usize, key: &[u8], write: Write) {
        self.bytes += size(key, &write);
        let replaced = self.spaces[space].keys.insert(key.to_vec(), write);
        if let Some(replaced) = &replaced {
            self.bytes -= size(key, replaced);
        }
        if self.noting {
            self.undo.push(Undo::Key(space, key.to_vec(), replaced));
        }
    }

    pub(crate) fn remove_range(&mut self, space: usize, range: KeyRange) {
        self.note_space(space);
        let there = &mut self.spaces[space];
        there.keys.retain(|key, write| {
            let goes = contains(&range, key);
            if goes {
                self.bytes -= size(key, write);
            }
            !goes
        });
        // Where nothing of the database is seen any more there is nothing to remove.
        if there.base == Some(there.target) {
            there.removed.push(range);
            self.bytes += OVERHEAD;
        }
    }

    /// Removes everything; `new_tree` takes the place of the tree.
    pub(crate) fn clear(&mut self, space: usize, new_tree: TreeId) {
        self.note_space(space);
        self.forget_writes(space);
        let there = &mut self.spaces[space];
        // One that the transaction makes, or has cleared, is empty but for its own writes.
        if there.base == Some(there.target) {
            there.target = new_tree;
            self.wholes.push(Whole::Clear(space));
        }
    }

    pub(crate) fn drop_keyspace(&mut self, space: usize) {
        self.note_space(space);
        self.forget_writes(space);
        self.spaces[space].dropped = true;
        self.wholes.push(Whole::Drop(space));
    }

    fn forget_writes(&mut self, space: usize) {
        let there = &mut self.spaces[space];
        self.bytes -= there.keys.iter().map(|(key, write)| size(key, write)).sum::<u64>();
        self.bytes -= OVERHEAD * there.removed.len() as u64;
        there.keys.clear();
        there.removed.clear();
    }

    fn note_space(&mut self, space: usize) {
        if self.noting {
            self.undo.push(Undo::Space(space, Box::new(self.spaces[space].clone()), self.wholes.len()));
        }
    }

    /// A savepoint: how many notes there are.
    pub(crate) fn mark(&mut self) -> usize {
        self.noting = true;
        self.undo.len()
    }

    /// Undoes everything since a savepoint. False: an earlier rollback has passed it.
    pub(crate) fn roll_back(&mut self, mark: usize) -> bool {
        if mark > self.undo.len() {
            return false;
        }
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some(Undo::Key(space, key, before)) => {
                    let keys = &mut self.spaces[space].keys;
                    match before {
                        Some(write) => drop(keys.insert(key, write)),
                        None => drop(keys.remove(&key)),
                    }
                }
                Some(Undo::Space(space, before, wholes)) => {
                    self.spaces[space] = *before;
                    self.wholes.truncate(wholes);
                }
                Some(Undo::Spaces(spaces, wholes)) => {
                    self.spaces.truncate(spaces);
                    self.wholes.truncate(wholes);
                }
                None => {}
            }
        }
        let all = self.spaces.iter();
        self.bytes = all.map(|s| s.keys.iter().map(|(k, w)| size(k, w)).sum::<u64>() + OVERHEAD * s.removed.len() as u64).sum();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;

    fn state() -> Arc<KeyspaceState> {
        Arc::new(KeyspaceState::unborn("k", TreeId(2), 0))
    }

    fn own(writes: &WriteSet, key: &str) -> Option<Option<Vec<u8>>> {
        match writes.spaces[0].own(key.as_bytes()) {
            Own::Written(value) => Some(value.map(<[u8]>::to_vec)),
            Own::Unknown => None,
        }
    }

    fn range(from: &str, to: &str) -> KeyRange {
        (Bound::Included(from.into()), Bound::Excluded(to.into()))
    }

    #[test]
    fn the_last_write_counts_and_a_range_hides_what_was_there() {
        let mut writes = WriteSet::default();
        let k = writes.enter(state(), TreeId(2));
        assert!(writes.is_empty());
        writes.write(k, b"a", Some(b"1".as_slice().into()));
        writes.write(k, b"m", Some(b"2".as_slice().into()));
        writes.remove_range(k, range("l", "n"));
        writes.write(k, b"mm", None);
        assert_eq!(own(&writes, "a"), Some(Some(b"1".to_vec())));
        assert_eq!((own(&writes, "m"), own(&writes, "mm"), own(&writes, "n")), (Some(None), Some(None), None));
        writes.clear(k, TreeId(3));
        assert_eq!((own(&writes, "a"), own(&writes, "n"), writes.bytes), (Some(None), Some(None), 0));
    }

    #[test]
    fn a_rollback_restores_what_was_at_the_savepoint() {
        let mut writes = WriteSet::default();
        let k = writes.enter(state(), TreeId(2));
        writes.write(k, b"a", Some(b"1".as_slice().into()));
        let bytes = writes.bytes;
        let outer = writes.mark();
        writes.write(k, b"a", None);
        writes.write(k, b"b", Some(b"2".as_slice().into()));
        let inner = writes.mark();
        writes.remove_range(k, range("a", "c"));
        writes.create(state(), TreeId(5));
        writes.drop_keyspace(1);
        writes.clear(k, TreeId(4));
        assert!(writes.roll_back(inner));
        assert_eq!((own(&writes, "a"), own(&writes, "b"), own(&writes, "c")), (Some(None), Some(Some(b"2".to_vec())), None));
        assert_eq!((writes.spaces.len(), writes.wholes.len()), (1, 0));
        assert!(writes.roll_back(outer));
        assert_eq!((own(&writes, "a"), own(&writes, "b"), writes.bytes), (Some(Some(b"1".to_vec())), None, bytes));
        assert!(!writes.roll_back(inner));
    }
}
