//! fjall: an LSM tree; its defaults are its recommendations (Bloom filters, pinned index blocks of the upper levels).
//!
//! Two worker threads, no compression. Its cache and its memtables share the budget: a memtable is an eighth of it (8 to 64 MiB), the
//! block cache what two of them leave. Values of 1 MiB are kept apart from keys, as its documentation advises. Rows with
//! read-modify-writes open it as an `OptimisticTxDatabase`; all others as a plain database.

use super::super::ticker::{EVENTUAL, Ticker};
use crate::engine::{self, Change, Engine, Key, Promise, Seen, Session, Settings, Sorted, Spec, Visit};
use anyhow::{Result, bail};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OptimisticTxDatabase, PersistMode, Readable};
use std::time::Duration;

pub(super) static SPEC: Spec = Spec {
    name: "fjall",
    package: "fjall",
    sync: Some(Promise { words: "nothing is lost", consistent: true }),
    eventual: Promise { words: "a prefix survives, about 100 ms are lost (journal synced every 100 ms)", consistent: true },
    bulk: Some("Keyspace::start_ingestion"),
    blobs: true,
    recovers: true,
    reads_in_place: true,
    mode_of: None,
    open,
};

const MIB: u64 = 1 << 20;

struct Fjall {
    db: Database,
    data: Keyspace,
    /// In rows with read-modify-writes.
    transactions: Option<OptimisticTxDatabase>,
    /// How each commit is persisted beyond the journal's buffer.
    mode: Option<PersistMode>,
    /// Dropped before the database is closed.
    ticker: Option<Ticker>,
}

struct FjallSession<'a> {
    fjall: &'a Fjall,
    value: Vec<u8>,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let memtable = (settings.cache_bytes / 8).clamp(8 * MIB, 64 * MIB);
    let cache = settings.cache_bytes.saturating_sub(2 * memtable).max(8 * MIB);
    let path = settings.dir.join("db");
    let separation = settings.blobs.then(KvSeparationOptions::default);
    let create = || KeyspaceCreateOptions::default().max_memtable_size(memtable).with_kv_separation(separation);
    let (db, data, transactions) = if settings.transactions {
        let db = OptimisticTxDatabase::builder(path).cache_size(cache).worker_threads(2).open()?;
        let data = db.keyspace("data", create)?.inner().clone();
        (db.inner().clone(), data, Some(db))
    } else {
        let db = Database::builder(path).cache_size(cache).worker_threads(2).open()?;
        let data = db.keyspace("data", create)?;
        (db, data, None)
    };
    let mode = (settings.durability == engine::Durability::Sync).then_some(PersistMode::SyncData);
    let synced = db.clone();
    let ticking = settings.durability == engine::Durability::Eventual;
    let ticker = ticking.then(|| Ticker::start(EVENTUAL, move || Ok(synced.persist(PersistMode::SyncData)?))).transpose()?;
    Ok(Box::new(Fjall { db, data, transactions, mode, ticker }))
}

impl Engine for Fjall {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(FjallSession { fjall: self, value: Vec::new() }))
    }

    fn bulk_load(&self, entries: Sorted<'_>) -> Result<()> {
        let mut ingestion = self.data.start_ingestion()?;
        for (key, value) in entries {
            ingestion.write(key, value)?;
        }
        ingestion.finish()?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn settle(&self) -> Result<()> {
        self.sync()?;
        self.data.rotate_memtable_and_wait()?;
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()?;
        drop(self.ticker);
        drop((self.data, self.transactions, self.db));
        Ok(())
    }
}

impl FjallSession<'_> {
    fn persist(&self) -> Result<()> {
        Ok(self.fjall.mode.map_or(Ok(()), |mode| self.fjall.db.persist(mode))?)
    }
}

impl Session for FjallSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        let found = self.fjall.data.get(key)?;
        seen(found.as_deref())
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        for entry in self.fjall.data.range(&from[..]..) {
            let (key, value) = entry.into_inner()?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.fjall.data.insert(&key[..], value)?;
        self.persist()
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = self.fjall.db.batch().durability(self.fjall.mode);
        entries.iter().for_each(|(key, value)| batch.insert(&self.fjall.data, &key[..], &value[..]));
        Ok(batch.commit()?)
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let Some(transactions) = &self.fjall.transactions else { bail!("fjall was opened without transactions") };
        let mut retries = 0;
        loop {
            let mut txn = transactions.write_tx()?;
            change(txn.get(&self.fjall.data, key)?.as_deref(), &mut self.value)?;
            txn.insert(&self.fjall.data, &key[..], &self.value[..]);
            match txn.commit()? {
                Ok(()) => break,
                Err(_conflict) => retries += 1,
            }
        }
        self.persist()?;
        Ok(retries)
    }
}
