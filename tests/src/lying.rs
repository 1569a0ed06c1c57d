//! A file system that leaves out one kind of sync and says that it was done: a mistake that the crash harness, or cutting the power, must bring to light.

use ashlar_disk::words::Words;
use ashlar_disk::{Alignment, Create, Durability, File, Fs, Lock, LockMode, OpenHow, Queue, QueueKind, Result, SyncKind};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Lie {
    /// The sync of `data` between a checkpoint's pages and its superblock.
    CheckpointSync,
    /// The syncs of `data` after each copy of the superblock.
    SuperblockSync,
    /// The sync of `data` between a blob's bytes and the record that names it.
    BlobSync,
    /// The durability of the log's writes.
    LogWrite,
    /// All syncs of `data`, those of checkpoints and of superblocks among them.
    DataSyncs,
    /// The sync of `data` before it gets its name.
    CreationSync,
    /// The sync of a new log segment, full of zeros.
    SegmentSync,
    /// The syncs of the log's segments before recovery reads them.
    LogSyncAtOpen,
    /// The syncs of the log's directory.
    LogDirectory,
    /// The syncs of the database's directory.
    DatabaseDirectory,
    /// The syncs of the directory that the database's is in.
    ParentDirectory,
}

/// See the module.
#[derive(Debug)]
pub struct LyingFs {
    inner: Arc<dyn Fs>,
    lie: Lie,
}

impl LyingFs {
    /// `inner`, but for that lie.
    pub fn over(inner: Arc<dyn Fs>, lie: Lie) -> Arc<dyn Fs> {
        Arc::new(LyingFs { inner, lie })
    }
}

fn is_named(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|n| n == name)
}

impl Fs for LyingFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>> {
        let inner = self.inner.open(path, how)?;
        let is_new = how.create == Create::New;
        Ok(Arc::new(LyingFile { inner, lie: self.lie, is_new, written: AtomicU8::new(OPENED) }))
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.inner.create_dir(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let left_out = match self.lie {
            Lie::LogDirectory => is_named(dir, "wal"),
            Lie::DatabaseDirectory => is_named(dir, "db"),
            Lie::ParentDirectory => dir == Path::new("/"),
            _ => false,
        };
        if left_out { Ok(()) } else { self.inner.sync_dir(dir) }
    }
    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn Lock>> {
        self.inner.lock(path, mode)
    }
    fn queue(&self, kind: QueueKind, depth: u32) -> Result<Arc<dyn Queue>> {
        self.inner.queue(kind, depth)
    }
    fn capacity(&self, path: &Path) -> Result<u64> {
        self.inner.capacity(path)
    }
}

/// Nothing was written since the last sync but by queues.
const NOTHING: u8 = 0;
/// The superblock was the last to be written.
const SUPERBLOCK: u8 = 1;
/// Something else was.
const PAGES: u8 = 2;
/// The length was changed last.
const LENGTH: u8 = 3;
/// Nothing has been done to it yet.
const OPENED: u8 = 4;

/// The superblock's copies stand in the first bytes of `data`.
const SUPERBLOCKS_END: u64 = 1 << 20;

#[derive(Debug)]
struct LyingFile {
    inner: Arc<dyn File>,
    lie: Lie,
    is_new: bool,
    written: AtomicU8,
}

impl LyingFile {
    fn leaves_out(&self, kind: SyncKind) -> bool {
        let written = self.written.swap(NOTHING, Relaxed);
        let is_log = self.inner.path().to_string_lossy().contains("/wal/");
        let is_data = is_named(self.inner.path(), "data");
        match self.lie {
            Lie::CheckpointSync => is_data && written == PAGES,
            Lie::SuperblockSync => is_data && written == SUPERBLOCK,
            Lie::BlobSync => is_data && [NOTHING, OPENED].contains(&written) && kind == SyncKind::Data,
            Lie::DataSyncs => is_data,
            Lie::CreationSync => is_named(self.inner.path(), "data.tmp"),
            Lie::SegmentSync => is_log && self.is_new,
            Lie::LogSyncAtOpen => is_log && !self.is_new,
            _ => false,
        }
    }
}

impl File for LyingFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        self.inner.read(offset, into)
    }
    fn write(&self, offset: u64, from: &[&Words], durability: Durability) -> Result<()> {
        self.written.store(if offset < SUPERBLOCKS_END { SUPERBLOCK } else { PAGES }, Relaxed);
        let durability = if self.lie == Lie::LogWrite { Durability::Later } else { durability };
        self.inner.write(offset, from, durability)
    }
    fn sync(&self, kind: SyncKind) -> Result<()> {
        if self.leaves_out(kind) { Ok(()) } else { self.inner.sync(kind) }
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.written.store(LENGTH, Relaxed);
        self.inner.allocate(offset, len)
    }
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.punch_hole(offset, len)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }
    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }
    fn resident_pages(&self) -> Result<Option<u64>> {
        self.inner.resident_pages()
    }
    fn drop_cache(&self) -> Result<()> {
        self.inner.drop_cache()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self.inner.as_any()
    }
}
