//! The catalog: named keyspaces, in a tree of its own.
//!
//! The catalog is an ordinary tree (id 1) whose root's page id stands in the superblock. Its entries:
//!
//! | key | value |
//! | --- | --- |
//! | `k`, the name | tree id (8), page id of the root (8), number of entries (8) |
//! | `d`, tree id (8, big-endian) | page id of the root (8): a dropped tree that is being freed |
//! | `s`, a setting's name | the setting |
//! | `w`, number (8, big-endian), piece (2, big-endian) | a piece of a write whose leaf can't be read (see [`stranded`](crate::stranded)) |
//!
//! Invariants:
//! 1. A keyspace's number of entries is kept in memory and written here at each cut, under the apply lock: in a checkpoint it is
//!    exact.
//! 2. A tree's id is never used again; its root's page id is the same for as long as it lives. Clearing a keyspace gives it
//!    another tree.
//! 3. A keyspace's trees and its number of entries as of older LSNs are kept for as long as a snapshot may ask.
//! 4. A dropped tree is in the durable list from the commit that drops it until it has been freed to the last page.

use crate::btree::{Tree, TreeId};
use crate::error::{Corruption, Error, Result};
use crate::store::page_header::{get_u64, put_u64};
use ashlar_bufferpool::PageId;
use ashlar_disk::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
const STRANDED: u8 = b'w';

/// A keyspace as it is now and as older snapshots see it, shared by all handles on it.
#[derive(Debug)]
pub(crate) struct KeyspaceState {
    pub(crate) name: String,
    /// The tree's id; 0 while it is being exchanged.
    tree: AtomicU64,
    root: AtomicU64,
    /// LSN of the commit that gave it this tree since the open, else 0. [`NEVER`]: the commit that makes it is not applied.
    since: AtomicU64,
    /// Entries, as of the last applied commit.
    pub(crate) len: AtomicU64,
    /// Whether `len` differs from what the catalog says.
    pub(crate) len_changed: AtomicBool,
    /// LSN of the commit that dropped it, else [`NEVER`].
    dropped: AtomicU64,
    past: Mutex<Past>,
    slots_max: u16,
}

/// No LSN is as high.
const NEVER: u64 = u64::MAX;

