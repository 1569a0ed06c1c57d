//! The files of the log: one segment each, `NNNNNNNNNNNN.wal` in decimal, in a directory of their own.
//!
//! Invariants:
//! 1. A file that has a segment's name has a segment's length, and every byte of it was written once: it is filled with zeros under a
//!    temporary name, synced, and only then renamed. So a flush changes bytes in place and never the file's metadata.
//! 2. A segment that is not needed any more is reused under a later number. What stands in it then belongs to other positions, and
//!    each flush in it says so.
//!
//! Nothing here knows which segments are in use; `pool` does.

use crate::format::{ClaimedFlush, Unfit};
use crate::lsn::SegmentNo;
use crate::{Damage, Error, Result, WalOptions};
use ashlar_disk::{Access, AlignedBuf, BlockSize, Create, Durability, File, Fs, IoMode, OpenHow, SyncKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The end of a segment's file name.
const SUFFIX: &str = ".wal";

/// What a segment is called while it is being filled. One at a time is; what an interrupted one left is overwritten.
const UNFINISHED: &str = "next.tmp";

/// How much is written at once while a segment is filled, in bytes.
const FILL_SIZE: u64 = 1 << 20;

/// The log's directory, and how its files are opened.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    segment_size: u64,
    block: BlockSize,
    mode: IoMode,
}

impl Directory {
    /// The directory at `path`.
    pub(crate) fn new(fs: &Arc<dyn Fs>, path: &Path, options: &WalOptions) -> Directory {
        let WalOptions { segment_size, block, mode, .. } = *options;
        Directory { fs: fs.clone(), path: path.to_owned(), segment_size, block, mode }
    }

    /// Where the file of a segment is.
    pub(crate) fn path_of(&self, segment: SegmentNo) -> PathBuf {
        path_of(&self.path, segment)
    }

    /// The segments that are there, in order. A file whose number no position belongs to is none of ours.
    pub(crate) fn list(&self) -> Result<Vec<SegmentNo>> {
        let mut segments = list(&*self.fs, &self.path)?;
        segments.retain(|segment| segment.0 < u64::MAX / self.segment_size);
        Ok(segments)
    }

    /// Makes a segment of zeros and makes it durable: content, length and name.
    pub(crate) fn create(&self, segment: SegmentNo) -> Result<()> {
        self.fill_unfinished()?;
        self.name_unfinished(segment)?;
        self.sync_names()
    }

    /// Makes a segment of zeros under the temporary name; its content and length are durable. A failure leaves at most an
    /// unfinished file, and that is removed if that works.
    pub(crate) fn fill_unfinished(&self) -> Result<()> {
        let unfinished = self.path.join(UNFINISHED);
        if self.fs.exists(&unfinished)? {
            self.fs.remove(&unfinished)?;
        }
        self.fill_with_zeros(&unfinished).inspect_err(|_| {
            // The first error is the one that counts; a leftover is removed next time.
            self.fs.remove(&unfinished).ok();
        })
    }

    /// Gives the unfinished file its number. Durable after `sync_names`.
    pub(crate) fn name_unfinished(&self, segment: SegmentNo) -> Result<()> {
        Ok(self.fs.rename(&self.path.join(UNFINISHED), &self.path_of(segment))?)
    }

    fn fill_with_zeros(&self, path: &Path) -> Result<()> {
        let file = self.fs.open(path, &self.how(Access::ReadWrite, Create::New))?;
        file.allocate(0, self.segment_size)?;
        let step = FILL_SIZE.min(self.segment_size);
        let mut zeros = AlignedBuf::zeroed(step as usize);
        for offset in (0..self.segment_size).step_by(step as usize) {
            file.write(offset, &[zeros.words_mut()], Durability::Later)?;
        }
        Ok(file.sync(SyncKind::All)?)
    }

    /// Opens a segment whose length is right; anything else is damage.
    pub(crate) fn open(&self, segment: SegmentNo, access: Access) -> Result<Arc<dyn File>> {
        let path = self.path_of(segment);
        let file = match self.fs.open(&path, &self.how(access, Create::Never)) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Err(self.damaged(segment, Damage::MissingSegment)),
            Err(error) => return Err(error.into()),
        };
        let found = file.len()?;
        if found != self.segment_size {
            return Err(self.damaged(segment, Damage::SegmentLength { found, expected: self.segment_size }));
        }
        Ok(file)
    }

    /// Gives the file of a segment that isn't needed any more a later number. Durable after `sync_names`.
    pub(crate) fn reuse(&self, old: SegmentNo, new: SegmentNo) -> Result<()> {
        Ok(self.fs.rename(&self.path_of(old), &self.path_of(new))?)
    }

    /// Removes a segment. Durable after `sync_names`.
    pub(crate) fn remove(&self, segment: SegmentNo) -> Result<()> {
        Ok(self.fs.remove(&self.path_of(segment))?)
    }

    /// Makes the names durable.
    pub(crate) fn sync_names(&self) -> Result<()> {
        Ok(self.fs.sync_dir(&self.path)?)
    }

    /// Damage that concerns a whole segment.
    pub(crate) fn damaged(&self, segment: SegmentNo, damage: Damage) -> Error {
        let at = |segment: SegmentNo| crate::Lsn(segment.0.saturating_mul(self.segment_size));
        Error::Corrupted { path: self.path_of(segment), from: at(segment), to: at(segment.next()), damage }
    }

    fn how(&self, access: Access, create: Create) -> OpenHow {
        OpenHow { access, create, mode: self.mode, block: self.block }
    }
}

