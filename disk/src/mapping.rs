//! Anonymous memory straight from the kernel, unmapped when dropped: what [`arena`](crate::arena) stands on.
//!
//! 1. A mapping starts at a multiple of 2 MiB, so that the kernel can back it with huge pages.
//! 2. A child made by `fork` never unmaps: the range may not be mapped there, or be somebody else's by now.
//!
//! Not here: what the memory is for, who may touch it, and when.

use crate::fork_guard::Owner;
use crate::{Error, Op, Result};
use std::io;
use std::path::Path;
use std::ptr::NonNull;

/// The start of every mapping is a multiple of this: the size of a huge page on x86-64, and on aarch64 with 4 KiB pages.
pub(crate) const HUGE_PAGE_SIZE: usize = 2 << 20;

/// The largest page of the processor that the engine runs with (aarch64 kernels have 4, 16 or 64 KiB).
pub(crate) const OS_PAGE_SIZE_MAX: usize = 64 << 10;

/// What the memory is mapped for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Usable {
    /// Reading and writing at once.
    Now,
    /// Nothing, until [`Mapping::open`]: addresses without memory.
    OnceOpened,
}

/// A range of anonymous, private memory.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

// SAFETY: a mapping is an address range; it gives out a raw pointer only, and its methods are system calls on the range.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

pub(crate) fn memory_error(source: &io::Error) -> Error {
    Error::from_io(Op::Memory, Path::new("anonymous memory"), None, source)
}

impl Mapping {
    /// Maps `len` bytes, rounded up to [`OS_PAGE_SIZE_MAX`], at least that.
    pub(crate) fn new(len: usize, usable: Usable) -> Result<Mapping> {
        let owner = Owner::this_process()?;
        let too_long = || memory_error(&io::Error::from_raw_os_error(libc::ENOMEM));
        let len = len.max(1).checked_next_multiple_of(OS_PAGE_SIZE_MAX).ok_or_else(too_long)?;
        let start = map_aligned(len, usable, too_long)?;
        Ok(Mapping { start, len, owner })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes the bytes from `from` to `to` (multiples of [`OS_PAGE_SIZE_MAX`]) readable and writable.
    pub(crate) fn open(&self, from: usize, to: usize) -> Result<()> {
        assert!(
            from <= to && to <= self.len && from.is_multiple_of(OS_PAGE_SIZE_MAX) && to.is_multiple_of(OS_PAGE_SIZE_MAX),
            "not within the mapping"
        );
        if cfg!(miri) {
            return Ok(());
        }
        // SAFETY: the range lies in this mapping; giving more rights to anonymous memory invalidates no reference.
        let rc = unsafe { libc::mprotect(self.start.as_ptr().add(from).cast(), to - from, libc::PROT_READ | libc::PROT_WRITE) };
        if rc == 0 { Ok(()) } else { Err(memory_error(&io::Error::last_os_error())) }
    }

    /// Gives the kernel an advice that doesn't change what the memory holds.
    pub(crate) fn advise(&self, advice: Advice) -> Result<()> {
        if cfg!(miri) {
            return Ok(());
        }
        let advice = match advice {
            Advice::HugePages => libc::MADV_HUGEPAGE,
            Advice::NotInChildren => libc::MADV_DONTFORK,
        };
        // SAFETY: the range is this mapping; neither advice changes or drops contents in this process.
        let rc = unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) };
        if rc == 0 { Ok(()) } else { Err(memory_error(&io::Error::last_os_error())) }
    }

    /// Has the kernel back the bytes `[from, to)`, whole pages of its own, with memory, as writing to them would.
    pub(crate) fn populate(&self, from: usize, to: usize) -> Result<()> {
        assert!(from <= to && to <= self.len && from.is_multiple_of(OS_PAGE_SIZE_MAX), "a part of the mapping");
        if cfg!(miri) {
            return Ok(());
        }
        // SAFETY: the range lies in this mapping (just checked); the advice changes no contents.
        let rc = unsafe { libc::madvise(self.start.as_ptr().add(from).cast(), to - from, libc::MADV_POPULATE_WRITE) };
        if rc == 0 { Ok(()) } else { Err(memory_error(&io::Error::last_os_error())) }
    }
}

/// What to tell the kernel about a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// Back it with huge pages where there are any.
    HugePages,
    /// A child made by `fork` doesn't get it.
    NotInChildren,
}

/// Maps [`HUGE_PAGE_SIZE`] more than asked for and gives back what lies before and behind the aligned range.
#[cfg(not(miri))]
fn map_aligned(len: usize, usable: Usable, too_long: impl Fn() -> Error) -> Result<NonNull<u8>> {
    let whole = len.checked_add(HUGE_PAGE_SIZE).ok_or_else(&too_long)?;
    let (rights, reserve) = match usable {
        Usable::Now => (libc::PROT_READ | libc::PROT_WRITE, 0),
        Usable::OnceOpened => (libc::PROT_NONE, libc::MAP_NORESERVE),
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | reserve;
    // SAFETY: a new anonymous mapping at an address that the kernel chooses touches no existing memory.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), whole, rights, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(memory_error(&io::Error::last_os_error()));
    }
    let head = (base as usize).next_multiple_of(HUGE_PAGE_SIZE) - base as usize;
    let tail = whole - head - len;
    let base: *mut u8 = base.cast();
    // SAFETY: head, len and tail add up to the mapping just made, so `start` and `end` lie in it (or at its end), and what is
    // unmapped is part of it and unknown to anybody.
    let start = unsafe {
        let start = base.add(head);
        if head > 0 {
            libc::munmap(base.cast(), head);
        }
        if tail > 0 {
            libc::munmap(start.add(len).cast(), tail);
        }
        start
    };
    NonNull::new(start).ok_or_else(too_long)
}

/// Miri knows no `madvise` and no `mprotect`: there, ordinary zeroed memory stands in.
#[cfg(miri)]
fn map_aligned(len: usize, _usable: Usable, too_long: impl Fn() -> Error) -> Result<NonNull<u8>> {
    // SAFETY: the layout's size is not zero.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(miri_layout(len)) }).ok_or_else(too_long)
}

#[cfg(miri)]
fn miri_layout(len: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(len, HUGE_PAGE_SIZE).expect("a length that was mapped")
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.owner.is_forked_child() {
            return;
        }
        #[cfg(miri)]
        // SAFETY: allocated in `map_aligned` with the same layout.
        unsafe {
            std::alloc::dealloc(self.start.as_ptr(), miri_layout(self.len))
        }
        #[cfg(not(miri))]
        // SAFETY: the range was mapped by this process (2), and whoever borrowed from it borrowed from `self`.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len);
        }
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapping({} bytes)", self.len)
    }
}
