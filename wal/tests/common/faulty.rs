//! A file system on which the n-th call fails.

use ashlar_disk::words::Words;
use ashlar_disk::{Alignment, Durability, Error, File, Fs, Lock, LockMode, Op, OpenHow, Queue, QueueKind, Result, SyncKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The device failed.
    Eio,
    /// No space left: calls that need none go on.
    NoSpace,
}

/// Counts calls and decides which one fails. Zero: none.
#[derive(Debug)]
pub(crate) struct Plan {
    calls: AtomicU64,
    fail_at: AtomicU64,
    fault: Fault,
    read_bytes: AtomicU64,
}

impl Plan {
    /// How many calls there have been.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// How many bytes were asked of files.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Relaxed)
    }

    /// Fails the `n`-th call from now on.
    pub(crate) fn fail_after(&self, n: u64) {
        self.fail_at.store(self.calls() + n, Relaxed);
    }

    fn call(&self, op: Op, path: &Path) -> Result<()> {
        if self.calls.fetch_add(1, Relaxed) + 1 != self.fail_at.load(Relaxed) {
            return Ok(());
        }
        match self.fault {
            Fault::Eio => Err(Error::from_io(op, path, None, &std::io::Error::from_raw_os_error(5))),
            Fault::NoSpace if matches!(op, Op::Create | Op::Allocate | Op::Write) => {
                Err(Error::NoSpace { op, path: path.to_owned() })
            }
            Fault::NoSpace => {
                self.fail_after(1);
                Ok(())
            }
        }
    }
}

/// The file system.
#[derive(Debug)]
pub(crate) struct FaultyFs {
    inner: Arc<dyn Fs>,
    plan: Arc<Plan>,
}

impl FaultyFs {
    /// `inner`, with faults by the plan that is given back.
    pub(crate) fn over(inner: Arc<dyn Fs>, fault: Fault) -> (Arc<dyn Fs>, Arc<Plan>) {
        let plan = Arc::new(Plan { calls: AtomicU64::new(0), fail_at: AtomicU64::new(0), fault, read_bytes: AtomicU64::new(0) });
        (Arc::new(FaultyFs { inner, plan: plan.clone() }), plan)
    }
}

impl Fs for FaultyFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>> {
        let op = if how.create == ashlar_disk::Create::New { Op::Create } else { Op::Open };
        self.plan.call(op, path)?;
        Ok(Arc::new(FaultyFile { inner: self.inner.open(path, how)?, plan: self.plan.clone() }))
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.inner.create_dir(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.plan.call(Op::List, dir)?;
        self.inner.list(dir)
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        self.plan.call(Op::Stat, path)?;
        self.inner.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.plan.call(Op::Rename, from)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.plan.call(Op::Remove, path)?;
        self.inner.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.plan.call(Op::SyncDir, dir)?;
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
struct FaultyFile {
    inner: Arc<dyn File>,
    plan: Arc<Plan>,
}

impl FaultyFile {
    fn call(&self, op: Op) -> Result<()> {
        self.plan.call(op, self.inner.path())
    }
}

impl File for FaultyFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn len(&self) -> Result<u64> {
        self.call(Op::Stat)?;
        self.inner.len()
    }
    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        self.call(Op::Read)?;
        let words: usize = into.iter().map(|words| words.len()).sum();
        self.plan.read_bytes.fetch_add(8 * words as u64, Relaxed);
        self.inner.read(offset, into)
    }
    fn write(&self, offset: u64, from: &[&Words], durability: Durability) -> Result<()> {
        self.call(Op::Write)?;
        self.inner.write(offset, from, durability)
    }
    fn sync(&self, kind: SyncKind) -> Result<()> {
        self.call(Op::SyncFile)?;
        self.inner.sync(kind)
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.call(Op::Allocate)?;
        self.inner.allocate(offset, len)
    }
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.call(Op::PunchHole)?;
        self.inner.punch_hole(offset, len)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.call(Op::SetLength)?;
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
