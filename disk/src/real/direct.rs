//! What direct I/O on a file needs, and whether it really goes around the page cache.
//!
//! 1. What a file needs is asked in this order: `statx(STATX_DIOALIGN)`; for a block device its logical sector; else real
//!    reads of 4096, 8192, … bytes until one is not refused. Smaller units are of no use to anybody here, and btrfs does not refuse
//!    them: it serves a read that is not aligned to its sectors through the page cache (seen with 6.18).
//! 2. An `open` with `O_DIRECT` that succeeds proves nothing (tmpfs ignores it). So a directory that database files are made
//!    in, or written in, is tried with one real write and read of a nameless file, after which the page cache must hold
//!    nothing of it. A file opened for reading only is tried with a read of its own first block.
//! 3. btrfs is asked otherwise: it passes writes to files with data checksums through the page cache and drops the pages again
//!    (measured with 6.18: every page is dirtied there, and `cachestat` counts none afterwards). A file marked
//!    no-copy-on-write has no checksums, so that mark is what is required.
//! 4. tmpfs and ramfs are refused by name as well: there a file's cached pages are the file. Where the kernel can't count cached
//!    pages (before 6.5), other file systems are taken at their word.
//! 5. btrfs serves a read through the page cache where the memory it goes to is not there yet, or is shared with a child after a `fork`
//!    (both seen with 6.18). So a trial reads into memory that was written to before and that no child shares; and since a `fork`
//!    at the very moment is enough, it is repeated there before it is believed.
//!
//! Not here: opening files for use (`file`), and what a database's block is.

use super::place::Filesystem;
use super::{cut_short, sys};
use crate::{AlignedBuf, Alignment, Arena, BLOCK_SIZE_MIN, BlockSize, Error, Op, Result, sync};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How the needs of direct I/O were found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FoundBy {
    /// The file system says so (`STATX_DIOALIGN`).
    Statx,
    /// The block device says so (`BLKSSZGET`).
    Device,
    /// By reads that were refused or not.
    Reads,
    /// Not at all: the file is too short to try, so the engine's own 4096 bytes are taken.
    Assumed,
}

/// The largest unit that is tried, and half of what the trial file holds.
const UNIT_MAX: usize = crate::buffer::BLOCK_SIZE_MAX;

/// How often a trial is made at most.
const ATTEMPTS: u32 = 5;

/// The mark of a btrfs file without copy-on-write and checksums (`FS_NOCOW_FL`).
const NO_COPY_ON_WRITE: u32 = 0x0080_0000;

/// What a file that is open with `O_DIRECT` needs; an error where the file system says that it has no direct I/O.
pub(super) fn needs_of(file: &File, path: &Path) -> Result<(Alignment, FoundBy)> {
    let failed = |e: &io::Error| Error::from_io(Op::Stat, path, None, e);
    if is_device(file, path)? {
        let unit = sys::sector_size(file).map_err(|e| failed(&e))?;
        return Ok((Alignment { memory: unit, offset: unit }, FoundBy::Device));
    }
    let statx = sys::statx_of(file, libc::STATX_DIOALIGN).map_err(|e| failed(&e))?;
    if statx.stx_mask & libc::STATX_DIOALIGN != 0 {
        if statx.stx_dio_offset_align == 0 {
            return Err(Filesystem::of(file, path)?.unsupported(path, "the file system says that this file has none"));
        }
        let alignment = Alignment { memory: statx.stx_dio_mem_align as usize, offset: statx.stx_dio_offset_align as usize };
        return Ok((alignment, FoundBy::Statx));
    }
    let len = file.metadata().map_err(|e| failed(&e))?.len();
    try_reads(file, path, len)
}

/// Reads of growing units, each at an odd multiple of itself in the file and in memory, so that no larger unit is met by chance.
fn try_reads(file: &File, path: &Path, len: u64) -> Result<(Alignment, FoundBy)> {
    let memory = memory_to_read_into(2 * UNIT_MAX)?;
    let mut unit = BLOCK_SIZE_MIN;
    while unit <= UNIT_MAX && 2 * unit as u64 <= len {
        let words = memory.words(unit, unit);
        match sys::read_at(file, unit as u64, &sys::Pieces::of(std::iter::once(words), 0)) {
            Ok(_) => return Ok((Alignment { memory: unit, offset: unit }, FoundBy::Reads)),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => unit *= 2,
            Err(e) => return Err(Error::from_io(Op::Read, path, Some(unit as u64), &e)),
        }
    }
    if unit > UNIT_MAX {
        return Err(Filesystem::of(file, path)?.unsupported(path, "aligned reads of up to 64 KiB were refused"));
    }
    Ok((Alignment { memory: unit, offset: unit }, FoundBy::Assumed))
}

