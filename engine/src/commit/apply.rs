//! Applying records to the trees: one at a time, in LSN order, the same way the first time and in replay.
//!
//! Invariants:
//! 1. Everything here runs under the apply lock: so only one thread changes trees, and a checkpoint's cut falls between records.
//! 2. A record was validated and its room reserved before it got its LSN; what fails here fails the database (the caller's part).
//! 3. What a record replaces is released after the tree has let go of it: overflow pages at once (no cell names them), a blob's
//!    runs with the next checkpoint.

use super::record::{self, Operation};
use crate::blob::BlobRef;
use crate::btree::{Change, Tree, TreeId, TreeOp};
use crate::catalog::{self, CATALOG_TREE, KeyspaceState};
use crate::error::{Corruption, Error, Result};
use crate::pages::{EnginePool, tree_error};
use crate::value::cell::{self, Cell};
use crate::value::overflow;
use ashlar_bufferpool::PageId;
use ashlar_disk::sync::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The keyspaces by name, as everybody sees them.
pub(crate) type Names = Mutex<BTreeMap<String, Arc<KeyspaceState>>>;

/// What applying needs to know; owned by the apply lock.
#[derive(Debug)]
pub(crate) struct Applier {
    /// LSN of the last applied commit.
    pub(crate) applied: u64,
    pub(crate) catalog: Tree,
    pub(crate) trees: BTreeMap<TreeId, Arc<KeyspaceState>>,
    /// Trees that have been dropped and are not yet freed.
    pub(crate) dropped: Vec<Tree>,
    /// The next tree id never used, as of the last applied commit.
    pub(crate) next_tree: u64,
    pub(crate) slots_max: u16,
}

impl Applier {
    /// Applies a record. The commit's LSN is the newest of all so far.
    pub(crate) fn apply(&mut self, pool: &EnginePool, names: &Names, lsn: u64, record: &[u8]) -> Result<()> {
        debug_assert!(lsn > self.applied);
        let operations = record::read(record, lsn)?;
        let mut rest = &operations[..];
        while let Some(first) = rest.first() {
            let group = match first.point() {
                Some((tree, _)) => {
                    let group = rest.iter().take_while(|o| o.point().is_some_and(|(t, _)| t == tree)).count();
                    self.apply_points(pool, lsn, tree, &rest[..group])?;
                    group
                }
                None => {
                    self.apply_whole(pool, names, lsn, first)?;
                    1
                }
            };
            rest = &rest[group..];
        }
        self.applied = lsn;
        Ok(())
    }

    /// The keyspace that has this tree; `None` if it has been dropped or cleared since: the operation is then without effect.
    pub(crate) fn keyspace(&self, tree: TreeId) -> Option<Arc<KeyspaceState>> {
        self.trees.get(&tree).cloned()
    }

