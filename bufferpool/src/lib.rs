//! The buffer pool: the engine's own virtual memory. It knows pages, not keys.
//!
//! ```text
//!   page id ──▶ page table ──▶ slot: resident in frame f ──▶ arena + f × page size
//!               (array)        │     on disk at block p
//!               latch, slot    │     being read, not allocated, unknown (ask the store)
//! ```
//!
//! Translation is one array index. A page moves between memory and disk, and between frames, without anybody's pointer to it
//! changing. What is dirty leaves memory as *images*, packed copies that go to newly allocated blocks; what becomes of blocks
//! and of the page map is the business of a [`PageStore`].
//!
//! Reading order: [`PageId`], [`BlockPtr`] and the slot (the vocabulary); the page table and the latch; [`PageView`] and
//! [`PageMut`] (how bytes are touched); the states of a frame; then what happens: load, change, evict, reserve, write back,
//! checkpoint. [`testing`] has a store in memory.
//!
//! # Invariants
//! 1. A slot changes only under its page's exclusive latch, and that raises the latch's version.
//! 2. The bytes of a *frozen* frame (dirty in an ended epoch and not yet packed) never change. A writer that must change such a
//!    page goes on in a copy.
//! 3. An image belongs to the epoch in which its frame became dirty, whoever writes it and whenever; each image written is told
//!    to the store once. At most one image of a frame is in flight.
//! 4. Frames change their state in one place, along the diagram in `states.rs`, or the pool asserts.
//! 5. Nobody waits for a transfer or for a frame with a latch held (debug builds assert it). Latches are held for memory work.
//! 6. At most three quarters of the frames are unclean or reserved: there are always frames for reading.
//! 7. A hit writes nothing shared but the frame's mark, and that only if it is not set.
//!
//! # Latching
//! A page's latch is taken shared or exclusively, or not at all: an *optimistic* reader notes the latch's version, reads, and
//! validates. Order: parent before child, and siblings from left to right; one thread takes no latch twice, since a sharer
//! waits behind a waiting writer. Validate the parent *after* taking the child's version or latch: only then was the child the
//! parent's child. Below the latches come, in this order: a frame's body; then any one of the ledger, the free list, the
//! eviction queues, or the store's own locks. Completions take the latches of pages that are being read (which nobody holds for
//! longer than it takes to see that they are being read), and bodies, and wait for nothing else.
//!
//! # Soundness
//! Every frame is words of `AtomicU64`. Who may do what with them:
//!
//! - *Optimistic readers* load relaxed through [`PageView`], at any time, even while the frame is given to another page. What
//!   they get may be torn; bounds are checked on every access, and nothing counts before [`Optimistic::validate`].
//! - *Writers* store relaxed through [`PageMut`], which exists only under the exclusive latch of the page in the frame, or
//!   over a frame that is free and the writer's own.
//! - *Plain slices* (`&[u8]`) exist under the shared latch ([`SharedGuard::bytes`]), or borrow the exclusive guard
//!   ([`PageMut::bytes`]). Nobody stores then: a writer would need the exclusive latch; a frame is given to another page, or a
//!   page read into it, only after its page has left it, which takes the exclusive latch too (1).
//! - *Devices* read from staging buffers, never from frames, and write into frames that are being read into.
//!
//! Why validation is enough. A writer takes the latch, issues a release fence, and only then stores; a reader that has seen
//! such a store issues an acquire fence before it looks at the latch again. The two fences synchronize, so the reader sees the
//! latch taken or its version raised. The same holds where the store was into a frame that had passed to another page:
//! the page's leaving happened before the frame was free, hence before the fence of whoever stored.

mod block_ptr;
mod change;
mod checkpoint;
mod core;
mod evict;
mod frame;
mod free_list;
mod fresh;
mod ghost;
mod guard;
mod held;
mod hold;
mod latch;
mod ledger;
mod lists;
mod load;
mod page_id;
mod page_table;
mod policy;
mod pool;
mod progress;
mod reserve;
mod slot;
mod states;
mod stats;
mod store;
pub mod testing;
mod ticket;
mod view;
mod writeback;

pub use block_ptr::BlockPtr;
pub use checkpoint::{CheckpointProgress, Pace, Unpaced};
pub use guard::{ExclusiveGuard, Optimistic, SharedGuard};
pub use hold::{Hold, Reservation};
pub use page_id::{Epoch, PageId};
pub use pool::{FRAMES_MIN, LoadError, Miss, PAGE_SIZE_MAX, PAGE_SIZE_MIN, Pool, PoolError, PoolOptions, ReserveError};
pub use stats::PoolStats;
pub use store::{Done, Fate, ImageDesc, Located, PageRead, PageStore, WriteBatch, WriteOrder, WriteOutcome};
pub use ticket::Watch;
pub use view::{PageMut, PageView};
