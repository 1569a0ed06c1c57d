//! Stands in for `bufferpool/src/frame.rs`, which makes frames a thousand at a time: a few frames of two words each. What is here is as
//! it stands there.

use crate::page_id::{Epoch, PageId};
use crate::slot::FrameId;
use crate::states::State;
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::sync::{Mutex, MutexGuard};
use crate::ticket::Ticket;
use crate::view::PageView;
use crate::words::Words;
use std::sync::Arc;

const WORDS: usize = 2;

/// All frames.
pub(crate) struct Frames<E> {
    words: Box<[AtomicU64]>,
    frames: Box<[Frame<E>]>,
}

/// What is known about a frame.
pub(crate) struct Frame<E> {
    page: AtomicU64,
    writable_in: AtomicU64,
    body: Mutex<Body<E>>,
}

/// The part of it that is behind the lock.
pub(crate) struct Body<E> {
    pub(crate) state: State,
    pub(crate) holds: u32,
    pub(crate) life: u64,
    pub(crate) listed: Option<Epoch>,
    pub(crate) ticket: Option<Arc<Ticket<E>>>,
}

impl<E> Frames<E> {
    pub(crate) fn new(count: u32) -> Frames<E> {
        let words = (0..WORDS * count as usize).map(|_| AtomicU64::new(0)).collect();
        Frames { words, frames: (0..count).map(|_| Frame::new()).collect() }
    }

    pub(crate) fn page_size(&self) -> usize {
        WORDS * 8
    }

    pub(crate) fn get(&self, frame: FrameId) -> &Frame<E> {
        &self.frames[frame.index()]
    }

    pub(crate) fn words(&self, frame: FrameId) -> &Words {
        &self.words[frame.index() * WORDS..][..WORDS]
    }

    pub(crate) fn view(&self, frame: FrameId) -> PageView<'_> {
        PageView::over(self.words(frame))
    }

    pub(crate) fn slice(&self, _frame: FrameId) -> crate::memory::ArenaSlice {
        crate::memory::ArenaSlice
    }

    /// Marks only advise eviction, and are no part of the models.
    pub(crate) fn touch(&self, _frame: FrameId) {}

    pub(crate) fn take_mark(&self, _frame: FrameId) -> bool {
        false
    }
}

impl<E> Frame<E> {
    fn new() -> Frame<E> {
        let body = Body { state: State::Free, holds: 0, life: 0, listed: None, ticket: None };
        Frame { page: AtomicU64::new(0), writable_in: AtomicU64::new(0), body: Mutex::new(body) }
    }

    pub(crate) fn page(&self) -> PageId {
        PageId(self.page.load(Acquire))
    }

    pub(crate) fn set_page(&self, page: PageId) {
        self.page.store(page.0, Release);
    }

    pub(crate) fn is_writable_in(&self, epoch: Epoch) -> bool {
        self.writable_in.load(Relaxed) == epoch.0
    }

    pub(crate) fn set_writable_in(&self, epoch: Option<Epoch>) {
        self.writable_in.store(epoch.map_or(0, |epoch| epoch.0), Relaxed);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Body<E>> {
        self.body.lock()
    }
}
