//! Databases so small that everything happens all the time: splits, merges, evictions, frozen copies, checkpoints, recycled log
//! segments, keys and values at their limits.

use ashlar_disk::Fs;
use ashlardb::fault::Fault;
use ashlardb::{Background, Database, Options, QueueKind};
use rand::{Rng, RngExt};
use std::sync::Arc;

/// Bytes of a page, and of a block.
pub const PAGE_SIZE: usize = 4096;

/// What of a small database's shape is drawn for each test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Frames of the cache.
    pub frames: u64,
    /// Most entries a node.
    pub slots_max: u16,
    /// Bytes of log beyond the last checkpoint.
    pub log_limit: u64,
    /// Values longer than this are blobs.
    pub blob_threshold: usize,
    /// Bytes of log that recovery gathers.
    pub recovery_window: usize,
    /// Bytes of writes that may wait to be merged; `None`: the default.
    pub postponed_limit: Option<u64>,
    /// Whether they wait although their pages are in memory.
    pub postpone_always: bool,
    /// A deliberate mistake of the engine, where it can make any (feature `faults`).
    pub fault: Fault,
}

impl Geometry {
    /// The smallest, of which few operations make everything happen; its `Eventual` writes wait wherever their pages are.
    pub const SMALLEST: Geometry = Geometry {
        frames: 16,
        slots_max: 6,
        log_limit: 192 << 10,
        blob_threshold: 4096,
        recovery_window: 1,
        postponed_limit: None,
        postpone_always: true,
        fault: Fault::None,
    };

    /// A random one. Trees of height 3 need 16 frames; deeper ones more.
    pub fn draw(rng: &mut impl Rng) -> Geometry {
        let frames = [16, 16, 24, 48][rng.random_range(0..4)];
        Geometry {
            frames,
            slots_max: rng.random_range(if frames == 16 { 6 } else { 4 }..=8),
            log_limit: [128 << 10, 192 << 10, 512 << 10][rng.random_range(0..3)],
            blob_threshold: [4096, 6000, 16 << 10][rng.random_range(0..3)],
            recovery_window: [1, 2000, 32 << 20][rng.random_range(0..3)],
            postponed_limit: [None, None, Some(2000), Some(0)][rng.random_range(0..4)],
            postpone_always: rng.random_ratio(1, 3),
            fault: Fault::None,
        }
    }

    /// The options of such a database.
    pub fn options(&self, fs: Option<Arc<dyn Fs>>, background: Background) -> Options {
        let options = Database::options()
            .page_size(PAGE_SIZE)
            .block_size(4096)
            .cache_size(self.frames * PAGE_SIZE as u64)
            .slots_max(self.slots_max)
            .segment_size(64 << 10)
            .log_limit(self.log_limit)
            .grow_step(256 << 10)
            .blob_threshold(self.blob_threshold)
            // In half of them: what comes from memory says nothing of what is on disk.
            .blob_cache_size(if self.frames == 16 { 0 } else { 64 << 10 })
            .recovery_window(self.recovery_window)
            .postpone_always(self.postpone_always)
            .queue_kind(QueueKind::Threads)
            .background(background);
        let options = match self.postponed_limit {
            Some(bytes) => options.postponed_limit(bytes),
            None => options,
        };
        #[cfg(feature = "faults")]
        let options = options.fault(self.fault);
        match fs {
            Some(fs) => options.file_system(fs),
            None => options,
        }
    }
}
