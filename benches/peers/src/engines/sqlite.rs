//! SQLite: a table of its own pages (`WITHOUT ROWID`), write-ahead log, prepared statements.
//!
//! - A connection a thread, each with its share of the budget as page cache, and, where all fits in memory, reads through a memory map
//!   (`mmap_size`).
//! - One writer at a time, which waits on a mutex instead of SQLite's polling: as a program that shares a database among its threads
//!   does.
//! - `synchronous = FULL` for durable commits, `NORMAL` (consistent, synced at checkpoints) for eventual ones, `OFF` while loading.
//! - Values of 1 MiB stand in a table with row ids, as the documentation of `WITHOUT ROWID` advises.

use crate::engine::{Change, Durability, Engine, Key, Promise, Seen, Session, Settings, Spec, Visit};
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) static SPEC: Spec = Spec {
    name: "sqlite",
    package: "libsqlite3-sys",
    sync: Some(Promise { words: "nothing is lost", consistent: true }),
    eventual: Promise { words: "a prefix survives, no bound on what is lost (synchronous = NORMAL)", consistent: true },
    bulk: None,
    blobs: true,
    recovers: true,
    reads_in_place: true,
    mode_of: None,
    open,
};

const GET: &str = "SELECT v FROM data WHERE k = ?1";
const PUT: &str = "INSERT OR REPLACE INTO data (k, v) VALUES (?1, ?2)";
const SCAN: &str = "SELECT k, v FROM data WHERE k >= ?1 ORDER BY k";

struct Sqlite {
    path: PathBuf,
    pragmas: String,
    writing: Mutex<()>,
}

struct SqliteSession<'a> {
    connection: Connection,
    writing: &'a Mutex<()>,
    value: Vec<u8>,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let synchronous = match settings.durability {
        Durability::Sync => "FULL",
        Durability::Eventual => "NORMAL",
        Durability::AtEnd => "OFF",
    };
    let cache_kib = settings.cache_bytes / 1024 / settings.threads.max(1) as u64;
    // A page fault in a map reads what is around it, too: where memory is short that evicts more than it brings.
    let mapped: u64 = if settings.larger_than_memory { 0 } else { 1 << 36 };
    let pragmas = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -{cache_kib}; \
         PRAGMA mmap_size = {mapped};"
    );
    let sqlite = Sqlite { path: settings.dir.join("data.sqlite"), pragmas, writing: Mutex::new(()) };
    let rowid = if settings.blobs { "" } else { " WITHOUT ROWID" };
    sqlite.connect()?.execute_batch(&format!("CREATE TABLE IF NOT EXISTS data (k BLOB PRIMARY KEY, v BLOB NOT NULL){rowid}"))?;
    Ok(Box::new(sqlite))
}

impl Sqlite {
    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.execute_batch(&self.pragmas)?;
        Ok(connection)
    }

    /// Brings the log into the database file, durably.
    fn checkpoint(&self) -> Result<()> {
        let _writing = lock(&self.writing);
        let connection = self.connect()?;
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        // With `synchronous = OFF` before, the database file may not have been synced by earlier checkpoints.
        Ok(std::fs::File::open(&self.path)?.sync_all()?)
    }
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine for Sqlite {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SqliteSession { connection: self.connect()?, writing: &self.writing, value: Vec::new() }))
    }

    fn sync(&self) -> Result<()> {
        self.checkpoint()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.checkpoint()
    }
}

impl SqliteSession<'_> {
    fn begin(connection: &mut Connection) -> Result<Transaction<'_>> {
        Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

impl Session for SqliteSession<'_> {
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()> {
        let mut statement = self.connection.prepare_cached(GET)?;
        let mut rows = statement.query(params![&key[..]])?;
        match rows.next()? {
            Some(row) => seen(Some(row.get_ref(0)?.as_blob()?)),
            None => seen(None),
        }
    }

    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()> {
        let mut statement = self.connection.prepare_cached(SCAN)?;
        let mut rows = statement.query(params![&from[..]])?;
        while let Some(row) = rows.next()? {
            if !visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?)? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        let _writing = lock(self.writing);
        self.connection.prepare_cached(PUT)?.execute(params![&key[..], value])?;
        Ok(())
    }

    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()> {
        let _writing = lock(self.writing);
        let txn = Self::begin(&mut self.connection)?;
        {
            let mut statement = txn.prepare_cached(PUT)?;
            for (key, value) in entries {
                statement.execute(params![&key[..], value])?;
            }
        }
        Ok(txn.commit()?)
    }

    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64> {
        let _writing = lock(self.writing);
        let txn = Self::begin(&mut self.connection)?;
        let found: Option<Vec<u8>> = txn.prepare_cached(GET)?.query_row(params![&key[..]], |row| row.get(0)).optional()?;
        change(found.as_deref(), &mut self.value)?;
        txn.prepare_cached(PUT)?.execute(params![&key[..], self.value])?;
        txn.commit()?;
        Ok(0)
    }
}
