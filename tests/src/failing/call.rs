//! Kinds of calls, ways to fail, and which comes where.

use super::short;
use ashlar_disk::{Error, Op};
use std::path::Path;

/// A kind of call of the seam.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Call {
    Open,
    Create,
    CreateDir,
    List,
    Exists,
    Rename,
    Remove,
    SyncDir,
    Lock,
    Queue,
    Capacity,
    Len,
    Read,
    Write,
    WriteDurably,
    SyncData,
    SyncAll,
    Allocate,
    SetLen,
    QueuedRead,
    QueuedWrite,
}

impl Call {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Call::Open => "open",
            Call::Create => "create a file",
            Call::CreateDir => "create a directory",
            Call::List => "list",
            Call::Exists => "look for a name",
            Call::Rename => "rename",
            Call::Remove => "remove",
            Call::SyncDir => "sync a directory",
            Call::Lock => "lock",
            Call::Queue => "set up a queue",
            Call::Capacity => "ask for the capacity",
            Call::Len => "ask for the length",
            Call::Read => "read",
            Call::Write => "write",
            Call::WriteDurably => "write durably",
            Call::SyncData => "sync data",
            Call::SyncAll => "sync all",
            Call::Allocate => "allocate",
            Call::SetLen => "cut",
            Call::QueuedRead => "read, by a queue",
            Call::QueuedWrite => "write, by a queue",
        }
    }

    pub(super) fn is_transfer(self) -> bool {
        matches!(self, Call::Read | Call::Write | Call::WriteDurably | Call::QueuedRead | Call::QueuedWrite)
    }

    /// Whether what it does makes something durable of a file.
    pub fn is_sync(self) -> bool {
        matches!(self, Call::SyncData | Call::SyncAll | Call::WriteDurably)
    }

    /// Whether it may have had its effect when it gives that error. A lock that was not given is not held; where there is no room,
    /// `allocate` promises that nothing has changed.
    pub(super) fn may_have_effect(self, failure: Failure) -> bool {
        let changes = matches!(
            self,
            Call::Create
                | Call::CreateDir
                | Call::Rename
                | Call::Remove
                | Call::Allocate
                | Call::SetLen
                | Call::Write
                | Call::WriteDurably
                | Call::QueuedWrite
        );
        changes && !(failure.is_no_space() && matches!(self, Call::Allocate | Call::Create | Call::CreateDir | Call::Rename))
    }
}

/// An error of the kernel, or a transfer that moves less than it was to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Failure {
    /// `EIO`.
    Eio,
    /// `ENOSPC`.
    Enospc,
    /// `EDQUOT`.
    Edquot,
    /// A short transfer that can't be completed.
    Short,
    /// `EINTR`.
    Eintr,
    /// `EAGAIN`.
    Eagain,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 6] =
        [Failure::Eio, Failure::Enospc, Failure::Edquot, Failure::Short, Failure::Eintr, Failure::Eagain];

    /// Whether it is for want of room.
    pub fn is_no_space(self) -> bool {
        matches!(self, Failure::Enospc | Failure::Edquot)
    }

    /// Whether a call of that kind can give it.
    pub fn can_come(self, call: Call) -> bool {
        match self {
            Failure::Short => call.is_transfer(),
            // Also from syncs: some file systems find out as late as that.
            Failure::Enospc | Failure::Edquot => !matches!(
                call,
                Call::Open
                    | Call::List
                    | Call::Exists
                    | Call::Remove
                    | Call::Queue
                    | Call::Capacity
                    | Call::Len
                    | Call::Read
                    | Call::QueuedRead
            ),
            Failure::Eio | Failure::Eintr | Failure::Eagain => true,
        }
    }

    /// The error.
    pub(super) fn error(self, op: Op, path: &Path, transfer: Option<(u64, u64)>) -> Error {
        let errno = match self {
            Failure::Eio | Failure::Short => libc::EIO,
            Failure::Enospc => libc::ENOSPC,
            Failure::Edquot => libc::EDQUOT,
            Failure::Eintr => libc::EINTR,
            Failure::Eagain => libc::EAGAIN,
        };
        match (self, transfer) {
            (Failure::Short, Some((offset, len))) => short(path, offset, len),
            _ => Error::from_io(op, path, transfer.map(|t| t.0), &std::io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Failure::Eio => "EIO",
            Failure::Enospc => "ENOSPC",
            Failure::Edquot => "EDQUOT",
            Failure::Short => "short",
            Failure::Eintr => "EINTR",
            Failure::Eagain => "EAGAIN",
        })
    }
}
