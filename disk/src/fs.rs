//! The seam: what the engine asks of files, directories and queues of transfers.
//!
//! Two implementations: [`real`](crate::real) (the Linux kernel) and [`sim`](crate::sim) (a machine that can lose power).
//! Every contract below is about what survives a power cut; an implementation may keep more, never less.
//!
//! Rules:
//! 1. Offsets and lengths of transfers are multiples of the block; memory is aligned to it. [`check_transfer`] is the one
//!    gate, called by both implementations at the door; nobody else checks alignment.
//! 2. A transfer owns its buffers from `submit` until its completion has run. Dropping interest never frees the memory early.
//! 3. A completed write may be lost in a power cut, in whole or sector by sector, until a later `sync` of the same file has
//!    succeeded, or the write itself was [`Durability::Now`] (which covers that write alone, and not the file's length).
//! 4. Created, renamed and removed names may be lost until `sync_dir` of their directory; length and allocation until
//!    `sync(SyncKind::All)` of the file.
//! 5. After an error of a sync or of a durable write nothing may be assumed about any earlier write that was not yet durable;
//!    calling again proves nothing.

use crate::words::Words;
use crate::{AlignedBuf, ArenaSlice, BlockSize, BufPart, Error, Result};
use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Whether transfers go around the kernel's page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoMode {
    /// `O_DIRECT`, or an error.
    #[default]
    Direct,
    /// Through the page cache: only where the user asked for it.
    Buffered,
}

/// For reading only, or also for writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads only.
    Read,
    /// Reads and writes.
    ReadWrite,
}

/// Whether opening makes the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Create {
    /// It must be there.
    Never,
    /// It must not be there; it is made, empty. Its name is not durable until `sync_dir`.
    New,
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenHow {
    /// Reading, or also writing.
    pub access: Access,
    /// Whether it is made.
    pub create: Create,
    /// Direct or buffered.
    pub mode: IoMode,
    /// The unit of all transfers on this file: checked against what the file needs ([`Error::Alignment`]).
    pub block: BlockSize,
}

/// What must have reached the device when a write returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Nothing yet: a later sync covers it.
    Later,
    /// This write's bytes (`RWF_DSYNC` or write and `fdatasync`): the length and the allocation must be durable before.
    Now,
}

/// What a sync makes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncKind {
    /// Data, and the metadata needed to read it (`fdatasync`).
    Data,
    /// Data and all metadata (`fsync`).
    All,
}

/// What kind of lock to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// One writer alone.
    Exclusive,
    /// Readers beside each other.
    Shared,
}

/// How transfers are kept in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QueueKind {
    /// `io_uring` where the kernel has and allows it, else threads.
    #[default]
    Best,
    /// `io_uring`, or an error.
    Uring,
    /// A pool of threads with `preadv` and `pwritev`.
    Threads,
}

/// What direct I/O on a file needs, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alignment {
    /// Of memory.
    pub memory: usize,
    /// Of offsets and lengths.
    pub offset: usize,
}

/// A file system: directories and files. Paths are used as given; every call but `list`, `exists` and `capacity` changes or
/// opens exactly the path named.
pub trait Fs: Send + Sync + Debug {
    /// Opens or makes a file.
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>>;
    /// Makes a directory; its parent must be there. `AlreadyExists` is an [`Error::Io`] of that kind.
    fn create_dir(&self, path: &Path) -> Result<()>;
    /// The names in a directory, sorted. Not a directory or not there: an error.
    fn list(&self, dir: &Path) -> Result<Vec<String>>;
    /// Whether a file or directory of that name is there.
    fn exists(&self, path: &Path) -> Result<bool>;
    /// Renames a file, replacing `to` if it is there. Atomic; durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file's name; durable after `sync_dir`.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Takes the lock file at `path` (made if need be), held until the guard is dropped. Taken by somebody else, in this
    /// process or another: [`Error::Locked`] with the holder's process id where known.
    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn Lock>>;
    /// A queue for transfers on files of this file system, with room for `depth` in flight.
    fn queue(&self, kind: QueueKind, depth: u32) -> Result<Arc<dyn Queue>>;
    /// How many bytes the file system that holds `path` could hold in all.
    fn capacity(&self, path: &Path) -> Result<u64>;
}

/// A lock on a lock file, released when dropped (but never by a child made by `fork`).
pub trait Lock: Send + Sync + Debug {}

