//! An open file of the simulated disk.

use super::content::{self, CHUNK, Change};
use super::disk::Disk;
use super::transfer::Work;
use crate::fs::{Access, Alignment, File, OpenHow, check_transfer};
use crate::words::Words;
use crate::{BlockSize, Durability, Error, Op, Result, SyncKind};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// An open file. While it is open the file stays, by whatever name or none.
pub(super) struct SimFile {
    disk: Arc<Disk>,
    inode: u64,
    path: Arc<Path>,
    access: Access,
    block: BlockSize,
}

impl SimFile {
    /// A handle that has been counted in the file already.
    pub(super) fn new(disk: Arc<Disk>, inode: u64, path: &Path, how: &OpenHow) -> SimFile {
        SimFile { disk, inode, path: path.into(), access: how.access, block: how.block }
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) fn block(&self) -> BlockSize {
        self.block
    }

    pub(super) fn shared_path(&self) -> Arc<Path> {
        self.path.clone()
    }

    pub(super) fn is_on(&self, disk: &Arc<Disk>) -> bool {
        Arc::ptr_eq(&self.disk, disk)
    }

    /// An error if it was opened for reading only.
    pub(super) fn check_writable(&self, op: Op) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read => Err(Error::Io {
                op,
                path: self.path.to_path_buf(),
                offset: None,
                errno: Some(libc::EBADF),
                kind: ErrorKind::PermissionDenied,
            }),
        }
    }

    /// Changes length or room, at once.
    fn change(&self, op: Op, change: Change) -> Result<()> {
        self.check_writable(op)?;
        self.disk.call(op, &self.path, |state| {
            if let Change::Allocate { first, end, .. } = change {
                state.check_room(op, &self.path, self.inode, first, end)?;
            }
            let number = state.next_change();
            state.inode(self.inode).change(number, change, false);
            Ok(())
        })
    }
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        let mut state = self.disk.lock();
        state.faults.check(Op::Stat, &self.path)?;
        Ok(state.inode(self.inode).live.len)
    }

    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        let len = check_transfer(&self.path, self.block, offset, into)?;
        let work = Work::Read { first: offset / CHUNK as u64, count: len / CHUNK as u64 };
        let chunks = self.disk.transfer(self.inode, &self.path, |_| work)?;
        content::copy_to(&chunks, into);
        Ok(())
    }

    fn write(&self, offset: u64, from: &[&Words], durability: Durability) -> Result<()> {
        check_transfer(&self.path, self.block, offset, from)?;
        self.check_writable(Op::Write)?;
        let work = Work::Write { first: offset / CHUNK as u64, chunks: content::chunks_of(from), durability };
        self.disk.transfer(self.inode, &self.path, |_| work).map(drop)
    }

    fn sync(&self, kind: SyncKind) -> Result<()> {
        // What completes while the sync is on its way is not covered by it.
        let work = |state: &super::disk::State| Work::Sync { kind, until: state.newest_change };
        self.disk.transfer(self.inode, &self.path, work).map(drop)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.saturating_add(len);
        let chunk = CHUNK as u64;
        self.change(Op::Allocate, Change::Allocate { first: offset / chunk, end: end.div_ceil(chunk), grow_to: end })
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.change(Op::PunchHole, Change::Punch { start: offset, end: offset.saturating_add(len) })
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let shorter = len < self.len()?;
        self.change(Op::SetLength, if shorter { Change::Cut { to: len } } else { Change::Grow { to: len } })
    }

    fn alignment(&self) -> Alignment {
        Alignment { memory: self.disk.alignment, offset: self.disk.alignment }
    }

    /// Nothing is ever cached.
    fn resident_pages(&self) -> Result<Option<u64>> {
        Ok(Some(0))
    }

    fn drop_cache(&self) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            inode.handles = inode.handles.saturating_sub(1);
            state.forget_unreachable();
        }
    }
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimFile({})", self.path.display())
    }
}
