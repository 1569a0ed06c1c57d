//! One transfer in a ring: its state between the kernel's answers.
//!
//! ```text
//!            short: again from there                    SyncMethod::Fdatasync
//!              ┌──────┐                                  and Durability::Now
//!   start ──> Moving ─┴──────── every byte moved ───────────> Syncing
//!              └── error ──> complete <── else ──┘               │
//!                              └─────────────────────────────────┘
//! ```
//!
//! 1. The pieces of memory named to the kernel stay where they are until its answer: they are in the box, which is the
//!    transfer's number in the ring.
//! 2. `EINTR`, `EAGAIN` and `ECANCELED` mean that the kernel has not tried: it cancels what its helper threads have not begun
//!    when the thread that submitted it ends, although nobody asked for that. Such an operation is handed in again, a sync as
//!    well, since it never ran.

use super::super::SyncMethod;
use super::super::file::RealFile;
use super::super::moving::Direction;
use super::super::sys::fill;
use super::{file_of, memory};
use crate::fs::Buffer;
use crate::{ArenaSlice, Durability, Error, Op, Result, Transfer, TransferOp};
use io_uring::{opcode, squeue, types};
use std::io;

/// How often an operation that was not tried is handed in again before that counts as an error.
const TRIES_MAX: u32 = 1000;

/// See the module.
pub(super) struct InFlight {
    transfer: Transfer,
    /// In bytes, as admitted.
    len: u64,
    /// Bytes from the transfer's start that are moved.
    done: u64,
    pieces: Vec<libc::iovec>,
    stage: Stage,
    /// How a durable write is made, fixed at the start: the setting may change meanwhile.
    method: SyncMethod,
    tries: u32,
}

// SAFETY: the pieces point into the transfer's buffers, which move to another thread with it.
unsafe impl Send for InFlight {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Moving,
    Syncing,
}

/// What to do after an answer of the kernel.
pub(super) enum After {
    /// Hand [`InFlight::entry`] in.
    Again,
    /// It has ended.
    Ended(Result<()>),
}

impl InFlight {
    /// A transfer of `len` bytes that has been admitted.
    pub(super) fn new(transfer: Transfer, len: u64) -> Box<InFlight> {
        let method = file_of(&transfer).map_or(SyncMethod::default(), RealFile::sync_method);
        let mut this = InFlight { transfer, len, done: 0, pieces: Vec::new(), stage: Stage::Moving, method, tries: 0 };
        this.name_pieces();
        Box::new(this)
    }

    /// The transfer, to complete it.
    pub(super) fn into_transfer(self) -> Transfer {
        self.transfer
    }

    fn file(&self) -> &RealFile {
        file_of(&self.transfer).expect("only files of the kernel's are admitted")
    }

    fn direction(&self) -> Direction {
        if self.transfer.op == TransferOp::Read { Direction::Read } else { Direction::Write }
    }

    fn is_durable(&self) -> bool {
        self.transfer.op == TransferOp::Write(Durability::Now)
    }

    fn name_pieces(&mut self) {
        fill(&mut self.pieces, memory(&self.transfer.buffers), self.done);
    }

    /// What to hand to the kernel. Its pointers are good until `self` is changed or dropped. `registered` gives the index of
    /// registered memory that a slice lies in.
    pub(super) fn entry(&self, registered: impl FnOnce(&ArenaSlice) -> Option<u16>) -> squeue::Entry {
        let fd = types::Fd(self.file().fd());
        if self.stage == Stage::Syncing {
            return opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        }
        match self.pieces[..] {
            // One piece has operations of its own, which spare the kernel a copy of the list, and a look-up if it is registered.
            [one] => match self.only_slice().and_then(registered) {
                Some(index) => self.fixed_entry(fd, one, index),
                None => self.single_entry(fd, one),
            },
            _ => self.vectored_entry(fd),
        }
    }

    /// The slice that the transfer's only buffer is.
    fn only_slice(&self) -> Option<&ArenaSlice> {
        match &self.transfer.buffers[..] {
            [Buffer::Arena(slice)] => Some(slice),
            _ => None,
        }
    }

    fn at(&self) -> u64 {
        self.transfer.offset + self.done
    }

    fn flags(&self) -> i32 {
        if self.is_durable() && self.method == SyncMethod::Dsync { libc::RWF_DSYNC } else { 0 }
    }

    fn fixed_entry(&self, fd: types::Fd, one: libc::iovec, index: u16) -> squeue::Entry {
        let (base, len) = (one.iov_base.cast(), one.iov_len as u32);
        match self.direction() {
            Direction::Read => opcode::ReadFixed::new(fd, base, len, index).offset(self.at()).build(),
            Direction::Write => opcode::WriteFixed::new(fd, base, len, index).offset(self.at()).rw_flags(self.flags()).build(),
        }
    }

    fn single_entry(&self, fd: types::Fd, one: libc::iovec) -> squeue::Entry {
        let (base, len) = (one.iov_base.cast(), one.iov_len as u32);
        match self.direction() {
            Direction::Read => opcode::Read::new(fd, base, len).offset(self.at()).build(),
            Direction::Write => opcode::Write::new(fd, base, len).offset(self.at()).rw_flags(self.flags()).build(),
        }
    }

    fn vectored_entry(&self, fd: types::Fd) -> squeue::Entry {
        let (list, len) = (self.pieces.as_ptr(), self.pieces.len() as u32);
        match self.direction() {
            Direction::Read => opcode::Readv::new(fd, list, len).offset(self.at()).build(),
            Direction::Write => opcode::Writev::new(fd, list, len).offset(self.at()).rw_flags(self.flags()).build(),
        }
    }

