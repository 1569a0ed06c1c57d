//! Histories on a simulated machine: several threads write, read, make checkpoints; the power goes or the process is killed
//! during any call to the disk, in recovery as well, again and again; after each the database must hold what [`history`] allows.
//!
//! A history is a number of *lives* of one database. Each life opens it, compares and verifies everything, goes on working, and
//! ends in a crash, a close or a drop. Everything about it comes from one seed.
//!
//! [`short`] enumerates instead: every short sequence, every crash.
//!
//! [`history`]: crate::history

mod events;
pub mod killed;
mod life;
mod reader;
pub mod short;
mod world;
mod writer;

use crate::geometry::Geometry;
use crate::lying::{Lie, LyingFs};
use ashlar_disk::Fs;
use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::fault::Fault;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

use life::{Ending, Life};

/// What of a history is set by the test, and not drawn.
#[derive(Clone, Debug)]
pub struct Setup {
    /// A sync that the file system leaves out.
    pub lie: Option<Lie>,
    /// A deliberate mistake of the engine.
    pub fault: Fault,
    /// Most lives.
    pub lives_max: u32,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { lie: None, fault: Fault::None, lives_max: 6 }
    }
}

/// What a history came to; equal for equal seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lives of the database.
    pub lives: u64,
    /// Lives that ended in a crash while the database was being opened.
    pub crashes_in_recovery: u64,
    /// Lives that ended in a crash later on.
    pub crashes_at_work: u64,
    /// Commits that were begun.
    pub commits: u64,
    /// Reads that were compared.
    pub reads: u64,
    /// Calls to the disk.
    pub calls: u64,
    /// A hash over every choice of the scheduler.
    pub trace: u64,
}

impl Summary {
    /// Adds another history's.
    pub fn add(&mut self, other: &Summary) {
        self.lives += other.lives;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.crashes_at_work += other.crashes_at_work;
        self.commits += other.commits;
        self.reads += other.reads;
        self.calls += other.calls;
        self.trace = self.trace.rotate_left(1) ^ other.trace;
    }
}

/// One database from its creation through several crashes.
///
/// # Errors
/// What went wrong, in words: a failure of the database, never of the machine.
pub fn history(seed: u64, setup: &Setup) -> Result<Summary, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let geometry = Geometry { fault: setup.fault, ..Geometry::draw(&mut rng) };
    let shape = world::Shape::draw(&mut rng);
    let mut sim = Arc::new(Sim::new(SimOptions::new(rng.random())));
    let mut past = life::Past::default();
    let mut summary = Summary::default();
    let lives = rng.random_range(2..=setup.lives_max.max(2));
    for number in 0..=lives {
        let last = number == lives;
        let crash = if last { Crash::Never } else { Crash::draw(&mut rng) };
        if let Crash::AtCall(n) = crash {
            sim.set_crash_at(Some(n));
        }
        let fs: Arc<dyn Fs> = sim.fs();
        let fs = setup.lie.map_or(fs.clone(), |lie| LyingFs::over(fs, lie));
        let life = Life { machine: sim.clone(), fs, crash, geometry, shape, seed: rng.random(), last };
        let told = format!("life {number} of {lives}, {geometry:?}, {shape:?}");
        let outcome = sim.run(move || life::live(&life, past));
        summary.trace = summary.trace.rotate_left(7) ^ outcome.trace;
        let (after, ending) = match (outcome.value, outcome.failure) {
            (Some(lived), None) => lived.map_err(|failure| format!("{told}: {failure}"))?,
            (_, failure) => return Err(format!("{told}: {}", failure.map_or("it did not return".into(), |f| f.to_string()))),
        };
        if outcome.abandoned > 0 || !outcome.left.is_empty() {
            return Err(format!("{told}: threads were left running: {:?}", outcome.left));
        }
        past = after;
        summary.count(ending, sim.calls());
        let how = if rng.random_ratio(2, 3) { Restart::PowerCut } else { Restart::Kill };
        sim = Arc::new(sim.restart(how, SimOptions::new(rng.random())));
    }
    summary.commits = past.commits;
    summary.reads = past.reads;
    Ok(summary)
}

impl Summary {
    fn count(&mut self, ending: Ending, calls: u64) {
        self.lives += 1;
        self.calls += calls;
        match ending {
            Ending::CrashInOpen => self.crashes_in_recovery += 1,
            Ending::CrashAtWork => self.crashes_at_work += 1,
            Ending::Stopped => {}
        }
    }
}

/// When a life's machine crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Crash {
    Never,
    /// During that call to the disk. Early ones are those of recovery: crashing in them again and again must end in the same state.
    AtCall(u64),
    /// During that call after the database has been opened and compared.
    AtWork(u64),
}

impl Crash {
    fn draw(rng: &mut ChaCha8Rng) -> Crash {
        let early = 1 << rng.random_range(2..9);
        let late = 1 << rng.random_range(3..10);
        match rng.random_range(0..8) {
            0 => Crash::Never,
            1..4 => Crash::AtCall(rng.random_range(1..=early)),
            _ => Crash::AtWork(rng.random_range(1..=late)),
        }
    }
}

/// Runs histories on as many threads as there are processors, from seed `first` on.
///
/// # Errors
/// The failure of the smallest seed that failed, with that seed, before all later ones have been run.
pub fn histories(first: u64, count: u64, setup: &Setup) -> Result<Summary, (u64, String)> {
    crate::seeds::run(first, count, |seed| history(seed, setup), Summary::add)
}
