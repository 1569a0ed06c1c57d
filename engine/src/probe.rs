//! What tests ask of commits and users can't: their LSNs.
//!
//! A commit takes its LSN in the thread that makes it, whichever call that is, and keeps it where it then fails: so the thread is asked,
//! not the call. Only with the feature `probe` is anything noted.

use std::cell::Cell;

thread_local! {
    static APPENDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A commit of this thread has taken this LSN.
#[inline]
pub(crate) fn appended(lsn: u64) {
    if cfg!(feature = "probe") {
        APPENDED.set(Some(lsn));
    }
}

/// The LSN that the calling thread's newest commit has taken since this was last asked, if there was one.
pub fn take_lsn() -> Option<u64> {
    APPENDED.take()
}
