//! Commits of several threads, what was read meanwhile, and what may be found after a crash.
//!
//! Nobody is told the order of commits. It is known in part: a commit that had returned, or had been seen by a reader, before
//! another one began comes before it. Every commit writes an entry of its own to the keyspace [`JOURNAL`], so that a database
//! tells which of them it holds; only operations on whole keyspaces can't.
//!
//! [`History::settle`] accepts what is found if and only if
//! 1. every confirmed commit is there: one that returned `Immediate`, was seen though it is `Immediate`, or had returned before
//!    something began that made the log durable;
//! 2. what is there is closed: with each commit all that come before it are there;
//! 3. the state is what *some* order of these commits makes of the state before, an order that respects what is known;
//! 4. every read gave what some commit wrote that it may have met, byte by byte, and nothing that had been replaced before.
//!
//! For 3 no search is needed: the last commit of an order is one with none after it, all of whose effects are found. If a commit
//! can be last it may as well be: what others wrote to its keys no longer matters, and of the rest nothing has changed. So the
//! commits are taken from the back, any that fits, until none is left, and the rest of the state must be as it was before.

mod order;
mod reads;

use crate::state::{State, Write, in_range};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The keyspace with an entry for each commit.
pub const JOURNAL: &str = "journal";

/// A commit's identity: who made it, and the how manieth of theirs it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct CommitId {
    /// The thread.
    pub writer: u16,
    /// Its number among the thread's commits, over all lives.
    pub seq: u32,
}

impl CommitId {
    /// The key of its entry in the journal.
    pub fn journal_key(self) -> Vec<u8> {
        let mut key = self.writer.to_be_bytes().to_vec();
        key.extend_from_slice(&self.seq.to_be_bytes());
        key
    }

    /// The commit whose entry in the journal has this key.
    pub fn of_journal_key(key: &[u8]) -> Option<CommitId> {
        let (writer, seq) = key.split_at_checked(2)?;
        Some(CommitId { writer: u16::from_be_bytes(writer.try_into().ok()?), seq: u32::from_be_bytes(seq.try_into().ok()?) })
    }

    /// What its `nth` value begins with.
    pub fn tag(self, nth: usize) -> u64 {
        u64::from(self.writer) << 48 | u64::from(self.seq) << 16 | nth as u64 & 0xFFFF
    }

    /// The commit that wrote a value with this tag.
    pub fn of_tag(tag: u64) -> CommitId {
        CommitId { writer: (tag >> 48) as u16, seq: (tag >> 16) as u32 }
    }
}

/// A moment: a number that every event raises.
pub type Moment = u64;

/// A commit that was begun.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which.
    pub id: CommitId,
    /// What it writes, in order.
    pub writes: Vec<Write>,
    /// Whether it has an entry in the journal.
    pub journaled: bool,
    /// Whether it must be durable before anybody sees it.
    pub immediate: bool,
    /// When it was called.
    pub begun: Moment,
    /// When it had returned, or had been seen by a reader.
    pub visible: Option<Moment>,
    /// Whether it returned as durable.
    pub confirmed: bool,
}

/// What a read gave.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The keyspace.
    pub keyspace: Arc<str>,
    /// The key.
    pub key: Vec<u8>,
    /// Its value, if there was one.
    pub found: Option<crate::state::Bytes>,
    /// When the read was called.
    pub begun: Moment,
    /// When it had returned.
    pub ended: Moment,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What is there for certain, before the commits.
    base: State,
    /// The commits since, by writer, in the writer's order.
    commits: BTreeMap<u16, Vec<Commit>>,
    observations: Vec<Observation>,
    /// All that was visible before this moment is durable.
    durable_before: Moment,
    /// What of the confirmed may be missing.
    missing: Missing,
}

/// What may be missing though it was confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Missing {
    /// Nothing.
    #[default]
    Nothing,
    /// What one damaged flush of the log can hide: that of the last commits. A flush with a commit that began when an earlier one was
    /// durable vouches for that one.
    LastFlush,
    /// Anything at the end.
    AnyEnd,
}

impl History {
    /// What is there for certain.
    pub fn base(&self) -> &State {
        &self.base
    }

    /// The same for a disk that may have damaged the end of the log: commits may be missing though they were confirmed, but still what
    /// is there is closed and what some order of them makes.
    pub fn forgiving(self, missing: Missing) -> History {
        History { missing, ..self }
    }

