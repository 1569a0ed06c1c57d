//! Bulk load: sorted entries become full pages, written around the pool to fresh runs, and one commit makes them a keyspace's tree.
//!
//! 1. Entries go, many at a time ([`lot`]), to a thread that builds the pages ([`feed`]), bottom-up, packed side by side in a transfer's memory, under ids that were
//!    never used ([`packing`]). These go to another thread, which writes them in large transfers to blocks that nothing refers to
//!    ([`loading`]). Values too long for a leaf go to overflow pages (likewise) or blobs.
//! 2. The data file is synced.
//! 3. One record names the tree's root and every page and run: page id → block pointer. Applying it enters the pointers in the
//!    epoch's delta and gives the keyspace this tree; its empty one is dropped.
//!
//! Invariants:
//! 1. Until the record is in the log, all of it belongs to [`Loading`], [`packing::Images`] and [`NewBlob`]s, which give blocks and ids back when they are
//!    dropped: a load is all or nothing, whatever happens.
//! 2. The keyspace is empty when the record takes its LSN: looked at under the apply lock and the commit lock, with nothing queued.
//! 3. Nobody sees the tree before the watermark has reached the record: its pages bear LSN 0, the keyspace says since when it
//!    has this tree.

mod feed;
mod loading;
mod lot;
mod packing;
mod stage;

use crate::blob::{self, NewBlob};
use crate::btree::{BulkError, BulkOptions, TreeId};
use crate::commit::record::{self, Operation};
use crate::commit::{Manner, Prepared, Refused, Until};
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::value::cell;
use ashlar_bufferpool::{BlockPtr, PageId};
use feed::Feed;
use loading::Loading;
use lot::Brings;
use std::sync::atomic::Ordering;

/// A page, or a run of a blob, that a bulk load has written.
pub(crate) type Placed = (PageId, BlockPtr);

/// Loads sorted entries into an empty keyspace; gives their number.
pub(crate) fn load<K: AsRef<[u8]>, V: AsRef<[u8]>, E: From<Error>>(
    keyspace: &Keyspace,
    entries: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
) -> std::result::Result<u64, E> {
    let shared = keyspace.shared();
    shared.owner.check().map_err(Error::from)?;
    shared.health.check()?;
    check_empty(keyspace)?;
    let new_tree = TreeId(shared.next_tree.fetch_add(1, Ordering::Relaxed));
    let options = BulkOptions {
        tree: new_tree,
        lsn: 0,
        page_size: shared.pool.page_size(),
        fill_percent: 100,
        slots_max: shared.options.slots_max,
    };
    let (key_max, blob_min) = (crate::btree::limits(options.page_size).key_max, shared.options.blob_threshold);
    let (mut feed, mut blobs, mut count) = (Feed::new(shared, options), Vec::new(), 0);
    for entry in entries {
        let (key, value) = entry?;
        let (key, value) = (key.as_ref(), value.as_ref());
        if key.len() > key_max {
            return Err(Error::KeyTooLarge { len: key.len(), max: key_max }.into());
        }
        if !feed.is_next(key) {
            return Err(Error::NotSorted { index: count }.into());
        }
        if value.len() <= blob_min {
            feed.add(key, Brings::Value, value)?;
        } else {
            let new = blob::write(&shared.pool, value)?;
            feed.add(key, Brings::Blob, &cell::encode_blob(new.reference()))?;
            blobs.push(new);
        }
        count += 1;
    }
    let (tree, packing) = feed.finish()?.finish().map_err(|e| match e {
        BulkError::Sink(e) => e,
        BulkError::TooLarge => shared.fail_now(format!("a bulk load can't build its last pages: {e}")),
    })?;
    let loading = packing.finish()?;
    commit(keyspace, loading, blobs, tree.root, new_tree, count)?;
    Ok(count)
}

fn check_empty(keyspace: &Keyspace) -> Result<()> {
    if keyspace.is_empty()? { Ok(()) } else { Err(Error::KeyspaceNotEmpty { name: keyspace.name().to_owned() }) }
}

/// Step 3.
fn commit(
    keyspace: &Keyspace,
    loading: Box<Loading>,
    blobs: Vec<NewBlob<'_>>,
    root: PageId,
    new_tree: TreeId,
    count: u64,
) -> Result<()> {
    let shared = keyspace.shared();
    let _one = shared.ddl.lock();
    let tree = shared.tree_of(keyspace.state())?.id;
    let runs = blobs.iter().flat_map(|blob| blob.reference().runs.iter().map(|run| (run.page, run.at)));
    let mut placed: Vec<Placed> = loading.placed().iter().copied().chain(runs).collect();
    placed.sort();
    let record = record::single(&Operation::BulkLoad { tree, new_tree, root, count, name: keyspace.name(), placed });
    let prepared = Prepared {
        record,
        manner: Manner::Whole,
        hint: None,
        touches: &[tree],
        drops: &[tree],
        pages: shared.pages_for(8, 4 * shared.pool.page_size()),
        frees: false,
        only_if_empty: Some(keyspace.state()),
        unchanged: None,
        durability: Durability::Immediate,
        until: Until::Durable,
    };
    let keep = || {
        loading.keep();
        blobs.into_iter().for_each(NewBlob::keep);
    };
    match shared.commit(prepared, keep) {
        Ok(_) => Ok(()),
        Err(Refused::Error(e)) => Err(e),
        Err(Refused::TreeGone | Refused::NotEmpty | Refused::Conflict(_)) => {
            // Nobody is told of entries that a crash could still take back.
            shared.wait_visible(shared.visible.newest_applied())?;
            Err(Error::KeyspaceNotEmpty { name: keyspace.name().to_owned() })
        }
    }
}
