//! Ashlar: an embedded, transactional, ordered key-value storage engine for Linux that owns its I/O.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir_in(std::env::var("ASHLAR_TEST_DIR").unwrap_or(".".into()))?;
//! # let path = dir.path().join("orders");
//! let db = ashlardb::Database::open(&path)?;              // creates, or recovers and opens
//! let users = db.keyspace("users")?;                      // a named ordered map
//! users.insert("ada", b"1815")?;                          // durable when it returns
//! assert_eq!(users.get("ada")?.unwrap(), b"1815");
//! for entry in users.range("a".."c") {
//!     let (key, value) = entry?;
//!     assert_eq!((&key[..], &*value), (&b"ada"[..], &b"1815"[..]));
//! }
//! let visits = db.transact(|tx| {                         // serializable; tried again where it conflicts
//!     let visits = tx.get(&users, "visits")?.map_or(0, |v| v[0]) + 1;
//!     tx.insert(&users, "visits", [visits])?;
//!     Ok(visits)
//! })?;
//! assert_eq!(visits, 1);
//! let before = db.snapshot()?;                            // everything as of now, whatever is written since
//! let mut batch = db.batch();                             // blind writes, all or nothing, across keyspaces
//! batch.insert(&users, "bob", "1824")?;
//! batch.remove(&users, "ada")?;
//! batch.commit()?;
//! assert!(before.contains_key(&users, "ada")? && !users.contains_key("ada")?);
//! db.close()?;
//! # Ok(()) }
//! ```
//!
//! Every byte of data goes through aligned `O_DIRECT` I/O into the engine's own buffer pool; the kernel's page cache is never used.
//! What is confirmed survives power loss; what is damaged on disk is detected, never returned.

mod asynchronous;
mod attendant;
mod background;
mod batch;
mod blob;
#[doc(hidden)]
pub mod btree;
mod bulk;
mod catalog;
mod checkpoint;
mod clean;
mod commit;
mod compact;
mod database;
mod error;
#[doc(hidden)]
pub mod fault;
mod flight;
mod get_many;
mod handover;
mod health;
mod held;
mod keyspace;
mod options;
mod pages;
#[cfg(feature = "faults")]
#[doc(hidden)]
pub mod parse;
mod postponed;
#[doc(hidden)]
pub mod probe;
mod range;
mod read;
mod recovery;
pub mod salvage;
mod shape;
mod snapshot;
mod stats;
#[doc(hidden)]
pub mod store;
mod stranded;
mod stream;
mod txn;
mod value;
pub mod verify;
mod versions;

pub use ashlar_disk::real::SyncMethod;
pub use ashlar_disk::{IoMode, QueueKind};
pub use asynchronous::{CommitFuture, GetFuture, GetManyFuture};
pub use batch::Batch;
pub use catalog::KEYSPACE_NAME_MAX;
pub use compact::Compaction;
pub use database::Database;
pub use error::{Corruption, Error, Result};
pub use keyspace::{Keyspace, Swap};
pub use options::{Background, Create, Durability, Options};
pub use range::{Cursor, Range};
pub use shape::{PageCount, Shape, TreeShape};
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use store::SpaceUse;
pub use stream::{BlobReader, BlobWriter};
pub use txn::{Isolation, Savepoint, Transaction, TransactionOptions, TransactionRange};
pub use value::Value;
