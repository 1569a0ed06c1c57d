//! Holds and reservations: what lets an operation go on for sure.
//!
//! A **hold** keeps a page resident, and lets it change; it follows the page into a copy. A **reservation** is frames taken out
//! of the free list ahead of need, so that nobody needs one while holding a latch.
//!
//! 1. A hold is counted in the body of the frame where its page is. It belongs to one stay of the page in memory (its *life*):
//!    when the page was freed meanwhile, the hold says nothing about whatever has its id now.
//! 2. A reservation's frames are free and nobody else's. What is not used goes back when it is dropped.

use crate::core::Core;
use crate::page_id::PageId;
use crate::slot::{FrameId, Slot};
use crate::store::PageStore;

/// Keeps a page resident until it is dropped (or the page is freed).
pub struct Hold<'a, S: PageStore> {
    core: &'a Core<S>,
    page: PageId,
    life: u64,
}

impl<'a, S: PageStore> Hold<'a, S> {
    /// A hold that was counted already.
    pub(crate) fn counted(core: &'a Core<S>, page: PageId, life: u64) -> Hold<'a, S> {
        Hold { core, page, life }
    }

    /// A hold of `page` if it still is in `frame`.
    pub(crate) fn take(core: &'a Core<S>, page: PageId, frame: FrameId) -> Option<Hold<'a, S>> {
        let entry = core.table.entry(page)?;
        let mut body = core.frames.get(frame).lock();
        // The slot does not leave the frame while the body is locked.
        entry.is_resident_in(frame).then(|| {
            body.holds += 1;
            Hold { core, page, life: body.life }
        })
    }

    /// Which page.
    pub fn page(&self) -> PageId {
        self.page
    }
}

impl<S: PageStore> Drop for Hold<'_, S> {
    fn drop(&mut self) {
        let Some(entry) = self.core.table.entry(self.page) else { return };
        while let Slot::Resident(frame) = entry.slot() {
            let mut body = self.core.frames.get(frame).lock();
            if !entry.is_resident_in(frame) {
                // Copied to another frame in between.
                continue;
            }
            if body.life == self.life {
                body.holds -= 1;
                let last = body.holds == 0;
                drop(body);
                if last {
                    self.core.progress.happened();
                }
            }
            return;
        }
    }
}

/// Free frames that are one operation's own.
pub struct Reservation<'a, S: PageStore> {
    core: &'a Core<S>,
    frames: Vec<FrameId>,
}

impl<'a, S: PageStore> Reservation<'a, S> {
    /// One that holds nothing yet.
    pub(crate) fn empty(core: &'a Core<S>) -> Reservation<'a, S> {
        Reservation { core, frames: Vec::new() }
    }

    /// How many frames are left in it.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn frames_mut(&mut self) -> &mut Vec<FrameId> {
        &mut self.frames
    }

    pub(crate) fn belongs_to(&self, core: &Core<S>) -> bool {
        std::ptr::eq(self.core, core)
    }

    /// Takes a frame to put it to use.
    pub(crate) fn take(&mut self) -> Option<FrameId> {
        let frame = self.frames.pop()?;
        self.core.free.unreserve(1);
        Some(frame)
    }

    /// Gives all frames back.
    pub(crate) fn give_back(&mut self) {
        if !self.frames.is_empty() {
            self.core.free.put_reserved(&mut self.frames);
            self.core.progress.happened();
        }
    }
}

impl<S: PageStore> Drop for Reservation<'_, S> {
    fn drop(&mut self) {
        self.give_back();
    }
}
