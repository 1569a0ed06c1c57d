//! Stands in for `bufferpool/src/core.rs`: what the included files of the pool share, without staging and write-back. What is here is
//! as it stands there.

use crate::frame::{Body, Frames};
use crate::free_list::FreeList;
use crate::ledger::Ledger;
use crate::page_id::{Epoch, PageId};
use crate::page_table::{Entry, PageTable};
use crate::policy::Policy;
use crate::pool::LoadError;
use crate::progress::Progress;
use crate::slot::{FrameId, Slot};
use crate::states::State;
use crate::stats::Counters;
use crate::store::{Located, PageStore};
use crate::sync::Mutex;
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::sync::Arc;

/// A pool, as its parts see it.
pub(crate) struct Core<S: PageStore> {
    pub(crate) store: S,
    pub(crate) table: PageTable,
    pub(crate) frames: Frames<S::Error>,
    pub(crate) free: FreeList,
    pub(crate) ledger: Ledger,
    pub(crate) policy: Mutex<Policy>,
    pub(crate) progress: Progress,
    pub(crate) counters: Counters,
    epoch: AtomicU64,
    lives: AtomicU64,
}

impl<S: PageStore> Core<S> {
    pub(crate) fn new(pages: u64, frames: u32, store: S) -> Core<S> {
        Core {
            store,
            table: PageTable::new(pages).expect("no error"),
            frames: Frames::new(frames),
            free: FreeList::new(frames),
            ledger: Ledger::new(),
            policy: Mutex::new(Policy::new(frames)),
            progress: Progress::new(),
            counters: Counters::default(),
            epoch: AtomicU64::new(Epoch::FIRST.0),
            lives: AtomicU64::new(0),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Acquire))
    }

    pub(crate) fn turn(&self) -> Epoch {
        Epoch(self.epoch.fetch_add(1, AcqRel))
    }

    pub(crate) fn new_life(&self) -> u64 {
        self.lives.fetch_add(1, Relaxed) + 1
    }

    pub(crate) fn id_used(&self, _page: PageId) {}

    pub(crate) fn set_state(&self, frame: FrameId, body: &mut Body<S::Error>, next: State) {
        let from = body.state;
        assert!(from.leads_to(next, self.epoch()), "a frame goes from {from:?} to {next:?} in {}", self.epoch());
        self.ledger.moved(frame, from, next, &mut body.listed);
        self.frames.get(frame).set_writable_in(next.writable_in());
        body.state = next;
        if next == State::Free {
            body.holds = 0;
        }
    }

    pub(crate) fn give_back(&self, frame: FrameId) {
        self.free.put(frame);
        self.progress.happened();
    }

    pub(crate) fn read_begins(&self) {}

    pub(crate) fn read_ends(&self) {}

    pub(crate) fn batch_pages(&self) -> usize {
        1
    }

    pub(crate) fn materialize(&self, page: PageId, entry: Entry<'_>) {
        let located = match self.store.locate(page) {
            Located::At(at) => Slot::OnDisk(at),
            Located::NotAllocated => Slot::NotAllocated,
        };
        entry.latch.lock_exclusive();
        if entry.slot() == Slot::Unknown {
            entry.set(located);
            entry.latch.unlock_changed();
        } else {
            entry.latch.unlock_unchanged();
        }
    }

    /// The models have frames enough.
    pub(crate) fn obtain_frame(&self) -> Result<FrameId, LoadError<S::Error>> {
        Ok(self.free.take().expect("a free frame"))
    }

    pub(crate) fn obtain_frame_at_once(&self) -> Option<FrameId> {
        self.free.take()
    }
}

/// A transfer that was handed over.
pub(crate) struct InFlight<S: PageStore>(pub(crate) Arc<Core<S>>);
