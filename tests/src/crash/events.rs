//! What happens in a process that may be killed at any moment, told line by line over a pipe.
//!
//! A commit is told before it is called, and again when it has returned: what the pipe holds when the process dies is enough to say
//! what may and what must be there. A last line that is not whole never happened.

use crate::history::{Commit, CommitId, History, Moment, Observation};
use crate::state::{Bytes, Write};
use crate::workload::{tag_of, value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::ops::Bound;
use std::sync::Mutex;

/// One line.
#[derive(Serialize, Deserialize)]
pub(super) enum Event {
    /// The database is open.
    Opened,
    /// A commit is about to be called.
    Begun { writer: u16, seq: u32, journaled: bool, immediate: bool, begun: Moment, writes: Vec<Line> },
    /// It has returned.
    Ended { writer: u16, seq: u32, visible: Moment, confirmed: bool },
    /// It has been refused, without effect.
    WithoutEffect { writer: u16, seq: u32 },
    /// A flush called at that moment has succeeded.
    Flushed { begun: Moment },
    /// A key was read.
    Seen { keyspace: String, key: Vec<u8>, found: Option<Content>, begun: Moment, ended: Moment },
    /// The database is wrong.
    Failed { text: String },
}

/// A value: what it was made from, or its bytes.
#[derive(Serialize, Deserialize)]
pub(super) enum Content {
    Made { tag: u64, len: usize },
    Bytes(Vec<u8>),
}

impl Content {
    fn of(bytes: &[u8]) -> Content {
        match tag_of(bytes) {
            Some(tag) if *value(tag, bytes.len()) == *bytes => Content::Made { tag, len: bytes.len() },
            _ => Content::Bytes(bytes.to_vec()),
        }
    }

    fn bytes(self) -> Bytes {
        match self {
            Content::Made { tag, len } => value(tag, len),
            Content::Bytes(bytes) => bytes.into(),
        }
    }
}

/// A [`Write`].
#[derive(Serialize, Deserialize)]
pub(super) enum Line {
    Put(String, Vec<u8>, Content),
    Remove(String, Vec<u8>),
    RemoveRange(String, Bound<Vec<u8>>, Bound<Vec<u8>>),
    Create(String),
    Drop(String),
    Clear(String),
}

impl Line {
    fn of(write: &Write) -> Line {
        let keyspace = write.keyspace().to_string();
        match write {
            Write::Put { key, value, .. } => Line::Put(keyspace, key.clone(), Content::of(value)),
            Write::Remove { key, .. } => Line::Remove(keyspace, key.clone()),
            Write::RemoveRange { range, .. } => Line::RemoveRange(keyspace, range.0.clone(), range.1.clone()),
            Write::Create { .. } => Line::Create(keyspace),
            Write::Drop { .. } => Line::Drop(keyspace),
            Write::Clear { .. } => Line::Clear(keyspace),
        }
    }

    fn write(self) -> Write {
        match self {
            Line::Put(keyspace, key, value) => Write::Put { keyspace: keyspace.into(), key, value: value.bytes() },
            Line::Remove(keyspace, key) => Write::Remove { keyspace: keyspace.into(), key },
            Line::RemoveRange(keyspace, from, to) => Write::RemoveRange { keyspace: keyspace.into(), range: (from, to) },
            Line::Create(keyspace) => Write::Create { keyspace: keyspace.into() },
            Line::Drop(keyspace) => Write::Drop { keyspace: keyspace.into() },
            Line::Clear(keyspace) => Write::Clear { keyspace: keyspace.into() },
        }
    }
}

impl Event {
    pub(super) fn begun(commit: &Commit) -> Event {
        let Commit { id: CommitId { writer, seq }, journaled, immediate, begun, .. } = *commit;
        Event::Begun { writer, seq, journaled, immediate, begun, writes: commit.writes.iter().map(Line::of).collect() }
    }

    pub(super) fn ended(commit: &Commit) -> Event {
        let Commit { id: CommitId { writer, seq }, visible, confirmed, .. } = *commit;
        Event::Ended { writer, seq, visible: visible.unwrap_or(Moment::MAX), confirmed }
    }

    pub(super) fn without_effect(CommitId { writer, seq }: CommitId) -> Event {
        Event::WithoutEffect { writer, seq }
    }

    pub(super) fn flushed(begun: Moment) -> Event {
        Event::Flushed { begun }
    }

    pub(super) fn seen(seen: &Observation) -> Event {
        let Observation { keyspace, key, found, begun, ended } = seen;
        let found = found.as_deref().map(Content::of);
        Event::Seen { keyspace: keyspace.to_string(), key: key.clone(), found, begun: *begun, ended: *ended }
    }
}

/// Where events go.
pub(super) struct Pipe {
    /// One line at a time: a long one takes several writes to a pipe.
    file: Mutex<File>,
}

impl Pipe {
    pub(super) fn new(file: File) -> Pipe {
        Pipe { file: Mutex::new(file) }
    }

    /// Writes a line. Nobody listens any more: the process ends.
    pub(super) fn send(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("an event is plain data");
        line.push(b'\n');
        let mut file = self.file.lock().expect("nobody panics while writing");
        if file.write_all(&line).is_err() {
            std::process::exit(3);
        }
    }
}

/// What the lines of one process tell.
#[derive(Default)]
pub(super) struct Told {
    /// Whether the database was opened.
    pub(super) opened: bool,
    commits: BTreeMap<CommitId, Commit>,
    observations: Vec<Observation>,
    flushes: Vec<Moment>,
}

impl Told {
    /// Takes a line.
    ///
    /// # Errors
    /// The failure that it tells.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), String> {
        // A line that isn't whole is the last one.
        let Ok(event) = serde_json::from_slice(line) else { return Ok(()) };
        match event {
            Event::Opened => self.opened = true,
            Event::Begun { writer, seq, journaled, immediate, begun, writes } => {
                let id = CommitId { writer, seq };
                let writes = writes.into_iter().map(Line::write).collect();
                let commit = Commit { id, writes, journaled, immediate, begun, visible: None, confirmed: false };
                self.commits.insert(id, commit);
            }
            Event::Ended { writer, seq, visible, confirmed } => {
                if let Some(commit) = self.commits.get_mut(&CommitId { writer, seq }) {
                    commit.visible = Some(visible);
                    commit.confirmed = confirmed;
                }
            }
            Event::WithoutEffect { writer, seq } => drop(self.commits.remove(&CommitId { writer, seq })),
            Event::Flushed { begun } => self.flushes.push(begun),
            Event::Seen { keyspace, key, found, begun, ended } => {
                let found = found.map(Content::bytes);
                self.observations.push(Observation { keyspace: keyspace.into(), key, found, begun, ended });
            }
            Event::Failed { text } => return Err(text),
        }
        Ok(())
    }

    /// How many commits were begun.
    pub(super) fn commits(&self) -> usize {
        self.commits.len()
    }

    /// The lowest number that no commit has.
    pub(super) fn next_seq(&self) -> u32 {
        self.commits.keys().map(|id| id.seq + 1).max().unwrap_or(0)
    }

    /// Enters everything into the history.
    pub(super) fn enter(self, history: &mut History) {
        history.add_commits(self.commits.into_values().collect());
        history.add_observations(self.observations);
        self.flushes.into_iter().for_each(|begun| history.add_flush(begun));
    }
}
