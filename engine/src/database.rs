//! The database: opened, shared by handles, closed.
//!
//! Handles ([`Database`], [`Keyspace`]) share one [`Shared`]. The last one dropped makes the log durable and stops; `close` also
//! makes a checkpoint and returns the error that a drop would hide, and has the last one leave the clean mark (see `clean`). A handle in a child made by `fork` does nothing at all.

use crate::attendant::Attendant;
use crate::background::BackgroundState;
use crate::batch::Batch;
use crate::btree::TreeId;
use crate::catalog::{self, KeyspaceState};
use crate::checkpoint::{CheckpointState, Holds};
use crate::commit::apply::{Applier, Names, Unborn};
use crate::commit::record::{self, Operation};
use crate::commit::visibility::Visibility;
use crate::commit::{Manner, Order, Prepared, Refused, Until};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::health::Health;
use crate::keyspace::Keyspace;
use crate::options::{Durability, Options};
use crate::pages::EnginePool;
use crate::postponed::Postponed;
use crate::range::Lengths;
use crate::read::View;
use crate::stats::Stats;
use crate::store::Store;
use crate::verify::Depth;
use crate::versions::Versions;
use ashlar_disk::fork_guard::Owner;
use ashlar_disk::sync::Mutex;
use ashlar_wal::{Lsn, Wal};
use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An open database. Cheap to clone: clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) handle: Arc<Handle>,
}

/// What all handles share; its last drop ends the background threads and makes the log durable.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) threads: Mutex<Vec<ashlar_disk::sync::JoinHandle>>,
    /// Nothing is left to be done.
    pub(crate) finished: AtomicBool,
}

/// The database itself, shared by handles and background threads.
pub(crate) struct Shared {
    pub(crate) owner: Owner,
    pub(crate) options: Options,
    pub(crate) path: PathBuf,
    pub(crate) fs: Arc<dyn ashlar_disk::Fs>,
    pub(crate) pool: EnginePool,
    pub(crate) segment_size: u64,
    /// None in a read-only database.
    pub(crate) log: Option<Wal>,
    /// Where the open found the log's end.
    pub(crate) log_end: Lsn,
    pub(crate) order: Mutex<Order>,
    pub(crate) apply: Mutex<Applier>,
    /// Taken by whoever merges a lot of what waits, from before its leaves are read.
    pub(crate) merging: Mutex<()>,
    /// Writes that wait.
    pub(crate) postponed: Arc<Postponed>,
    pub(crate) names: Names,
    /// Keyspaces that transactions are about to make.
    pub(crate) unborn: Arc<Unborn>,
    /// How far scans usually go.
    pub(crate) scan_lengths: Lengths,
    pub(crate) versions: Arc<Versions>,
    /// Creating, dropping and clearing keyspaces: one at a time.
    pub(crate) ddl: Mutex<()>,
    pub(crate) next_tree: AtomicU64,
    pub(crate) next_transaction: AtomicU64,
    pub(crate) visible: Visibility,
    pub(crate) health: Health,
    pub(crate) checkpoint: Mutex<CheckpointState>,
    pub(crate) background: BackgroundState,
    pub(crate) attendant: Attendant,
    /// A handle was closed: the last one leaves the clean mark, if nothing was committed since.
    pub(crate) closed: AtomicBool,
    pub(crate) counters: crate::stats::EngineCounters,
    /// Last: held until everything else is gone.
    pub(crate) _lock: Box<dyn ashlar_disk::Lock>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.path.display())
    }
}

impl Borrow<Shared> for Database {
    fn borrow(&self) -> &Shared {
        &self.handle.shared
    }
}

impl Shared {
    /// The log; an error in a read-only database, which has none to write to.
    pub(crate) fn wal(&self) -> Result<&Wal> {
        self.log.as_ref().ok_or_else(|| Error::ReadOnly { cause: self.health.cause() })
    }

    pub(crate) fn store(&self) -> &Store {
        self.pool.store()
    }

    /// Pages that writing these bytes with that many operations may make dirty, at most: each operation's leaf, the pages that
    /// the bytes fill by halves, and what splits and merges change above.
    pub(crate) fn pages_for(&self, operations: usize, bytes: usize) -> u64 {
        pages_for(&self.pool, operations, bytes)
    }
}

/// See [`Shared::pages_for`].
pub(crate) fn pages_for(pool: &EnginePool, operations: usize, bytes: usize) -> u64 {
    let leaves = (operations as u64).min(pool.store().space_use().pages);
    let filled = 2 * (bytes / (pool.page_size() / 2)) as u64;
    leaves + filled + 16
}

