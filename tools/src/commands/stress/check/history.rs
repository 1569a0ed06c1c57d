//! What was told of a database, and what of it must be there.

use super::super::journal::Event;
use super::super::ops::{Form, Op, Shape, Size};
use super::state::State;
use super::writers::{self, Candidates};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A commit that was told to have begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub(super) number: u32,
    pub(super) life: u32,
    /// When it began, as a number of the order in which things were told.
    pub(super) began: u64,
    pub(super) ended: Option<Ended>,
}

/// That it was confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) at: u64,
    pub(super) immediate: bool,
    pub(super) turn: Option<u64>,
}

/// What has been left: by writer, the number of its last commit that is there (0: none since the beginning).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Survivors {
    pub(in super::super) last: BTreeMap<u8, u32>,
    /// Commits that are there.
    pub(in super::super) commits: u64,
    /// Commits that were told to have begun, and are not there.
    pub(in super::super) lost: u64,
}

/// Everything that was told since the database was last known whole.
pub(in super::super) struct History {
    seed: u64,
    size: Size,
    clock: u64,
    pub(super) base: State,
    pub(super) commits: BTreeMap<u8, Vec<Commit>>,
    barriers: BTreeMap<u8, u64>,
    /// What had ended before this is durable.
    durable: u64,
    /// Something is known to be durable, be it only the database itself.
    confirmed: bool,
}

impl History {
    /// Of a database that is not there yet.
    pub(in super::super) fn new(seed: u64, size: Size) -> History {
        History {
            seed,
            size,
            clock: 0,
            base: State::default(),
            commits: BTreeMap::new(),
            barriers: BTreeMap::new(),
            durable: 0,
            confirmed: false,
        }
    }

    /// Takes what was told next.
    pub(in super::super) fn hear(&mut self, event: Event) {
        self.clock += 1;
        let now = self.clock;
        match event {
            Event::Opened { .. } => self.confirmed = true,
            Event::Began { writer, number, life } => {
                self.commits.entry(writer).or_default().push(Commit { number, life, began: now, ended: None });
            }
            Event::Ended { writer, number, immediate, turn } => {
                let of_writer = self.commits.get_mut(&writer).into_iter().flatten();
                if let Some(commit) = of_writer.rev().find(|c| c.number == number) {
                    commit.ended = Some(Ended { at: now, immediate, turn });
                    self.durable = self.durable.max(if immediate { commit.began } else { 0 });
                }
            }
            Event::BarrierBegan { by } => drop(self.barriers.insert(by, now)),
            Event::BarrierEnded { by } => self.durable = self.durable.max(self.barriers.remove(&by).unwrap_or(0)),
            Event::Closing => {}
            Event::Closed => self.durable = now,
            Event::Settled { writer, number } => {
                // Whoever checked it has dropped it, and with that made durable what it had found: of this writer. What others have
                // lost is told after this, and the power may be cut in between.
                let commits = self.commits.entry(writer).or_default();
                commits.retain(|c| c.number <= number);
                for commit in commits {
                    let turn = commit.ended.and_then(|ended| ended.turn);
                    commit.ended = Some(Ended { at: now - 1, immediate: true, turn });
                }
            }
        }
    }

    /// Whether there must be a database at all: once one was open, it stays.
    pub(in super::super) fn must_be_there(&self) -> bool {
        self.confirmed
    }

    /// The number of each writer's next commit: none is used twice.
    pub(in super::super) fn next(&self, before: &[u32]) -> Vec<u32> {
        let last = |writer: u8| self.commits.get(&writer).and_then(|c| c.last()).map_or(0, |c| c.number);
        before.iter().zip(0..).map(|(&next, writer)| next.max(last(writer) + 1)).collect()
    }

    /// What a commit has done.
    pub(super) fn op(&self, writer: u8, commit: &Commit) -> Op {
        let shape = Shape::draw(self.seed, commit.life, self.size);
        Op::draw(self.seed, commit.life, writer, commit.number, &shape)
    }