/// What older snapshots see of a keyspace.
#[derive(Debug, Default)]
struct Past {
    /// Trees it had, each with the LSNs from which and before which.
    trees: Vec<(Tree, std::ops::Range<u64>)>,
    /// By how much commits have changed the number of entries, oldest first.
    lens: VecDeque<(u64, i64)>,
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
            dropped: AtomicU64::new(NEVER),
            past: Mutex::default(),
            slots_max: tree.slots_max,
        }
    }

    /// One that a transaction is to make, with that tree.
    pub(crate) fn unborn(name: &str, tree: TreeId, slots_max: u16) -> KeyspaceState {
        KeyspaceState::new(name, Tree { id: tree, root: PageId(0), slots_max }, 0, NEVER)
    }

    /// One that has been dropped: for a handle on what a checkpoint still has.
    pub(crate) fn dropped(name: &str, tree: Tree, len: u64) -> KeyspaceState {
        let state = KeyspaceState::new(name, tree, len, 0);
        state.mark_dropped(0);
        state
    }

    /// The commit at `lsn` makes it. Under the apply lock.
    pub(crate) fn born(&self, tree: Tree, lsn: u64) {
        debug_assert_eq!(self.tree.load(Ordering::Relaxed), tree.id.0);
        self.root.store(tree.root.0, Ordering::SeqCst);
        self.since.store(lsn, Ordering::SeqCst);
    }

    fn no_such(&self) -> Error {
        Error::NoSuchKeyspace { name: self.name.clone() }
    }

    /// Its tree as of the last applied commit, or an error if it has been dropped or is not made yet.
    pub(crate) fn tree(&self) -> Result<Tree> {
        let (tree, since) = self.newest();
        if self.dropped_at() != NEVER || since == NEVER { Err(self.no_such()) } else { Ok(tree) }
    }

    /// The tree that it has, and the LSN from which on. A pair of id and root that belong together: the id is 0 while they change,
    /// and never the same again.
    #[inline]
    fn newest(&self) -> (Tree, u64) {
        loop {
            let id = self.tree.load(Ordering::Acquire);
            let since = self.since.load(Ordering::Acquire);
            pause();
            let root = self.root.load(Ordering::Acquire);
            if id != 0 && self.tree.load(Ordering::Acquire) == id {
                return (Tree { id: TreeId(id), root: PageId(root), slots_max: self.slots_max }, since);
            }
            ashlar_disk::sync::yield_point();
        }
    }

    /// LSN of the commit that dropped it, else the highest number there is.
    fn dropped_at(&self) -> u64 {
        self.dropped.load(Ordering::Acquire)
    }

    /// LSN of the commit that dropped it, if one has.
    pub(crate) fn gone_at(&self) -> Option<u64> {
        Some(self.dropped_at()).filter(|at| *at != NEVER)
    }

    /// The LSN of the newest applied commit that made, exchanged or dropped it since the open, at most `lsn`.
    pub(crate) fn changed_at(&self, lsn: u64) -> u64 {
        let (since, dropped) = (self.newest().1, self.dropped_at());
        if dropped <= lsn { dropped } else { since.min(lsn) }
    }

    /// Its tree at `lsn`.
    ///
    /// # Errors
    /// It was not there at `lsn`.
    pub(crate) fn tree_at(&self, lsn: u64) -> Result<Tree> {
        let (tree, since) = self.newest();
        if lsn >= self.dropped_at() {
            return Err(self.no_such());
        }
        if since <= lsn {
            return Ok(tree);
        }
        pause();
        let past = self.past.lock();
        let found = past.trees.iter().find(|(_, lsns)| lsns.contains(&lsn)).map(|(tree, _)| *tree);
        // Where it was exchanged between the first look and this one, the tree of the first look stands here by now.
        found.ok_or_else(|| self.no_such())
    }

    /// The tree that it has at `lsn`, if nothing has ever made, exchanged or dropped it above.
    #[inline]
    pub(crate) fn tree_since(&self, lsn: u64) -> Option<Tree> {
        let (tree, since) = self.newest();
        // Dropped above `lsn`: it is there at `lsn`, but the caller may have to wait.
        (since <= lsn && self.dropped_at() == NEVER).then_some(tree)
    }

    /// LSN from which on it is there, if the commit that makes it is applied and it is not dropped.
    pub(crate) fn waits_for(&self, lsn: u64) -> Option<u64> {
        let since = self.newest().1;
        (since != NEVER && since > lsn && self.dropped_at() == NEVER).then_some(since)
    }

    /// Whether it was made, exchanged or dropped above `lsn`.
    pub(crate) fn is_changed_above(&self, lsn: u64) -> bool {
        let is_above = |at: u64| at != NEVER && at > lsn;
        is_above(self.newest().1) || is_above(self.dropped_at())
    }

    /// Another tree takes its place. Under the apply lock.
    pub(crate) fn exchange(&self, tree: Tree, len: u64, lsn: u64) -> bool {
        let (old, since) = self.newest();
        self.past.lock().trees.push((old, since..lsn));
        pause();
        self.tree.store(0, Ordering::SeqCst);
        self.root.store(tree.root.0, Ordering::SeqCst);
        self.since.store(lsn, Ordering::SeqCst);
        pause();
        self.tree.store(tree.id.0, Ordering::SeqCst);
        self.set_len(len, lsn)
    }

    /// It is dropped by the commit at `lsn`. Under the apply lock.
    pub(crate) fn mark_dropped(&self, lsn: u64) {
        self.dropped.store(lsn, Ordering::Release);
    }

    /// Whether no snapshot at `lsn` or above can see it.
    pub(crate) fn is_past(&self, lsn: u64) -> bool {
        self.dropped_at() <= lsn
    }

    /// The commit at `lsn` leaves it with `len` entries. Under the apply lock. True: this is the only change that is remembered.
    pub(crate) fn set_len(&self, len: u64, lsn: u64) -> bool {
        let mut past = self.past.lock();
        let before = self.len.swap(len, Ordering::Relaxed);
        self.len_changed.store(true, Ordering::Relaxed);
        let by = (lsn, len.wrapping_sub(before) as i64);
        match past.lens.back() {
            // What was stranded comes late.
            Some((newest, _)) if *newest > lsn => {
                let at = past.lens.partition_point(|(at, _)| *at <= lsn);
                past.lens.insert(at, by);
            }
            _ => past.lens.push_back(by),
        }
        past.lens.len() == 1
    }

    /// The number of entries at `lsn`.
    pub(crate) fn len_at(&self, lsn: u64) -> u64 {
        let past = self.past.lock();
        let newer: i64 = past.lens.iter().rev().take_while(|(at, _)| *at > lsn).map(|(_, by)| by).sum();
        self.len.load(Ordering::Relaxed).wrapping_sub(newer as u64)
    }

    /// Nobody reads below `lsn` any more. False: some of its past is still remembered.
    pub(crate) fn forget(&self, lsn: u64) -> bool {
        let mut past = self.past.lock();
        past.trees.retain(|(_, lsns)| lsns.end > lsn);
        while past.lens.front().is_some_and(|(at, _)| *at <= lsn) {
            past.lens.pop_front();
        }
        past.trees.is_empty() && past.lens.is_empty()
    }
}

