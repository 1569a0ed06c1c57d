//! An open file of the kernel's, and blocking transfers on it.
//!
//! 1. `O_DIRECT` is given to `open` and never changed; every descriptor is `O_CLOEXEC`.
//! 2. Every transfer passes [`check_transfer`](crate::fs::check_transfer) first, whichever way it then goes.
//! 3. A short transfer goes on or is [`Error::Short`]; see `moving`.
//! 4. The first failure of a sync or of a durable write is final for the handle: every later one gets it again without asking
//!    the kernel, which reports a lost page once and then says that all is well.
//! 5. In a child made by `fork` nothing reaches the kernel.
//!
//! Not here: what makes direct I/O possible (`direct`), many transfers in flight (`queue`).

use super::moving::{Direction, Next, after};
use super::place::Filesystem;
use super::{Shared, SyncMethod, cut_short, refused, sys};
use crate::fs::{File, check_transfer};
use crate::words::Words;
use crate::{Alignment, BlockSize, Durability, Error, IoMode, Op, Result, SyncKind, TransferOp};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A file of [`RealFs`](super::RealFs).
#[derive(Debug)]
pub(super) struct RealFile {
    file: std::fs::File,
    path: PathBuf,
    mode: IoMode,
    block: BlockSize,
    alignment: Alignment,
    shared: Arc<Shared>,
    /// The first failed sync or durable write (4).
    failed: OnceLock<Error>,
}

impl RealFile {
    pub(super) fn new(
        file: std::fs::File,
        path: &Path,
        mode: IoMode,
        block: BlockSize,
        alignment: Alignment,
        shared: Arc<Shared>,
    ) -> RealFile {
        RealFile { file, path: path.to_owned(), mode, block, alignment, shared, failed: OnceLock::new() }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// How a durable write on it is made.
    pub(super) fn sync_method(&self) -> SyncMethod {
        self.shared.sync_method()
    }

    /// The gate of every transfer: its length in bytes, or why it can't be started.
    pub(super) fn admit(&self, op: TransferOp, offset: u64, buffers: &[&Words]) -> Result<u64> {
        self.shared.owner.check()?;
        if op == TransferOp::Write(Durability::Now) {
            self.check_not_failed()?;
        }
        let len = check_transfer(&self.path, self.block, offset, buffers)?;
        if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
            return Err(refused(op, &self.path, offset));
        }
        Ok(len)
    }

