//! The commit pipeline: log order = LSN order = apply order = order of visibility.
//!
//! 1. *Prepare*, no lock: the record is encoded; log room and disk room are reserved; missing leaves are brought in. Errors end the
//!    commit here, cleanly.
//! 2. *Commit lock* ([`Order`]): the record is handed to the log, which gives it its LSN, and entered in the queue of commits that
//!    are not yet applied. Memory only; nothing here waits or fails. From here on the commit belongs to the database.
//! 3. *Apply*, under the apply lock: whoever holds it applies all that stand in the queue, in order, up to its own at least.
//! 4. *Durability*: an `Immediate` commit returns when the log is durable up to it, the committing thread writing the flush itself
//!    if nobody else is; an `Eventual` one when it is applied.
//!
//! Lock order: keyspace changes (`ddl`) > checkpoint > apply > commit lock > whatever the log, the pool and the store lock inside.
//!
//! Invariants:
//! 1. A record in the log is in the queue, and the other way round, in the same order, until it is applied.
//! 2. An error between taking the LSN and the end of apply fails the database at that LSN: nothing later is applied or confirmed.

pub(crate) mod apply;
pub(crate) mod record;
pub(crate) mod visibility;

use self::apply::Applier;
use crate::btree::TreeId;
use crate::catalog::KeyspaceState;
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::options::Durability;
use crate::store::{Draw, Promise};
use ashlar_disk::sync::MutexGuard;
use ashlar_wal::Lsn;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the commit lock guards.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Commits with an LSN that are not yet applied, oldest first.
    queue: VecDeque<Pending>,
    /// Trees that a commit in the queue, or applied since the open, drops or replaces: nothing may be written to them any more.
    gone: BTreeSet<TreeId>,
}

/// A commit that has its LSN and is to be applied.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) lsn: u64,
    /// The log flush in which its record begins.
    pub(crate) flush_start: u64,
    record: Arc<[u8]>,
    durability: Durability,
}

impl Order {
    /// The oldest commit that is not yet applied.
    pub(crate) fn first(&self) -> Option<&Pending> {
        self.queue.front()
    }
}

/// A commit that is ready to take its LSN.
pub(crate) struct Prepared<'a> {
    pub(crate) record: Vec<u8>,
    /// Trees it writes to.
    pub(crate) touches: &'a [TreeId],
    /// Trees that it drops or replaces.
    pub(crate) drops: &'a [TreeId],
    /// Pages that it may make dirty.
    pub(crate) pages: u64,
    /// It only frees: it may draw on the reserve when the disk is full.
    pub(crate) frees: bool,
    /// It is only right while this keyspace is empty.
    pub(crate) only_if_empty: Option<&'a KeyspaceState>,
    pub(crate) durability: Durability,
}

/// How a commit ended that took no LSN.
pub(crate) enum Refused {
    /// One of its trees was dropped or replaced meanwhile: nothing was applied.
    TreeGone,
    /// The keyspace that had to be empty is not: nothing was applied.
    NotEmpty,
    /// An error: nothing was applied.
    Error(Error),
}

impl From<Error> for Refused {
    fn from(e: Error) -> Refused {
        Refused::Error(e)
    }
}

impl Shared {
    /// Commits. `appended` runs when the record is in the log (and the commit can't fail any more but with the database).
    pub(crate) fn commit(&self, prepared: Prepared<'_>, appended: impl FnOnce()) -> std::result::Result<u64, Refused> {
        self.owner.check().map_err(Error::from)?;
        self.health.check()?;
        let wal = self.wal()?;
        let promise = self.room_on_disk(prepared.pages, prepared.frees)?;
        let room = self.log_room(prepared.record.len() as u64)?;
        let record: Arc<[u8]> = prepared.record.into();
        let lsn = {
            // Emptiness is known only when all that has an LSN is applied.
            let settled = prepared.only_if_empty.map(|keyspace| self.settle(keyspace)).transpose()?;
            let mut order = self.order.lock();
            self.health.check()?;
            if settled.as_ref().is_some_and(|(_, empty)| !empty || !order.queue.is_empty()) {
                return Err(Refused::NotEmpty);
            }
            if prepared.touches.iter().any(|t| order.gone.contains(t)) {
                return Err(Refused::TreeGone);
            }
            let place = wal.append_with(room, record.clone());
            let (lsn, flush_start) = (place.lsn.0, place.flush_start.0);
            order.queue.push_back(Pending { lsn, flush_start, record, durability: prepared.durability });
            order.gone.extend(prepared.drops);
            lsn
        };
        appended();
        self.apply_up_to(lsn)?;
        drop(promise);
        if prepared.durability == Durability::Immediate && !self.options.fault.is(Fault::ConfirmEarly) {
            self.make_durable(lsn)?;
        } else {
            self.background.note_eventual();
        }
        self.checkpoint_if_due();
        Ok(lsn)
    }