    /// Whether any commit was confirmed.
    pub fn has_confirmed(&self) -> bool {
        self.all().any(|c| c.confirmed)
    }

    /// Whether a read of a key may give this, as far as can be told without knowing anything else of the state.
    pub fn may_hold(&self, keyspace: &str, key: &[u8], found: Option<&crate::state::Bytes>) -> bool {
        let before = self.base.get(keyspace).and_then(|entries| entries.get(key));
        before == found || self.all().filter_map(|c| c.effect(keyspace, key)).any(|left| left == found)
    }

    /// All keys that may be there, by keyspace.
    pub fn keys(&self) -> BTreeMap<String, BTreeSet<Vec<u8>>> {
        let mut keys: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (name, entries) in &self.base {
            keys.entry(name.clone()).or_default().extend(entries.keys().cloned());
        }
        for write in self.all().flat_map(|c| &c.writes) {
            if let Write::Put { keyspace, key, .. } = write {
                keys.entry(keyspace.to_string()).or_default().insert(key.clone());
            }
        }
        keys
    }

    /// How many commits were begun since.
    pub fn pending(&self) -> usize {
        self.commits.values().map(Vec::len).sum()
    }

    /// The commits of one writer, in its order. Commits of a writer that began after one of unknown outcome must not be there.
    pub fn add_commits(&mut self, commits: Vec<Commit>) {
        for commit in commits {
            let of_writer = self.commits.entry(commit.id.writer).or_default();
            assert!(of_writer.last().is_none_or(|last| last.id.seq < commit.id.seq), "a writer's commits come in its order");
            if commit.immediate && commit.confirmed {
                self.durable_before = self.durable_before.max(commit.begun);
            }
            of_writer.push(commit);
        }
    }

    /// What was read.
    pub fn add_observations(&mut self, observations: Vec<Observation>) {
        self.observations.extend(observations);
    }

    /// Something that makes the log durable was called at `begun` and has succeeded.
    pub fn add_flush(&mut self, begun: Moment) {
        self.durable_before = self.durable_before.max(begun);
    }

    fn all(&self) -> impl Iterator<Item = &Commit> {
        self.commits.values().flatten()
    }

    /// Compares a database's state with what may be there, and takes it as the truth from here on.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn settle(&mut self, found: State) -> Result<(), String> {
        self.note_what_was_seen()?;
        self.check_reads()?;
        order::explain(self, &found)?;
        self.commits.clear();
        self.observations.clear();
        self.durable_before = 0;
        self.missing = Missing::Nothing;
        self.base = found;
        Ok(())
    }

    /// Whether a later flush than the commit's own says that it was durable: one with a confirmed commit that began when it was.
    fn is_vouched_for(&self, commit: &Commit) -> bool {
        let first_after = |moment| self.all().filter(|c| c.confirmed && c.begun > moment).filter_map(|c| c.visible).min();
        // One that does not ask for it is durable, for all that is known, with the next that does; and may be in the same flush.
        let durable = if commit.immediate { commit.visible } else { commit.visible.and_then(first_after) };
        durable.and_then(first_after).is_some()
    }

    /// Whether a commit must be there.
    fn is_confirmed(&self, commit: &Commit) -> bool {
        let confirmed = commit.confirmed || commit.visible.is_some_and(|at| at < self.durable_before);
        match self.missing {
            Missing::Nothing => confirmed,
            Missing::LastFlush => confirmed && self.is_vouched_for(commit),
            Missing::AnyEnd => false,
        }
    }
}

impl Commit {
    /// What it leaves a key with: `None` where it doesn't touch it, `Some(None)` where it removes it.
    pub fn effect(&self, keyspace: &str, key: &[u8]) -> Option<Option<&crate::state::Bytes>> {
        self.writes.iter().rev().filter(|w| &**w.keyspace() == keyspace).find_map(|write| match write {
            Write::Put { key: k, value, .. } if k == key => Some(Some(value)),
            Write::Remove { key: k, .. } if k == key => Some(None),
            Write::RemoveRange { range, .. } if in_range(range, key) => Some(None),
            Write::Drop { .. } | Write::Clear { .. } => Some(None),
            _ => None,
        })
    }

    fn comes_before(&self, other: &Commit) -> bool {
        self.visible.is_some_and(|at| at < other.begun) || self.id.writer == other.id.writer && self.id.seq < other.id.seq
    }
}
