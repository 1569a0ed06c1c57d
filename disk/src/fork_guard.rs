//! Telling a child made by `fork` that nothing of its parent's handles is its own.
//!
//! A page that the kernel wipes in every child (`MADV_WIPEONFORK`) holds the number of the process's *generation*. Whatever
//! must not be used by a child remembers the [`Owner`] that made it; in a child the page reads zero, or, once the child has
//! opened something itself, another number.
//!
//! 1. The page's value is zero or the generation of this process; it changes from zero once, and back only by being wiped.
//! 2. Generations of a process and of its descendants differ: the counter is ordinary memory, which a child inherits.
//! 3. A check is one load of a value that no running process stores to: shared by all processors, never contended.
//!
//! Not here: what a child may do. It may drop what it has inherited (every `Drop` asks first, and touches nothing there), and
//! open databases anew.

use crate::{Error, Op, Result};
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Given to the next process that asks for its generation. Read by nobody else.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// The process that made something.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    page: &'static AtomicU64,
    generation: u64,
}

impl Owner {
    /// The calling process. An error only where the kernel gives no page of memory.
    pub fn this_process() -> Result<Owner> {
        let page = page()?;
        if page.load(Relaxed) == 0 {
            let mine = GENERATIONS.fetch_add(1, Relaxed);
            // Of several threads one wins; the others' numbers are never used.
            let _ = page.compare_exchange(0, mine, Relaxed, Relaxed);
        }
        Ok(Owner { page, generation: page.load(Relaxed) })
    }

    /// Whether the caller is a descendant by `fork` of the process that made it: then it must not be touched. One load.
    #[inline]
    pub fn is_forked_child(&self) -> bool {
        self.page.load(Relaxed) != self.generation
    }

    /// [`Error::ForkedChild`] in a descendant by `fork` of the process that made it. One load.
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.is_forked_child() { Err(Error::ForkedChild) } else { Ok(()) }
    }
}

/// Whether this process was made by `fork` and has opened nothing of its own since. For what belongs to no handle; a handle
/// keeps its [`Owner`] and asks that, which stays right when the child opens something itself.
#[inline]
pub fn is_forked_child() -> bool {
    GENERATIONS.load(Relaxed) > 1 && page().is_ok_and(|page| page.load(Relaxed) == 0)
}

/// [`Error::ForkedChild`] where [`is_forked_child`].
#[inline]
pub fn check() -> Result<()> {
    if is_forked_child() { Err(Error::ForkedChild) } else { Ok(()) }
}

/// Maps the page, at the first call.
fn page() -> Result<&'static AtomicU64> {
    static PAGE: OnceLock<std::result::Result<&'static AtomicU64, i32>> = OnceLock::new();
    PAGE.get_or_init(map_page).map_err(|errno| {
        let source = io::Error::from_raw_os_error(errno);
        Error::from_io(Op::Memory, Path::new("the fork guard's page"), None, &source)
    })
}

#[cfg(miri)]
fn map_page() -> std::result::Result<&'static AtomicU64, i32> {
    Ok(&const { AtomicU64::new(0) })
}

#[cfg(not(miri))]
fn map_page() -> std::result::Result<&'static AtomicU64, i32> {
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM);
    let len = crate::mapping::OS_PAGE_SIZE_MAX;
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address that the kernel chooses touches no existing memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: the range was just mapped. Wiping happens in children only, where it makes an atomic zero.
    if unsafe { libc::madvise(start, len, libc::MADV_WIPEONFORK) } != 0 {
        return Err(errno());
    }
    // SAFETY: aligned, zeroed, readable and writable memory that is never unmapped.
    Ok(unsafe { &*start.cast::<AtomicU64>() })
}
