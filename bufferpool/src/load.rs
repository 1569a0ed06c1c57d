//! Bringing pages in.
//!
//! 1. Whoever finds a page on disk *claims* it: takes a free frame, and under the page's latch turns the slot to *being read*.
//!    The claim's owner alone changes the slot from then on, until the read has ended.
//! 2. A read that has ended turns the slot to *resident*, or back to *on disk*; then all who wait are told.
//! 3. Everything that may wait is done before the claim, or with nothing latched.

use crate::block_ptr::BlockPtr;
use crate::core::{Core, InFlight};
use crate::held;
use crate::hold::{Hold, Reservation};
use crate::page_id::PageId;
use crate::page_table::Entry;
use crate::pool::LoadError;
use crate::slot::{FrameId, Slot};
use crate::states::State;
use crate::store::{PageRead, PageStore};
use crate::ticket::{Outcome, Ticket, Watch};
use ashlar_disk::sync::atomic::spin_loop;
use ashlar_disk::sync::yield_point;
use std::sync::Arc;

/// A page that its owner is reading.
struct Claim<S: PageStore> {
    core: Arc<Core<S>>,
    page: PageId,
    at: BlockPtr,
    frame: FrameId,
    ticket: Arc<Ticket<S::Error>>,
    ended: bool,
}

impl<S: PageStore> Core<S> {
    /// Returns with `page` resident and held. Frames come from `frames` where given, else from wherever one can be had.
    pub(crate) fn load(
        self: &Arc<Self>,
        page: PageId,
        mut frames: Option<&mut Reservation<'_, S>>,
    ) -> Result<Hold<'_, S>, LoadError<S::Error>> {
        held::assert_no_latch("a load");
        let entry = self.table.open(page)?.ok_or(LoadError::NotAllocated(page))?;
        loop {
            match entry.slot() {
                Slot::NotAllocated => return Err(LoadError::NotAllocated(page)),
                Slot::Unknown => self.materialize(page, entry),
                Slot::Resident(frame) => {
                    if let Some(hold) = Hold::take(self, page, frame) {
                        return Ok(hold);
                    }
                }
                Slot::Reading(frame) => self.await_read(page, frame)?,
                Slot::OnDisk(_) => {
                    let frame = match frames.as_mut().and_then(|frames| frames.take()) {
                        Some(frame) => frame,
                        None => self.obtain_frame()?,
                    };
                    if let Some(claim) = self.claim(page, entry, frame, true) {
                        return self.read(claim);
                    }
                }
            }
        }
    }

    /// Starts reads of those of `pages` that are on disk, as far as frames can be had at once.
    pub(crate) fn prefetch(self: &Arc<Self>, pages: &[PageId]) -> usize {
        self.start_reads(pages, None).0
    }

    /// Starts reads of those of `pages` that are on disk, waiting for frames, not for the reads. What can't be had is left out.
    pub(crate) fn bring(self: &Arc<Self>, mut pages: &[PageId]) {
        held::assert_no_latch("bringing pages in");
        let mut frame = None;
        loop {
            let (_, seen) = self.start_reads(pages, frame.take());
            pages = &pages[seen..];
            if pages.is_empty() {
                return;
            }
            // With the reads so far under way, so that their frames come back.
            match self.obtain_frame() {
                Ok(one) => frame = Some(one),
                Err(_) => return,
            }
        }
    }

    /// Starts reads of those of `pages` that are on disk, the first of them into `spare`, until no frame can be had at once. Gives how
    /// many reads and how many of the pages have been gone through.
    fn start_reads(self: &Arc<Self>, pages: &[PageId], mut spare: Option<FrameId>) -> (usize, usize) {
        let (mut reads, mut seen) = (Vec::new(), 0);
        for &page in pages {
            if let Ok(Some(entry)) = self.table.open(page) {
                if entry.slot() == Slot::Unknown {
                    self.materialize(page, entry);
                }
                if matches!(entry.slot(), Slot::OnDisk(_)) {
                    let Some(frame) = spare.take().or_else(|| self.obtain_frame_at_once()) else { break };
                    if let Some(claim) = self.claim(page, entry, frame, false) {
                        reads.push(claim.into_read());
                    }
                }
            }
            seen += 1;
        }
        if let Some(frame) = spare {
            self.give_back(frame);
        }
        let count = reads.len();
        if count > 0 {
            self.counters.prefetches.add(count as u64);
            self.progress.submit(count, || self.store.submit_reads(reads));
        }
        (count, seen)
    }

    /// The address of `page` on disk, where it is not in memory.
    pub(crate) fn address(&self, page: PageId) -> Option<u64> {
        let entry = self.table.open(page).ok()??;
        if entry.slot() == Slot::Unknown {
            self.materialize(page, entry);
        }
        if let Slot::OnDisk(at) = entry.slot() { Some(at.address()) } else { None }
    }

    pub(crate) fn is_resident(&self, page: PageId) -> bool {
        self.table.entry(page).is_some_and(|entry| matches!(entry.slot(), Slot::Resident(_)))
    }

    pub(crate) fn is_being_read(&self, page: PageId) -> bool {
        self.table.entry(page).is_some_and(|entry| matches!(entry.slot(), Slot::Reading(_)))
    }

    /// The read of `page` that is under way, if one is.
    pub(crate) fn watch(&self, page: PageId) -> Option<Watch<S::Error>> {
        match self.table.entry(page)?.slot() {
            Slot::Reading(frame) => self.ticket(page, frame).map(Watch::new),
            _ => None,
        }
    }

    /// Waits until something happens, if any transfer is in flight. False: none is.
    pub(crate) fn reap(&self) -> bool {
        let seen = self.progress.seen();
        if self.progress.outstanding() == 0 {
            return false;
        }
        self.progress.wait(&self.store, seen);
        true
    }

    fn ticket(&self, page: PageId, frame: FrameId) -> Option<Arc<Ticket<S::Error>>> {
        let header = self.frames.get(frame);
        let body = header.lock();
        body.ticket.as_ref().filter(|_| header.page() == page).map(Arc::clone)
    }

    /// Waits for the read of `page` into `frame` that somebody else has under way.
    fn await_read(&self, page: PageId, frame: FrameId) -> Result<(), LoadError<S::Error>> {
        let Some(ticket) = self.ticket(page, frame) else {
            // It is about to end: the slot changes next.
            spin_loop();
            yield_point();
            return Ok(());
        };
        if ticket.blocking {
            self.progress.wait_for_thread(|| ticket.is_finished());
        } else {
            self.progress.wait_until(&self.store, || ticket.is_finished());
        }
        match ticket.outcome() {
            Some(Outcome::Failed(error)) => Err(LoadError::Store(error)),
            _ => Ok(()),
        }
    }

    /// Claims `page` for reading it into `frame`, which goes back where the page is not on disk any more.
    fn claim(self: &Arc<Self>, page: PageId, entry: Entry<'_>, frame: FrameId, blocking: bool) -> Option<Claim<S>> {
        entry.latch.lock_exclusive();
        let Slot::OnDisk(at) = entry.slot() else {
            entry.latch.unlock_unchanged();
            self.give_back(frame);
            return None;
        };
        let ticket = Arc::new(Ticket::new(blocking));
        let header = self.frames.get(frame);
        {
            let mut body = header.lock();
            self.set_state(frame, &mut body, State::Reading);
            header.set_page(page);
            body.ticket = Some(Arc::clone(&ticket));
        }
        entry.set(Slot::Reading(frame));
        entry.latch.unlock_changed();
        self.read_begins();
        Some(Claim { core: Arc::clone(self), page, at, frame, ticket, ended: false })
    }

    /// Reads a claimed page, in this thread.
    fn read(&self, claim: Claim<S>) -> Result<Hold<'_, S>, LoadError<S::Error>> {
        self.counters.loads.add(1);
        let result = self.store.read(claim.page, claim.at, self.frames.words(claim.frame));
        let page = claim.page;
        match result {
            Ok(()) => {
                let life = claim.publish(1);
                self.progress.happened();
                Ok(Hold::counted(self, page, life))
            }
            Err(error) => {
                claim.fail(Outcome::Failed(error.clone()));
                self.progress.happened();
                Err(LoadError::Store(error))
            }
        }
    }
}

