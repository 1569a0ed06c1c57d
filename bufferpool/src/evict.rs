//! Making room by letting clean pages go.
//!
//! A victim is evicted under its page's exclusive latch, which is only tried for: who waits for frames never waits for a page
//! that others are using, as long as there are other pages. Dirty victims are handed back to the caller, to be written.

use crate::core::Core;
use crate::slot::{FrameId, Slot};
use crate::states::State;
use crate::store::PageStore;

/// What a search for victims has come to.
#[derive(Default, Debug)]
pub(crate) struct Evicted {
    /// Frames that went to the free list.
    pub(crate) freed: usize,
    /// Victims that must be written first.
    pub(crate) dirty: Vec<FrameId>,
    /// A victim that was latched by somebody.
    pub(crate) busy: Option<FrameId>,
    /// Victims that are kept by holds, times they came up.
    pub(crate) held: usize,
}

/// What became of a victim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Victim {
    Evicted,
    /// Dirty: to be written first.
    Dirty,
    /// Latched.
    Busy,
    /// Held.
    Held,
    /// Being written, or not there any more.
    Stays,
}

impl<S: PageStore> Core<S> {
    /// Evicts `wanted` clean pages, or as many as there are.
    pub(crate) fn evict(&self, wanted: usize) -> Evicted {
        let mut found = Evicted::default();
        let mut search = self.policy.lock().search();
        let dirty_max = self.batch_pages();
        while found.freed < wanted && found.dirty.len() < dirty_max {
            let victim = self.policy.lock().next_victim(&mut search, |frame| self.frames.take_mark(frame));
            let Some(frame) = victim else { break };
            match self.try_evict(frame) {
                Victim::Evicted => found.freed += 1,
                Victim::Dirty if !found.dirty.contains(&frame) => found.dirty.push(frame),
                Victim::Busy => found.busy = Some(frame),
                Victim::Held => found.held += 1,
                Victim::Dirty | Victim::Stays => {}
            }
        }
        found
    }

    /// Lets the page in `frame` go, if it is clean and nobody uses it.
    pub(crate) fn try_evict(&self, frame: FrameId) -> Victim {
        let header = self.frames.get(frame);
        let page = header.page();
        let Some(entry) = self.table.entry(page) else { return Victim::Stays };
        if !entry.latch.try_lock_exclusive() {
            return Victim::Busy;
        }
        let mut body = header.lock();
        let outcome = match body.state {
            _ if !entry.is_resident_in(frame) => Victim::Stays,
            _ if body.holds > 0 => Victim::Held,
            State::Clean { at } => {
                self.set_state(frame, &mut body, State::Free);
                entry.set(Slot::OnDisk(at));
                Victim::Evicted
            }
            State::Dirty { .. } => Victim::Dirty,
            _ => Victim::Stays,
        };
        drop(body);
        if outcome != Victim::Evicted {
            entry.latch.unlock_unchanged();
            return outcome;
        }
        self.policy.lock().evicted(frame, page);
        entry.latch.unlock_changed();
        self.give_back(frame);
        self.counters.evictions.add(1);
        outcome
    }

    /// Waits for whoever has the page in `frame` latched. With nothing latched.
    pub(crate) fn await_latch(&self, frame: FrameId) {
        if let Some(entry) = self.table.entry(self.frames.get(frame).page()) {
            entry.latch.lock_exclusive();
            entry.latch.unlock_unchanged();
        }
    }
}
