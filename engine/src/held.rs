//! The last durable checkpoint, read on its own: through a page map and a pool of its own, around the trees as they are.
//!
//! It holds back blocks, not memory: what the checkpoint names is not given out again while it is held. So it can be read for as long
//! as it takes, whatever is written meanwhile.

use crate::btree::{LeafCopy, Seek, Tree};
use crate::catalog::{self, CATALOG_TREE, Entry};
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::pages::{self, EnginePool};
use crate::postponed::Table;
use crate::recovery;
use crate::stranded::Pieces;
use ashlar_bufferpool::{Epoch, PageId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of its pool, about.
const POOL_BYTES: usize = 8 << 20;

/// See the module. Whoever has it releases the checkpoint of its epoch in the store.
pub(crate) struct Held {
    /// LSN of the last commit in it.
    pub(crate) lsn: u64,
    pub(crate) epoch: Epoch,
    pub(crate) pool: EnginePool,
    /// Writes that are in it and not in its trees.
    pub(crate) stranded: Table,
    keyspaces: Keyspaces,
}

/// Trees and numbers of entries, by name.
type Keyspaces = BTreeMap<String, (Tree, u64)>;

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held(checkpoint at LSN {})", self.lsn)
    }
}

impl Held {
    /// Holds the last durable checkpoint.
    pub(crate) fn last(shared: &Shared) -> Result<Held> {
        shared.owner.check()?;
        let (superblock, epoch) = {
            // Under this lock no other checkpoint becomes durable.
            let state = shared.checkpoint.lock();
            (state.current.clone(), shared.store().hold_checkpoint())
        };
        let opened = shared.store().reopen(&superblock).and_then(|store| {
            let pool = recovery::pool_over(store, (POOL_BYTES / shared.pool.page_size()).max(64) as u32)?;
            let slots_max = shared.options.slots_max;
            let (keyspaces, stranded) = match superblock.map_root {
                Some(_) => {
                    let catalog = Tree { id: CATALOG_TREE, root: PageId(superblock.catalog_root), slots_max };
                    read_catalog(&pool, catalog, superblock.last_commit)?
                }
                // No checkpoint has been made: there was nothing.
                None => Default::default(),
            };
            Ok(Held { lsn: superblock.last_commit, epoch, pool, stranded, keyspaces })
        });
        opened.inspect_err(|_| shared.store().release_checkpoint(epoch))
    }

    /// A keyspace's tree and number of entries.
    pub(crate) fn keyspace(&self, name: &str) -> Result<(Tree, u64)> {
        self.keyspaces.get(name).copied().ok_or_else(|| Error::NoSuchKeyspace { name: name.to_owned() })
    }

    /// The names of all keyspaces, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.keyspaces.keys().cloned().collect()
    }
}

/// The keyspaces of a catalog, and the writes in it that are not in their trees.
fn read_catalog(pool: &EnginePool, catalog: Tree, last_commit: u64) -> Result<(Keyspaces, Table)> {
    let (mut keyspaces, mut pieces) = (Keyspaces::new(), Pieces::default());
    let mut leaf = LeafCopy::new();
    let mut at = Vec::new();
    loop {
        pages::read_leaf(pool, catalog, Seek::AtOrAfter(&at), &mut leaf)?;
        for index in 0..leaf.len() {
            match catalog::decode(&leaf.key(index), leaf.value(index).1, catalog.slots_max)? {
                Entry::Keyspace(state) => {
                    keyspaces.insert(state.name.clone(), (state.tree()?, state.len.load(Relaxed)));
                }
                Entry::Stranded(piece) => pieces.add(piece),
                Entry::Dropped(_) | Entry::Setting => {}
            }
        }
        match leaf.upper() {
            Some(upper) => at = upper.to_vec(),
            None => return Ok((keyspaces, pieces.table(last_commit)?)),
        }
    }
}
