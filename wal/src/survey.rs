//! Reading a log that can't be trusted: every segment that is there, and in each what is whole.
//!
//! [`read_log`](crate::read_log) answers where the log ends, and refuses one that is damaged. This looks further: whatever is missing,
//! unreadable or damaged, it goes on behind it, and says where it could not.
//!
//! 1. A record comes out only if every byte of it stood in flushes that are whole, stand where they belong, are of one incarnation
//!    and follow each other: just like a record that recovery reads.
//! 2. Flushes are followed as recovery does, each at the end of the one before and of an incarnation not below its. Where the next
//!    one is not there, whatever is whole further on, of an incarnation not below the last, comes behind a [`Piece::Gap`]. Between two
//!    gaps nothing is missing.
//! 3. Nothing is judged: whether a gap is damage or the torn end of the log, and whether what lies behind it counts, is for the caller.
//!    What was left over from a torn end, and void, can be among it.
//! 4. A file that can't be opened or read is a gap, never an error; memory is bounded by the longest flush and record.

use crate::format::{ClaimedFlush, FlushHeader, HEADER_SIZE, Unfit};
use crate::lsn::SegmentNo;
use crate::record::{Assembler, LogRecord};
use crate::segment::{list, path_of};
use crate::{Lsn, Result};
use ashlar_disk::rescue::{RescueReader, Unread};
use ashlar_disk::{Access, AlignedBuf, BlockSize, Create, Fs, IoMode, OpenHow};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at once, where no longer flush asks for more.
const WINDOW_SIZE: usize = 1 << 20;

/// What must be known of a log to look through it.
#[derive(Clone, Debug)]
pub struct SurveyOptions {
    /// The length of a segment's file in bytes.
    pub segment_size: u64,
    /// The unit of writes.
    pub block: BlockSize,
    /// What marks the database's flushes: the two halves of its uuid, xored.
    pub uuid_tag: u64,
    /// Direct or buffered I/O.
    pub mode: IoMode,
    /// Where to begin; `None`: at the oldest flush there is.
    pub from: Option<Lsn>,
    /// Flushes of a lower incarnation don't count.
    pub incarnation_min: u32,
    /// Flushes of a higher one don't, either.
    pub incarnation_max: u32,
}

/// What is found, in the order of positions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// A whole record.
    Record {
        /// It.
        record: LogRecord,
        /// Which opening of the database wrote it.
        incarnation: u32,
    },
    /// The first flush of an incarnation: what lower ones had written from here on is void.
    Turn {
        /// The incarnation.
        incarnation: u32,
        /// Where the first of its flushes begins that is there.
        at: Lsn,
    },
    /// No flush that follows the one before is there; what comes next begins at `to`.
    Gap {
        /// Where the next flush should begin.
        from: Lsn,
        /// Where something whole begins again; `None`: nowhere.
        to: Option<Lsn>,
        /// What stands there instead.
        what: String,
    },
    /// A part of a segment could not be read.
    Unreadable {
        /// The segment's file.
        path: PathBuf,
        /// Which part, and why.
        part: Unread,
    },
}

/// Goes through a log; see the module. The last piece is a gap without an end.
pub struct Survey {
    files: Files,
    options: SurveyOptions,
    segments: Vec<SegmentNo>,
    view: Option<View>,
    /// Where the next flush should begin; `None` before the first.
    next: Option<Lsn>,
    /// Where to look for it.
    at: Lsn,
    incarnation: u32,
    assembler: Assembler,
    ready: VecDeque<Piece>,
    over: bool,
}

/// Where segments are and how they are opened.
struct Files {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    mode: IoMode,
}

/// One segment, and a part of it in memory.
struct View {
    segment: SegmentNo,
    path: PathBuf,
    reader: RescueReader,
    memory: AlignedBuf,
    start: u64,
    filled: u64,
}

/// Looks through the log in `dir`.
///
/// # Errors
/// The directory can't be listed.
pub fn survey(fs: &Arc<dyn Fs>, dir: &Path, options: &SurveyOptions) -> Result<Survey> {
    let block = options.block.bytes() as u64;
    let start = options.from.filter(|from| from.0.is_multiple_of(block));
    let from = start.unwrap_or_default();
    let first = SegmentNo(from.0 / options.segment_size);
    let segments: Vec<SegmentNo> = list(&**fs, dir)?.into_iter().filter(|segment| *segment >= first).collect();
    Ok(Survey {
        files: Files { fs: fs.clone(), dir: dir.to_owned(), mode: options.mode },
        segments,
        view: None,
        next: start,
        at: from,
        incarnation: options.incarnation_min,
        assembler: Assembler::new(),
        ready: VecDeque::new(),
        over: false,
        options: options.clone(),
    })
}

