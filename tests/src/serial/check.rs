//! Whether all that a life has shown is strictly serializable, by LSN.
//!
//! 1. Every read of a transaction gives what the state at its read LSN holds, with its own writes on top; one that is serializable and
//!    has written has met the same right before its commit. One under snapshot isolation has written no key that a commit between the two has.
//! 2. Every read of a snapshot gives what the state at its LSN holds.
//! 3. A read without either gives what some one state holds, no older than what was visible when it began.
//! 4. Whoever begins after something has returned, or has been seen, reads at its LSN or above. (Once the database has failed, readers
//!    stand at what was visible then: what returned as `Eventual` they may miss.)
//! 5. What has been handed out survives, with all `Immediate` commits before it, and all that were confirmed.

use super::record::{End, Plain, Records, Step, Transaction, View};
use super::seen::Seen;
use super::timeline::Timeline;
use crate::history::Moment;
use crate::state::{State, Write, in_range};
use ashlardb::Isolation;

/// What may be found when a database is opened.
#[derive(Clone)]
pub(super) struct Possible {
    /// Oldest first; the last is what it held at the end.
    pub(super) states: Vec<State>,
    /// Why no older ones, in words.
    pub(super) why: String,
}

impl Possible {
    /// That state and no other.
    pub(super) fn only(state: State) -> Possible {
        Possible { states: vec![state], why: "the database was closed or dropped, or is new".into() }
    }
}

/// Checks a life, and gives what a crash at its end may leave.
pub(super) fn check(base: State, records: &Records, keys: &[Vec<u8>]) -> Result<Possible, String> {
    let timeline = Timeline::new(base, records)?;
    let checker = Checker { timeline: &timeline, records, keys };
    let mut known = checker.known_without_plain_reads()?;
    checker.plain_reads(&mut known)?;
    checker.views(&known)?;
    checker.transactions(&known)?;
    let needed = checker.must_survive(&known);
    let first = timeline.number_at(needed.lsn);
    let why = format!("LSN {} must have survived, since {}{}", needed.lsn, needed.by, timeline.tell(0, timeline.len() - 1));
    Ok(Possible { states: timeline.into_states(first), why })
}

struct Checker<'a> {
    timeline: &'a Timeline,
    records: &'a Records,
    keys: &'a [Vec<u8>],
}

/// What was known from when on.
#[derive(Default)]
struct Known {
    /// Whoever begins to read later reads at that LSN or above, even where the database has failed.
    visible: Vec<Fact>,
    /// As long as it has not.
    returned: Vec<Fact>,
    /// A transaction that begins later reads at that LSN or above.
    applied: Vec<Fact>,
    /// LSNs up to which somebody was handed what is there: a crash takes back no `Immediate` commit below.
    shown: Vec<Fact>,
}

/// That an LSN is known from a moment on, and by what.
#[derive(Clone)]
struct Fact {
    since: Moment,
    lsn: u64,
    by: String,
}

impl Fact {
    fn new(since: Moment, lsn: u64, by: String) -> Fact {
        Fact { since, lsn, by }
    }

    fn none() -> Fact {
        Fact::new(0, 0, "nothing".into())
    }
}

/// The fact with the highest LSN.
fn highest(facts: impl Iterator<Item = Fact>) -> Fact {
    facts.max_by_key(|fact| fact.lsn).unwrap_or_else(Fact::none)
}

fn highest_before(facts: &[Fact], moment: Moment) -> Fact {
    highest(facts.iter().filter(|fact| fact.since < moment).cloned())
}

impl Known {
    /// The lowest LSN at which anybody may read who begins at that moment.
    fn before(&self, moment: Moment, crashed: bool) -> Fact {
        let visible = highest_before(&self.visible, moment);
        let returned = if crashed { Fact::none() } else { highest_before(&self.returned, moment) };
        highest([visible, returned].into_iter())
    }
}

