//! Making a database. `data` is what makes a directory a database, so it gets its name last: what a crash leaves before that is
//! removed by the next open that may create.

use super::{DATA, LOCK, wal_dir, wal_options};
use crate::catalog::FIRST_TREE;
use crate::error::{Error, Result};
use crate::options::{Create, Options};
use crate::store::superblock::{self, RESERVED_BYTES, Superblock};
use ashlar_disk::{Access, BlockSize, Fs, OpenHow, SyncKind, durable, sync};
use ashlar_wal::Wal;
use std::path::Path;
use std::sync::Arc;

/// The name under which `data` is made.
const UNFINISHED: &str = "data.tmp";

/// The database's directory, made durably if it is missing and may be made.
pub(super) fn make_directory(fs: &Arc<dyn Fs>, dir: &Path, options: &Options) -> Result<()> {
    if fs.exists(dir)? {
        return Ok(());
    }
    if options.read_only || options.create == Create::Never {
        return Err(Error::NotADatabase { path: dir.to_owned(), reason: "it does not exist".into() });
    }
    Ok(durable::create_dir(&**fs, dir)?)
}

/// Whether a database may be made in a directory that holds none: it is asked for, and nothing else is there.
pub(super) fn check_directory(fs: &Arc<dyn Fs>, dir: &Path, options: &Options) -> Result<()> {
    let refuse = |reason: String| Err(Error::NotADatabase { path: dir.to_owned(), reason });
    if options.read_only || options.create == Create::Never {
        return refuse("there is no file \"data\" in it".into());
    }
    let log_dir = wal_dir(dir, &named_wal_dir(options));
    let own_log_name = if log_dir.parent() == Some(dir) { log_dir.file_name() } else { None };
    for name in fs.list(dir)? {
        if name != LOCK && name != UNFINISHED && own_log_name.is_none_or(|n| n != &*name) {
            return refuse(format!("it has no file \"data\", but holds \"{name}\": choose an empty directory"));
        }
    }
    Ok(())
}

/// Makes a database in `dir`, which holds none: the log's first segment, then `data`.
pub(super) fn create(fs: &Arc<dyn Fs>, dir: &Path, options: &Options) -> Result<()> {
    let asked = BlockSize::new(options.block_size).unwrap_or(BlockSize::MIN);
    let log_dir = wal_dir(dir, &named_wal_dir(options));
    check_directory(fs, dir, options)?;
    check_log(fs, dir, &log_dir, options, asked)?;
    let block = block_for(fs, dir, options, asked)?;
    let superblock = first_superblock(options, block);
    keep_name(fs, dir)?;
    remove_leftovers(fs, dir, &log_dir)?;
    if fs.exists(&log_dir)? {
        keep_name(fs, &log_dir)?;
    } else {
        durable::create_dir(&**fs, &log_dir)?;
    }
    let log_options = wal_options(&superblock, options.io_mode, 64 << 20);
    Wal::create_first_segment(fs, &log_dir, &log_options).map_err(super::wal_error)?;
    let how = OpenHow { access: Access::ReadWrite, create: ashlar_disk::Create::New, mode: options.io_mode, block };
    let unfinished = dir.join(UNFINISHED);
    let file = fs.open(&unfinished, &how)?;
    file.allocate(0, RESERVED_BYTES)?;
    superblock::write_first(&*file, &superblock)?;
    file.sync(SyncKind::All)?;
    drop(file);
    durable::rename(&**fs, &unfinished, &dir.join(DATA))?;
    Ok(())
}

/// The block as asked for, or the larger unit that files here need.
fn block_for(fs: &Arc<dyn Fs>, dir: &Path, options: &Options, asked: BlockSize) -> Result<BlockSize> {
    let unfinished = dir.join(UNFINISHED);
    if fs.exists(&unfinished)? {
        durable::remove(&**fs, &unfinished)?;
    }
    let how = |block| OpenHow { access: Access::ReadWrite, create: ashlar_disk::Create::New, mode: options.io_mode, block };
    let opened = fs.open(&unfinished, &how(asked)).map(drop);
    match opened {
        Ok(()) => {
            fs.remove(&unfinished)?;
            Ok(asked)
        }
        Err(ashlar_disk::Error::Alignment { needed, .. }) if needed > asked.bytes() && needed <= options.page_size => {
            BlockSize::new(needed).ok_or_else(|| Error::Alignment { path: dir.to_owned(), needed, block: asked.bytes() })
        }
        Err(e) => Err(e.into()),
    }
}

/// Makes the name of a directory durable that was there before: an open that was killed may have made it and not have got to
/// that. A parent that may not be opened was not made by one of those.
fn keep_name(fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
    match fs.sync_dir(durable::directory_of(dir)) {
        Err(ashlar_disk::Error::Io { kind: std::io::ErrorKind::PermissionDenied, .. }) => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn first_superblock(options: &Options, block_size: BlockSize) -> Superblock {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&sync::random_u64().to_le_bytes());
    uuid[8..].copy_from_slice(&sync::random_u64().to_le_bytes());
    // A random UUID, as RFC 9562 marks it.
    uuid[6] = uuid[6] & 0x0F | 0x40;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    Superblock {
        uuid,
        block_size,
        page_size: options.page_size,
        segment_size: options.segment_size,
        number: 1,
        checkpoint: 0,
        replay_from: 0,
        last_commit: 0,
        incarnation: 0,
        incarnation_at_replay: 0,
        map_root: None,
        map_height: 0,
        next_page_id: 0,
        next_tree_id: FIRST_TREE,
        catalog_root: 0,
        wal_dir: named_wal_dir(options),
        clean: false,
    }
}

/// The log's directory as the superblock names it: empty for the usual one.
fn named_wal_dir(options: &Options) -> String {
    options.wal_dir.as_ref().map(|d| d.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Refuses a directory with a log that holds anything: nothing of it is touched.
fn check_log(fs: &Arc<dyn Fs>, dir: &Path, log_dir: &Path, options: &Options, block: BlockSize) -> Result<()> {
    if !fs.exists(log_dir)? {
        return Ok(());
    }
    let holds = match ashlar_wal::holds_any_flush(fs, log_dir, options.io_mode, block) {
        Err(ashlar_wal::Error::Disk(ashlar_disk::Error::Alignment { needed, .. })) => {
            let block = BlockSize::new(needed).unwrap_or(block);
            ashlar_wal::holds_any_flush(fs, log_dir, options.io_mode, block)
        }
        outcome => outcome,
    };
    if holds.map_err(super::wal_error)? {
        let reason = format!("{} holds a log, but there is no file \"data\": restore it", log_dir.display());
        return Err(Error::NotADatabase { path: dir.to_owned(), reason });
    }
    Ok(())
}

/// Removes what an interrupted creation has left, and nothing else: [`check_directory`] and [`check_log`] have looked.
fn remove_leftovers(fs: &Arc<dyn Fs>, dir: &Path, log_dir: &Path) -> Result<()> {
    if fs.exists(log_dir)? {
        ashlar_wal::remove_segments(fs, log_dir).map_err(super::wal_error)?;
    }
    if fs.exists(&dir.join(UNFINISHED))? {
        durable::remove(&**fs, &dir.join(UNFINISHED))?;
    }
    Ok(())
}
