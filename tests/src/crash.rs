//! Histories on a simulated machine: several threads write, read, make checkpoints; the power goes or the process is killed
//! during any call to the disk, in recovery as well, again and again, and the disk may have faults; after each life the database must
//! hold what [`history`] allows.
//!
//! A history is a number of *lives* of one database. Each life opens it, compares and verifies everything, goes on working, and
//! ends in a crash, a close or a drop. Nothing goes wrong in the last one. Everything about it comes from one seed.
//!
//! With *tolerable* faults (the disk tells of them) every call may fail with an error that says so; nothing that was confirmed is lost, what
//! was refused has no effect, and once the faults stop the database opens with everything. With *corrupting* ones it may also say that it
//! is damaged, or not open any more; what it gives is right. See `faults` and `judge`.
//!
//! [`short`] enumerates instead: every short sequence, every crash; [`cut`] every cut of a long record. [`minimize`] makes a failing history small.
//!
//! [`history`]: crate::history

#[cfg(feature = "faults")]
pub mod cut;
mod events;
mod faults;
mod judge;
pub mod killed;
mod life;
pub mod minimize;
mod past;
mod reader;
mod setup;
pub mod short;
mod summary;
mod world;
mod writer;

use crate::geometry::Geometry;
use crate::lying::LyingFs;
use crate::seeds::Seeds;
use ashlar_disk::Fs;
use ashlar_disk::sim::{Restart, Sim, SimOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

pub use faults::Faults;
use faults::Plan;
use judge::Class;
use life::Life;
pub use setup::{Caps, Setup};
pub use summary::{Failure, Summary};

/// One database from its creation through several crashes.
///
/// # Errors
/// What went wrong: a failure of the database, never of the machine.
pub fn history(seed: u64, setup: &Setup) -> Result<Summary, Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Draws of their own, so that faults change nothing else.
    let mut fault_rng = ChaCha8Rng::seed_from_u64(seed ^ 0xFA17_FA17);
    let faults = setup.faults.of_history(&mut fault_rng);
    let class = match (faults.kinds.is_empty(), faults.corrupt()) {
        (true, _) => Class::Whole,
        (false, false) => Class::Tolerable,
        (false, true) => Class::Corrupting,
    };
    let geometry = Geometry { fault: setup.fault, ..Geometry::draw(&mut rng) };
    let mut shape = world::Shape::draw(&mut rng);
    shape.threads &= !setup.caps.manual;
    let mut sim = Arc::new(Sim::new(SimOptions::new(rng.random())));
    let mut past = past::Past::new(class);
    let mut summary = Summary { histories: 1, ..Summary::default() };
    let lives = rng.random_range(2..=setup.lives_max.max(2)).min(setup.caps.lives.unwrap_or(u32::MAX));
    let mut failure = Failure { life: 0, lives, crashes: Vec::new(), faults: Vec::new(), text: String::new() };
    for number in 0..=lives {
        let last = number == lives;
        let crash = if last { Crash::Never } else { Crash::draw(&mut rng) };
        let crash = match setup.caps.crashes.get(&number) {
            Some(call) => call.map_or(Crash::Never, Crash::AtCall),
            None if setup.faults.crashes => crash,
            None => Crash::Never,
        };
        let plan = Plan::draw(&faults, &mut fault_rng);
        let plan = if last { Plan::none() } else { plan };
        if let Crash::AtCall(n) = crash {
            sim.set_crash_at(Some(n));
        }
        let fs: Arc<dyn Fs> = sim.fs();
        let fs = setup.lie.map_or(fs.clone(), |lie| LyingFs::over(fs, lie));
        let caps = setup.caps.clone();
        let life = Life { machine: sim.clone(), fs, crash, plan, geometry, shape, caps, seed: rng.random(), last };
        let told = format!("{geometry:?}, {shape:?}");
        let outcome = sim.run(move || life::live(&life, past));
        summary.trace = summary.trace.rotate_left(7) ^ outcome.trace;
        failure.life = number;
        failure.faults.extend(sim.injected().iter().map(|fault| format!("life {number}: {fault}")));
        let wrong = |text: String| Failure { text: format!("{told}: {text}"), ..failure.clone() };
        let (after, ending) = match (outcome.value, outcome.failure) {
            (Some(lived), None) => lived.map_err(wrong)?,
            (_, failure) => return Err(wrong(failure.map_or("it did not return".into(), |f| f.to_string()))),
        };
        if outcome.abandoned > 0 || !outcome.left.is_empty() {
            return Err(wrong(format!("threads were left running: {:?}", outcome.left)));
        }
        past = after;
        summary.count(ending, sim.calls(), &sim.injected());
        if sim.has_crashed() {
            failure.crashes.push((number, sim.calls()));
        }
        let how = if rng.random_ratio(2, 3) { Restart::PowerCut } else { Restart::Kill };
        let how = if setup.faults.crashes { how } else { Restart::Kill };
        let faults_max = setup.caps.faults.map_or(u64::MAX, |max| max.saturating_sub(past.faults));
        sim = Arc::new(sim.restart(how, SimOptions { faults_max, ..SimOptions::new(rng.random()) }));
    }
    past.enter(&mut summary);
    Ok(summary)
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
pub fn histories(first: u64, count: u64, setup: &Setup) -> Result<Summary, (u64, Failure)> {
    run(&Seeds::new(first, count), setup, &|_| {})
}

/// Runs the histories of some seeds. `told` is called after each with what it came to, by any thread.
///
/// # Errors
/// As of [`histories`].
pub fn run(seeds: &Seeds, setup: &Setup, told: &(dyn Fn(&Summary) + Sync)) -> Result<Summary, (u64, Failure)> {
    crate::seeds::run(seeds, |seed| history(seed, setup).inspect(told), Summary::add)
}
