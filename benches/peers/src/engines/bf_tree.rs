//! Bf-Tree: a concurrent tree with a buffer of its own, and no durable commits.
//!
//! - What makes its data last is a snapshot of the whole tree, which loads take at their end; an opened tree works in the file of the
//!   snapshot. Its write-ahead log is never synced and can't be replayed yet, so it is left off.
//! - Other rows promise nothing: they take no snapshot, and their data is gone when they end.
//! - It has no transactions: batches are single inserts, and read-modify-writes hold a mutex of the key's, so that none comes between.

use crate::engine::{Change, Durability, Engine, Key, Promise, Seen, Session, Settings, Spec, Visit};
use anyhow::{Context, Result, anyhow, bail};
use ashlar_workload::data::mix;
use bf_tree::{BfTree, Config, LeafInsertResult, LeafReadResult, ScanReturnField, StorageBackend};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

pub(super) static SPEC: Spec = Spec {
    name: "bf-tree",
    package: "bf-tree",
    sync: None,
    eventual: Promise { words: "all is lost (it has no durable commits)", consistent: false },
    bulk: None,
    blobs: false,
    recovers: false,
    // Reading may move records into the file.
    reads_in_place: false,
    mode_of: None,
    open,
};

/// The longest key and value that are read.
const BUFFER: usize = 4096;
/// Mutexes for read-modify-writes.
const LOCKS: usize = 1024;

struct Bf {
    tree: BfTree,
    snapshot: PathBuf,
    keep: bool,
    locks: Vec<Mutex<()>>,
}

struct BfSession<'a> {
    bf: &'a Bf,
    buffer: Vec<u8>,
    value: Vec<u8>,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    // A power of two is asked for: the largest that fits the budget.
    let cache = usize::try_from(settings.cache_bytes)?;
    let cache = cache.checked_next_power_of_two().map_or(cache, |next| if next == cache { cache } else { next / 2 });
    let snapshot = settings.dir.join("data.bftree");
    let keep = settings.keep || settings.durability == Durability::AtEnd;
    let tree = if snapshot.exists() {
        BfTree::new_from_cpr_snapshot(&snapshot, keep, None, Some(cache), None)
    } else {
        let mut config = Config::new(settings.dir.join("tree"), cache);
        config.storage_backend(StorageBackend::Std).use_snapshot(keep).cb_max_key_len(16);
        BfTree::with_config(config, None)
    };
    let tree = tree.map_err(|error| anyhow!("{error:?}")).context("opening Bf-Tree")?;
    Ok(Box::new(Bf { tree, snapshot, keep, locks: (0..LOCKS).map(|_| Mutex::default()).collect() }))
}

impl Engine for Bf {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(BfSession { bf: self, buffer: vec![0; BUFFER], value: Vec::new() }))
    }

    fn sync(&self) -> Result<()> {
        if self.keep {
            // It syncs the snapshot, renames it into its place and syncs the directory.
            self.tree.cpr_snapshot(&self.snapshot);
        }
        Ok(())
    }

    /// A snapshot is taken when it is closed.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()?;
        let (keep, tree) = (self.keep, self.snapshot.with_file_name("tree"));
        drop(self);
        if keep && tree.exists() {
            std::fs::remove_file(tree)?;
        }
        Ok(())
    }
}

impl Session for BfSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        match self.bf.tree.read(key, &mut self.buffer) {
            LeafReadResult::Found(len) => seen(Some(&self.buffer[..len as usize])),
            LeafReadResult::NotFound | LeafReadResult::Deleted => seen(None),
            LeafReadResult::InvalidKey => bail!("Bf-Tree takes no such key"),
        }
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        let scan = self.bf.tree.scan_with_count(from, usize::MAX, ScanReturnField::KeyAndValue);
        let mut scan = scan.map_err(|error| anyhow!("scanning Bf-Tree: {error:?}"))?;
        while let Some((key_len, value_len)) = scan.next(&mut self.buffer) {
            let (key, rest) = self.buffer.split_at(key_len);
            if !visit(key, &rest[..value_len])? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        match self.bf.tree.insert(key, value) {
            LeafInsertResult::Success => Ok(()),
            LeafInsertResult::InvalidKV(why) => bail!("Bf-Tree takes no such entry: {why}"),
        }
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        entries.iter().try_for_each(|(key, value)| self.put(key, value))
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let number = key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let lock = &self.bf.locks[(mix(number) as usize) % LOCKS];
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = std::mem::take(&mut self.value);
        self.get(key, &mut |found| change(found, &mut value))?;
        self.put(key, &value)?;
        self.value = value;
        Ok(0)
    }
}
