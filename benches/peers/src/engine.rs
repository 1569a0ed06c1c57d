//! What a row asks of an engine: the narrow interface behind which all of them stand.
//!
//! 1. A session belongs to one thread. Every read sees all commits that returned before it began: no session holds on to a snapshot.
//! 2. Durability is that of the whole row: who opens an engine says what its commits are to promise.
//! 3. Values are lent to a closure where they lie, so that an engine that need not copy does not.

use crate::host;
use anyhow::Result;
use ashlar_workload::data::KEY_LEN;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A key of the data set.
pub type Key = [u8; KEY_LEN];
/// What is told of a value, or that there is none.
pub type Seen<'a> = &'a mut dyn FnMut(Option<&[u8]>) -> Result<()>;
/// Tells for one of several keys, by its position, what it holds.
pub type SeenMany<'a> = &'a mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>;
/// What is told of an entry; whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool>;
/// Makes the new value of a key from the old one.
pub type Change<'a> = &'a mut dyn FnMut(Option<&[u8]>, &mut Vec<u8>) -> Result<()>;
/// Entries in ascending order of their keys.
pub type Sorted<'a> = &'a mut dyn Iterator<Item = (Key, Vec<u8>)>;

/// What commits of a row promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Durability {
    /// It survives power loss when the commit returns.
    Sync,
    /// It may be lost for about 100 ms; what survives is a prefix of the commits, where an engine can promise that.
    Eventual,
    /// Nothing until the end of the load: a crash before means loading again.
    AtEnd,
}

/// How a row goes through the data: a hint for engines that read ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Mostly keys here and there.
    Random,
    /// Mostly in order.
    Ordered,
}

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory that is the engine's alone. It exists.
    pub dir: PathBuf,
    /// Bytes of memory for the engine's own caches and write buffers together.
    pub cache_bytes: u64,
    /// Threads that will use it.
    pub threads: usize,
    /// What commits promise.
    pub durability: Durability,
    /// Whether the values are large (1 MiB).
    pub blobs: bool,
    /// Whether there will be read-modify-writes.
    pub transactions: bool,
    /// Whether the data is larger than the memory for it.
    pub larger_than_memory: bool,
    /// How the data is gone through.
    pub access: Access,
    /// Whether what was written must be there after closing. False for rows that throw their data away.
    pub keep: bool,
}

/// Bytes that a row takes beside the engine's memory, at a guess: its own, and the page cache's.
const MEMORY_BESIDE: u64 = 512 << 20;

impl Settings {
    /// Has the kernel hand out as much memory as the row will take, where the row fits in memory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn touch_memory(&self) -> Result<()> {
        if self.larger_than_memory { Ok(()) } else { host::touch_memory(self.cache_bytes + MEMORY_BESIDE) }
    }
}

/// An open engine.
pub trait Engine: Send + Sync {
    /// A session for the thread that calls.
    ///
    /// # Errors
    /// The engine's own.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Fills the empty engine with sorted entries, durably, by the fastest means that it has.
    ///
    /// # Errors
    /// The engine's own; where [`Spec::bulk`] is `None`, that there is no such means.
    fn bulk_load(&self, _entries: Sorted<'_>) -> Result<()> {
        anyhow::bail!("this engine has no bulk load")
    }

    /// Makes all commits durable, as far as the engine can.
    ///
    /// # Errors
    /// The engine's own.
    fn sync(&self) -> Result<()>;

    /// Waits for what a load has left to be done in the background: flushes, compactions, checkpoints.
    ///
    /// # Errors
    /// The engine's own.
    fn settle(&self) -> Result<()> {
        self.sync()
    }

    /// A remark for the row's record, if there is one.
    fn note(&self) -> Option<String> {
        None
    }

    /// Closes cleanly.
    ///
    /// # Errors
    /// The engine's own.
    fn close(self: Box<Self>) -> Result<()>;
}

/// What one thread does with an engine.
pub trait Session {
    /// Lends what `key` holds to `seen`.
    ///
    /// # Errors
    /// The engine's own, and those of `seen`.
    fn get(&mut self, key: &Key, seen: Seen<'_>) -> Result<()>;

    /// The same for several keys, by the fastest means that the engine has.
    ///
    /// # Errors
    /// As [`Session::get`].
    fn get_many(&mut self, keys: &[Key], seen: SeenMany<'_>) -> Result<()> {
        keys.iter().enumerate().try_for_each(|(at, key)| self.get(key, &mut |value| seen(at, value)))
    }

    /// Visits entries in order, from `from` on, until `visit` says that it is enough.
    ///
    /// # Errors
    /// The engine's own, and those of `visit`.
    fn scan(&mut self, from: &Key, visit: Visit<'_>) -> Result<()>;

    /// Commits one write.
    ///
    /// # Errors
    /// The engine's own.
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()>;

    /// Commits several writes as one transaction.
    ///
    /// # Errors
    /// The engine's own.
    fn put_batch(&mut self, entries: &[(Key, Vec<u8>)]) -> Result<()>;

    /// Reads and writes a key as one step, so that no other write comes between; gives how often it had to begin again.
    ///
    /// # Errors
    /// The engine's own, and those of `change`.
    fn update(&mut self, key: &Key, change: Change<'_>) -> Result<u64>;
}

/// What an engine promises of commits after an operating system's crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// In a few words.
    pub words: &'static str,
    /// Whether the database is consistent afterwards: a prefix of the commits, each whole or not at all.
    pub consistent: bool,
}

/// An engine that this build knows.
pub struct Spec {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// The package that it comes in.
    pub package: &'static str,
    /// What its commits promise in rows of [`Durability::Sync`]; `None`: it has nothing of the kind.
    pub sync: Option<Promise>,
    /// What its commits promise in rows of [`Durability::Eventual`].
    pub eventual: Promise,
    /// How it loads sorted data faster than by transactions, if it can.
    pub bulk: Option<&'static str>,
    /// Whether it takes values of 1 MiB.
    pub blobs: bool,
    /// Whether it can be opened after its process was killed.
    pub recovers: bool,
    /// Whether opening a data set to read leaves it as it is.
    pub reads_in_place: bool,
    /// The engine whose loaded data sets it uses, where it is a mode of another: it then runs only rows of [`Durability::Eventual`].
    pub mode_of: Option<&'static str>,
    /// Opens it; makes it where the directory is empty.
    pub open: fn(&Settings) -> Result<Box<dyn Engine>>,
}

impl Spec {
    /// Its version, as locked for this build.
    pub fn version(&self) -> String {
        locked_version(include_str!("../Cargo.lock"), self.package).unwrap_or("?").to_owned()
    }

    /// Whose loaded data sets it uses.
    pub fn data_of(&self) -> &'static str {
        self.mode_of.unwrap_or(self.name)
    }

    /// What it promises in rows of this durability.
    pub fn promise(&self, durability: Durability) -> Promise {
        match durability {
            Durability::Sync => self.sync.unwrap_or(Promise { words: "has no durable commits", consistent: false }),
            Durability::Eventual => self.eventual,
            Durability::AtEnd => Promise { words: "durable at the end of the load", consistent: true },
        }
    }
}

/// The version of a package in a lock file.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock =
            "[[package]]\nname = \"a-b\"\nversion = \"2.0\"\n\n[[package]]\nname = \"a\"\nversion = \"1.5.0\"\nsource = \"x\"\n";
        assert_eq!(locked_version(lock, "a"), Some("1.5.0"));
        assert_eq!(locked_version(lock, "a-b"), Some("2.0"));
        assert_eq!(locked_version(lock, "b"), None);
    }
}
