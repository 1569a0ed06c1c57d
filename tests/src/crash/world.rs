//! What the threads of a life share, and what they report.

use super::events::{Event, Pipe};
use super::judge::Judge;
pub(super) use super::judge::Stop;
use crate::geometry::Geometry;
use crate::history::Moment;
use crate::workload::Keys;
use ashlardb::{Database, Error};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What the threads of a history do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Threads that write.
    pub(super) writers: u16,
    /// Most commits of a thread in a life.
    pub(super) commits_max: u32,
    /// Keys of a keyspace, at most.
    pub(super) keys: usize,
    /// Of 16: how many commits ask for durability.
    pub(super) immediate: u32,
    /// Whether whole keyspaces are made, dropped and cleared.
    pub(super) whole: bool,
    /// Whether the database has threads of its own.
    pub(super) threads: bool,
}

impl Shape {
    /// A random one.
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Shape {
        Shape {
            writers: rng.random_range(1..=4),
            commits_max: [4, 20, 80][rng.random_range(0..3)],
            keys: [8, 24, 60][rng.random_range(0..3)],
            immediate: [1, 8, 15][rng.random_range(0..3)],
            whole: rng.random(),
            threads: rng.random(),
        }
    }
}

/// What the threads of a life share.
pub(super) struct World {
    pub(super) db: Database,
    pub(super) geometry: Geometry,
    pub(super) shape: Shape,
    pub(super) keys: Keys,
    pub(super) judge: Arc<Judge>,
    clock: AtomicU64,
    /// Writers that have not ended.
    pub(super) working: AtomicUsize,
    /// Where what happens is told at once, if it is: this process may be killed at any moment.
    pipe: Option<Pipe>,
}

impl World {
    /// A world around an open database.
    pub(super) fn new(db: Database, geometry: Geometry, shape: Shape, keys: Keys, judge: Arc<Judge>) -> World {
        let (clock, working) = (AtomicU64::new(1), AtomicUsize::new(0));
        World { db, geometry, shape, keys, judge, clock, working, pipe: None }
    }

    /// The same, telling what happens.
    pub(super) fn telling(self, pipe: Pipe) -> World {
        World { pipe: Some(pipe), ..self }
    }

    /// Tells an event, if anybody listens.
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(pipe) = &self.pipe {
            pipe.send(&event());
        }
    }

    /// Whether the database has failed: from then on reads show what is visible, and an `Eventual` commit that had returned and waited for
    /// an older one to be durable is not.
    pub(super) fn has_failed(&self) -> bool {
        self.db.stats().read_only.is_some()
    }

    /// The moment that begins now.
    pub(super) fn now(&self) -> Moment {
        self.clock.fetch_add(1, Relaxed)
    }

    /// What an error means.
    pub(super) fn stop(&self, what: &str, error: &Error) -> Stop {
        self.judge.stop(what, error)
    }
}
