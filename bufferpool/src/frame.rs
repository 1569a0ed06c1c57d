//! Frames: page-sized pieces of one arena, and what the pool knows about each.
//!
//! 1. A frame's bytes are stored to only by: whoever has it free or reads a page into it; whoever holds its page's latch
//!    exclusively. A detached frame's bytes are stored to by nobody.
//! 2. A frame's state, holds and ticket stand in its *body*, behind a lock of its own. The lock is held for moments, under a
//!    page's latch or under none, and never two at once but for a new frame that a page is being copied to.
//! 3. What is known about frames is made in groups as frames are first used, so that a large pool that is little used is small.

use crate::page_id::{Epoch, PageId};
use crate::slot::FrameId;
use crate::states::State;
use crate::ticket::Ticket;
use crate::view::PageView;
use ashlar_disk::sync::Mutex;
use ashlar_disk::words::Words;
use ashlar_disk::{Arena, ArenaSlice, Result};
use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};

/// Frames in a group.
const GROUP: usize = 1024;

/// All frames.
pub(crate) struct Frames<E> {
    arena: Arc<Arena>,
    page_size: usize,
    count: u32,
    /// A byte a frame: whether its page was touched since eviction last looked. Dense, because every hit reads one.
    marks: Box<[AtomicU8]>,
    groups: Box<[OnceLock<Group<E>>]>,
}

type Group<E> = Box<[Frame<E>]>;

/// What is known about a frame.
pub(crate) struct Frame<E> {
    /// The page that stands in it, or stood in it last.
    page: AtomicU64,
    /// The epoch in which its page may be changed without further ado, or 0: a copy of what the state says, so that a writer
    /// that has changed the page before finds that out with one load. Stable while the page's latch is held exclusively, but
    /// for a merge, which moves it from an old epoch to the current one.
    writable_in: AtomicU64,
    body: Mutex<Body<E>>,
}

/// The part of it that is behind the lock.
pub(crate) struct Body<E> {
    pub(crate) state: State,
    /// How many holds keep the page here.
    pub(crate) holds: u32,
    /// Which stay of a page in memory this is: it goes with the page when that is copied to another frame.
    pub(crate) life: u64,
    /// The epoch whose queue of frames to be written this one stands in.
    pub(crate) listed: Option<Epoch>,
    /// While the page is being read: where others learn how that went.
    pub(crate) ticket: Option<Arc<Ticket<E>>>,
}

impl<E> Frames<E> {
    /// `count` frames of `page_size` bytes, none of them touched.
    pub(crate) fn new(page_size: usize, count: u32) -> Result<Frames<E>> {
        let arena = Arena::new(page_size.saturating_mul(count as usize))?;
        let marks = (0..count).map(|_| AtomicU8::new(0)).collect();
        let groups = (0..(count as usize).div_ceil(GROUP)).map(|_| OnceLock::new()).collect();
        Ok(Frames { arena, page_size, count, marks, groups })
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// What is known about `frame`.
    #[inline]
    pub(crate) fn get(&self, frame: FrameId) -> &Frame<E> {
        let group = self.groups[frame.index() / GROUP].get_or_init(|| (0..GROUP).map(|_| Frame::new()).collect());
        &group[frame.index() % GROUP]
    }

    /// The frame's memory.
    #[inline]
    pub(crate) fn words(&self, frame: FrameId) -> &Words {
        self.arena.words(frame.index() * self.page_size, self.page_size)
    }

    /// The page in the frame, as readers see it.
    #[inline]
    pub(crate) fn view(&self, frame: FrameId) -> PageView<'_> {
        PageView::over(self.words(frame))
    }

    /// The memory of all of them.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The frame's memory, for a transfer.
    pub(crate) fn slice(&self, frame: FrameId) -> ArenaSlice {
        self.arena.slice(frame.index() * self.page_size, self.page_size)
    }

    /// Notes that the frame's page was used: one load, and one store if it was not noted yet.
    #[inline]
    pub(crate) fn touch(&self, frame: FrameId) {
        let mark = &self.marks[frame.index()];
        if mark.load(Relaxed) == 0 {
            mark.store(1, Relaxed);
        }
    }

    /// Whether the frame was touched since this was last asked.
    pub(crate) fn take_mark(&self, frame: FrameId) -> bool {
        let mark = &self.marks[frame.index()];
        let touched = mark.load(Relaxed) != 0;
        if touched {
            mark.store(0, Relaxed);
        }
        touched
    }
}

impl<E> Frame<E> {
    fn new() -> Frame<E> {
        let body = Body { state: State::Free, holds: 0, life: 0, listed: None, ticket: None };
        Frame { page: AtomicU64::new(0), writable_in: AtomicU64::new(0), body: Mutex::new(body) }
    }

    /// The page that stands in it. A hint but while the body is locked or the frame is one's own.
    pub(crate) fn page(&self) -> PageId {
        PageId(self.page.load(Acquire))
    }

    pub(crate) fn set_page(&self, page: PageId) {
        self.page.store(page.0, Release);
    }

    /// The epoch in which its page may be changed without further ado. With the page's exclusive latch.
    #[inline]
    pub(crate) fn is_writable_in(&self, epoch: Epoch) -> bool {
        self.writable_in.load(Relaxed) == epoch.0
    }

    pub(crate) fn set_writable_in(&self, epoch: Option<Epoch>) {
        self.writable_in.store(epoch.map_or(0, |epoch| epoch.0), Relaxed);
    }

    pub(crate) fn lock(&self) -> ashlar_disk::sync::MutexGuard<'_, Body<E>> {
        self.body.lock()
    }
}