impl Checker<'_> {
    fn known_without_plain_reads(&self) -> Result<Known, String> {
        let mut known = Known::default();
        for commit in &self.records.commits {
            let rising = if commit.immediate { &mut known.visible } else { &mut known.returned };
            rising.extend(commit.returned.map(|at| Fact::new(at, commit.lsn, format!("{commit:?} had returned"))));
        }
        for view in &self.records.views {
            let fact = Fact::new(view.taken, view.lsn, name(view));
            known.visible.push(fact.clone());
            known.shown.push(fact);
        }
        for transaction in &self.records.transactions {
            known.applied.push(Fact::new(transaction.in_being, transaction.read_lsn, tell(transaction)));
            if transaction.end != End::Failed {
                let fact = Fact::new(transaction.ended, self.met(transaction), tell(transaction));
                known.visible.push(fact.clone());
                known.shown.push(fact);
            }
        }
        Ok(known)
    }

    /// The newest commit whose effects a transaction has certainly met: of those reads that its own writes can't have changed.
    fn met(&self, transaction: &Transaction) -> u64 {
        let newest = self.timeline.number_at(transaction.read_lsn);
        let reads = transaction.steps.iter().map_while(|step| match step {
            Step::Read(seen) => Some(Some(seen)),
            Step::Savepoint | Step::RollBack(_) => Some(None),
            Step::Write(_) => None,
        });
        let met = |seen: &Seen| {
            let changed = |n: &usize| seen.can_tell(self.timeline.state(n - 1), self.timeline.state(*n));
            (1..=newest).rev().find(changed).unwrap_or(0)
        };
        self.timeline.lsn(reads.flatten().map(met).max().unwrap_or(0))
    }

    /// 3.
    fn plain_reads(&self, known: &mut Known) -> Result<(), String> {
        let mut plains: Vec<&Plain> = self.records.plains.iter().collect();
        plains.sort_by_key(|p| p.ended);
        for plain in plains {
            let oldest = self.timeline.number_at(known.before(plain.begun, plain.crashed).lsn);
            let newest = self.timeline.newest_before(plain.ended);
            let fits = |n: &usize| {
                let is_dropped = || match &plain.seen {
                    Seen::Gone { keyspace } => *n > oldest && self.timeline.is_dropped_before(*n, keyspace),
                    _ => false,
                };
                plain.seen.compare(self.timeline.state(*n)).is_ok() || is_dropped()
            };
            let Some(fitting) = (oldest..=newest).find(fits) else {
                return Err(format!(
                    "thread {}, from {} to {}: {:?}: no state from LSN {} to {} has that (the newest: {}){}",
                    plain.thread,
                    plain.begun,
                    plain.ended,
                    plain.seen,
                    self.timeline.lsn(oldest),
                    self.timeline.lsn(newest),
                    plain.seen.compare(self.timeline.state(newest)).err().unwrap_or_default(),
                    self.timeline.tell(oldest, newest)
                ));
            };
            // What it tells may have been so before what was known to be applied: it waits for what this process has committed only where it
            // meets something newer than what is visible.
            let certain = self.timeline.number_at(known.before(plain.begun, true).lsn);
            let first = (certain..=fitting).find(fits).unwrap_or(fitting);
            let fact = Fact::new(plain.ended, self.timeline.lsn(first), format!("{plain:?}"));
            known.visible.push(fact.clone());
            known.shown.push(fact);
        }
        Ok(())
    }

    /// 2, and 4 for snapshots.
    fn views(&self, known: &Known) -> Result<(), String> {
        for view in &self.records.views {
            let least = known.before(view.begun, view.crashed);
            if view.lsn < least.lsn && !view.of_checkpoint {
                let commits = self.timeline.tell(0, self.timeline.len() - 1);
                return Err(format!("{}, though LSN {} was visible before: {}{commits}", name(view), least.lsn, least.by));
            }
            let number = self.timeline.number_at(view.lsn);
            for seen in &view.reads {
                seen.compare(self.timeline.state(number)).map_err(|e| {
                    format!("{}: {seen:?}: {e}{}", name(view), self.timeline.tell(number, self.timeline.len() - 1))
                })?;
            }
        }
        Ok(())
    }

    /// 1, and 4 for transactions.
    fn transactions(&self, known: &Known) -> Result<(), String> {
        for transaction in &self.records.transactions {
            let applied = highest_before(&known.applied, transaction.begun);
            let least = highest([known.before(transaction.begun, false), applied].into_iter());
            let number = self.timeline.number_at(transaction.read_lsn);
            let upto = transaction.lsn.map_or(self.timeline.len() - 1, |lsn| self.timeline.number_at(lsn));
            let told = |what: String| {
                let commits = self.timeline.tell(number, upto.max(number));
                format!("{what}: {}\n  commits:{commits}", tell(transaction))
            };
            if transaction.read_lsn < least.lsn {
                return Err(told(format!("LSN {} was visible before: {}", least.lsn, least.by)));
            }
            replay(transaction, self.timeline.state(number)).map_err(|e| told(format!("at its read LSN {e}")))?;
            if let Some(lsn) = transaction.lsn {
                if lsn <= transaction.read_lsn {
                    return Err(told(format!("its commit's LSN is {lsn}")));
                }
                let before = self.timeline.number_at(lsn) - 1;
                match transaction.isolation {
                    Isolation::Serializable => {
                        let state = self.timeline.state(before);
                        replay(transaction, state).map_err(|e| told(format!("right before its commit {e}")))?;
                    }
                    Isolation::Snapshot => {
                        let between = &self.timeline.commits[number..before];
                        if let Some(first) = between.iter().find(|c| self.collide(&c.writes, &transaction.writes())) {
                            return Err(told(format!("it overwrites commit {}, which came first", first.lsn)));
                        }
                    }
                }
            }
            if transaction.end == End::Conflict && self.timeline.newest_before(transaction.ended) <= number {
                return Err(told("it has lost to no commit".into()));
            }
        }
        Ok(())
    }

    /// Whether some key, or a keyspace as a whole, is written by both.
    fn collide(&self, one: &[Write], other: &[Write]) -> bool {
        one.iter().any(|one| other.iter().any(|other| one.keyspace() == other.keyspace() && self.meet(one, other)))
    }

    fn meet(&self, one: &Write, other: &Write) -> bool {
        match (one, other) {
            (Write::Create { .. } | Write::Drop { .. } | Write::Clear { .. }, _) => true,
            (_, Write::Create { .. } | Write::Drop { .. } | Write::Clear { .. }) => true,
            _ => self.keys.iter().any(|key| writes(one, key) && writes(other, key)),
        }
    }

    /// 5: the highest LSN that must survive.
    fn must_survive(&self, known: &Known) -> Fact {
        let commits = &self.records.commits;
        let confirmed = commits.iter().filter(|c| c.immediate).filter_map(|c| {
            let at = c.returned?;
            Some(Fact::new(at, c.lsn, format!("{c:?} was confirmed")))
        });
        let flushed = self.records.flushes.iter().map(|&begun| {
            let returned = commits.iter().filter(|c| c.returned.is_some_and(|at| at < begun));
            Fact::new(begun, returned.map(|c| c.lsn).max().unwrap_or(0), format!("a flush that began at {begun} made it durable"))
        });
        let shown = known.shown.iter().map(|fact| {
            let lsn = self.timeline.immediate_at(fact.lsn);
            Fact { lsn, by: format!("LSN {} was shown at {}: {}", fact.lsn, fact.since, fact.by), ..fact.clone() }
        });
        highest(confirmed.chain(flushed).chain(shown))
    }
}

