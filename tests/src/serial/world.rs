//! What the threads of a life share, and what is drawn for it.

use crate::geometry::Geometry;
use crate::history::Moment;
use crate::stop::{Stop, stop};
use crate::workload::Keys;
use ashlar_disk::Fs;
use ashlar_disk::sim::Sim;
use ashlar_disk::sync::Mutex;
use ashlardb::fault::Fault;
use ashlardb::{Background, Database, Error, Options};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::record::Records;

/// The keyspace that is never dropped, and the one that comes and goes.
pub(super) const LASTING: &str = "lasting";
pub(super) const PASSING: &str = "passing";

/// What the threads of a history do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) geometry: Geometry,
    /// Bytes for before-images: so few that snapshots are taken away, or as many as it takes.
    pub(super) versions_limit: Option<u64>,
    /// See [`Options::tend_every`].
    tend_every: (usize, usize),
    pub(super) threads: usize,
    /// Most things that a thread does in a life.
    pub(super) deeds_max: usize,
    pub(super) keys: usize,
    /// Most bytes of a key, as far as they are that few.
    pub(super) key_len_max: usize,
    /// Of 24: how many values may be long.
    pub(super) long: u32,
    /// Of 16: how many commits ask for durability.
    pub(super) immediate: u32,
    /// Of 16: how many deeds are about the keyspace that comes and goes.
    pub(super) passing: u32,
    /// Whether the database has threads of its own.
    background: bool,
    /// Whether somebody makes checkpoints and does maintenance all the time.
    pub(super) keeper: bool,
}

impl Shape {
    /// A random one.
    pub(super) fn draw(rng: &mut ChaCha8Rng, fault: Fault) -> Shape {
        let threads = rng.random_range(2..=8);
        let keys = [3, 6, 12, 24, 60][rng.random_range(0..5)];
        // The tree's height, and how many go down at the same time, ask for frames.
        let slots_max = rng.random_range(4..=6);
        let frames = if keys <= 12 && threads <= 5 { 16 } else { 24 };
        let geometry = Geometry {
            frames,
            slots_max,
            log_limit: [128 << 10, 192 << 10][rng.random_range(0..2)],
            blob_threshold: 4096,
            recovery_window: [1, 2000, 32 << 20][rng.random_range(0..3)],
            postponed_limit: [None, None, None, Some(4000)][rng.random_range(0..4)],
            postpone_always: rng.random_ratio(1, 2),
            fault,
        };
        Shape {
            geometry,
            versions_limit: rng.random_ratio(1, 6).then(|| rng.random_range(300..4000)),
            tend_every: ([1, 1, 4, 64][rng.random_range(0..4)], [1, 4, 64, 256][rng.random_range(0..4)]),
            threads,
            deeds_max: [3, 6, 12][rng.random_range(0..3)],
            keys,
            key_len_max: [8, 40, 4096][rng.random_range(0..3)],
            long: [0, 1, 8][rng.random_range(0..3)],
            immediate: [1, 8, 15][rng.random_range(0..3)],
            passing: [0, 2, 6][rng.random_range(0..3)],
            background: rng.random_ratio(1, 3),
            keeper: rng.random_ratio(2, 3),
        }
    }

    /// The options of such a database.
    pub(super) fn options(&self, fs: Arc<dyn Fs>) -> Options {
        let background = if self.background { Background::Threads } else { Background::Manual };
        let options = self.geometry.options(Some(fs), background).tend_every(self.tend_every.0, self.tend_every.1);
        // So little that loads are built by a thread of their own, where there may be one.
        let options = options.bulk_lot(64);
        match self.versions_limit {
            Some(bytes) => options.versions_limit(bytes),
            None => options,
        }
    }
}

/// What the threads of a life share.
pub(super) struct World {
    machine: Arc<Sim>,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) db: Database,
    pub(super) shape: Shape,
    pub(super) keys: Keys,
    pub(super) records: Mutex<Records>,
    /// Threads that have not ended, but for the keeper.
    pub(super) working: AtomicUsize,
    /// The LSN at which it begins.
    first_lsn: AtomicU64,
    clock: AtomicU64,
    tag: AtomicU64,
}

impl World {
    /// A world around an open database; `tag` is the first for its values.
    pub(super) fn new(machine: Arc<Sim>, fs: Arc<dyn Fs>, db: Database, shape: Shape, keys: Keys, tag: u64) -> World {
        let (records, working, clock) = (Mutex::default(), AtomicUsize::new(shape.threads), AtomicU64::new(1));
        World { machine, fs, db, shape, keys, records, working, first_lsn: AtomicU64::new(0), clock, tag: AtomicU64::new(tag) }
    }

    /// The LSN at which the threads begin.
    pub(super) fn first_lsn(&self) -> u64 {
        self.first_lsn.load(Relaxed)
    }

    /// The threads begin now.
    pub(super) fn begin(&self) -> Result<(), Stop> {
        let snapshot = self.db.snapshot().map_err(|e| self.stop("snapshot", &e))?;
        self.first_lsn.store(snapshot.lsn(), Relaxed);
        Ok(())
    }

    /// The moment that begins now.
    pub(super) fn now(&self) -> Moment {
        self.clock.fetch_add(1, Relaxed)
    }

    /// A number that no value has.
    pub(super) fn next_tag(&self) -> u64 {
        self.tag.fetch_add(1, Relaxed)
    }

    /// Whether the machine has crashed.
    pub(super) fn has_crashed(&self) -> bool {
        self.machine.has_crashed()
    }

    /// What an error means: the crash, or a failure.
    pub(super) fn stop(&self, what: &str, error: &Error) -> Stop {
        stop(&*self.fs, what, error)
    }
}