    /// With everything applied that has an LSN: the apply lock, under which nothing more is, and whether the keyspace is empty.
    fn settle(&self, keyspace: &KeyspaceState) -> Result<(MutexGuard<'_, Applier>, bool)> {
        let mut applier = self.apply.lock();
        while let Some(last) = self.order.lock().queue.back().map(|p| p.lsn) {
            self.apply_queue(&mut applier, last)?;
        }
        let empty = keyspace.len.load(Ordering::Relaxed) == 0;
        Ok((applier, empty))
    }

    /// Room for the pages that a commit may make dirty. Where the disk is full, a checkpoint frees what waits for one.
    pub(crate) fn room_on_disk(&self, pages: u64, frees: bool) -> Result<Promise<'_>> {
        let draw = if frees { Draw::Deletes } else { Draw::Ordinary };
        self.with_room(|| self.store().promise(pages, || self.pool.dirty_pages(), draw))
    }

    /// Does what needs room in the data file; where there is none, once more after a checkpoint: it frees what waits for one, and
    /// dirty pages then need no more than they are long.
    pub(crate) fn with_room<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(Error::NoSpace { .. }) if self.store().waiting_and_total().0 > 0 || self.pool.dirty_pages() > 0 => {
                self.checkpoint_now()?;
                work()
            }
            outcome => outcome,
        }
    }

    /// Room for a record in the log. Where there is none until a checkpoint has been made, this makes it, or waits for the one
    /// under way.
    fn log_room(&self, len: u64) -> Result<ashlar_wal::Room> {
        let mut full_disk = false;
        loop {
            match self.wal()?.try_reserve(len).map_err(|e| self.log_error(e)) {
                Ok(Some(room)) => return Ok(room),
                Ok(None) => {}
                // No room for another segment: a checkpoint makes one free that is there.
                Err(Error::NoSpace { .. }) if !full_disk => full_disk = true,
                Err(e) => return Err(e),
            }
            self.health.check()?;
            self.checkpoint_for_room()?;
        }
    }

    /// Applies the commits in the queue, in order, until `lsn` is applied.
    fn apply_up_to(&self, lsn: u64) -> Result<()> {
        self.apply_queue(&mut self.apply.lock(), lsn)
    }

    fn apply_queue(&self, applier: &mut Applier, lsn: u64) -> Result<()> {
        let _guard = FailOnPanic(self);
        while applier.applied < lsn {
            if self.health.failed() {
                return Err(Error::OutcomeUnknown { cause: self.health.cause() });
            }
            let next = self.order.lock().queue.front().map(|p| (p.lsn, p.record.clone(), p.durability));
            let Some((next, record, durability)) = next else {
                return Err(self.fail_now(format!("commit {lsn} has an LSN but is not in the queue")));
            };
            if let Err(e) = applier.apply(&self.pool, &self.names, next, &record) {
                return Err(self.fail_now(format!("applying commit {next} failed: {e}")));
            }
            self.order.lock().queue.pop_front();
            let early = self.options.fault.is(Fault::ShowEarly);
            self.visible.applied(next, durability == Durability::Immediate && !early);
        }
        Ok(())
    }

    /// Makes the log durable up to `lsn`, and visible what waited for that.
    pub(crate) fn make_durable(&self, lsn: u64) -> Result<()> {
        let wal = self.wal()?;
        let outcome = wal.flush_to(Lsn(lsn));
        self.visible.durable(wal.durable().0);
        outcome.map_err(|e| {
            self.log_error(e);
            Error::OutcomeUnknown { cause: self.health.cause() }
        })
    }

    /// An error of the log as the engine's. One that follows a failed write fails the database.
    pub(crate) fn log_error(&self, e: ashlar_wal::Error) -> Error {
        match e {
            ashlar_wal::Error::RecordTooLarge { size, max } => Error::TransactionTooLarge { what: "log", needed: size, max },
            ashlar_wal::Error::Disk(disk) if disk.is_no_space() => disk.into(),
            other => {
                self.fail_now(format!("writing the log failed: {other}"));
                crate::recovery::wal_error(other)
            }
        }
    }

    /// The database takes no writes from here on.
    pub(crate) fn fail_now(&self, cause: String) -> Error {
        if self.health.fail(cause.as_str()) {
            tracing::error!(%cause, "the database is read-only from here on: reopen it");
        }
        self.visible.stop();
        Error::OutcomeUnknown { cause: self.health.cause() }
    }

    /// Waits until what stands in a leaf with this LSN may be seen, lending a hand with the flush it waits for.
    pub(crate) fn wait_visible(&self, lsn: u64) -> Result<()> {
        if self.visible.watermark() >= lsn {
            return Ok(());
        }
        if !self.health.failed() {
            // Another thread's error is told to that thread; here the watermark decides.
            let _ = self.make_durable(lsn);
        }
        if self.visible.wait(lsn) {
            return Ok(());
        }
        Err(Error::ReadOnly { cause: self.health.cause() })
    }
}

/// A panic while a commit is being applied leaves a tree nobody may build upon.
struct FailOnPanic<'a>(&'a Shared);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail_now("a thread panicked while it applied a commit".into());
        }
    }
}
