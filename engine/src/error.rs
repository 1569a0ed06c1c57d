//! What can go wrong, as a program can match on it and a person can act on it.

use crate::store::page_header::ImageFault;
use std::path::PathBuf;
use std::sync::Arc;

/// The result of everything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error of a database. Cheap to clone: one cause is told to everybody it concerns.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database is open elsewhere.
    #[error("{path} is locked by {holder}: close the database there first", holder = holder(*pid))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where known.
        pid: Option<u32>,
    },
    /// The file system or the quota is full, and what was asked for needs more room. Nothing was applied; reads and deletes
    /// still work.
    #[error("no space left ({detail}): nothing was applied; free some space, or delete and compact")]
    NoSpace {
        /// What there was no room for.
        detail: String,
    },
    /// Something on disk is not what was written there.
    #[error("{0}")]
    Corrupt(Box<Corruption>),
    /// The part of the log that had been confirmed is damaged or missing.
    #[error("the log is damaged: {detail}; nothing was dropped: restore the segment, or use salvage")]
    WalCorrupted {
        /// Where, and what was found.
        detail: String,
    },
    /// The device needs larger units than the database was made with.
    #[error(
        "{path} needs direct I/O in units of {needed} bytes, the database has {block}: copy it to another device, or open it with IoMode::Buffered"
    )]
    Alignment {
        /// The file.
        path: PathBuf,
        /// What its device needs, in bytes.
        needed: usize,
        /// The database's block, in bytes.
        block: usize,
    },
    /// The file system has no direct I/O.
    #[error("{detail}")]
    DirectIoUnsupported {
        /// Where, why, and what can be done.
        detail: String,
    },
    /// The database takes no writes: it was opened so, or an earlier error made it so.
    #[error("the database is read-only: {cause}")]
    ReadOnly {
        /// Why.
        cause: Arc<str>,
    },
    /// A handle was used in a child made by `fork`.
    #[error("a database opened before fork() was used in the child: open it again there, after the parent has closed it")]
    ForkedChild,
    /// A key is longer than the page size allows.
    #[error("the key has {len} bytes, at most {max} are possible with this database's page size")]
    KeyTooLarge {
        /// Its length.
        len: usize,
        /// The longest possible.
        max: usize,
    },
    /// A batch is larger than the log, the memory for it, or the disk allow. Nothing was applied.
    #[error("the transaction needs {needed} bytes of {what}, at most {max} are possible: split it, or raise the limit")]
    TransactionTooLarge {
        /// Of what.
        what: &'static str,
        /// How much it needs.
        needed: u64,
        /// How much there can be.
        max: u64,
    },
    /// The name of a keyspace is empty, too long or not possible.
    #[error("{name:?} is no possible keyspace name: {reason}")]
    KeyspaceName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no keyspace of that name, or it was dropped.
    #[error("there is no keyspace {name:?}")]
    NoSuchKeyspace {
        /// The name.
        name: String,
    },
    /// A bulk load into a keyspace that holds something.
    #[error("keyspace {name:?} is not empty: a bulk load needs an empty one")]
    KeyspaceNotEmpty {
        /// The name.
        name: String,
    },
    /// A bulk load's entries do not ascend.
    #[error("entry {index} of the bulk load is not above the one before it: sort the entries, without doubles")]
    NotSorted {
        /// Its index, from 0.
        index: u64,
    },
    /// Made by a version unknown here.
    #[error(
        "the database has format version {found} (features {features:#x}), this program knows version {known}: use the program that made it"
    )]
    UnknownFormat {
        /// What it has.
        found: u32,
        /// Its feature flags.
        features: u32,
        /// What is known here.
        known: u32,
    },
    /// The directory holds no database, and opening may not make one; or it holds something else.
    #[error("{path} is no database: {reason}")]
    NotADatabase {
        /// The directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// There is a database, and opening was to make a new one.
    #[error("{path} holds a database already")]
    AlreadyExists {
        /// The directory.
        path: PathBuf,
    },
    /// After a failed log write: the commit may or may not be there after reopening.
    #[error("whether this commit survives is not known ({cause}): reopen the database and look")]
    OutcomeUnknown {
        /// The first error.
        cause: Arc<str>,
    },
    /// What a transaction has read, or written under [`Isolation::Snapshot`](crate::Isolation), was changed by a commit since.
    /// Nothing was applied: start over, as [`Database::transact`](crate::Database::transact) does.
    #[error("a commit since has changed what this transaction relies on: nothing was applied, start it over")]
    Conflict,
    /// The snapshot was taken away, since what it needs took more memory than [`Options::versions_limit`](crate::Options).
    #[error("the snapshot at LSN {lsn} was taken away for memory: read in shorter steps, or raise versions_limit")]
    SnapshotTooOld {
        /// The LSN at which it was.
        lsn: u64,
    },
    /// A savepoint of another transaction, or one that an earlier rollback has passed.
    #[error("there is no such savepoint in this transaction: it is another's, or was rolled back past")]
    NoSuchSavepoint,
    /// The cache has fewer frames than one operation needs.
    #[error("the cache is too small: this needs {needed} bytes; open with a larger cache_size")]
    CacheTooSmall {
        /// The cache size needed, in bytes.
        needed: u64,
    },
    /// An option is out of its range.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The operating system failed a call.
    #[error("{0}")]
    Io(ashlar_disk::Error),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another opener".into(), |p| format!("process {p}"))
}

