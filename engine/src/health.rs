//! Whether the database still takes writes, and if not, why.
//!
//! Invariant: the first cause is kept and told to everybody; nothing makes a failed database well again but reopening it, since
//! after a failed write or sync nobody knows what the device holds.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: AtomicBool,
    cause: OnceLock<Arc<str>>,
}

impl Health {
    /// Takes no writes from the start.
    pub(crate) fn read_only() -> Health {
        let health = Health::default();
        health.fail("it was opened read-only");
        health
    }

    /// Writes end here, for this reason. Only the first reason counts. True where it was the first.
    pub(crate) fn fail(&self, cause: impl Into<Arc<str>>) -> bool {
        let first = self.cause.set(cause.into()).is_ok();
        // Release: pairs with the Acquire in `check`; who sees the flag sees the cause.
        self.failed.store(true, Ordering::Release);
        first
    }

    /// An error if the database takes no writes.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::ReadOnly { cause: self.cause() })
    }

    /// Why it takes none; empty if it does.
    pub(crate) fn cause(&self) -> Arc<str> {
        self.cause.get().cloned().unwrap_or_else(|| "".into())
    }

    /// Whether it takes none.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}
