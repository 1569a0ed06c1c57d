//! The ticket of a read: where those who want the same page learn how it ended.
//!
//! Whoever finds a page *being read* takes the ticket from the frame's body and waits for it, or leaves a waker with it. A read that
//! failed tells its error to all who have a ticket; the page is then on disk again, and whoever asks next tries again.

use ashlar_disk::sync::Mutex;
use std::sync::Arc;
use std::task::Waker;

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
    state: Mutex<State<E>>,
}

struct State<E> {
    outcome: Option<Outcome<E>>,
    wakers: Vec<Waker>,
}

impl<E: Clone> Ticket<E> {
    pub(crate) fn new(blocking: bool) -> Ticket<E> {
        Ticket { blocking, state: Mutex::new(State { outcome: None, wakers: Vec::new() }) }
    }

    /// The read has ended.
    pub(crate) fn finish(&self, outcome: Outcome<E>) {
        let wakers = {
            let mut state = self.state.lock();
            state.outcome = Some(outcome);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome<E>> {
        self.state.lock().outcome.clone()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.state.lock().outcome.is_some()
    }

    /// Has `waker` woken when the read has ended. False: it has.
    fn wake_at_end(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.outcome.is_some() {
            return false;
        }
        if !state.wakers.iter().any(|there| there.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        true
    }
}

/// Somebody's interest in a read that is under way.
pub struct Watch<E> {
    ticket: Arc<Ticket<E>>,
}

impl<E: Clone> Watch<E> {
    pub(crate) fn new(ticket: Arc<Ticket<E>>) -> Watch<E> {
        Watch { ticket }
    }

    /// `None`: the read is under way, and `waker` is woken when it has ended. An error is the read's; without one the page is to be
    /// looked at again.
    pub fn poll(&self, waker: &Waker) -> Option<Result<(), E>> {
        if self.ticket.wake_at_end(waker) {
            return None;
        }
        match self.ticket.outcome() {
            Some(Outcome::Failed(error)) => Some(Err(error)),
            _ => Some(Ok(())),
        }
    }
}

impl<E> std::fmt::Debug for Watch<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_is_woken_once_and_told_how_it_ended() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(Default::default()));
        let waker = Waker::from(count.clone());
        let watch = Watch::new(Arc::new(Ticket::<u8>::new(false)));
        assert_eq!(watch.poll(&waker), None);
        assert_eq!(watch.poll(&waker), None);
        watch.ticket.finish(Outcome::Failed(7));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(watch.poll(&waker), Some(Err(7)));
    }
}