impl Database {
    /// Opens the database in directory `path`, making it if there is none, with default options.
    ///
    /// # Errors
    /// See [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Database> {
        Options::new().open(path)
    }

    /// A new set of options.
    pub fn options() -> Options {
        Options::new()
    }

    pub(crate) fn open_with(path: &Path, options: Options) -> Result<Database> {
        let shared = Arc::new(crate::recovery::open(path, options)?);
        let told = Arc::downgrade(&shared);
        shared.store().tell_of_failed_syncs(move |error| {
            if let Some(shared) = told.upgrade() {
                shared.fail_now(format!("syncing the data file failed: {error}"));
            }
        });
        let handle = Handle { shared: shared.clone(), threads: Mutex::new(Vec::new()), finished: AtomicBool::new(false) };
        let threads = crate::background::start(&shared)?;
        *handle.threads.lock() = threads;
        Ok(Database { handle: Arc::new(handle) })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The directory it is in.
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    /// The unit of the data file.
    pub(crate) fn block_size(&self) -> ashlar_disk::BlockSize {
        self.shared().store().block()
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> usize {
        self.shared().pool.page_size()
    }

    /// The longest key possible, in bytes.
    pub fn key_len_max(&self) -> usize {
        crate::btree::limits(self.page_size()).key_max
    }

    /// A handle on the keyspace of that name, which is made if it is missing (durably, when this returns).
    ///
    /// # Errors
    /// [`Error::KeyspaceName`]; those of a commit, if it is made; [`Error::NoSuchKeyspace`] in a read-only database.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        if let Some(keyspace) = self.existing_keyspace(name)? {
            return Ok(keyspace);
        }
        catalog::check_name(name, self.key_len_max())?;
        let shared = self.shared();
        if shared.options.read_only {
            return Err(Error::NoSuchKeyspace { name: name.to_owned() });
        }
        let _one = shared.ddl.lock();
        if !shared.names.lock().now.contains_key(name) {
            let tree = TreeId(shared.next_tree.fetch_add(1, Ordering::Relaxed));
            self.commit_whole(&Operation::CreateKeyspace { tree, name }, &[])?;
        }
        // Whoever has made it may have failed to make it durable.
        self.existing_keyspace(name)?.ok_or_else(|| Error::NoSuchKeyspace { name: name.to_owned() })
    }

    /// A handle on the keyspace of that name, if there is one.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn existing_keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        self.shared().owner.check()?;
        let shared = self.shared();
        shared.wait_own(u64::MAX)?;
        loop {
            let watermark = shared.visible.watermark();
            let (seen, newest) = {
                let names = shared.names.lock();
                (names.at(name, watermark), names.now.get(name).cloned())
            };
            if let Some(state) = seen {
                return Ok(Some(Keyspace::new(self.clone(), state)));
            }
            // Nobody is shown a keyspace that a crash could still take back.
            match newest.and_then(|state| state.waits_for(watermark)) {
                Some(since) => shared.wait_visible(since)?,
                None if shared.visible.watermark() == watermark => return Ok(None),
                None => {}
            }
        }
    }

    /// The names of all keyspaces, sorted.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn keyspaces(&self) -> Result<Vec<String>> {
        self.shared().owner.check()?;
        let view = View::newest(&**self.shared())?;
        Ok(self.shared().names.lock().all_at(view.lsn()))
    }

    /// Drops a keyspace with everything in it, durably. Its space is freed in the background. False: there is none of that name.
    ///
    /// # Errors
    /// Those of a commit.
    pub fn drop_keyspace(&self, name: &str) -> Result<bool> {
        let shared = self.shared();
        shared.owner.check()?;
        let _one = shared.ddl.lock();
        let (found, dropped) = {
            let names = shared.names.lock();
            (names.now.get(name).cloned(), names.dropped_at(name))
        };
        let Some(state) = found else {
            // Nobody is told that it is gone whom a crash could still prove wrong.
            shared.wait_visible(dropped)?;
            return Ok(false);
        };
        let tree = state.tree()?.id;
        self.commit_whole(&Operation::DropKeyspace { tree, name }, &[tree])?;
        Ok(true)
    }

    pub(crate) fn clear_keyspace(&self, state: &KeyspaceState) -> Result<()> {
        let shared = self.shared();
        let _one = shared.ddl.lock();
        let tree = shared.tree_of(state)?.id;
        let new_tree = TreeId(shared.next_tree.fetch_add(1, Ordering::Relaxed));
        self.commit_whole(&Operation::ClearKeyspace { tree, new_tree, name: &state.name }, &[tree])
    }

    /// Commits one operation on a whole keyspace. Under the `ddl` lock, so that its tree can't go meanwhile.
    fn commit_whole(&self, operation: &Operation<'_>, drops: &[TreeId]) -> Result<()> {
        let prepared = Prepared {
            record: record::single(operation),
            manner: Manner::Whole,
            hint: None,
            touches: &[],
            drops,
            pages: self.shared().pages_for(4, 4 * self.page_size()),
            frees: !drops.is_empty(),
            only_if_empty: None,
            unchanged: None,
            durability: Durability::Immediate,
            until: Until::Durable,
        };
        match self.shared().commit(prepared, || {}) {
            Ok(_) => Ok(()),
            Err(Refused::Error(e)) => Err(e),
            Err(Refused::TreeGone | Refused::NotEmpty | Refused::Conflict(_)) => {
                Err(Error::NoSuchKeyspace { name: String::new() })
            }
        }
    }

    /// An empty batch of writes, which are applied all or none, across keyspaces.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Makes all that was committed durable.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] where the log can't be written; the database is read-only then.
    pub fn flush(&self) -> Result<()> {
        self.shared().owner.check()?;
        let shared = self.shared();
        if shared.options.read_only {
            return Ok(());
        }
        shared.make_durable(shared.wal()?.appended().0)
    }

    /// Makes a checkpoint: the data file then holds everything committed so far, and the log before it can be reused.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; errors of writing, after which the database is read-only.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared().owner.check()?;
        self.shared().checkpoint_now(Holds::Everything)
    }

    /// Makes the data file as short as it gets, while it is used: frees dropped keyspaces, moves what stands at the file's end to free
    /// places below, and gives the end back to the file system. It takes several checkpoints and writes what it moves anew; it needs
    /// free space in the file to move to, and does not make the file longer for that. One at a time.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; those of [`Database::checkpoint`]; [`Error::Corrupt`] or [`Error::Io`] where something that is to be
    /// moved can't be read. What was moved before stays moved.
    pub fn compact(&self) -> Result<crate::Compaction> {
        self.shared().owner.check()?;
        self.shared().compact()
    }

    /// One step of the work that threads do in the background otherwise (see [`Background::Manual`](crate::Background::Manual)):
    /// flushes `Eventual` commits, writes back dirty pages, frees dropped keyspaces, makes a due checkpoint. True: there is more.
    ///
    /// # Errors
    /// Errors of writing, after which the database is read-only.
    pub fn maintain(&self) -> Result<bool> {
        self.shared().owner.check()?;
        self.shared().maintain_step()
    }

    /// Counters since the open.
    pub fn stats(&self) -> Stats {
        Stats::of(self.shared())
    }

    /// Checks everything, read from the device: see [`Report`](crate::verify::Report). The database is used meanwhile; what is examined is
    /// the last checkpoint, which is held.
    ///
    /// # Errors
    /// Memory that can't be had; whatever is wrong on disk is in the report.
    pub fn verify(&self) -> Result<crate::verify::Report> {
        self.shared().owner.check()?;
        crate::verify::verify(self.shared(), Depth::Full, &mut |_| {})
    }

    /// Checks what needs no walk over the trees: see [`Depth::Quick`].
    ///
    /// # Errors
    /// As [`Database::verify`].
    pub fn verify_quick(&self) -> Result<crate::verify::Report> {
        self.shared().owner.check()?;
        crate::verify::verify(self.shared(), Depth::Quick, &mut |_| {})
    }

    /// As [`Database::verify`], and tells `progress` after each page how far it is.
    ///
    /// # Errors
    /// As [`Database::verify`].
    pub fn verify_with(&self, mut progress: impl FnMut(crate::verify::Progress)) -> Result<crate::verify::Report> {
        self.shared().owner.check()?;
        crate::verify::verify(self.shared(), Depth::Full, &mut progress)
    }

    /// Makes a checkpoint and closes the database: what a drop would do, and the error that it would hide. Other handles on it
    /// stay valid; the files are released with the last. If nothing was committed after the checkpoint, the database is marked as closed
    /// cleanly then, and the next open need not read the log.
    ///
    /// # Errors
    /// Those of [`Database::checkpoint`].
    pub fn close(self) -> Result<()> {
        self.shared().owner.check()?;
        let shared = self.shared();
        if shared.options.read_only {
            return Ok(());
        }
        shared.health.check()?;
        // First, so that the log ends where the checkpoint says.
        shared.wal()?.close().map_err(|e| shared.log_failed(e))?;
        if shared.options.fault.is(Fault::MarkedCleanEarly) {
            shared.mark_early()?;
        }
        shared.checkpoint_now(Holds::Everything)?;
        shared.closed.store(true, Ordering::Release);
        match Arc::into_inner(self.handle) {
            Some(last) => last.finish(),
            None => Ok(()),
        }
    }

    /// How many pages of the data file sit in the kernel's page cache; `None` where the kernel can't tell (before 6.5).
    ///
    /// # Errors
    /// Errors of the operating system.
    pub fn page_cache_residue(&self) -> Result<Option<u64>> {
        self.shared().owner.check()?;
        Ok(self.shared().store().file().resident_pages()?)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.owner.is_forked_child() {
            // Nothing of the parent's is touched: no flush, no unlock, no free of memory that is not there.
            std::mem::forget(self.shared.clone());
            return;
        }
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "the database could not be closed on drop as it should be");
        }
    }
}
