//! Reading the log back: its flushes, its records, and its end.
//!
//! [`read_log`] goes through the log once, checks everything, and finds the end; nothing is kept but a few numbers. Whoever wants the records
//! gets them on the way ([`Source::read`]), or reads them again, as often as wanted: memory is bounded by the longest flush and record, not
//! by the log.

use crate::format::FlushHeader;
use crate::options::Mistake;
use crate::record::{Assembler, BadFraming, LentRecord, LogRecord};
use crate::segment::Directory;
use crate::tail::{LogEnd, Step, check_empty, check_gap, classify};
use crate::window::Window;
use crate::{Damage, Error, Lsn, Result, WalOptions};
use ashlar_disk::{Fs, Queue};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the superblock says about the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogStart {
    /// Where replay starts: a flush begins there, or will.
    pub c: Lsn,
    /// The incarnation at C: the first flush's is not below it.
    pub incarnation_at_c: u32,
    /// The newest incarnation: no flush's is above it.
    pub newest_incarnation: u32,
    /// Up to where the log is known to have been durable: the LSN of the checkpoint's last commit. Zero if nothing is known.
    pub durable: Lsn,
}

/// Where the log ends, and what appending needs to know about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogTail {
    /// Where it was read from.
    pub start: LogStart,
    /// Where the next flush begins.
    pub end: Lsn,
    /// Why it ends there.
    pub why: LogEnd,
    /// The incarnation of its last flush, or the one at C if there is none.
    pub last_incarnation: u32,
    /// How many flushes there are from C on.
    pub flushes: u64,
    /// How many records begin and end in them.
    pub records: u64,
    /// The LSN of the last of these.
    pub last_record: Option<Lsn>,
    /// Where the last flush that carries records ends; zero if there is none.
    pub records_end: Lsn,
    /// Up to where a flush, or the superblock, says that the log was durable.
    pub vouched: Lsn,
}

impl LogTail {
    /// That of a log without any flush from C on.
    fn none(start: &LogStart) -> LogTail {
        LogTail {
            start: *start,
            end: start.c,
            why: LogEnd::Unwritten,
            last_incarnation: start.incarnation_at_c,
            flushes: 0,
            records: 0,
            last_record: None,
            records_end: Lsn(0),
            vouched: start.durable,
        }
    }
}

fn check_aligned(window: &Window, start: &LogStart) -> Result<()> {
    match start.c.0.is_multiple_of(window.geometry().block) {
        true => Ok(()),
        false => Err(window.damaged(start.c, start.c, Damage::Misaligned)),
    }
}

/// A log that was read and found good.
#[derive(Clone, Debug)]
pub struct LogScan {
    source: Source,
    tail: LogTail,
}

/// What is met on the way to the log's end.
#[derive(Debug)]
pub enum Met<'a> {
    /// The next record.
    Record(LentRecord<'a>),
    /// No record follows. Whether there should be one is looked into next: what may have been written behind is searched for a flush that
    /// says so.
    NoFurther,
}

/// Where a log is read from.
#[derive(Clone, Debug)]
pub struct Source {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: WalOptions,
    queue: Option<Arc<dyn Queue>>,
}

impl Source {
    /// The log in `dir`.
    pub fn new(fs: &Arc<dyn Fs>, dir: &Path, options: &WalOptions) -> Source {
        Source { fs: fs.clone(), dir: dir.to_owned(), options: options.clone(), queue: None }
    }

    /// With this queue of the same file system, by which it is read ahead.
    pub fn ahead_by(self, queue: Arc<dyn Queue>) -> Source {
        Source { queue: Some(queue), ..self }
    }

