//! The pool as others use it: options, look-ups, loads, reservations, and what they can refuse.

use crate::checkpoint::Pace;
use crate::core::Core;
use crate::guard::{ExclusiveGuard, Optimistic, SharedGuard};
use crate::hold::{Hold, Reservation};
use crate::page_id::{Epoch, PageId};
use crate::slot::FrameId;
use crate::stats::PoolStats;
use crate::store::PageStore;
use crate::ticket::Watch;
use std::sync::Arc;

/// The smallest pool, in frames.
pub const FRAMES_MIN: u32 = 16;

/// The smallest page, in bytes.
pub const PAGE_SIZE_MIN: usize = 4096;

/// The largest page, in bytes.
pub const PAGE_SIZE_MAX: usize = 65536;

/// How a pool is made.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Size of a page in bytes: a power of two from [`PAGE_SIZE_MIN`] to [`PAGE_SIZE_MAX`].
    pub page_size: usize,
    /// How many frames, [`FRAMES_MIN`] at least. Their memory is taken as they are used.
    pub frames: u32,
    /// Page ids are below this: the page table reserves address space, 16 bytes a page.
    pub pages_max: u64,
    /// Page ids in use so far are below this.
    pub page_ids: u64,
}

impl PoolOptions {
    pub(crate) fn check(&self) -> Result<(), PoolError> {
        if !self.page_size.is_power_of_two() || !(PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&self.page_size) {
            return Err(PoolError::PageSize { page_size: self.page_size });
        }
        if !(FRAMES_MIN..=FrameId::END).contains(&self.frames) {
            return Err(PoolError::Frames { frames: self.frames });
        }
        if self.page_ids > self.pages_max {
            return Err(PoolError::Pages { page_ids: self.page_ids, pages_max: self.pages_max });
        }
        Ok(())
    }
}

/// Why a pool could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PoolError {
    /// The page size is none.
    #[error("a page of {page_size} bytes: it must be a power of two from {PAGE_SIZE_MIN} to {PAGE_SIZE_MAX}")]
    PageSize {
        /// What was asked for.
        page_size: usize,
    },
    /// Too few or too many frames.
    #[error("{frames} frames: at least {FRAMES_MIN} are needed, and at most {} can be had", FrameId::END)]
    Frames {
        /// What was asked for.
        frames: u32,
    },
    /// More pages are in use than the table has room for.
    #[error("{page_ids} page ids are in use, but there is room for {pages_max}")]
    Pages {
        /// In use.
        page_ids: u64,
        /// Room for.
        pages_max: u64,
    },
    /// The system gives no memory.
    #[error(transparent)]
    Memory(#[from] ashlar_disk::Error),
}

/// Why a look-up found nothing to look at: what has to be done outside, before it is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// The page is not in memory: [`Pool::load`] it.
    NotResident(PageId),
    /// There is no such page.
    NotAllocated(PageId),
}

impl Miss {
    /// Which page was missed.
    pub fn page(self) -> PageId {
        match self {
            Miss::NotResident(page) | Miss::NotAllocated(page) => page,
        }
    }
}

