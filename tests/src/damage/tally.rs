//! Many cases, judged on all processors, and what came of them.

use super::fixture::Fixture;
use super::judge::{Judge, Outcome};
use super::place::Case;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How often each outcome came, by what was damaged.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    counts: BTreeMap<String, BTreeMap<Outcome, u64>>,
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, row: String, outcome: Outcome) {
        *self.counts.entry(row).or_default().entry(outcome).or_default() += 1;
    }

    /// Counts all of another one's.
    pub fn merge(&mut self, other: &Tally) {
        for (row, outcomes) in &other.counts {
            for (outcome, n) in outcomes {
                *self.counts.entry(row.clone()).or_default().entry(*outcome).or_default() += n;
            }
        }
    }

    /// Counts all again, by the first and by the second part of each row's name, which a zero byte parts.
    pub fn split(&self, first: &mut Tally, second: &mut Tally) {
        for (row, outcomes) in &self.counts {
            let (one, two) = row.split_once('\0').unwrap_or((row, row));
            for (outcome, n) in outcomes {
                *first.counts.entry(one.into()).or_default().entry(*outcome).or_default() += n;
                *second.counts.entry(two.into()).or_default().entry(*outcome).or_default() += n;
            }
        }
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts.values().flat_map(BTreeMap::values).sum()
    }

    /// How many there were of an outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.counts.values().filter_map(|outcomes| outcomes.get(&outcome)).sum()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.counts.len()
    }

    /// A table as documents have it.
    pub fn table(&self, first: &str) -> String {
        let mut out = format!("| {first} | cases |");
        Outcome::ALL.iter().for_each(|outcome| out += &format!(" {outcome} |"));
        out += "\n| --- |";
        (0..=Outcome::ALL.len()).for_each(|_| out += " ---: |");
        let line = |name: &str, outcomes: &BTreeMap<Outcome, u64>| {
            let cells = Outcome::ALL.iter().map(|o| outcomes.get(o).map_or("–".to_owned(), u64::to_string));
            format!("\n| {name} | {} | {} |", outcomes.values().sum::<u64>(), cells.collect::<Vec<_>>().join(" | "))
        };
        let mut sum = BTreeMap::new();
        for (row, outcomes) in &self.counts {
            out += &line(row, outcomes);
            outcomes.iter().for_each(|(outcome, n)| *sum.entry(*outcome).or_default() += n);
        }
        out + &line("all", &sum)
    }
}

/// Judges `count` cases of a fixture: `case` gives each and the row that it is counted in.
///
/// # Errors
/// The first that is judged wrong.
///
/// # Panics
/// Where the fixture can't be opened whole.
pub fn run(
    fixture: &Fixture,
    count: usize,
    case: impl Fn(usize) -> Option<(String, Case)> + Sync,
    also_writing: bool,
) -> Result<Tally, String> {
    let next = AtomicUsize::new(0);
    // Few at once, so that neighbours end up in the same thread's cache.
    const AT_ONCE: usize = 64;
    let work = || -> Result<Tally, String> {
        let judge = Judge::new(fixture).map_err(|e| format!("the whole database: {e}"))?;
        let mut tally = Tally::default();
        loop {
            let from = next.fetch_add(AT_ONCE, Relaxed);
            if from >= count {
                return Ok(tally);
            }
            for n in from..count.min(from + AT_ONCE) {
                let Some((row, case)) = case(n) else { continue };
                let stop = |what: String| {
                    next.store(count, Relaxed);
                    format!(
                        "{:?}, case {n}, {}, block {} ({}): {what}",
                        fixture.form,
                        case.path.display(),
                        case.block,
                        row.replace('\0', " in ")
                    )
                };
                let outcome = judge.judge(&case).map_err(stop)?;
                if also_writing {
                    judge.judge_writing(&case).map_err(|what| stop(format!("opened for writing: {what}")))?;
                }
                tally.add(row, outcome);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let results: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err("a judge panicked".into()))).collect()
    });
    let mut sum = Tally::default();
    for result in results {
        sum.merge(&result?);
    }
    Ok(sum)
}
