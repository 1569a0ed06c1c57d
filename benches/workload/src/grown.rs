//! Entries that workloads add behind the data set, and how far they are all there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Numbers of entries, given out in order to threads that insert them.
#[derive(Debug)]
pub struct Grown {
    next: AtomicU64,
    /// Every entry below this is there.
    whole: AtomicU64,
    /// Those above that are.
    early: Mutex<BTreeSet<u64>>,
}

impl Grown {
    /// From `n` entries on.
    pub fn from(n: u64) -> Grown {
        Grown { next: n.into(), whole: n.into(), early: Mutex::default() }
    }

    /// The number of the next entry to insert.
    pub fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Entry `i` has been committed.
    pub fn is_there(&self, i: u64) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.insert(i);
        let mut whole = self.whole.load(Ordering::Relaxed);
        while early.remove(&whole) {
            whole += 1;
        }
        // Release: pairs with the Acquire in `whole`; who is told of an entry begins to read after its commit has returned.
        self.whole.store(whole, Ordering::Release);
    }

    /// Every entry below this has been committed.
    pub fn whole(&self) -> u64 {
        self.whole.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_holds_back_what_is_behind_it() {
        let grown = Grown::from(10);
        assert_eq!((grown.next(), grown.next(), grown.next()), (10, 11, 12));
        grown.is_there(11);
        assert_eq!(grown.whole(), 10);
        grown.is_there(10);
        assert_eq!(grown.whole(), 12);
        grown.is_there(12);
        assert_eq!(grown.whole(), 13);
    }
}
