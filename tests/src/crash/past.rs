//! What is known from the lives before, and how what is found is compared with it.

use super::judge::{Class, Judge};
use super::summary::Summary;
use super::world::Stop;
use crate::history::{History, Missing};
use crate::state::{Bytes, State, show};
use ashlar_disk::sim::{FaultKind, InjectedFault};
use ashlardb::{Database, Error};
use std::collections::BTreeMap;

/// What is known from the lives before.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) class: Class,
    pub(super) history: History,
    /// With corrupting faults: what `history` was before it was settled last, and before that, and so on.
    earlier: Vec<History>,
    /// Whether an open has succeeded: from then on the database is there.
    pub(super) made: bool,
    /// The next commit's number.
    pub(super) next_seq: u32,
    pub(super) commits: u64,
    pub(super) reads: u64,
    /// Faults that came.
    pub(super) faults: u64,
    /// Whether the life before had any.
    was_struck: bool,
    /// Faults that may have falsified the log; one that did so in two places counts twice.
    log_struck: usize,
    recovered: u64,
    rolled_back: u64,
    told: BTreeMap<&'static str, u64>,
}

/// In how many places faults may have falsified the log.
fn falsified_in_the_log(faults: &[InjectedFault]) -> usize {
    let in_log = faults.iter().filter(|f| !f.kind.is_tolerable() && f.path.starts_with("/db/wal"));
    in_log.map(|f| if f.kind == FaultKind::MisdirectedWrite { 2 } else { 1 }).sum()
}

impl Past {
    /// Nothing.
    pub(super) fn new(class: Class) -> Past {
        Past {
            class,
            history: History::default(),
            earlier: Vec::new(),
            made: false,
            next_seq: 0,
            commits: 0,
            reads: 0,
            faults: 0,
            was_struck: false,
            log_struck: 0,
            recovered: 0,
            rolled_back: 0,
            told: BTreeMap::new(),
        }
    }

    /// A life has ended that had these faults.
    pub(super) fn note_faults(&mut self, injected: &[InjectedFault], judge: &Judge) {
        self.faults += injected.len() as u64;
        self.was_struck = !injected.is_empty();
        self.log_struck += falsified_in_the_log(injected);
        for (name, count) in judge.told() {
            *self.told.entry(name).or_default() += count;
        }
    }

    /// Tells what the history came to.
    pub(super) fn enter(&self, summary: &mut Summary) {
        summary.commits = self.commits;
        summary.reads = self.reads;
        summary.recovered = self.recovered;
        summary.rolled_back = self.rolled_back;
        summary.add_told(&self.told);
    }

    /// Compares what is found with what may be there, and takes it for the truth from here on. `injected`: the faults of this life.
    ///
    /// Damage to the log's last flush can't be told from a write that was torn (docs/recovery.md): where a fault may have falsified the
    /// log in one place, the commits of that flush may be missing, and so may what an earlier open has found if nothing was confirmed
    /// since; where in several places, more. What is there must still be a state that once was.
    pub(super) fn settle(&mut self, found: State, injected: &[InjectedFault]) -> Result<(), String> {
        let missing = match self.log_struck + falsified_in_the_log(injected) {
            0 => Missing::Nothing,
            1 => Missing::LastFlush,
            _ => Missing::AnyEnd,
        };
        let before = (self.class == Class::Corrupting).then(|| self.history.clone());
        if let Err(text) = self.history.settle(found.clone()) {
            if missing == Missing::Nothing {
                return Err(text);
            }
            self.history = self.roll_back(before.clone(), missing, &found).ok_or(text)?;
            self.rolled_back += 1;
        }
        self.recovered += u64::from(self.was_struck);
        self.earlier.extend(before);
        Ok(())
    }

    /// The newest of the earlier histories that explains what is found, settled.
    fn roll_back(&self, newest: Option<History>, missing: Missing, found: &State) -> Option<History> {
        for earlier in newest.iter().chain(self.earlier.iter().rev()) {
            let mut history = earlier.clone().forgiving(missing);
            if history.settle(found.clone()).is_ok() {
                return Some(history);
            }
            if missing == Missing::LastFlush && earlier.has_confirmed() {
                return None;
            }
        }
        None
    }

    /// Something can't be read: what can be must be something that was once written there.
    pub(super) fn check_what_is_readable(&self, db: &Database, judge: &Judge) -> Result<(), Stop> {
        for (name, keys) in self.history.keys() {
            let keyspace = match db.existing_keyspace(&name) {
                Ok(Some(keyspace)) => keyspace,
                Ok(None) => continue,
                Err(e) => {
                    explained(judge, &name, &e)?;
                    continue;
                }
            };
            for key in keys {
                match keyspace.get(&key) {
                    Ok(found) => self.check_value(&name, &key, found.map(|v| Bytes::from(&v[..])).as_ref())?,
                    Err(e) => explained(judge, &name, &e)?,
                }
            }
            for entry in keyspace.iter() {
                match entry {
                    Ok((key, value)) => self.check_value(&name, &key, Some(&Bytes::from(&value[..])))?,
                    Err(e) => {
                        explained(judge, &name, &e)?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn check_value(&self, keyspace: &str, key: &[u8], found: Option<&Bytes>) -> Result<(), Stop> {
        if self.earlier.iter().chain([&self.history]).any(|history| history.may_hold(keyspace, key, found)) {
            return Ok(());
        }
        let found = found.map_or("nothing".to_owned(), |v| show(v));
        Err(Stop::Failed(format!("beside damage, {keyspace}/{} gives {found}, which was never there", show(key))))
    }
}

/// An error that a fault explains is right here; any other is not.
fn explained(judge: &Judge, what: &str, error: &Error) -> Result<(), Stop> {
    match judge.stop(what, error) {
        Stop::Told => Ok(()),
        stop => Err(stop),
    }
}
