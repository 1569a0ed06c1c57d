//! Makes a failing history small: fewer lives, writers, commits, kinds of faults, faults and crashes, and crashes that come earlier, one
//! step at a time, each taken if the history still fails.
//!
//! What a small change does to the order of threads is as good as another seed, and so another seed is as good: while the shape gets
//! smaller each step may change it. With the seed that is left then, crashes and faults are pinned down. What comes out are a seed and
//! settings with which anybody can repeat it.

use super::{Failure, Setup, history};

/// Histories that are run for it at most.
const RUNS_MAX: u64 = 5000;
/// Seeds that are tried beside the last one for each step.
const SEEDS: u64 = 150;

/// The smallest failing history that was found.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// Its seed.
    pub seed: u64,
    /// Its settings.
    pub setup: Setup,
    /// How it fails.
    pub failure: Failure,
    /// How many histories were run to find it.
    pub runs: u64,
}

impl Smallest {
    /// The options of `ashlar stress sim` that repeat it.
    pub fn options(&self) -> String {
        let (seed, Setup { lives_max, faults, caps, .. }) = (self.seed, &self.setup);
        let options = format!("--seed {seed} --runs 1 --lives {lives_max} --faults {faults} {}", caps.options());
        options.trim_end().to_owned()
    }
}

/// Makes the history of `seed`, which fails so with this setup, as small as it gets.
pub fn minimize(seed: u64, setup: &Setup, failure: Failure) -> Smallest {
    let mut search = Search { best: Smallest { seed, setup: setup.clone(), failure, runs: 0 } };
    search.shape();
    search.shape();
    search.crashes();
    search.faults();
    search.best
}

struct Search {
    best: Smallest,
}

impl Search {
    /// Takes a change if the history fails with it, with this seed or one of `seeds` more. False: it does not, or nothing would change.
    fn attempt(&mut self, seeds: u64, change: impl FnOnce(&mut Setup)) -> bool {
        let mut setup = self.best.setup.clone();
        change(&mut setup);
        if setup.caps == self.best.setup.caps && setup.faults == self.best.setup.faults {
            return false;
        }
        let first = self.best.seed;
        for seed in (0..=seeds).map(|n| first.wrapping_add(n)) {
            if self.best.runs >= RUNS_MAX {
                return false;
            }
            self.best.runs += 1;
            if let Err(failure) = history(seed, &setup) {
                self.best = Smallest { seed, setup, failure, runs: self.best.runs };
                return true;
            }
        }
        false
    }

    /// Few lives, one writer, few commits, few kinds of faults, nobody else.
    fn shape(&mut self) {
        let lives = self.best.setup.caps.lives.unwrap_or(self.best.failure.lives);
        let _ = (0..lives).any(|n| self.attempt(SEEDS, |setup| setup.caps.lives = Some(n)));
        for kind in self.best.setup.faults.kinds.clone() {
            self.attempt(SEEDS, |setup| setup.faults.kinds.retain(|k| *k != kind));
        }
        self.attempt(SEEDS, |setup| setup.caps.manual = true);
        self.attempt(SEEDS, |setup| setup.caps.alone = true);
        let writers = self.best.setup.caps.writers.unwrap_or(4);
        let _ = (1..writers).any(|n| self.attempt(SEEDS, |setup| setup.caps.writers = Some(n)));
        let commits = self.best.setup.caps.commits.unwrap_or(80);
        let _ = ascending(commits.into()).any(|n| self.attempt(SEEDS, |setup| setup.caps.commits = Some(n as u32)));
    }

    /// Leaves out crashes, first those of early lives, and brings the others forward.
    fn crashes(&mut self) {
        let had = self.best.failure.crashes.clone();
        // As they were, in numbers.
        self.attempt(0, |setup| setup.caps.crashes.extend(had.iter().map(|&(life, call)| (life, Some(call)))));
        for (life, call) in had {
            let crash_at = |call| move |setup: &mut Setup| setup.caps.crashes.extend([(life, call)]);
            if self.attempt(0, crash_at(None)) {
                continue;
            }
            let (mut least, mut most) = (1, call);
            while least < most {
                let middle = least.midpoint(most);
                match self.attempt(0, crash_at(Some(middle))) {
                    true => most = middle,
                    false => least = middle + 1,
                }
            }
        }
    }

    /// The fewest faults.
    fn faults(&mut self) {
        let faults = self.best.failure.faults.len() as u64;
        let _ = (0..faults).any(|n| self.attempt(0, |setup| setup.caps.faults = Some(n)));
    }
}

/// Numbers below `end`, ascending, in ever longer steps.
fn ascending(end: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0), |n| Some(n + 1 + n / 4)).take_while(move |&n| n < end)
}
