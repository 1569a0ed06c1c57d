//! Waiting for something to happen in the pool: a transfer that completes, a frame that becomes free, a read that ends.
//!
//! Completions run only when somebody reaps them, so whoever waits while transfers are in flight must reap
//! ([`PageStore::wait`]); whoever waits while none is must not, because nothing would ever wake it there.
//!
//! 1. Whatever may end somebody's wait is followed by [`Progress::happened`]. A waiter notes the count of events, looks at what
//!    it wants, and waits only for the count to move: no event between the look and the wait is lost.
//! 2. A waiter reaps only while some transfer has been handed over and has not completed. While one is being handed over it
//!    waits here, since a transfer that fails on the way completes without anything to reap.

use crate::store::PageStore;
use ashlar_disk::sync::{Condvar, Mutex};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

/// Events and transfers in flight.
pub(crate) struct Progress {
    /// Counts what has happened. Changed with `state` locked.
    events: AtomicU64,
    state: Mutex<Transfers>,
    moved: Condvar,
}

#[derive(Default)]
struct Transfers {
    /// Handed over or being handed over, and not completed.
    outstanding: usize,
    /// Calls that hand over, under way.
    submitting: usize,
    sleepers: usize,
}

/// The count of events at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { events: AtomicU64::new(0), state: Mutex::new(Transfers::default()), moved: Condvar::new() }
    }

    /// Where the count stands: note it, then look, then [`Self::wait`].
    pub(crate) fn seen(&self) -> Seen {
        // Acquire: pairs with the Release in `bump`; what happened before a counted event is seen by looking after this.
        Seen(self.events.load(Acquire))
    }

    /// Something has happened that somebody may be waiting for.
    pub(crate) fn happened(&self) {
        self.bump(&mut self.state.lock());
    }

    /// Hands `count` transfers over by calling `submit`; each of them calls [`Self::completed`] once.
    pub(crate) fn submit(&self, count: usize, submit: impl FnOnce()) {
        {
            let mut state = self.state.lock();
            state.outstanding += count;
            state.submitting += 1;
        }
        submit();
        let mut state = self.state.lock();
        state.submitting -= 1;
        if state.sleepers > 0 {
            // Those who waited for the hand-over may have to reap now (2).
            self.moved.notify_all();
        }
    }

    /// A transfer has completed.
    pub(crate) fn completed(&self) {
        let mut state = self.state.lock();
        state.outstanding -= 1;
        self.bump(&mut state);
    }

    /// Waits for the count to move on from `seen`; may return early.
    pub(crate) fn wait<S: PageStore>(&self, store: &S, seen: Seen) {
        let mut state = self.state.lock();
        if self.seen() != seen {
            return;
        }
        if state.submitting == 0 && state.outstanding > 0 {
            drop(state);
            store.wait(&|| self.seen() != seen);
            return;
        }
        state.sleepers += 1;
        self.moved.wait(&mut state);
        state.sleepers -= 1;
    }

    /// Waits until `done`, which a completion of a transfer makes true, or another thread.
    pub(crate) fn wait_until<S: PageStore>(&self, store: &S, done: impl Fn() -> bool) {
        loop {
            let seen = self.seen();
            if done() {
                return;
            }
            self.wait(store, seen);
        }
    }

    /// Waits until `done`, which another thread makes true that is not waiting for anybody to reap.
    pub(crate) fn wait_for_thread(&self, done: impl Fn() -> bool) {
        loop {
            let seen = self.seen();
            if done() {
                return;
            }
            let mut state = self.state.lock();
            if self.seen() == seen {
                state.sleepers += 1;
                self.moved.wait(&mut state);
                state.sleepers -= 1;
            }
        }
    }

    /// Transfers that have not completed.
    pub(crate) fn outstanding(&self) -> usize {
        self.state.lock().outstanding
    }

    fn bump(&self, state: &mut Transfers) {
        self.events.store(self.events.load(Acquire) + 1, Release);
        if state.sleepers > 0 {
            self.moved.notify_all();
        }
    }
}
