//! Memory for frames that were never used, taken in the background a little ahead of need.
//!
//! The kernel clears memory when it is first touched, 2 MiB at once where it has huge pages: a writer that fills a new pool waited
//! for that longer than for all else (a quarter of a load's time, in pauses of up to some milliseconds). How much is taken ahead
//! follows how much is used, so that a small database stays small.

use crate::core::Core;
use crate::frame::Frames;
use crate::store::PageStore;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes taken at once, and ahead at least.
const STEP: usize = 2 << 20;

/// Bytes that are taken ahead, at most.
const AHEAD_MAX: usize = 32 << 20;

/// How far memory has been taken.
#[derive(Default)]
pub(crate) struct Fresh {
    /// Bytes of the arena, from its start.
    taken: AtomicUsize,
}

impl Fresh {
    /// The bytes to take next where those of the first `used` are in use, of `whole`; `None`: enough are taken.
    fn next(&self, used: usize, whole: usize) -> Option<(usize, usize)> {
        self.next_below(used, (used + (used / 4).clamp(STEP, AHEAD_MAX)).min(whole), whole)
    }

    /// The bytes to take next where the first `wanted` are needed.
    fn next_below(&self, used: usize, wanted: usize, whole: usize) -> Option<(usize, usize)> {
        let from = self.taken.load(Relaxed).max(used / STEP * STEP);
        (from < wanted).then(|| (from, (from + STEP).min(whole)))
    }
}

impl<S: PageStore> Core<S> {
    /// Takes some memory for frames that will be used next. True while there is more to take.
    pub(crate) fn populate_ahead(&self) -> bool {
        self.populate(|used, whole| if used == 0 { None } else { self.fresh.next(used, whole) })
    }

    /// Takes some of the memory of the first `frames` frames. True while there is more to take.
    pub(crate) fn populate_first(&self, frames: usize) -> bool {
        let wanted = frames.min(self.frames.count() as usize) * self.frames.page_size();
        self.populate(|used, whole| self.fresh.next_below(used, wanted, whole))
    }

    fn populate(&self, next: impl Fn(usize, usize) -> Option<(usize, usize)>) -> bool {
        let page_size = self.frames.page_size();
        let (used, whole) = (self.free.used() as usize * page_size, self.frames.count() as usize * page_size);
        if whole < 4 * STEP {
            return false;
        }
        let Some((from, to)) = next(used, whole) else { return false };
        // Whoever uses the frames gets their memory, or learns why not.
        let taken = if self.frames.populate(from, to) { to } else { usize::MAX };
        self.fresh.taken.store(taken, Relaxed);
        next(used, whole).is_some()
    }
}

impl<E> Frames<E> {
    fn populate(&self, from: usize, to: usize) -> bool {
        self.arena().populate(from, to).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_follows_what_is_used() {
        let (fresh, whole) = (Fresh::default(), 1 << 30);
        let ahead = |used: usize| {
            while let Some((from, to)) = fresh.next(used, whole) {
                assert!(from < to && to <= whole && from.is_multiple_of(STEP));
                fresh.taken.store(to, Relaxed);
            }
            fresh.taken.load(Relaxed) - used
        };
        assert!((STEP..2 * STEP).contains(&ahead(8192)));
        assert!((25 << 20..28 << 20).contains(&ahead(100 << 20)), "frames that were used meanwhile are passed over");
        assert!((AHEAD_MAX..AHEAD_MAX + STEP).contains(&ahead(800 << 20)));
        assert_eq!(ahead((1 << 30) - 8192), 8192, "the last frames");
        fresh.taken.store(0, Relaxed);
        assert_eq!(fresh.next_below(0, 1, whole), Some((0, STEP)), "what is known to be needed");
        assert_eq!(fresh.next_below(5 * STEP, STEP, whole), None, "what is in use already");
        fresh.taken.store(usize::MAX, Relaxed);
        assert_eq!(fresh.next(8192, whole), None, "a kernel that can't is not asked again");
    }
}