/// [`Error::Alignment`] unless transfers in multiples of `block` suit a file that needs `needs`.
pub(super) fn check_block(path: &Path, block: BlockSize, needs: Alignment) -> Result<()> {
    let wrong = |needed| Err(Error::Alignment { path: path.to_owned(), needed, block: block.bytes() });
    if !block.bytes().is_multiple_of(needs.offset.max(1)) {
        return wrong(needs.offset);
    }
    if !BLOCK_SIZE_MIN.is_multiple_of(needs.memory.max(1)) {
        return wrong(needs.memory);
    }
    Ok(())
}

/// What a trial of a directory has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trial {
    pub(super) alignment: Alignment,
    pub(super) found_by: FoundBy,
    /// Whether the kernel could be asked what its page cache holds.
    pub(super) counted: bool,
}

/// Tries direct I/O in a directory with a file that never has a name there, or has it for a moment only (2).
pub(super) fn try_directory(dir: &Path) -> Result<Trial> {
    let file = trial_file(dir)?;
    let filesystem = Filesystem::of(&file, dir)?;
    let counted = try_transfer(&file, dir, filesystem, || write_and_read_back(&file, dir))?;
    check_btrfs(&file, dir, filesystem)?;
    let (alignment, found_by) = needs_of(&file, dir)?;
    Ok(Trial { alignment, found_by, counted })
}

/// Tries direct I/O on an existing file by reading its first block, as far as it has one (2); gives whether the kernel could be
/// asked what its page cache holds. Pages that others have left there, or read meanwhile from a block device, prove nothing.
pub(super) fn try_reading(file: &File, path: &Path, block: BlockSize) -> Result<bool> {
    let filesystem = Filesystem::of(file, path)?;
    let memory = memory_to_read_into(block.bytes())?;
    let read = || {
        let pieces = sys::Pieces::of(std::iter::once(memory.words(0, block.bytes())), 0);
        sys::read_at(file, 0, &pieces).map(drop).map_err(|e| Error::from_io(Op::Read, path, Some(0), &e))
    };
    if is_device(file, path)? {
        read().map_err(|e| refused_as_unsupported(e, filesystem, path))?;
        return Ok(false);
    }
    try_transfer(file, path, filesystem, read)
}

/// Runs a transfer, and looks whether it has left pages in the page cache; gives whether that could be asked. An error if it has each of
/// several times (5).
fn try_transfer(file: &File, path: &Path, filesystem: Filesystem, transfer: impl Fn() -> Result<()>) -> Result<bool> {
    let mut attempt = 1;
    loop {
        let before = cached_pages(file, path)?;
        transfer().map_err(|e| refused_as_unsupported(e, filesystem, path))?;
        match check_not_cached(file, path, filesystem, before.unwrap_or(0)) {
            Err(Error::DirectIoUnsupported { .. }) if attempt < ATTEMPTS && filesystem.is_btrfs() => attempt += 1,
            outcome => return outcome,
        }
        // Others may have written there: only what is clean goes.
        sys::drop_clean_pages(file).map_err(|e| Error::from_io(Op::Stat, path, None, &e))?;
        sync::sleep(Duration::from_millis(1 << attempt));
    }
}

fn is_device(file: &File, path: &Path) -> Result<bool> {
    let metadata = file.metadata().map_err(|e| Error::from_io(Op::Stat, path, None, &e))?;
    Ok(metadata.file_type().is_block_device())
}

fn cached_pages(file: &File, path: &Path) -> Result<Option<u64>> {
    sys::cached_pages(file).map_err(|e| Error::from_io(Op::Stat, path, None, &e))
}

/// On btrfs, an error for a file that isn't marked no-copy-on-write (3).
pub(super) fn check_btrfs(file: &File, path: &Path, filesystem: Filesystem) -> Result<()> {
    if !filesystem.is_btrfs() || sys::attributes(file).is_some_and(|flags| flags & NO_COPY_ON_WRITE != 0) {
        return Ok(());
    }
    Err(filesystem.unsupported(path, "files here have data checksums, and btrfs writes those through the page cache"))
}