/// Lets the deterministic scheduler of debug builds get between two steps that are made without a lock.
#[inline]
fn pause() {
    if cfg!(debug_assertions) {
        ashlar_disk::sync::stall_point();
    }
}

/// The keyspaces by name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// As of the last applied commit.
    pub(crate) now: BTreeMap<String, Arc<KeyspaceState>>,
    /// Dropped ones that a snapshot may still see.
    pub(crate) dropped: Vec<Arc<KeyspaceState>>,
}

impl Names {
    /// The keyspace of that name at `lsn`.
    pub(crate) fn at(&self, name: &str, lsn: u64) -> Option<Arc<KeyspaceState>> {
        let mut named = self.now.get(name).into_iter().chain(self.dropped.iter().filter(|k| k.name == name));
        named.find(|k| k.tree_at(lsn).is_ok()).cloned()
    }

    /// LSN of the newest applied commit that dropped a keyspace of that name, if somebody may not see it yet; else 0.
    pub(crate) fn dropped_at(&self, name: &str) -> u64 {
        self.dropped.iter().filter(|k| k.name == name).map(|k| k.dropped_at()).max().unwrap_or(0)
    }

    /// All names at `lsn`, sorted.
    pub(crate) fn all_at(&self, lsn: u64) -> Vec<String> {
        let all = self.now.values().chain(&self.dropped).filter(|k| k.tree_at(lsn).is_ok());
        all.map(|k| k.name.clone()).collect::<BTreeSet<_>>().into_iter().collect()
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

/// The catalog's key of a piece of a write whose leaf can't be read.
pub(crate) fn stranded_key(number: u64, piece: u16) -> [u8; 11] {
    let mut out = [STRANDED; 11];
    out[1..9].copy_from_slice(&number.to_be_bytes());
    out[9..].copy_from_slice(&piece.to_be_bytes());
    out
}

/// A piece of a write whose leaf can't be read.
#[derive(Debug)]
pub(crate) struct StrandedPiece {
    pub(crate) number: u64,
    pub(crate) piece: u16,
    pub(crate) bytes: Vec<u8>,
}

/// An entry of the catalog.
#[derive(Debug)]
pub(crate) enum Entry {
    Keyspace(Arc<KeyspaceState>),
    Dropped(Tree),
    Setting,
    Stranded(StrandedPiece),
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
        Some((&STRANDED, place)) => {
            let (number, piece) = place.split_first_chunk().ok_or_else(|| bad("a number has 8 bytes"))?;
            let piece: [u8; 2] = piece.try_into().map_err(|_| bad("the number of a piece has 2 bytes"))?;
            let (number, piece) = (u64::from_be_bytes(*number), u16::from_be_bytes(piece));
            Ok(Entry::Stranded(StrandedPiece { number, piece, bytes: value.to_vec() }))
        }
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
