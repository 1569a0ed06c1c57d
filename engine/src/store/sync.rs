//! Syncs of the data file, and that the first one that fails is the last.
//!
//! 1. After a sync that failed nothing is known of anything that was written before it, by whomever, and another one that succeeds proves
//!    nothing: the system tells of a lost write once. So every later one fails with the first one's error, and no checkpoint is made.
//! 2. Whoever has the store is told at once, whichever call it was: a file that grows is synced as well. Want of room is no exception,
//!    since what fails then is the writing of what was written before.

use super::Store;
use crate::error::{Error, Result};
use ashlar_disk::SyncKind;
use std::sync::OnceLock;

/// Takes the error of a sync that has failed.
type Told = Box<dyn Fn(&Error) + Send + Sync>;

/// The first sync that failed, and who is told of it.
#[derive(Default)]
pub(super) struct Syncs {
    failed: OnceLock<Error>,
    told: OnceLock<Told>,
}

impl std::fmt::Debug for Syncs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Syncs({:?})", self.failed.get())
    }
}

impl Store {
    /// Makes what was written to the data file durable.
    pub(crate) fn sync(&self, kind: SyncKind) -> Result<()> {
        if let Some(first) = self.syncs.failed.get() {
            return Err(first.clone());
        }
        self.file.sync(kind).map_err(|e| {
            // Not as a full disk, after which one may go on.
            let error = Error::Io(e);
            let _ = self.syncs.failed.set(error.clone());
            if let Some(told) = self.syncs.told.get() {
                told(&error);
            }
            error
        })
    }

    /// From now on `told` is called where a sync has failed. Once only.
    pub(crate) fn tell_of_failed_syncs(&self, told: impl Fn(&Error) + Send + Sync + 'static) {
        let _ = self.syncs.told.set(Box::new(told));
    }
}
