//! The log as its users see it: append, flush, reserve, cut, witness, recycle.
//!
//! Locks, none of which is taken while another one is held, except that files are worked on under the pool's:
//! - the queue's: a few dozen instructions for each record; never held over I/O or a wait other than for room;
//! - the group's: who writes, who waits;
//! - the pool's: which segments there are; held while a segment is made, reused or removed.

use crate::format::BODY_SIZE_MAX;
use crate::group::{Group, Turn};
use crate::image::Body;
use crate::layout::{Geometry, Layout, Place};
use crate::lsn::SegmentNo;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::reader::LogTail;
use crate::room::{Budget, Pressure, Room};
use crate::segment::Directory;
use crate::stats::{Counters, WalStats};
use crate::writer::Writer;
use crate::{Error, Lsn, Result, WalOptions};
use ashlar_disk::Fs;
use ashlar_disk::sync::{Condvar, Mutex};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a record was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Its first byte.
    pub start: Lsn,
    /// Its LSN: the position after its last byte. Durable when [`Wal::durable`] is at or past it.
    pub lsn: Lsn,
    /// The flush that its first byte is in: where replay must start to see this record.
    pub flush_start: Lsn,
}

/// A log that is open for writing. One at a time for a directory: the caller holds the database's lock.
pub struct Wal {
    core: Arc<Core>,
}

/// What a log and the room given out in it share.
pub(crate) struct Core {
    geometry: Geometry,
    queue: Mutex<Queue>,
    room_freed: Condvar,
    appended: AtomicU64,
    group: Group,
    pool: Pool,
    counters: Arc<Counters>,
}

/// The smallest limit of the log, in blocks: below it not even small records would be taken.
const LIMIT_BLOCKS_MIN: u64 = 16;

impl Wal {
    /// Makes the first segment of a new log, full of zeros and durable, in `dir`, which is there. The log begins at LSN 0.
    ///
    /// # Errors
    /// Of the disk, or options that can't work.
    pub fn create_first_segment(fs: &Arc<dyn Fs>, dir: &Path, options: &WalOptions) -> Result<()> {
        options.geometry()?;
        Directory::new(fs, dir, options).create(SegmentNo(0))
    }

    /// Opens a log for appending at the end that [`read_log`](crate::read_log) found. `incarnation` stands in the superblock,
    /// durably, and is above all that stand in the log. Nothing is written before the first flush.
    ///
    /// # Errors
    /// Of the disk; a segment that must be there is missing; options that can't work; an incarnation that was used before.
    pub fn open(fs: &Arc<dyn Fs>, dir: &Path, options: WalOptions, tail: &LogTail, incarnation: u32) -> Result<Wal> {
        let geometry = options.geometry()?;
        let used = tail.flushes > 0 && incarnation == tail.last_incarnation;
        if used || incarnation < tail.last_incarnation {
            return Err(Error::Incarnation { given: incarnation, last: tail.last_incarnation });
        }
        let counters = Arc::new(Counters::default());
        let directory = Directory::new(fs, dir, &options);
        let pool = Pool::open(directory, &geometry, tail.start.c, tail.end, counters.clone())?;
        let writer = Writer::new(geometry, options.uuid_tag(), incarnation, tail.vouched, tail.records_end);
        let limit = options.log_limit.max(LIMIT_BLOCKS_MIN * geometry.block);
        let appended = tail.last_record.unwrap_or(tail.start.c);
        let queue = Queue::new(Layout::new(geometry, tail.end), Budget::new(tail.start.c, limit));
        tracing::debug!(end = tail.end.0, incarnation, why = ?tail.why, "log opened");
        let core = Core {
            geometry,
            queue: Mutex::new(queue),
            room_freed: Condvar::new(),
            appended: AtomicU64::new(appended.0),
            group: Group::new(writer, tail.end),
            pool,
            counters,
        };
        Ok(Wal { core: Arc::new(core) })
    }

    /// Appends a record in memory: gives it its position. Never waits and never fails; it becomes durable with
    /// [`flush_to`](Wal::flush_to). The order of calls is the order of the log.
    ///
    /// # Panics
    /// With a body longer than 1 GiB; [`reserve`](Wal::reserve) refuses those.
    pub fn append(&self, body: impl Into<Body>) -> Appended {
        self.core.append(body.into(), 0)
    }

