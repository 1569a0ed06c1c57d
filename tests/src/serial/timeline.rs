//! The state at every LSN of a life: its commits replayed, in LSN order, on ordered maps.

use super::record::{Commit, Records};
use crate::history::Moment;
use crate::state::{State, Write};

/// See the module. State number `n` is that after the first `n` commits.
pub(super) struct Timeline {
    pub(super) commits: Vec<Commit>,
    states: Vec<State>,
}

impl Timeline {
    /// The states that the commits make of `base`.
    ///
    /// # Errors
    /// Their order contradicts time, or one makes what is there, or drops what is not.
    pub(super) fn new(base: State, records: &Records) -> Result<Timeline, String> {
        let mut commits = records.commits.clone();
        commits.sort_by_key(|c| c.lsn);
        let mut states = vec![base];
        for (number, commit) in commits.iter().enumerate() {
            if let Some(previous) = number.checked_sub(1).map(|n| &commits[n])
                && previous.lsn == commit.lsn
            {
                return Err(format!("two commits with one LSN: {previous:?} and {commit:?}"));
            }
            let mut state = states[number].clone();
            if let Some(premise) = &commit.premise {
                premise.compare(&state).map_err(|e| format!("{commit:?} rests on: {premise:?}: {e}"))?;
            }
            for write in &commit.writes {
                let expected = match write {
                    Write::Create { .. } => Some(false),
                    Write::Drop { .. } | Write::Clear { .. } => Some(true),
                    _ => None,
                };
                if expected.is_some_and(|e| state.contains_key(&**write.keyspace()) != e) {
                    return Err(format!("{write:?} can't be done to what is there: {commit:?}"));
                }
                write.apply(&mut state);
            }
            states.push(state);
        }
        let timeline = Timeline { commits, states };
        timeline.check_time()?;
        Ok(timeline)
    }

    /// A commit that began after another had returned has a higher LSN.
    fn check_time(&self) -> Result<(), String> {
        let mut latest: Option<&Commit> = None;
        for commit in &self.commits {
            if let Some(latest) = latest
                && commit.returned.is_some_and(|at| at < latest.begun)
            {
                return Err(format!("{commit:?} had returned before {latest:?} began, whose LSN is lower"));
            }
            if latest.is_none_or(|latest| latest.begun < commit.begun) {
                latest = Some(commit);
            }
        }
        Ok(())
    }

    /// The number of the state at an LSN.
    pub(super) fn number_at(&self, lsn: u64) -> usize {
        self.commits.partition_point(|c| c.lsn <= lsn)
    }

    /// The number of the newest state that can have been met before `moment`.
    pub(super) fn newest_before(&self, moment: Moment) -> usize {
        self.commits.iter().rposition(|c| c.begun < moment).map_or(0, |last| last + 1)
    }

    /// How many states there are.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// A state.
    pub(super) fn state(&self, number: usize) -> &State {
        &self.states[number]
    }

    /// Whether the commit that leads to a state drops a keyspace; it may make another of that name.
    pub(super) fn is_dropped_before(&self, number: usize, keyspace: &str) -> bool {
        let commit = number.checked_sub(1).map(|last| &self.commits[last]);
        commit.is_some_and(|c| c.writes.iter().any(|w| matches!(w, Write::Drop { keyspace: k } if &**k == keyspace)))
    }

    /// The LSN at which a state began.
    pub(super) fn lsn(&self, number: usize) -> u64 {
        number.checked_sub(1).map_or(0, |last| self.commits[last].lsn)
    }

    /// The newest `Immediate` commit at or below an LSN: its LSN, or 0.
    pub(super) fn immediate_at(&self, lsn: u64) -> u64 {
        let until = &self.commits[..self.number_at(lsn)];
        until.iter().rev().find(|c| c.immediate).map_or(0, |c| c.lsn)
    }

    /// All from state `first` on.
    pub(super) fn into_states(self, first: usize) -> Vec<State> {
        self.states.into_iter().skip(first).collect()
    }

    /// The commits that lead from one state to another, a line each.
    pub(super) fn tell(&self, from: usize, to: usize) -> String {
        let from = from.saturating_sub(4);
        let line = |c: &Commit| {
            let kind = if c.immediate { "immediate" } else { "eventual" };
            let returned = c.returned.map_or("never".to_owned(), |at| at.to_string());
            format!("\n    {} by thread {}, {kind}, begun {}, returned {returned}: {:?}", c.lsn, c.thread, c.begun, c.writes)
        };
        self.commits[from..to].iter().map(line).collect()
    }
}
