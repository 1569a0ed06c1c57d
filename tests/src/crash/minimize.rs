//! Makes a failing history small: fewer lives, writers, commits, kinds of faults, faults and crashes, and crashes that come earlier, one
//! step at a time, each taken if the history still fails. What comes out are settings with which anybody can repeat it.

use super::{Failure, Setup, history};

/// Histories that are run for it at most.
const RUNS_MAX: u64 = 400;

/// The smallest failing history that was found.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// Its settings.
    pub setup: Setup,
    /// How it fails.
    pub failure: Failure,
    /// How many histories were run to find it.
    pub runs: u64,
}

impl Smallest {
    /// The options of `ashlar stress sim` that repeat it.
    pub fn options(&self, seed: u64) -> String {
        let Setup { lives_max, faults, caps, .. } = &self.setup;
        let options = format!("--seed {seed} --runs 1 --lives {lives_max} --faults {faults} {}", caps.options());
        options.trim_end().to_owned()
    }
}

/// Makes the history of `seed`, which fails so with this setup, as small as it gets.
pub fn minimize(seed: u64, setup: &Setup, failure: Failure) -> Smallest {
    let mut search = Search { seed, best: Smallest { setup: setup.clone(), failure, runs: 0 } };
    loop {
        let before = search.best.setup.clone();
        search.lives();
        search.crashes();
        search.switches();
        search.kinds();
        search.numbers();
        let after = &search.best.setup;
        if search.is_over() || (after.caps == before.caps && after.faults == before.faults) {
            return search.best;
        }
    }
}

struct Search {
    seed: u64,
    best: Smallest,
}

impl Search {
    fn is_over(&self) -> bool {
        self.best.runs >= RUNS_MAX
    }

    /// Takes a change if the history fails with it. False: it does not, or nothing would change.
    fn attempt(&mut self, change: impl FnOnce(&mut Setup)) -> bool {
        let mut setup = self.best.setup.clone();
        change(&mut setup);
        let is_new = setup.caps != self.best.setup.caps || setup.faults != self.best.setup.faults;
        if !is_new || self.is_over() {
            return false;
        }
        self.best.runs += 1;
        match history(self.seed, &setup) {
            Ok(_) => false,
            Err(failure) => {
                (self.best.setup, self.best.failure) = (setup, failure);
                true
            }
        }
    }

    /// No lives after the one that fails; nothing need go wrong in that one if it fails in its open.
    fn lives(&mut self) {
        let failed = self.best.failure.life;
        let _ =
            self.attempt(|setup| setup.caps.lives = Some(failed)) || self.attempt(|setup| setup.caps.lives = Some(failed + 1));
    }

    /// Leaves out crashes, first those of early lives, and brings the others forward.
    fn crashes(&mut self) {
        let had = self.best.failure.crashes.clone();
        // As they were, in numbers.
        self.attempt(|setup| setup.caps.crashes.extend(had.iter().map(|&(life, call)| (life, Some(call)))));
        for (life, call) in had {
            let crash_at = |call| move |setup: &mut Setup| setup.caps.crashes.extend([(life, call)]);
            if self.attempt(crash_at(None)) {
                continue;
            }
            let (mut least, mut most) = (1, call);
            while least < most {
                let middle = least.midpoint(most);
                match self.attempt(crash_at(Some(middle))) {
                    true => most = middle,
                    false => least = middle + 1,
                }
            }
        }
    }

    fn switches(&mut self) {
        self.attempt(|setup| setup.caps.alone = true);
        self.attempt(|setup| setup.caps.manual = true);
    }

    /// Leaves out kinds of faults.
    fn kinds(&mut self) {
        for kind in self.best.setup.faults.kinds.clone() {
            self.attempt(|setup| setup.faults.kinds.retain(|k| *k != kind));
        }
    }

    /// Fewer faults, writers, commits.
    fn numbers(&mut self) {
        let faults = self.best.failure.faults.len() as u64;
        let faults = self.best.setup.caps.faults.map_or(faults, |n| n.min(faults));
        let _ = ascending(faults).any(|n| self.attempt(|setup| setup.caps.faults = Some(n)));
        let writers = self.best.setup.caps.writers.unwrap_or(4);
        let _ = (1..writers).any(|n| self.attempt(|setup| setup.caps.writers = Some(n)));
        let commits = self.best.setup.caps.commits.unwrap_or(80);
        let _ = ascending(commits.into()).any(|n| self.attempt(|setup| setup.caps.commits = Some(n as u32)));
    }
}

/// Numbers below `end`, ascending, in ever longer steps.
fn ascending(end: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0), |n| Some(n + 1 + n / 4)).take_while(move |&n| n < end)
}