    /// As [`append`](Wal::append), in room that was reserved for at least this size.
    ///
    /// # Panics
    /// With room that is too small, or that was reserved in another log.
    pub fn append_with(&self, room: Room, body: impl Into<Body>) -> Appended {
        let body = body.into();
        let needed = self.core.geometry.room_for(body.bytes().len() as u64);
        assert!(room.bytes() >= needed && room.is_of(&self.core), "a record is appended in room that was reserved for it");
        let appended = self.core.append(body, room.bytes());
        room.used_up();
        appended
    }

    /// Reserves room for a record with a body of `size` bytes, and sees to it that the segments it may need are there, so that
    /// its flush can't fail for space. Waits, behind others who wait, while the log is full: only a checkpoint and
    /// [`recycle_below`](Wal::recycle_below) end that, and [`pressure`](Wal::pressure) tells that somebody waits.
    ///
    /// # Errors
    /// `RecordTooLarge`; no space, which leaves the log as it was; the error that ended writing; the reason given to
    /// [`refuse_room`](Wal::refuse_room).
    pub fn reserve(&self, size: u64) -> Result<Room> {
        let cost = self.core.geometry.room_for(size.min(BODY_SIZE_MAX));
        let end = self.core.wait_for_room(size, cost)?;
        self.room(cost, end)
    }

    /// As [`reserve`](Wal::reserve), but where it would wait it gives none: the caller starts a checkpoint first.
    ///
    /// # Errors
    /// As `reserve`.
    pub fn try_reserve(&self, size: u64) -> Result<Option<Room>> {
        let cost = self.core.geometry.room_for(size.min(BODY_SIZE_MAX));
        let end = self.core.look_for_room(size, cost)?;
        end.map(|end| self.room(cost, end)).transpose()
    }

    fn room(&self, cost: u64, reserved_end: Lsn) -> Result<Room> {
        let room = Room::new(self.core.clone(), cost);
        // The byte before the end is the last one that may be written; the segment after it must be there as well.
        let last = self.core.geometry.segment_of(Lsn(reserved_end.0 - 1));
        self.core.pool.ensure(last.next())?;
        Ok(room)
    }

    /// Returns when the log is durable up to `lsn`, or up to its end if that comes first. The caller writes itself, all that is
    /// pending, if nobody does; else it waits for who does.
    ///
    /// # Errors
    /// The first error of a write or sync, for ever: what was not durable by then may or may not be there after reopening.
    pub fn flush_to(&self, lsn: Lsn) -> Result<()> {
        self.core.flush_to(lsn.min(self.appended()))
    }

    /// Up to where the log is durable. Cheap, takes no lock.
    pub fn durable(&self) -> Lsn {
        self.core.group.durable()
    }

    /// The end of the last record appended; after an open, of the last that was found, or where replay started if none was.
    /// Cheap, takes no lock.
    pub fn appended(&self) -> Lsn {
        Lsn(self.core.appended.load(Ordering::Acquire))
    }

    /// Where replay has to start when everything appended so far is in the checkpoint: the start of the next record's flush. The
    /// open flush is closed if it holds anything, in memory.
    pub fn cut_point(&self) -> Lsn {
        self.core.queue.lock().cut()
    }

    /// Writes one empty flush that vouches for the last one with records, if nothing is pending or being written and no flush vouches
    /// for it yet. Until then damage to that one can't be told from a torn tail. Tells whether it wrote. Called a few milliseconds
    /// after the last commit. Needs no room; where the disk is full it doesn't write.
    ///
    /// # Errors
    /// As [`flush_to`](Wal::flush_to).
    pub fn witness(&self) -> Result<bool> {
        let Some(mut turn) = self.core.group.try_lead()? else { return Ok(false) };
        if !turn.writer().needs_witness() {
            turn.give_back();
            return Ok(false);
        }
        match self.core.take_witness(&mut turn) {
            Ok(Some(end)) => self.core.write(turn, end).map(|()| true),
            Ok(None) => {
                turn.give_back();
                Ok(false)
            }
            Err(error) => Err(self.core.fail(turn, error)),
        }
    }

    /// Makes the next segment in the background, before a commit has to wait for it: from the middle of a segment on, the second one after
    /// it. Does nothing, at the cost of a comparison, when that is there.
    ///
    /// # Errors
    /// Of the disk. No space leaves everything as it was.
    pub fn prepare_segments(&self) -> Result<()> {
        self.core.pool.ensure(self.core.segment_wanted())
    }