    /// Compares what was found with what was told. What is there is the new beginning, and what is not is gone.
    ///
    /// # Errors
    /// What is missing, wrong, or there without reason.
    pub(in super::super) fn settle(&mut self, found: State) -> Result<Survivors, String> {
        let known: Vec<u8> = found.entries.keys().map(|place| place.writer).chain(self.commits.keys().copied()).collect();
        let known: std::collections::BTreeSet<u8> = known.into_iter().chain(self.base.entries.keys().map(|p| p.writer)).collect();
        let mut candidates = BTreeMap::new();
        for writer in known {
            candidates.insert(writer, writers::candidates(self, writer, &found)?);
        }
        self.nothing_confirmed_is_gone(&candidates)?;
        self.nothing_is_there_without_what_came_before(&candidates)?;
        self.transactions_agree(&candidates, &found)?;
        let mut survivors = Survivors::default();
        for (&writer, of_writer) in &candidates {
            let commits = self.commits.get(&writer).map_or(&[][..], |c| c);
            survivors.last.insert(writer, commits[..of_writer.most].last().map_or(0, |c| c.number));
            survivors.commits += of_writer.most as u64;
            survivors.lost += (commits.len() - of_writer.most) as u64;
        }
        self.base = found;
        self.commits.clear();
        self.barriers.clear();
        self.durable = 0;
        Ok(survivors)
    }

    fn nothing_confirmed_is_gone(&self, candidates: &BTreeMap<u8, Candidates>) -> Result<(), String> {
        for (writer, commits) in &self.commits {
            let there = candidates.get(writer).map_or(0, |c| c.most);
            for commit in &commits[there..] {
                let Some(ended) = commit.ended else { continue };
                let why = if ended.immediate {
                    "was confirmed Immediate"
                } else if ended.at < self.durable {
                    "had ended before something began that was confirmed durable"
                } else {
                    continue;
                };
                let number = commit.number;
                return Err(format!(
                    "commit {number} of writer {writer} {why}, and is gone: {there} of {} commits are there; it was {:?}",
                    commits.len(),
                    self.op(*writer, commit)
                ));
            }
        }
        Ok(())
    }

    fn nothing_is_there_without_what_came_before(&self, candidates: &BTreeMap<u8, Candidates>) -> Result<(), String> {
        let last_there = |(writer, found): (&u8, &Candidates)| {
            let commit = self.commits.get(writer)?[..found.least].last()?;
            Some((commit.began, *writer, commit.number))
        };
        let Some((began, there, number)) = candidates.iter().filter_map(last_there).max() else { return Ok(()) };
        for (writer, commits) in &self.commits {
            let gone = &commits[candidates.get(writer).map_or(0, |c| c.most)..];
            if let Some(lost) = gone.iter().find(|c| c.ended.is_some_and(|e| e.at < began)) {
                return Err(format!(
                    "no prefix: commit {number} of writer {there} is there, and commit {} of writer {writer}, which had ended before \
                     that began, is gone",
                    lost.number
                ));
            }
        }
        Ok(())
    }

    fn transactions_agree(&self, candidates: &BTreeMap<u8, Candidates>, found: &State) -> Result<(), String> {
        let mut expected = State { entries: BTreeMap::new(), marks: self.base.marks.clone(), ..self.base.clone() };
        let (mut turns_there, mut turns_gone) = (Vec::new(), Vec::new());
        for (&writer, commits) in &self.commits {
            let there = candidates.get(&writer).map_or(0, |c| c.most);
            for (n, commit) in commits.iter().enumerate() {
                let Form::Transaction { from, to, amount } = self.op(writer, commit).form else { continue };
                let turn = commit.ended.and_then(|e| e.turn);
                if n >= there {
                    turns_gone.extend(turn);
                    continue;
                }
                turns_there.extend(turn);
                expected.turns += 1;
                expected.accounts[from] -= amount;
                expected.accounts[to] += amount;
                // What it has counted is known from elsewhere only if it was told.
                let counted = found.marks.get(&writer).map_or(0, |m| m.1);
                expected.marks.insert(writer, (commit.number, turn.unwrap_or(counted)));
            }
        }
        expected.entries.clone_from(&found.entries);
        if expected != *found {
            let State { accounts, turns, marks, .. } = expected;
            return Err(format!(
                "the transactions that are there have not left what is there: {turns} of them, found {}; marks {marks:?}, found {:?}; \
                 accounts {accounts:?}, found {:?}",
                found.turns, found.marks, found.accounts
            ));
        }
        let gone_too_early = turns_gone.into_iter().find(|&turn| turn <= found.turns);
        let there_too_early = turns_there.into_iter().find(|&turn| turn > found.turns);
        match gone_too_early.or(there_too_early) {
            Some(turn) => Err(format!("no prefix: {} transactions are there, and number {turn} tells otherwise", found.turns)),
            None => Ok(()),
        }
    }
}
