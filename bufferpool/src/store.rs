//! What the pool asks of whoever knows the disk: the trait [`PageStore`], and what passes through it.
//!
//! The pool knows where every page is in memory, and nothing of what stands in it or where blocks are free; the store knows the
//! page map, the free blocks, checksums and keys. The pool tells it what becomes of images, in the order in which it happens
//! to each page; the store keeps each epoch's delta and frees blocks by it:
//!
//! 1. An image belongs to the epoch in which its frame became dirty, whoever writes it and whenever.
//! 2. Each image that was written is told of once by [`PageStore::record`], with its [`Fate`].
//! 3. Calls marked *memory only* run under a lock of the pool: they must be short, must not wait for a transfer, and must not
//!    call the pool.
//! 4. A completion (`done`) runs exactly once, on any thread, and not under a lock or latch that the pool's callers could
//!    hold. It takes short locks and never waits for a transfer.

use crate::block_ptr::BlockPtr;
use crate::page_id::{Epoch, PageId};
use crate::view::PageView;
use ashlar_disk::words::Words;
use ashlar_disk::{AlignedBuf, ArenaSlice};

/// Where the page map has a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Located {
    /// On disk.
    At(BlockPtr),
    /// There is no such page.
    NotAllocated,
}

/// What became of an image while it was being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is the page's image of its epoch: it enters that epoch's delta.
    Current,
    /// The page changed again, or was freed, in the image's own epoch: its blocks are free.
    SupersededInEpoch,
    /// The page changed again, or was freed, in this later epoch: it enters its own epoch's delta, and its blocks are free when
    /// the later epoch's checkpoint is durable.
    SupersededIn(Epoch),
}

/// A key by which write-back sorts, so that pages that are read together are written side by side: for example the tree's id
/// and the head of the page's first key.
pub type WriteOrder = (u64, u128);

/// What runs when a read or write has completed.
pub type Done<T> = Box<dyn FnOnce(T) + Send>;

/// A read to start.
pub struct PageRead<E> {
    /// Which page.
    pub page: PageId,
    /// Where its image stands.
    pub at: BlockPtr,
    /// The frame that it is to be unpacked into; the reader's alone until `done` is called. Whoever stores to it with the
    /// processor (rather than leaving it to the device) issues a release fence first, so that an optimistic reader of the
    /// frame's previous page that sees such a store also sees that the page has left.
    pub frame: ArenaSlice,
    /// Told that the page stands verified in the frame, or what failed.
    pub done: Done<Result<(), E>>,
}

/// An image within a [`WriteBatch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageDesc {
    /// Of which page.
    pub page: PageId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// Its first byte in the staging buffer: images stand one after the other without gaps, in the order of the list.
    pub offset: usize,
    /// Its length in bytes, whole blocks.
    pub len: usize,
}

/// What a completed [`WriteBatch`] gives back: a pointer for each image, in order, or what failed for all of them.
pub type WriteOutcome<E> = Result<Vec<BlockPtr>, E>;

/// Images to write to newly allocated blocks.
pub struct WriteBatch<E> {
    /// The images, in the order of their bytes.
    pub images: Vec<ImageDesc>,
    /// Their bytes, from offset 0 on.
    pub staging: AlignedBuf,
    /// Told how it ended, and given the buffer back. Where it failed, no image was written, and the store has taken back the
    /// blocks it had allocated.
    pub done: Box<dyn FnOnce(WriteOutcome<E>, AlignedBuf) + Send>,
}

/// Pages on disk.
pub trait PageStore: Send + Sync + 'static {
    /// What can go wrong; told to everybody whom it concerns, hence cloned.
    type Error: Clone + Send + Sync + std::error::Error + 'static;

    /// Where the page map has `page`. Asked once for each page whose slot was never materialized. Memory only.
    fn locate(&self, page: PageId) -> Located;

    /// An id for a new page: one that was freed, or the lowest that was never given out. The pool makes a
    /// page under it at once. Memory only.
    fn new_page_id(&self) -> PageId;

    /// Ids from here on have never been given out, neither by [`Self::new_page_id`] nor by the store on its own account. Memory
    /// only. A store that gives no ids away itself need not answer: the pool knows those that it was given.
    fn ids_end(&self) -> u64 {
        0
    }

    /// Whether a page that an older epoch has not written yet is changed in a copy, as it must be. A store that says no makes a mistake
    /// on purpose, for tests of its tests.
    #[doc(hidden)]
    fn copies_frozen(&self) -> bool {
        true
    }

    /// Reads `page` into `frame`, verified and unpacked. Blocks. The frame is the call's alone, as that of a [`PageRead`] is.
    fn read(&self, page: PageId, at: BlockPtr, frame: &Words) -> Result<(), Self::Error>;

    /// Starts reads. May wait for room in the queue.
    fn submit_reads(&self, reads: Vec<PageRead<Self::Error>>);

    /// Returns when `until` is true, reaping completions for everybody. It is asked at the start and after every batch of
    /// completions. The pool calls it only while a read or write of its own is in flight.
    fn wait(&self, until: &dyn Fn() -> bool);

    /// Where `page` belongs among others that are written with it. The view may be torn: a wrong answer costs a worse place.
    fn order(&self, page: PageView<'_>) -> WriteOrder;

    /// Writes the image of `page` as it is to stand on disk into `out` (a page long) and gives its length in bytes, whole
    /// blocks. The view does not change meanwhile.
    fn pack(&self, page: PageId, view: PageView<'_>, out: &mut [u8]) -> usize;

    /// Allocates blocks for a batch, side by side where it can, and starts writing it. May wait for room in the queue.
    fn write(&self, batch: WriteBatch<Self::Error>);

    /// An image of `page` has been written. Memory only.
    fn record(&self, page: PageId, epoch: Epoch, at: BlockPtr, fate: Fate);

    /// The clean image at `at` no longer is what `page` holds: the page changed, or was freed, in `epoch`. Memory only.
    fn superseded(&self, page: PageId, at: BlockPtr, epoch: Epoch);

    /// `page` was freed in `epoch`: it is *freed* in that epoch's delta, and its id may be given out again. Memory only.
    fn freed(&self, page: PageId, epoch: Epoch);

    /// `page` is *freed* in the delta of `epoch`, and so are images of it that are recorded for that epoch or a later one, but it
    /// goes on to be read; [`Self::freed`] comes later. Memory only.
    fn retired(&self, page: PageId, epoch: Epoch);
}
