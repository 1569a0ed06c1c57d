//! The latch of a page: a version, sharers, an exclusive holder and a sign that somebody waits, in one word.
//!
//! ```text
//!  63                    18 17          2    1         0
//! ┌────────────────────────┬─────────────┬─────────┬───────────┐
//! │ version (46)           │ sharers (16)│ waiters │ exclusive │
//! └────────────────────────┴─────────────┴─────────┴───────────┘
//! ```
//!
//! 1. While *exclusive* is set there are no sharers. Every exclusive unlock after a change raises the version.
//! 2. A reader that takes no latch notes the version ([`Latch::version`]), reads, and asks [`Latch::validate`]: true means
//!    that nobody has changed anything in between. It writes nothing.
//! 3. *Waiters* is set only while exclusive or some sharer is (but for the moment within [`Latch::unlock_shared`]). Whoever
//!    clears it unparks all who wait, after clearing it; whoever parks checks it with the queue locked: no wake-up is lost.
//! 4. A new sharer waits while *waiters* is set, so that a stream of sharers can't keep a writer out. Hence nobody takes the
//!    same latch twice.
//!
//! Not here: what the latch protects, and in what order latches are taken ([the crate's page](crate)).

use ashlar_disk::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence, spin,
};
use ashlar_disk::sync::park;

const EXCLUSIVE: u64 = 1;
const WAITERS: u64 = 1 << 1;
const SHARER: u64 = 1 << 2;
const SHARERS: u64 = VERSION - SHARER;
const VERSION: u64 = 1 << 18;
const VERSIONS: u64 = !(VERSION - 1);

/// A page's state at one moment, for [`Latch::validate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Version(u64);

/// A latch, wherever its word stands.
#[derive(Clone, Copy)]
pub(crate) struct Latch<'a>(&'a AtomicU64);