impl Iterator for Survey {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        while self.ready.is_empty() && !self.over {
            self.advance();
        }
        self.ready.pop_front()
    }
}

impl Survey {
    /// Takes the next flush, or looks for what comes behind a gap.
    fn advance(&mut self) {
        if let Some(next) = self.next {
            match self.flush_at(next) {
                Ok(flush) if self.counts(&flush) => return self.follow(flush),
                Ok(flush) => self.gap(next, format!("a flush of incarnation {} stands there", flush.incarnation)),
                Err(what) => self.gap(next, what),
            }
            return;
        }
        let at = self.at;
        match self.find_from(at) {
            Some(flush) => self.follow(flush),
            None => {
                let what = "no whole flush stands in any segment".into();
                self.ready.push_back(Piece::Gap { from: at, to: None, what });
                self.over = true;
            }
        }
    }

    fn counts(&self, flush: &FlushHeader) -> bool {
        (self.incarnation..=self.options.incarnation_max).contains(&flush.incarnation)
    }

    fn gap(&mut self, from: Lsn, what: String) {
        let found = self.find_from(from.plus(self.options.block.bytes() as u64));
        self.ready.push_back(Piece::Gap { from, to: found.map(|flush| flush.lsn), what });
        self.assembler = Assembler::new();
        match found {
            // It is taken next: what was read stays in memory.
            Some(flush) => self.next = Some(flush.lsn),
            None => self.over = true,
        }
    }

    fn follow(&mut self, flush: FlushHeader) {
        if flush.incarnation > self.incarnation {
            self.ready.push_back(Piece::Turn { incarnation: flush.incarnation, at: flush.lsn });
        }
        self.incarnation = flush.incarnation;
        let end = flush.end(self.options.block.bytes() as u64);
        let (ready, incarnation) = (&mut self.ready, flush.incarnation);
        let Some(view) = &self.view else { return };
        let offset = flush.lsn.0 % self.options.segment_size;
        let payload = &view.bytes(offset)[HEADER_SIZE as usize..flush.length as usize];
        let mut records = Vec::new();
        let framed = self.assembler.push(&flush, payload, |record| records.push(record.to_owned()));
        ready.extend(records.into_iter().map(|record| Piece::Record { record, incarnation }));
        if framed.is_err() {
            let what = "the flush's checksum is right, but its records don't fit together".into();
            ready.push_back(Piece::Gap { from: flush.lsn, to: Some(end), what });
            self.assembler = Assembler::new();
        }
        self.next = Some(end);
    }

    /// The first flush from `from` on that stands where it belongs and counts.
    fn find_from(&mut self, from: Lsn) -> Option<FlushHeader> {
        let (size, block) = (self.options.segment_size, self.options.block.bytes() as u64);
        for segment in self.segments.clone() {
            let (first, end) = (segment.0.saturating_mul(size), segment.next().0.saturating_mul(size));
            let mut at = first.max(from.0);
            while at < end {
                match self.flush_at(Lsn(at)) {
                    Ok(flush) if self.counts(&flush) => return Some(flush),
                    _ => at = at.saturating_add(block),
                }
                if self.view.as_ref().is_none_or(|view| view.segment != segment) {
                    break;
                }
            }
        }
        None
    }

    /// The whole flush at `lsn`, or what is there instead.
    fn flush_at(&mut self, lsn: Lsn) -> Result<FlushHeader, String> {
        let segment = SegmentNo(lsn.0 / self.options.segment_size);
        self.open(segment)?;
        let Some(view) = &mut self.view else { return Err("the segment is not open".into()) };
        let offset = lsn.0 % self.options.segment_size;
        let room = self.options.segment_size.min(view.reader.whole_len()).saturating_sub(offset);
        let block = self.options.block.bytes() as u64;
        if room < block {
            return Err("the segment's file ends before it".into());
        }
        view.cover(offset, block, room, &mut self.ready);
        let claimed = ClaimedFlush::read(view.bytes(offset), self.options.uuid_tag, lsn, room).map_err(describe)?;
        view.cover(offset, (claimed.length() as u64).next_multiple_of(block).min(room), room, &mut self.ready);
        claimed.verify(view.bytes(offset)).map_err(describe)
    }