    /// Applies point operations of one tree, ascending by key, each key once.
    pub(crate) fn apply_points(&mut self, pool: &EnginePool, lsn: u64, tree: TreeId, operations: &[Operation<'_>]) -> Result<()> {
        let Some(keyspace) = self.keyspace(tree) else { return Ok(()) };
        let tree = keyspace.tree()?;
        let inline_max = |key: &[u8]| crate::btree::limits(pool.page_size()).inline_value_max(key.len());
        let mut cells = Vec::with_capacity(operations.len());
        for operation in operations {
            cells.push(match operation {
                Operation::Put { key, value, .. } if value.len() <= inline_max(key) => None,
                Operation::Put { value, .. } => {
                    Some((cell::OVERFLOW, cell::encode_overflow(&overflow::write(pool, tree.id, lsn, value)?)))
                }
                Operation::PutBlob { key, blob, .. } => Some(store_blob(pool, tree.id, lsn, blob, inline_max(key))?),
                _ => None,
            });
        }
        let changes = operations.iter().zip(&cells).filter_map(|(operation, cell)| {
            let (_, key) = operation.point()?;
            let change = match (operation, cell) {
                (Operation::Delete { .. }, _) => Change::Delete,
                (_, Some((kind, bytes))) => Change::Put { kind: *kind, bytes },
                (Operation::Put { value, .. }, None) => Change::Put { kind: cell::INLINE, bytes: value },
                _ => return None,
            };
            Some(TreeOp { key, change })
        });
        let changes: Vec<TreeOp<'_>> = changes.collect();
        let mut replaced = Replaced::default();
        let mut next = 0;
        let mut len = keyspace.len.load(Relaxed);
        tree.apply(pool, lsn, &changes, &mut |_: &[u8], old: Option<(u8, &[u8])>| {
            let deleted = matches!(changes[next].change, Change::Delete);
            next += 1;
            match (old.is_some(), deleted) {
                (true, true) => len -= 1,
                (false, false) => len += 1,
                _ => {}
            }
            replaced.note(old);
        })
        .map_err(|e| tree_error(pool, tree.id, e))?;
        if len != keyspace.len.load(Relaxed) {
            keyspace.set_len(len);
        }
        replaced.release(pool)
    }

    /// Applies an operation on a whole keyspace or a range of it.
    pub(crate) fn apply_whole(&mut self, pool: &EnginePool, names: &Names, lsn: u64, operation: &Operation<'_>) -> Result<()> {
        match operation {
            Operation::DeleteRange { tree, from, to } => self.delete_range(pool, lsn, *tree, *from, *to),
            Operation::CreateKeyspace { tree, name } => self.create(pool, names, lsn, *tree, name),
            Operation::DropKeyspace { tree, name } => self.drop_keyspace(pool, names, lsn, *tree, name),
            Operation::ClearKeyspace { tree, new_tree, name } => {
                let new = self.new_tree(pool, *new_tree)?;
                self.exchange(pool, lsn, *tree, new, 0, name)
            }
            Operation::BulkLoad { tree, new_tree, root, count, name, placed } => {
                pool.store().install_placed(placed, pool.epoch());
                self.next_tree = self.next_tree.max(new_tree.0 + 1);
                let new = Tree { id: *new_tree, root: *root, slots_max: self.slots_max };
                self.exchange(pool, lsn, *tree, new, *count, name)
            }
            _ => Err(Corruption::record(lsn, "a point operation among whole ones").into()),
        }
    }

    fn delete_range(&mut self, pool: &EnginePool, lsn: u64, tree: TreeId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<()> {
        let Some(keyspace) = self.keyspace(tree) else { return Ok(()) };
        let tree = keyspace.tree()?;
        let mut replaced = Replaced::default();
        let mut removed = 0;
        tree.remove_range(pool, lsn, from, to, &mut |_: &[u8], old: Option<(u8, &[u8])>| {
            removed += 1;
            replaced.note(old);
        })
        .map_err(|e| tree_error(pool, tree.id, e))?;
        if removed > 0 {
            keyspace.set_len(keyspace.len.load(Relaxed) - removed);
        }
        replaced.release(pool)
    }

    fn create(&mut self, pool: &EnginePool, names: &Names, lsn: u64, id: TreeId, name: &str) -> Result<()> {
        let tree = self.new_tree(pool, id)?;
        self.catalog_put(pool, lsn, &catalog::keyspace_key(name), &catalog::keyspace_entry(tree, 0))?;
        let state = Arc::new(KeyspaceState::new(name, tree, 0, lsn));
        self.trees.insert(id, state.clone());
        names.lock().insert(name.to_owned(), state);
        Ok(())
    }

    fn new_tree(&mut self, pool: &EnginePool, id: TreeId) -> Result<Tree> {
        self.next_tree = self.next_tree.max(id.0 + 1);
        new_tree(pool, id, self.slots_max)
    }

    fn drop_keyspace(&mut self, pool: &EnginePool, names: &Names, lsn: u64, id: TreeId, name: &str) -> Result<()> {
        let Some(keyspace) = self.trees.remove(&id) else { return Ok(()) };
        let tree = keyspace.tree()?;
        self.catalog_delete(pool, lsn, &catalog::keyspace_key(name))?;
        self.catalog_put(pool, lsn, &catalog::dropped_key(id), &catalog::dropped_entry(tree.root))?;
        self.dropped.push(tree);
        // In this order: who finds it dropped finds its name gone, too.
        names.lock().remove(name);
        keyspace.mark_dropped();
        Ok(())
    }

    /// A keyspace gets another tree, with `len` entries; the one it had joins the dropped ones.
    fn exchange(&mut self, pool: &EnginePool, lsn: u64, id: TreeId, new: Tree, len: u64, name: &str) -> Result<()> {
        let Some(keyspace) = self.trees.remove(&id) else {
            return Err(Corruption::record(
                lsn,
                format!("it gives keyspace {name} another tree, but tree {} is not there", id.0),
            )
            .into());
        };
        let old = keyspace.tree()?;
        self.catalog_put(pool, lsn, &catalog::keyspace_key(name), &catalog::keyspace_entry(new, len))?;
        self.catalog_put(pool, lsn, &catalog::dropped_key(id), &catalog::dropped_entry(old.root))?;
        self.dropped.push(old);
        keyspace.exchange(new, len, lsn);
        self.trees.insert(new.id, keyspace);
        Ok(())
    }

    /// Writes each changed number of entries to the catalog: before a cut, so that a checkpoint's numbers are exact.
    pub(crate) fn note_lens(&mut self, pool: &EnginePool) -> Result<()> {
        let keyspaces: Vec<Arc<KeyspaceState>> = self.trees.values().cloned().collect();
        for keyspace in keyspaces {
            if keyspace.len_changed.load(Relaxed) {
                let entry = catalog::keyspace_entry(keyspace.tree()?, keyspace.len.load(Relaxed));
                self.catalog_put(pool, self.applied, &catalog::keyspace_key(&keyspace.name), &entry)?;
                keyspace.len_changed.store(false, Relaxed);
            }
        }
        Ok(())
    }

    /// Frees a part of a dropped tree. True while there is more to free.
    pub(crate) fn free_dropped(&mut self, pool: &EnginePool) -> Result<bool> {
        let Some(&tree) = self.dropped.last() else { return Ok(false) };
        let mut replaced = Replaced::default();
        let freed = tree
            .destroy_step(pool, &mut |_: &[u8], old: Option<(u8, &[u8])>| replaced.note(old))
            .map_err(|e| tree_error(pool, tree.id, e))?;
        replaced.release(pool)?;
        if freed {
            self.dropped.pop();
            self.catalog_delete(pool, self.applied, &catalog::dropped_key(tree.id))?;
        }
        Ok(!self.dropped.is_empty())
    }

    fn catalog_put(&mut self, pool: &EnginePool, lsn: u64, key: &[u8], value: &[u8]) -> Result<()> {
        self.catalog_change(pool, lsn, key, Change::Put { kind: cell::INLINE, bytes: value })
    }

    fn catalog_delete(&mut self, pool: &EnginePool, lsn: u64, key: &[u8]) -> Result<()> {
        self.catalog_change(pool, lsn, key, Change::Delete)
    }

    fn catalog_change(&mut self, pool: &EnginePool, lsn: u64, key: &[u8], change: Change<'_>) -> Result<()> {
        let outcome = self.catalog.apply(pool, lsn, &[TreeOp { key, change }], &mut |_: &[u8], _: Option<(u8, &[u8])>| {});
        outcome.map_err(|e| tree_error(pool, CATALOG_TREE, e))
    }
}

/// An empty tree.
pub(crate) fn new_tree(pool: &EnginePool, id: TreeId, slots_max: u16) -> Result<Tree> {
    let tree = Tree::create(pool, id).map_err(|e| tree_error(pool, id, e))?;
    Ok(Tree { slots_max, ..tree })
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

/// Cells that a tree has let go of and that name something beside themselves.
#[derive(Default)]
struct Replaced {
    cells: Vec<(u8, Vec<u8>)>,
}

impl Replaced {
    fn note(&mut self, old: Option<(u8, &[u8])>) {
        if let Some((kind, bytes)) = old
            && kind != cell::INLINE
        {
            self.cells.push((kind, bytes.to_vec()));
        }
    }

    fn release(self, pool: &EnginePool) -> Result<()> {
        let piece = overflow::piece_len_max(pool.page_size());
        for (kind, bytes) in self.cells {
            match Cell::decode(kind, &bytes, piece) {
                Some(Cell::Overflow(overflow)) => discard(pool, &overflow.pages)?,
                Some(Cell::Blob(blob)) => pool.store().free_blob(blob.pages(), pool.epoch()),
                Some(Cell::LongBlob(list)) => {
                    let list_bytes = overflow::read(pool, &list)?;
                    let blob = list_bytes.as_deref().and_then(cell::decode_blob).ok_or_else(|| bad_cell(kind))?;
                    pool.store().free_blob(blob.pages(), pool.epoch());
                    discard(pool, &list.pages)?;
                }
                Some(Cell::Inline(_)) => {}
                None => return Err(bad_cell(kind)),
            }
        }
        Ok(())
    }
}

fn discard(pool: &EnginePool, pages: &[PageId]) -> Result<()> {
    pages.iter().try_for_each(|&page| crate::pages::discard(pool, page))
}

fn bad_cell(kind: u8) -> Error {
    Corruption {
        place: "a leaf's cell".into(),
        page: None,
        block: None,
        tree: None,
        what: format!("kind {kind} does not decode"),
    }
    .into()
}