    /// Takes the kernel's answer: bytes moved, or a negative errno.
    pub(super) fn answer(&mut self, answer: i32) -> After {
        let result = match usize::try_from(answer) {
            Ok(moved) => self.succeeded(moved),
            Err(_) => match self.not_tried(-answer) {
                true => return After::Again,
                false => Err(self.error(&io::Error::from_raw_os_error(-answer))),
            },
        };
        match result {
            Ok(true) => After::Again,
            Ok(false) => After::Ended(Ok(())),
            Err(error) if self.is_durable() => After::Ended(Err(self.file().remember_failure(error))),
            Err(error) => After::Ended(Err(error)),
        }
    }

    /// Whether an errno says that nothing was tried, and it may be once more (2).
    fn not_tried(&mut self, errno: i32) -> bool {
        self.tries += 1;
        matches!(errno, libc::EINTR | libc::EAGAIN | libc::ECANCELED) && self.tries < TRIES_MAX
    }

    fn error(&self, error: &io::Error) -> Error {
        match self.stage {
            Stage::Moving => self.file().transfer_error(self.direction(), self.at(), error),
            Stage::Syncing => self.file().error(Op::SyncFile, error),
        }
    }

    /// After an operation that went well: whether there is more to do.
    fn succeeded(&mut self, moved: usize) -> Result<bool> {
        self.tries = 0;
        if self.stage == Stage::Syncing {
            return Ok(false);
        }
        let next = self.file().advance(self.direction(), self.transfer.offset, self.done, self.len, moved)?;
        if let Some(position) = next {
            self.done = position;
            self.name_pieces();
            return Ok(true);
        }
        self.stage = Stage::Syncing;
        Ok(self.is_durable() && self.method == SyncMethod::Fdatasync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::{RealFs, RealOptions};
    use crate::{Access, AlignedBuf, BlockSize, Create, Fs, IoMode, OpenHow};

    /// A transfer of two buffers of 4096 bytes, on a file that is never asked to move anything.
    fn in_flight(op: TransferOp, method: SyncMethod) -> Box<InFlight> {
        let dir = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let fs = RealFs::new(RealOptions { sync_method: method, ..RealOptions::default() }).unwrap();
        let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: IoMode::Direct, block: BlockSize::MIN };
        let file = fs.open(&dir.path().join("f"), &how).unwrap();
        let buffers = vec![Buffer::Heap(AlignedBuf::zeroed(4096)), Buffer::Heap(AlignedBuf::zeroed(4096))];
        InFlight::new(Transfer { file, op, offset: 4096, buffers, done: Box::new(|_| ()) }, 8192)
    }

    const NOW: TransferOp = TransferOp::Write(Durability::Now);

    #[test]
    fn a_short_answer_goes_on_where_it_stopped() {
        for op in [TransferOp::Read, NOW] {
            let mut job = in_flight(op, SyncMethod::Dsync);
            assert_eq!(job.pieces.len(), 2);
            assert!(matches!(job.answer(4096), After::Again));
            assert_eq!((job.done, job.pieces.len()), (4096, 1));
            assert!(matches!(job.answer(512), After::Again));
            assert_eq!((job.done, job.pieces[0].iov_len), (4608, 3584));
            assert!(matches!(job.answer(3584), After::Ended(Ok(()))));
        }
    }

    #[test]
    fn a_read_that_stops_within_a_unit_has_met_the_end() {
        let mut job = in_flight(TransferOp::Read, SyncMethod::Dsync);
        let After::Ended(Err(Error::Short { offset, wanted, end, .. })) = job.answer(100) else { panic!("not short") };
        assert_eq!((offset, wanted, end), (4096, 8192, 4196));
    }

    #[test]
    fn a_durable_write_without_dsync_is_followed_by_a_sync() {
        let mut job = in_flight(NOW, SyncMethod::Fdatasync);
        assert!(matches!(job.answer(8192), After::Again));
        assert_eq!(job.stage, Stage::Syncing);
        assert!(matches!(job.answer(-libc::ECANCELED), After::Again));
        assert!(matches!(job.answer(0), After::Ended(Ok(()))));
        let mut later = in_flight(TransferOp::Write(Durability::Later), SyncMethod::Fdatasync);
        assert!(matches!(later.answer(8192), After::Ended(Ok(()))));
    }

    #[test]
    fn what_was_not_tried_is_handed_in_again_but_not_for_ever() {
        let mut job = in_flight(TransferOp::Read, SyncMethod::Dsync);
        for errno in [libc::EINTR, libc::EAGAIN, libc::ECANCELED] {
            assert!(matches!(job.answer(-errno), After::Again));
        }
        let ended = (0..TRIES_MAX).find(|_| matches!(job.answer(-libc::EAGAIN), After::Ended(Err(Error::Io { .. }))));
        assert!(ended.is_some());
    }

    #[test]
    fn the_first_failure_of_a_durable_write_is_final() {
        let mut job = in_flight(NOW, SyncMethod::Fdatasync);
        assert!(matches!(job.answer(8192), After::Again));
        assert!(matches!(job.answer(-libc::EIO), After::Ended(Err(Error::Io { op: Op::SyncFile, .. }))));
        let file = job.transfer.file;
        for _ in 0..2 {
            let again = file.sync(crate::SyncKind::Data);
            assert!(matches!(again, Err(Error::Io { op: Op::SyncFile, errno: Some(libc::EIO), .. })), "{again:?}");
        }
        let mut buf = AlignedBuf::zeroed(4096);
        assert!(file.write(0, &[buf.words_mut()], Durability::Now).is_err());
        file.write(0, &[buf.words_mut()], Durability::Later).unwrap();
    }
}
