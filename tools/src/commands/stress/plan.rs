//! What a child is to do: one JSON argument on its command line, so that a life can be started again by hand.

use super::journal::Journal;
use super::ops::Size;
use ashlar_disk::real::{RealFs, RealOptions};
use ashlar_tests::lying;
use ashlardb::{Background, Database, Options, QueueKind, SyncMethod};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum End {
    /// It works until it is killed.
    Killed,
    /// It only opens the database, and waits for the end of stdin.
    Idle,
    /// It works for a while, and closes the database.
    Close,
    /// It works for a while, and drops it.
    Drop,
}

/// One life of a database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The database's directory.
    pub(super) db: PathBuf,
    /// Where it tells what it does; stdout if nowhere else.
    pub(super) journal: Option<PathBuf>,
    pub(super) seed: u64,
    pub(super) life: u32,
    /// The number of each writer's next commit.
    pub(super) next: Vec<u32>,
    /// How long it works, if it ends by itself.
    pub(super) millis: u64,
    pub(super) end: End,
    pub(super) size: Size,
    /// For a test of the test.
    pub(super) lie: Option<Lie>,
    /// This queue, not one that is drawn.
    pub(super) queue: Option<Queue>,
}

/// A mistake that must be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Lie {
    /// `Eventual` commits are told as confirmed `Immediate`.
    Confirms,
    /// The engine leaves out syncs.
    LeavesOut(lying::Lie),
}

/// Kinds of queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Queue {
    Uring,
    Threads,
}

impl Plan {
    /// The options with which this life opens the database. Sizes of a new one follow from the seed, the rest from the life as well.
    pub(super) fn options(&self) -> Options {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x0970_1095);
        let (page, segment) =
            ([4096, 8192, 16384][rng.random_range(0..3)], [256 << 10, 1 << 20, 4 << 20][rng.random_range(0..3)]);
        let options = Options::new().page_size(page).segment_size(segment).log_limit(segment * [8, 16][rng.random_range(0..2)]);
        let mut rng = self.rng();
        let queue = match self.queue {
            Some(Queue::Uring) => QueueKind::Uring,
            Some(Queue::Threads) => QueueKind::Threads,
            None => [QueueKind::Best, QueueKind::Threads][rng.random_range(0..2)],
        };
        options
            .cache_size([2 << 20, 4 << 20, 16 << 20][rng.random_range(0..3)])
            .queue_kind(queue)
            .sync_method([SyncMethod::Dsync, SyncMethod::Fdatasync][rng.random_range(0..2)])
            .grow_step([256 << 10, 1 << 20, 4 << 20][rng.random_range(0..3)])
            .eventual_bound(Duration::from_millis([1, 20, 100][rng.random_range(0..3)]))
            .recovery_window([64 << 10, 1 << 20, 32 << 20][rng.random_range(0..3)])
            .background(if self.manual() { Background::Manual } else { Background::Threads })
    }

    /// Opens the database for this life.
    pub(super) fn open(&self) -> Result<Database, String> {
        let mut options = self.options();
        if let Some(Lie::LeavesOut(what)) = self.lie {
            let real = RealFs::new(RealOptions::default()).map_err(|e| e.to_string())?;
            options = options.file_system(lying::LyingFs::over(real, what));
        }
        options.open(&self.db).map_err(|e| format!("opening {}: {e}", self.db.display()))
    }

    /// Whether the keeper does the background's work.
    pub(super) fn manual(&self) -> bool {
        self.life % 5 == 4
    }

    fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed ^ u64::from(self.life).wrapping_mul(0xA24B_AED4_963E_E407))
    }

    /// Opens what it tells to.
    pub(super) fn journal(&self) -> Result<Journal, String> {
        let file = match &self.journal {
            Some(path) => std::fs::OpenOptions::new().append(true).open(path),
            None => nix::unistd::dup(std::io::stdout()).map(Into::into).map_err(Into::into),
        };
        file.map(Journal::to_file).map_err(|e| format!("the journal: {e}"))
    }
}
