//! Histories of transactions, snapshots and plain reads in many threads, on a simulated machine that may crash at any call: checked for
//! strict serializability, in the order of the commits' LSNs.
//!
//! [`crate::history`] is told no order and finds one that explains what it sees. Here every commit's LSN is known, and the LSN at which each
//! transaction and snapshot reads: the order of LSNs is the claim, and everything that anybody was shown must agree with it. So a
//! single wrong read is noticed, wherever it happens; what has to hold is in `check`.
//!
//! A history is a number of lives of one database. Everything about it comes from one seed.
//!
//! Reading order: `record` (what is noted), `seen` (a read and what it should have given), `timeline` (the state at every LSN), `check`,
//! `world`, `source`, `worker`, `transaction` (what the threads do), `life`.

mod check;
mod life;
mod record;
mod seen;
mod source;
mod timeline;
mod transaction;
mod worker;
mod world;

use crate::state::State;
use crate::workload::Keys;
use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::btree::limits;
use ashlardb::fault::Fault;
use check::Possible;
use life::{Crash, Ending, Life};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use world::Shape;

/// What of a history is set by the test, and not drawn.
#[derive(Clone, Debug)]
pub struct Setup {
    /// A deliberate mistake of the engine.
    pub fault: Fault,
    /// Most lives.
    pub lives_max: u32,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { fault: Fault::None, lives_max: 3 }
    }
}

/// What a history came to; equal for equal seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lives of the database.
    pub lives: u64,
    /// Lives that ended in a crash after the database had been opened.
    pub crashes_at_work: u64,
    /// Commits that took an LSN.
    pub commits: u64,
    /// Transactions.
    pub transactions: u64,
    /// Those that lost to another.
    pub conflicts: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Reads that were compared.
    pub reads: u64,
    /// Reads that failed since their snapshot had been taken away.
    pub too_old: u64,
    /// A hash over every choice of the scheduler.
    pub trace: u64,
}

impl Summary {
    /// Adds another history's.
    pub fn add(&mut self, other: &Summary) {
        self.lives += other.lives;
        self.crashes_at_work += other.crashes_at_work;
        self.commits += other.commits;
        self.transactions += other.transactions;
        self.conflicts += other.conflicts;
        self.snapshots += other.snapshots;
        self.reads += other.reads;
        self.too_old += other.too_old;
        self.trace = self.trace.rotate_left(1) ^ other.trace;
    }

    fn count(&mut self, records: &record::Records) {
        let of_transaction = |t: &record::Transaction| t.steps.iter().filter(|s| matches!(s, record::Step::Read(_))).count();
        self.commits += records.commits.len() as u64;
        self.transactions += records.transactions.len() as u64;
        self.conflicts += records.transactions.iter().filter(|t| t.end == record::End::Conflict).count() as u64;
        self.snapshots += records.views.len() as u64;
        self.reads += records.plains.len() as u64;
        self.reads += records.views.iter().map(|v| v.reads.len()).sum::<usize>() as u64;
        self.reads += records.transactions.iter().map(of_transaction).sum::<usize>() as u64;
        self.too_old += records.too_old;
    }
}

/// One database from its creation through some crashes, or none.
///
/// # Errors
/// What went wrong, in words: a failure of the database, never of the machine.
pub fn history(seed: u64, setup: &Setup) -> Result<Summary, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let shape = Shape::draw(&mut rng, setup.fault);
    let key_len_max = shape.key_len_max.min(limits(crate::geometry::PAGE_SIZE).key_max);
    let keys = Keys::draw(&mut rng, shape.keys, key_len_max);
    let mut sim = Arc::new(Sim::new(SimOptions::new(rng.random())));
    let mut summary = Summary::default();
    let (mut possible, mut made) = (Possible::only(State::new()), false);
    let lives = rng.random_range(1..=setup.lives_max.max(1));
    for number in 1..=lives {
        let crash = if lives == 1 { Crash::Never } else { draw_crash(&mut rng) };
        if let Crash::AtCall(n) = crash {
            sim.set_crash_at(Some(n));
        }
        let tag = u64::from(number) << 32;
        let (machine, fs, seed) = (sim.clone(), sim.fs(), rng.random());
        let life = Life { machine, fs, crash, shape, keys: keys.clone(), seed, tag, possible: possible.clone(), made };
        let told = |text: String| format!("life {number} of {lives}, {crash:?}, {shape:?}: {text}");
        let outcome = sim.run(move || life::live(&life));
        summary.trace = summary.trace.rotate_left(7) ^ outcome.trace;
        let ending = match (outcome.value, outcome.failure) {
            (Some(Ok(ending)), None) => ending,
            (Some(Err(text)), _) => return Err(told(text)),
            (_, failure) => return Err(told(failure.map_or("it did not return".into(), |f| f.to_string()))),
        };
        if outcome.abandoned > 0 || !outcome.left.is_empty() {
            return Err(told(format!("threads were left running: {:?}", outcome.left)));
        }
        summary.lives += 1;
        possible = match ending {
            Ending::CrashInOpen => possible,
            Ending::CrashAtWork(base, records) => {
                made = true;
                summary.crashes_at_work += 1;
                summary.count(&records);
                check::check(base, &records, keys.all()).map_err(told)?
            }
            Ending::Stopped(base, records, seen) => {
                made = true;
                summary.count(&records);
                let left = check::check(base, &records, keys.all()).map_err(told)?;
                let last = left.states.into_iter().next_back().unwrap_or_default();
                if let Some(text) = seen.and_then(|seen| crate::state::difference(&last, &seen)) {
                    return Err(told(format!("at the end: {text}")));
                }
                Possible::only(last)
            }
        };
        let how = if rng.random_ratio(2, 3) { Restart::PowerCut } else { Restart::Kill };
        sim = Arc::new(sim.restart(how, SimOptions::new(rng.random())));
    }
    Ok(summary)
}

fn draw_crash(rng: &mut ChaCha8Rng) -> Crash {
    let most = 1 << rng.random_range(3..9);
    match rng.random_range(0..16) {
        0 | 1 => Crash::Never,
        2 | 3 => Crash::AtCall(rng.random_range(1..=2 * most)),
        _ => Crash::AtWork(rng.random_range(1..=most)),
    }
}

/// Runs histories on as many threads as there are processors, from seed `first` on.
///
/// # Errors
/// The failure of the smallest seed that failed, with that seed, before all later ones have been run.
pub fn histories(first: u64, count: u64, setup: &Setup) -> Result<Summary, (u64, String)> {
    crate::seeds::run(&crate::seeds::Seeds::new(first, count), |seed| history(seed, setup), Summary::add)
}