/// A new, empty file open with `O_DIRECT`: nameless where the file system has such files, else its name is removed at once.
pub(super) fn trial_file(dir: &Path) -> Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).mode(0o600);
    let nameless = how.clone().custom_flags(libc::O_TMPFILE | libc::O_DIRECT).open(dir);
    let named = || {
        let path = dir.join(format!(".ashlar-trial-{:016x}", sync::random_u64()));
        let opened = how.clone().create_new(true).custom_flags(libc::O_DIRECT).open(&path);
        // Also after a refused `O_DIRECT`, which may leave the new file behind.
        let removed = std::fs::remove_file(&path);
        opened.and_then(|file| removed.map(|()| file))
    };
    // What the second way answers is what counts: the first is refused for more reasons than one.
    nameless.or_else(|_| named()).map_err(|e| open_error(dir, Op::Create, &e))
}

/// What an `open` with `O_DIRECT` of `path` that failed means.
pub(super) fn open_error(path: &Path, op: Op, error: &io::Error) -> Error {
    if error.raw_os_error() != Some(libc::EINVAL) {
        return Error::from_io(op, path, None, error);
    }
    let around = std::iter::once(path).chain(path.parent()).find_map(|p| Some((p, File::open(p).ok()?)));
    match around.map(|(p, file)| Filesystem::of(&file, p)) {
        Some(Ok(filesystem)) => filesystem.unsupported(path, "opening a file with O_DIRECT was refused"),
        _ => Error::from_io(op, path, None, error),
    }
}

fn refused_as_unsupported(error: Error, filesystem: Filesystem, path: &Path) -> Error {
    match error {
        Error::Io { errno: Some(libc::EINVAL), .. } => filesystem.unsupported(path, "an aligned transfer was refused"),
        other => other,
    }
}

/// Memory for the reads of trials (5).
fn memory_to_read_into(len: usize) -> Result<Arc<Arena>> {
    let memory = Arena::new(len)?;
    memory.words(0, len).iter().for_each(|word| word.store(1, Relaxed));
    Ok(memory)
}

/// Writes more than the largest unit, in one transfer, and reads it again.
fn write_and_read_back(file: &File, path: &Path) -> Result<()> {
    let mut written = AlignedBuf::zeroed(2 * UNIT_MAX);
    for (i, byte) in written.iter_mut().enumerate() {
        *byte = (i % 251) as u8;
    }
    let memory = memory_to_read_into(written.len())?;
    let read = memory.words(0, written.len());
    let n = sys::write_at(file, 0, &sys::Pieces::of(std::iter::once(written.words()), 0), false)
        .map_err(|e| Error::from_io(Op::Write, path, Some(0), &e))?;
    let m = sys::read_at(file, 0, &sys::Pieces::of(std::iter::once(read), 0))
        .map_err(|e| Error::from_io(Op::Read, path, Some(0), &e))?;
    if n < written.len() || m < read.len() || read.iter().zip(written.words()).any(|(r, w)| r.load(Relaxed) != w.load(Relaxed)) {
        return Err(cut_short(path, 0, written.len() as u64, n.min(m) as u64));
    }
    Ok(())
}

/// An error where the page cache holds more pages of the file than `before` the transfer; gives whether it could be asked (4).
fn check_not_cached(file: &File, path: &Path, filesystem: Filesystem, before: u64) -> Result<bool> {
    if filesystem.is_memory() {
        return Err(filesystem.unsupported(path, "this file system is the kernel's page cache"));
    }
    match cached_pages(file, path)? {
        Some(now) if now > before => {
            let left = now - before;
            Err(filesystem.unsupported(path, format!("a direct transfer left {left} pages in the kernel's page cache")))
        }
        counted => Ok(counted.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_suits_what_it_is_a_multiple_of() {
        let check =
            |block, memory, offset| check_block(Path::new("f"), BlockSize::new(block).unwrap(), Alignment { memory, offset });
        for (block, memory, offset) in [(4096, 512, 512), (4096, 4, 4096), (65536, 4096, 16384), (4096, 0, 1)] {
            assert!(check(block, memory, offset).is_ok());
        }
        for (block, memory, offset, named) in [(4096, 512, 8192, 8192), (4096, 8192, 512, 8192), (8192, 512, 3 * 512, 1536)] {
            match check(block, memory, offset) {
                Err(Error::Alignment { needed, block: b, .. }) => assert_eq!((needed, b), (named, block)),
                other => panic!("{other:?}"),
            }
        }
    }
}
