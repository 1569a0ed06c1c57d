//! The engine's two kinds of large memory: the arena that devices write into, and arrays that grow in place.
//!
//! 1. An [`Arena`] is mapped once, never moves, and is zero where it was never stored to. It takes memory as it is touched.
//! 2. No child made by `fork` has it (`MADV_DONTFORK`): a page that a device is writing into is never shared copy-on-write.
//!    Touching it in a child is a fault of the processor, which is why every public call asks [`fork_guard`](crate::fork_guard)
//!    first.
//! 3. An arena lives until its last [`ArenaSlice`] is gone, and a transfer in flight holds its slices.
//! 4. The open part of a [`Reserved`] only grows, and never moves.
//!
//! Not here: what is kept where in an arena, and who may touch which part when. All access is through words (see
//! [`words`](crate::words)), so a mistake above is a wrong value and not undefined behaviour.

use crate::Result;
use crate::mapping::{Advice, HUGE_PAGE_SIZE, Mapping, OS_PAGE_SIZE_MAX, Usable};
use crate::words::Words;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Anonymous memory for transfers: frames, and buffers that live as long as the database.
#[derive(Debug)]
pub struct Arena {
    memory: Mapping,
    id: u64,
}

impl Arena {
    /// An arena of `len` bytes (rounded up to 64 KiB), zeroed, not yet backed by memory. Huge pages are asked for where it is
    /// large enough for them; not getting them is no error.
    pub fn new(len: usize) -> Result<Arc<Arena>> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let memory = Mapping::new(len, Usable::Now)?;
        memory.advise(Advice::NotInChildren)?;
        if memory.len() >= HUGE_PAGE_SIZE {
            // A kernel without transparent huge pages answers EINVAL: then small ones do.
            let _ = memory.advise(Advice::HugePages);
        }
        Ok(Arc::new(Arena { memory, id: NEXT_ID.fetch_add(1, Ordering::Relaxed) }))
    }

    /// Its length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// A number that no other arena of this process has had.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The `len` bytes from byte `offset` on; both multiples of 8.
    ///
    /// # Panics
    /// Where they are not, or pass the arena's end.
    pub fn words(&self, offset: usize, len: usize) -> &Words {
        assert!(offset.is_multiple_of(8) && len.is_multiple_of(8), "not whole words");
        assert!(offset <= self.len() && len <= self.len() - offset, "past the arena's end");
        // SAFETY: the range lies in the mapping, which lives as long as `self`, is readable and writable, aligned, and zeroed by
        // the kernel. Everybody in this process sees it as atomic words only; what the kernel stores for a transfer is to the
        // owner of that transfer's buffer what a relaxed store of another thread is.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr().add(offset).cast(), len / 8) }
    }

    /// Takes memory for the bytes from `from` up to `to` (both multiples of 64 KiB, or the arena's end), so that whoever touches them
    /// first does not wait for the kernel to clear it. What stands there stays.
    ///
    /// # Errors
    /// The kernel can't: it is older than Linux 5.14, or there is no memory. Touching them still may succeed.
    ///
    /// # Panics
    /// Where they pass the arena's end.
    pub fn populate(&self, from: usize, to: usize) -> Result<()> {
        self.memory.populate(from, to)
    }

    /// The `len` bytes from byte `offset` on, keeping the arena alive; both multiples of 8.
    ///
    /// # Panics
    /// As [`Arena::words`].
    pub fn slice(self: &Arc<Self>, offset: usize, len: usize) -> ArenaSlice {
        let _in_bounds = self.words(offset, len);
        ArenaSlice { arena: Arc::clone(self), offset, len }
    }
}

/// A piece of an arena that keeps it alive: what a transfer owns.
#[derive(Clone)]
pub struct ArenaSlice {
    arena: Arc<Arena>,
    offset: usize,
    len: usize,
}

impl ArenaSlice {
    /// The memory.
    pub fn words(&self) -> &Words {
        self.arena.words(self.offset, self.len)
    }

    /// The arena it is a piece of.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Its first byte within the arena.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for ArenaSlice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ArenaSlice({} bytes at {})", self.len, self.offset)
    }
}

/// An array of words with room for `max_bytes` that is opened step by step: its address never changes, and what is not open
/// costs address space only.
#[derive(Debug)]
pub struct Reserved {
    memory: Mapping,
    /// Bytes that are open. Stored with Release after the kernel has opened them; `words` loads with Acquire.
    open: AtomicUsize,
    /// One opener at a time; held for a system call, never while waiting for anything else.
    opening: Mutex<()>,
}

/// An array grows by this many bytes at least.
const OPEN_STEP: usize = 1 << 20;
const _: () = assert!(OPEN_STEP.is_multiple_of(OS_PAGE_SIZE_MAX), "the kernel opens whole pages of its own");

impl Reserved {
    /// Addresses for `max_bytes` (rounded up to 64 KiB), none of it open.
    pub fn new(max_bytes: usize) -> Result<Reserved> {
        let memory = Mapping::new(max_bytes, Usable::OnceOpened)?;
        Ok(Reserved { memory, open: AtomicUsize::new(0), opening: Mutex::new(()) })
    }

