//! The ticket of a read: where those who want the same page learn how it ended.
//!
//! Whoever finds a page *being read* takes the ticket from the frame's body and waits for it. A read that failed tells its error
//! to all who have a ticket; the page is then on disk again, and whoever asks next tries again.

use ashlar_disk::sync::Mutex;

/// How a read ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome<E> {
    /// The page is resident, or was for a moment: look again.
    LookAgain,
    /// It failed.
    Failed(E),
}

/// A read under way.
pub(crate) struct Ticket<E> {
    /// Who completes it: a thread that is inside a blocking read, or whoever reaps.
    pub(crate) blocking: bool,
    outcome: Mutex<Option<Outcome<E>>>,
}

impl<E: Clone> Ticket<E> {
    pub(crate) fn new(blocking: bool) -> Ticket<E> {
        Ticket { blocking, outcome: Mutex::new(None) }
    }

    /// The read has ended.
    pub(crate) fn finish(&self, outcome: Outcome<E>) {
        *self.outcome.lock() = Some(outcome);
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome<E>> {
        self.outcome.lock().clone()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.outcome.lock().is_some()
    }
}