/// Why a page could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError<E: std::error::Error + 'static> {
    /// There is no such page.
    #[error("{0} is not allocated")]
    NotAllocated(PageId),
    /// It could not be read; all who waited for the same read are told the same.
    #[error(transparent)]
    Store(E),
    /// No frame could be had for it: nothing clean is left, and writing has failed.
    #[error("no frame is free, and changed pages cannot be written")]
    WriteBack(#[source] E),
    /// The page table could not be opened so far.
    #[error(transparent)]
    Memory(#[from] ashlar_disk::Error),
}

/// Why frames could not be reserved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReserveError<E: std::error::Error + 'static> {
    /// More than the pool ever gives to changes: the cache must be made larger.
    #[error("{needed} frames are needed at once, but the cache gives {frames_max} at most: make it larger")]
    CacheTooSmall {
        /// What was asked for.
        needed: usize,
        /// What can be had at most.
        frames_max: usize,
    },
    /// Changed pages can't be written, so nothing can become free.
    #[error("no frame is free, and changed pages cannot be written")]
    WriteBack(#[source] E),
    /// There may be no id left for a new page.
    #[error("there is room for {pages_max} pages, and all of them are in use")]
    TooManyPages {
        /// Page ids are below this.
        pages_max: u64,
    },
    /// The page table could not be opened for new pages.
    #[error(transparent)]
    Memory(#[from] ashlar_disk::Error),
}

/// Pages in memory, in front of a [`PageStore`]. See [the crate's page](crate) for the rules of latching.
pub struct Pool<S: PageStore> {
    core: Arc<Core<S>>,
}

impl<S: PageStore> Pool<S> {
    /// A pool with nothing in it, in [`Epoch::FIRST`].
    pub fn new(options: PoolOptions, store: S) -> Result<Pool<S>, PoolError> {
        Ok(Pool { core: Arc::new(Core::new(&options, store)?) })
    }

    /// The store behind it.
    pub fn store(&self) -> &S {
        &self.core.store
    }

    /// Size of a page in bytes.
    pub fn page_size(&self) -> usize {
        self.core.frames.page_size()
    }

    /// How many frames it has.
    pub fn frames(&self) -> u32 {
        self.core.frames.count()
    }

    /// The most frames that one reservation can have.
    pub fn reservation_max(&self) -> usize {
        self.core.limits.unclean_max
    }

    /// The page for reading without a latch. Waits while somebody changes it.
    #[inline]
    pub fn optimistic(&self, page: PageId) -> Result<Optimistic<'_>, Miss> {
        self.core.optimistic(page)
    }

    /// Asks the processor for the memory that a look-up or a change of `page` touches first, if the page is in memory. It is only
    /// faster then.
    #[inline]
    pub fn fetch(&self, page: PageId) {
        self.core.fetch(page);
    }

    /// The page under its shared latch, which is waited for.
    #[inline]
    pub fn shared(&self, page: PageId) -> Result<SharedGuard<'_>, Miss> {
        self.core.shared(page)
    }

    /// The page under its exclusive latch, which is waited for; dirty in the current epoch from here on. A frozen page goes on
    /// in a copy, in a frame out of `frames`.
    ///
    /// # Panics
    /// Where a copy is needed and `frames` is used up: an operation reserves for all pages that it changes or makes.
    #[inline]
    pub fn exclusive(&self, page: PageId, frames: &mut Reservation<'_, S>) -> Result<ExclusiveGuard<'_, S>, Miss> {
        self.core.exclusive(page, frames)
    }

    /// A new page, zeroed, dirty, under its exclusive latch, in a frame out of `frames`.
    ///
    /// # Panics
    /// Where `frames` is used up.
    pub fn create(&self, frames: &mut Reservation<'_, S>) -> ExclusiveGuard<'_, S> {
        self.core.create(frames)
    }

    /// The guard's page is gone, and its id free for a new one.
    pub fn free(&self, guard: ExclusiveGuard<'_, S>) {
        self.core.free(guard);
    }

    /// `page` is gone, without its being read or copied first. [`Miss::NotResident`] only while it is being read: load it, and
    /// try again. Takes its exclusive latch.
    pub fn discard(&self, page: PageId) -> Result<(), Miss> {
        self.core.discard(page)
    }

    /// `page` is gone from the checkpoints of this epoch on, but stays readable until it is discarded. It does not change any more.
    ///
    /// # Errors
    /// [`Miss::NotAllocated`].
    pub fn retire(&self, page: PageId) -> Result<(), Miss> {
        self.core.retire(page)
    }

    /// Reads `page` if need be, and holds it: it stays until the hold is dropped. Waits, so it is called with nothing latched.
    pub fn load(&self, page: PageId) -> Result<Hold<'_, S>, LoadError<S::Error>> {
        self.core.load(page, None)
    }

    /// Like [`Self::load`], with a frame out of `frames` while there is one: it does not wait for frames then.
    pub fn load_from(&self, page: PageId, frames: &mut Reservation<'_, S>) -> Result<Hold<'_, S>, LoadError<S::Error>> {
        self.core.load(page, Some(frames))
    }

    /// Starts reads of those of `pages` that are not in memory, as far as frames are free or clean, and gives their number.
    /// Does not wait for the reads. Stops at the first page for which there is no frame.
    pub fn prefetch(&self, pages: &[PageId]) -> usize {
        self.core.prefetch(pages)
    }

    /// Starts reads of those of `pages` that are not in memory, waiting for frames where none is free or clean, but not for the reads.
    /// What can't be had is left out: whoever needs it is told why. Called with nothing latched and nothing reserved.
    pub fn bring(&self, pages: &[PageId]) {
        self.core.bring(pages);
    }

    /// Where `page` stands on disk, if it is not in memory: by its address pages can be brought in that order. It may have changed by the
    /// time this is known.
    pub fn address(&self, page: PageId) -> Option<u64> {
        self.core.address(page)
    }

    /// Whether `page` is being read; it may not be any more by the time this is known.
    pub fn is_being_read(&self, page: PageId) -> bool {
        self.core.is_being_read(page)
    }

    /// Whether `page` is in memory; it may not be any more by the time this is known.
    pub fn is_resident(&self, page: PageId) -> bool {
        self.core.is_resident(page)
    }

    /// The read of `page` that is under way, to leave a waker with; `None`: none is, look at the page again. Somebody must reap
    /// ([`Self::reap`]) for the waker to be woken.
    pub fn watch(&self, page: PageId) -> Option<Watch<S::Error>> {
        self.core.watch(page)
    }

    /// Waits until something has happened, completing transfers for everybody; false at once where none is in flight. With nothing
    /// latched.
    pub fn reap(&self) -> bool {
        self.core.reap()
    }

    /// The store is about to give out `n` page ids on its own account, for what never stands in a frame, or for pages written
    /// around the pool: the page table is opened for them. One such caller at a time, until it has taken the ids.
    pub fn admit_ids(&self, n: usize) -> Result<(), ReserveError<S::Error>> {
        self.core.open_ids(n)
    }

    /// `n` free frames, taken out of the pool: as many as the operation may change pages. Waits for them and for write-back, so
    /// it is called with nothing latched, and with nothing held that others may wait for.
    pub fn reserve(&self, n: usize) -> Result<Reservation<'_, S>, ReserveError<S::Error>> {
        let mut reservation = Reservation::empty(&self.core);
        self.core.reserve(&mut reservation, n)?;
        Ok(reservation)
    }

    /// Fills a reservation up to `n` frames again, as [`Self::reserve`] does: the next step of an operation reserves anew. If it
    /// has to wait it gives back first what is in it; after an error nothing is in it.
    pub fn refill(&self, frames: &mut Reservation<'_, S>, n: usize) -> Result<(), ReserveError<S::Error>> {
        self.core.reserve(frames, n)
    }

    /// The current epoch.
    pub fn epoch(&self) -> Epoch {
        self.core.epoch()
    }

    /// Ends the current epoch, which is returned, and begins the next. The caller makes sure that no [`ExclusiveGuard`] is
    /// alive: this is the cut of a checkpoint.
    pub fn turn(&self) -> Epoch {
        self.core.turn()
    }

    /// Returns when every image of epochs up to `last`, which has ended, has been written and recorded, or with the first error
    /// of a write. After an error the epoch can only be merged ([`Self::merge_epoch`]). Called with nothing latched.
    pub fn write_epoch(&self, last: Epoch, pace: &dyn Pace) -> Result<(), S::Error> {
        self.core.write_epoch(last, pace)
    }

    /// The checkpoint of `last`, the epoch before the current one, will not be finished: what is dirty in it is dirty in the
    /// current one, and the error of a failed write is forgotten. The store merges its delta after this, not before.
    pub fn merge_epoch(&self, last: Epoch) {
        self.core.merge_epoch(last);
    }

    /// Bytes of frames that were never used, so that the kernel need not have given them memory yet.
    pub fn idle_memory(&self) -> usize {
        (self.core.frames.count() - self.core.free.used()) as usize * self.core.frames.page_size()
    }

    /// Takes from the kernel some of the memory of as many frames, where they are soon needed: whoever touches it first waits for that. Gives
    /// whether there is more to take.
    pub fn take_memory(&self, frames: usize) -> bool {
        self.core.populate_first(frames)
    }

    /// One step of background eviction and write-back. Gives whether there is more to do at once. Called with nothing latched.
    pub fn maintain(&self) -> bool {
        self.core.maintain()
    }

    /// The first error of a write since the last merge.
    pub fn write_error(&self) -> Option<S::Error> {
        self.core.write_error()
    }

    /// Whether a page that exists may not be in memory: some have been evicted, or were there when the pool was made. While it is
    /// false, prefetching and read-ahead would find nothing to do.
    #[inline]
    pub fn may_miss(&self) -> bool {
        self.core.starts_cold() || self.core.counters.evictions.get() > 0
    }

    /// How many frames hold changes that are not on disk yet.
    pub fn dirty_pages(&self) -> usize {
        self.core.ledger.unclean()
    }

    /// What it has done, and how full it is.
    pub fn stats(&self) -> PoolStats {
        let core = &self.core;
        let count = &core.counters;
        PoolStats {
            page_size: core.frames.page_size(),
            frames: core.frames.count() as usize,
            frames_used: core.free.used() as usize,
            frames_free: core.free.len(),
            frames_reserved: core.free.reserved(),
            frames_unclean: core.ledger.unclean(),
            frames_hot: core.policy.lock().hot(),
            page_table_bytes: core.table.open_bytes(),
            in_flight: core.progress.outstanding(),
            loads: count.loads.get(),
            prefetches: count.prefetches.get(),
            read_errors: count.read_errors.get(),
            evictions: count.evictions.get(),
            copies: count.copies.get(),
            images_written: count.images_written.get(),
            bytes_written: count.bytes_written.get(),
            batches_written: count.batches_written.get(),
            write_errors: count.write_errors.get(),
            waits_for_frames: count.waits_for_frames.get(),
        }
    }
}