    /// The most bytes it can have.
    pub fn max_bytes(&self) -> usize {
        self.memory.len()
    }

    /// Opens at least the first `bytes`, zero where they were not open before; no less stays open than was. More than
    /// [`Reserved::max_bytes`] is an [`Error::Io`](crate::Error::Io) with `ENOMEM`.
    pub fn open_to(&self, bytes: usize) -> Result<()> {
        if bytes <= self.open.load(Ordering::Acquire) {
            return Ok(());
        }
        let no_room = || crate::mapping::memory_error(&io::Error::from_raw_os_error(libc::ENOMEM));
        if bytes > self.max_bytes() {
            return Err(no_room());
        }
        let _one = self.opening.lock();
        let open = self.open.load(Ordering::Acquire);
        if bytes <= open {
            return Ok(());
        }
        // In steps of a sixteenth, so that an array that grows page by page costs few system calls and little is opened ahead.
        let step = (open / 16).next_multiple_of(OPEN_STEP).max(OPEN_STEP);
        let to = bytes.next_multiple_of(OPEN_STEP).max(open.saturating_add(step)).min(self.max_bytes());
        self.memory.open(open, to)?;
        self.open.store(to, Ordering::Release);
        Ok(())
    }

    /// What is open.
    pub fn words(&self) -> &Words {
        let open = self.open.load(Ordering::Acquire);
        // SAFETY: the first `open` bytes of the mapping are readable and writable (4), it lives as long as `self`, is aligned,
        // and was zeroed by the kernel.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr().cast(), open / 8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn an_arena_is_aligned_and_zero_and_keeps_what_is_stored() {
        let arena = Arena::new(3 << 20).unwrap();
        assert_eq!(arena.len(), 3 << 20);
        let first = arena.words(0, arena.len());
        assert_eq!(first.as_ptr() as usize % HUGE_PAGE_SIZE, 0);
        assert!(first.iter().all(|w| w.load(Relaxed) == 0));
        let slice = arena.slice(4096, 4096);
        slice.words()[0].store(7, Relaxed);
        drop(arena);
        assert_eq!(slice.words()[0].load(Relaxed), 7);
        assert_eq!(slice.arena().words(4096, 8)[0].load(Relaxed), 7);
    }

    #[test]
    fn memory_that_was_taken_ahead_keeps_what_stands_there() {
        let arena = Arena::new(4 * HUGE_PAGE_SIZE).unwrap();
        arena.words(HUGE_PAGE_SIZE, 8)[0].store(7, Relaxed);
        // An old kernel refuses; that is all.
        let _ = arena.populate(0, arena.len());
        assert_eq!(arena.words(HUGE_PAGE_SIZE, 8)[0].load(Relaxed), 7);
        assert!(arena.words(2 * HUGE_PAGE_SIZE, HUGE_PAGE_SIZE).iter().all(|word| word.load(Relaxed) == 0));
    }

    #[test]
    #[should_panic(expected = "a part of the mapping")]
    fn memory_past_the_end_is_not_taken() {
        let _ = Arena::new(65536).unwrap().populate(0, 131_072);
    }

    #[test]
    fn lengths_are_rounded_up() {
        assert_eq!(Arena::new(0).unwrap().len(), OS_PAGE_SIZE_MAX);
        assert_eq!(Arena::new(65537).unwrap().len(), 2 * OS_PAGE_SIZE_MAX);
        assert!(Arena::new(usize::MAX).is_err());
    }

    #[test]
    #[should_panic(expected = "past the arena's end")]
    fn a_slice_past_the_end_is_refused() {
        Arena::new(65536).unwrap().slice(65536 - 4096, 8192);
    }

    #[test]
    #[should_panic(expected = "not whole words")]
    fn a_piece_of_a_word_is_refused() {
        Arena::new(65536).unwrap().words(4, 8);
    }

    #[test]
    fn a_reserved_array_opens_in_place() {
        let array = Reserved::new(64 << 20).unwrap();
        assert_eq!(array.words().len(), 0);
        array.open_to(1).unwrap();
        let before = array.words().as_ptr();
        array.words()[0].store(9, Relaxed);
        for bytes in [1, 1 << 20, (1 << 20) + 1, 5 << 20, 64 << 20] {
            array.open_to(bytes).unwrap();
            assert!(array.words().len() * 8 >= bytes && array.words().as_ptr() == before);
            array.words()[array.words().len() - 1].store(1, Relaxed);
        }
        assert_eq!(array.words()[0].load(Relaxed), 9);
        assert!(array.open_to((64 << 20) + 1).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes the memory for real there")]
    fn an_array_of_a_tebibyte_costs_nothing() {
        let array = Reserved::new(1 << 40).unwrap();
        array.open_to(8).unwrap();
        assert!(array.words().len() * 8 <= 2 << 20);
    }
}
