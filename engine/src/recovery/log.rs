//! The log of a database that is opened, or open: where it is, and how its parts are named.

use super::Files;
use super::replay::Gathered;
use crate::checkpoint::log_limit;
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pages::EnginePool;
use crate::store::superblock::Superblock;
use ashlar_disk::{Fs, IoMode, Queue};
use ashlar_wal::{LogScan, LogStart, Lsn, Wal, WalOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the log is and how it is read.
pub(super) struct LogFiles {
    pub(super) dir: PathBuf,
    pub(super) options: WalOptions,
}

impl LogFiles {
    pub(super) fn new(files: &Files, superblock: &Superblock, options: &Options) -> LogFiles {
        let dir = wal_dir(&files.dir, &superblock.wal_dir);
        let data = files.data.len().unwrap_or(0);
        let log_options = wal_options(superblock, options.io_mode, log_limit(options, superblock.segment_size, data));
        #[cfg(feature = "faults")]
        let log_options = WalOptions { mistake: mistake_of_log(options.fault), ..log_options };
        LogFiles { dir, options: log_options }
    }

    /// Makes durable what is about to be read and built upon: also under the clean mark. Whoever left that had synced all, but not these
    /// files, if the database was copied since: what copies files need not sync them, and a segment whose length is lost ends every later
    /// open, whatever was committed to it meanwhile.
    pub(super) fn sync(&self, fs: &Arc<dyn Fs>) -> Result<()> {
        ashlar_wal::sync_log(fs, &self.dir, &self.options).map_err(wal_error)
    }

    /// Finds the log's end, by reads through `queue`, and gathers what it meets, for pages that will be in `pool`.
    pub(super) fn read(
        &self,
        fs: &Arc<dyn Fs>,
        queue: Arc<dyn Queue>,
        superblock: &Superblock,
        options: &Options,
        pool: &EnginePool,
    ) -> Result<(LogScan, Gathered)> {
        let start = log_start(superblock);
        if superblock.clean {
            let scan = ashlar_wal::read_closed_log(fs, &self.dir, &self.options, &start).map_err(wal_error)?;
            return Ok((scan, Gathered::none(options)));
        }
        let source = ashlar_wal::Source::new(fs, &self.dir, &self.options).ahead_by(queue);
        Gathered::read(source, start, superblock.last_commit, options, pool)
    }
}

pub(crate) fn log_start(superblock: &Superblock) -> LogStart {
    LogStart {
        c: Lsn(superblock.replay_from),
        incarnation_at_c: superblock.incarnation_at_replay,
        newest_incarnation: superblock.incarnation,
        durable: Lsn(superblock.last_commit),
    }
}

/// The log's directory: as the superblock names it, relative to the database's own.
pub(crate) fn wal_dir(dir: &Path, named: &str) -> PathBuf {
    dir.join(if named.is_empty() { "wal" } else { named })
}

pub(crate) fn wal_options(superblock: &Superblock, mode: IoMode, log_limit: u64) -> WalOptions {
    WalOptions {
        segment_size: superblock.segment_size,
        block: superblock.block_size,
        mode,
        log_limit,
        ..WalOptions::new(superblock.uuid)
    }
}

/// A log's error as the engine's.
pub(crate) fn wal_error(e: ashlar_wal::Error) -> Error {
    match e {
        ashlar_wal::Error::Disk(disk) => disk.into(),
        ashlar_wal::Error::RecordTooLarge { size, max } => Error::TransactionTooLarge { what: "log", needed: size, max },
        ashlar_wal::Error::UnknownVersion { found, known, .. } => {
            Error::UnknownFormat { found: u32::from(found), features: 0, known: u32::from(known) }
        }
        other => Error::WalCorrupted { detail: other.to_string() },
    }
}

/// Reads the log from where replay of the checkpoint of `superblock` starts, as far as it is durable now, or, in a database that is only
/// read, to where the open found its end. A gap before that is damage.
pub(crate) fn scan_log(shared: &Shared, superblock: &Superblock) -> std::result::Result<LogScan, ashlar_wal::Error> {
    let log = LogFiles {
        dir: wal_dir(&shared.path, &superblock.wal_dir),
        options: wal_options(superblock, shared.options.io_mode, shared.log_limit()),
    };
    // It goes on being written.
    let until = shared.log.as_ref().map_or(shared.log_end, Wal::durable);
    ashlar_wal::read_log_until(&shared.fs, &log.dir, &log.options, &log_start(superblock), until)
}

/// The log's part of a deliberate mistake.
#[cfg(feature = "faults")]
fn mistake_of_log(fault: crate::fault::Fault) -> ashlar_wal::Mistake {
    use crate::fault::Fault;
    match fault {
        Fault::TornIsWhole => ashlar_wal::Mistake::TornIsWhole,
        Fault::LogTruncated => ashlar_wal::Mistake::Truncates,
        Fault::RecordGoesOn => ashlar_wal::Mistake::RecordGoesOn,
        _ => ashlar_wal::Mistake::None,
    }
}