impl<'a> Latch<'a> {
    #[inline]
    pub(crate) fn over(word: &'a AtomicU64) -> Latch<'a> {
        Latch(word)
    }

    /// The version, once nobody holds the latch exclusively.
    #[inline]
    pub(crate) fn version(self) -> Version {
        // Acquire: pairs with the Release of the unlock that stored this version; what was changed before it is seen.
        let word = self.0.load(Acquire);
        if word & EXCLUSIVE == 0 { Version(word & VERSIONS) } else { self.version_slow() }
    }

    #[cold]
    fn version_slow(self) -> Version {
        let mut spins = 0;
        loop {
            self.wait(&mut spins, |word| word & EXCLUSIVE != 0);
            let word = self.0.load(Acquire);
            if word & EXCLUSIVE == 0 {
                return Version(word & VERSIONS);
            }
        }
    }

    /// Whether nothing has changed since `version` was noted: then all that was read in between is as it stood.
    #[inline]
    pub(crate) fn validate(self, version: Version) -> bool {
        // Acquire: pairs with the Release fence in `locked_exclusive`. A reader that has seen any store made after that fence
        // sees, below, the latch taken or a later version.
        fence(Acquire);
        self.0.load(Relaxed) & (VERSIONS | EXCLUSIVE) == version.0
    }

    /// Takes the latch together with other sharers. Waits.
    #[inline]
    pub(crate) fn lock_shared(self) {
        if !self.try_lock_shared() {
            self.lock_shared_slow();
        }
    }

    #[cold]
    fn lock_shared_slow(self) {
        let mut spins = 0;
        while !self.try_lock_shared() {
            self.wait(&mut spins, closed_to_sharers);
        }
    }

    /// Takes the latch together with other sharers, or gives false where that means waiting.
    #[inline]
    pub(crate) fn try_lock_shared(self) -> bool {
        let mut word = self.0.load(Relaxed);
        while !closed_to_sharers(word) {
            // Acquire: pairs with the Release of the exclusive unlock before.
            match self.0.compare_exchange_weak(word, word + SHARER, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    pub(crate) fn unlock_shared(self) {
        // Release: pairs with the Acquire of the next exclusive lock; our loads come before its stores.
        let before = self.0.fetch_sub(SHARER, Release);
        debug_assert!(before & SHARERS != 0 && before & EXCLUSIVE == 0, "unlocking what is not shared");
        if before & (SHARERS | WAITERS) == SHARER | WAITERS {
            self.0.fetch_and(!WAITERS, Relaxed);
            park::unpark_all(self.key());
        }
    }

    /// Takes the latch alone. Waits.
    #[inline]
    pub(crate) fn lock_exclusive(self) {
        if !self.try_lock_exclusive() {
            self.lock_exclusive_slow();
        }
    }

    #[cold]
    fn lock_exclusive_slow(self) {
        let mut spins = 0;
        while !self.try_lock_exclusive() {
            self.wait(&mut spins, is_held);
        }
    }

    /// Takes the latch alone, or gives false where that means waiting.
    #[inline]
    pub(crate) fn try_lock_exclusive(self) -> bool {
        let mut word = self.0.load(Relaxed);
        while !is_held(word) {
            // Acquire: pairs with the Release of every unlock before.
            match self.0.compare_exchange_weak(word, word | EXCLUSIVE, Acquire, Relaxed) {
                Ok(_) => {
                    // Release: pairs with the Acquire fence in `validate`. No store of ours is seen before the latch is.
                    fence(Release);
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }

    /// Gives the latch back after a change: the version rises.
    #[inline]
    pub(crate) fn unlock_changed(self) {
        // The holder alone changes the version; others may only set `WAITERS`.
        let next = (self.0.load(Relaxed) & VERSIONS).wrapping_add(VERSION);
        // Release: pairs with the Acquire of `version` and of the locks.
        let before = self.0.swap(next, Release);
        debug_assert!(before & EXCLUSIVE != 0, "unlocking what is not exclusive");
        if before & WAITERS != 0 {
            park::unpark_all(self.key());
        }
    }

    /// Gives the latch back where nothing was changed under it: readers need not start over.
    #[inline]
    pub(crate) fn unlock_unchanged(self) {
        let before = self.0.fetch_and(!(EXCLUSIVE | WAITERS), Release);
        debug_assert!(before & EXCLUSIVE != 0, "unlocking what is not exclusive");
        if before & WAITERS != 0 {
            park::unpark_all(self.key());
        }
    }

    /// Whether somebody holds it exclusively, or waits: for assertions.
    pub(crate) fn is_exclusive(self) -> bool {
        self.0.load(Relaxed) & EXCLUSIVE != 0
    }

    /// Waits once, spinning at first, while `blocked`; returns for no reason too.
    fn wait(self, spins: &mut u32, blocked: impl Fn(u64) -> bool) {
        if spin(spins) {
            return;
        }
        let word = self.0.load(Relaxed);
        if !blocked(word) {
            return;
        }
        if word & WAITERS == 0 && self.0.compare_exchange(word, word | WAITERS, Relaxed, Relaxed).is_err() {
            return;
        }
        park::park(self.key(), || {
            let word = self.0.load(Relaxed);
            blocked(word) && word & WAITERS != 0
        });
    }

    fn key(self) -> usize {
        std::ptr::from_ref(self.0).addr()
    }
}

fn is_held(word: u64) -> bool {
    word & (EXCLUSIVE | SHARERS) != 0
}

fn closed_to_sharers(word: u64) -> bool {
    word & (EXCLUSIVE | WAITERS) != 0 || word & SHARERS == SHARERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::spin_loop;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn exclusive_excludes_and_raises_the_version() {
        let word = AtomicU64::new(0);
        let latch = Latch::over(&word);
        let before = latch.version();
        latch.lock_exclusive();
        assert!(!latch.try_lock_shared() && !latch.try_lock_exclusive() && !latch.validate(before));
        latch.unlock_unchanged();
        assert!(latch.validate(before), "nothing was changed");
        latch.lock_exclusive();
        latch.unlock_changed();
        assert!(!latch.validate(before));
        assert!(latch.validate(latch.version()));
    }

    #[test]
    fn sharers_share_and_keep_versions_valid() {
        let word = AtomicU64::new(0);
        let latch = Latch::over(&word);
        let version = latch.version();
        for _ in 0..3 {
            latch.lock_shared();
        }
        assert!(latch.validate(version) && !latch.try_lock_exclusive());
        for _ in 0..3 {
            latch.unlock_shared();
        }
        assert!(latch.try_lock_exclusive());
        latch.unlock_changed();
        assert_eq!(word.load(Relaxed), VERSION);
    }

    #[test]
    fn sharers_end_at_the_most_that_can_be_counted() {
        let word = AtomicU64::new(SHARERS - SHARER);
        let latch = Latch::over(&word);
        assert!(latch.try_lock_shared());
        assert!(!latch.try_lock_shared());
        assert_eq!(word.load(Relaxed), SHARERS);
    }

    #[test]
    fn versions_wrap_around() {
        let word = AtomicU64::new(VERSIONS);
        let latch = Latch::over(&word);
        latch.lock_exclusive();
        latch.unlock_changed();
        assert_eq!(word.load(Relaxed), 0);
    }

    /// Two words that writers keep equal: sharers and validated optimistic readers never see them differ.
    #[test]
    fn many_threads_see_only_whole_changes() {
        struct Page {
            latch: AtomicU64,
            a: AtomicU64,
            b: AtomicU64,
            stop: AtomicBool,
        }
        let page =
            Arc::new(Page { latch: AtomicU64::new(0), a: AtomicU64::new(0), b: AtomicU64::new(0), stop: AtomicBool::new(false) });
        let rounds = if cfg!(miri) { 40 } else { 30_000 };
        let spawn = |body: fn(&Page, u64), rounds: u64| {
            let page = Arc::clone(&page);
            ashlar_disk::sync::spawn("latch", move || body(&page, rounds)).unwrap()
        };
        let write = |page: &Page, rounds: u64| {
            for _ in 0..rounds {
                let latch = Latch::over(&page.latch);
                latch.lock_exclusive();
                let value = page.a.load(Relaxed) + 1;
                page.a.store(value, Relaxed);
                page.b.store(value, Relaxed);
                latch.unlock_changed();
            }
        };
        let share = |page: &Page, rounds: u64| {
            for _ in 0..rounds {
                let latch = Latch::over(&page.latch);
                latch.lock_shared();
                assert_eq!(page.a.load(Relaxed), page.b.load(Relaxed));
                latch.unlock_shared();
            }
        };
        let look = |page: &Page, _: u64| {
            let mut valid = 0u64;
            while !page.stop.load(Relaxed) || valid == 0 {
                let latch = Latch::over(&page.latch);
                let version = latch.version();
                let (b, a) = (page.b.load(Relaxed), page.a.load(Relaxed));
                if latch.validate(version) {
                    assert_eq!(a, b);
                    valid += 1;
                }
                spin_loop();
            }
        };
        let workers = [spawn(write, rounds), spawn(write, rounds), spawn(share, rounds), spawn(share, rounds)];
        let looker = spawn(look, 0);
        for worker in workers {
            worker.join().unwrap();
        }
        page.stop.store(true, Relaxed);
        looker.join().unwrap();
        assert_eq!(page.a.load(Relaxed), 2 * rounds);
        assert_eq!(page.latch.load(Relaxed), 2 * rounds * VERSION, "no sharer, waiter or holder is left");
    }
}
