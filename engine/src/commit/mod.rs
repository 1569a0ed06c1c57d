//! The commit pipeline: log order = LSN order = apply order = order of visibility.
//!
//! 1. *Prepare*, no lock: the record is encoded; log room and disk room are reserved; missing leaves are brought in, and the leaf
//!    of a single write is looked up, so that applying it seldom goes down the tree again; what the transaction has read is validated
//!    against the commits so far. Errors end the commit here, cleanly.
//! 2. *Commit lock* ([`Order`]): validation against the commits that came since; the record is handed to the log, which gives it its
//!    LSN, and entered in the list of recent commits. Memory only; nothing here waits or fails. From here on the commit belongs to
//!    the database.
//! 3. *Apply*, under the apply lock: whoever holds it applies its own and some that stand behind it, in order; they find theirs
//!    applied. Into the trees; or, where a commit's leaves are not in memory and need not be, into what waits to be merged ([`merge`]), where
//!    readers find it as well.
//! 4. *Durability*: an `Immediate` commit returns when the log is durable up to it, the committing thread writing the flush itself
//!    if nobody else is; an `Eventual` one when it is applied.
//!
//! Lock order: keyspace changes (`ddl`) > checkpoint > merging > apply > commit lock > whatever the log, the pool and the store lock inside.
//!
//! Invariants:
//! 1. A record in the log is in the list of recent commits, and the other way round, in the same order, until it is applied.
//! 2. An error between taking the LSN and the end of apply fails the database at that LSN: nothing later is applied or confirmed.
//! 3. A commit leaves the list when it is applied and every live transaction that may write reads at its LSN or above.

pub(crate) mod apply;
mod change;
mod merge;
mod recent;
pub(crate) mod record;
mod replaced;
pub(crate) mod strand;
pub(crate) mod visibility;

pub(crate) use merge::Waiting;
pub(crate) use recent::{Manner, Order};

use self::apply::Applier;
use self::recent::Pending;
use crate::btree::{Tree, TreeId};
use crate::catalog::KeyspaceState;
use crate::checkpoint::Holds;
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::options::Durability;
use crate::postponed::RECORD_MAX;
use crate::probe;
use crate::store::{Draw, Promise};
use crate::txn::Footprint;
use ashlar_bufferpool::PageId;
use ashlar_disk::sync::MutexGuard;
use ashlar_wal::Lsn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Commits of others that whoever applies takes along, at most.
const APPLY_MORE: usize = 32;

/// A commit that is ready to take its LSN.
pub(crate) struct Prepared<'a> {
    pub(crate) record: Vec<u8>,
    pub(crate) manner: Manner,
    /// Where its first write may go.
    pub(crate) hint: Option<PageId>,
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
    pub(crate) unchanged: Option<Unchanged<'a>>,
    pub(crate) durability: Durability,
    pub(crate) until: Until,
}

impl Manner {
    /// That of these operations, whose leaves are in memory.
    pub(crate) fn of(operations: &[record::Operation<'_>]) -> Manner {
        let is_point = |o: &record::Operation<'_>| matches!(o, record::Operation::Put { .. } | record::Operation::Delete { .. });
        if operations.iter().all(is_point) { Manner::Points } else { Manner::Whole }
    }

    /// The same, where not all of the leaves are in memory, and need not be.
    pub(crate) fn postponed(self, is_postponed: bool) -> Manner {
        if is_postponed && self == Manner::Points { Manner::Postponed } else { self }
    }
}

/// When a commit returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// When it has the durability that it asks for.
    Durable,
    /// When it is applied: the caller sees to the rest.
    Applied,
}

/// A commit is only right while nothing of a footprint has changed since an LSN.
pub(crate) struct Unchanged<'a> {
    pub(crate) footprint: &'a Footprint,
    pub(crate) since: u64,
    /// Whether the commits since then are still known.
    pub(crate) is_known: &'a dyn Fn() -> Result<()>,
}

