//! The catalog: named keyspaces, in a tree of its own.
//!
//! The catalog is an ordinary tree (id 1) whose root's page id stands in the superblock. Its entries:
//!
//! | key | value |
//! | --- | --- |
//! | `k`, the name | tree id (8), page id of the root (8), number of entries (8) |
//! | `d`, tree id (8, big-endian) | page id of the root (8): a dropped tree that is being freed |
//! | `s`, a setting's name | the setting |
//!
//! Invariants:
//! 1. A keyspace's number of entries is kept in memory and written here at each cut, under the apply lock: in a checkpoint it is
//!    exact.
//! 2. A tree's id is never used again; its root's page id is the same for as long as it lives. Clearing a keyspace gives it
//!    another tree.
//! 3. A dropped tree is in the durable list from the commit that drops it until it has been freed to the last page.

use crate::btree::{Tree, TreeId};
use crate::error::{Corruption, Error, Result};
use crate::store::page_header::{get_u64, put_u64};
use ashlar_bufferpool::PageId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The catalog's own tree.
pub(crate) const CATALOG_TREE: TreeId = TreeId(1);

/// The first tree id that a keyspace can have.
pub(crate) const FIRST_TREE: u64 = 2;

/// Longest name of a keyspace, in bytes.
pub const KEYSPACE_NAME_MAX: usize = 255;

const KEYSPACE: u8 = b'k';
const DROPPED: u8 = b'd';

/// A keyspace as it is now, shared by all handles on it.
#[derive(Debug)]
pub(crate) struct KeyspaceState {
    pub(crate) name: String,
    /// The tree's id; 0 while it is being exchanged.
    tree: AtomicU64,
    root: AtomicU64,
    /// LSN of the commit that gave it this tree since the open, else 0: the tree is not shown before the watermark is there.
    since: AtomicU64,
    /// Entries, as of the last applied commit.
    pub(crate) len: AtomicU64,
    /// Whether `len` differs from what the catalog says.
    pub(crate) len_changed: AtomicBool,
    dropped: AtomicBool,
    slots_max: u16,
}

impl KeyspaceState {
    pub(crate) fn new(name: &str, tree: Tree, len: u64, since: u64) -> KeyspaceState {
        KeyspaceState {
            name: name.to_owned(),
            tree: AtomicU64::new(tree.id.0),
            root: AtomicU64::new(tree.root.0),
            since: AtomicU64::new(since),
            len: AtomicU64::new(len),
            len_changed: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            slots_max: tree.slots_max,
        }
    }

    /// Its tree, or an error if it has been dropped. A pair of id and root that belong together: the id is 0 while they change,
    /// and never the same again.
    pub(crate) fn tree(&self) -> Result<Tree> {
        self.tree_since().map(|(tree, _)| tree)
    }

    /// Its tree, and the LSN that the watermark must have reached before it may be shown.
    pub(crate) fn tree_since(&self) -> Result<(Tree, u64)> {
        loop {
            if self.dropped.load(Ordering::Acquire) {
                return Err(Error::NoSuchKeyspace { name: self.name.clone() });
            }
            let id = self.tree.load(Ordering::Acquire);
            let root = self.root.load(Ordering::Acquire);
            let since = self.since.load(Ordering::Acquire);
            if id != 0 && self.tree.load(Ordering::Acquire) == id {
                return Ok((Tree { id: TreeId(id), root: PageId(root), slots_max: self.slots_max }, since));
            }
            ashlar_disk::sync::yield_point();
        }
    }

    /// Another tree takes its place. Under the apply lock.
    pub(crate) fn exchange(&self, tree: Tree, len: u64, lsn: u64) {
        self.tree.store(0, Ordering::SeqCst);
        self.root.store(tree.root.0, Ordering::SeqCst);
        self.since.store(lsn, Ordering::SeqCst);
        self.tree.store(tree.id.0, Ordering::SeqCst);
        self.set_len(len);
    }

    pub(crate) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// Under the apply lock.
    pub(crate) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Relaxed);
        self.len_changed.store(true, Ordering::Relaxed);
    }
}

/// The catalog's key of a keyspace.
pub(crate) fn keyspace_key(name: &str) -> Vec<u8> {
    [&[KEYSPACE], name.as_bytes()].concat()
}

