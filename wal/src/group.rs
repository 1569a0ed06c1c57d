//! Group commit: who writes, and who waits for whom.
//!
//! ```text
//!   caller ──▶ durable already? ──yes──▶ done
//!                │ no
//!                ▼
//!            nobody writes? ──yes──▶ takes the turn, writes all that is pending (one batch), gives the turn back
//!                │ no                     wakes: all who waited for this batch, one of those who wait for the next
//!                ▼
//!            waits, then asks again
//! ```
//!
//! Invariants:
//! 1. At most one [`Turn`] exists; with it goes the [`Writer`], so one flush is being written at a time.
//! 2. A waiter is in one of two lines: of the batch being written, or of the next. The end of a batch wakes all of its line
//!    and one of the other, who leads the next batch unless somebody was quicker; all others of that line are in that batch. Who
//!    stands in the wrong line is woken too early and asks again; nobody is left behind.
//! 3. The first error stays: afterwards nobody gets the turn and nothing becomes durable.
//! 4. `durable` only rises, and only when a flush has completed durably.

use crate::writer::Writer;
use crate::{Error, Lsn, Result};
use ashlar_disk::sync::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};

/// The turn and the lines.
pub(crate) struct Group {
    state: Mutex<State>,
    lines: [Condvar; 2],
    durable: AtomicU64,
}

struct State {
    /// Here when nobody has the turn.
    writer: Option<Box<Writer>>,
    /// Counts batches: the line of the batch being written, or written last, is `lines[batch % 2]`.
    batch: usize,
    /// Up to where that batch goes.
    batch_end: Lsn,
    failed: Option<Error>,
}

impl Group {
    /// All before `durable` is durable.
    pub(crate) fn new(writer: Writer, durable: Lsn) -> Group {
        let state = State { writer: Some(Box::new(writer)), batch: 0, batch_end: durable, failed: None };
        let lines = [Condvar::new(), Condvar::new()];
        Group { state: Mutex::new(state), lines, durable: AtomicU64::new(durable.0) }
    }

    /// Up to where the log is durable.
    pub(crate) fn durable(&self) -> Lsn {
        // Acquire: whoever sees the position sees what its flush's writer did before. Pairs with the release in `confirm`.
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Returns when the log is durable up to `lsn` (none), or when it is the caller's turn to write (some).
    pub(crate) fn wait_or_lead(&self, lsn: Lsn) -> Result<Option<Turn<'_>>> {
        if self.durable() >= lsn {
            return Ok(None);
        }
        let mut state = self.state.lock();
        loop {
            if self.durable() >= lsn {
                return Ok(None);
            }
            if let Some(turn) = self.take_turn(&mut state)? {
                return Ok(Some(turn));
            }
            let line = if lsn <= state.batch_end { state.batch } else { state.batch + 1 };
            self.lines[line % 2].wait(&mut state);
        }
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_lead(&self) -> Result<Option<Turn<'_>>> {
        self.take_turn(&mut self.state.lock())
    }

    /// A flush that ends at `end` is durable, and with it all before it (1).
    pub(crate) fn confirm(&self, end: Lsn) {
        // The lock: a waiter that has just found itself not durable must be in its line before the line is woken.
        let state = self.state.lock();
        debug_assert!(self.durable() < end, "(4)");
        // Release: pairs with the acquire in `durable`.
        self.durable.store(end.0, Ordering::Release);
        self.lines[state.batch % 2].notify_all();
    }

    fn take_turn(&self, state: &mut State) -> Result<Option<Turn<'_>>> {
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let Some(writer) = state.writer.take() else { return Ok(None) };
        state.batch += 1;
        // Until the batch is known, all who come are taken to belong to it (2).
        state.batch_end = Lsn(u64::MAX);
        Ok(Some(Turn { group: self, writer: Some(writer) }))
    }
}

/// The right to write. Dropped without `give_back` (a panic on the way), it fails the log: what was written is unknown.
pub(crate) struct Turn<'a> {
    group: &'a Group,
    writer: Option<Box<Writer>>,
}

impl Turn<'_> {
    /// What writes.
    pub(crate) fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("the turn has the writer until it is given back")
    }

    /// The batch goes up to `end`: who waits for more belongs to the next.
    pub(crate) fn begin(&self, end: Lsn) {
        self.group.state.lock().batch_end = end;
    }

    /// The batch is written.
    pub(crate) fn give_back(mut self) {
        let mut state = self.group.state.lock();
        state.writer = self.writer.take();
        self.group.lines[state.batch % 2].notify_all();
        self.group.lines[(state.batch + 1) % 2].notify_one();
    }

    /// The batch could not be written, or not be confirmed.
    pub(crate) fn fail(mut self, error: Error) {
        self.writer = None;
        self.group.fail(error);
    }
}

impl Group {
    fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        state.failed.get_or_insert(error);
        self.lines.iter().for_each(|line| line.notify_all());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.group.fail(Error::Panicked);
        }
    }
}
