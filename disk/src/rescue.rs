//! Reading a file of which parts can't be read: what can be is, block by block where need be.
//!
//! 1. A read never fails: what could not be read is zero in memory and named in the answer, with the reason. No byte is zero for
//!    another reason than that zeros were read, or that the answer names it.
//! 2. A transfer that fails is halved down to the unit, so a bad sector costs the blocks that hold it and no others.
//! 3. Nothing is written, and nothing is read twice that was read.

use crate::{AlignedBuf, BLOCK_SIZE_MIN, Error, File, Result};
use std::ops::Range;
use std::sync::Arc;

/// A part of a file that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    /// Which bytes of the file: whole units.
    pub bytes: Range<u64>,
    /// Why.
    pub why: String,
}

/// A file that is read as far as it can be.
#[derive(Debug)]
pub struct RescueReader {
    file: Arc<dyn File>,
    unit: usize,
    len: u64,
    tail: u64,
}

impl RescueReader {
    /// Over an open file, as long as it is now. `unit`: what it was opened with, in bytes.
    ///
    /// # Errors
    /// Its length can't be had.
    pub fn new(file: Arc<dyn File>, unit: usize) -> Result<RescueReader> {
        let unit = unit.max(BLOCK_SIZE_MIN);
        let len = file.len()?;
        let tail = len % unit as u64;
        Ok(RescueReader { file, unit, len: len - tail, tail })
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Bytes of whole units.
    pub fn whole_len(&self) -> u64 {
        self.len
    }

    /// Bytes behind the last whole unit: left when a file is cut anywhere. They are not read.
    pub fn tail_len(&self) -> u64 {
        self.tail
    }

    /// Reads the `len` bytes at `offset` into the front of `into`; both whole units, and `into` long enough. What could not be read is
    /// zero there and in the answer, in the order of the file.
    pub fn read(&self, offset: u64, len: usize, into: &mut AlignedBuf) -> Vec<Unread> {
        debug_assert!(len.is_multiple_of(self.unit) && offset.is_multiple_of(self.unit as u64) && len <= into.len());
        let mut unread = Vec::new();
        let there = self.len.saturating_sub(offset).min(len as u64) as usize;
        if there > 0 {
            self.read_part(offset, 0..there, into, &mut unread);
        }
        if there < len {
            into[there..len].fill(0);
            let why = format!("the file ends at byte {}", self.len + self.tail);
            unread.push(Unread { bytes: offset + there as u64..offset + len as u64, why });
        }
        unread
    }

    fn read_part(&self, offset: u64, part: Range<usize>, into: &mut AlignedBuf, unread: &mut Vec<Unread>) {
        let from = offset + part.start as u64;
        let words = &into.words_mut()[part.start / 8..part.end / 8];
        let Err(error) = self.file.read(from, &[words]) else { return };
        if part.len() <= self.unit {
            into[part].fill(0);
            return note(unread, from..from + self.unit as u64, &error);
        }
        let half = (part.len() / 2).next_multiple_of(self.unit);
        self.read_part(offset, part.start..part.start + half, into, unread);
        self.read_part(offset, part.start + half..part.end, into, unread);
    }
}

/// Adds a part to those that could not be read; neighbours become one.
fn note(unread: &mut Vec<Unread>, bytes: Range<u64>, error: &Error) {
    match unread.last_mut() {
        Some(last) if last.bytes.end == bytes.start => last.bytes.end = bytes.end,
        _ => unread.push(Unread { bytes, why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Sim, SimOptions};
    use crate::words::Words;
    use crate::{Access, Alignment, BlockSize, Create, Durability, Fs, IoMode, Op, OpenHow, SyncKind};
    use std::any::Any;
    use std::path::Path;

    /// A file with bad sectors.
    #[derive(Debug)]
    struct Scratched(Arc<dyn File>, Vec<u64>);

    impl File for Scratched {
        fn path(&self) -> &Path {
            self.0.path()
        }
        fn len(&self) -> Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
            let len: usize = into.iter().map(|words| size_of_val(*words)).sum();
            if self.1.iter().any(|bad| (offset..offset + len as u64).contains(bad)) {
                let source = std::io::Error::from_raw_os_error(libc::EIO);
                return Err(Error::from_io(Op::Read, self.path(), Some(offset), &source));
            }
            self.0.read(offset, into)
        }
        fn write(&self, _: u64, _: &[&Words], _: Durability) -> Result<()> {
            unreachable!("a rescue writes nothing")
        }
        fn sync(&self, _: SyncKind) -> Result<()> {
            unreachable!("a rescue writes nothing")
        }
        fn allocate(&self, _: u64, _: u64) -> Result<()> {
            unreachable!("a rescue writes nothing")
        }
        fn punch_hole(&self, _: u64, _: u64) -> Result<()> {
            unreachable!("a rescue writes nothing")
        }
        fn set_len(&self, _: u64) -> Result<()> {
            unreachable!("a rescue writes nothing")
        }
        fn alignment(&self) -> Alignment {
            self.0.alignment()
        }
        fn resident_pages(&self) -> Result<Option<u64>> {
            self.0.resident_pages()
        }
        fn drop_cache(&self) -> Result<()> {
            self.0.drop_cache()
        }
        fn as_any(&self) -> &dyn Any {
            self.0.as_any()
        }
    }

    #[test]
    fn bad_sectors_cost_their_blocks_alone() {
        let fs = Sim::new(SimOptions::new(1)).fs();
        let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: IoMode::Direct, block: BlockSize::MIN };
        let file = fs.open(Path::new("/f"), &how).unwrap();
        let mut content = AlignedBuf::zeroed(40 * 4096);
        for (i, byte) in content.iter_mut().enumerate() {
            *byte = 1 + (i / 4096) as u8;
        }
        file.write(0, &[content.words_mut()], Durability::Later).unwrap();
        let bad = vec![3 * 4096 + 512, 4 * 4096, 17 * 4096 + 4095];
        let reader = RescueReader::new(Arc::new(Scratched(file, bad)), 4096).unwrap();
        let mut into = AlignedBuf::zeroed(42 * 4096);
        into.fill(0xEE);
        let unread = reader.read(4096, 41 * 4096, &mut into);
        let found: Vec<_> = unread.iter().map(|u| u.bytes.start / 4096..u.bytes.end / 4096).collect();
        assert_eq!(found, [3..5, 17..18, 40..42]);
        assert!(unread[2].why.contains("ends at byte 163840"), "{}", unread[2].why);
        for block in 1..42 {
            let lost = found.iter().any(|range| range.contains(&block));
            let byte = if lost { 0 } else { block as u8 + 1 };
            let at = (block as usize - 1) * 4096;
            assert!(into[at..at + 4096].iter().all(|&b| b == byte), "block {block}");
        }
    }
}
