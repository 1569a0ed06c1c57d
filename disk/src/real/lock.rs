//! The lock file: one writer, or several readers, whether in this process or another.
//!
//! 1. The lock is `flock` on an open file of its own, so two openers in one process exclude each other as well. It ends with
//!    that open file: when the guard is dropped, or when the process ends in whatever way.
//! 2. A child made by `fork` shares the open file. It closes its descriptor at once (see [`fork_guard`](crate::fork_guard))
//!    and never unlocks: that would take the parent's lock away.
//! 3. The exclusive holder's process id stands in the file while it holds the lock, for messages only. It is written after the
//!    lock is taken; what a killed holder left behind is told apart by asking whether such a process lives.
//! 4. The file is never removed: a new one of the same name would be another lock.
//!
//! The lock file alone is read and written through the page cache.

use crate::fork_guard::{Owner, with_descriptors};
use crate::{Error, Lock, LockMode, Op, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A lock that is held.
#[derive(Debug)]
pub(super) struct FileLock {
    /// Closed by `drop`, except in a child, where the number may be another file's by then.
    file: ManuallyDrop<File>,
    mode: LockMode,
    owner: Owner,
}

impl FileLock {
    /// Takes the lock or says who has it; doesn't wait.
    pub(super) fn take(path: &Path, mode: LockMode, owner: Owner) -> Result<FileLock> {
        let opened = with_descriptors(|listed| {
            let file = open(path, mode)?;
            listed.push(file.as_raw_fd());
            Ok(file)
        })?;
        let file = opened.map_err(|e: io::Error| Error::from_io(Op::Lock, path, None, &e))?;
        // From here on dropping it takes the descriptor off the list.
        let lock = FileLock { file: ManuallyDrop::new(file), mode, owner };
        match flock(&lock.file, mode) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let pid = holder(&lock.file);
                lock.abandon();
                return Err(Error::Locked { path: path.to_owned(), pid });
            }
            Err(e) => {
                lock.abandon();
                return Err(Error::from_io(Op::Lock, path, None, &e));
            }
        }
        lock.write_pid();
        Ok(lock)
    }

    /// Closes a file whose lock was not had: the holder's process id in it stays.
    fn abandon(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used or dropped again.
        close(unsafe { ManuallyDrop::take(&mut this.file) });
    }

    /// Puts this process's id into the file, or nothing: of many readers none is *the* holder (3). A failure costs the message
    /// of whoever finds the file locked a number, so it is no error.
    fn write_pid(&self) {
        let _ = self.file.set_len(0);
        if self.mode == LockMode::Exclusive {
            let _ = self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0);
        }
    }
}

impl Lock for FileLock {}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.owner.is_forked_child() {
            return;
        }
        if self.mode == LockMode::Exclusive {
            let _ = self.file.set_len(0);
        }
        // Explicitly, although closing would do: a child made by bare `clone` may still have the open file.
        // SAFETY: takes numbers only; this process holds the lock.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
        // SAFETY: `drop` runs once, and the field isn't used after it.
        close(unsafe { ManuallyDrop::take(&mut self.file) });
    }
}

/// Takes the descriptor off the list and closes it, while no thread forks.
fn close(file: File) {
    let closed = with_descriptors(|listed| {
        listed.retain(|fd| *fd != file.as_raw_fd());
        drop(file);
    });
    debug_assert!(closed.is_ok(), "the handlers were installed when the lock was taken");
}

/// Opens the lock file, making it if need be; a reader takes one that it may not write in, too.
fn open(path: &Path, mode: LockMode) -> io::Result<File> {
    let writable = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path);
    match writable {
        Err(e) if mode == LockMode::Shared && is_denied(&e) => File::open(path),
        other => other,
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn flock(file: &File, mode: LockMode) -> io::Result<()> {
    let mode = match mode {
        LockMode::Exclusive => libc::LOCK_EX,
        LockMode::Shared => libc::LOCK_SH,
    };
    loop {
        // SAFETY: takes numbers only.
        if unsafe { libc::flock(file.as_raw_fd(), mode | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The process id in the file, if it is of a process that lives.
fn holder(file: &File) -> Option<u32> {
    let mut bytes = [0; 16];
    let n = file.read_at(&mut bytes, 0).ok()?;
    let pid: u32 = std::str::from_utf8(&bytes[..n]).ok()?.trim().parse().ok()?;
    let as_pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0)?;
    // SAFETY: signal 0 is sent to nobody: the call only says whether the process is there.
    let answer = unsafe { libc::kill(as_pid, 0) };
    let lives = answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    lives.then_some(pid)
}
