//! The shape of a database: how many pages of each kind it has, how full they are, how high its trees.
//!
//! 1. Every page of every tree is read and examined as verification does it; overflow pages and runs of large values are counted
//!    from the cells that name them, and not read (but for lists of runs that do not fit a cell).
//! 2. What is walked stands still. A database open for reading has no writer: its own trees are walked, with what the open has
//!    replayed from the log. One open for writing changes under its commits: there it is the last durable checkpoint, through a pool
//!    of the walk's own, and no checkpoint completes meanwhile.
//! 3. A shape is whole or an error: that of the first page that is wrong or can't be read.

use crate::btree::{Finding, Tree, TreeError};
use crate::catalog::{self, CATALOG_TREE, Entry};
use crate::database::Database;
use crate::error::{Corruption, Error, Result};
use crate::keyspace::Keyspace;
use crate::pages::{self, EnginePool};
use crate::read::View;
use crate::recovery;
use crate::value::cell::{self, Cell};
use crate::value::overflow;
use crate::verify::Progress;
use ashlar_bufferpool::PageId;
use std::collections::BTreeMap;

/// Frames of the pool for walking a checkpoint: pages only pass through.
const FRAMES: u32 = 256;

/// Pages of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageCount {
    /// How many there are.
    pub pages: u64,
    /// Bytes in use in them. In leaves and inner pages these are slots, cells and fences; in overflow pages and runs of large values,
    /// the values. Page headers are not counted.
    pub used: u64,
}

impl PageCount {
    fn count(&mut self, pages: u64, used: u64) {
        self.pages += pages;
        self.used += used;
    }

    /// The part of their bytes that is in use, from 0 to 1; `None` where there are no pages. For pages of `page_size` bytes, so not
    /// for runs of large values.
    pub fn fill(&self, page_size: usize) -> Option<f64> {
        (self.pages > 0).then(|| self.used as f64 / (self.pages as f64 * page_size as f64))
    }
}

/// The pages of a tree, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeShape {
    /// Its levels: 1 where a leaf is all of it. Of several trees, those of the highest.
    pub height: u32,
    /// Entries in its leaves.
    pub entries: u64,
    /// Its leaves.
    pub leaves: PageCount,
    /// The pages above the leaves.
    pub inner: PageCount,
    /// Overflow pages of values too long for a leaf.
    pub overflow: PageCount,
    /// Runs of large values: each is counted as a page, and has as many blocks as it needs.
    pub blob_runs: PageCount,
}

impl TreeShape {
    /// Pages and runs of all kinds.
    pub fn pages(&self) -> u64 {
        self.leaves.pages + self.inner.pages + self.overflow.pages + self.blob_runs.pages
    }

    /// Counts what a cell names outside of its leaf: how many pages and runs these are.
    fn count_elsewhere(&mut self, pool: &EnginePool, tree: Tree, leaf: PageId, kind: u8, cell: &[u8]) -> Result<u64> {
        let wrong = || Error::from(Corruption::page(leaf.0, Some(tree.id.0), format!("a cell of kind {kind} does not decode")));
        let (list, blob) = match Cell::decode(kind, cell, overflow::piece_len_max(pool.page_size())).ok_or_else(wrong)? {
            Cell::Inline(_) => (None, None),
            Cell::Overflow(list) => (Some(list), None),
            Cell::Blob(blob) => (None, Some(blob)),
            Cell::LongBlob(list) => {
                let runs = overflow::read(pool, &list)?.as_deref().and_then(cell::decode_blob).ok_or_else(wrong)?;
                (Some(list), Some(runs))
            }
        };
        let pages = list.map_or((0, 0), |list| (list.pages.len() as u64, list.len));
        let runs = blob.map_or((0, 0), |blob| (blob.runs.len() as u64, blob.len));
        self.overflow.count(pages.0, pages.1);
        self.blob_runs.count(runs.0, runs.1);
        Ok(pages.0 + runs.0)
    }

    fn add(&mut self, other: &TreeShape) {
        self.height = self.height.max(other.height);
        self.entries += other.entries;
        self.leaves.count(other.leaves.pages, other.leaves.used);
        self.inner.count(other.inner.pages, other.inner.used);
        self.overflow.count(other.overflow.pages, other.overflow.used);
        self.blob_runs.count(other.blob_runs.pages, other.blob_runs.used);
    }
}

/// The pages of a database, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// The tree of each keyspace.
    pub keyspaces: BTreeMap<String, TreeShape>,
    /// The tree that lists the keyspaces.
    pub catalog: TreeShape,
    /// Trees that were dropped and have not been freed yet, taken together.
    pub dropped: TreeShape,
    /// Nodes of the page map, as of the last checkpoint.
    pub map_nodes: u64,
}