/// The catalog's key of a dropped tree.
pub(crate) fn dropped_key(tree: TreeId) -> Vec<u8> {
    [&[DROPPED][..], &tree.0.to_be_bytes()].concat()
}

/// The catalog's entry of a keyspace.
pub(crate) fn keyspace_entry(tree: Tree, len: u64) -> [u8; 24] {
    let mut out = [0; 24];
    put_u64(&mut out, 0, tree.id.0);
    put_u64(&mut out, 8, tree.root.0);
    put_u64(&mut out, 16, len);
    out
}

/// The catalog's entry of a dropped tree.
pub(crate) fn dropped_entry(root: PageId) -> [u8; 8] {
    root.0.to_le_bytes()
}

/// An entry of the catalog.
#[derive(Debug)]
pub(crate) enum Entry {
    Keyspace(Arc<KeyspaceState>),
    Dropped(Tree),
    Setting,
}

/// Decodes an entry of the catalog.
pub(crate) fn decode(key: &[u8], value: &[u8], slots_max: u16) -> Result<Entry> {
    let bad = |what: &str| {
        Error::from(Corruption {
            place: format!("catalog entry \"{}\"", key.escape_ascii()),
            page: None,
            block: None,
            tree: Some(CATALOG_TREE.0),
            what: what.into(),
        })
    };
    match key.split_first() {
        Some((&KEYSPACE, name)) => {
            let name = std::str::from_utf8(name).map_err(|_| bad("the name is not UTF-8"))?;
            if value.len() != 24 {
                return Err(bad("a keyspace's entry has 24 bytes"));
            }
            let tree = Tree { id: TreeId(get_u64(value, 0)), root: PageId(get_u64(value, 8)), slots_max };
            Ok(Entry::Keyspace(Arc::new(KeyspaceState::new(name, tree, get_u64(value, 16), 0))))
        }
        Some((&DROPPED, id)) => {
            let id: [u8; 8] = id.try_into().map_err(|_| bad("a tree id has 8 bytes"))?;
            let root: [u8; 8] = value.try_into().map_err(|_| bad("a page id has 8 bytes"))?;
            let tree = Tree { id: TreeId(u64::from_be_bytes(id)), root: PageId(u64::from_le_bytes(root)), slots_max };
            Ok(Entry::Dropped(tree))
        }
        Some((b's', _)) => Ok(Entry::Setting),
        _ => Err(bad("unknown kind of entry")),
    }
}

/// Checks a name that a user gives: 1 to 255 bytes (that also fit a key), no zero byte, no line break (dumps are lines).
pub(crate) fn check_name(name: &str, key_max: usize) -> Result<()> {
    let reason = match name.len() {
        0 => "it is empty",
        n if n > KEYSPACE_NAME_MAX.min(key_max - 1) => "it is longer than 255 bytes",
        _ if name.chars().any(|c| c.is_control()) => "it holds a control character",
        _ => return Ok(()),
    };
    Err(Error::KeyspaceName { name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_others_are_refused() {
        let tree = Tree { id: TreeId(7), root: PageId(9), slots_max: 0 };
        let Entry::Keyspace(state) = decode(&keyspace_key("users"), &keyspace_entry(tree, 3), 0).unwrap() else { panic!() };
        let found = state.tree().unwrap();
        assert_eq!((&*state.name, found.id, found.root, state.len.load(Ordering::Relaxed)), ("users", TreeId(7), PageId(9), 3));
        let Entry::Dropped(dropped) = decode(&dropped_key(TreeId(7)), &dropped_entry(PageId(9)), 0).unwrap() else { panic!() };
        assert_eq!((dropped.id, dropped.root), (TreeId(7), PageId(9)));
        for (key, value) in
            [(&b""[..], &b""[..]), (b"x", b""), (b"kname", b"short"), (b"d12345678", b"short"), (b"k\xFF", &[0; 24])]
        {
            assert!(decode(key, value, 0).is_err(), "{key:?}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(check_name("a", 900).is_ok());
        for bad in ["", "with\nbreak", "with\0zero", &"x".repeat(256)] {
            assert!(check_name(bad, 900).is_err(), "{bad:?}");
        }
    }
}
