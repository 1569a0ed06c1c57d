//! Puts entries into keyspaces: as one bulk load, or in transactions of limited size.
//!
//! 1. A bulk load is applied whole or not at all, and durable.
//! 2. A transaction holds entries of one keyspace, at most [`BATCH_ENTRIES`] and about [`BATCH_BYTES`].
//! 3. They are committed `Eventual`, in order; [`Applier::finish`] makes all of them durable at once.

use ashlardb::{Batch, Database, Durability, Keyspace, Result};
use std::collections::BTreeSet;

/// Entries of a transaction, at most.
const BATCH_ENTRIES: usize = 1000;
/// A transaction with more bytes of keys and values takes no further entry.
const BATCH_BYTES: usize = 1 << 20;

/// What has been applied to one keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Applied {
    pub(super) keyspace: String,
    /// Entries that are committed.
    pub(super) loaded: u64,
    /// Entries whose keys were there already.
    pub(super) skipped: u64,
}

/// Applies entries.
pub(super) struct Applier<'a> {
    db: &'a Database,
    no_overwrite: bool,
    keyspace: Option<Keyspace>,
    batch: Batch,
    bytes: usize,
    /// The keys in `batch`, where none may be overwritten.
    pending: BTreeSet<Vec<u8>>,
    applied: Vec<Applied>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(db: &'a Database, no_overwrite: bool) -> Applier<'a> {
        Applier { db, no_overwrite, keyspace: None, batch: db.batch(), bytes: 0, pending: BTreeSet::new(), applied: Vec::new() }
    }

    /// What follows goes to the keyspace of that name, made if it is missing. Whether it is empty.
    pub(super) fn begin(&mut self, name: &str) -> Result<bool> {
        self.commit()?;
        let keyspace = self.keyspace.insert(self.db.keyspace(name)?);
        self.applied.push(Applied { keyspace: name.to_owned(), loaded: 0, skipped: 0 });
        keyspace.is_empty()
    }

    /// Fills the keyspace, which is empty, with ascending entries.
    pub(super) fn bulk_load<E: From<ashlardb::Error>>(
        &mut self,
        entries: &mut dyn Iterator<Item = std::result::Result<(Vec<u8>, Vec<u8>), E>>,
    ) -> std::result::Result<(), E> {
        if let (Some(keyspace), Some(applied)) = (&self.keyspace, self.applied.last_mut()) {
            applied.loaded += keyspace.bulk_load(entries)?;
        }
        Ok(())
    }

    /// An entry.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (Some(keyspace), Some(applied)) = (&self.keyspace, self.applied.last_mut()) else { return Ok(()) };
        if self.no_overwrite {
            if self.pending.contains(key) || keyspace.contains_key(key)? {
                applied.skipped += 1;
                return Ok(());
            }
            self.pending.insert(key.to_vec());
        }
        self.batch.insert(keyspace, key, value)?;
        self.bytes += key.len() + value.len();
        if self.batch.len() >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES { self.commit() } else { Ok(()) }
    }

    /// Commits what is left, and makes everything durable.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.commit()?;
        self.db.flush()
    }

    /// What was applied, keyspace by keyspace.
    pub(super) fn into_applied(self) -> Vec<Applied> {
        self.applied
    }

    fn commit(&mut self) -> Result<()> {
        let batch = std::mem::replace(&mut self.batch, self.db.batch());
        let entries = batch.len() as u64;
        self.bytes = 0;
        self.pending.clear();
        batch.commit_with(Durability::Eventual)?;
        if let Some(applied) = self.applied.last_mut() {
            applied.loaded += entries;
        }
        Ok(())
    }
}