    /// Whether [`prepare_segments`](Wal::prepare_segments) has something to do.
    pub fn segment_due(&self) -> bool {
        self.core.pool.ready_end() <= self.core.segment_wanted()
    }

    /// Replay starts at `c` from now on: a superblock that says so is durable, and its mirror. Gives room to those who wait, and the
    /// segments below `c` new numbers; removes those that half the log's limit doesn't need. Waits for what is being written below
    /// `c` (a witness may be, when all records below it are durable).
    ///
    /// # Errors
    /// Of the disk; the error that ended writing.
    ///
    /// # Panics
    /// With a position beyond the log's end.
    pub fn recycle_below(&self, c: Lsn) -> Result<()> {
        assert!(c <= self.core.queue.lock().end(), "replay starts within the log");
        self.core.flush_to(c)?;
        let mut queue = self.core.queue.lock();
        queue.budget.recycle(c);
        let (end, limit) = (queue.end(), queue.budget.limit());
        drop(queue);
        self.core.room_freed.notify_all();
        let geometry = &self.core.geometry;
        let spare = limit / 2 / geometry.segment_size;
        let ready_wanted = SegmentNo(geometry.segment_of(end).0 + 2 + spare);
        self.core.pool.recycle(geometry.segment_of(c), ready_wanted)
    }

    /// Gives no room from now on: whoever waits for some or asks gets `reason`. For when no checkpoint can make room any more; what
    /// was appended, or has room already, is written all the same.
    pub fn refuse_room(&self, reason: Error) {
        self.core.queue.lock().refuse_room(reason);
        self.core.room_freed.notify_all();
    }

    /// How full the log is, and whether somebody waits for room.
    pub fn pressure(&self) -> Pressure {
        let queue = self.core.queue.lock();
        queue.budget.pressure(queue.end())
    }

    /// Sets the log's limit in bytes, at least 16 blocks.
    pub fn set_log_limit(&self, limit: u64) {
        let limit = limit.max(LIMIT_BLOCKS_MIN * self.core.geometry.block);
        self.core.queue.lock().budget.set_limit(limit);
        self.core.room_freed.notify_all();
    }

    /// The longest body that [`reserve`](Wal::reserve) takes, in bytes: a quarter of the log's limit, headers and padding at their
    /// worst taken off.
    pub fn record_size_max(&self) -> u64 {
        let limit = self.core.queue.lock().budget.limit();
        self.core.body_max(limit)
    }

    /// Makes all that was appended durable, and vouches for it.
    ///
    /// # Errors
    /// As [`flush_to`](Wal::flush_to).
    pub fn close(&self) -> Result<()> {
        self.flush_to(self.appended())?;
        self.witness().map(|_| ())
    }

    /// Ends writing for good, if the log is at rest and ends at `c`: nothing is pending or being written, and all is durable. Tells whether it
    /// was so; if not, nothing has changed. From then on no byte is written at `c` or beyond, whoever tries.
    ///
    /// # Errors
    /// The error that ended writing before.
    pub fn seal(&self, c: Lsn) -> Result<bool> {
        // With the turn nobody else writes.
        let Some(turn) = self.core.group.try_lead()? else { return Ok(false) };
        let mut queue = self.core.queue.lock();
        let at_rest = queue.is_idle() && queue.end() == c;
        if at_rest {
            queue.fail(Error::Sealed);
        }
        drop(queue);
        if at_rest {
            turn.fail(Error::Sealed);
            self.core.room_freed.notify_all();
        } else {
            turn.give_back();
        }
        Ok(at_rest)
    }

    /// Counters.
    pub fn stats(&self) -> WalStats {
        let pressure = self.pressure();
        let (appended, durable) = (self.appended(), self.durable());
        WalStats { appended, durable, used: pressure.used, limit: pressure.limit, ..self.core.counters.stats() }
    }
}

impl Core {
    fn append(&self, body: Body, released: u64) -> Appended {
        assert!(body.bytes().len() as u64 <= BODY_SIZE_MAX, "a record is at most 1 GiB long");
        let mut queue = self.queue.lock();
        let Place { start, end, flush_start } = queue.append(body);
        // Release pairs with the acquire in `appended`; the lock keeps it rising.
        self.appended.store(end.0, Ordering::Release);
        let waiting = released > 0 && queue.budget.release(released);
        drop(queue);
        if waiting {
            self.room_freed.notify_all();
        }
        Appended { start, lsn: end, flush_start }
    }