    fn check_not_failed(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |first| Err(first.clone()))
    }

    /// Remembers a failed sync or durable write (4); gives the first one there was.
    pub(super) fn remember_failure(&self, error: Error) -> Error {
        self.failed.get_or_init(|| error).clone()
    }

    /// What comes after the kernel has moved `moved` bytes of a transfer: the position to go on from, or `None` at its end.
    pub(super) fn advance(&self, direction: Direction, offset: u64, done: u64, len: u64, moved: usize) -> Result<Option<u64>> {
        match after(direction, self.alignment.offset, done, len, moved) {
            Next::Finished => Ok(None),
            Next::Continue(position) => Ok(Some(position)),
            Next::FileEnds(0) => {
                // It ends at or before where the transfer begins.
                let end = self.len().map_or(offset, |end| end.min(offset));
                Err(Error::Short { path: self.path.clone(), offset, wanted: len, end })
            }
            Next::FileEnds(position) => Err(cut_short(&self.path, offset, len, position)),
            Next::Stuck => {
                let kind = io::ErrorKind::WriteZero;
                Err(Error::Io { op: Op::Write, path: self.path.clone(), offset: Some(offset + done), errno: None, kind })
            }
        }
    }

    /// What an errno of a transfer means.
    pub(super) fn transfer_error(&self, direction: Direction, offset: u64, error: &io::Error) -> Error {
        if self.mode == IoMode::Direct
            && error.raw_os_error() == Some(libc::EINVAL)
            && let Ok(filesystem) = Filesystem::of(&self.file, &self.path)
        {
            return filesystem.unsupported(&self.path, format!("an aligned transfer at byte {offset} was refused"));
        }
        let op = match direction {
            Direction::Read => Op::Read,
            Direction::Write => Op::Write,
        };
        Error::from_io(op, &self.path, Some(offset), error)
    }

    fn move_all(&self, direction: Direction, offset: u64, len: u64, buffers: &[&Words], dsync: bool) -> Result<()> {
        let mut done = 0;
        loop {
            let pieces = sys::Pieces::of(buffers.iter().copied(), done);
            let moved = match direction {
                Direction::Read => sys::read_at(&self.file, offset + done, &pieces),
                Direction::Write => sys::write_at(&self.file, offset + done, &pieces, dsync),
            };
            let moved = moved.map_err(|e| self.transfer_error(direction, offset + done, &e))?;
            match self.advance(direction, offset, done, len, moved)? {
                Some(position) => done = position,
                None => return Ok(()),
            }
        }
    }

    fn write_durably(&self, offset: u64, len: u64, from: &[&Words]) -> Result<()> {
        match self.sync_method() {
            SyncMethod::Dsync => self.move_all(Direction::Write, offset, len, from, true),
            SyncMethod::Fdatasync => {
                self.move_all(Direction::Write, offset, len, from, false)?;
                self.file.sync_data().map_err(|e| self.error(Op::SyncFile, &e))
            }
        }
        .map_err(|e| self.remember_failure(e))
    }

    pub(super) fn error(&self, op: Op, error: &io::Error) -> Error {
        Error::from_io(op, &self.path, None, error)
    }

    /// Asks the kernel something about the file, unless this is a child (5).
    fn ask<T>(&self, op: Op, call: impl FnOnce(&std::fs::File) -> io::Result<T>) -> Result<T> {
        self.shared.owner.check()?;
        call(&self.file).map_err(|e| self.error(op, &e))
    }
}

impl File for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        self.ask(Op::Stat, |file| {
            let metadata = file.metadata()?;
            if metadata.file_type().is_block_device() { sys::device_size(file) } else { Ok(metadata.len()) }
        })
    }

    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        let len = self.admit(TransferOp::Read, offset, into)?;
        self.move_all(Direction::Read, offset, len, into, false)
    }

    fn write(&self, offset: u64, from: &[&Words], durability: Durability) -> Result<()> {
        let len = self.admit(TransferOp::Write(durability), offset, from)?;
        match durability {
            Durability::Later => self.move_all(Direction::Write, offset, len, from, false),
            Durability::Now => self.write_durably(offset, len, from),
        }
    }

    fn sync(&self, kind: SyncKind) -> Result<()> {
        self.shared.owner.check()?;
        self.check_not_failed()?;
        let synced = match kind {
            SyncKind::Data => self.file.sync_data(),
            SyncKind::All => self.file.sync_all(),
        };
        synced.map_err(|e| self.remember_failure(self.error(Op::SyncFile, &e)))
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let before = self.len()?;
        let allocated = self.ask(Op::Allocate, |file| sys::allocate(file, offset, len));
        if allocated.is_err() && self.len()? > before {
            // Some file systems stop half-way. What they made beyond the old end goes, so that the length is as before.
            if let Err(error) = self.set_len(before) {
                tracing::error!(%error, "a file stays longer after room for it was refused");
            }
        }
        allocated
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.ask(Op::PunchHole, |file| sys::punch_hole(file, offset, len))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.ask(Op::SetLength, |file| file.set_len(len))
    }

    fn alignment(&self) -> Alignment {
        self.alignment
    }

    fn resident_pages(&self) -> Result<Option<u64>> {
        self.ask(Op::Stat, sys::cached_pages)
    }

    fn drop_cache(&self) -> Result<()> {
        // Only clean pages can be dropped.
        self.sync(SyncKind::Data)?;
        self.ask(Op::Stat, sys::drop_clean_pages)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
