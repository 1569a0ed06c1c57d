//! Which commits a state holds, and whether some order of them makes it.

use super::{Commit, CommitId, History, JOURNAL};
use crate::state::{Bytes, KeyRange, State, Write, show};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Combinations of commits without an entry in the journal that are tried at most.
const COMBINATIONS_MAX: usize = 20_000;

/// Checks 1 to 3 of the module.
pub(super) fn explain(history: &History, found: &State) -> Result<(), String> {
    let mut least = BTreeMap::new();
    let mut options: Vec<(u16, usize)> = Vec::new();
    for (&writer, commits) in &history.commits {
        let (certain, possible) = survivors(history, found, commits)?;
        least.insert(writer, certain);
        if possible > certain {
            options.push((writer, possible));
        }
    }
    let mut first_failure = None;
    for combination in combinations(&least, &options) {
        match check_combination(history, found, &combination) {
            Ok(()) => return Ok(()),
            Err(text) => first_failure = first_failure.or(Some(text)),
        }
    }
    Err(first_failure.unwrap_or_else(|| "no combination of commits was tried".into()))
}

/// How many of a writer's commits are there at least, and at most.
fn survivors(history: &History, found: &State, commits: &[Commit]) -> Result<(usize, usize), String> {
    let journal = found.get(JOURNAL);
    let is_there = |id: CommitId| journal.is_some_and(|entries| entries.contains_key(&id.journal_key()));
    let surely = |c: &Commit| history.is_confirmed(c) || c.journaled && is_there(c.id);
    let certain = commits.iter().rposition(surely).map_or(0, |last| last + 1);
    if let Some(lost) = commits[..certain].iter().find(|c| c.journaled && !is_there(c.id)) {
        let why = if history.is_confirmed(lost) {
            "it was confirmed".to_owned()
        } else {
            format!("a later one of the same thread is there or was confirmed: {}", describe(&commits[certain - 1]))
        };
        return Err(format!("lost: {}\n  though {why}", describe(lost)));
    }
    let possible = commits[certain..].iter().position(|c| c.journaled).map_or(commits.len(), |more| certain + more);
    Ok((certain, possible))
}

/// All ways to choose how many commits of each writer are there: fewest first.
fn combinations(least: &BTreeMap<u16, usize>, options: &[(u16, usize)]) -> Vec<BTreeMap<u16, usize>> {
    let mut all = vec![least.clone()];
    for &(writer, possible) in options {
        let mut more = Vec::new();
        for count in least[&writer]..=possible {
            more.extend(all.iter().map(|c| {
                let mut c = c.clone();
                c.insert(writer, count);
                c
            }));
        }
        all = more;
        assert!(all.len() <= COMBINATIONS_MAX, "too many commits without an entry in the journal");
    }
    all
}

fn check_combination(history: &History, found: &State, there: &BTreeMap<u16, usize>) -> Result<(), String> {
    let survivors: Vec<&[Commit]> = history.commits.iter().map(|(writer, commits)| &commits[..there[writer]]).collect();
    let lost = history.commits.iter().flat_map(|(writer, commits)| &commits[there[writer]..]);
    if let Some(latest) = survivors.iter().filter_map(|c| c.last()).max_by_key(|c| c.begun) {
        for lost in lost {
            if lost.comes_before(latest) {
                let (lost, latest) = (describe(lost), describe(latest));
                return Err(format!("a commit is lost, though a later one is there:\n  lost: {lost}\n  there: {latest}"));
            }
        }
    }
    Unexplained::new(history, found, &survivors).explain(history, survivors)
}

/// The keys for which no commit has been found yet that left them as they are.
struct Unexplained<'a> {
    found: &'a State,
    /// By keyspace.
    keys: BTreeMap<&'a str, BTreeSet<&'a [u8]>>,
    /// Keyspaces of which it isn't known yet why they are there or not.
    keyspaces: BTreeSet<&'a str>,
}