    fn open(&mut self, segment: SegmentNo) -> Result<(), String> {
        if self.view.as_ref().is_some_and(|view| view.segment == segment) {
            return Ok(());
        }
        self.view = None;
        let path = path_of(&self.files.dir, segment);
        if self.segments.binary_search(&segment).is_err() {
            return Err(format!("the segment {} is missing", path.display()));
        }
        let reader = open(&*self.files.fs, &path, self.files.mode)?;
        self.view = Some(View { segment, path, reader, memory: AlignedBuf::zeroed(WINDOW_SIZE), start: 0, filled: 0 });
        Ok(())
    }
}

impl View {
    /// Sees to it that the `len` bytes at `offset` are in memory; `room` bytes are there from `offset` on.
    fn cover(&mut self, offset: u64, len: u64, room: u64, told: &mut VecDeque<Piece>) {
        if self.start <= offset && offset + len <= self.start + self.filled {
            return;
        }
        let wanted = len.max(room.min(WINDOW_SIZE as u64));
        if wanted > self.memory.len() as u64 {
            self.memory = AlignedBuf::zeroed(wanted as usize);
        }
        let unread = self.reader.read(offset, wanted as usize, &mut self.memory);
        told.extend(unread.into_iter().map(|part| Piece::Unreadable { path: self.path.clone(), part }));
        (self.start, self.filled) = (offset, wanted);
    }

    fn bytes(&self, offset: u64) -> &[u8] {
        &self.memory[(offset - self.start) as usize..self.filled as usize]
    }
}

fn describe(unfit: Unfit) -> String {
    match unfit {
        Unfit::Blank => "nothing was written there".into(),
        Unfit::NotAFlush => "no flush stands there".into(),
        Unfit::Foreign => "a flush of another database stands there".into(),
        Unfit::Elsewhere => "a flush of another position stands there".into(),
        Unfit::Broken => "the flush there is damaged, or was written in part".into(),
        Unfit::Version(found) => format!("a flush of log format {found} stands there, which is unknown here"),
    }
}

/// Opens a segment, whatever its length. One that direct I/O can't read in blocks of 4096 bytes, or whose first block can't be read, is
/// read through the page cache.
fn open(fs: &dyn Fs, path: &Path, mode: IoMode) -> Result<RescueReader, String> {
    let how = |mode| OpenHow { access: Access::Read, create: Create::Never, mode, block: BlockSize::MIN };
    let opened = fs.open(path, &how(mode)).or_else(|_| fs.open(path, &how(IoMode::Buffered)));
    let opened = opened.and_then(|file| RescueReader::new(file, BlockSize::MIN.bytes()));
    opened.map_err(|e| format!("the segment can't be opened: {e}"))
}

/// What a log's files tell about it, where no superblock does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogTraits {
    /// The length of most segments' files.
    pub segment_size: u64,
    /// The mark that most flushes bear.
    pub uuid_tag: u64,
}

/// Finds out from the segments in `dir` how long they are and whose; `None` where there are none, or no whole flush is in them.
///
/// # Errors
/// The directory can't be listed.
pub fn log_traits(fs: &Arc<dyn Fs>, dir: &Path, mode: IoMode) -> Result<Option<LogTraits>> {
    let (mut sizes, mut tags) = (BTreeMap::new(), BTreeMap::new());
    let mut memory = AlignedBuf::zeroed(WINDOW_SIZE);
    for segment in list(&**fs, dir)? {
        let Ok(reader) = open(&**fs, &path_of(dir, segment), mode) else { continue };
        let len = reader.whole_len();
        if len.is_power_of_two() && (64 << 10..=1 << 30).contains(&len) {
            *sizes.entry(len).or_insert(0u64) += 1;
        }
        // The flushes at a segment's front say enough: all others have the same mark.
        let front = len.min(WINDOW_SIZE as u64) as usize;
        reader.read(0, front, &mut memory);
        for offset in (0..front).step_by(BlockSize::MIN.bytes()) {
            let claimed = ClaimedFlush::read_anywhere(&memory[offset..front]);
            if claimed.and_then(|claimed| claimed.verify(&memory[offset..front])).is_ok() {
                *tags.entry(crate::format::uuid_tag_of(&memory[offset..])).or_insert(0u64) += 1;
            }
        }
    }
    let most = |counts: &BTreeMap<u64, u64>| counts.iter().max_by_key(|(_, count)| **count).map(|(value, _)| *value);
    Ok(most(&sizes).zip(most(&tags)).map(|(segment_size, uuid_tag)| LogTraits { segment_size, uuid_tag }))
}
