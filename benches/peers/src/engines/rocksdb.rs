//! RocksDB: what its tuning guide recommends for point reads, without compression.
//!
//! - A block cache of the whole budget, to which memtables, index and filter blocks are charged; full Bloom filters of 10 bits a key,
//!   whole keys filtered in memtables too.
//! - Two background jobs at most; leveled compaction with dynamic level sizes (the default).
//! - Reads and writes through the page cache (the default): where memory is limited, what the block cache leaves.
//! - Rows with read-modify-writes open it as an `OptimisticTransactionDB`; all others as a plain database.

use super::super::ticker::{EVENTUAL, Ticker};
use crate::engine::{Change, Durability, Engine, Key, Promise, Seen, SeenMany, Session, Settings, Sorted, Spec, Visit};
use anyhow::{Context, Result, bail};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, ErrorKind, IngestExternalFileOptions, OptimisticTransactionDB, Options,
    SstFileWriter, WaitForCompactOptions, WriteBatchWithTransaction, WriteBufferManager, WriteOptions,
};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) static SPEC: Spec = Spec {
    name: "rocksdb",
    package: "librocksdb-sys",
    sync: Some(Promise { words: "nothing is lost", consistent: true }),
    eventual: Promise { words: "a prefix survives, about 100 ms are lost (log synced every 100 ms)", consistent: true },
    bulk: Some("SST files, ingested"),
    blobs: true,
    recovers: true,
    reads_in_place: true,
    mode_of: None,
    open,
};

const MIB: u64 = 1 << 20;
/// Bytes of an SST file of the bulk load, about.
const SST_BYTES: u64 = 256 * MIB;

/// The database, as the row needs it.
enum Db {
    Plain(DB),
    Optimistic(OptimisticTransactionDB),
}

/// The same expression on whichever it is.
macro_rules! each {
    ($db:expr, $name:ident => $body:expr) => {
        match $db {
            Db::Plain($name) => $body,
            Db::Optimistic($name) => $body,
        }
    };
}

struct Rocks {
    db: Arc<Db>,
    options: Options,
    write: WriteOptions,
    files: PathBuf,
    /// Dropped before the database is closed.
    ticker: Option<Ticker>,
}

struct RocksSession<'a> {
    rocks: &'a Rocks,
    value: Vec<u8>,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let (options, path) = (options(settings), settings.dir.join("db"));
    let db = if settings.transactions {
        Db::Optimistic(OptimisticTransactionDB::open(&options, path).context("opening RocksDB")?)
    } else {
        Db::Plain(DB::open(&options, path).context("opening RocksDB")?)
    };
    let db = Arc::new(db);
    let mut write = WriteOptions::default();
    write.set_sync(settings.durability == Durability::Sync);
    let synced = db.clone();
    let ticking = settings.durability == Durability::Eventual;
    let sync = move || each!(&*synced, db => Ok(db.flush_wal(true)?));
    let ticker = ticking.then(|| Ticker::start(EVENTUAL, sync)).transpose()?;
    Ok(Box::new(Rocks { db, options, write, files: settings.dir.join("ingest"), ticker }))
}

fn options(settings: &Settings) -> Options {
    let memtable = (settings.cache_bytes / 8).clamp(8 * MIB, 64 * MIB);
    let cache = Cache::new_hyper_clock_cache(settings.cache_bytes as usize, 0);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_optimize_filters_for_memory(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_max_background_jobs(2);
    options.set_write_buffer_size(memtable as usize);
    options.set_max_write_buffer_number(3);
    let buffers = (4 * memtable).min(settings.cache_bytes / 2) as usize;
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(buffers, false, cache));
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    // As the tuning guide advises, so that the kernel does not write back all at once.
    options.set_bytes_per_sync(MIB);
    options.set_enable_blob_files(settings.blobs);
    options
}

impl Engine for Rocks {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RocksSession { rocks: self, value: Vec::new() }))
    }

    fn bulk_load(&self, entries: Sorted<'_>) -> Result<()> {
        std::fs::create_dir_all(&self.files)?;
        let mut entries = entries.peekable();
        let mut written = Vec::new();
        while entries.peek().is_some() {
            let path = self.files.join(format!("{}.sst", written.len()));
            let mut writer = SstFileWriter::create(&self.options);
            writer.open(&path)?;
            let mut bytes = 0;
            while let Some((key, value)) = if bytes < SST_BYTES { entries.next() } else { None } {
                writer.put(key, &value)?;
                bytes += (key.len() + value.len()) as u64;
            }
            writer.finish()?;
            written.push(path);
        }
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        each!(&*self.db, db => db.ingest_external_file_opts(&ingest, written))?;
        std::fs::remove_dir_all(&self.files)?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        each!(&*self.db, db => Ok(db.flush_wal(true)?))
    }

    fn settle(&self) -> Result<()> {
        let mut wait = WaitForCompactOptions::default();
        wait.set_flush(true);
        each!(&*self.db, db => Ok(db.wait_for_compact(&wait)?))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()?;
        let Rocks { db, ticker, .. } = *self;
        drop(ticker);
        anyhow::ensure!(Arc::into_inner(db).is_some(), "RocksDB is still in use");
        Ok(())
    }
}

impl Session for RocksSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        let found = each!(&*self.rocks.db, db => db.get_pinned(key))?;
        seen(found.as_deref())
    }

    fn get_many(&mut self, keys: &[Key], seen: SeenMany<'_>) -> Result<()> {
        let found = each!(&*self.rocks.db, db => db.multi_get(keys));
        found.into_iter().enumerate().try_for_each(|(at, found)| seen(at, found?.as_deref()))
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        each!(&*self.rocks.db, db => {
            let mut iterator = db.raw_iterator();
            iterator.seek(from);
            while let Some((key, value)) = iterator.item() {
                if !visit(key, value)? {
                    return Ok(());
                }
                iterator.next();
            }
            Ok(iterator.status()?)
        })
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        each!(&*self.rocks.db, db => Ok(db.put_opt(key, value, &self.rocks.write)?))
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        match &*self.rocks.db {
            Db::Plain(db) => Ok(db.write_opt(batch_of(entries), &self.rocks.write)?),
            Db::Optimistic(db) => Ok(db.write_opt(batch_of(entries), &self.rocks.write)?),
        }
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let Db::Optimistic(db) = &*self.rocks.db else { bail!("RocksDB was opened without transactions") };
        let mut retries = 0;
        loop {
            let txn = db.transaction_opt(&self.rocks.write, &Default::default());
            change(txn.get_pinned_for_update(key, true)?.as_deref(), &mut self.value)?;
            txn.put(key, &self.value)?;
            match txn.commit() {
                Ok(()) => return Ok(retries),
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::TryAgain) => retries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn batch_of<const TRANSACTION: bool>(entries: &[(Key, Vec<u8>)]) -> WriteBatchWithTransaction<TRANSACTION> {
    let mut batch = WriteBatchWithTransaction::default();
    entries.iter().for_each(|(key, value)| batch.put(key, value));
    batch
}
