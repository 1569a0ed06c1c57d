//! Whether what was read may have been read.

use super::{Commit, CommitId, History, Observation};
use crate::state::show;
use crate::workload::tag_of;

impl History {
    /// A commit that a reader saw was visible from then on, all of it and to everybody; one that must be durable to be seen was.
    pub(super) fn note_what_was_seen(&mut self) -> Result<(), String> {
        for observation in &self.observations {
            let Some(tag) = observation.found.as_deref().and_then(tag_of) else { continue };
            let id = CommitId::of_tag(tag);
            let commits = self.commits.entry(id.writer).or_default();
            let Ok(index) = commits.binary_search_by_key(&id.seq, |c| c.id.seq) else { continue };
            let commit = &mut commits[index];
            commit.visible = Some(commit.visible.map_or(observation.ended, |at| at.min(observation.ended)));
            commit.confirmed |= commit.immediate;
        }
        Ok(())
    }

    pub(super) fn check_reads(&self) -> Result<(), String> {
        self.observations.iter().try_for_each(|observation| self.check_read(observation))
    }

    /// A read is right if some commit that had begun (or the state before all of them) left the key as it was found, and nothing
    /// that came after that commit had been visible when the read began.
    fn check_read(&self, read: &Observation) -> Result<(), String> {
        let touching: Vec<&Commit> = self.all().filter(|c| c.effect(&read.keyspace, &read.key).is_some()).collect();
        let visible_before = |c: &Commit| c.visible.is_some_and(|at| at < read.begun);
        let before = self.base.get(&*read.keyspace).and_then(|entries| entries.get(&read.key));
        if before == read.found.as_ref() && !touching.iter().any(|c| visible_before(c)) {
            return Ok(());
        }
        let fits = |commit: &&&Commit| {
            let left = commit.effect(&read.keyspace, &read.key).flatten();
            let replaced = || touching.iter().any(|later| visible_before(later) && commit.comes_before(later));
            left == read.found.as_ref() && commit.begun < read.ended && !replaced()
        };
        if touching.iter().any(|commit| fits(&commit)) {
            return Ok(());
        }
        Err(self.wrong_read(read, &touching))
    }

    fn wrong_read(&self, read: &Observation, touching: &[&Commit]) -> String {
        let Observation { keyspace, key, found, begun, ended } = read;
        let value = |v: Option<&crate::state::Bytes>| v.map_or("nothing".to_owned(), |v| show(v));
        let before = self.base.get(&**keyspace).and_then(|entries| entries.get(key));
        let mut text = format!(
            "a read of {keyspace}/{} from {begun} to {ended} gave {}; it held {} before",
            show(key),
            value(found.as_ref()),
            value(before)
        );
        for c in touching {
            let left = value(c.effect(keyspace, key).flatten());
            text += &format!("\n  {:?}, begun {}, visible {:?}: {left}", c.id, c.begun, c.visible);
        }
        text
    }
}
