//! Changing pages: dirtying, copying what is frozen, making and freeing.
//!
//! All of it is memory work under the page's exclusive latch. A frozen frame is not changed: the page goes on in a copy, in a
//! frame out of the caller's reservation, and the old frame is *detached*, to be written for its own epoch.

use crate::core::Core;
use crate::frame::Body;
use crate::guard::{ExclusiveGuard, Optimistic, SharedGuard};
use crate::hold::Reservation;
use crate::page_id::{Epoch, PageId};
use crate::page_table::Entry;
use crate::pool::Miss;
use crate::slot::{FrameId, Slot};
use crate::states::{Change, State};
use crate::store::PageStore;
use crate::view::PageMut;
use ashlar_disk::words;

/// Cache lines at the start of a page that are fetched ahead: its header, and half of the slots of a page of small entries.
const FETCHED_LINES: usize = 5;
const WORDS_OF_A_LINE: usize = 8;

impl<S: PageStore> Core<S> {
    /// `page` without a latch.
    #[inline]
    pub(crate) fn optimistic(&self, page: PageId) -> Result<Optimistic<'_>, Miss> {
        let entry = self.table.entry(page).ok_or(Miss::NotResident(page))?;
        // The version first: a slot that changes after it was noted makes `validate` say no.
        let version = entry.latch.version();
        let bits = entry.bits();
        let Some(frame) = Slot::resident(bits) else { return Err(miss(page, bits)) };
        self.frames.touch(frame);
        Ok(Optimistic::new(entry, version, self.frames.words(frame), page))
    }

    /// Fetches what a look-up or a change of `page` touches first: what is known about its frame, and the page's head, slots and fences.
    #[inline]
    pub(crate) fn fetch(&self, page: PageId) {
        // The slot is a hint; whatever frame it names is there to be looked at.
        let Some(frame) = self.table.entry(page).and_then(|entry| Slot::resident(entry.bits())) else { return };
        words::fetch(self.frames.get(frame));
        let page = self.frames.words(frame);
        if let Some(start) = page.first_chunk::<{ FETCHED_LINES * WORDS_OF_A_LINE }>() {
            (0..FETCHED_LINES).for_each(|line| words::fetch(&start[line * WORDS_OF_A_LINE]));
        }
        if let Some(last) = page.last() {
            words::fetch(last);
        }
    }

    /// `page` under its shared latch.
    #[inline]
    pub(crate) fn shared(&self, page: PageId) -> Result<SharedGuard<'_>, Miss> {
        let entry = self.table.entry(page).ok_or(Miss::NotResident(page))?;
        entry.latch.lock_shared();
        let bits = entry.bits();
        let Some(frame) = Slot::resident(bits) else {
            entry.latch.unlock_shared();
            return Err(miss(page, bits));
        };
        self.frames.touch(frame);
        Ok(SharedGuard::new(entry, self.frames.words(frame), page))
    }

    /// `page` under its exclusive latch, dirty in the current epoch.
    pub(crate) fn exclusive(&self, page: PageId, frames: &mut Reservation<'_, S>) -> Result<ExclusiveGuard<'_, S>, Miss> {
        let entry = self.table.entry(page).ok_or(Miss::NotResident(page))?;
        entry.latch.lock_exclusive();
        let bits = entry.bits();
        let Some(frame) = Slot::resident(bits) else {
            entry.latch.unlock_unchanged();
            return Err(miss(page, bits));
        };
        let epoch = self.epoch();
        let frame = if self.frames.get(frame).is_writable_in(epoch) {
            frame
        } else {
            self.begin_change(page, entry, frame, epoch, frames)
        };
        self.frames.touch(frame);
        Ok(ExclusiveGuard::new(self, entry, frame, page))
    }

    /// Makes `page` dirty in `epoch` and gives the frame in which it is then.
    #[cold]
    fn begin_change(
        &self,
        page: PageId,
        entry: Entry<'_>,
        frame: FrameId,
        epoch: Epoch,
        frames: &mut Reservation<'_, S>,
    ) -> FrameId {
        let mut body = self.frames.get(frame).lock();
        match body.state.change(epoch) {
            Some(Change::InPlace(next)) => {
                if let State::Clean { at } = body.state {
                    self.store.superseded(page, at, epoch);
                }
                self.set_state(frame, &mut body, next);
                frame
            }
            Some(Change::Copy(_)) if !self.store.copies_frozen() => frame,
            Some(Change::Copy(detached)) => {
                let copy = self.copy(page, frame, &mut body, detached, epoch, frames);
                entry.set(Slot::Resident(copy));
                // With the body locked: once it is not, the old frame may be written, free, and another page's.
                self.policy.lock().replace(frame, copy);
                copy
            }
            Some(Change::Already) => frame,
            None => unreachable_state(body.state),
        }
    }

    /// Detaches `frame`, which is frozen and whose body is locked, and gives a copy of it for the page to go on in.
    fn copy(
        &self,
        page: PageId,
        frame: FrameId,
        old: &mut Body<S::Error>,
        detached: State,
        epoch: Epoch,
        frames: &mut Reservation<'_, S>,
    ) -> FrameId {
        assert!(frames.belongs_to(self), "a reservation of another pool");
        let copy = frames.take().expect("a reservation covers every page that its operation changes or makes");
        // SAFETY: the frame was free and is this thread's own; it gets the page before anybody else can find it.
        unsafe { PageMut::from_words(self.frames.words(copy)) }.copy_page(self.frames.view(frame));
        let header = self.frames.get(copy);
        let mut new = header.lock();
        self.set_state(copy, &mut new, State::Dirty { epoch });
        header.set_page(page);
        new.holds = std::mem::take(&mut old.holds);
        new.life = old.life;
        drop(new);
        self.set_state(frame, old, detached);
        self.counters.copies.add(1);
        copy
    }

    /// A new page, zeroed and dirty.
    pub(crate) fn create(&self, frames: &mut Reservation<'_, S>) -> ExclusiveGuard<'_, S> {
        assert!(frames.belongs_to(self), "a reservation of another pool");
        let frame = frames.take().expect("a reservation covers every page that its operation changes or makes");
        let page = self.store.new_page_id();
        self.id_used(page);
        let entry = self.table.entry(page).expect("a new id is one that was freed, or the lowest that never was in use");
        entry.latch.lock_exclusive();
        let slot = entry.slot();
        assert!(matches!(slot, Slot::Unknown | Slot::NotAllocated), "the id of a new page is in use: {page} is {slot:?}");
        // SAFETY: the frame was free and is this thread's own; nobody can find it before the slot names it.
        unsafe { PageMut::from_words(self.frames.words(frame)) }.fill(0, self.frames.page_size(), 0);
        {
            let mut body = self.frames.get(frame).lock();
            self.set_state(frame, &mut body, State::Dirty { epoch: self.epoch() });
            self.frames.get(frame).set_page(page);
            body.life = self.new_life();
        }
        self.policy.lock().insert(frame, page, |frame| self.frames.take_mark(frame));
        entry.set(Slot::Resident(frame));
        ExclusiveGuard::new(self, entry, frame, page)
    }

    /// The guard's page is gone.
    pub(crate) fn free(&self, guard: ExclusiveGuard<'_, S>) {
        assert!(guard.belongs_to(self), "a guard of another pool");
        let freed = self.free_resident(guard.page(), guard.entry(), guard.frame());
        drop(guard);
        if let Some(frame) = freed {
            self.give_back(frame);
        }
    }

    /// `page` is gone, wherever it is; only one that is being read must be waited for.
    pub(crate) fn discard(&self, page: PageId) -> Result<(), Miss> {
        let Ok(Some(entry)) = self.table.open(page) else { return Err(Miss::NotAllocated(page)) };
        if entry.slot() == Slot::Unknown {
            self.materialize(page, entry);
        }
        entry.latch.lock_exclusive();
        let freed = match entry.slot() {
            Slot::Resident(frame) => self.free_resident(page, entry, frame),
            Slot::OnDisk(at) => {
                let epoch = self.epoch();
                self.store.superseded(page, at, epoch);
                self.store.freed(page, epoch);
                entry.set(Slot::NotAllocated);
                None
            }
            other => {
                entry.latch.unlock_unchanged();
                return Err(miss(page, other.to_bits()));
            }
        };
        entry.latch.unlock_changed();
        if let Some(frame) = freed {
            self.give_back(frame);
        }
        Ok(())
    }

    /// See [`crate::Pool::retire`]. Whatever its frame's state, the image that is owed is written as if nothing had happened; the
    /// store sees to it that none enters a delta that must not have it.
    pub(crate) fn retire(&self, page: PageId) -> Result<(), Miss> {
        let Ok(Some(entry)) = self.table.open(page) else { return Err(Miss::NotAllocated(page)) };
        if entry.slot() == Slot::Unknown {
            // The store is about to forget where it is.
            self.materialize(page, entry);
        }
        if entry.slot() == Slot::NotAllocated {
            return Err(Miss::NotAllocated(page));
        }
        self.store.retired(page, self.epoch());
        Ok(())
    }

    /// Frees `page` and gives its frame, if that is free then. With the page's exclusive latch.
    fn free_resident(&self, page: PageId, entry: Entry<'_>, frame: FrameId) -> Option<FrameId> {
        let epoch = self.epoch();
        let mut body = self.frames.get(frame).lock();
        let Some(next) = body.state.free(epoch) else { unreachable_state(body.state) };
        if let State::Clean { at } = body.state {
            self.store.superseded(page, at, epoch);
        }
        body.holds = 0;
        self.set_state(frame, &mut body, next);
        self.store.freed(page, epoch);
        entry.set(Slot::NotAllocated);
        // With the body locked, as in `begin_change`.
        self.policy.lock().remove(frame);
        drop(body);
        (next == State::Free).then_some(frame)
    }
}

/// Why `page` can't be looked at, whose slot has these bits.
#[cold]
fn miss(page: PageId, bits: u64) -> Miss {
    match Slot::from_bits(bits) {
        Slot::NotAllocated => Miss::NotAllocated(page),
        _ => Miss::NotResident(page),
    }
}

/// A slot names only frames in which a page stands.
#[cold]
fn unreachable_state(state: State) -> ! {
    unreachable!("a resident page's frame is {state:?}")
}
