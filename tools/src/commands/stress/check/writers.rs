//! Which prefix of a writer's commits gives what is there of it.

use super::history::History;
use super::state::{Compared, State};
use std::fmt::Write as _;

/// How many of a writer's commits may be there: more than one answer where some commits change nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidates {
    pub(super) least: usize,
    pub(super) most: usize,
}

/// Finds them; an error that tells what differs, where there is none.
pub(super) fn candidates(history: &History, writer: u8, found: &State) -> Result<Candidates, String> {
    let commits = history.commits.get(&writer).map_or(&[][..], |c| c);
    let mark = found.marks.get(&writer).map(|m| m.0);
    let mut at_mark = history.base.marks.get(&writer).map(|m| m.0) == mark;
    let mut compared = Compared::new(history.base.entries_of(writer), found.entries_of(writer));
    let mut matching: Option<Candidates> = None;
    let (mut nearest, mut nearest_by) = (0, usize::MAX);
    for there in 0..=commits.len() {
        if there > 0 {
            let commit = &commits[there - 1];
            let op = history.op(writer, commit);
            compared.apply(writer, commit.number, &op);
            if matches!(op.form, super::super::ops::Form::Transaction { .. }) {
                at_mark = mark == Some(commit.number);
            }
        }
        // A transaction without writes shows only in its mark.
        if compared.differing() == 0 && at_mark {
            matching = Some(Candidates { least: matching.map_or(there, |m| m.least), most: there });
        }
        if compared.differing() < nearest_by {
            (nearest, nearest_by) = (there, compared.differing());
        }
    }
    matching.ok_or_else(|| told(history, writer, found, nearest))
}

/// What is wrong, compared with the prefix that comes nearest.
fn told(history: &History, writer: u8, found: &State, nearest: usize) -> String {
    let commits = history.commits.get(&writer).map_or(&[][..], |c| c);
    let mut compared = Compared::new(history.base.entries_of(writer), found.entries_of(writer));
    commits[..nearest].iter().for_each(|c| compared.apply(writer, c.number, &history.op(writer, c)));
    let mut text = format!(
        "what is there of writer {writer} is no prefix of its {} commits (numbers {:?} to {:?}); the first {nearest} come nearest, {} keys \
         differ, its last transaction there is {:?}",
        commits.len(),
        commits.first().map(|c| c.number),
        commits.last().map(|c| c.number),
        compared.differing(),
        found.marks.get(&writer)
    );
    for (place, expected, found) in compared.differences().take(6) {
        let _ = write!(text, "\n  {place}: expected {expected:?}, found {found:?}");
    }
    text
}
