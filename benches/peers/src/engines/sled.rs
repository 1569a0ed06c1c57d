//! sled: default options, with the cache's size as given.
//!
//! Its `flush` ends in `sync_file_range` on Linux, which neither writes the file's metadata nor flushes the device's cache: it is no
//! durable commit. Its background flusher calls `fsync`, and so does this file where a load has to be durable at its end.

use crate::engine::{Change, Durability, Engine, Key, Promise, Seen, Session, Settings, Spec, Visit};
use anyhow::Result;
use std::fs::File;
use std::path::PathBuf;

pub(super) static SPEC: Spec = Spec {
    name: "sled",
    package: "sled",
    sync: Some(Promise { words: "may be lost or corrupt (flush is sync_file_range, no fsync)", consistent: false }),
    eventual: Promise { words: "a prefix survives, about 100 ms are lost (flush_every_ms)", consistent: true },
    bulk: None,
    blobs: true,
    recovers: true,
    reads_in_place: true,
    mode_of: None,
    open,
};

struct Sled {
    db: sled::Db,
    file: PathBuf,
    sync: bool,
}

struct SledSession<'a> {
    sled: &'a Sled,
    value: Vec<u8>,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let every = (settings.durability == Durability::Eventual).then_some(100);
    let path = settings.dir.join("db");
    let config = sled::Config::new().path(&path).cache_capacity(settings.cache_bytes).flush_every_ms(every);
    let sync = settings.durability == Durability::Sync;
    Ok(Box::new(Sled { db: config.use_compression(false).open()?, file: path.join("db"), sync }))
}

impl Sled {
    fn commit(&self) -> Result<()> {
        if self.sync {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Engine for Sled {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SledSession { sled: self, value: Vec::new() }))
    }

    fn sync(&self) -> Result<()> {
        self.db.flush()?;
        Ok(File::open(&self.file)?.sync_all()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

impl Session for SledSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        let found = self.sled.db.get(key)?;
        seen(found.as_deref())
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        for entry in self.sled.db.range(&from[..]..) {
            let (key, value) = entry?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.sled.db.insert(key, value)?;
        self.sled.commit()
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = sled::Batch::default();
        entries.iter().for_each(|(key, value)| batch.insert(&key[..], &value[..]));
        self.sled.db.apply_batch(batch)?;
        self.sled.commit()
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let mut retries = 0;
        loop {
            let found = self.sled.db.get(key)?;
            change(found.as_deref(), &mut self.value)?;
            match self.sled.db.compare_and_swap(key, found.as_ref(), Some(&self.value[..]))? {
                Ok(()) => break,
                Err(_changed) => retries += 1,
            }
        }
        self.sled.commit()?;
        Ok(retries)
    }
}