/// Where something on disk is not what was written there, what was expected and what was found.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{place}{tree}: {what}", tree = tree.map(|t| format!(" of tree {t}")).unwrap_or_default())]
pub struct Corruption {
    /// File, block and page.
    pub place: String,
    /// The page, if it is one.
    pub page: Option<u64>,
    /// The block address, if it is known.
    pub block: Option<u64>,
    /// The tree, if it is known.
    pub tree: Option<u64>,
    /// Expected and found.
    pub what: String,
}

impl Corruption {
    pub(crate) fn superblocks(text: String) -> Corruption {
        Corruption {
            place: "superblocks of data".into(),
            page: None,
            block: Some(0),
            tree: None,
            what: format!("no slot can be trusted ({text}); use salvage"),
        }
    }

    pub(crate) fn image(file: &std::path::Path, kind: &str, page: u64, block: u64, fault: &ImageFault) -> Corruption {
        Corruption {
            place: format!("{}, block {block}, {kind} {page}", file.display()),
            page: Some(page),
            block: Some(block),
            tree: None,
            what: fault.to_string(),
        }
    }

    pub(crate) fn page(page: u64, tree: Option<u64>, what: impl Into<String>) -> Corruption {
        Corruption { place: format!("page {page}"), page: Some(page), block: None, tree, what: what.into() }
    }

    pub(crate) fn record(lsn: u64, what: impl Into<String>) -> Corruption {
        Corruption { place: format!("log record at {lsn}"), page: None, block: None, tree: None, what: what.into() }
    }
}

impl From<Corruption> for Error {
    fn from(c: Corruption) -> Error {
        Error::Corrupt(Box::new(c))
    }
}

impl From<ashlar_disk::Error> for Error {
    fn from(e: ashlar_disk::Error) -> Error {
        use ashlar_disk::Error as Disk;
        match e {
            Disk::NoSpace { .. } => Error::NoSpace { detail: e.to_string() },
            Disk::Locked { path, pid } => Error::Locked { path, pid },
            Disk::Alignment { path, needed, block } => Error::Alignment { path, needed, block },
            Disk::DirectIoUnsupported { .. } | Disk::NetworkFilesystem { .. } => {
                Error::DirectIoUnsupported { detail: e.to_string() }
            }
            Disk::ForkedChild => Error::ForkedChild,
            other => Error::Io(other),
        }
    }
}
