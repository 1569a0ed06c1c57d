//! The files of a database, looked at without opening it: the superblock, and where the log is.
//!
//! Writes nothing but what taking the lock shared does; recovers nothing, so it works where an open fails.

use crate::cli::OpenArgs;
use crate::error::{Error, Result};
use ashlar_disk::real::{RealFs, RealOptions};
use ashlar_disk::{Access, BlockSize, Create, File, Fs, Lock, LockMode, OpenHow};
use ashlar_wal::{LogStart, Lsn, WalOptions};
use ashlardb::store::superblock::{self, Superblock};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a database, locked for reading.
pub(crate) struct DatabaseFiles {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) superblock: Superblock,
    /// Bytes of `data`.
    pub(crate) data_len: u64,
    /// Where the log's segments are.
    pub(crate) wal_dir: PathBuf,
    /// How the log is read.
    pub(crate) wal_options: WalOptions,
    _lock: Box<dyn Lock>,
}

impl DatabaseFiles {
    /// Of the database in `dir`.
    pub(crate) fn open(dir: &Path, args: &OpenArgs) -> Result<DatabaseFiles> {
        let fs: Arc<dyn Fs> = RealFs::new(RealOptions { allow_network_fs: args.allow_network_fs, ..RealOptions::default() })?;
        let path = dir.join("data");
        if !fs.exists(&path)? {
            let reason = if fs.exists(dir)? { "there is no file \"data\" in it" } else { "it does not exist" };
            return Err(Error::from(ashlardb::Error::NotADatabase { path: dir.to_owned(), reason: reason.into() }));
        }
        let lock = fs.lock(&dir.join("LOCK"), LockMode::Shared)?;
        let data = open_data(&fs, &path, args)?;
        let superblock = superblock::choose(&superblock::read_copies(&*data, BlockSize::MIN))?.superblock;
        let name = if superblock.wal_dir.is_empty() { "wal" } else { &superblock.wal_dir };
        let wal_dir = dir.join(name);
        let wal_options = WalOptions {
            segment_size: superblock.segment_size,
            block: superblock.block_size,
            mode: args.io_mode(),
            ..WalOptions::new(superblock.uuid)
        };
        Ok(DatabaseFiles { fs, data_len: data.len()?, superblock, wal_dir, wal_options, _lock: lock })
    }

    /// What the superblock says about the log.
    pub(crate) fn log_start(&self) -> LogStart {
        LogStart {
            c: Lsn(self.superblock.replay_from),
            incarnation_at_c: self.superblock.incarnation_at_replay,
            newest_incarnation: self.superblock.incarnation,
            durable: Lsn(self.superblock.last_commit),
        }
    }

    /// How many segments the log has, and how many bytes they take.
    pub(crate) fn segments(&self) -> Result<(u64, u64)> {
        let names = self.fs.list(&self.wal_dir)?;
        let count = names.iter().filter(|name| name.ends_with(".wal")).count() as u64;
        Ok((count, count * self.superblock.segment_size))
    }
}

/// By the smallest unit that its device takes: the database's own stands in the superblock.
fn open_data(fs: &Arc<dyn Fs>, path: &Path, args: &OpenArgs) -> Result<Arc<dyn File>> {
    let how = |block| OpenHow { access: Access::Read, create: Create::Never, mode: args.io_mode(), block };
    match fs.open(path, &how(BlockSize::MIN)) {
        Err(ashlar_disk::Error::Alignment { needed, .. }) => {
            Ok(fs.open(path, &how(BlockSize::new(needed).unwrap_or(BlockSize::MIN)))?)
        }
        outcome => Ok(outcome?),
    }
}
