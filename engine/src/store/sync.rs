//! Syncs of the data file.
//!
//! After a sync that failed nothing is known of anything that was written before it, by whomever, and another one that succeeds proves
//! nothing: the system tells of a lost write once. So every later one fails as well ([`SyncOnce`](ashlar_disk::SyncOnce)), and the
//! database is told at once, whichever call it was: a file that grows is synced, too. Want of room is no exception, since what fails then
//! is the writing of what was written before.

use super::Store;
use crate::error::{Error, Result};
use ashlar_disk::SyncKind;
use std::sync::OnceLock;

/// Takes the error of a sync that has failed.
type Told = Box<dyn Fn(&Error) + Send + Sync>;

/// Who is told of a sync that has failed.
#[derive(Default)]
pub(super) struct Listener(OnceLock<Told>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "Listener" } else { "nobody" })
    }
}

impl Store {
    /// Makes what was written to the data file durable.
    pub(crate) fn sync(&self, kind: SyncKind) -> Result<()> {
        self.file.sync(kind).map_err(|e| {
            // Not as a full disk, after which one may go on.
            let error = Error::Io(e);
            if let Some(told) = self.on_failed_sync.0.get() {
                told(&error);
            }
            error
        })
    }

    /// From now on `told` is called where a sync has failed. Once only.
    pub(crate) fn tell_of_failed_syncs(&self, told: impl Fn(&Error) + Send + Sync + 'static) {
        let _ = self.on_failed_sync.0.set(Box::new(told));
    }
}