impl Shape {
    /// All trees taken together.
    pub fn total(&self) -> TreeShape {
        let mut total = TreeShape::default();
        self.keyspaces.values().chain([&self.catalog, &self.dropped]).for_each(|tree| total.add(tree));
        total
    }
}

impl Database {
    /// Reads every page of every tree, and counts pages by kind; `progress` is told after each how far it is. In a database that is
    /// open for writing it is the last checkpoint that is counted: no other completes meanwhile, and `progress` must not wait for one.
    /// In one open for reading, it is what its readers see.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] for the first page that can't be read or is wrong; [`Error::ForkedChild`].
    pub fn shape(&self, mut progress: impl FnMut(Progress)) -> Result<Shape> {
        let shared = self.shared();
        shared.owner.check()?;
        let state = shared.checkpoint.lock();
        let mut walk = Walk { seen: 0, total: 0, progress: &mut progress };
        if shared.options.read_only {
            let catalog = shared.apply.lock().catalog;
            let (total, map_nodes) = (shared.store().space_use().pages, shared.store().map_nodes().0);
            return walk.database(&shared.pool, catalog, total, map_nodes);
        }
        if state.current.map_root.is_none() {
            return Ok(Shape::default());
        }
        let store = shared.store().reopen(&state.current)?;
        let (total, map_nodes) = (store.space_use().pages, store.map_nodes().0);
        let catalog = Tree { id: CATALOG_TREE, root: PageId(state.current.catalog_root), slots_max: shared.options.slots_max };
        walk.database(&recovery::pool_over(store, FRAMES)?, catalog, total, map_nodes)
    }
}

impl Keyspace {
    /// The number of levels of its tree: 1 where a leaf is all of it. Reads one page, at most.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn height(&self) -> Result<u32> {
        let shared = self.shared();
        let tree = View::newest(&**shared)?.tree(self.state())?;
        pages::until_found(&shared.pool, tree, || tree.height(&shared.pool))
    }
}

/// A walk over all trees.
struct Walk<'a> {
    seen: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Walk<'_> {
    fn database(&mut self, pool: &EnginePool, catalog: Tree, total: u64, map_nodes: u64) -> Result<Shape> {
        self.total = total;
        let mut shape = Shape { map_nodes, ..Shape::default() };
        let mut listed = Vec::new();
        shape.catalog = self.tree(pool, catalog, &mut |key, value| listed.push((key.to_vec(), value.to_vec())))?;
        for (key, value) in listed {
            match catalog::decode(&key, &value, catalog.slots_max)? {
                Entry::Keyspace(state) => {
                    let tree = self.tree(pool, state.tree()?, &mut |_, _| {})?;
                    shape.keyspaces.insert(state.name.clone(), tree);
                }
                Entry::Dropped(tree) => shape.dropped.add(&self.tree(pool, tree, &mut |_, _| {})?),
                Entry::Setting | Entry::Stranded(_) => {}
            }
        }
        Ok(shape)
    }

    /// Counts the pages of one tree; tells `inline` the entries whose values stand in leaves.
    fn tree(&mut self, pool: &EnginePool, tree: Tree, inline: &mut dyn FnMut(&[u8], &[u8])) -> Result<TreeShape> {
        let mut shape = TreeShape::default();
        let mut wrong = None;
        let walked = tree.check(pool, &mut |finding| match finding {
            Finding::Page { level, used, .. } => {
                shape.height = shape.height.max(u32::from(level) + 1);
                let kind = if level == 0 { &mut shape.leaves } else { &mut shape.inner };
                kind.count(1, used as u64);
                self.saw(1);
            }
            Finding::Entry { page, key, kind, value } => {
                shape.entries += 1;
                if kind == cell::INLINE {
                    inline(key, value);
                } else {
                    match shape.count_elsewhere(pool, tree, page, kind, value) {
                        Ok(pages) => self.saw(pages),
                        Err(e) => drop(wrong.get_or_insert(e)),
                    }
                }
            }
            Finding::Corrupt(corrupt) => {
                wrong.get_or_insert(pages::tree_error(pool, tree.id, corrupt.into()));
            }
            Finding::Unreadable { error, .. } => {
                wrong.get_or_insert(pages::tree_error(pool, tree.id, TreeError::Load(error.clone())));
            }
        });
        walked.map_err(|e| pages::tree_error(pool, tree.id, e))?;
        wrong.map_or(Ok(shape), Err)
    }

    fn saw(&mut self, pages: u64) {
        self.seen += pages;
        (self.progress)(Progress { done: self.total.min(self.seen), total: self.total });
    }
}
