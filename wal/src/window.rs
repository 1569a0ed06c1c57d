//! Reading the log in windows: memory is bounded by the longest flush, not by the log.
//!
//! [`Window::flush_at`] is the only place where bytes of a file become a flush: what it gives is checked, and the payload it lends is
//! that of the flush it last gave.

use crate::ahead::Ahead;
use crate::format::{ClaimedFlush, FlushHeader, HEADER_SIZE, Unfit, uuid_tag_of};
use crate::layout::Geometry;
use crate::lsn::SegmentNo;
use crate::options::Mistake;
use crate::segment::Directory;
use crate::{Damage, Error, FORMAT_VERSION, Lsn, Result};
use ashlar_disk::{Access, AlignedBuf, File, Queue};
use std::sync::Arc;

/// How much is read at once in bytes, where no longer flush asks for more.
const WINDOW_SIZE: u64 = 1 << 20;

/// How much is read with one transfer, where others are in flight.
const PIECE_SIZE: u64 = 256 << 10;

/// A piece of one segment in memory.
pub(crate) struct Window {
    directory: Directory,
    geometry: Geometry,
    uuid_tag: u64,
    mistake: Mistake,
    file: Option<(SegmentNo, Arc<dyn File>)>,
    memory: AlignedBuf,
    /// Bytes read at once, where no longer flush asks for more.
    step: u64,
    ahead: Option<Ahead>,
    /// The position of the memory's first byte, and how many bytes of it were read.
    start: Lsn,
    filled: u64,
}

impl Window {
    /// A window on nothing yet.
    pub(crate) fn new(directory: Directory, geometry: Geometry, uuid_tag: u64, mistake: Mistake) -> Window {
        let step = WINDOW_SIZE.min(geometry.segment_size);
        let memory = AlignedBuf::zeroed(step as usize);
        Window { directory, geometry, uuid_tag, mistake, file: None, memory, step, ahead: None, start: Lsn(0), filled: 0 }
    }

    /// The same, reading no more than a block at once where no longer flush asks for more: for looking at a few places.
    pub(crate) fn by_blocks(self) -> Window {
        let step = self.geometry.block;
        Window { memory: AlignedBuf::zeroed(step as usize), step, ahead: None, ..self }
    }

    /// The same, with reads in flight for what stands behind.
    pub(crate) fn ahead_by(self, queue: Arc<dyn Queue>) -> Window {
        let piece = self.step.min(PIECE_SIZE);
        Window { memory: AlignedBuf::zeroed(piece as usize), ahead: Some(Ahead::new(queue, piece)), ..self }
    }

    /// Another on the same log, on nothing yet.
    pub(crate) fn beside(&self) -> Window {
        Window::new(self.directory.clone(), self.geometry, self.uuid_tag, self.mistake)
    }

    /// What the header at `lsn` claims, unchecked, if it is that of a flush of this database, of whichever position.
    ///
    /// # Errors
    /// Of the disk; a segment that is missing or of a wrong length.
    pub(crate) fn claimed_by_us_at(&mut self, lsn: Lsn) -> Result<Option<FlushHeader>> {
        self.cover(lsn, self.geometry.block)?;
        let bytes = self.from(lsn);
        let claimed = ClaimedFlush::read_anywhere(bytes).ok().filter(|_| uuid_tag_of(bytes) == self.uuid_tag);
        Ok(claimed.map(|claimed| claimed.header()))
    }

    /// The flush that begins at `lsn`, a multiple of the block, checked; or why there is none.
    ///
    /// # Errors
    /// Of the disk; a segment that is missing or of a wrong length; a flush of an unknown format version.
    pub(crate) fn flush_at(&mut self, lsn: Lsn) -> Result<Result<FlushHeader, Unfit>> {
        let room = self.geometry.left_in_segment(lsn);
        self.cover(lsn, self.geometry.block)?;
        let claimed = match ClaimedFlush::read(self.from(lsn), self.uuid_tag, lsn, room) {
            Ok(claimed) => claimed,
            Err(unfit) => return Ok(Err(unfit)),
        };
        self.cover(lsn, (claimed.length() as u64).next_multiple_of(self.geometry.block))?;
        let unverified = claimed.header();
        match claimed.verify(self.from(lsn)) {
            Err(Unfit::Broken) if self.mistake == Mistake::TornIsWhole => Ok(Ok(unverified)),
            Err(Unfit::Version(found)) => {
                let path = self.directory.path_of(self.geometry.segment_of(lsn));
                Err(Error::UnknownVersion { path, lsn, found, known: FORMAT_VERSION })
            }
            verdict => Ok(verdict),
        }
    }

