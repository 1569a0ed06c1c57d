//! What can go wrong with a disk that does not lose power: the kinds of faults, how often each comes, and what was injected.
//!
//! *Tolerable* faults are told: the call fails, or is done in pieces, and what had been made durable stays. *Corrupting* ones are
//! not: the disk answers "done" or gives bytes, and it isn't so.

use crate::Op;
use std::path::Path;
use std::sync::Arc;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum FaultKind {
    /// A read, a listing or an open fails with `EIO`; the next one may succeed.
    ReadError,
    /// A write, or a change of names, length or room, fails with `EIO`. Of a write all, a part or nothing has reached the disk.
    WriteError,
    /// A sync fails with `EIO`, once. Of the writes that it was to make durable each is dropped, in whole or in part, or kept; later
    /// syncs succeed all the same. Lengths and names stay as they are.
    SyncError,
    /// No room, though there is some.
    NoSpace,
    /// A transfer moves some blocks; the rest follows as a transfer of its own, after whatever comes between.
    ShortTransfer,
    /// One bit of what is read is another one: for this read, or from now on.
    BitFlip,
    /// A block can't be read until it is written again.
    BadSector,
    /// A write is confirmed and was never done; the file has grown by it.
    LostWrite,
    /// A write is confirmed and has gone to another place of its file.
    MisdirectedWrite,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 9] = [
        FaultKind::ReadError,
        FaultKind::WriteError,
        FaultKind::SyncError,
        FaultKind::NoSpace,
        FaultKind::ShortTransfer,
        FaultKind::BitFlip,
        FaultKind::BadSector,
        FaultKind::LostWrite,
        FaultKind::MisdirectedWrite,
    ];

    /// Its name, for command lines and reports.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::ReadError => "read-error",
            FaultKind::WriteError => "write-error",
            FaultKind::SyncError => "sync-error",
            FaultKind::NoSpace => "no-space",
            FaultKind::ShortTransfer => "short-transfer",
            FaultKind::BitFlip => "bit-flip",
            FaultKind::BadSector => "bad-sector",
            FaultKind::LostWrite => "lost-write",
            FaultKind::MisdirectedWrite => "misdirected-write",
        }
    }

    /// Whether the disk tells of it; the other kinds falsify what is stored or read.
    pub fn is_tolerable(self) -> bool {
        self < FaultKind::BitFlip
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each kind of fault strikes: so many of [`FaultRates::OF`] calls that it could strike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultRates([u32; FaultKind::ALL.len()]);

impl FaultRates {
    /// The number that rates are of.
    pub const OF: u32 = 1 << 16;

    /// No faults.
    pub fn none() -> FaultRates {
        FaultRates::default()
    }

    /// The same but for one kind.
    pub fn with(mut self, kind: FaultKind, of_65536: u32) -> FaultRates {
        self.0[kind as usize] = of_65536;
        self
    }

    /// The rate of a kind.
    pub fn of(&self, kind: FaultKind) -> u32 {
        self.0[kind as usize]
    }
}

/// A fault that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InjectedFault {
    /// Which.
    pub kind: FaultKind,
    /// The call that it struck.
    pub op: Op,
    /// The file or directory.
    pub path: Arc<Path>,
    /// The first byte of the transfer that it struck.
    pub offset: Option<u64>,
    /// How many calls to the disk there had been.
    pub call: u64,
}

impl std::fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let InjectedFault { kind, op, path, offset, call } = self;
        write!(f, "{kind} in {op} {}", path.display())?;
        if let Some(offset) = offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, " after call {call}")
    }
}
