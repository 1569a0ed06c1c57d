//! Writes whose leaves can't be read: *stranded*. A write was confirmed before its leaf was looked at (it waited), or the leaf was lost between
//! the two; so it is kept beside its tree, in the catalog, until the leaf can be read again. The page fails those who read it, and nobody else.
//!
//! Readers find what is stranded as they find what waits ([`postponed`](crate::postponed)); a checkpoint has it in its catalog, so that no
//! record is kept for it. It is tried again when its key is written again, or a range with it is removed, before each checkpoint's cut, and at
//! each open.
//!
//! Invariants:
//! 1. While a key has stranded writes, nothing newer of it goes into its tree: what is stranded is put into the tree first, oldest first,
//!    each as of its own LSN; where that fails, the newer one is stranded as well.
//! 2. Numbers of entries do not count what is stranded: its effect is not known. They change, as of its LSN, when it is put into its tree.
//! 3. The catalog has the newest of each key. Older ones stay in memory while somebody may read at them.
//! 4. While anything is stranded, no commit waits that need not ([`Shared::may_postpone`](crate::database::Shared::may_postpone)): it reads its
//!    leaves first, and is refused where it can't. So what is stranded is, but for replay, what waited when the first leaf could not be read.
//!    Beyond a limit above what may wait the database fails, as it does where anything else can't be applied.

use super::apply::Applier;
use super::change::{Changed, cells_of};
use super::record::{self, Operation};
use crate::btree::{Lsns, Tree, TreeError, TreeId};
use crate::catalog::{self, KeyspaceState};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::pages::{self, EnginePool, tree_error};
use crate::postponed::{OVERHEAD, Write};
use crate::store::Draw;
use crate::stranded::{Pieces, split};
use crate::versions;
use ashlar_bufferpool::LoadError;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// What whoever holds the apply lock knows of stranded writes.
#[derive(Debug)]
pub(crate) struct Stranded {
    /// Where the catalog has the newest of each key; no tree without one.
    places: BTreeMap<TreeId, BTreeMap<Box<[u8]>, Place>>,
    /// The next number never used.
    next: u64,
    /// Bytes of these, about, and how many there may be.
    bytes: u64,
    limit: u64,
    /// The key that was tried last: the next time others come first.
    tried: Option<(TreeId, Box<[u8]>)>,
}

/// Where a write stands in the catalog.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    pieces: u16,
    bytes: u64,
}

/// Whether an error says that a page can't be read, or is damaged, and nothing else.
pub(super) fn is_unreadable(e: &TreeError<Error>) -> bool {
    matches!(e, TreeError::Load(LoadError::Store(e)) if is_of_page(e))
}

fn is_of_page(e: &Error) -> bool {
    matches!(e, Error::Io(_) | Error::Corrupt(_))
}

/// What has to be put into its tree, or may stay stranded where there is no room for it either.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Must,
    May,
}

impl Stranded {
    /// Nothing; `limit` bytes may be.
    pub(crate) fn new(limit: u64) -> Stranded {
        Stranded { places: BTreeMap::new(), next: 0, bytes: 0, limit, tried: None }
    }

    pub(super) fn is_any(&self) -> bool {
        !self.places.is_empty()
    }

    fn place(&self, tree: TreeId, key: &[u8]) -> Option<Place> {
        self.places.get(&tree)?.get(key).copied()
    }

