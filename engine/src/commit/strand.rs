//! Writes whose leaves can't be read: *stranded*. A write was confirmed before its leaf was looked at (it waited), or the leaf was lost between
//! the two; so it is kept beside its tree, in the catalog, until the leaf can be read again. The page fails those who read it, and nobody else.
//!
//! Readers find what is stranded as they find what waits ([`postponed`](crate::postponed)); a checkpoint has it in its catalog, so that no
//! record is kept for it. It is tried again when its key is written again, or a range with it is removed, and at each open.
//!
//! Invariants:
//! 1. While a key has stranded writes, nothing newer of it goes into its tree: what is stranded is put into the tree first, oldest first,
//!    each as of its own LSN; where that fails, the newer one is stranded as well.
//! 2. Numbers of entries do not count what is stranded: its effect is not known. They change, as of its LSN, when it is put into its tree.
//! 3. The catalog has the newest of each key. Older ones stay in memory while somebody may read at them.
//! 4. What is stranded takes [`STRANDED_MAX`] bytes at most: beyond, the database fails, as it does where anything else can't be applied.

use super::apply::Applier;
use super::change::{Changed, cells_of};
use super::record::{self, Operation};
use crate::btree::{Lsns, TreeError, TreeId};
use crate::catalog::{self, KeyspaceState};
use crate::error::{Corruption, Error, Result};
use crate::fault::Fault;
use crate::pages::{EnginePool, tree_error};
use crate::postponed::Write;
use crate::store::Draw;
use crate::stranded::{Pieces, split};
use crate::versions;
use ashlar_bufferpool::LoadError;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes that may be stranded, about.
const STRANDED_MAX: u64 = 1 << 20;

/// Reads that may fail before an open leaves the rest of what is stranded as it is.
const FAILING_MAX: usize = 256;

/// What whoever holds the apply lock knows of stranded writes.
#[derive(Debug, Default)]
pub(crate) struct Stranded {
    /// Where the catalog has the newest of each key.
    places: BTreeMap<(TreeId, Box<[u8]>), Place>,
    /// The next number never used.
    next: u64,
    /// Bytes of all in memory, about.
    bytes: u64,
}

/// Where a write stands in the catalog.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    pieces: u16,
}

/// Whether an error says that a page can't be read, or is damaged, and nothing else.
pub(super) fn is_unreadable(e: &TreeError<Error>) -> bool {
    matches!(e, TreeError::Load(LoadError::Store(Error::Io(_) | Error::Corrupt(_))))
}

