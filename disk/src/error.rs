//! What can go wrong below the pages, decided once for each errno.
//!
//! `ENOSPC`, `EDQUOT` and `EFBIG` are [`Error::NoSpace`]; `EINVAL` of a transfer or of an open with `O_DIRECT` is
//! [`Error::DirectIoUnsupported`] or [`Error::Alignment`]; `EINTR` is completed and never seen; everything else is
//! [`Error::Io`]. A short transfer is completed where it can be and is [`Error::Short`] where the file ends. Nothing here is
//! tried again: a failed sync in particular may have dropped what it was to make durable.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What was being done when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum Op {
    Open,
    Create,
    CreateDir,
    List,
    Stat,
    Read,
    Write,
    SyncFile,
    SyncDir,
    Allocate,
    PunchHole,
    SetLength,
    Rename,
    Remove,
    Lock,
    Ring,
    Memory,
    Thread,
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Op::Open => "open",
            Op::Create => "create",
            Op::CreateDir => "create directory",
            Op::List => "list",
            Op::Stat => "stat",
            Op::Read => "read",
            Op::Write => "write",
            Op::SyncFile => "sync",
            Op::SyncDir => "sync directory",
            Op::Allocate => "allocate",
            Op::PunchHole => "punch hole",
            Op::SetLength => "set length",
            Op::Rename => "rename",
            Op::Remove => "remove",
            Op::Lock => "lock",
            Op::Ring => "set up io_uring",
            Op::Memory => "map memory",
            Op::Thread => "start thread",
        })
    }
}

/// An error of files, directories, memory or threads. Cheap enough to clone, so that one cause can be told to many waiters.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused or failed a call.
    #[error("{op} {path}{at}: {kind}", at = offset.map(|o| format!(" at byte {o}")).unwrap_or_default(), kind = source_text(*errno, *kind))]
    Io {
        /// What was being done.
        op: Op,
        /// To which file or directory.
        path: PathBuf,
        /// At which byte, for transfers.
        offset: Option<u64>,
        /// The errno, where there is one.
        errno: Option<i32>,
        /// Its kind.
        kind: io::ErrorKind,
    },
    /// The file system (`ENOSPC`) or the user's quota (`EDQUOT`) is full, or the file may get no longer (`EFBIG`).
    #[error("no space left for {op} {path}: free some space or raise the limit")]
    NoSpace {
        /// What was being done.
        op: Op,
        /// To which file.
        path: PathBuf,
    },
    /// A file ended before a transfer did: something else has cut it short.
    #[error(
        "{path} ends at byte {end}, but {wanted} bytes at byte {offset} were to be there: it was cut short by something else"
    )]
    Short {
        /// Which file.
        path: PathBuf,
        /// Where the transfer began.
        offset: u64,
        /// How many bytes it was to move.
        wanted: u64,
        /// Where the file ends: the byte after the last one that was there.
        end: u64,
    },
    /// A transfer's memory, offset or length is not a multiple of what the file needs.
    #[error(
        "{path} needs direct I/O in multiples of {needed} bytes, but the database's block is {block} bytes: copy it to another device, or open with IoMode::Buffered"
    )]
    Alignment {
        /// Which file.
        path: PathBuf,
        /// What the file needs, in bytes.
        needed: usize,
        /// What the database has, in bytes.
        block: usize,
    },
    /// The file system has no direct I/O, or accepts it and caches all the same.
    #[error("direct I/O does not work at {path} ({filesystem}): {reason}; {remedy}")]
    DirectIoUnsupported {
        /// Which file or directory.
        path: PathBuf,
        /// The type of the file system.
        filesystem: String,
        /// What was seen.
        reason: String,
        /// What can be done.
        remedy: String,
    },
    /// A network file system, and the caller did not opt in.
    #[error(
        "{path} is on a network file system ({filesystem}): direct I/O there bypasses only the client's cache, and a server may confirm what it has not stored; set allow_network_fs to use it all the same"
    )]
    NetworkFilesystem {
        /// Which directory.
        path: PathBuf,
        /// The type of the file system.
        filesystem: String,
    },
    /// Somebody else has the database open.
    #[error("{path} is locked by {holder}: close it there first", holder = pid.map(|p| format!("process {p}")).unwrap_or_else(|| "another opener".into()))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where known.
        pid: Option<u32>,
    },
    /// A handle was used in a child made by `fork`.
    #[error("a database opened before fork() was used in the child: open it again there, after the parent has closed it")]
    ForkedChild,
    /// The simulated machine has lost power: nothing works until it is started again.
    #[error("{op} {path}: the simulated machine has crashed")]
    Crashed {
        /// What was being done.
        op: Op,
        /// To which file.
        path: PathBuf,
    },
}

fn source_text(errno: Option<i32>, kind: io::ErrorKind) -> String {
    match errno {
        Some(n) => io::Error::from_raw_os_error(n).to_string(),
        None => kind.to_string(),
    }
}

impl Error {
    /// Classifies an error of the operating system.
    pub fn from_io(op: Op, path: &Path, offset: Option<u64>, source: &io::Error) -> Error {
        let errno = source.raw_os_error();
        if matches!(errno, Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)) {
            return Error::NoSpace { op, path: path.to_owned() };
        }
        Error::Io { op, path: path.to_owned(), offset, errno, kind: source.kind() }
    }

    /// Whether the thing asked for is not there (`ENOENT`).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { kind: io::ErrorKind::NotFound, .. })
    }

    /// Whether the file system is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::NoSpace { .. })
    }
}