impl<S: PageStore> Claim<S> {
    /// As a read to submit.
    fn into_read(self) -> PageRead<S::Error> {
        let (page, at) = (self.page, self.at);
        let frame = self.core.frames.slice(self.frame);
        let in_flight = InFlight(Arc::clone(&self.core));
        // One value, whose parts are dropped in this order: where the store drops the completion, too, the claim has ended before that is
        // told.
        let reading = (self, in_flight);
        let done = move |result: Result<(), S::Error>| {
            // A closure takes no more of a tuple than it names: all of it.
            let reading = reading;
            let (claim, in_flight) = reading;
            match result {
                Ok(()) => drop(claim.publish(0)),
                Err(error) => claim.fail(Outcome::Failed(error)),
            }
            drop(in_flight);
        };
        PageRead { page, at, frame, done: Box::new(done) }
    }

    /// The page stands in the frame; it is resident, with so many holds.
    fn publish(mut self, holds: u32) -> u64 {
        let core = &self.core;
        let life = core.new_life();
        {
            let mut body = core.frames.get(self.frame).lock();
            core.set_state(self.frame, &mut body, State::Clean { at: self.at });
            body.holds = holds;
            body.life = life;
            body.ticket = None;
        }
        // Before the slot says *resident*, so that nobody frees a frame that is about to be queued.
        core.policy.lock().insert(self.frame, self.page, |frame| core.frames.take_mark(frame));
        self.end(Slot::Resident(self.frame), Outcome::LookAgain);
        life
    }

    /// The page does not stand in the frame: it is on disk again, and the frame free.
    fn fail(mut self, outcome: Outcome<S::Error>) {
        self.core.counters.read_errors.add(1);
        self.abandon(outcome);
    }

    fn abandon(&mut self, outcome: Outcome<S::Error>) {
        let core = Arc::clone(&self.core);
        {
            let mut body = core.frames.get(self.frame).lock();
            core.set_state(self.frame, &mut body, State::Free);
            body.ticket = None;
        }
        self.end(Slot::OnDisk(self.at), outcome);
        core.give_back(self.frame);
    }

    fn end(&mut self, slot: Slot, outcome: Outcome<S::Error>) {
        self.ended = true;
        if let Some(entry) = self.core.table.entry(self.page) {
            entry.latch.lock_exclusive();
            debug_assert_eq!(entry.slot(), Slot::Reading(self.frame), "the claim's owner alone changes the slot");
            entry.set(slot);
            entry.latch.unlock_changed();
        }
        self.ticket.finish(outcome);
        self.core.read_ends();
    }
}

impl<S: PageStore> Drop for Claim<S> {
    /// The read was never made (a store that panics, or drops a completion): others try again.
    fn drop(&mut self) {
        if !self.ended {
            self.abandon(Outcome::LookAgain);
        }
    }
}
