//! Applying records to the trees: one at a time, in LSN order, the same way the first time and in replay.
//!
//! Invariants:
//! 1. Everything here runs under the apply lock: so only one thread changes trees, and a checkpoint's cut falls between records.
//! 2. A record was validated and its room reserved before it got its LSN; what fails here fails the database (the caller's part).
//! 3. Where something waits to be merged into the trees (see [`merge`](super::merge)), a record is not applied to them before that is done.
//! 4. Where a leaf can't be read, puts and removals of its keys are stranded ([`strand`](super::strand)); other operations fail.
//! 5. What a record replaces and stands elsewhere, overflow pages and a blob's runs, is retired after the tree has let go of it, and
//!    freed when no snapshot can see it. In replay, where there are no snapshots, it is freed at once.

use super::merge::Waiting;
use super::record::{self, Operation};
use super::replaced::Replaced;
use super::strand::{Stranded, is_unreadable};
use crate::btree::{Change, Lsns, Tree, TreeId, TreeOp};
use crate::catalog::{self, CATALOG_TREE, KeyspaceState};
use crate::error::{Corruption, Result};
use crate::fault::Fault;
use crate::pages::{EnginePool, tree_error};
use crate::value::cell;
use crate::versions;
use ashlar_bufferpool::PageId;
use ashlar_disk::sync::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The keyspaces by name, as everybody sees them.
pub(crate) type Names = Mutex<catalog::Names>;

/// Keyspaces that transactions are about to make, for whoever has a handle on one: by their trees.
pub(crate) type Unborn = Mutex<BTreeMap<TreeId, Arc<KeyspaceState>>>;

/// What applying needs to know; owned by the apply lock.
#[derive(Debug)]
pub(crate) struct Applier {
    /// LSN of the last applied commit. What of it and of those before is not in the trees yet, waits.
    pub(crate) applied: u64,
    pub(crate) waiting: Waiting,
    /// Where the catalog has what is stranded.
    pub(crate) stranded: Stranded,
    pub(crate) catalog: Tree,
    pub(crate) trees: BTreeMap<TreeId, Arc<KeyspaceState>>,
    /// Trees that have been dropped and are not yet freed, each with the LSN of the commit that dropped it; oldest first.
    pub(crate) dropped: VecDeque<(Tree, u64)>,
    /// The next tree id never used, as of the last applied commit.
    pub(crate) next_tree: u64,
    pub(crate) slots_max: u16,
    pub(crate) unborn: Arc<Unborn>,
    /// Before-images; `None` in replay.
    pub(crate) versions: Option<versions::Writer>,
    /// Keyspaces with a past that is kept for snapshots.
    pub(crate) pasts: Vec<Arc<KeyspaceState>>,
    pub(crate) fault: Fault,
}