    /// Reads the log as [`read_log`] does, and hands each record over as it is met. None of them counts before this has returned without an
    /// error: the end is not known before.
    ///
    /// # Errors
    /// As [`read_log`].
    pub fn read(self, start: &LogStart, met: impl FnMut(Met<'_>)) -> Result<LogScan> {
        read(self, start, Lsn(u64::MAX), met)
    }

    fn window(&self) -> Result<Window> {
        let geometry = self.options.geometry()?;
        let directory = Directory::new(&self.fs, &self.dir, &self.options);
        let window = Window::new(directory, geometry, self.options.uuid_tag(), self.options.mistake());
        Ok(match &self.queue {
            Some(queue) => window.ahead_by(queue.clone()),
            None => window,
        })
    }
}

/// Reads the log from `start.c` on, checks all of it, and finds its end. Writes and syncs nothing: recovery calls
/// [`sync_log`](crate::sync_log) before.
///
/// # Errors
/// `Corrupted` where a part that was once confirmed is damaged or gone (see `tail` for how that is told from a torn end), or a needed
/// segment is missing; `UnknownVersion`; and an error of the disk as it is: what can't be read is not taken for the end.
pub fn read_log(fs: &Arc<dyn Fs>, dir: &Path, options: &WalOptions, start: &LogStart) -> Result<LogScan> {
    read(Source::new(fs, dir, options), start, Lsn(u64::MAX), |_| ())
}

/// Reads a log that is being appended to, from `start.c` as far as it is durable: up to `until`, which [`Wal::durable`] has said.
/// What is written behind that meanwhile is not looked at.
///
/// # Errors
/// As [`read_log`]; any gap before `until` is damage.
///
/// [`Wal::durable`]: crate::Wal::durable
pub fn read_log_until(fs: &Arc<dyn Fs>, dir: &Path, options: &WalOptions, start: &LogStart, until: Lsn) -> Result<LogScan> {
    read(Source::new(fs, dir, options), &LogStart { durable: start.durable.max(until), ..*start }, until, |_| ())
}

/// The log of which the superblock says that it was closed with nothing from `start.c` on: it ends there, and is not read. That nothing
/// follows there is looked at in a few blocks.
///
/// # Errors
/// `Corrupted` where something does, or a segment that appending needs is missing; an error of the disk as it is.
pub fn read_closed_log(fs: &Arc<dyn Fs>, dir: &Path, options: &WalOptions, start: &LogStart) -> Result<LogScan> {
    let source = Source::new(fs, dir, options);
    let mut window = source.window()?.by_blocks();
    check_aligned(&window, start)?;
    let why = check_empty(&mut window, start.c, start.incarnation_at_c, start.newest_incarnation)?;
    Ok(LogScan { source, tail: LogTail { why, ..LogTail::none(start) } })
}

fn read(source: Source, start: &LogStart, until: Lsn, mut met: impl FnMut(Met<'_>)) -> Result<LogScan> {
    let mut follow = Follow::new(&source, start)?;
    let mut assembler = Assembler::making(source.options.mistake());
    let mut tail = LogTail::none(start);
    while follow.next < until {
        let flush = match follow.step()? {
            Ok(flush) => flush,
            Err(why) => {
                met(Met::NoFurther);
                follow.at_gap(why)?;
                break;
            }
        };
        tail.flushes += 1;
        tail.last_incarnation = flush.incarnation;
        tail.end = follow.next;
        tail.vouched = tail.vouched.max(flush.durable);
        if !follow.payload(&flush).is_empty() {
            tail.records_end = tail.end;
        }
        follow.assemble(&mut assembler, &flush, |record| {
            tail.records += 1;
            tail.last_record = Some(record.lsn);
            met(Met::Record(record));
        })?;
    }
    tail.why = follow.ended.unwrap_or(LogEnd::Unwritten);
    Ok(LogScan { source, tail })
}

impl LogScan {
    /// Where the log ends, for [`Wal::open`](crate::Wal::open).
    pub fn tail(&self) -> &LogTail {
        &self.tail
    }

    /// The records from C on, oldest first, read from the disk as they are asked for. Records that begin before C are not among them;
    /// some that end at or before the checkpoint's last commit may be. Can be called again and gives the same, as long as nothing
    /// was recycled.
    ///
    /// # Errors
    /// Options that can't work.
    pub fn records(&self) -> Result<Records> {
        let follow = self.follow_from(self.tail.start.c)?;
        let assembler = Assembler::making(follow.mistake);
        Ok(Records { follow, assembler, ready: VecDeque::new(), over: false })
    }

    /// Hands over the records that begin in the flush at `from` and behind it, oldest first, where they are read, until `each` gives an error.
    /// `from` is C, or where a record's flush begins. Can be called again, as [`records`](LogScan::records).
    ///
    /// # Errors
    /// Of reading, as the outer one; that of `each`, as the inner one.
    pub fn each_record<E>(
        &self,
        from: Lsn,
        mut each: impl FnMut(LentRecord<'_>) -> std::result::Result<(), E>,
    ) -> Result<std::result::Result<(), E>> {
        let mut follow = self.follow_from(from)?;
        let mut assembler = Assembler::making(follow.mistake);
        let mut outcome = Ok(());
        while let Some(flush) = follow.next_flush()? {
            follow.assemble(&mut assembler, &flush, |record| {
                if outcome.is_ok() {
                    outcome = each(record);
                }
            })?;
            if outcome.is_err() {
                break;
            }
        }
        Ok(outcome)
    }

    /// From the flush at `from` to the end that was found.
    fn follow_from(&self, from: Lsn) -> Result<Follow> {
        let mut follow = Follow::new(&self.source, &LogStart { c: from, ..self.tail.start })?;
        follow.end = Some(self.tail.end);
        Ok(follow)
    }
}

/// Reads records; see [`LogScan::records`]. After an error it ends.
pub struct Records {
    follow: Follow,
    assembler: Assembler,
    ready: VecDeque<LogRecord>,
    over: bool,
}

impl Records {
    /// The next record, if there is one.
    ///
    /// # Errors
    /// Of the disk, or `Corrupted` if the log changed since it was first read: never a silent end.
    pub fn next_record(&mut self) -> Result<Option<LogRecord>> {
        while self.ready.is_empty() && !self.over {
            match self.follow.next_flush() {
                Ok(Some(flush)) => {
                    let ready = &mut self.ready;
                    let whole = self.follow.assemble(&mut self.assembler, &flush, |record| ready.push_back(record.to_owned()));
                    whole.inspect_err(|_| self.over = true)?;
                }
                Ok(None) => self.over = true,
                Err(error) => {
                    self.over = true;
                    return Err(error);
                }
            }
        }
        Ok(self.ready.pop_front())
    }
}

impl Iterator for Records {
    type Item = Result<LogRecord>;

    fn next(&mut self) -> Option<Result<LogRecord>> {
        self.next_record().transpose()
    }
}

/// Goes from flush to flush.
pub(crate) struct Follow {
    pub(crate) window: Window,
    start: LogStart,
    /// Where the next flush begins.
    pub(crate) next: Lsn,
    last_incarnation: u32,
    /// Where the log is known to end, when it was read before.
    end: Option<Lsn>,
    /// Why it ends, when that was found out.
    pub(crate) ended: Option<LogEnd>,
    /// A deliberate mistake; see `WalOptions`.
    mistake: Mistake,
}

impl Follow {
    pub(crate) fn new(source: &Source, start: &LogStart) -> Result<Follow> {
        let window = source.window()?;
        check_aligned(&window, start)?;
        Ok(Follow {
            window,
            start: *start,
            next: start.c,
            last_incarnation: start.incarnation_at_c,
            end: None,
            ended: None,
            mistake: source.options.mistake(),
        })
    }

    /// The next flush, or none where the log ends.
    pub(crate) fn next_flush(&mut self) -> Result<Option<FlushHeader>> {
        if self.ended.is_some() || self.end == Some(self.next) {
            return Ok(None);
        }
        match self.step()? {
            Ok(flush) => Ok(Some(flush)),
            Err(why) => self.at_gap(why).map(|()| None),
        }
    }

    /// The next flush; or, as the inner error, why there is none.
    fn step(&mut self) -> Result<std::result::Result<FlushHeader, LogEnd>> {
        let found = self.window.flush_at(self.next)?;
        let last_incarnation = if self.mistake == Mistake::AnyIncarnation { 0 } else { self.last_incarnation };
        match classify(found, last_incarnation, self.start.newest_incarnation) {
            Step::Follow(flush) => {
                self.next = flush.end(self.window.geometry().block);
                self.last_incarnation = flush.incarnation;
                Ok(Ok(flush))
            }
            Step::Damaged(damage) => Err(self.window.damaged(self.next, self.next, damage)),
            Step::Gap(why) => Ok(Err(why)),
        }
    }

    /// No flush follows: whether the log ends here.
    fn at_gap(&mut self, why: LogEnd) -> Result<()> {
        if let Some(end) = self.end {
            return Err(self.window.damaged(self.next, end, Damage::Changed));
        }
        match check_gap(&mut self.window, self.next, &self.start) {
            Err(Error::Corrupted { .. }) if self.mistake == Mistake::Truncates => {}
            outcome => outcome?,
        }
        self.ended = Some(why);
        Ok(())
    }

    fn payload(&self, flush: &FlushHeader) -> &[u8] {
        self.window.payload(flush)
    }

    fn assemble(&self, assembler: &mut Assembler, flush: &FlushHeader, out: impl FnMut(LentRecord<'_>)) -> Result<()> {
        let whole = assembler.push(flush, self.window.payload(flush), out);
        whole.map_err(|BadFraming| self.window.damaged(flush.lsn, self.next, Damage::Framing))
    }
}