    /// The keys of a tree that lie in a range.
    fn keys_of(&self, tree: TreeId, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Vec<Box<[u8]>> {
        let keys = self.places.get(&tree).into_iter().flatten().map(|(key, _)| key);
        keys.filter(|key| RangeBounds::<[u8]>::contains(&range, &***key)).cloned().collect()
    }

    /// Enters the newest write of a key; gives the one that it takes the place of.
    fn enter(&mut self, tree: TreeId, key: &[u8], place: Place) -> Option<Place> {
        self.bytes += place.bytes;
        let older = self.places.entry(tree).or_default().insert(key.into(), place);
        self.bytes -= older.map_or(0, |older| older.bytes);
        older
    }

    /// Some keys, in order, behind the one that was met last.
    fn some_behind(&self, last: Option<&(TreeId, Box<[u8]>)>, count: usize) -> Vec<(TreeId, Box<[u8]>)> {
        let trees = self.places.range(last.map_or(TreeId(0), |(tree, _)| *tree)..);
        let keys = trees.flat_map(|(tree, keys)| keys.keys().map(|key| (*tree, key)));
        let behind = keys.filter(|(tree, key)| last.is_none_or(|(of, last)| (*of, last) < (*tree, *key)));
        behind.take(count).map(|(tree, key)| (tree, key.clone())).collect()
    }

    fn remove(&mut self, tree: TreeId, key: &[u8]) -> Option<Place> {
        let keys = self.places.get_mut(&tree)?;
        let place = keys.remove(key)?;
        if keys.is_empty() {
            self.places.remove(&tree);
        }
        self.bytes -= place.bytes;
        Some(place)
    }
}

fn can_wait(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Put { .. } | Operation::Delete { .. })
}

