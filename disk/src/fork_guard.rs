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
//! 4. Descriptors that must not outlive the parent in a child (a lock's belongs to the open file, which both would share) are
//!    listed here and closed in the child by a `pthread_atfork` handler. The list is under a spinning lock that the forking
//!    thread takes first, so that no other thread stands between opening a descriptor and listing it, or between taking it
//!    off the list and closing it. The handlers take no other lock and no memory.
//!
//! A child made by bare `clone` runs no handlers: it is recognized all the same, but keeps the descriptors until it ends or
//! replaces its program (all are `O_CLOEXEC`).
//!
//! Not here: what a child may do. It may drop what it has inherited (every `Drop` asks first, and touches nothing there), and
//! open databases anew.

use crate::{Error, Op, Result};
use std::cell::UnsafeCell;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

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
    static PAGE: AtomicU64 = AtomicU64::new(0);
    Ok(&PAGE)
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

/// Descriptors that a child closes (4). Changed only within [`with_descriptors`].
pub(crate) type Descriptors = Vec<RawFd>;

static LISTED: Listed = Listed { taken: AtomicBool::new(false), descriptors: UnsafeCell::new(Vec::new()) };

/// The list and its lock, which spins: a lock with a queue of waiting threads can't be released in a child.
struct Listed {
    taken: AtomicBool,
    descriptors: UnsafeCell<Descriptors>,
}

// SAFETY: the list is touched only by whoever has set `taken`, or, in a child, by its only thread.
unsafe impl Sync for Listed {}

impl Listed {
    fn take(&self) {
        // Acquire: pairs with the Release in `give`.
        while self.taken.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
            std::thread::yield_now();
        }
    }

    fn give(&self) {
        self.taken.store(false, Release);
    }
}

/// Gives the lock back, in a panic as well.
struct Giving;

impl Drop for Giving {
    fn drop(&mut self) {
        LISTED.give();
    }
}

/// Runs `change` with the list of descriptors that children close, while no thread forks. It opens a descriptor and lists it, or
/// takes one off and closes it; nothing else, since others spin meanwhile.
pub(crate) fn with_descriptors<T>(change: impl FnOnce(&mut Descriptors) -> T) -> Result<T> {
    install_handlers()?;
    LISTED.take();
    let _giving = Giving;
    // SAFETY: the lock is taken, so no other reference to the list exists.
    Ok(change(unsafe { &mut *LISTED.descriptors.get() }))
}

fn install_handlers() -> Result<()> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handlers are functions of the program that never go away and keep to what a handler may do: atomics,
    // `sched_yield` and `close`.
    let errno = *INSTALLED.get_or_init(|| unsafe { pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) });
    if errno == 0 {
        return Ok(());
    }
    let source = io::Error::from_raw_os_error(errno);
    Err(Error::from_io(Op::Memory, Path::new("handlers of fork"), None, &source))
}

// SAFETY: declared as POSIX and the GNU and musl C libraries do: three optional functions without arguments, an error number back.
unsafe extern "C" {
    /// POSIX; the crate `libc` lacks it for Linux.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> libc::c_int;
}

extern "C" fn before_fork() {
    LISTED.take();
}

extern "C" fn in_parent() {
    LISTED.give();
}

extern "C" fn in_child() {
    // SAFETY: the thread that forked took the lock in `before_fork` and is the only one here. Closing the child's descriptors
    // leaves the parent's open, and no `flock` is released, since the parent still has the open file.
    unsafe {
        let descriptors = &mut *LISTED.descriptors.get();
        for descriptor in descriptors.iter() {
            libc::close(*descriptor);
        }
        // Takes and gives no memory.
        descriptors.clear();
    }
    LISTED.give();
}
