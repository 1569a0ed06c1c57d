//! What the threads of a life have done and been given.

use super::seen::Seen;
use crate::history::Moment;
use crate::state::Write;
use ashlardb::Isolation;

/// A commit that has taken an LSN.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) lsn: u64,
    pub(super) writes: Vec<Write>,
    /// What must have been so right before it.
    pub(super) premise: Option<Seen>,
    pub(super) immediate: bool,
    pub(super) thread: usize,
    /// When it was called.
    pub(super) begun: Moment,
    /// When it had returned without an error.
    pub(super) returned: Option<Moment>,
}

/// One step of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Write(Write),
    Read(Seen),
    /// A savepoint; they are numbered from 0.
    Savepoint,
    /// Back to the savepoint of that number.
    RollBack(usize),
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// By a commit that returned.
    Committed,
    /// By a commit that lost to another.
    Conflict,
    /// Without a commit.
    RolledBack,
    /// By an error, or not at all: what it has read was handed to nobody.
    Failed,
}

/// A transaction.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) thread: usize,
    pub(super) isolation: Isolation,
    /// When `begin` was called, and when it had returned.
    pub(super) begun: Moment,
    pub(super) in_being: Moment,
    pub(super) read_lsn: u64,
    pub(super) steps: Vec<Step>,
    /// Its commit's LSN, if it took one.
    pub(super) lsn: Option<u64>,
    pub(super) end: End,
    pub(super) ended: Moment,
}

/// A snapshot and the reads from it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) thread: usize,
    /// When it was asked for, and when it was there.
    pub(super) begun: Moment,
    pub(super) taken: Moment,
    pub(super) lsn: u64,
    /// Whether it is of the last checkpoint, and so may be behind.
    pub(super) of_checkpoint: bool,
    /// Whether the machine had crashed by then.
    pub(super) crashed: bool,
    pub(super) reads: Vec<Seen>,
}

/// A read without snapshot or transaction.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) thread: usize,
    pub(super) begun: Moment,
    pub(super) ended: Moment,
    /// Whether the machine had crashed by its end.
    pub(super) crashed: bool,
    pub(super) seen: Seen,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) commits: Vec<Commit>,
    pub(super) transactions: Vec<Transaction>,
    pub(super) views: Vec<View>,
    pub(super) plains: Vec<Plain>,
    /// When something was called, with success, that makes durable all that had returned by then.
    pub(super) flushes: Vec<Moment>,
    /// Reads that gave an error since their snapshot was taken away.
    pub(super) too_old: u64,
}

impl Records {
    pub(super) fn append(&mut self, mut other: Records) {
        self.commits.append(&mut other.commits);
        self.transactions.append(&mut other.transactions);
        self.views.append(&mut other.views);
        self.plains.append(&mut other.plains);
        self.flushes.append(&mut other.flushes);
        self.too_old += other.too_old;
    }
}

impl Transaction {
    /// Its writes, in order, but for those that it rolled back. A keyspace that it made and dropped again never was.
    pub(super) fn writes(&self) -> Vec<Write> {
        let (mut writes, mut marks) = (Vec::new(), Vec::new());
        for step in &self.steps {
            match step {
                Step::Write(write) => writes.push(write.clone()),
                Step::Savepoint => marks.push(writes.len()),
                Step::RollBack(number) => writes.truncate(marks[*number]),
                Step::Read(_) => {}
            }
        }
        while let Some((made, dropped)) = passing(&writes) {
            let keyspace = writes[made].keyspace().clone();
            let mut number = 0..;
            writes.retain(|w| {
                let within = number.next().is_some_and(|n| (made..=dropped).contains(&n));
                !within || *w.keyspace() != keyspace
            });
        }
        writes
    }
}

/// Where a keyspace is made that is dropped later, and where that is.
fn passing(writes: &[Write]) -> Option<(usize, usize)> {
    let drops = (0..writes.len()).filter(|&n| matches!(writes[n], Write::Drop { .. }));
    drops.into_iter().find_map(|dropped| {
        let keyspace = writes[dropped].keyspace();
        let is_whole = |w: &Write| w.keyspace() == keyspace && matches!(w, Write::Create { .. } | Write::Drop { .. });
        let last = (0..dropped).rev().find(|&n| is_whole(&writes[n]))?;
        matches!(writes[last], Write::Create { .. }).then_some((last, dropped))
    })
}
