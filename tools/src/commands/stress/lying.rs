//! A file system that leaves out syncs and says that they were done: a mistake that cutting the power must bring to light.

use ashlar_disk::words::Words;
use ashlar_disk::{Alignment, Durability, File, Fs, Lock, LockMode, OpenHow, Queue, QueueKind, Result, SyncKind};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum LeftOut {
    /// The durability of the log's writes.
    LogWrites,
    /// All syncs of `data`, the one between a checkpoint's pages and its superblock among them.
    DataSyncs,
}

/// See the module.
#[derive(Debug)]
pub(super) struct LyingFs {
    inner: Arc<dyn Fs>,
    left_out: LeftOut,
}

impl LyingFs {
    /// `inner`, but for that.
    pub(super) fn over(inner: Arc<dyn Fs>, left_out: LeftOut) -> Arc<dyn Fs> {
        Arc::new(LyingFs { inner, left_out })
    }
}

impl Fs for LyingFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>> {
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(LyingFile { inner, left_out: self.left_out }))
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
        self.inner.sync_dir(dir)
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

#[derive(Debug)]
struct LyingFile {
    inner: Arc<dyn File>,
    left_out: LeftOut,
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
        let durability = if self.left_out == LeftOut::LogWrites { Durability::Later } else { durability };
        self.inner.write(offset, from, durability)
    }
    fn sync(&self, kind: SyncKind) -> Result<()> {
        let is_data = self.path().file_name().is_some_and(|name| name == "data");
        if is_data && self.left_out == LeftOut::DataSyncs { Ok(()) } else { self.inner.sync(kind) }
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
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
    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }
}
