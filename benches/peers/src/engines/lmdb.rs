//! LMDB, through heed.
//!
//! Its cache is the page cache: the map is larger than any data set here. Eventual rows run with `MDB_NOMETASYNC`, which keeps the
//! database consistent, and in a mode of their own with `MDB_NOSYNC`, which does not.

use super::super::ticker::{EVENTUAL, Ticker};
use crate::engine::{Access, Change, Durability, Engine, Key, Promise, Seen, SeenMany, Session, Settings, Sorted, Spec, Visit};
use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags};
use std::ops::Bound;

pub(super) static SPEC: Spec = Spec {
    name: "lmdb",
    package: "lmdb-master-sys",
    sync: Some(Promise { words: "nothing is lost", consistent: true }),
    eventual: Promise { words: "consistent, the last commit may be lost (MDB_NOMETASYNC)", consistent: true },
    bulk: Some("MDB_APPEND"),
    blobs: true,
    recovers: true,
    reads_in_place: true,
    mode_of: None,
    open: |settings| open(settings, EnvFlags::NO_META_SYNC),
};

pub(super) static NO_SYNC: Spec = Spec {
    name: "lmdb-nosync",
    sync: None,
    eventual: Promise { words: "may be corrupt (MDB_NOSYNC, synced every 100 ms)", consistent: false },
    bulk: None,
    blobs: false,
    recovers: false,
    mode_of: Some("lmdb"),
    open: |settings| open(settings, EnvFlags::NO_SYNC),
    ..SPEC
};

/// Address space, not memory.
const MAP_BYTES: usize = 1 << 38;
const NAME: &str = "data";
/// Entries of a transaction of the bulk load.
const APPEND_BATCH: usize = 100_000;

struct Lmdb {
    env: Env,
    /// Dropped first.
    ticker: Option<Ticker>,
}

struct LmdbSession<'a> {
    env: &'a Env,
    data: Database<'a, Bytes, Bytes>,
    value: Vec<u8>,
}

fn open(settings: &Settings, eventual: EnvFlags) -> Result<Box<dyn Engine>> {
    let mut flags = match settings.durability {
        Durability::Sync => EnvFlags::empty(),
        Durability::Eventual => eventual,
        Durability::AtEnd => EnvFlags::NO_SYNC,
    };
    // As LMDB's documentation advises for random reads of what is larger than memory.
    if settings.larger_than_memory && settings.access == Access::Random {
        flags |= EnvFlags::NO_READ_AHEAD;
    }
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_dbs(1).max_readers(1024);
    // SAFETY: no other process uses the directory, nobody else changes the files, and the flags leave locks and the lock file alone.
    let env = unsafe { options.flags(flags).open(&settings.dir) }.context("opening LMDB")?;
    env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        opener.create_database::<Bytes, Bytes>(txn, Some(NAME)).map(|_| CommitOrAbort::<(), ()>::Commit(()))
    })?;
    let ticking = settings.durability == Durability::Eventual && eventual.contains(EnvFlags::NO_SYNC);
    let synced = env.clone();
    let ticker = ticking.then(|| Ticker::start(EVENTUAL, move || Ok(synced.force_sync()?))).transpose()?;
    Ok(Box::new(Lmdb { env, ticker }))
}

impl Lmdb {
    fn data(&self) -> Result<Database<'_, Bytes, Bytes>> {
        let opened = self.env.open_databases_and_commit(self.env.read_txn()?, |opener, txn| {
            opener.open_database::<Bytes, Bytes>(txn, Some(NAME)).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        opened.unwrap_commit().context("LMDB has lost its database")
    }
}

impl Engine for Lmdb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(LmdbSession { env: &self.env, data: self.data()?, value: Vec::new() }))
    }

    fn bulk_load(&self, entries: Sorted<'_>) -> Result<()> {
        let (data, mut entries) = (self.data()?, entries.peekable());
        while entries.peek().is_some() {
            let mut txn = self.env.write_txn()?;
            for (key, value) in entries.by_ref().take(APPEND_BATCH) {
                data.put_with_flags(&mut txn, PutFlags::APPEND, &key, &value)?;
            }
            txn.commit()?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Lmdb { env, ticker, .. } = *self;
        drop(ticker);
        env.force_sync()?;
        env.prepare_for_closing().wait();
        Ok(())
    }
}

impl Session for LmdbSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        let txn = self.env.read_txn()?;
        seen(self.data.get(&txn, key)?)
    }

    fn get_many(&mut self, keys: &[Key], seen: SeenMany<'_>) -> Result<()> {
        let txn = self.env.read_txn()?;
        for (at, key) in keys.iter().enumerate() {
            seen(at, self.data.get(&txn, key)?)?;
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        let txn = self.env.read_txn()?;
        let range = (Bound::Included(&from[..]), Bound::Unbounded);
        for entry in self.data.range(&txn, &range)? {
            let (key, value) = entry?;
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.data.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for (key, value) in entries {
            self.data.put(&mut txn, key, value)?;
        }
        Ok(txn.commit()?)
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let mut txn = self.env.write_txn()?;
        change(self.data.get(&txn, key)?, &mut self.value)?;
        self.data.put(&mut txn, key, &self.value)?;
        txn.commit()?;
        Ok(0)
    }
}