/// Makes everything durable that stands in the log: contents, lengths and names. First step of a recovery: what a killed
/// process wrote may still be only in the device's cache, and is about to be built upon.
///
/// # Errors
/// Of the disk; a missing directory is one.
pub fn sync_log(fs: &Arc<dyn Fs>, dir: &Path, options: &WalOptions) -> Result<()> {
    let directory = Directory::new(fs, dir, options);
    for segment in directory.list()? {
        let file = fs.open(&directory.path_of(segment), &directory.how(Access::ReadWrite, Create::Never))?;
        file.sync(SyncKind::All)?;
    }
    directory.sync_names()
}

/// Whether a valid flush of any database stands in any segment of `dir`: then the directory holds data, and is not to be taken for
/// the leftovers of a creation that was interrupted. Needs no uuid and no sizes.
///
/// # Errors
/// Of the disk.
pub fn holds_any_flush(fs: &Arc<dyn Fs>, dir: &Path, mode: IoMode, block: BlockSize) -> Result<bool> {
    for segment in list(&**fs, dir)? {
        let path = path_of(dir, segment);
        let how = OpenHow { access: Access::Read, create: Create::Never, mode, block };
        let file = fs.open(&path, &how)?;
        if file_holds_flush(&*file, block.bytes())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn file_holds_flush(file: &dyn File, block: usize) -> Result<bool> {
    let len = file.len()?;
    let mut run = AlignedBuf::zeroed(FILL_SIZE as usize);
    let mut flush = AlignedBuf::zeroed(block);
    let mut start = 0;
    loop {
        let read = read_whole_blocks(file, start, &mut run, len, block)?;
        if read == 0 {
            return Ok(false);
        }
        for offset in (0..read).step_by(block) {
            let Ok(claimed) = ClaimedFlush::read_anywhere(&run[offset..]) else { continue };
            if flush.len() < claimed.length() {
                flush = AlignedBuf::zeroed(claimed.length().next_multiple_of(block));
            }
            let there = read_whole_blocks(file, start + offset as u64, &mut flush, len, block)?;
            if claimed.verify(&flush[..there]) != Err(Unfit::Broken) {
                return Ok(true);
            }
        }
        start += read as u64;
    }
}

/// Reads the whole blocks that a file of `len` bytes has from `start` on, at most what `into` holds; gives the number of bytes.
fn read_whole_blocks(file: &dyn File, start: u64, into: &mut AlignedBuf, len: u64, block: usize) -> Result<usize> {
    let there = len.saturating_sub(start).min(into.len() as u64) as usize / block * block;
    if there > 0 {
        file.read(start, &[&into.words_mut()[..there / 8]])?;
    }
    Ok(there)
}

/// Removes every segment and unfinished segment of `dir`, durably. Other files stay.
///
/// # Errors
/// Of the disk.
pub fn remove_segments(fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
    for name in fs.list(dir)? {
        if parse(&name).is_some() || name == UNFINISHED {
            fs.remove(&dir.join(name))?;
        }
    }
    Ok(fs.sync_dir(dir)?)
}

/// Where the file of a segment is in the log's directory.
pub(crate) fn path_of(dir: &Path, segment: SegmentNo) -> PathBuf {
    dir.join(format!("{:012}{SUFFIX}", segment.0))
}

/// The segments that are there, in order.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<SegmentNo>> {
    let mut segments: Vec<_> = fs.list(dir)?.iter().filter_map(|name| parse(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The segment that a file's name stands for. Only the one way to write it counts.
fn parse(name: &str) -> Option<SegmentNo> {
    let digits = name.strip_suffix(SUFFIX)?;
    let canonical = digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let segment = digits.parse().ok().filter(|_| canonical)?;
    (digits.len() == 12 || !digits.starts_with('0')).then_some(SegmentNo(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_twelve_digits_and_nothing_else() {
        assert_eq!(parse("000000000042.wal"), Some(SegmentNo(42)));
        assert_eq!(parse("1234567890123.wal"), Some(SegmentNo(1_234_567_890_123)));
        for other in ["42.wal", "000000000042", "00000000004x.wal", "+00000000042.wal", "0000000000042.wal", "next.tmp", ".wal"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
