//! Removing whole ranges of keys, and dropping a tree.
//!
//! A range is removed leaf by leaf, as every key's value must be told to the observer; a leaf that becomes empty is joined to a
//! neighbour at once, so that the pages of the range are freed as the removal goes on.

use super::access::Plain;
use super::edit;
use super::error::{Stop, TreeError};
use super::node::{Fault, Node};
use super::search::Place;
use super::write::{Writer, corrupt};
use super::{Observer, Seek, Tree};
use ashlar_bufferpool::{PageStore, Pool};
use std::ops::{Bound, Range};

/// The first and the last key of a range.
type KeyRange<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

/// Where the removal goes on after a leaf.
struct Removed {
    /// Entries taken out of this leaf.
    count: usize,
    sparse: bool,
    /// The leaf's upper fence; `None`: it was the last.
    upper: Option<Vec<u8>>,
}

impl Tree {
    /// Removes all keys between `from` and `to`, for the commit at `lsn`, and tells `observer` what each held.
    ///
    /// The caller holds the lock that lets only one writer at a time into this tree.
    ///
    /// # Errors
    /// Leaves before an error are done, those after it are not; the tree is whole.
    pub fn remove_range<S: PageStore, O: Observer + ?Sized>(
        &self,
        pool: &Pool<S>,
        lsn: u64,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        observer: &mut O,
    ) -> Result<(), TreeError<S::Error>> {
        let mut writer = Writer::new(self, pool);
        let mut next = Some(start(from).to_vec());
        while let Some(at) = next.filter(|at| !is_past(at, to)) {
            next = writer.remove_from_leaf(lsn, &at, (from, to), observer)?.upper;
        }
        Ok(())
    }

    /// Frees some of the pages of a tree that nobody uses any more, and tells `observer` what the keys held. True: all are
    /// freed, the root with them. Between two steps it is a tree like any other.
    ///
    /// # Errors
    /// A page can't be loaded or is wrong.
    pub fn destroy_step<S: PageStore, O: Observer + ?Sized>(
        &self,
        pool: &Pool<S>,
        observer: &mut O,
    ) -> Result<bool, TreeError<S::Error>> {
        let mut writer = Writer::new(self, pool);
        let mut at = Vec::new();
        loop {
            let removed = writer.remove_from_leaf(0, &at, (Bound::Unbounded, Bound::Unbounded), observer)?;
            if removed.count > 0 || writer.settle(&at, observer)? {
                return Ok(false);
            }
            match removed.upper {
                Some(upper) => at = upper,
                // Nothing is left to remove or to join.
                None => return writer.run(Writer::free_root),
            }
        }
    }
}

/// The smallest key that may be in the range.
fn start(from: Bound<&[u8]>) -> &[u8] {
    match from {
        Bound::Included(key) | Bound::Excluded(key) => key,
        Bound::Unbounded => &[],
    }
}

/// Whether `key` and all above it are past the range's end.
fn is_past(key: &[u8], to: Bound<&[u8]>) -> bool {
    match to {
        Bound::Included(to) => key > to,
        Bound::Excluded(to) => key >= to,
        Bound::Unbounded => false,
    }
}

impl<S: PageStore> Writer<'_, S> {
    /// Removes what the leaf in which `at` lies holds of the range, and joins it with a neighbour if it has become sparse.
    fn remove_from_leaf<O: Observer + ?Sized>(
        &mut self,
        lsn: u64,
        at: &[u8],
        range: KeyRange<'_>,
        observer: &mut O,
    ) -> Result<Removed, TreeError<S::Error>> {
        let removed = self.run(|writer| writer.remove_step(lsn, at, range, observer))?;
        if removed.sparse {
            self.settle(at, observer)?;
        }
        Ok(removed)
    }

    fn remove_step<O: Observer + ?Sized>(
        &mut self,
        lsn: u64,
        at: &[u8],
        range: KeyRange<'_>,
        observer: &mut O,
    ) -> Result<Removed, Stop> {
        let page = self.descend(Seek::AtOrAfter(at))?;
        let fault = |what| corrupt(page, what);
        let (slots, upper) = {
            let guard = self.shared(page)?;
            let node = self.open(page, guard.bytes())?;
            if !node.is_leaf() || !node.covers(at) {
                return Err(fault("the page's level or fences are not those that its parent promises"));
            }
            (slots_within(&node, range).map_err(fault)?, node.upper_fence().map(<[u8]>::to_vec))
        };
        if slots.is_empty() {
            return Ok(Removed { count: 0, sparse: false, upper });
        }
        let mut leaf = self.exclusive(page)?;
        let node = self.open(page, leaf.bytes())?;
        let used = node.used();
        let mut key = Vec::new();
        for index in slots.clone() {
            node.key_into(index, &mut key).map_err(fault)?;
            observer.replaced(page, &key, Some(node.value(index).map_err(fault)?));
        }
        edit::raise_lsn(&mut leaf, lsn);
        edit::remove(&mut leaf, self.tree.id, slots.clone()).map_err(fault)?;
        let sparse = self.is_newly_sparse(used, &self.open(page, leaf.bytes())?);
        Ok(Removed { count: slots.len(), sparse, upper })
    }

    /// Frees the root of an empty tree. False: the tree is not an empty leaf.
    fn free_root(&mut self) -> Result<bool, Stop> {
        let root = self.tree.root;
        let guard = self.exclusive(root)?;
        let node = self.open(root, guard.bytes())?;
        if !node.is_leaf() || node.count() > 0 {
            return Ok(false);
        }
        self.pool.free(guard);
        Ok(true)
    }
}

/// The slots of a leaf whose keys lie in the range.
fn slots_within(leaf: &Node<Plain<'_>>, (from, to): KeyRange<'_>) -> Result<Range<usize>, Fault> {
    let first = match from {
        Bound::Included(key) if leaf.covers(key) => leaf.find(key)?.index(),
        Bound::Excluded(key) if leaf.covers(key) => after(leaf.find(key)?),
        // The range begins before this leaf.
        _ => 0,
    };
    let end = match to {
        Bound::Included(key) if leaf.covers(key) => after(leaf.find(key)?),
        Bound::Excluded(key) if leaf.covers(key) => leaf.find(key)?.index(),
        // It ends after it.
        _ => leaf.count(),
    };
    Ok(first..end.max(first))
}

/// The first slot above the key.
fn after(place: Place) -> usize {
    match place {
        Place::At(index) => index + 1,
        Place::Before(index) => index,
    }
}
