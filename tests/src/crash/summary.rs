//! What histories came to, and how one failed.

use super::life::Ending;
use ashlar_disk::sim::{FaultKind, InjectedFault};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a history came to; equal for equal seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Histories.
    pub histories: u64,
    /// Lives of the database.
    pub lives: u64,
    /// Lives that ended in a crash while the database was being opened.
    pub crashes_in_recovery: u64,
    /// Lives that ended in a crash later on.
    pub crashes_at_work: u64,
    /// Opens that were refused because of a fault.
    pub refused: u64,
    /// Opens after which a fault kept something from being read; what could be read was right.
    pub unreadable: u64,
    /// Lives that were opened, read whole and found right after a life with faults.
    pub recovered: u64,
    /// Opens that found an older state after the log's end was damaged: the last flush alone can be lost so.
    pub rolled_back: u64,
    /// Commits that were begun.
    pub commits: u64,
    /// Reads that were compared.
    pub reads: u64,
    /// Calls to the disk.
    pub calls: u64,
    /// Faults that came, by kind.
    pub injected: BTreeMap<&'static str, u64>,
    /// Errors that the database gave because of them, by kind: what was detected.
    pub told: BTreeMap<&'static str, u64>,
    /// A hash over every choice of the scheduler.
    pub trace: u64,
}

fn add_all(sums: &mut BTreeMap<&'static str, u64>, more: &BTreeMap<&'static str, u64>) {
    for (&name, &count) in more {
        *sums.entry(name).or_default() += count;
    }
}

impl Summary {
    /// Adds another history's.
    pub fn add(&mut self, other: &Summary) {
        self.histories += other.histories;
        self.lives += other.lives;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.crashes_at_work += other.crashes_at_work;
        self.refused += other.refused;
        self.unreadable += other.unreadable;
        self.recovered += other.recovered;
        self.rolled_back += other.rolled_back;
        self.commits += other.commits;
        self.reads += other.reads;
        self.calls += other.calls;
        add_all(&mut self.injected, &other.injected);
        add_all(&mut self.told, &other.told);
        self.trace = self.trace.rotate_left(1) ^ other.trace;
    }

    /// All crashes.
    pub fn crashes(&self) -> u64 {
        self.crashes_in_recovery + self.crashes_at_work
    }

    /// All faults.
    pub fn faults(&self) -> u64 {
        self.injected.values().sum()
    }

    /// All errors that faults explain.
    pub fn detected(&self) -> u64 {
        self.told.values().sum()
    }

    pub(super) fn count(&mut self, ending: Ending, calls: u64, injected: &[InjectedFault]) {
        self.lives += 1;
        self.calls += calls;
        match ending {
            Ending::CrashInOpen => self.crashes_in_recovery += 1,
            Ending::CrashAtWork => self.crashes_at_work += 1,
            Ending::Refused => self.refused += 1,
            Ending::Unreadable => self.unreadable += 1,
            Ending::Stopped => {}
        }
        for fault in injected {
            *self.injected.entry(FaultKind::name(fault.kind)).or_default() += 1;
        }
    }

    pub(super) fn add_told(&mut self, told: &BTreeMap<&'static str, u64>) {
        add_all(&mut self.told, told);
    }
}

/// How a history failed. Equal for equal seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In which life, from 0.
    pub life: u32,
    /// How many lives came before the last one, in which nothing goes wrong.
    pub lives: u32,
    /// The lives that had crashed, each with the call.
    pub crashes: Vec<(u32, u64)>,
    /// The faults that had come.
    pub faults: Vec<String>,
    /// What was drawn, and what went wrong.
    pub text: String,
}

/// The faults that a message lists at most.
const LISTED: usize = 12;

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "life {} of {}, {}", self.life, self.lives, self.text)?;
        for (life, call) in &self.crashes {
            write!(f, "\n  life {life} had crashed at call {call}")?;
        }
        let skipped = self.faults.len().saturating_sub(LISTED);
        if skipped > 0 {
            write!(f, "\n  {skipped} faults before these:")?;
        }
        self.faults[skipped..].iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}
