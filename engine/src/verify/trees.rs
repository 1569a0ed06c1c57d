//! The trees of a checkpoint, page by page, and that every page has one owner.

use super::Walk;
use crate::btree::{Corrupt, Finding as TreeFinding, Tree, TreeId};
use crate::catalog::{self, CATALOG_TREE, Entry};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::pages::{self, EnginePool};
use crate::store::page_header::{self, PageKind};
use crate::store::superblock::Superblock;
use crate::store::{Store, page_map};
use crate::stranded::Pieces;
use crate::value::cell;
use ashlar_bufferpool::{BlockPtr, LoadError, Located, PageId, PageStore};
use ashlar_disk::AlignedBuf;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Walk<'_> {
    /// Walks the catalog and every tree that it names.
    pub(super) fn trees(&mut self, pool: &EnginePool, superblock: &Superblock, slots_max: u16) -> Result<()> {
        let (catalog_root, last_commit) = (PageId(superblock.catalog_root), superblock.last_commit);
        let catalog = Tree { id: CATALOG_TREE, root: catalog_root, slots_max };
        let (mut entries, mut stranded) = (Vec::new(), Pieces::default());
        let (_, whole) =
            self.tree(pool, catalog, "the catalog", &mut |key, value| entries.push((key.to_vec(), value.to_vec())))?;
        self.report.entries_hidden = !whole;
        for (key, value) in entries {
            match catalog::decode(&key, &value, slots_max) {
                Ok(Entry::Keyspace(state)) => {
                    let tree = state.tree()?;
                    self.names.insert(tree.id.0, state.name.as_str().into());
                    let noted = state.len.load(Relaxed);
                    let (entries, whole) = self.tree(pool, tree, &state.name, &mut |_, _| {})?;
                    if whole && entries != noted {
                        let what = format!("{entries} entries are in its tree, expected {noted} by the catalog");
                        self.found_page(pool.store(), tree.root, "page", Some(&state.name), &what);
                    }
                    self.report.entries += entries;
                    self.report.entries_hidden |= !whole;
                }
                Ok(Entry::Dropped(tree)) => {
                    self.tree(pool, tree, &format!("dropped tree {}", tree.id.0), &mut |_, _| {})?;
                }
                Ok(Entry::Setting) => {}
                Ok(Entry::Stranded(piece)) => stranded.add(piece),
                Err(e) => {
                    self.report.entries_hidden = true;
                    self.found_page(pool.store(), catalog_root, "page", Some("the catalog"), &e.to_string());
                }
            }
        }
        for write in stranded.checked(last_commit) {
            match write {
                Ok(_) => self.report.stranded += 1,
                Err(e) => self.found_page(pool.store(), catalog_root, "page", Some("the catalog"), &e.to_string()),
            }
        }
        Ok(())
    }

    /// Walks one tree; gives the number of entries that were read, and whether these are all: none hidden behind what can't be read.
    pub(super) fn tree(
        &mut self,
        pool: &EnginePool,
        tree: Tree,
        name: &str,
        entry: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(u64, bool)> {
        let name: Arc<str> = name.into();
        let mut entries = 0;
        let mut whole = true;
        let walked = tree.check(pool, &mut |finding| match finding {
            TreeFinding::Page { page, .. } => {
                self.report.tree_pages += 1;
                self.own(pool.store(), page, &name);
            }
            TreeFinding::Entry { page, key, kind, value } => {
                entries += 1;
                match kind {
                    cell::INLINE => entry(key, value),
                    _ => self.value(pool, (&name, tree.id), page, key, kind, value),
                }
            }
            TreeFinding::Corrupt(Corrupt { page, what }) => {
                (whole, self.hidden) = (false, true);
                self.found_page(pool.store(), page, "page", Some(&name), what);
            }
            TreeFinding::Unreadable { page, error } => {
                (whole, self.hidden) = (false, true);
                // It has an owner, whatever stands there.
                self.owners.entry(page).or_insert_with(|| name.clone());
                self.load_error(pool.store(), page, &name, error);
            }
        });
        walked.map_err(|e| pages::tree_error(pool, tree.id, e))?;
        Ok((entries, whole))
    }

    pub(super) fn load_error(&mut self, store: &Store, page: PageId, name: &str, error: &LoadError<Error>) {
        match error {
            LoadError::Store(e) | LoadError::WriteBack(e) => self.page_error(store, page, Some(name), e),
            LoadError::NotAllocated(_) => {
                self.found_page(store, page, "page", Some(name), "something names it, but the page map has no place for it");
            }
            other => self.found_page(store, page, "page", Some(name), &other.to_string()),
        }
    }

    /// The keyspace of a tree.
    pub(super) fn name_of(&self, tree: TreeId) -> Arc<str> {
        self.names.get(&tree.0).cloned().unwrap_or_else(|| format!("tree {}", tree.0).into())
    }

    pub(super) fn own(&mut self, store: &Store, page: PageId, owner: &Arc<str>) {
        if let Some(other) = self.owners.insert(page, owner.clone()) {
            let what = format!("it is reached a second time, expected once: it belongs to {other} already");
            self.found_page(store, page, "page", Some(owner), &what);
        }
        self.tell();
    }

    /// Looks at those of `pages` that nothing has led to.
    pub(super) fn unreached(&mut self, pool: &EnginePool, pages: &[PageId]) {
        let unreached: BTreeSet<PageId> = pages.iter().filter(|page| !self.owners.contains_key(page)).copied().collect();
        self.report.unreached = unreached.len() as u64;
        for page in unreached {
            let Located::At(at) = pool.store().locate(page) else { continue };
            if !self.hidden {
                let what = "it stands in the page map, but nothing refers to it";
                self.found_page(pool.store(), page, "page", None, what);
            }
            match alone(pool.store(), page, at) {
                Ok(None) => {}
                Ok(Some(what)) => self.found_page(pool.store(), page, "page or blob run", None, &what),
                Err(e) => self.page_error(pool.store(), page, None, &e),
            }
        }
    }
}

/// What is wrong with a page or run of which nothing else is known: whole is what has the checksum that its pointer says.
fn alone(store: &Store, page: PageId, at: BlockPtr) -> Result<Option<String>> {
    let extent = page_map::extent(at);
    let block = store.block().bytes();
    let mut buf = AlignedBuf::zeroed(extent.len as usize * block);
    store.file().read(extent.start * block as u64, &[buf.words_mut()])?;
    let crc = crc32c::crc32c(&buf) & page_header::POINTER_CRC_MASK;
    if crc == at.crc() {
        return Ok(None);
    }
    let kind = PageKind::from_code(buf[page_header::KIND]);
    Ok(match page_header::check_image(&buf, Some(page.0), at, Fault::None) {
        Ok(()) if kind.is_some_and(|kind| kind != PageKind::Map) => None,
        Ok(()) => Some(format!("a page of kind {} stands there, expected a page of a tree", buf[page_header::KIND])),
        Err(fault) => Some(format!("{fault} (as a run: checksum {crc:#08x}, expected {:#08x})", at.crc())),
    })
}