impl Applier {
    /// Index of the first operation on a key that has stranded writes.
    pub(super) fn first_stranded(&self, tree: TreeId, operations: &[Operation<'_>]) -> Option<usize> {
        if !self.stranded.is_any() || self.fault.is(Fault::StrandedOvertaken) {
            return None;
        }
        operations.iter().position(|o| o.point().is_some_and(|(_, key)| self.stranded.place(tree, key).is_some()))
    }

    /// Strands operations on one key, oldest first, because of `why`.
    pub(super) fn strand(
        &mut self,
        pool: &EnginePool,
        (lsns, newest): (Lsns<'_>, u64),
        operations: &[Operation<'_>],
        why: Error,
    ) -> Result<()> {
        let Some((tree, key)) = operations.first().and_then(Operation::point) else { return Ok(()) };
        let records: Vec<Arc<[u8]>> = operations.iter().map(|o| record::single(o).into()).collect();
        let (last, lsn) = (records.len() - 1, lsns.of(records.len() - 1));
        let bytes = records[last].len() as u64 + OVERHEAD;
        let others = self.stranded.bytes - self.stranded.place(tree, key).map_or(0, |older| older.bytes);
        if !operations.iter().all(can_wait) || others + bytes > self.stranded.limit {
            return Err(why);
        }
        let piece_max = crate::btree::limits(pool.page_size()).inline_value_max(catalog::stranded_key(0, 0).len());
        let Some(pieces) = split(lsn, &records[last], piece_max) else { return Err(why) };
        let place = Place { number: self.stranded.next, pieces: pieces.len() as u16, bytes };
        self.stranded.next += 1;
        if !self.fault.is(Fault::StrandedNotInCatalog) {
            for (piece, bytes) in pieces.iter().enumerate() {
                self.catalog_put(pool, newest, &catalog::stranded_key(place.number, piece as u16), bytes)?;
            }
        }
        match self.stranded.enter(tree, key, place) {
            Some(older) => self.forget_place(pool, newest, older)?,
            None => {
                tracing::warn!(error = %why, tree = tree.0, "a write waits for a page that can't be read; verify, and salvage if it stays so");
            }
        }
        let postponed = self.waiting.postponed().clone();
        for (index, record) in records.iter().enumerate() {
            postponed.strand(lsns.of(index), record)?;
        }
        // In replay nobody reads at anything but the newest.
        let nobody_below = self.versions.as_ref().map_or(u64::MAX, versions::Writer::pruned_to);
        let all = postponed.stranded_of(tree, key);
        let superseded = all.windows(2).take_while(|two| two[1].lsn <= nobody_below).count();
        postponed.unstrand(&all[..superseded]);
        Ok(())
    }

    /// Tries again to put into the tree what is stranded of the keys of operations. Gives why that is not possible, if it is not.
    pub(super) fn retry_stranded_of(
        &mut self,
        pool: &EnginePool,
        keyspace: &Arc<KeyspaceState>,
        newest: u64,
        operations: &[Operation<'_>],
    ) -> Result<Option<Error>> {
        let (tree, mut from, mut why) = (keyspace.tree()?.id, 0, None);
        while let Some(at) = self.first_stranded(tree, &operations[from..]) {
            from += at;
            if let Some((_, key)) = operations[from].point() {
                let how = if can_wait(&operations[from]) { Retry::May } else { Retry::Must };
                why = self.retry_stranded(pool, keyspace, (newest, how), key)?.or(why);
            }
            from += 1;
        }
        Ok(why)
    }

    /// Puts into the tree what is stranded of the keys of a range, which is to be removed.
    pub(super) fn retry_stranded_in(
        &mut self,
        pool: &EnginePool,
        keyspace: &Arc<KeyspaceState>,
        newest: u64,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<()> {
        for key in self.stranded.keys_of(keyspace.tree()?.id, range) {
            if let Some(why) = self.retry_stranded(pool, keyspace, (newest, Retry::Must), &key)? {
                return Err(why);
            }
        }
        Ok(())
    }

    /// Tries to put into the tree what is stranded of a key. Gives why it stays stranded, if it does: its leaf still can't be read, or there
    /// is no room.
    fn retry_stranded(
        &mut self,
        pool: &EnginePool,
        keyspace: &Arc<KeyspaceState>,
        (newest, how): (u64, Retry),
        key: &[u8],
    ) -> Result<Option<Error>> {
        let tree = keyspace.tree()?;
        let place = self.stranded.place(tree.id, key);
        if let Some(why) = self.unreadable_of(pool, tree, key, place)? {
            return Ok(Some(why));
        }
        let writes = self.waiting.postponed().stranded_of(tree.id, key);
        let lsns: Vec<u64> = writes.iter().map(|write| write.lsn).collect();
        let operation = |write| match Write::value(write) {
            Some(value) => Operation::Put { tree: tree.id, key, value },
            None => Operation::Delete { tree: tree.id, key },
        };
        let operations: Vec<Operation<'_>> = writes.iter().map(operation).collect();
        // Room for these pages was promised when they were to be changed first; by now others may have it.
        let bytes: usize = writes.iter().map(|write| key.len() + write.value().map_or(0, <[u8]>::len)).sum();
        let pages = 4 * operations.len() + 2 * bytes / pool.page_size() + 16;
        let draw = if how == Retry::Must { Draw::Checkpoint } else { Draw::Ordinary };
        let _promise = match pool.store().promise(pages as u64, || pool.dirty_pages(), draw) {
            Err(Error::NoSpace { .. }) if how == Retry::Must => None,
            Err(e @ Error::NoSpace { .. }) => return Ok(Some(e)),
            promise => Some(promise?),
        };
        let cells = cells_of(pool, tree.id, Lsns::Each(&lsns), &operations)?;
        let nobody_below = self.versions.as_ref().map_or(0, versions::Writer::pruned_to);
        let mut changed = Changed::default();
        let commits = (Lsns::Each(&lsns), newest, nobody_below);
        let (made, outcome) = self.change_readable(pool, tree, commits, (&operations, &cells), None, &mut changed);
        let why = match outcome {
            Err(e) if !is_unreadable(&e) => return Err(tree_error(pool, tree.id, e)),
            Err(e) if made < operations.len() => Some(tree_error(pool, tree.id, e)),
            // All are made; at most joining the leaf with a neighbour was not possible.
            _ => None,
        };
        cells[made..].iter().flatten().for_each(|(kind, bytes)| changed.replaced.note(Some((*kind, bytes))));
        self.change_len(keyspace, &changed.lens);
        changed.replaced.retire(pool, newest, self.versions.as_mut())?;
        if why.is_none() {
            self.stranded.remove(tree.id, key);
            place.map_or(Ok(()), |place| self.forget_place(pool, newest, place))?;
        }
        // Only now: whoever does not find them any more goes by the tree and the number of entries. Should some be left, those before them are
        // not to be put into the tree again, over what is newer.
        self.waiting.postponed().unstrand(&writes[..made]);
        Ok(why)
    }

    /// Why a key's leaf, or the pages of the catalog that have what is stranded of it, can't be read, if they can't.
    fn unreadable_of(&self, pool: &EnginePool, tree: Tree, key: &[u8], place: Option<Place>) -> Result<Option<Error>> {
        let pieces = place.into_iter().flat_map(|place| (0..place.pieces).map(move |piece| (place.number, piece)));
        let mut outcome = pages::find(pool, tree, key, |_| ());
        for (number, piece) in pieces {
            outcome = outcome.and_then(|()| pages::find(pool, self.catalog, &catalog::stranded_key(number, piece), |_| ()));
        }
        match outcome {
            Ok(()) => Ok(None),
            Err(e) if is_of_page(&e) => Ok(Some(e)),
            Err(e) => Err(e),
        }
    }

    fn forget_place(&mut self, pool: &EnginePool, lsn: u64, place: Place) -> Result<()> {
        (0..place.pieces).try_for_each(|piece| self.catalog_delete(pool, lsn, &catalog::stranded_key(place.number, piece)))
    }

    /// A tree is dropped by the commit at `lsn`: what is stranded of it stays in memory, for those who still read it.
    pub(super) fn drop_stranded(&mut self, pool: &EnginePool, lsn: u64, tree: TreeId) -> Result<()> {
        let keys = self.stranded.keys_of(tree, (Bound::Unbounded, Bound::Unbounded));
        let mut places: Vec<Place> = keys.iter().filter_map(|key| self.stranded.remove(tree, key)).collect();
        // As they stand in the catalog: each of its pages once.
        places.sort_by_key(|place| place.number);
        places.into_iter().try_for_each(|place| self.forget_place(pool, lsn, place))
    }

    /// Takes over what the catalog has, before anything is applied.
    pub(crate) fn load_stranded(&mut self, pieces: Pieces) -> Result<()> {
        let postponed = self.waiting.postponed().clone();
        for write in pieces.checked(self.applied) {
            let write = write?;
            let (tree, key) = write.operation()?;
            let place = Place { number: write.number, pieces: write.pieces, bytes: write.record.len() as u64 + OVERHEAD };
            self.stranded.enter(tree, key, place);
            self.stranded.next = self.stranded.next.max(write.number + 1);
            postponed.strand(write.lsn, &write.record)?;
        }
        postponed.note_cut();
        Ok(())
    }

    /// Some keys with stranded writes, in order, behind the one that was met last, each with its tree.
    pub(super) fn some_stranded(&self, last: Option<&(TreeId, Box<[u8]>)>, count: usize) -> Vec<(Tree, Box<[u8]>)> {
        let some = self.stranded.some_behind(last, count).into_iter();
        some.filter_map(|(tree, key)| Some((self.keyspace(tree)?.tree().ok()?, key))).collect()
    }

    /// The stranded key that was tried last.
    pub(super) fn stranded_tried(&mut self) -> &mut Option<(TreeId, Box<[u8]>)> {
        &mut self.stranded.tried
    }

    /// Tries to put into their trees what is stranded of some keys. While no window is under way.
    pub(super) fn retry_some_stranded(&mut self, pool: &EnginePool, keys: &[(Tree, Box<[u8]>)]) -> Result<()> {
        let lsn = self.merged();
        for (tree, key) in keys {
            if let Some(keyspace) = self.keyspace(tree.id).filter(|_| self.stranded.place(tree.id, key).is_some()) {
                self.retry_stranded(pool, &keyspace, (lsn, Retry::May), key)?;
            }
        }
        Ok(())
    }

    /// Tries to put into the trees all that is stranded, until so many have failed. At an open.
    pub(crate) fn retry_all_stranded(&mut self, pool: &EnginePool, mut failing_max: usize) -> Result<()> {
        let (lsn, trees) = (self.merged(), self.stranded.places.keys().copied().collect::<Vec<_>>());
        for tree in trees {
            let Some(keyspace) = self.keyspace(tree) else {
                // No tree of a keyspace: nothing of it can be read.
                self.drop_stranded(pool, lsn, tree)?;
                self.waiting.postponed().forget_stranded(tree);
                continue;
            };
            for key in self.stranded.keys_of(tree, (Bound::Unbounded, Bound::Unbounded)) {
                if failing_max == 0 {
                    return Ok(());
                }
                failing_max -= usize::from(self.retry_stranded(pool, &keyspace, (lsn, Retry::May), &key)?.is_some());
            }
        }
        Ok(())
    }
}
