//! The file system of the simulated machine.

use super::disk::{Disk, Holders, State};
use super::file::SimFile;
use super::names::Node;
use super::queue::SimQueue;
use crate::fs::{Create, File, Fs, Lock, LockMode, OpenHow, Queue, QueueKind};
use crate::{Error, Op, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A simulated machine's file system. Its root (and the empty path) is a directory that is always there.
pub struct SimFs {
    pub(super) disk: Arc<Disk>,
}

fn error(op: Op, path: &Path, errno: i32, kind: ErrorKind) -> Error {
    Error::Io { op, path: path.to_owned(), offset: None, errno: Some(errno), kind }
}

fn not_found(op: Op, path: &Path) -> Error {
    error(op, path, libc::ENOENT, ErrorKind::NotFound)
}

/// The file by that name.
fn find_file(state: &State, op: Op, path: &Path) -> Result<u64> {
    match state.names.get(path) {
        Some(Node::File(id)) => Ok(id),
        Some(Node::Directory) => Err(error(op, path, libc::EISDIR, ErrorKind::IsADirectory)),
        None => Err(not_found(op, path)),
    }
}

fn check_directory(state: &State, op: Op, dir: &Path) -> Result<()> {
    match state.names.get(dir) {
        Some(Node::Directory) => Ok(()),
        Some(Node::File(_)) => Err(error(op, dir, libc::ENOTDIR, ErrorKind::NotADirectory)),
        None => Err(not_found(op, dir)),
    }
}

/// An error unless `path` could be made: its directory is there and it is not.
fn check_new(state: &State, op: Op, path: &Path) -> Result<()> {
    if state.names.get(path).is_some() {
        return Err(error(op, path, libc::EEXIST, ErrorKind::AlreadyExists));
    }
    check_directory(state, op, path.parent().unwrap_or(path))
}

impl Fs for SimFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>> {
        let op = if how.create == Create::New { Op::Create } else { Op::Open };
        if !how.block.bytes().is_multiple_of(self.disk.alignment) {
            return Err(Error::Alignment { path: path.to_owned(), needed: self.disk.alignment, block: how.block.bytes() });
        }
        let inode = self.disk.call(op, path, |state| {
            let id = match how.create {
                Create::Never => find_file(state, op, path)?,
                Create::New => {
                    check_new(state, op, path)?;
                    state.create(path)
                }
            };
            state.inode(id).handles += 1;
            Ok(id)
        })?;
        Ok(Arc::new(SimFile::new(self.disk.clone(), inode, path, how)))
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.disk.call(Op::CreateDir, path, |state| {
            check_new(state, Op::CreateDir, path)?;
            let number = state.next_change();
            state.names.change(number, None, Some((path, Node::Directory)));
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.disk.call(Op::List, dir, |state| {
            check_directory(state, Op::List, dir)?;
            Ok(state.names.list(dir))
        })
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.disk.call(Op::Stat, path, |state| Ok(state.names.get(path).is_some()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.disk.call(Op::Rename, from, |state| {
            let id = find_file(state, Op::Rename, from)?;
            check_directory(state, Op::Rename, to.parent().unwrap_or(to))?;
            if state.names.get(to) == Some(Node::Directory) {
                return Err(error(Op::Rename, to, libc::EISDIR, ErrorKind::IsADirectory));
            }
            if from != to {
                let number = state.next_change();
                state.names.change(number, Some(from), Some((to, Node::File(id))));
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.disk.call(Op::Remove, path, |state| {
            find_file(state, Op::Remove, path)?;
            let number = state.next_change();
            state.names.change(number, Some(path), None);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.disk.call(Op::SyncDir, dir, |state| {
            check_directory(state, Op::SyncDir, dir)?;
            if !state.faults.crashes_now() {
                state.names.sync(dir);
                state.forget_unreachable();
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn Lock>> {
        let exclusive = mode == LockMode::Exclusive;
        self.disk.call(Op::Lock, path, |state| {
            if state.names.get(path).is_none() {
                check_new(state, Op::Lock, path)?;
                state.create(path);
            }
            find_file(state, Op::Lock, path)?;
            let holders = state.locks.entry(path.to_owned()).or_insert(Holders { exclusive, count: 0 });
            if holders.count > 0 && (exclusive || holders.exclusive) {
                return Err(Error::Locked { path: path.to_owned(), pid: Some(std::process::id()) });
            }
            *holders = Holders { exclusive, count: holders.count + 1 };
            Ok(())
        })?;
        Ok(Box::new(SimLock { disk: self.disk.clone(), path: path.to_owned() }))
    }

    fn queue(&self, _kind: QueueKind, depth: u32) -> Result<Arc<dyn Queue>> {
        self.disk.lock().faults.check(Op::Ring, Path::new(""))?;
        Ok(Arc::new(SimQueue::new(self.disk.clone(), depth)))
    }

    fn capacity(&self, path: &Path) -> Result<u64> {
        let state = self.disk.lock();
        state.faults.check(Op::Stat, path)?;
        Ok(state.capacity)
    }
}

impl std::fmt::Debug for SimFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimFs")
    }
}

/// A taken lock file.
struct SimLock {
    disk: Arc<Disk>,
    path: PathBuf,
}

impl Lock for SimLock {}

impl std::fmt::Debug for SimLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimLock({})", self.path.display())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Some(holders) = self.disk.lock().locks.get_mut(&self.path) {
            holders.count = holders.count.saturating_sub(1);
        }
    }
}
