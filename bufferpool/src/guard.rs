//! What a look-up gives: a page to read without a latch, under the shared latch, or to change under the exclusive one.
//!
//! Guards belong to the thread that took them, and are held for memory work only: whoever holds one waits for nothing but
//! further latches, in the order that [the crate's page](crate) gives.

use crate::core::Core;
use crate::held;
use crate::latch::Version;
use crate::page_id::PageId;
use crate::page_table::Entry;
use crate::slot::FrameId;
use crate::store::PageStore;
use crate::view::{PageMut, PageView};
use ashlar_disk::words;
use ashlar_disk::words::Words;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Keeps a type in its thread.
type InItsThread = PhantomData<*const ()>;

/// A page that is read without a latch. What was read counts only after [`Self::validate`] has said so; until then nothing of
/// it may be used outside the page but to go on reading optimistically.
pub struct Optimistic<'a> {
    entry: Entry<'a>,
    version: Version,
    words: &'a Words,
    page: PageId,
}

impl<'a> Optimistic<'a> {
    pub(crate) fn new(entry: Entry<'a>, version: Version, words: &'a Words, page: PageId) -> Optimistic<'a> {
        Optimistic { entry, version, words, page }
    }

    /// The page's bytes, possibly torn.
    #[inline]
    pub fn view(&self) -> PageView<'a> {
        PageView::over(self.words)
    }

    /// Which page.
    pub fn page(&self) -> PageId {
        self.page
    }

    /// Whether the page has stayed in its frame and unchanged since it was looked up: then all that was read is as it stood.
    #[inline]
    pub fn validate(&self) -> bool {
        self.entry.latch.validate(self.version)
    }
}

/// A page under its shared latch: it does not change.
pub struct SharedGuard<'a> {
    entry: Entry<'a>,
    words: &'a Words,
    page: PageId,
    _in_its_thread: InItsThread,
}

impl<'a> SharedGuard<'a> {
    /// Of a page whose shared latch was just taken.
    #[inline]
    pub(crate) fn new(entry: Entry<'a>, words: &'a Words, page: PageId) -> SharedGuard<'a> {
        held::latched();
        SharedGuard { entry, words, page, _in_its_thread: PhantomData }
    }

    /// The page's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the frame holds a resident page, whose bytes are stored to only under its exclusive latch, which nobody has
        // while the shared one is held; that is until the guard, which the slice borrows, is dropped.
        unsafe { words::at_rest(self.words) }
    }

    /// The page's bytes, as words.
    #[inline]
    pub fn view(&self) -> PageView<'_> {
        PageView::over(self.words)
    }

    /// Which page.
    pub fn page(&self) -> PageId {
        self.page
    }
}

impl Drop for SharedGuard<'_> {
    fn drop(&mut self) {
        held::unlatched();
        self.entry.latch.unlock_shared();
    }
}

/// A page under its exclusive latch, dirty in the current epoch: to be read and changed as [`PageMut`].
pub struct ExclusiveGuard<'a, S: PageStore> {
    core: &'a Core<S>,
    entry: Entry<'a>,
    frame: FrameId,
    words: &'a Words,
    page: PageId,
    _in_its_thread: InItsThread,
}

impl<'a, S: PageStore> ExclusiveGuard<'a, S> {
    /// Of a page whose exclusive latch was just taken, resident in `frame` and writable in the current epoch.
    #[inline]
    pub(crate) fn new(core: &'a Core<S>, entry: Entry<'a>, frame: FrameId, page: PageId) -> ExclusiveGuard<'a, S> {
        held::latched();
        let words = core.frames.words(frame);
        ExclusiveGuard { core, entry, frame, words, page, _in_its_thread: PhantomData }
    }

    /// Which page.
    pub fn page(&self) -> PageId {
        self.page
    }

    pub(crate) fn entry(&self) -> Entry<'a> {
        self.entry
    }

    pub(crate) fn frame(&self) -> FrameId {
        self.frame
    }

    pub(crate) fn belongs_to(&self, core: &Core<S>) -> bool {
        std::ptr::eq(self.core, core)
    }
}

impl<S: PageStore> Deref for ExclusiveGuard<'_, S> {
    type Target = PageMut;
    #[inline]
    fn deref(&self) -> &PageMut {
        // SAFETY: the exclusive latch is held while the guard, which the result borrows, lives: nobody else stores; and this
        // thread stores only through `deref_mut`, which needs the guard for itself.
        unsafe { PageMut::from_words_ref(self.words) }
    }
}

impl<S: PageStore> DerefMut for ExclusiveGuard<'_, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut PageMut {
        // SAFETY: the exclusive latch is held while the guard, which the result borrows mutably, lives: nobody else stores,
        // and there is no other `PageMut`.
        unsafe { PageMut::from_words(self.words) }
    }
}

impl<S: PageStore> Drop for ExclusiveGuard<'_, S> {
    fn drop(&mut self) {
        held::unlatched();
        self.entry.latch.unlock_changed();
    }
}
