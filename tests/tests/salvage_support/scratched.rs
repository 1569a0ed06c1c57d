//! A file system with bad sectors: reads of some blocks of `data` and of the log fail.

use ashlar_disk::words::Words;
use ashlar_disk::{Alignment, Durability, Error, File, Fs, Lock, LockMode, Op, OpenHow, Queue, QueueKind, Result, SyncKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct ScratchedFs {
    inner: Arc<dyn Fs>,
    /// Blocks of 4096 bytes, by file.
    bad: BTreeMap<PathBuf, BTreeSet<u64>>,
}

impl ScratchedFs {
    pub(crate) fn over(inner: Arc<dyn Fs>, bad: BTreeMap<PathBuf, BTreeSet<u64>>) -> Arc<dyn Fs> {
        Arc::new(ScratchedFs { inner, bad })
    }
}

impl Fs for ScratchedFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>> {
        let inner = self.inner.open(path, how)?;
        let bad = self.bad.get(path).cloned();
        Ok(match bad {
            Some(bad) => Arc::new(Scratched { inner, bad }),
            None => inner,
        })
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

/// A damaged file: it is read with blocking calls, and never written.
#[derive(Debug)]
struct Scratched {
    inner: Arc<dyn File>,
    bad: BTreeSet<u64>,
}

fn refuse<T>(file: &dyn File) -> Result<T> {
    panic!("{} is damaged, and was to be written", file.path().display())
}

impl File for Scratched {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        let len: usize = into.iter().map(|words| size_of_val(*words)).sum();
        if self.bad.range(offset / 4096..(offset + len as u64).div_ceil(4096)).next().is_some() {
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(Error::from_io(Op::Read, self.path(), Some(offset), &source));
        }
        self.inner.read(offset, into)
    }
    fn write(&self, _: u64, _: &[&Words], _: Durability) -> Result<()> {
        refuse(self)
    }
    fn sync(&self, _: SyncKind) -> Result<()> {
        refuse(self)
    }
    fn allocate(&self, _: u64, _: u64) -> Result<()> {
        refuse(self)
    }
    fn punch_hole(&self, _: u64, _: u64) -> Result<()> {
        refuse(self)
    }
    fn set_len(&self, _: u64) -> Result<()> {
        refuse(self)
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