impl<'a> Unexplained<'a> {
    /// Every key that was there, is there, or was written to meanwhile.
    fn new(history: &'a History, found: &'a State, survivors: &[&'a [Commit]]) -> Unexplained<'a> {
        let mut all = Unexplained { found, keys: BTreeMap::new(), keyspaces: BTreeSet::new() };
        for (name, entries) in history.base.iter().chain(found) {
            all.keyspaces.insert(name);
            all.keys.entry(name).or_default().extend(entries.keys().map(Vec::as_slice));
        }
        for write in survivors.iter().flat_map(|c| c.iter()).flat_map(|c| &c.writes) {
            all.keyspaces.insert(write.keyspace());
            let keys = all.keys.entry(write.keyspace()).or_default();
            if let Write::Put { key, .. } | Write::Remove { key, .. } = write {
                keys.insert(key);
            }
        }
        all
    }

    /// Takes commits from the back, any that fits, until none is left.
    fn explain(mut self, history: &History, mut left: Vec<&'a [Commit]>) -> Result<(), String> {
        while left.iter().any(|commits| !commits.is_empty()) {
            let mut reasons = Vec::new();
            let mut taken = None;
            for (index, commits) in left.iter().enumerate() {
                let Some(last) = commits.last() else { continue };
                if left.iter().filter_map(|c| c.last()).any(|other| last.id != other.id && last.comes_before(other)) {
                    continue;
                }
                match self.take(last) {
                    Ok(()) => {
                        taken = Some(index);
                        break;
                    }
                    Err(why) => reasons.push(format!("{}: {why}", describe(last))),
                }
            }
            match taken {
                Some(index) => left[index] = &left[index][..left[index].len() - 1],
                None => {
                    return Err(format!(
                        "no order of the commits gives what is there. None can be the last:\n  {}",
                        reasons.join("\n  ")
                    ));
                }
            }
        }
        self.check_rest(history)
    }

    fn value(&self, keyspace: &str, key: &[u8]) -> Option<&'a Bytes> {
        self.found.get(keyspace)?.get(key)
    }

    /// Takes a commit as the last one, if everything it did to unexplained keys is found.
    fn take(&mut self, commit: &'a Commit) -> Result<(), String> {
        let touched = self.touched(commit);
        for &(keyspace, key) in &touched {
            let Some(key) = key else {
                let left = commit.writes.iter().rev().find_map(|w| match w {
                    Write::Create { keyspace: k } if &**k == keyspace => Some(true),
                    Write::Drop { keyspace: k } if &**k == keyspace => Some(false),
                    _ => None,
                });
                if left != Some(self.found.contains_key(keyspace)) {
                    return Err(format!("keyspace {keyspace} is there: {}", self.found.contains_key(keyspace)));
                }
                continue;
            };
            let (left, found) = (commit.effect(keyspace, key).flatten(), self.value(keyspace, key));
            if left != found {
                let value = |v: Option<&Bytes>| v.map_or("nothing".to_owned(), |v| show(v));
                return Err(format!("{keyspace}/{} holds {}, not {}", show(key), value(found), value(left)));
            }
        }
        for (keyspace, key) in touched {
            match key {
                Some(key) => drop(self.keys.get_mut(keyspace).is_some_and(|keys| keys.remove(key))),
                None => drop(self.keyspaces.remove(keyspace)),
            }
        }
        Ok(())
    }

    /// The unexplained keys that a commit did something to; no key: the keyspace itself.
    fn touched(&self, commit: &'a Commit) -> BTreeSet<(&'a str, Option<&'a [u8]>)> {
        let mut touched = BTreeSet::new();
        for write in &commit.writes {
            let Some((&keyspace, keys)) = self.keys.get_key_value(&**write.keyspace()) else { continue };
            let whole = matches!(write, Write::Drop { .. } | Write::Create { .. });
            if whole && self.keyspaces.contains(keyspace) {
                touched.insert((keyspace, None));
            }
            match write {
                Write::Put { key, .. } | Write::Remove { key, .. } => {
                    touched.extend(keys.get(&key[..]).map(|&k| (keyspace, Some(k))))
                }
                Write::RemoveRange { range, .. } => touched.extend(keys_in(keys, range).map(|k| (keyspace, Some(k)))),
                Write::Drop { .. } | Write::Clear { .. } => touched.extend(keys.iter().map(|&k| (keyspace, Some(k)))),
                Write::Create { .. } => {}
            }
        }
        touched
    }

    /// What no commit explains must be as it was before.
    fn check_rest(&self, history: &History) -> Result<(), String> {
        for &name in &self.keyspaces {
            let (before, now) = (history.base.contains_key(name), self.found.contains_key(name));
            if before != now {
                return Err(format!("keyspace {name} is there: {now}; before: {before}; and no commit that is there did that"));
            }
        }
        for (name, keys) in &self.keys {
            for key in keys {
                let before = history.base.get(*name).and_then(|entries| entries.get(*key));
                let found = self.value(name, key);
                if before != found {
                    let value = |v: Option<&Bytes>| v.map_or("nothing".to_owned(), |v| show(v));
                    let (key, before, found) = (show(key), value(before), value(found));
                    return Err(format!(
                        "{name}/{key} holds {found}, held {before} before, and no commit that is there did that"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn keys_in<'k>(keys: &BTreeSet<&'k [u8]>, range: &KeyRange) -> impl Iterator<Item = &'k [u8]> {
    let from = match &range.0 {
        Bound::Included(from) | Bound::Excluded(from) => Bound::Included(&from[..]),
        Bound::Unbounded => Bound::Unbounded,
    };
    let keys: Vec<&'k [u8]> = keys.range::<[u8], _>((from, Bound::Unbounded)).copied().collect();
    keys.into_iter().filter(|k| crate::state::in_range(range, k)).collect::<Vec<_>>().into_iter()
}

fn describe(commit: &Commit) -> String {
    let Commit { id, writes, immediate, begun, visible, confirmed, .. } = commit;
    let CommitId { writer, seq } = id;
    format!(
        "commit {seq} of thread {writer} (begun {begun}, visible {visible:?}, immediate: {immediate}, confirmed: {confirmed}) {writes:?}"
    )
}