impl Applier {
    /// Applies a record, whose first write may go to the leaf `hint`. The commit's LSN is the newest of all so far.
    pub(crate) fn apply(
        &mut self,
        pool: &EnginePool,
        names: &Names,
        lsn: u64,
        record: &[u8],
        mut hint: Option<PageId>,
    ) -> Result<()> {
        debug_assert!(lsn > self.applied && !self.waiting.waits());
        let operations = record::read(record, lsn)?;
        let mut rest = &operations[..];
        while let Some(first) = rest.first() {
            let group = match first.point() {
                Some((tree, _)) => {
                    let group = rest.iter().take_while(|o| o.point().is_some_and(|(t, _)| t == tree)).count();
                    self.apply_points(pool, lsn, tree, &rest[..group], hint.take())?;
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

    /// LSN of the last commit of which everything is in the trees, as it is of all before.
    pub(crate) fn merged(&self) -> u64 {
        self.waiting.merged().unwrap_or(self.applied)
    }

    /// The keyspace that has this tree; `None` if it has been dropped or cleared since: the operation is then without effect.
    pub(crate) fn keyspace(&self, tree: TreeId) -> Option<Arc<KeyspaceState>> {
        self.trees.get(&tree).cloned()
    }

    /// Applies point operations of one tree, ascending by key, each key once, of which the first may go to the leaf `hint`.
    pub(crate) fn apply_points(
        &mut self,
        pool: &EnginePool,
        lsn: u64,
        tree: TreeId,
        operations: &[Operation<'_>],
        hint: Option<PageId>,
    ) -> Result<()> {
        let Some(keyspace) = self.keyspace(tree) else { return Ok(()) };
        let (replaced, lens) = self.change(pool, &keyspace, (Lsns::All(lsn), lsn, 0), operations, hint)?;
        self.change_len(&keyspace, &lens);
        replaced.retire(pool, lsn, self.versions.as_mut())
    }

    /// Commits have changed the number of entries of a keyspace, in this order.
    pub(super) fn change_len(&mut self, keyspace: &Arc<KeyspaceState>, lens: &[(u64, i64)]) {
        for &(lsn, by) in lens {
            let len = keyspace.len.load(Relaxed).wrapping_add(by as u64);
            if by != 0 && keyspace.set_len(len, lsn) {
                self.pasts.push(keyspace.clone());
            }
        }
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
        self.retry_stranded_in(pool, &keyspace, lsn, (from, to))?;
        let mut recorder = self.recorder(lsn, tree.id, &[]);
        tree.remove_range(pool, lsn, from, to, &mut recorder).map_err(|e| tree_error(pool, tree.id, e))?;
        let (replaced, lens) = recorder.finish();
        self.change_len(&keyspace, &lens);
        replaced.retire(pool, lsn, self.versions.as_mut())
    }

    fn create(&mut self, pool: &EnginePool, names: &Names, lsn: u64, id: TreeId, name: &str) -> Result<()> {
        let tree = self.new_tree(pool, id)?;
        self.catalog_put(pool, lsn, &catalog::keyspace_key(name), &catalog::keyspace_entry(tree, 0))?;
        let state = match self.unborn.lock().remove(&id) {
            Some(state) => {
                state.born(tree, lsn);
                state
            }
            None => Arc::new(KeyspaceState::new(name, tree, 0, lsn)),
        };
        self.trees.insert(id, state.clone());
        names.lock().now.insert(name.to_owned(), state);
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
        self.drop_stranded(pool, lsn, id)?;
        self.dropped.push_back((tree, lsn));
        let mut names = names.lock();
        // In this order: who finds it dropped finds its name gone, too.
        names.now.remove(name);
        keyspace.mark_dropped(lsn);
        if self.versions.is_some() {
            names.dropped.push(keyspace);
        }
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
        self.drop_stranded(pool, lsn, id)?;
        self.dropped.push_back((old, lsn));
        if keyspace.exchange(new, len, lsn) {
            self.pasts.push(keyspace.clone());
        }
        self.trees.insert(new.id, keyspace);
        Ok(())
    }

    /// Writes each changed number of entries to the catalog: before a cut, so that a checkpoint's numbers are exact.
    pub(crate) fn note_lens(&mut self, pool: &EnginePool) -> Result<()> {
        let keyspaces: Vec<Arc<KeyspaceState>> = self.trees.values().cloned().collect();
        for keyspace in keyspaces {
            if keyspace.len_changed.load(Relaxed) {
                let entry = catalog::keyspace_entry(keyspace.tree()?, keyspace.len.load(Relaxed));
                self.catalog_put(pool, self.merged(), &catalog::keyspace_key(&keyspace.name), &entry)?;
                keyspace.len_changed.store(false, Relaxed);
            }
        }
        Ok(())
    }

    /// Frees a part of a dropped tree that nobody can see any more. True while there is more to free.
    pub(crate) fn free_dropped(&mut self, pool: &EnginePool) -> Result<bool> {
        if !self.has_droppable() {
            return Ok(false);
        }
        let Some(&(tree, _)) = self.dropped.front() else { return Ok(false) };
        let mut replaced = Replaced::default();
        let freed = tree.destroy_step(pool, &mut |_: &[u8], old: Option<(u8, &[u8])>| replaced.note(old));
        replaced.retire(pool, 0, None)?;
        let freed = match freed {
            Err(e) if is_unreadable(&e) => {
                let error = tree_error(pool, tree.id, e);
                tracing::warn!(%error, "a dropped tree can't be freed; the next open tries again");
                self.waiting.postponed().forget_stranded(tree.id);
                self.dropped.pop_front();
                return Ok(self.has_droppable());
            }
            freed => freed.map_err(|e| tree_error(pool, tree.id, e))?,
        };
        if freed {
            self.waiting.postponed().forget_stranded(tree.id);
            self.dropped.pop_front();
            self.catalog_delete(pool, self.merged(), &catalog::dropped_key(tree.id))?;
        }
        Ok(self.has_droppable())
    }

    /// Whether there is a dropped tree that nobody can see any more.
    pub(crate) fn has_droppable(&self) -> bool {
        let seen_from = self.versions.as_ref().map_or(0, versions::Writer::pruned_to);
        self.dropped.front().is_some_and(|(_, lsn)| *lsn <= seen_from)
    }

    /// Lets everything go that nobody can see any more, with the watermark where it is: before-images, what they name, and what
    /// keyspaces were.
    pub(crate) fn prune(&mut self, pool: &EnginePool, names: &Names, watermark: u64) -> Result<()> {
        let Some(versions) = &mut self.versions else { return Ok(()) };
        versions.prune(watermark);
        while let Some(retired) = versions.next_retired() {
            super::replaced::free_retired(pool, retired.kind, &retired.bytes)?;
        }
        let lsn = versions.pruned_to();
        self.pasts.retain(|keyspace| !keyspace.forget(lsn));
        let mut names = names.lock();
        if !names.dropped.is_empty() {
            names.dropped.retain(|k| !k.is_past(lsn));
        }
        Ok(())
    }

    /// Whether [`Applier::settle_next`] has something to do.
    pub(crate) fn has_sparse(&self) -> bool {
        self.versions.as_ref().is_some_and(versions::Writer::has_sparse)
    }

    /// Joins a leaf that became sparse while it had before-images with a neighbour. False: there is none left.
    pub(crate) fn settle_next(&mut self, pool: &EnginePool) -> Result<bool> {
        let Some((tree, key)) = self.versions.as_mut().and_then(versions::Writer::next_sparse) else { return Ok(false) };
        // Dropped or exchanged since: it goes as a whole.
        let Some(keyspace) = self.keyspace(tree) else { return Ok(true) };
        let tree = keyspace.tree()?;
        let lsn = self.applied;
        let mut recorder = self.recorder(lsn, tree.id, &[]);
        tree.settle(pool, &key, &mut recorder).map_err(|e| tree_error(pool, tree.id, e))?;
        Ok(true)
    }

    pub(super) fn catalog_put(&mut self, pool: &EnginePool, lsn: u64, key: &[u8], value: &[u8]) -> Result<()> {
        self.catalog_change(pool, lsn, key, Change::Put { kind: cell::INLINE, bytes: value })
    }

    pub(super) fn catalog_delete(&mut self, pool: &EnginePool, lsn: u64, key: &[u8]) -> Result<()> {
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
