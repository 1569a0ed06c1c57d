//! Ashlar: default options, with the cache's size as given.

use crate::engine::{Change, Durability, Engine, Key, Promise, Seen, SeenMany, Session, Settings, Sorted, Spec, Visit};
use anyhow::Result;
use ashlardb::{Database, Isolation, Keyspace, Options, Transaction, TransactionOptions};

pub(super) static SPEC: Spec = Spec {
    name: super::OURS,
    package: "ashlardb",
    sync: Some(Promise { words: "nothing is lost", consistent: true }),
    eventual: Promise { words: "a prefix survives, at most 100 ms are lost", consistent: true },
    bulk: Some("Keyspace::bulk_load"),
    blobs: true,
    recovers: true,
    reads_in_place: true,
    mode_of: None,
    open,
};

struct Ashlar {
    data: Keyspace,
    blobs: bool,
}

struct AshlarSession<'a> {
    data: &'a Keyspace,
    blobs: bool,
    value: Vec<u8>,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    // Loads are made durable at their end: within them, a commit promises no more than an eventual one.
    let durability = match settings.durability {
        Durability::Sync => ashlardb::Durability::Immediate,
        Durability::Eventual | Durability::AtEnd => ashlardb::Durability::Eventual,
    };
    let database = Options::new().cache_size(settings.cache_bytes).durability(durability).open(settings.dir.join("db"))?;
    Ok(Box::new(Ashlar { data: database.keyspace("data")?, blobs: settings.blobs }))
}

impl Ashlar {
    fn database(&self) -> &Database {
        self.data.database()
    }
}

impl Engine for Ashlar {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(AshlarSession { data: &self.data, blobs: self.blobs, value: Vec::new() }))
    }

    fn bulk_load(&self, entries: Sorted<'_>) -> Result<()> {
        self.data.bulk_load(entries.map(Ok::<_, ashlardb::Error>))?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database().flush()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.database().checkpoint()?)
    }

    fn note(&self) -> Option<String> {
        let stats = self.database().stats();
        Some(format!(
            "pages of {} bytes, I/O by {}; {} records replayed at open, {} commits, {} checkpoints, {} pages read, {} written",
            stats.page_size, stats.queue, stats.replayed, stats.commits, stats.checkpoints, stats.pages_read, stats.pages_written
        ))
    }

    fn close(self: Box<Self>) -> Result<()> {
        let database = self.database().clone();
        drop(self);
        Ok(database.close()?)
    }
}

impl Session for AshlarSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        if self.blobs {
            // As it stands in memory, without a copy.
            return seen(self.data.get(key)?.as_deref());
        }
        let found = self.data.get_into(key, &mut self.value)?;
        seen(found.then_some(&self.value))
    }

    fn get_many(&mut self, keys: &[Key], seen: SeenMany<'_>) -> Result<()> {
        let values = self.data.get_many(keys)?;
        values.iter().enumerate().try_for_each(|(at, value)| seen(at, value.as_deref()))
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        let mut cursor = self.data.cursor(*from..);
        while let Some((key, value)) = cursor.next()? {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.data.insert(key, value)?)
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = self.data.database().batch();
        entries.iter().try_for_each(|(key, value)| batch.insert(self.data, key, value))?;
        Ok(batch.commit()?)
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let mut tries = 0;
        let options = TransactionOptions { isolation: Isolation::Serializable, durability: None };
        let (data, value) = (self.data, &mut self.value);
        data.database().transact_with(options, |transaction: &mut Transaction| {
            tries += 1;
            change(transaction.get(data, key)?.as_deref(), value).map_err(Refusal::Other)?;
            Ok::<_, Refusal>(transaction.insert(data, key, &*value)?)
        })?;
        Ok(tries - 1)
    }
}

/// Why an update did not come about: transactions are begun again after the engine's conflicts only.
#[derive(Debug)]
enum Refusal {
    Engine(ashlardb::Error),
    Other(anyhow::Error),
}

impl From<ashlardb::Error> for Refusal {
    fn from(error: ashlardb::Error) -> Refusal {
        Refusal::Engine(error)
    }
}

impl From<Refusal> for anyhow::Error {
    fn from(refusal: Refusal) -> anyhow::Error {
        match refusal {
            Refusal::Engine(error) => error.into(),
            Refusal::Other(error) => error,
        }
    }
}
