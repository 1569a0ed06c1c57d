//! What can go wrong with the log.

use crate::Lsn;
use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the log. Cheap enough to clone, so that the first cause can be told to everybody who waits.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk failed or refused a call. From a flush this is final: reopen the database to recover what is really there.
    #[error(transparent)]
    Disk(#[from] ashlar_disk::Error),
    /// A part of the log that was once confirmed is damaged or gone. Nothing was dropped and nothing was changed; `salvage`
    /// takes what can still be read.
    #[error("the log is damaged at LSN {from} to {to} ({path}): {damage}")]
    Corrupted {
        /// The segment's file.
        path: PathBuf,
        /// Where the damage begins.
        from: Lsn,
        /// The first position behind it that is known to be beyond the damage, or known to have been written.
        to: Lsn,
        /// What was found.
        damage: Damage,
    },
    /// A flush in a format that this version doesn't know.
    #[error(
        "{path} holds a flush of log format {found} at LSN {lsn}, this program knows format {known}: use the version that wrote it"
    )]
    UnknownVersion {
        /// The segment's file.
        path: PathBuf,
        /// Where the flush begins.
        lsn: Lsn,
        /// The flush's format version.
        found: u16,
        /// The version that this program reads and writes.
        known: u16,
    },
    /// A record larger than a quarter of the log's limit: it could wait for room forever.
    #[error(
        "a record of {size} bytes is larger than the log takes ({max} bytes): write less in one transaction, or raise the log's limit"
    )]
    RecordTooLarge {
        /// The body's length in bytes.
        size: u64,
        /// The longest body that the log takes now, in bytes.
        max: u64,
    },
    /// Options that can't work.
    #[error("log options: {0}")]
    Options(&'static str),
    /// The incarnation given for appending isn't above those that stand in the log.
    #[error("incarnation {given} can't append to a log that holds incarnation {last}: raise it in the superblock first")]
    Incarnation {
        /// What was given.
        given: u32,
        /// The newest in the log.
        last: u32,
    },
    /// The log was sealed when its database was closed: nothing is written to it any more. Open the database again.
    #[error("the log was sealed when its database was closed: open the database again")]
    Sealed,
    /// A thread panicked while it was writing the log: what it wrote is unknown. Reopen the database.
    #[error("a thread panicked while it was writing the log: reopen the database")]
    Panicked,
}

/// What is wrong with a damaged part of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// No valid flush stands there, yet a later one says that it had been confirmed.
    #[error("no valid flush stands there, but the flush at LSN {witness} says that the log was durable up to {durable}")]
    Confirmed {
        /// The flush that says so.
        witness: Lsn,
        /// What it says was durable.
        durable: Lsn,
    },
    /// No valid flush stands there, yet the superblock says that the log was durable beyond.
    #[error("no valid flush stands there, but the superblock says that the log was durable up to {durable}")]
    ConfirmedBySuperblock {
        /// What it says was durable.
        durable: Lsn,
    },
    /// The segment's file is missing.
    #[error("the segment's file is missing")]
    MissingSegment,
    /// The segment's file doesn't have a segment's length.
    #[error("the segment's file is {found} bytes long instead of {expected}")]
    SegmentLength {
        /// The file's length in bytes.
        found: u64,
        /// A segment's length in bytes.
        expected: u64,
    },
    /// A segment begins with a flush of another database.
    #[error("a segment of another database stands there: data and log don't belong together")]
    ForeignSegment,
    /// A flush carries an incarnation that the superblock has never seen: log and data are not of the same time.
    #[error("a flush of incarnation {found} stands there, but the superblock knows none above {newest}")]
    UnknownIncarnation {
        /// The flush's incarnation.
        found: u32,
        /// The newest incarnation that the superblock admits.
        newest: u32,
    },
    /// The flush is valid, but the records in it don't fit together.
    #[error("the flush's checksum is right, but its records don't fit together")]
    Framing,
    /// A flush that was valid a moment ago no longer is: something else is writing to the file.
    #[error("the flush there was valid when the log was first read, and is not any more")]
    Changed,
    /// The superblock says that the log was closed with nothing behind that position, yet a flush stands there: a later superblock was lost,
    /// or log and data are not of the same time.
    #[error(
        "a flush of incarnation {found} stands there, but the superblock says that the log was closed with nothing behind it"
    )]
    NotEmpty {
        /// The flush's incarnation.
        found: u32,
    },
    /// The position that replay is to start from is not the start of a block.
    #[error("the superblock's start of replay is not a multiple of the block")]
    Misaligned,
}
