//! What an error in a life means: the crash, a fault that was injected, or a failure of the database.

use crate::stop::has_crashed;
use ashlar_disk::Fs;
use ashlar_disk::sim::{FaultKind, InjectedFault, Sim};
use ashlardb::Error;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a life, or one of its threads, can't go on.
pub(super) enum Stop {
    /// The machine has crashed.
    Crashed,
    /// An error of the database that an injected fault explains.
    Told,
    /// The database is wrong.
    Failed(String),
}

/// Which errors the faults of a history explain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// None.
    Whole,
    /// Those of a disk that tells of its faults, while they last.
    Tolerable,
    /// Also that something is damaged, in this life or a later one.
    Corrupting,
}

/// Knows the machine and its faults.
pub(super) struct Judge {
    fs: Arc<dyn Fs>,
    machine: Option<Arc<Sim>>,
    class: Class,
    /// Faults of the lives before.
    before: u64,
    told: Mutex<BTreeMap<&'static str, u64>>,
}

impl Judge {
    /// For a machine without faults.
    pub(super) fn strict(fs: Arc<dyn Fs>) -> Judge {
        Judge { fs, machine: None, class: Class::Whole, before: 0, told: Mutex::default() }
    }

    /// For a machine that had so many faults in earlier lives.
    pub(super) fn of(fs: Arc<dyn Fs>, machine: Arc<Sim>, class: Class, before: u64) -> Judge {
        Judge { fs, machine: Some(machine), class, before, told: Mutex::default() }
    }

    /// Whether the machine has crashed.
    pub(super) fn has_crashed(&self) -> bool {
        has_crashed(&*self.fs)
    }

    /// Whether a fault may be felt now.
    pub(super) fn is_struck(&self) -> bool {
        let here = self.machine.as_ref().map_or(0, |machine| machine.injected_count());
        match self.class {
            Class::Whole => false,
            Class::Tolerable => here > 0,
            Class::Corrupting => here + self.before > 0,
        }
    }

    /// Whether a sync has failed in this life.
    fn has_failed_sync(&self) -> bool {
        let is_sync = |fault: &InjectedFault| fault.kind == FaultKind::SyncError;
        self.machine.as_ref().is_some_and(|machine| machine.injected().iter().any(is_sync))
    }

    /// What an error means.
    pub(super) fn stop(&self, what: &str, error: &Error) -> Stop {
        if self.has_crashed() {
            return Stop::Crashed;
        }
        let kind = kind(error);
        let is_explained = match error {
            _ if !self.is_struck() => false,
            // Pages that had been written out and were dropped by a failed sync; the next open does not miss them.
            Error::Corrupt(_) if self.class == Class::Tolerable => self.has_failed_sync(),
            Error::Corrupt(_) | Error::WalCorrupted { .. } | Error::NotADatabase { .. } | Error::UnknownFormat { .. } => {
                self.class == Class::Corrupting
            }
            Error::Io(ashlar_disk::Error::Io { errno, .. }) => *errno == Some(libc::EIO),
            Error::NoSpace { .. } | Error::ReadOnly { .. } | Error::OutcomeUnknown { .. } => true,
            _ => false,
        };
        if is_explained {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
            return Stop::Told;
        }
        Stop::Failed(format!("{what}: {error} ({error:?})"))
    }

    /// What it means that verification finds something.
    pub(super) fn findings(&self, text: String) -> Stop {
        if self.has_crashed() {
            return Stop::Crashed;
        }
        if self.is_struck() {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner).entry("findings").or_default() += 1;
            return Stop::Told;
        }
        Stop::Failed(text)
    }

    /// The errors that the faults explained, by kind.
    pub(super) fn told(&self) -> BTreeMap<&'static str, u64> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Corrupt(_) => "corrupt",
        Error::WalCorrupted { .. } => "log-damaged",
        Error::NotADatabase { .. } | Error::UnknownFormat { .. } => "no-database",
        Error::Io(_) => "io",
        Error::NoSpace { .. } => "no-space",
        Error::ReadOnly { .. } => "read-only",
        Error::OutcomeUnknown { .. } => "outcome-unknown",
        _ => "other",
    }
}