/// How a commit ended that took no LSN.
pub(crate) enum Refused {
    /// One of its trees was dropped or replaced meanwhile: nothing was applied.
    TreeGone,
    /// The keyspace that had to be empty is not: nothing was applied.
    NotEmpty,
    /// The commit at that LSN has changed what had to stay: nothing was applied.
    Conflict(u64),
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
        let manner = match prepared.manner {
            Manner::Points if self.postponed.takes(prepared.record.len()) => Manner::Points,
            // Its size was looked at before it had a record, which is somewhat longer.
            Manner::Postponed if prepared.record.len() <= RECORD_MAX => Manner::Postponed,
            _ => Manner::Whole,
        };
        if manner == Manner::Whole && self.postponed.waits() {
            self.merge_nearly_all()?;
        }
        let record: Arc<[u8]> = prepared.record.into();
        let checked = prepared.unchanged.as_ref().map(|u| self.validate(u.footprint, u.since)).transpose()?;
        let lsn = {
            let mut applier = prepared.only_if_empty.map(|_| self.apply.lock());
            let mut order = match &mut applier {
                Some(applier) => self.settled(applier)?,
                None => self.order.lock(),
            };
            self.health.check()?;
            if prepared.only_if_empty.is_some_and(|keyspace| self.may_hold_something(keyspace)) {
                return Err(Refused::NotEmpty);
            }
            if order.is_any_gone(prepared.touches) {
                return Err(Refused::TreeGone);
            }
            if let (Some(unchanged), Some(checked)) = (&prepared.unchanged, checked) {
                // Under the commit lock, where the list can't be trimmed meanwhile.
                (unchanged.is_known)()?;
                order.validate(unchanged.footprint, checked)?;
            }
            let place = wal.append_with(room, record.clone());
            let (lsn, flush_start) = (place.lsn.0, place.flush_start.0);
            order.enter(
                Pending { lsn, flush_start, record, manner, hint: prepared.hint, durability: prepared.durability },
                prepared.drops,
            );
            probe::appended(lsn);
            lsn
        };
        appended();
        self.die_if_asked();
        self.apply_up_to(lsn)?;
        drop(promise);
        if prepared.durability == Durability::Immediate && !self.options.fault.is(Fault::ConfirmEarly) {
            // First: others may wait for the same flush, and for what it makes visible.
            if prepared.until == Until::Durable {
                self.make_durable(lsn)?;
            }
            // It is in the log, whatever becomes of merging.
            let _ = self.wait_for_merging();
        } else {
            let merged = self.wait_for_merging();
            if !self.options.fault.is(Fault::OwnNotAwaited) {
                self.visible.note_own(lsn);
            }
            self.background.note_eventual();
            merged.map_err(|_| self.unknown())?;
        }
        self.checkpoint_if_due();
        Ok(lsn)
    }

    #[expect(clippy::panic, reason = "asked for by a test")]
    fn die_if_asked(&self) {
        if self.options.fault.is(Fault::DiesBeforeApply) && std::thread::current().name() == Some("dies") {
            panic!("a thread that dies between the LSN of its commit and applying it");
        }
    }

    /// Whether a keyspace has entries, or may have: what is stranded does not count, and may be an entry. Under the apply lock.
    fn may_hold_something(&self, keyspace: &KeyspaceState) -> bool {
        let may_be_stranded = || keyspace.tree().is_ok_and(|tree| self.postponed.is_stranded_in(tree.id));
        keyspace.len.load(Ordering::Relaxed) > 0 || may_be_stranded()
    }

    /// Applies what has an LSN and is not applied, if its owner has died.
    pub(crate) fn apply_leftovers(&self, applier: &mut Applier) -> Result<()> {
        let last = self.order.lock().last_unapplied();
        last.map_or(Ok(()), |last| self.apply_queue(applier, last, 0))
    }

    /// Validates against the commits so far, without holding them up; the LSN up to which that was done.
    fn validate(&self, footprint: &Footprint, since: u64) -> std::result::Result<u64, Refused> {
        let mut checked = since;
        loop {
            let some = self.order.lock().after(checked);
            let Some(last) = some.last() else { return Ok(checked) };
            checked = last.0;
            for (lsn, record) in &some {
                if footprint.is_changed_by(record, *lsn)? {
                    return Err(Refused::Conflict(*lsn));
                }
            }
        }
    }

    /// The commit lock, with everything in the trees that has an LSN. Whoever takes one meanwhile waits for the apply lock, so that this ends.
    fn settled(&self, applier: &mut Applier) -> Result<MutexGuard<'_, Order>> {
        loop {
            let order = self.order.lock();
            let last = order.last_unapplied();
            if last.is_none() && !applier.waiting.waits() {
                return Ok(order);
            }
            drop(order);
            last.map_or(Ok(()), |last| self.apply_queue(applier, last, 0))?;
            self.merge_all(applier)?;
        }
    }

    /// Room for the pages that a commit may make dirty. Where the disk is full, a checkpoint frees what waits for one.
    pub(crate) fn room_on_disk(&self, pages: u64, frees: bool) -> Result<Promise<'_>> {
        let draw = if frees { Draw::Deletes } else { Draw::Ordinary };
        self.with_room(|| self.store().promise(pages, || self.pool.dirty_pages(), draw))
    }

    /// Does what needs room in the data file; where there is none, again after a checkpoint: it frees what waits for one, merges writes that
    /// wait, and dirty pages then need no more than they are long. If that is not enough, once more after another: with nothing dirty there may be room to
    /// join what deletes have left sparse, which is free with the next.
    pub(crate) fn with_room<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        let mut outcome = work();
        for _ in 0..2 {
            // What is promised to writes that wait comes back when they are merged, as a checkpoint has them.
            let frees = || self.store().waiting_and_total().0 > 0 || self.pool.dirty_pages() > 0 || self.postponed.waits();
            let hope = || frees() || self.apply.lock().has_sparse();
            if !matches!(outcome, Err(Error::NoSpace { .. })) || !hope() {
                break;
            }
            self.checkpoint_now(Holds::Everything)?;
            outcome = work();
        }
        outcome
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

    /// Sees to it that the commit at `lsn` is applied.
    pub(crate) fn apply_up_to(&self, lsn: u64) -> Result<()> {
        if self.visible.newest_applied() >= lsn {
            return Ok(());
        }
        let mut applier = self.apply.lock();
        self.apply_queue(&mut applier, lsn, APPLY_MORE)?;
        self.tend(&mut applier)
    }

    /// Applies what stands in the queue up to `lsn`, and at most `more` commits behind it: whoever made those waits for the lock, and
    /// finds them done.
    fn apply_queue(&self, applier: &mut Applier, lsn: u64, mut more: usize) -> Result<()> {
        let _guard = FailOnPanic(self);
        let mut next = self.order.lock().first().cloned();
        loop {
            if applier.applied >= lsn {
                if more == 0 || next.is_none() {
                    return Ok(());
                }
                more -= 1;
            }
            match self.apply_next(applier, next, lsn) {
                Ok(following) => next = following,
                // An error of one behind is told to whoever made it.
                Err(e) => return if applier.applied >= lsn { Ok(()) } else { Err(e) },
            }
        }
    }

    /// Applies the first commit of the queue, on the way to the one at `lsn`, and gives the one that is first then.
    fn apply_next(&self, applier: &mut Applier, next: Option<Pending>, lsn: u64) -> Result<Option<Pending>> {
        if self.health.failed() {
            return Err(Error::OutcomeUnknown { cause: self.health.cause() });
        }
        let Some(next) = next else {
            return Err(self.fail_now(format!("commit {lsn} has an LSN but is not in the queue")));
        };
        let waits = match next.manner {
            Manner::Postponed => true,
            Manner::Points => applier.waiting.waits(),
            Manner::Whole => false,
        };
        let outcome = match waits {
            true => applier.postpone(&self.pool, &next),
            false => {
                // The commit has its LSN: whatever is wrong, it may be found in the log.
                self.merge_all(applier).map_err(|_| self.unknown())?;
                applier.apply(&self.pool, &self.names, next.lsn, &next.record, next.hint)
            }
        };
        if let Err(e) = outcome {
            return Err(self.fail_now(format!("applying commit {} failed: {e}", next.lsn)));
        }
        if waits {
            self.background.call_merging();
        }
        let early = self.options.fault.is(Fault::ShowEarly);
        self.visible.applied(next.lsn, next.durability == Durability::Immediate && !early);
        let mut order = self.order.lock();
        order.applied(&self.versions.slots, next.lsn, self.trim_at(next.lsn));
        Ok(order.first().cloned())
    }

    /// Up to where the list of recent commits may be trimmed, at most.
    fn trim_at(&self, applied: u64) -> recent::TrimAt {
        match self.options.fault.is(Fault::TrimAtWatermark) {
            true => recent::TrimAt::Exactly(self.visible.watermark()),
            false => recent::TrimAt::Needed { applied, bytes_max: self.versions.limit() },
        }
    }

    /// Now and then: lets before-images go that nobody needs.
    fn tend(&self, applier: &mut Applier) -> Result<()> {
        if applier.versions.as_ref().is_some_and(crate::versions::Writer::is_due) {
            self.prune(applier)?;
        }
        Ok(())
    }

    /// Lets everything go that no snapshot needs.
    pub(crate) fn prune(&self, applier: &mut Applier) -> Result<()> {
        let pruned = applier.prune(&self.pool, &self.names, self.visible.watermark());
        pruned.map_err(|e| self.fail_now(format!("freeing what commits have replaced failed: {e}")))
    }

    /// Makes the log durable up to `lsn`, and visible what waited for that.
    pub(crate) fn make_durable(&self, lsn: u64) -> Result<()> {
        let wal = self.wal()?;
        let outcome = wal.flush_to(Lsn(lsn));
        self.visible.durable(wal.durable().0);
        outcome.map_err(|e| {
            self.log_failed(e);
            Error::OutcomeUnknown { cause: self.health.cause() }
        })
    }

    /// A flush of the log has failed, for whatever reason: the log takes nothing more, so the database is at its end as well. A full disk
    /// is no exception, since room for what is written was seen to before.
    pub(crate) fn log_failed(&self, e: ashlar_wal::Error) -> Error {
        self.fail_now(format!("writing the log failed: {e}"));
        crate::recovery::wal_error(e)
    }

    /// An error of seeing to room in the log, as the engine's. A full disk is one that passes; any other fails the database.
    pub(crate) fn log_error(&self, e: ashlar_wal::Error) -> Error {
        match e {
            ashlar_wal::Error::RecordTooLarge { size, max } => Error::TransactionTooLarge { what: "log", needed: size, max },
            ashlar_wal::Error::Disk(disk) if disk.is_no_space() => disk.into(),
            other => self.log_failed(other),
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

    /// Waits until this process sees what it was told that it has committed, as far as that is not above `lsn`.
    pub(crate) fn wait_own(&self, lsn: u64) -> Result<()> {
        let own = self.visible.own().min(lsn);
        if self.visible.watermark() >= own || self.health.failed() {
            return Ok(());
        }
        // Where the database fails meanwhile, reads go on at the watermark.
        self.wait_visible(own).or_else(|e| if self.health.failed() { Ok(()) } else { Err(e) })
    }

    /// The tree of a keyspace, to be written to. That it is gone is told when no crash can prove it wrong.
    pub(crate) fn tree_of(&self, keyspace: &KeyspaceState) -> Result<Tree> {
        match keyspace.tree() {
            Err(gone) => {
                // The commit that drops it may still be being applied.
                keyspace.gone_at().map_or(Ok(()), |lsn| self.wait_visible(lsn))?;
                Err(gone)
            }
            found => found,
        }
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