    /// The whole flush that stands at `lsn`, of whichever database and position; `None` where there is none that this version knows.
    ///
    /// # Errors
    /// Of the disk; a segment that is missing or of a wrong length.
    pub(crate) fn stray_at(&mut self, lsn: Lsn) -> Result<Option<FlushHeader>> {
        self.cover(lsn, self.geometry.block)?;
        let Ok(claimed) = ClaimedFlush::read_anywhere(self.from(lsn)) else { return Ok(None) };
        let len = (claimed.length() as u64).next_multiple_of(self.geometry.block);
        if len > self.geometry.left_in_segment(lsn) {
            return Ok(None);
        }
        self.cover(lsn, len)?;
        Ok(claimed.verify(self.from(lsn)).ok())
    }

    /// The pieces of records in the flush that `flush_at` gave last.
    pub(crate) fn payload(&self, flush: &FlushHeader) -> &[u8] {
        &self.from(flush.lsn)[HEADER_SIZE as usize..flush.length as usize]
    }

    /// The error for damage from `from` to `to`.
    pub(crate) fn damaged(&self, from: Lsn, to: Lsn, damage: Damage) -> Error {
        Error::Corrupted { path: self.directory.path_of(self.geometry.segment_of(from)), from, to, damage }
    }

    /// The log's sizes.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The log's files.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    fn from(&self, lsn: Lsn) -> &[u8] {
        &self.memory[lsn.since(self.start) as usize..self.filled as usize]
    }

    /// Sees to it that the `len` bytes at `lsn`, all in one segment, are in memory.
    fn cover(&mut self, lsn: Lsn, len: u64) -> Result<()> {
        if self.start <= lsn && lsn.plus(len) <= self.start.plus(self.filled) {
            return Ok(());
        }
        if self.ahead.is_some() {
            return self.cover_ahead(lsn, len);
        }
        let wanted = len.max(self.step.min(self.geometry.left_in_segment(lsn)));
        if wanted > self.memory.len() as u64 {
            self.memory = AlignedBuf::zeroed(wanted as usize);
        }
        self.filled = 0;
        let file = self.file_of(self.geometry.segment_of(lsn))?;
        let words = &self.memory.words_mut()[..wanted as usize / 8];
        file.read(self.geometry.offset_of(lsn), &[words])?;
        (self.start, self.filled) = (lsn, wanted);
        Ok(())
    }

    /// The same, from what was read ahead: what is in memory from `lsn` on stays, the rest is joined to it piece by piece.
    fn cover_ahead(&mut self, lsn: Lsn, len: u64) -> Result<()> {
        let segment = self.geometry.segment_of(lsn);
        let kept = match self.start <= lsn && lsn < self.start.plus(self.filled) {
            true if self.geometry.segment_of(self.start) == segment => {
                let from = lsn.since(self.start) as usize;
                self.memory.copy_within(from..self.filled as usize, 0);
                self.filled - from as u64
            }
            _ => 0,
        };
        (self.start, self.filled) = (lsn, kept);
        let file = self.file_of(segment)?;
        let end = self.geometry.start_of(segment.next());
        while self.filled < len {
            let Some(ahead) = &mut self.ahead else { return Ok(()) };
            let next = self.start.plus(self.filled);
            let wanted = self.filled + ahead.piece_len(next, end);
            if wanted > self.memory.len() as u64 {
                let mut longer = AlignedBuf::zeroed(wanted.next_power_of_two() as usize);
                longer[..self.filled as usize].copy_from_slice(&self.memory[..self.filled as usize]);
                self.memory = longer;
            }
            let into = &mut self.memory[self.filled as usize..wanted as usize];
            ahead.read(&file, &self.geometry, next, end, into)?;
            self.filled = wanted;
        }
        Ok(())
    }

    fn file_of(&mut self, segment: SegmentNo) -> Result<Arc<dyn File>> {
        match &self.file {
            Some((open, file)) if *open == segment => Ok(file.clone()),
            _ => {
                let file = self.directory.open(segment, Access::Read)?;
                self.file = Some((segment, file.clone()));
                Ok(file)
            }
        }
    }
}
