//! The new database while it is being filled: entries in large batches, large values run by run.
//!
//! Until [`Writer::finish`] a keyspace whose name says so marks the database as not finished.

use super::pages::Blocks;
use super::values::{Fetched, Places};
use crate::batch::Batch;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::value::cell::StoredBlob;
use std::io::Write;

/// Bytes of keys and values that are committed together.
const BATCH_BYTES: usize = 1 << 20;

/// Entries that are committed together at most.
const BATCH_ENTRIES: usize = 4096;

/// Longer values in runs are brought over run by run.
const STREAM_MIN: u64 = 1 << 20;

/// The keyspace that is there as long as the database is not finished.
const MARKER: &str = "salvage is not finished";

/// See the module.
pub(super) struct Writer {
    db: Database,
    batch: Batch,
    bytes: usize,
    marker: String,
}

/// Why an entry was not brought over.
pub(super) enum NotPut {
    /// The new database can't be written.
    Failed(Error),
    /// The value, or the key, can't be had.
    Lost(String),
}

impl From<Error> for NotPut {
    fn from(e: Error) -> NotPut {
        NotPut::Failed(e)
    }
}

impl Writer {
    /// Over a new database. `is_taken`: names that keyspaces will have.
    pub(super) fn new(db: Database, is_taken: impl Fn(&str) -> bool) -> Result<Writer> {
        let mut marker = MARKER.to_owned();
        while is_taken(&marker) {
            marker.push('!');
        }
        db.keyspace(&marker)?;
        Ok(Writer { batch: db.batch(), db, bytes: 0, marker })
    }

    /// A keyspace of it, made if it is not there.
    pub(super) fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.db.keyspace(name)
    }

    /// Brings an entry over.
    pub(super) fn put(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        value: Fetched,
        places: &Places,
        blocks: &mut Blocks,
    ) -> std::result::Result<(), NotPut> {
        if key.len() > self.db.key_len_max() {
            return Err(NotPut::Lost(format!("the key has {} bytes, more than a key can have", key.len())));
        }
        let bytes = match value {
            Fetched::Bytes(bytes) => bytes,
            Fetched::Runs(blob) if blob.len >= STREAM_MIN => return stream(keyspace, key, &blob, places, blocks),
            Fetched::Runs(blob) => {
                let mut bytes = Vec::new();
                each_run(&blob, places, blocks, |part| {
                    bytes.extend_from_slice(part);
                    Ok(())
                })?;
                bytes
            }
        };
        self.bytes += key.len() + bytes.len();
        self.batch.insert(keyspace, key, bytes)?;
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ENTRIES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.bytes = 0;
        std::mem::replace(&mut self.batch, self.db.batch()).commit_with(Durability::Eventual)
    }

    /// Makes everything durable and closes the database.
    pub(super) fn finish(mut self) -> Result<()> {
        self.commit()?;
        self.db.flush()?;
        self.db.drop_keyspace(&self.marker)?;
        self.db.close()
    }
}

/// Brings over a long value; nothing of it is seen before its last run was whole.
fn stream(
    keyspace: &Keyspace,
    key: &[u8],
    blob: &StoredBlob,
    places: &Places,
    blocks: &mut Blocks,
) -> std::result::Result<(), NotPut> {
    let mut writer = keyspace.blob_writer(key)?;
    each_run(blob, places, blocks, |part| writer.write_all(part).map_err(failed))?;
    Ok(writer.finish_with(Durability::Eventual)?)
}

/// The engine's error within one of a stream.
fn failed(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(other) => Error::NoSpace { detail: other.to_string() },
    }
}

/// Gives the value's bytes run by run, each checked before.
fn each_run(
    blob: &StoredBlob,
    places: &Places,
    blocks: &mut Blocks,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> std::result::Result<(), NotPut> {
    let mut left = blob.len;
    for &run in &blob.runs {
        let bytes = places.run(blocks, run).map_err(NotPut::Lost)?;
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        take(&bytes[..part])?;
        left -= part as u64;
    }
    if left == 0 {
        return Ok(());
    }
    Err(NotPut::Lost(format!("its runs hold {} bytes", blob.len - left)))
}
