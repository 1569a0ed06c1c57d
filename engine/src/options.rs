//! How a database is opened.

use crate::database::Database;
use crate::error::{Error, Result};
use crate::fault::Fault;
use ashlar_disk::real::SyncMethod;
use ashlar_disk::{Fs, IoMode, QueueKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Whether opening makes a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Create {
    /// Opens what is there, makes it if there is nothing.
    #[default]
    IfMissing,
    /// Opens what is there; nothing there is an error.
    Never,
    /// Makes a new one; one that is there is an error.
    Always,
}

/// Who does the work that no caller waits for: checkpoints, log flushes of `Eventual` commits, write-back ahead of need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Background {
    /// Threads of the database.
    #[default]
    Threads,
    /// The caller, by [`Database::maintain`] and [`Database::checkpoint`]; what can't wait is done by whoever needs it.
    Manual,
}

/// What must have happened when a commit returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// It survives power loss.
    #[default]
    Immediate,
    /// It is applied, and durable within [`Options::eventual_bound`] or with the next `Immediate` commit or
    /// [`Database::flush`]; order is kept: if it survives, all earlier commits do.
    Eventual,
}

/// Options of an open. Each has a default that fits most uses.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) create: Create,
    pub(crate) read_only: bool,
    pub(crate) cache_size: Option<u64>,
    pub(crate) page_size: usize,
    pub(crate) block_size: usize,
    pub(crate) segment_size: u64,
    pub(crate) log_limit: Option<u64>,
    pub(crate) wal_dir: Option<PathBuf>,
    pub(crate) io_mode: IoMode,
    pub(crate) sync_method: SyncMethod,
    pub(crate) queue_kind: QueueKind,
    pub(crate) queue_depth: u32,
    pub(crate) allow_network_fs: bool,
    pub(crate) background: Background,
    pub(crate) durability: Durability,
    pub(crate) eventual_bound: Duration,
    pub(crate) grow_step: u64,
    pub(crate) slots_max: u16,
    pub(crate) trim_every: Option<usize>,
    pub(crate) prune_every: Option<usize>,
    pub(crate) bulk_lot: usize,
    pub(crate) blob_threshold: usize,
    pub(crate) blob_cache_size: Option<u64>,
    pub(crate) recovery_window: Option<usize>,
    pub(crate) transaction_limit: u64,
    pub(crate) versions_limit: Option<u64>,
    pub(crate) postponed_limit: Option<u64>,
    pub(crate) postpone_always: bool,
    pub(crate) stranded_limit: Option<u64>,
    pub(crate) file_system: Option<Arc<dyn Fs>>,
    pub(crate) fault: Fault,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            create: Create::IfMissing,
            read_only: false,
            cache_size: None,
            page_size: 8192,
            block_size: 4096,
            segment_size: 16 << 20,
            log_limit: None,
            wal_dir: None,
            io_mode: IoMode::Direct,
            sync_method: SyncMethod::default(),
            queue_kind: QueueKind::Best,
            queue_depth: 128,
            allow_network_fs: false,
            background: Background::Threads,
            durability: Durability::Immediate,
            eventual_bound: Duration::from_millis(100),
            grow_step: 4 << 20,
            slots_max: 0,
            trim_every: None,
            prune_every: None,
            bulk_lot: 256 << 10,
            blob_threshold: 64 << 10,
            blob_cache_size: None,
            recovery_window: None,
            transaction_limit: 1 << 30,
            versions_limit: None,
            postponed_limit: None,
            postpone_always: false,
            stranded_limit: None,
            file_system: None,
            fault: Fault::None,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// Whether a database is made where there is none. Default: [`Create::IfMissing`].
    pub fn create(mut self, create: Create) -> Options {
        self.create = create;
        self
    }

    /// Opens without writing anything: beside other read-only opens, never beside a writer. What the log holds beyond the last
    /// checkpoint is replayed in memory; if that does not fit the cache, opening fails and names the size needed.
    pub fn read_only(mut self, read_only: bool) -> Options {
        self.read_only = read_only;
        self
    }

    /// Bytes of memory for pages. Default: a quarter of RAM, or of the cgroup's limit where that is smaller. At least 16 pages.
    /// Beside it up to a sixteenth of it, at most 16 MiB, is kept for the transfers of large values and bulk loads once there were some, and
    /// a sixteenth for large values that were read ([`Options::blob_cache_size`]).
    pub fn cache_size(mut self, bytes: u64) -> Options {
        self.cache_size = Some(bytes);
        self
    }

    /// Bytes of a page of a new database: a power of two from 4096 to 65536. Default: 8192.
    pub fn page_size(mut self, bytes: usize) -> Options {
        self.page_size = bytes;
        self
    }

    /// Bytes of a block of a new database, the unit of all I/O: a power of two from 4096 up to the page size. Default: 4096, or
    /// more where the device needs it.
    pub fn block_size(mut self, bytes: usize) -> Options {
        self.block_size = bytes;
        self
    }

    /// Bytes of a log segment of a new database: a power of two from 64 KiB to 1 GiB. Default: 16 MiB.
    pub fn segment_size(mut self, bytes: u64) -> Options {
        self.segment_size = bytes;
        self
    }

    /// Bytes of log that may lie beyond the last checkpoint; a commit's record is at most a quarter of it. Default: a quarter of
    /// the data, within 64 MiB and 1 GiB; two segments at least.
    pub fn log_limit(mut self, bytes: u64) -> Options {
        self.log_limit = Some(bytes);
        self
    }

    /// Where a new database keeps its log, for example on another device. Default: `wal` in the database's directory. A relative
    /// path is relative to the database's directory.
    pub fn wal_dir(mut self, dir: impl Into<PathBuf>) -> Options {
        self.wal_dir = Some(dir.into());
        self
    }

    /// Direct I/O, or (opt-in, never by itself) through the kernel's page cache. Default: direct.
    pub fn io_mode(mut self, mode: IoMode) -> Options {
        self.io_mode = mode;
        self
    }

    /// How a durable write of the log is made; which is cheaper differs by device, and `ashlar probe` measures it. Default: the
    /// write itself says so (`RWF_DSYNC`).
    pub fn sync_method(mut self, method: SyncMethod) -> Options {
        self.sync_method = method;
        self
    }

    /// How transfers are kept in flight. Default: `io_uring` where the kernel allows it, else threads.
    pub fn queue_kind(mut self, kind: QueueKind) -> Options {
        self.queue_kind = kind;
        self
    }

    /// Permits a network file system, where direct I/O bypasses only the client's cache and a server may confirm what it has not
    /// stored. Default: refused.
    pub fn allow_network_fs(mut self, allow: bool) -> Options {
        self.allow_network_fs = allow;
        self
    }

    /// Who does background work. Default: threads of the database.
    pub fn background(mut self, background: Background) -> Options {
        self.background = background;
        self
    }

    /// Durability of commits that don't say. Default: [`Durability::Immediate`].
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// How long after an `Eventual` commit the flush that makes it durable begins at the latest. Default: 100 ms. With
    /// [`Background::Manual`] it begins with [`Database::maintain`].
    pub fn eventual_bound(mut self, bound: Duration) -> Options {
        self.eventual_bound = bound;
        self
    }

    /// Bytes by which the data file grows at least, and that stay free at its end when it gets shorter by itself. Default:
    /// 4 MiB; more than 1 GiB is taken for 1 GiB.
    pub fn grow_step(mut self, bytes: u64) -> Options {
        self.grow_step = bytes;
        self
    }

    /// Values longer than this many bytes are written to extents of their own instead of through the log. Default: 64 KiB.
    pub fn blob_threshold(mut self, bytes: usize) -> Options {
        self.blob_threshold = bytes;
        self
    }

    /// Bytes of memory for values beyond [`Options::blob_threshold`] that were read, for whoever reads them again. Default: what pages have
    /// not taken of the cache yet, and a sixteenth of the cache at least. One value may take a quarter of it. Streams find what
    /// is there and leave nothing. 0: each is read from the device every time.
    pub fn blob_cache_size(mut self, bytes: u64) -> Options {
        self.blob_cache_size = Some(bytes);
        self
    }

    /// Bytes of log that recovery gathers before it applies them in key order; half as many more may be read ahead of that. Default: a
    /// quarter of the cache, but 32 MiB at least and 256 MiB at most.
    pub fn recovery_window(mut self, bytes: usize) -> Options {
        self.recovery_window = Some(bytes);
        self
    }

    /// Bytes of memory that the writes of one transaction or batch may take, and what a removal of a range keeps until nobody can see it
    /// any more. Default: 1 GiB. The log's limit bounds them, too ([`Options::log_limit`]).
    pub fn transaction_limit(mut self, bytes: u64) -> Options {
        self.transaction_limit = bytes;
        self
    }

    /// Bytes of memory for what keys held before recent commits, which older snapshots read. Where it is not enough, the oldest
    /// snapshots are taken away ([`Error::SnapshotTooOld`]). Default: 16 MiB and an eighth of the cache.
    pub fn versions_limit(mut self, bytes: u64) -> Options {
        self.versions_limit = Some(bytes);
        self
    }

    /// Bytes of writes that may wait in memory, beside the cache, to be merged into the trees many at a time, where the pages that
    /// they change are not in memory: such a write does not wait for a read then. It is found by every read at once; where its page can't be
    /// read when it is merged, it is kept beside its tree until the page can be read again ([`Stats::stranded`](crate::Stats::stranded)), instead
    /// of being refused. Default: a quarter of the cache, but 32 MiB at most, and an eighth of the log's limit. 0: every write reads its page
    /// before it is committed, and an open after a crash those of all writes in the log; else these may wait likewise, where they are nothing
    /// but puts and removals of keys and take no more than a quarter of the cache.
    pub fn postponed_limit(mut self, bytes: u64) -> Options {
        self.postponed_limit = Some(bytes);
        self
    }

    /// Bytes of writes that may be kept beside their trees: for tests. Default: 64 MiB, or twice what may wait if that was set to more.
    #[doc(hidden)]
    pub fn stranded_limit(mut self, bytes: u64) -> Options {
        self.stranded_limit = Some(bytes);
        self
    }

    /// Whether writes wait to be merged into the trees wherever their pages are: for tests. Default: where these are not in memory.
    #[doc(hidden)]
    pub fn postpone_always(mut self, always: bool) -> Options {
        self.postpone_always = always;
        self
    }

    /// At most this many entries a tree node, so that small databases have deep trees: for tests. Default: 0, as many as fit.
    #[doc(hidden)]
    pub fn slots_max(mut self, slots: u16) -> Options {
        self.slots_max = slots;
        self
    }

    /// After so many commits the list of recent ones is trimmed, and after so many before-images those that nobody needs go: so that in
    /// short runs they go as early as they may. For tests. Default: as many as cost little.
    #[doc(hidden)]
    pub fn tend_every(mut self, commits: usize, before_images: usize) -> Options {
        (self.trim_every, self.prune_every) = (Some(commits), Some(before_images));
        self
    }

    /// Bytes of entries that a bulk load hands at once to the thread that builds its pages, a quarter of what that hands to the one that
    /// writes them. For tests. Default: 256 KiB.
    #[doc(hidden)]
    pub fn bulk_lot(mut self, bytes: usize) -> Options {
        self.bulk_lot = bytes;
        self
    }

    /// The file system to work on: for tests on a simulated disk. Default: the operating system's.
    #[doc(hidden)]
    pub fn file_system(mut self, fs: Arc<dyn Fs>) -> Options {
        self.file_system = Some(fs);
        self
    }

    /// A deliberate mistake: for tests of the crash harness. Default: none.
    #[cfg(feature = "faults")]
    #[doc(hidden)]
    pub fn fault(mut self, fault: Fault) -> Options {
        self.fault = fault;
        self
    }

    /// Opens the database in directory `path`, making it if need be.
    ///
    /// # Errors
    /// Among others: [`Error::Locked`], [`Error::NotADatabase`], [`Error::UnknownFormat`], [`Error::Corrupt`],
    /// [`Error::WalCorrupted`], [`Error::DirectIoUnsupported`], [`Error::Alignment`], [`Error::InvalidOption`],
    /// [`Error::CacheTooSmall`] (read-only, with much to replay).
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        Database::open_with(path.as_ref(), self)
    }

    fn check(&self) -> Result<()> {
        let power = |n: u64, min: u64, max: u64| n.is_power_of_two() && (min..=max).contains(&n);
        let complain = |option, reason: String| Err(Error::InvalidOption { option, reason });
        if !power(self.page_size as u64, 4096, 65536) {
            return complain("page_size", format!("{} is no power of two from 4096 to 65536", self.page_size));
        }
        if !power(self.block_size as u64, 4096, self.page_size as u64) {
            return complain("block_size", format!("{} is no power of two from 4096 to the page size", self.block_size));
        }
        if !power(self.segment_size, 64 << 10, 1 << 30) {
            return complain("segment_size", format!("{} is no power of two from 64 KiB to 1 GiB", self.segment_size));
        }
        if self.log_limit.is_some_and(|l| l < self.segment_size.saturating_mul(2)) {
            return complain("log_limit", format!("less than two segments of {} bytes", self.segment_size));
        }
        if self.blob_threshold < 4096 || self.blob_threshold > 1 << 20 {
            return complain("blob_threshold", format!("{} is not from 4096 to 1 MiB", self.blob_threshold));
        }
        if self.wal_dir.as_ref().is_some_and(|d| d.to_str().is_none_or(|s| s.len() > crate::store::superblock::WAL_DIR_LEN_MAX)) {
            return complain("wal_dir", "longer than 1024 bytes, or not UTF-8".into());
        }
        Ok(())
    }
}
