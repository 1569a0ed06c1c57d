//! A ledger of debug builds: how many latches this thread holds, so that nobody waits for frames or transfers with one.

#[cfg(debug_assertions)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        static LATCHES: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn latched() {
        LATCHES.set(LATCHES.get() + 1);
    }

    pub(crate) fn unlatched() {
        LATCHES.set(LATCHES.get() - 1);
    }

    pub(crate) fn assert_no_latch(doing: &str) {
        assert_eq!(LATCHES.get(), 0, "{doing} may wait: no page latch may be held meanwhile");
    }
}

#[cfg(not(debug_assertions))]
mod counted {
    #[inline]
    pub(crate) fn latched() {}
    #[inline]
    pub(crate) fn unlatched() {}
    #[inline]
    pub(crate) fn assert_no_latch(_doing: &str) {}
}

pub(crate) use counted::{assert_no_latch, latched, unlatched};
