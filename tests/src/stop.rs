//! Why the threads of a simulated life stop.

use ashlar_disk::{Error as DiskError, Fs};
#[cfg(feature = "faults")]
use ashlardb::Error;
use std::path::Path;

/// Why a life can't go on.
#[cfg(feature = "faults")]
pub(crate) enum Stop {
    /// The machine has crashed.
    Crashed,
    /// The database is wrong.
    Failed(String),
}

/// What an error means: the crash, or a failure.
#[cfg(feature = "faults")]
pub(crate) fn stop(fs: &dyn Fs, what: &str, error: &Error) -> Stop {
    match has_crashed(fs) {
        true => Stop::Crashed,
        false => Stop::Failed(format!("{what}: {error} ({error:?})")),
    }
}

/// Whether the machine has crashed.
pub(crate) fn has_crashed(fs: &dyn Fs) -> bool {
    matches!(fs.exists(Path::new("/")), Err(DiskError::Crashed { .. }))
}
