//! The one place where every call to the simulated disk passes before it does anything: what goes wrong is decided here.

use crate::{Error, Op, Result};
use std::path::Path;

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Verdict {
    /// It does what it should.
    Proceed,
    /// The machine crashes while it is being done: its effect may be found later, in part as well; the caller gets
    /// [`Error::Crashed`].
    CrashDuring,
}

/// What has been called, and what is to go wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) calls: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
}

impl Faults {
    /// Counts a call and decides what becomes of it.
    pub(super) fn gate(&mut self, op: Op, path: &Path) -> Result<Verdict> {
        self.check(op, path)?;
        self.calls += 1;
        Ok(if self.crashes_now() { Verdict::CrashDuring } else { Verdict::Proceed })
    }

    /// Whether the machine crashes during the call that was counted last: one that makes things durable does not, then.
    pub(super) fn crashes_now(&self) -> bool {
        self.crash_at.is_some_and(|n| self.calls >= n)
    }

    /// Refuses what is asked of a machine that has crashed, without counting it.
    pub(super) fn check(&self, op: Op, path: &Path) -> Result<()> {
        if self.crashed { Err(Error::Crashed { op, path: path.to_owned() }) } else { Ok(()) }
    }
}
