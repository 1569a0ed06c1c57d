//! Replay: the commits that the log holds beyond the last checkpoint, applied again.
//!
//! In *windows*: the operations of many commits are gathered, the last one of each key kept, and applied in key order, so that
//! each leaf is read and changed once a window. An operation on a range or a whole keyspace ends a window and is applied alone.
//! All of a window bears the LSN of its last commit: nobody reads before recovery is over, and no snapshot outlives a restart.

use crate::blob::BlobRef;
use crate::btree::TreeId;
use crate::bulk::Placed;
use crate::commit::apply::{Applier, Names};
use crate::commit::record::{self, Operation};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::options::Options;
use crate::pages::EnginePool;
use crate::store::{Draw, Store};
use ashlar_wal::LogScan;
use std::collections::BTreeMap;

/// A point operation that owns its bytes.
enum Last {
    Put(Vec<u8>),
    PutBlob(BlobRef),
    Delete,
}

/// Operations gathered and not yet applied.
#[derive(Default)]
struct Window {
    trees: BTreeMap<TreeId, BTreeMap<Vec<u8>, Last>>,
    bytes: usize,
    operations: usize,
}

/// Step 3: blobs and loaded pages that valid records beyond `last_commit` name are in use, before anything is allocated.
pub(super) fn reserve_logged(store: &Store, scan: &LogScan, last_commit: u64) -> Result<()> {
    let mut records = scan.records().map_err(super::wal_error)?;
    let mut placed: Vec<Placed> = Vec::new();
    while let Some(logged) = records.next_record().map_err(super::wal_error)? {
        if logged.lsn.0 <= last_commit {
            continue;
        }
        for operation in record::read(&logged.body, logged.lsn.0)? {
            match operation {
                Operation::PutBlob { blob, .. } => placed.extend(blob.runs.iter().map(|run| (run.page, run.at))),
                Operation::BulkLoad { placed: pages, .. } => placed.extend(pages),
                _ => {}
            }
        }
    }
    store.reserve_logged(&placed)
}

/// Step 4. Gives the number of commits applied.
pub(super) fn replay(pool: &EnginePool, applier: &mut Applier, names: &Names, scan: &LogScan, options: &Options) -> Result<u64> {
    let mut records = scan.records().map_err(super::wal_error)?;
    let mut window = Window::default();
    let mut commits = 0;
    while let Some(logged) = records.next_record().map_err(super::wal_error)? {
        let lsn = logged.lsn.0;
        if lsn <= applier.applied && !options.fault.is(Fault::ReplayFromCut) {
            continue;
        }
        for operation in record::read(&logged.body, lsn)? {
            if operation.point().is_some() {
                window.add(operation);
            } else {
                window.apply(pool, applier, lsn)?;
                let _promise = promise(pool, 64, 0)?;
                applier.apply_whole(pool, names, lsn, &operation)?;
            }
        }
        if window.bytes >= options.recovery_window {
            window.apply(pool, applier, lsn)?;
        }
        applier.applied = lsn;
        commits += 1;
    }
    let last = applier.applied;
    window.apply(pool, applier, last)?;
    pool.store().release_unclaimed(pool.epoch());
    Ok(commits)
}

/// Room for pages that these may make dirty, if it can be had. On a full disk the estimate may be above what there is; but the
/// commits had room when they were made, and if others have taken it since, a page can't be written and opening ends with that.
fn promise(pool: &EnginePool, operations: u64, bytes: usize) -> Result<Option<crate::store::Promise<'_>>> {
    let filled = 2 * (bytes / (pool.page_size() / 2)) as u64;
    match pool.store().promise(operations + filled + 16, || pool.dirty_pages(), Draw::Checkpoint) {
        Ok(promise) => Ok(Some(promise)),
        Err(Error::NoSpace { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Window {
    fn add(&mut self, operation: Operation<'_>) {
        let (tree, key, last) = match operation {
            Operation::Put { tree, key, value } => (tree, key, Last::Put(value.to_vec())),
            Operation::PutBlob { tree, key, blob } => (tree, key, Last::PutBlob(blob)),
            Operation::Delete { tree, key } => (tree, key, Last::Delete),
            _ => return,
        };
        let bytes = key.len() + if let Last::Put(value) = &last { value.len() } else { 0 };
        self.bytes += bytes + 64;
        self.operations += 1;
        self.trees.entry(tree).or_default().insert(key.to_vec(), last);
    }

    /// Applies what was gathered, as of `lsn`.
    fn apply(&mut self, pool: &EnginePool, applier: &mut Applier, lsn: u64) -> Result<()> {
        let window = std::mem::take(self);
        let _promise = promise(pool, (window.operations as u64).min(pool.store().space_use().pages), window.bytes)?;
        for (tree, keys) in window.trees {
            let operations: Vec<Operation<'_>> = keys.iter().map(|(key, last)| last.operation(tree, key)).collect();
            applier.apply_points(pool, lsn, tree, &operations)?;
        }
        Ok(())
    }
}

impl Last {
    fn operation<'a>(&'a self, tree: TreeId, key: &'a [u8]) -> Operation<'a> {
        match self {
            Last::Put(value) => Operation::Put { tree, key, value },
            Last::PutBlob(blob) => Operation::PutBlob { tree, key, blob: blob.clone() },
            Last::Delete => Operation::Delete { tree, key },
        }
    }
}
