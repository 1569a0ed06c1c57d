//! redb: default options, with the cache's size as given.
//!
//! Eventual commits have `Durability::None`; every 100 ms an empty commit with `Immediate` makes those before it durable, as its
//! documentation says.

use super::super::ticker::{EVENTUAL, Ticker};
use crate::engine::{self, Change, Engine, Key, Promise, Seen, SeenMany, Session, Settings, Spec, Visit};
use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::sync::Arc;

pub(super) static SPEC: Spec = Spec {
    name: "redb",
    package: "redb",
    sync: Some(Promise { words: "nothing is lost", consistent: true }),
    eventual: Promise { words: "a prefix survives, about 100 ms are lost", consistent: true },
    bulk: None,
    blobs: true,
    recovers: true,
    reads_in_place: true,
    mode_of: None,
    open,
};

const DATA: TableDefinition<&[u8], &[u8]> = TableDefinition::new("data");

struct Redb {
    db: Arc<Database>,
    durability: Durability,
    /// Dropped before the database is closed.
    ticker: Option<Ticker>,
}

struct RedbSession<'a> {
    redb: &'a Redb,
    value: Vec<u8>,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let cache = usize::try_from(settings.cache_bytes)?;
    let db = Arc::new(Database::builder().set_cache_size(cache).create(settings.dir.join("data.redb"))?);
    let durability = match settings.durability {
        engine::Durability::Sync => Durability::Immediate,
        engine::Durability::Eventual | engine::Durability::AtEnd => Durability::None,
    };
    let synced = db.clone();
    // Also while loading: pages that commits of `None` free are used again after an `Immediate` one only.
    let ticking = settings.durability != engine::Durability::Sync;
    let ticker = ticking.then(|| Ticker::start(EVENTUAL, move || commit_durably(&synced))).transpose()?;
    let redb = Redb { db, durability, ticker };
    let txn = redb.db.begin_write()?;
    txn.open_table(DATA)?;
    txn.commit()?;
    Ok(Box::new(redb))
}

fn commit_durably(db: &Database) -> Result<()> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    Ok(txn.commit()?)
}

impl Redb {
    fn begin(&self) -> Result<WriteTransaction> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(self.durability)?;
        Ok(txn)
    }
}

impl Engine for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RedbSession { redb: self, value: Vec::new() }))
    }

    fn sync(&self) -> Result<()> {
        commit_durably(&self.db)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Redb { db, ticker, .. } = *self;
        drop(ticker);
        commit_durably(&db)?;
        match Arc::into_inner(db) {
            Some(db) => Ok(db.close()?),
            None => anyhow::bail!("redb is still in use"),
        }
    }
}

impl Session for RedbSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        let table = self.redb.db.begin_read()?.open_table(DATA)?;
        let found = table.get(&key[..])?;
        seen(found.as_ref().map(|value| value.value()))
    }

    fn get_many(&mut self, keys: &[Key], seen: SeenMany<'_>) -> Result<()> {
        let table = self.redb.db.begin_read()?.open_table(DATA)?;
        for (at, key) in keys.iter().enumerate() {
            let found = table.get(&key[..])?;
            seen(at, found.as_ref().map(|value| value.value()))?;
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        let table = self.redb.db.begin_read()?.open_table(DATA)?;
        for entry in table.range(&from[..]..)? {
            let (key, value) = entry?;
            if !visit(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        let txn = self.redb.begin()?;
        txn.open_table(DATA)?.insert(&key[..], value)?;
        Ok(txn.commit()?)
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let txn = self.redb.begin()?;
        {
            let mut table = txn.open_table(DATA)?;
            for (key, value) in entries {
                table.insert(&key[..], &value[..])?;
            }
        }
        Ok(txn.commit()?)
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let txn = self.redb.begin()?;
        {
            let mut table = txn.open_table(DATA)?;
            let found = table.get(&key[..])?;
            change(found.as_ref().map(|value| value.value()), &mut self.value)?;
            drop(found);
            table.insert(&key[..], &self.value[..])?;
        }
        txn.commit()?;
        Ok(0)
    }
}
