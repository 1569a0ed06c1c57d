//! RocksDB: what its tuning guide recommends for point reads, without compression.
//!
//! - A block cache of the whole budget, to which memtables, index and filter blocks are charged; full Bloom filters of 10 bits a key,
//!   whole keys filtered in memtables too.
//! - Two background jobs at most; leveled compaction with dynamic level sizes (the default).
//! - Reads and writes through the page cache (the default): where memory is limited, what the block cache leaves.
//! - Rows with read-modify-writes open it as an `OptimisticTransactionDB`; all others as a plain database.

use super::super::ticker::{EVENTUAL, Ticker};
use crate::engine::{Change, Durability, Engine, Key, Promise, Seen, SeenMany, Session, Settings, Sorted, Spec, Visit};
use anyhow::{Context, Result};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCommon, DBCompressionType, DBInner, ErrorKind, IngestExternalFileOptions,
    OptimisticTransactionDB, Options, SingleThreaded, SstFileWriter, WaitForCompactOptions, WriteBatchWithTransaction,
    WriteBufferManager, WriteOptions,
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

struct Rocks<D: DBInner> {
    db: Arc<DBCommon<SingleThreaded, D>>,
    options: Options,
    write: WriteOptions,
    files: PathBuf,
    /// Dropped before the database is closed.
    ticker: Option<Ticker>,
}

struct RocksSession<'a, D: DBInner> {
    rocks: &'a Rocks<D>,
    value: Vec<u8>,
}

/// What differs between the plain database and the one with transactions.
trait Kind: DBInner + Sized + Send + Sync + 'static {
    fn write(rocks: &Rocks<Self>, entries: &[(Key, Vec<u8>)]) -> Result<()>;
    fn update(rocks: &Rocks<Self>, key: &Key, value: &mut Vec<u8>, change: Change<'_>) -> Result<u64>;
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let options = options(settings);
    let path = settings.dir.join("db");
    if settings.transactions {
        start(OptimisticTransactionDB::open(&options, path).context("opening RocksDB")?, options, settings)
    } else {
        start(DB::open(&options, path).context("opening RocksDB")?, options, settings)
    }
}

fn start<D: Kind>(db: DBCommon<SingleThreaded, D>, options: Options, settings: &Settings) -> Result<Box<dyn Engine>> {
    let db = Arc::new(db);
    let mut write = WriteOptions::default();
    write.set_sync(settings.durability == Durability::Sync);
    let synced = db.clone();
    let ticking = settings.durability == Durability::Eventual;
    let ticker = ticking.then(|| Ticker::start(EVENTUAL, move || Ok(synced.flush_wal(true)?))).transpose()?;
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

impl<D: Kind> Engine for Rocks<D> {
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
        self.db.ingest_external_file_opts(&ingest, written)?;
        std::fs::remove_dir_all(&self.files)?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        let mut wait = WaitForCompactOptions::default();
        wait.set_flush(true);
        Ok(self.db.wait_for_compact(&wait)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        drop(self.ticker);
        self.db.flush_wal(true)?;
        anyhow::ensure!(Arc::into_inner(self.db).is_some(), "RocksDB is still in use");
        Ok(())
    }
}

impl<D: Kind> Session for RocksSession<'_, D> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        let found = self.rocks.db.get_pinned(key)?;
        seen(found.as_deref())
    }

    fn get_many(&mut self, keys: &[Key], seen: SeenMany<'_>) -> Result<()> {
        for (at, found) in self.rocks.db.multi_get(keys).into_iter().enumerate() {
            seen(at, found?.as_deref())?;
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        let mut iterator = self.rocks.db.raw_iterator();
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            if !visit(key, value)? {
                return Ok(());
            }
            iterator.next();
        }
        Ok(iterator.status()?)
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.rocks.db.put_opt(key, value, &self.rocks.write)?)
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        D::write(self.rocks, entries)
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        D::update(self.rocks, key, &mut self.value, change)
    }
}

fn batch_of<const TRANSACTION: bool>(entries: &[(Key, Vec<u8>)]) -> WriteBatchWithTransaction<TRANSACTION> {
    let mut batch = WriteBatchWithTransaction::default();
    entries.iter().for_each(|(key, value)| batch.put(key, value));
    batch
}

type Plain = rocksdb::DBWithThreadModeInner;
type Optimistic = rocksdb::OptimisticTransactionDBInner;

impl Kind for Plain {
    fn write(rocks: &Rocks<Plain>, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        Ok(rocks.db.write_opt(batch_of(entries), &rocks.write)?)
    }

    fn update(_: &Rocks<Plain>, _: &Key, _: &mut Vec<u8>, _: Change<'_>) -> Result<u64> {
        anyhow::bail!("RocksDB was opened without transactions")
    }
}

impl Kind for Optimistic {
    fn write(rocks: &Rocks<Optimistic>, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        Ok(rocks.db.write_opt(batch_of(entries), &rocks.write)?)
    }

    fn update(rocks: &Rocks<Optimistic>, key: &Key, value: &mut Vec<u8>, change: Change<'_>) -> Result<u64> {
        for retries in 0.. {
            let txn = rocks.db.transaction_opt(&rocks.write, &Default::default());
            change(txn.get_pinned_for_update(key, true)?.as_deref(), value)?;
            txn.put(key, &*value)?;
            match txn.commit() {
                Ok(()) => return Ok(retries),
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::TryAgain) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }
}
