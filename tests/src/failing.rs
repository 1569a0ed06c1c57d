//! A file system over any other, on which one call fails, or every call from one on: each with an error that the kernel gives there.
//!
//! 1. Every call of the seam that can fail is counted, in the order of the calls; so are transfers of queues.
//! 2. A call that fails may have had its effect (`with_effect`) or not; a transfer that fails may have moved half of what it was to move. Of
//!    a sync that fails nothing has become durable.
//! 3. `EINTR` does not come through this seam: the real files call again themselves (`disk::real`). Here it comes all the same, to see that
//!    an error of that kind would lose nothing either.
//!
//! [`work`] is a piece of work that comes to every kind of call, and what must be true of it whatever fails.

mod call;
mod file;
mod queue;
pub mod states;
pub mod work;

pub use call::{Call, Failure};

use ashlar_disk::{Create, Error, File, Fs, Lock, LockMode, Op, OpenHow, Queue, QueueKind, Result};
use file::FailingFile;
use queue::FailingQueue;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// Which calls fail, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The number of the first, from 1.
    pub nth: u64,
    /// Whether all calls from that one on fail, as far as they can with that error.
    pub from_then_on: bool,
    /// How.
    pub failure: Failure,
    /// Whether the call has its effect all the same, where it is one whose effect is not known after an error.
    pub with_effect: bool,
}

/// A call that has failed.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Which kind of call.
    pub call: Call,
    /// On which file or directory.
    pub path: PathBuf,
}

/// What is to fail, what has failed, and what was called.
#[derive(Debug, Default)]
pub struct Script {
    plan: Option<Plan>,
    calls: AtomicU64,
    hits: Mutex<Vec<Hit>>,
    seen: Mutex<Vec<Call>>,
}

impl Script {
    /// By that plan, or a script of which nothing fails.
    pub fn new(plan: Option<Plan>) -> Arc<Script> {
        Arc::new(Script { plan, ..Script::default() })
    }

    /// Every call that came, in order.
    pub fn seen(&self) -> Vec<Call> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calls that have failed, in order.
    pub fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a call: the plan by which it fails, if it does.
    fn count(&self, call: Call, path: &Path) -> Option<Plan> {
        let number = self.calls.fetch_add(1, SeqCst) + 1;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        let plan = self.plan.filter(|plan| number == plan.nth || plan.from_then_on && number > plan.nth)?;
        if !plan.failure.can_come(call) {
            return None;
        }
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).push(Hit { call, path: path.to_owned() });
        Some(plan)
    }

    /// Counts a call without memory of its own, and does it unless it fails.
    fn call<T>(&self, call: Call, op: Op, path: &Path, real: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.count(call, path) {
            None => real(),
            Some(plan) => {
                if plan.with_effect && call.may_have_effect(plan.failure) {
                    drop(real());
                }
                Err(plan.failure.error(op, path, None))
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct FailingFs {
    inner: Arc<dyn Fs>,
    script: Arc<Script>,
}

impl FailingFs {
    /// `inner`, by that script.
    pub fn over(inner: Arc<dyn Fs>, script: Arc<Script>) -> Arc<dyn Fs> {
        Arc::new(FailingFs { inner, script })
    }
}

impl Fs for FailingFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>> {
        let (call, op) = match how.create {
            Create::New => (Call::Create, Op::Create),
            Create::Never => (Call::Open, Op::Open),
        };
        let inner = self.script.call(call, op, path, || self.inner.open(path, how))?;
        Ok(Arc::new(FailingFile { inner, script: self.script.clone() }))
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.script.call(Call::CreateDir, Op::CreateDir, path, || self.inner.create_dir(path))
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.script.call(Call::List, Op::List, dir, || self.inner.list(dir))
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        self.script.call(Call::Exists, Op::Stat, path, || self.inner.exists(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.script.call(Call::Rename, Op::Rename, from, || self.inner.rename(from, to))
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.script.call(Call::Remove, Op::Remove, path, || self.inner.remove(path))
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.script.call(Call::SyncDir, Op::SyncDir, dir, || self.inner.sync_dir(dir))
    }
    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn Lock>> {
        self.script.call(Call::Lock, Op::Lock, path, || self.inner.lock(path, mode))
    }
    fn queue(&self, kind: QueueKind, depth: u32) -> Result<Arc<dyn Queue>> {
        let inner = self.script.call(Call::Queue, Op::Ring, Path::new("a queue"), || self.inner.queue(kind, depth))?;
        Ok(Arc::new(FailingQueue { inner, script: self.script.clone() }))
    }
    fn capacity(&self, path: &Path) -> Result<u64> {
        self.script.call(Call::Capacity, Op::Stat, path, || self.inner.capacity(path))
    }
}

fn short(path: &Path, offset: u64, wanted: u64) -> Error {
    Error::Short { path: path.to_owned(), offset, wanted, end: offset + wanted / 2 }
}