impl Applier {
    /// Index of the first operation on a key that has stranded writes.
    pub(super) fn first_stranded(&self, tree: TreeId, operations: &[Operation<'_>]) -> Option<usize> {
        if !self.stranded.is_any() || self.fault.is(Fault::StrandedOvertaken) {
            return None;
        }
        operations.iter().position(|o| o.point().is_some_and(|(_, key)| self.is_stranded(tree, key)))
    }

    fn is_stranded(&self, tree: TreeId, key: &[u8]) -> bool {
        self.stranded.places.contains_key(&(tree, key.into()))
    }

    /// Strands operations on one key, oldest first, because of `why`.
    pub(super) fn strand(
        &mut self,
        pool: &EnginePool,
        (lsns, newest): (Lsns<'_>, u64),
        operations: &[Operation<'_>],
        why: Error,
    ) -> Result<()> {
        let can_wait = |o: &Operation<'_>| matches!(o, Operation::Put { .. } | Operation::Delete { .. });
        let Some((tree, key)) = operations.first().and_then(Operation::point) else { return Ok(()) };
        let records: Vec<Arc<[u8]>> = operations.iter().map(|o| record::single(o).into()).collect();
        let bytes: u64 = records.iter().map(|record| record.len() as u64).sum();
        if !operations.iter().all(can_wait) || self.stranded.bytes + bytes > STRANDED_MAX {
            return Err(why);
        }
        let (last, lsn) = (records.len() - 1, lsns.of(records.len() - 1));
        let piece_max = crate::btree::limits(pool.page_size()).inline_value_max(catalog::stranded_key(0, 0).len());
        let Some(pieces) = split(lsn, &records[last], piece_max) else { return Err(why) };
        let place = Place { number: self.stranded.next, pieces: pieces.len() as u16 };
        self.stranded.next += 1;
        if !self.fault.is(Fault::StrandedNotInCatalog) {
            for (piece, bytes) in pieces.iter().enumerate() {
                self.catalog_put(pool, newest, &catalog::stranded_key(place.number, piece as u16), bytes)?;
            }
        }
        if let Some(older) = self.stranded.places.insert((tree, key.into()), place) {
            self.forget_place(pool, newest, older)?;
        }
        let postponed = self.waiting.postponed().clone();
        for (index, record) in records.iter().enumerate() {
            self.stranded.bytes += postponed.strand(lsns.of(index), record)?;
        }
        // In replay nobody reads at anything but the newest.
        let nobody_below = self.versions.as_ref().map_or(u64::MAX, versions::Writer::pruned_to);
        let all = postponed.stranded_of(tree, key);
        let superseded = all.windows(2).take_while(|two| two[1].lsn <= nobody_below).count();
        self.stranded.bytes -= all[..superseded].iter().map(Write::size).sum::<u64>();
        postponed.unstrand(&all[..superseded]);
        tracing::warn!(error = %why, tree = tree.0, "a write waits for a page that can't be read; verify, and salvage if it stays so");
        Ok(())
    }

    /// Tries again to put into the tree what is stranded of the keys of operations. Gives why that is not possible, if it is not.
    pub(super) fn settle_stranded_of(
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
                why = self.settle_stranded(pool, keyspace, newest, key)?.or(why);
            }
            from += 1;
        }
        Ok(why)
    }

    /// Puts into the tree what is stranded of the keys of a range, which is to be removed.
    pub(super) fn settle_stranded_in(
        &mut self,
        pool: &EnginePool,
        keyspace: &Arc<KeyspaceState>,
        newest: u64,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<()> {
        let tree = keyspace.tree()?.id;
        for key in self.stranded.keys_of(tree) {
            let is_in = std::ops::RangeBounds::<[u8]>::contains(&(from, to), &*key);
            if is_in && let Some(why) = self.settle_stranded(pool, keyspace, newest, &key)? {
                return Err(why);
            }
        }
        Ok(())
    }

    /// Tries to put into the tree what is stranded of a key. Gives why its leaf can't be read, if it still can't.
    fn settle_stranded(
        &mut self,
        pool: &EnginePool,
        keyspace: &Arc<KeyspaceState>,
        newest: u64,
        key: &[u8],
    ) -> Result<Option<Error>> {
        let tree = keyspace.tree()?;
        let writes = self.waiting.postponed().stranded_of(tree.id, key);
        let lsns: Vec<u64> = writes.iter().map(|write| write.lsn).collect();
        let operation = |write| match Write::value(write) {
            Some(value) => Operation::Put { tree: tree.id, key, value },
            None => Operation::Delete { tree: tree.id, key },
        };
        let operations: Vec<Operation<'_>> = writes.iter().map(operation).collect();
        // Room for these pages was promised when they were to be changed first; by now others may have it.
        let pages = operations.len() as u64 + 2 * writes.iter().map(Write::size).sum::<u64>() / pool.page_size() as u64 + 16;
        let _promise = match pool.store().promise(pages, || pool.dirty_pages(), Draw::Checkpoint) {
            Ok(promise) => Some(promise),
            Err(Error::NoSpace { .. }) => None,
            Err(e) => return Err(e),
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
        if why.is_none()
            && let Some(place) = self.stranded.places.remove(&(tree.id, key.into()))
        {
            self.forget_place(pool, newest, place)?;
        }
        // Only now: whoever does not find them any more goes by the tree and the number of entries. Should some be left, those before them are
        // not to be put into the tree again, over what is newer.
        let made = &writes[..made];
        self.stranded.bytes -= made.iter().map(Write::size).sum::<u64>();
        self.waiting.postponed().unstrand(made);
        Ok(why)
    }

    fn forget_place(&mut self, pool: &EnginePool, lsn: u64, place: Place) -> Result<()> {
        (0..place.pieces).try_for_each(|piece| self.catalog_delete(pool, lsn, &catalog::stranded_key(place.number, piece)))
    }

    /// A tree is dropped by the commit at `lsn`: what is stranded of it stays in memory, for those who still read it.
    pub(super) fn drop_stranded(&mut self, pool: &EnginePool, lsn: u64, tree: TreeId) -> Result<()> {
        for key in self.stranded.keys_of(tree) {
            if let Some(place) = self.stranded.places.remove(&(tree, key)) {
                self.forget_place(pool, lsn, place)?;
            }
        }
        Ok(())
    }

    /// Nobody reads a dropped tree any more.
    pub(super) fn forget_stranded(&mut self, tree: TreeId) {
        let forgotten = self.waiting.postponed().forget_stranded(tree);
        self.stranded.bytes -= forgotten.iter().map(Write::size).sum::<u64>();
    }

    /// Takes over what the catalog has, before anything is applied.
    pub(crate) fn load_stranded(&mut self, pieces: Pieces) -> Result<()> {
        let postponed = self.waiting.postponed().clone();
        for write in pieces.writes() {
            let write = write?;
            let (tree, key) = write.operation()?;
            let place = Place { number: write.number, pieces: write.pieces };
            let is_second = self.stranded.places.insert((tree, key.into()), place).is_some();
            if is_second || write.lsn > self.applied {
                let what = format!("write {} that waits for its page has LSN {}: ", write.number, write.lsn);
                let of = if is_second { "it is the second of its key" } else { "that is beyond the checkpoint" };
                return Err(Corruption::page(self.catalog.root.0, Some(self.catalog.id.0), what + of).into());
            }
            self.stranded.next = self.stranded.next.max(write.number + 1);
            self.stranded.bytes += postponed.strand(write.lsn, &write.record)?;
        }
        postponed.note_cut();
        Ok(())
    }

    /// Tries to put into the trees all that is stranded.
    pub(crate) fn settle_all_stranded(&mut self, pool: &EnginePool) -> Result<()> {
        let mut failing = 0;
        let keys: Vec<(TreeId, Box<[u8]>)> = self.stranded.places.keys().cloned().collect();
        for (tree, key) in keys {
            match self.keyspace(tree) {
                Some(keyspace) if failing < FAILING_MAX => {
                    failing += usize::from(self.settle_stranded(pool, &keyspace, self.applied, &key)?.is_some());
                }
                Some(_) => {}
                None => {
                    self.drop_stranded(pool, self.applied, tree)?;
                    self.forget_stranded(tree);
                }
            }
        }
        Ok(())
    }
}

impl Stranded {
    pub(super) fn is_any(&self) -> bool {
        !self.places.is_empty()
    }

    fn keys_of(&self, tree: TreeId) -> Vec<Box<[u8]>> {
        let from = (tree, Box::default());
        let of_tree = self.places.range(from..).take_while(|((of, _), _)| *of == tree);
        of_tree.map(|((_, key), _)| key.clone()).collect()
    }
}
