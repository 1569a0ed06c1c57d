//! Changes of keys in one tree, and whoever is told what they replace.
//!
//! Invariants:
//! 1. Before a key changes, what it held goes to `versions`, under the leaf's latch.
//! 2. What can't be changed because a page can't be read is stranded ([`strand`](super::strand)); changes on both sides of it are made.

use super::apply::Applier;
use super::record::Operation;
use super::replaced::Replaced;
use super::strand::is_unreadable;
use crate::blob::BlobRef;
use crate::btree::{Change, Lsns, Observer, Tree, TreeError, TreeId, TreeOp};
use crate::catalog::KeyspaceState;
use crate::error::{Corruption, Error, Result};
use crate::fault::Fault;
use crate::pages::{EnginePool, tree_error};
use crate::value::{cell, overflow};
use crate::versions;
use ashlar_bufferpool::PageId;
use ashlar_disk::sync::yield_point;
use smallvec::SmallVec;
use std::sync::Arc;

/// Whoever is told what a commit changes in a tree.
pub(super) struct Recorder<'a> {
    versions: Option<&'a mut versions::Writer>,
    lsns: Lsns<'a>,
    /// The newest of these, or one above.
    newest: u64,
    /// Nobody reads below: what such a commit has changed is told to nobody.
    told_above: u64,
    tree: TreeId,
    replaced: Replaced,
    /// By how much each commit changes the number of entries.
    lens: Lens,
    /// What becomes of the keys that are told of, in their order; beyond its end, and in a removal of a range, they go.
    changes: &'a [TreeOp<'a>],
    next: usize,
    fault: Fault,
    /// What a deliberate mistake adds too late.
    late: Vec<Late>,
}

/// A before-image: page, LSN, key, kind and bytes.
type Late = (PageId, u64, Vec<u8>, Option<(u8, Vec<u8>)>);

/// What changes have done beside the tree.
#[derive(Default)]
pub(super) struct Changed {
    pub(super) replaced: Replaced,
    pub(super) lens: Lens,
}

/// By how much commits have changed a number of entries, in the order in which that was met.
pub(super) type Lens = SmallVec<[(u64, i64); 1]>;

impl Recorder<'_> {
    /// What was replaced, and by how much the number of entries has changed.
    pub(super) fn finish(self) -> (Replaced, Lens) {
        if let (false, Some(versions)) = (self.late.is_empty(), self.versions) {
            yield_point();
            for (page, lsn, key, old) in &self.late {
                versions.add(*page, *lsn, key, old.as_ref().map(|(kind, bytes)| (*kind, &bytes[..])));
            }
        }
        (self.replaced, self.lens)
    }

    fn count(&mut self, lsn: u64, by: i64) {
        match self.lens.last_mut() {
            Some((last, sum)) if *last == lsn => *sum += by,
            _ => self.lens.push((lsn, by)),
        }
    }
}

impl Observer for Recorder<'_> {
    fn upcoming(&mut self, page: PageId) {
        if let Some(versions) = &self.versions {
            versions.versions().fetch(page);
        }
    }

    fn replaced(&mut self, page: PageId, key: &[u8], old: Option<(u8, &[u8])>) {
        let change = self.changes.get(self.next);
        let deleted = change.is_none_or(|op| matches!(op.change, Change::Delete));
        let lsn = if change.is_some() { self.lsns.of(self.next) } else { self.newest };
        self.next += 1;
        match (old.is_some(), deleted) {
            (true, true) => self.count(lsn, -1),
            (false, false) => self.count(lsn, 1),
            // Nothing was there, and nothing is: no reader can tell.
            (false, true) => return,
            (true, false) => {}
        }
        if lsn <= self.told_above {
        } else if self.fault.is(Fault::BeforeAfterLeaf) {
            self.late.push((page, lsn, key.to_vec(), old.map(|(kind, bytes)| (kind, bytes.to_vec()))));
        } else if let Some(versions) = &mut self.versions {
            versions.add(page, lsn, key, old);
        }
        self.replaced.note(old);
    }

    fn moved(&mut self, source: PageId, target: PageId, lower: &[u8], upper: Option<&[u8]>) {
        if let Some(versions) = &mut self.versions
            && !self.fault.is(Fault::BeforeStays)
        {
            versions.moved(source, target, lower, upper);
        }
    }

    fn may_free(&mut self, page: PageId) -> bool {
        self.versions.as_ref().is_none_or(|versions| !versions.has_entries(page))
    }

    fn left_sparse(&mut self, key: &[u8]) {
        if let Some(versions) = &mut self.versions {
            versions.left_sparse(self.newest, self.tree, key);
        }
    }
}

