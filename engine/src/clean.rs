//! The clean mark: a superblock that says that its database was closed with nothing in the log from C on, so that the next open need not
//! look for what is not there.
//!
//! After a close all that was committed is in the checkpoint, and the log ends at its C. To be sure of that, an open would have to search
//! all that is there of the log: what stands at C may be a gap, and a flush further on may say that it was confirmed. The mark answers
//! the question before it is asked.
//!
//! 1. *Written*: by the last handle, if one was closed, when the threads have ended. The log is sealed first ([`Wal::seal`]): that
//!    tells whether it is at rest and ends at the C of the superblock on disk, and from then on nothing can be written to it. Then a superblock
//!    with the next number, of the same checkpoint, is written: both copies, synced.
//! 2. *Read*: an open that chooses a superblock with the mark takes C for the log's end.
//! 3. *Gone*: an open for writing writes its own superblock without it, both copies, synced, before the log is open for writing. An open
//!    that only reads leaves it.
//!
//! Invariant: while any whole copy bears the mark and could be chosen, no flush that counts stands at its C or beyond. Of the two slots the
//! one with the mark is the newest until an open has written to the other one; when both copies of that are durable it is not chosen any
//! more, even if one of them rots. A database that is dropped, not closed, has no mark.
//!
//! What the mark says is checked where it costs a few blocks ([`read_closed_log`](ashlar_wal::read_closed_log)): if a device has lost both
//! copies of the superblock without the mark, the flush at C tells.
//!
//! [`Wal::seal`]: ashlar_wal::Wal::seal

use crate::database::{Handle, Shared};
use crate::error::Result;
use crate::store::superblock::Superblock;
use ashlar_wal::Lsn;
use std::sync::atomic::Ordering;

impl Handle {
    /// What the last handle does, once: ends the threads, makes the log durable, and marks the database as closed cleanly if it is.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.finished.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.stop_attending();
        self.shared.background.stop();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        let ended = self.shared.end_log();
        self.shared.store().queue().drain();
        ended
    }
}

impl Shared {
    /// Makes the log durable, for the last handle, and leaves the clean mark if one was closed. Afterwards nothing is written.
    fn end_log(&self) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        if self.health.failed() {
            return Ok(());
        }
        log.close().map_err(|e| self.log_failed(e))?;
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.checkpoint.lock();
        let c = Lsn(state.current.replay_from);
        // Not so where something was committed after the close, by another handle.
        if !log.seal(c).map_err(|e| self.log_failed(e))? {
            return Ok(());
        }
        let marked = Superblock { number: state.current.number + 1, clean: true, ..state.current.clone() };
        let Some(superblocks) = state.superblocks.as_mut() else { return Ok(()) };
        superblocks.write(&marked).inspect_err(|e| {
            self.fail_now(format!("marking the database as closed failed: {e}"));
        })?;
        state.current = marked;
        Ok(())
    }

    /// See [`Fault::MarkedCleanEarly`](crate::fault::Fault).
    pub(crate) fn mark_early(&self) -> Result<()> {
        let mut state = self.checkpoint.lock();
        let c = self.wal()?.cut_point().0;
        let marked = Superblock { number: state.current.number + 1, replay_from: c, clean: true, ..state.current.clone() };
        if let Some(superblocks) = state.superblocks.as_mut() {
            superblocks.write(&marked)?;
        }
        // The checkpoint that follows is one like any other.
        state.current = Superblock { clean: false, ..marked };
        Ok(())
    }
}
