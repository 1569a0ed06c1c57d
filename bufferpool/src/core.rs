//! What all parts of the pool share, and the one place where a frame changes its state.
//!
//! The parts: [`crate::load`] brings pages in, [`crate::change`] makes them dirty, copies and frees them, [`crate::evict`]
//! and [`crate::reserve`] make room, [`crate::writeback`] and [`crate::checkpoint`] write.

use crate::frame::{Body, Frames};
use crate::free_list::FreeList;
use crate::fresh::Fresh;
use crate::ledger::Ledger;
use crate::page_id::{Epoch, PageId};
use crate::page_table::{Entry, PageTable};
use crate::policy::Policy;
use crate::pool::{PoolError, PoolOptions};
use crate::progress::Progress;
use crate::slot::{FrameId, Slot};
use crate::states::State;
use crate::stats::Counters;
use crate::store::{Located, PageStore};
use crate::writeback::{self, Staging};
use ashlar_disk::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// A pool, as its parts see it.
pub(crate) struct Core<S: PageStore> {
    pub(crate) store: S,
    pub(crate) table: PageTable,
    pub(crate) frames: Frames<S::Error>,
    pub(crate) free: FreeList,
    pub(crate) fresh: Fresh,
    pub(crate) ledger: Ledger,
    pub(crate) policy: Mutex<Policy>,
    pub(crate) progress: Progress,
    pub(crate) staging: Staging,
    pub(crate) counters: Counters,
    pub(crate) limits: Limits,
    starts_cold: bool,
    epoch: AtomicU64,
    /// Stays of pages in memory so far: each gets a number of its own.
    lives: AtomicU64,
    /// No id at or above this was ever in use.
    ids_end: AtomicU64,
    /// Reads that were claimed and have not ended.
    reading: AtomicUsize,
    /// Batches of images in flight.
    writing: AtomicUsize,
    /// Whether `write_error` is set: asked before every wait.
    has_write_error: AtomicBool,
    write_error: Mutex<Option<S::Error>>,
}

/// Numbers of frames that follow from how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At most so many frames are unclean or reserved: the rest is for reading.
    pub(crate) unclean_max: usize,
    /// Background write-back begins here.
    pub(crate) write_behind: usize,
    /// Background eviction keeps so many frames free.
    pub(crate) free_target: usize,
    /// Victims are looked for in groups of so many.
    pub(crate) victims: usize,
}

impl Limits {
    fn new(frames: u32) -> Limits {
        let frames = frames as usize;
        Limits {
            unclean_max: frames / 4 * 3,
            write_behind: frames / 2,
            free_target: (frames / 64).clamp(1, 1024),
            victims: (frames / 64).clamp(1, 64),
        }
    }
}

impl<S: PageStore> Core<S> {
    pub(crate) fn new(options: &PoolOptions, store: S) -> Result<Core<S>, PoolError> {
        options.check()?;
        let table = PageTable::new(options.pages_max)?;
        table.open_below(options.page_ids)?;
        Ok(Core {
            store,
            table,
            frames: Frames::new(options.page_size, options.frames)?,
            free: FreeList::new(options.frames),
            fresh: Fresh::default(),
            ledger: Ledger::new(),
            policy: Mutex::new(Policy::new(options.frames)),
            progress: Progress::new(),
            staging: Staging::new(writeback::STAGING_BYTES.max(options.page_size)),
            counters: Counters::default(),
            limits: Limits::new(options.frames),
            starts_cold: options.page_ids > 0,
            epoch: AtomicU64::new(Epoch::FIRST.0),
            lives: AtomicU64::new(0),
            ids_end: AtomicU64::new(options.page_ids),
            reading: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
            has_write_error: AtomicBool::new(false),
            write_error: Mutex::new(None),
        })
    }

    /// Whether there were pages, on disk, when the pool was made.
    pub(crate) fn starts_cold(&self) -> bool {
        self.starts_cold
    }

    /// The current epoch.
    #[inline]
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Acquire))
    }

    /// Begins the next epoch and gives the one that has ended.
    pub(crate) fn turn(&self) -> Epoch {
        Epoch(self.epoch.fetch_add(1, AcqRel))
    }

    /// A number for a page's stay in memory.
    pub(crate) fn new_life(&self) -> u64 {
        self.lives.fetch_add(1, Relaxed) + 1
    }

    /// Ids below this were in use at some time; those at or above it never.
    pub(crate) fn ids_end(&self) -> u64 {
        self.ids_end.load(Acquire)
    }

    /// `page` is in use.
    pub(crate) fn id_used(&self, page: PageId) {
        self.ids_end.fetch_max(page.0 + 1, AcqRel);
    }

    /// The one place where a frame changes its state.
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

    /// The frame, whose state is *free* by now, goes to the free list.
    pub(crate) fn give_back(&self, frame: FrameId) {
        self.free.put(frame);
        self.progress.happened();
    }

    /// How many reads were claimed and have not ended.
    pub(crate) fn reads_under_way(&self) -> usize {
        self.reading.load(Acquire)
    }

    pub(crate) fn read_begins(&self) {
        self.reading.fetch_add(1, AcqRel);
    }

    pub(crate) fn read_ends(&self) {
        self.reading.fetch_sub(1, AcqRel);
    }

    /// How many batches of images are in flight.
    pub(crate) fn writes_in_flight(&self) -> usize {
        self.writing.load(Acquire)
    }

    pub(crate) fn write_begins(&self) {
        self.writing.fetch_add(1, AcqRel);
    }

    pub(crate) fn write_ends(&self) {
        self.writing.fetch_sub(1, AcqRel);
    }

    /// How many pages a batch has room for.
    pub(crate) fn batch_pages(&self) -> usize {
        self.staging.bytes() / self.frames.page_size()
    }

    /// Asks the store for the page of an *unknown* slot. Takes the latch.
    pub(crate) fn materialize(&self, page: PageId, entry: Entry<'_>) {
        let located = match self.store.locate(page) {
            Located::At(at) => Slot::OnDisk(at),
            Located::NotAllocated => Slot::NotAllocated,
        };
        entry.latch.lock_exclusive();
        // Nothing of a page whose slot is unknown can have changed, so the answer still is right where it is asked for.
        if entry.slot() == Slot::Unknown {
            entry.set(located);
            entry.latch.unlock_changed();
        } else {
            entry.latch.unlock_unchanged();
        }
    }

    /// The first error of a write since the last merge.
    pub(crate) fn write_error(&self) -> Option<S::Error> {
        if !self.has_write_error.load(Acquire) {
            return None;
        }
        self.write_error.lock().clone()
    }

    /// Remembers a write's error, if it is the first.
    pub(crate) fn set_write_error(&self, error: S::Error) {
        self.write_error.lock().get_or_insert(error);
        self.has_write_error.store(true, Release);
    }

    /// Forgets it.
    pub(crate) fn clear_write_error(&self) {
        *self.write_error.lock() = None;
        self.has_write_error.store(false, Release);
    }
}

/// A transfer that was handed over: when this is dropped it has completed, whether or not its completion ran.
pub(crate) struct InFlight<S: PageStore>(pub(crate) Arc<Core<S>>);

impl<S: PageStore> Drop for InFlight<S> {
    fn drop(&mut self) {
        self.0.progress.completed();
    }
}