    /// Gives reserved room back.
    pub(crate) fn release(&self, cost: u64) {
        let waiting = self.queue.lock().budget.release(cost);
        if waiting {
            self.room_freed.notify_all();
        }
    }

    /// Reserves without waiting; gives the position that all reserved room ends at, at worst.
    fn look_for_room(&self, size: u64, cost: u64) -> Result<Option<Lsn>> {
        let mut queue = self.queue.lock();
        self.check_room(&queue, size)?;
        let end = queue.end();
        Ok(queue.budget.try_reserve(end, cost).then(|| end.plus(queue.budget.reserved())))
    }

    /// Reserves, waiting in line if need be; gives the position that all reserved room ends at, at worst.
    fn wait_for_room(&self, size: u64, cost: u64) -> Result<Lsn> {
        if let Some(end) = self.look_for_room(size, cost)? {
            return Ok(end);
        }
        Counters::add(&self.counters.room_waits, 1);
        let mut queue = self.queue.lock();
        let ticket = queue.budget.join();
        let outcome = loop {
            if let Err(error) = self.check_room(&queue, size) {
                queue.budget.leave(ticket);
                break Err(error);
            }
            let end = queue.end();
            if queue.budget.try_reserve_in_line(ticket, end, cost) {
                break Ok(end.plus(queue.budget.reserved()));
            }
            self.room_freed.wait(&mut queue);
        };
        drop(queue);
        // Whoever is first in the line now may fit as well.
        self.room_freed.notify_all();
        outcome
    }

    /// Whether a record of this size could ever get room.
    fn check_room(&self, queue: &Queue, size: u64) -> Result<()> {
        queue.check_room()?;
        let max = self.body_max(queue.budget.limit());
        if size > max { Err(Error::RecordTooLarge { size, max }) } else { Ok(()) }
    }

    fn body_max(&self, limit: u64) -> u64 {
        self.geometry.body_max(limit / 4).min(BODY_SIZE_MAX)
    }

    /// Returns when the log is durable up to `lsn`, which is not beyond its end.
    fn flush_to(&self, lsn: Lsn) -> Result<()> {
        while let Some(turn) = self.group.wait_or_lead(lsn)? {
            self.lead(turn)?;
        }
        Ok(())
    }

    /// Writes all that is pending.
    fn lead(&self, mut turn: Turn<'_>) -> Result<()> {
        let end = self.queue.lock().take(&mut turn.writer().batch);
        self.write(turn, end)
    }

    /// Takes an empty flush as the batch if nothing is pending and the disk has space for it.
    fn take_witness(&self, turn: &mut Turn<'_>) -> Result<Option<Lsn>> {
        // Before the flush has a place: a superblock may name the position behind it at once.
        let segment = self.geometry.segment_of(self.queue.lock().end());
        match self.pool.ensure(segment.next()) {
            Ok(()) => Ok(self.queue.lock().take_empty_flush(&mut turn.writer().batch)),
            Err(Error::Disk(error)) if error.is_no_space() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the turn's batch, which goes up to `end`. An error is final: for whoever flushes, and for whoever reserves.
    fn write(&self, mut turn: Turn<'_>, end: Lsn) -> Result<()> {
        turn.begin(end);
        let unwinding = FailQueueOnUnwind(self);
        let written = turn.writer().write(&self.pool, &self.counters, |end| self.group.confirm(end));
        drop(unwinding);
        match written {
            Ok(()) => {
                turn.give_back();
                Ok(())
            }
            Err(error) => Err(self.fail(turn, error)),
        }
    }

    /// Ends writing for good.
    fn fail(&self, turn: Turn<'_>, error: Error) -> Error {
        tracing::error!(%error, "the log can't be written any more");
        turn.fail(error.clone());
        self.fail_queue(error.clone());
        error
    }

    fn fail_queue(&self, error: Error) {
        self.queue.lock().fail(error);
        self.room_freed.notify_all();
    }

    /// The last segment that should be there by now.
    fn segment_wanted(&self) -> SegmentNo {
        let end = self.queue.lock().end();
        let past_middle = self.geometry.offset_of(end) >= self.geometry.segment_size / 2;
        SegmentNo(self.geometry.segment_of(end).0 + 1 + u64::from(past_middle))
    }
}

/// Tells those who wait for room when a panic has ended writing; the turn tells those who wait for a flush.
struct FailQueueOnUnwind<'a>(&'a Core);

impl Drop for FailQueueOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail_queue(Error::Panicked);
        }
    }
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wal({:?})", self.stats())
    }
}