#[expect(clippy::len_without_is_empty, reason = "asking the kernel whether a file is empty is asking for its length")]
/// An open file. Blocking calls run in the calling thread; `Queue` has the same transfers for many in flight.
pub trait File: Send + Sync + Debug {
    /// The path it was opened by.
    fn path(&self) -> &Path;
    /// The length in bytes.
    fn len(&self) -> Result<u64>;
    /// Reads from `offset` on into all of `into`, in order. The file's end within is [`Error::Short`].
    fn read(&self, offset: u64, into: &[&Words]) -> Result<()>;
    /// Writes all of `from`, in order, from `offset` on.
    fn write(&self, offset: u64, from: &[&Words], durability: Durability) -> Result<()>;
    /// Makes what was written and has completed durable.
    fn sync(&self, kind: SyncKind) -> Result<()>;
    /// Makes room for `len` bytes at `offset`, zero where new; the file grows to `offset + len` if it is shorter. Durable
    /// after `sync(SyncKind::All)`. No room is [`Error::NoSpace`], and the length is as before.
    fn allocate(&self, offset: u64, len: u64) -> Result<()>;
    /// Gives the bytes back to the file system; they read zero. The length stays.
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()>;
    /// Cuts or extends (with zeros) to `len` bytes. A power cut may leave the old length, and what lay behind a cut, until
    /// `sync(SyncKind::All)`; what is written behind a cut afterwards is not mixed up with it. After an error the length is the old
    /// one or the new one. No transfer may be on what is cut off.
    fn set_len(&self, len: u64) -> Result<()>;
    /// What its direct I/O needs.
    fn alignment(&self) -> Alignment;
    /// How many of its pages the kernel's page cache holds (`cachestat`), or `None` where the kernel can't tell.
    fn resident_pages(&self) -> Result<Option<u64>>;
    /// Syncs dirty and drops clean pages of it from the kernel's page cache.
    fn drop_cache(&self) -> Result<()>;
    /// For a queue of the same file system: itself as what it really is.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Memory that a transfer owns while it is in flight.
#[derive(Debug)]
pub enum Buffer {
    /// Memory of its own.
    Heap(AlignedBuf),
    /// A part of a buffer whose other parts belong to other transfers.
    Part(BufPart),
    /// A piece of an arena, kept alive by the arena's count.
    Arena(ArenaSlice),
    /// A piece (bytes, whole blocks) of memory that several transfers share: for writes only, since a shared buffer must not
    /// change.
    Shared(Arc<AlignedBuf>, Range<usize>),
}

impl Buffer {
    /// The memory. Only the owner of the transfer (an implementation of this seam) stores through it.
    pub(crate) fn words(&self) -> &Words {
        match self {
            Buffer::Heap(buf) => buf.words(),
            Buffer::Part(part) => part.words(),
            Buffer::Arena(slice) => slice.words(),
            Buffer::Shared(buf, range) => &buf.words()[range.start / 8..range.end / 8],
        }
    }
}

/// What a transfer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransferOp {
    /// File to memory.
    Read,
    /// Memory to file.
    Write(Durability),
}

/// A completed transfer: how it ended, and its buffers back.
#[derive(Debug)]
pub struct Completed {
    /// Ok when every byte was moved.
    pub result: Result<()>,
    /// The buffers, in order.
    pub buffers: Vec<Buffer>,
}

/// A transfer to be submitted.
pub struct Transfer {
    /// On which file (of the queue's own file system).
    pub file: Arc<dyn File>,
    /// Read or write.
    pub op: TransferOp,
    /// From which byte of the file on.
    pub offset: u64,
    /// Into or from which memory, in order: one transfer for the device.
    pub buffers: Vec<Buffer>,
    /// Runs exactly once, on whichever thread reaps. Must not block, wait, or call the queue.
    pub done: Box<dyn FnOnce(Completed) + Send>,
}

impl Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} buffers at byte {} of {}", self.op, self.buffers.len(), self.offset, self.file.path().display())
    }
}

/// Many transfers in flight. Belongs to a database, not to a thread: anybody submits, and whoever waits reaps for everybody.
pub trait Queue: Send + Sync + Debug {
    /// Starts transfers. Waits (reaping) while the queue is full. A transfer that can't be started completes with its error.
    fn submit(&self, transfers: Vec<Transfer>);
    /// Runs the completions that are there, without waiting; gives their number.
    fn poll(&self) -> usize;
    /// Returns when `until` is true. It is asked at the start and after every batch of completions that anybody reaped;
    /// what makes it true must be a completion of this queue. Must not be called from a completion.
    fn wait(&self, until: &dyn Fn() -> bool);
    /// How many transfers have been submitted and have not completed.
    fn in_flight(&self) -> usize;
    /// Returns when nothing is in flight.
    fn drain(&self) {
        self.wait(&|| self.in_flight() == 0);
    }
    /// How it works: `io_uring`, `threads` or `simulated`.
    fn kind(&self) -> &'static str;
    /// How many bytes of arenas the kernel has pinned for it, so that transfers there need no look-up; `None` where that can't be,
    /// or the locked-memory limit forbids it.
    fn registered_bytes(&self) -> Option<u64> {
        None
    }
}

/// The one gate for alignment: every transfer of either implementation passes here.
pub fn check_transfer(path: &Path, block: BlockSize, offset: u64, buffers: &[&Words]) -> Result<u64> {
    let unit = block.bytes();
    let mut len = 0;
    for words in buffers {
        let bytes = size_of_val(*words);
        if bytes == 0 || bytes % unit != 0 || !(words.as_ptr() as usize).is_multiple_of(BLOCK_MEMORY_ALIGN) {
            return Err(Error::Alignment { path: path.to_owned(), needed: unit, block: bytes });
        }
        len += bytes as u64;
    }
    if !offset.is_multiple_of(unit as u64) || len == 0 {
        return Err(Error::Alignment { path: path.to_owned(), needed: unit, block: (offset % unit as u64) as usize });
    }
    Ok(len)
}

/// Memory of transfers is aligned to this at least: no device on Linux asks for more than its logical block.
const BLOCK_MEMORY_ALIGN: usize = crate::BLOCK_SIZE_MIN;
