//! The one place where every call to the simulated disk passes before it does anything: what goes wrong is decided here. What it
//! does to transfers and their files is in `perform`.
//!
//! Faults draw from a stream of random numbers of their own, and only those draw whose rate is not zero: a machine without faults
//! makes the same choices as if there were none. Past the limit of faults the draws go on and nothing comes of them, so that a lower
//! limit leaves out the last faults and changes none before.

use super::kinds::{FaultKind, FaultRates, InjectedFault};
use crate::sync::simulation::rng::Rng;
use crate::{Error, Op, Result};
use std::path::Path;
use std::sync::Arc;

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
#[derive(Clone, Debug)]
pub(super) struct Faults {
    pub(super) calls: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) rates: FaultRates,
    /// How many faults may come, those included that have.
    pub(super) limit: u64,
    pub(super) injected: Vec<InjectedFault>,
    pub(super) rng: Rng,
}

impl Faults {
    /// None yet, and none to come.
    pub(super) fn new(seed: u64) -> Faults {
        Faults {
            calls: 0,
            crash_at: None,
            crashed: false,
            rates: FaultRates::none(),
            limit: u64::MAX,
            injected: Vec::new(),
            rng: Rng::new(seed, 5),
        }
    }

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

    /// Whether a fault of that kind comes now; notes it.
    pub(super) fn strikes(&mut self, kind: FaultKind, op: Op, path: &Path, offset: Option<u64>) -> bool {
        let rate = self.rates.of(kind) as usize;
        let strikes = rate > 0 && self.rng.below(FaultRates::OF as usize) < rate && (self.injected.len() as u64) < self.limit;
        if strikes {
            self.note(kind, op, path, offset);
        }
        strikes
    }

    /// Notes a fault.
    pub(super) fn note(&mut self, kind: FaultKind, op: Op, path: &Path, offset: Option<u64>) {
        self.injected.push(InjectedFault { kind, op, path: Arc::from(path), offset, call: self.calls });
    }

    /// The error that a call other than a transfer ends with, if one strikes it.
    pub(super) fn refusal(&mut self, op: Op, path: &Path) -> Option<Error> {
        let error = match op {
            Op::Open | Op::List => FaultKind::ReadError,
            Op::SyncDir => FaultKind::SyncError,
            Op::Create | Op::CreateDir | Op::Rename | Op::Remove | Op::Allocate | Op::PunchHole | Op::SetLength => {
                FaultKind::WriteError
            }
            _ => return None,
        };
        if self.strikes(error, op, path, None) {
            return Some(eio(op, path, None));
        }
        let wants_room = matches!(op, Op::Create | Op::CreateDir | Op::Rename | Op::Allocate);
        let refused = wants_room && self.strikes(FaultKind::NoSpace, op, path, None);
        refused.then(|| Error::NoSpace { op, path: path.to_owned() })
    }
}

/// The error of a device that failed.
pub(super) fn eio(op: Op, path: &Path, offset: Option<u64>) -> Error {
    Error::from_io(op, path, offset, &std::io::Error::from_raw_os_error(libc::EIO))
}
