//! How long a large transaction holds up small commits.
//!
//! One thread commits single keys, `Eventual`, as fast as it can; another commits transactions of many writes. Commits are applied one
//! after the other, so a small one that comes behind a large one waits for it. From that wait it can be told what the large one spends
//! its time with, without asking the engine:
//!
//! ```text
//!   large  ├─ gather ─┼──── prepare ────┼────── apply ──────┤      prepare: encoding it, and appending it to the log
//!   small   | | | | | | | | | | | | | | ├─── its longest ───┤ | | |
//! ```
//!
//! This is an estimate: where the machine, a checkpoint or a flush holds up a small commit for longer, that is what is found.

use super::Args;
use super::measured::Extra;
use super::on_data::OnData;
use super::place::Contents;
use super::run::Worker;
use ashlar_disk::sync::{Mutex, now};
use ashlar_workload::{Permutation, data};
use ashlardb::{Durability, Isolation, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Small commits that are faster were not held up.
const NOTED: Duration = Duration::from_micros(20);
/// Transactions from this many bytes on need limits that are raised.
const LARGE: u64 = 8 << 20;

/// Options under which transactions of that size can be committed.
pub(super) fn raise_limits(args: &Args, options: Options) -> Options {
    // What a write takes besides its key and value: in the log, and, several times more, in memory.
    let entry = data::KEY_LEN as u64 + args.value_size;
    let (logged, kept) = (args.pause_writes * (entry + 32), args.pause_writes * (entry + 256));
    match logged > LARGE {
        true => options.log_limit(8 * logged).transaction_limit(4 * kept).versions_limit(8 * kept),
        false => options,
    }
}

/// From when to when.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Duration,
    to: Duration,
}

impl Span {
    fn len(self) -> Duration {
        self.to - self.from
    }
}

/// What both threads write down.
#[derive(Debug, Default)]
pub(super) struct Notes {
    large_is_over: AtomicBool,
    /// Small commits that took long.
    held_up: Mutex<Vec<Span>>,
    /// For each large transaction: its writes being gathered, and its commit.
    large: Mutex<Vec<(Duration, Span)>>,
}

/// The thread of small commits, of random entries. It goes on for as long as the other does.
pub(super) fn small(mut on: OnData, notes: Arc<Notes>) -> Worker {
    let mut value = Vec::new();
    Box::new(move || {
        if notes.large_is_over.load(Relaxed) {
            return Ok(None);
        }
        let i = on.random.below(on.set.n);
        let from = now();
        on.put(i, Durability::Eventual, &mut value)?;
        let span = Span { from, to: now() };
        if span.len() >= NOTED {
            notes.held_up.lock().push(span);
        }
        Ok(Some(on.set.amount(1)))
    })
}

/// The thread of large transactions, each of `writes` entries of the set, in a random order. It blocks nothing while it gathers
/// them.
pub(super) fn large(on: OnData, writes: u64, limit: Duration, order: Permutation, notes: Arc<Notes>) -> Worker {
    let Contents { n, value_len } = on.set;
    let writes = writes.min(n);
    let (mut done, mut value, until) = (0, Vec::new(), now() + limit);
    Box::new(move || {
        if done > 0 && now() >= until {
            notes.large_is_over.store(true, Relaxed);
            return Ok(None);
        }
        let begin = now();
        let mut transaction = on.data.database().begin_with(Isolation::Serializable)?;
        for _ in 0..writes {
            let i = order.of(done % n);
            data::value(i, 1 + done / n, value_len, &mut value);
            transaction.insert(&on.data, data::key(i), &value)?;
            done += 1;
        }
        let from = now();
        transaction.commit_with(Durability::Eventual)?;
        notes.large.lock().push((from - begin, Span { from, to: now() }));
        Ok(Some(on.set.amount(writes)))
    })
}

impl Notes {
    /// What the fastest of the large transactions that held up a small commit spent its time with: the one that the rest of the machine
    /// has disturbed least.
    pub(super) fn of_large(&self) -> Vec<(&'static str, Extra)> {
        let (large, held_up) = (self.large.lock(), self.held_up.lock());
        let divided = large.iter().filter_map(|(gather, commit)| divide(*commit, &held_up).map(|parts| (*gather, parts)));
        match divided.min_by_key(|(gather, (prepare, apply))| *gather + *prepare + *apply) {
            Some((gather, (prepare, apply))) => {
                [("gather", gather), ("prepare", prepare), ("apply", apply)].map(|(name, t)| (name, Extra::Time(t))).into()
            }
            None => Vec::new(),
        }
    }
}

/// A commit's time before and after it came to stand in front of others, if one was held up behind it.
fn divide(commit: Span, held_up: &[Span]) -> Option<(Duration, Duration)> {
    // In the order of their ends, and so of their beginnings: from the first that ends after the commit has begun.
    let first = held_up.partition_point(|span| span.to <= commit.from);
    let within = held_up[first..].iter().take_while(|span| span.from < commit.to);
    let longest = within.filter(|span| span.from >= commit.from).max_by_key(|span| span.len())?;
    Some((longest.from - commit.from, commit.to - longest.from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: u64) -> Span {
        Span { from: Duration::from_millis(from), to: Duration::from_millis(to) }
    }

    #[test]
    fn a_commit_is_divided_where_the_longest_wait_begins() {
        let held_up = [span(0, 9), span(11, 12), span(13, 21), span(22, 30)];
        let ms = Duration::from_millis;
        assert_eq!(divide(span(10, 20), &held_up), Some((ms(3), ms(7))));
        assert_eq!(divide(span(5, 10), &held_up), None);
        assert_eq!(divide(span(5, 10), &[]), None);
    }

    #[test]
    fn the_fastest_transaction_is_told_of() {
        let notes = Notes::default();
        notes.held_up.lock().extend([span(3, 9), span(25, 28)]);
        let large = [(Duration::ZERO, span(2, 9)), (Duration::from_millis(1), span(24, 28)), (Duration::ZERO, span(40, 41))];
        notes.large.lock().extend(large);
        let found: Vec<_> = notes.of_large().into_iter().map(|(name, extra)| format!("{name} {extra:?}")).collect();
        assert_eq!(found, ["gather Time(1ms)", "prepare Time(1ms)", "apply Time(3ms)"]);
    }
}