impl Applier {
    /// Makes changes in the tree of a keyspace, in the order of their keys, and gives what they have replaced, and by how much the number of
    /// entries has changed. `lsns` are those of their commits, `newest` the newest of these or above; before-images are kept for those
    /// above `told_above`. What can't be made because a leaf can't be read is stranded.
    pub(super) fn change(
        &mut self,
        pool: &EnginePool,
        keyspace: &Arc<KeyspaceState>,
        (lsns, newest, told_above): (Lsns<'_>, u64, u64),
        operations: &[Operation<'_>],
        hint: Option<PageId>,
    ) -> Result<(Replaced, Lens)> {
        let tree = keyspace.tree()?;
        let mut why = if self.stranded.is_any() { self.retry_stranded_of(pool, keyspace, newest, operations)? } else { None };
        let cells = cells_of(pool, tree.id, lsns, operations)?;
        let mut changed = Changed::default();
        let (mut from, mut hint) = (0, hint);
        while from < operations.len() {
            let to = self.first_stranded(tree.id, &operations[from..]).map_or(operations.len(), |at| from + at);
            let (some, of_some) = (&operations[from..to], &cells[from..to]);
            let commits = (lsns.within(from..to), newest, told_above);
            let (made, outcome) = self.change_readable(pool, tree, commits, (some, of_some), hint.take(), &mut changed);
            from += made;
            match outcome {
                Err(e) if !is_unreadable(&e) => return Err(tree_error(pool, tree.id, e)),
                // It may have been about a neighbour of the last one's leaf, which is not needed; if not, it comes again.
                Err(_) if made > 0 => continue,
                Err(e) => why = Some(tree_error(pool, tree.id, e)),
                // The next is of a key that stays stranded, if there is one.
                Ok(()) => {}
            }
            let Some((_, key)) = operations.get(from).and_then(Operation::point) else { continue };
            let Some(why) = why.clone() else {
                return Err(Corruption::record(newest, "a change was neither made nor refused").into());
            };
            let is_of_key = |o: &&Operation<'_>| o.point().is_some_and(|(_, other)| other == key);
            let range = from..from + operations[from..].iter().take_while(is_of_key).count();
            from = range.end;
            self.strand(pool, (lsns.within(range.clone()), newest), &operations[range.clone()], why)?;
            // What was written beside the leaf for them.
            cells[range].iter().flatten().for_each(|(kind, bytes)| changed.replaced.note(Some((*kind, bytes))));
        }
        Ok((changed.replaced, changed.lens))
    }

    /// Makes changes in a tree, and gives how many were made: those before the one that an error is about.
    pub(super) fn change_readable(
        &mut self,
        pool: &EnginePool,
        tree: Tree,
        (lsns, newest, told_above): (Lsns<'_>, u64, u64),
        (operations, cells): (&[Operation<'_>], &[Beside]),
        hint: Option<PageId>,
        changed: &mut Changed,
    ) -> (usize, std::result::Result<(), TreeError<Error>>) {
        let changes = operations.iter().zip(cells).filter_map(|(operation, cell)| {
            let (_, key) = operation.point()?;
            let change = match (operation, cell) {
                (Operation::Delete { .. }, _) => Change::Delete,
                (_, Some((kind, bytes))) => Change::Put { kind: *kind, bytes },
                (Operation::Put { value, .. }, None) => Change::Put { kind: cell::INLINE, bytes: value },
                _ => return None,
            };
            Some(TreeOp { key, change })
        });
        let changes: SmallVec<[TreeOp<'_>; 1]> = changes.collect();
        debug_assert_eq!(changes.len(), operations.len(), "operations on keys");
        let Changed { replaced, lens } = std::mem::take(changed);
        let mut recorder = Recorder { lsns, told_above, replaced, lens, ..self.recorder(newest, tree.id, &changes) };
        let outcome = tree.apply_from(pool, lsns, &changes, hint, &mut recorder);
        let made = recorder.next;
        (changed.replaced, changed.lens) = recorder.finish();
        (made, outcome)
    }

    pub(super) fn recorder<'a>(&'a mut self, lsn: u64, tree: TreeId, changes: &'a [TreeOp<'a>]) -> Recorder<'a> {
        Recorder {
            versions: self.versions.as_mut(),
            lsns: Lsns::All(lsn),
            newest: lsn,
            told_above: 0,
            tree,
            replaced: Replaced::default(),
            lens: Lens::new(),
            changes,
            next: 0,
            fault: self.fault,
            late: Vec::new(),
        }
    }
}

/// What stands beside a leaf for a change, if anything does: the kind and the bytes of the cell that names it.
pub(super) type Beside = Option<(u8, Vec<u8>)>;

/// Writes what stands beside the leaf for each operation on a key of a tree.
pub(super) fn cells_of(
    pool: &EnginePool,
    tree: TreeId,
    lsns: Lsns<'_>,
    operations: &[Operation<'_>],
) -> Result<SmallVec<[Beside; 1]>> {
    let inline_max = |key: &[u8]| crate::btree::limits(pool.page_size()).inline_value_max(key.len());
    let mut cells: SmallVec<[Beside; 1]> = SmallVec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        let lsn = lsns.of(index);
        cells.push(match operation {
            Operation::Put { key, value, .. } if value.len() <= inline_max(key) => None,
            Operation::Put { value, .. } => {
                Some((cell::OVERFLOW, cell::encode_overflow(&overflow::write(pool, tree, lsn, value)?)))
            }
            Operation::PutBlob { key, blob, .. } => Some(store_blob(pool, tree, lsn, blob, inline_max(key))?),
            _ => None,
        });
    }
    Ok(cells)
}

/// A blob's runs enter the epoch's delta; its cell.
fn store_blob(pool: &EnginePool, tree: TreeId, lsn: u64, blob: &BlobRef, inline_max: usize) -> Result<(u8, Vec<u8>)> {
    pool.store().install_blob(blob, pool.epoch());
    let bytes = cell::encode_blob(blob);
    if bytes.len() <= inline_max {
        return Ok((cell::BLOB, bytes));
    }
    let list = overflow::write(pool, tree, lsn, &bytes)?;
    Ok((cell::LONG_BLOB, cell::encode_overflow(&list)))
}