fn writes(write: &Write, key: &[u8]) -> bool {
    match write {
        Write::Put { key: k, .. } | Write::Remove { key: k, .. } => k == key,
        Write::RemoveRange { range, .. } => in_range(range, key),
        _ => true,
    }
}

/// Goes through a transaction on that state.
fn replay(transaction: &Transaction, state: &State) -> Result<(), String> {
    let mut state = state.clone();
    let mut savepoints: Vec<State> = Vec::new();
    for (number, step) in transaction.steps.iter().enumerate() {
        match step {
            Step::Write(write) => write.apply(&mut state),
            Step::Read(seen) => seen.compare(&state).map_err(|e| format!("step {number}: {seen:?}: {e}"))?,
            Step::Savepoint => savepoints.push(state.clone()),
            Step::RollBack(savepoint) => state = savepoints[*savepoint].clone(),
        }
    }
    Ok(())
}

fn name(view: &View) -> String {
    format!("a snapshot of thread {} at LSN {}, asked for at {}", view.thread, view.lsn, view.begun)
}

fn tell(t: &Transaction) -> String {
    let lsn = t.lsn.map_or("none".to_owned(), |lsn| lsn.to_string());
    let head = format!(
        "{:?} transaction of thread {}, from {} to {}, read LSN {}, commit LSN {lsn}, {:?}",
        t.isolation, t.thread, t.begun, t.ended, t.read_lsn, t.end
    );
    t.steps.iter().enumerate().fold(head, |text, (n, step)| format!("{text}\n    {n}: {step:?}"))
}
