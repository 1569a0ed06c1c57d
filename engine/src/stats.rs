//! Counters, as of now.

use crate::database::Shared;
use crate::store::SpaceUse;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Commits between two looks at whether a checkpoint is due.
const LOOK_EVERY: u64 = 64;

/// What the engine itself counts.
#[derive(Debug, Default)]
pub(crate) struct EngineCounters {
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoint_micros: AtomicU64,
    commits: AtomicU64,
    replayed: u64,
}

impl EngineCounters {
    pub(crate) fn replayed(replayed: u64) -> EngineCounters {
        EngineCounters { replayed, ..EngineCounters::default() }
    }

    /// Whether the open replayed commits and no checkpoint has been made since: the next open should not have to again.
    pub(crate) fn owes_checkpoint(&self) -> bool {
        self.replayed > 0 && self.checkpoints.load(Relaxed) == 0
    }

    /// Counts a commit; true every now and then.
    pub(crate) fn tick(&self) -> bool {
        self.commits.fetch_add(1, Relaxed).is_multiple_of(LOOK_EVERY)
    }
}

/// A database's counters since it was opened, and its sizes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of a page.
    pub page_size: usize,
    /// How the data file is used, in bytes.
    pub space: SpaceUse,
    /// Commits.
    pub commits: u64,
    /// Commits that the open found in the log beyond the last checkpoint.
    pub replayed: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Time they took.
    pub checkpoint_time: Duration,
    /// Page images read from the data file, and their bytes.
    pub pages_read: u64,
    /// Bytes read from the data file.
    pub bytes_read: u64,
    /// Page images written to the data file.
    pub pages_written: u64,
    /// Bytes written to the data file.
    pub bytes_written: u64,
    /// Writes that carried them.
    pub page_writes: u64,
    /// Times the data file grew.
    pub grown: u64,
    /// Times it became shorter.
    pub shrunk: u64,
    /// How transfers are kept in flight: `io_uring`, `threads` or `simulated`.
    pub queue: &'static str,
    /// The buffer pool's counters.
    pub pool: ashlar_bufferpool::PoolStats,
    /// The log's; none in a read-only database.
    pub log: Option<ashlar_wal::WalStats>,
    /// Before-images of recent commits in memory.
    pub versions: u64,
    /// Bytes that they take, about.
    pub version_bytes: u64,
    /// Writes that are applied and wait in memory to be merged into their trees.
    pub postponed: u64,
    /// Bytes that they take, about.
    pub postponed_bytes: u64,
    /// Writes that are kept beside their trees, since their pages can't be read.
    pub stranded: u64,
    /// Bytes of large values that were read and are kept in memory.
    pub blob_cache_bytes: u64,
    /// Reads of large values that found them there.
    pub blob_cache_hits: u64,
    /// Reads of large values that did not.
    pub blob_cache_misses: u64,
    /// Live snapshots and transactions.
    pub snapshots: u64,
    /// Newest LSN that readers see.
    pub watermark: u64,
    /// Why the database takes no writes, if it does not.
    pub read_only: Option<String>,
}

impl Stats {
    pub(crate) fn of(shared: &Shared) -> Stats {
        let store = shared.store();
        let counters = &store.counters;
        let (postponed, postponed_bytes) = shared.postponed.size();
        let (blob_cache_bytes, blob_cache_hits, blob_cache_misses) = store.blob_cache().counts();
        Stats {
            page_size: store.page_size(),
            space: store.space_use(),
            commits: shared.counters.commits.load(Relaxed),
            replayed: shared.counters.replayed,
            checkpoints: shared.counters.checkpoints.load(Relaxed),
            checkpoint_time: Duration::from_micros(shared.counters.checkpoint_micros.load(Relaxed)),
            pages_read: counters.pages_read.load(Relaxed),
            bytes_read: counters.bytes_read.load(Relaxed),
            pages_written: counters.pages_written.load(Relaxed),
            bytes_written: counters.bytes_written.load(Relaxed),
            page_writes: counters.writes.load(Relaxed),
            grown: counters.grown.load(Relaxed),
            shrunk: counters.shrunk.load(Relaxed),
            queue: store.queue().kind(),
            pool: shared.pool.stats(),
            log: shared.log.as_ref().map(ashlar_wal::Wal::stats),
            versions: shared.versions.entries(),
            version_bytes: shared.versions.bytes(),
            postponed: postponed as u64,
            postponed_bytes,
            stranded: shared.postponed.stranded() as u64,
            blob_cache_bytes,
            blob_cache_hits,
            blob_cache_misses,
            snapshots: shared.versions.slots.count() as u64,
            watermark: shared.visible.watermark(),
            read_only: shared.health.failed().then(|| shared.health.cause().to_string()),
        }
    }
}
