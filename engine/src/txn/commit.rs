//! Committing a transaction.

use super::write_set::{Space, Whole};
use super::{Footprint, Isolation, Transaction};
use crate::batch::{self, Brought, Prefetch, WriteRef};
use crate::blob;
use crate::btree::TreeId;
use crate::commit::record::{self, Operation};
use crate::commit::{Manner, Prepared, Refused, Unchanged, Until};
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::options::Durability;
use ashlar_disk::sync;
use std::time::Duration;

/// Pages that an operation on a whole keyspace changes, at most.
const WHOLE_PAGES: u64 = 16;

/// The longest pause before a transaction is tried again.
const PAUSE_MAX: Duration = Duration::from_millis(4);

impl Transaction {
    /// Commits, with the database's default durability.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::SnapshotTooOld`], [`Error::TransactionTooLarge`], [`Error::NoSpace`], [`Error::ReadOnly`]:
    /// nothing was applied. [`Error::OutcomeUnknown`]: see there.
    pub fn commit(self) -> Result<()> {
        let durability = self.shared().options.durability;
        self.commit_with(durability)
    }

    /// Commits, with this durability. Whatever that is, it returns when all that the transaction has read is as durable as was asked
    /// for.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit_with(mut self, durability: Durability) -> Result<()> {
        match self.try_commit(durability)? {
            None => Ok(()),
            Some(_) => {
                // Where the database has failed, what was read may not survive: that counts more than the conflict.
                self.leave()?;
                Err(Error::Conflict)
            }
        }
    }

    /// Commits; the LSN of the commit that it lost to, if it did: then it has not ended yet.
    pub(super) fn try_commit(&mut self, durability: Durability) -> Result<Option<u64>> {
        if self.writes.is_empty() {
            // It stands at its read LSN.
            self.leave()?;
            return Ok(None);
        }
        match self.commit_writes(durability, Until::Durable) {
            Ok(_) => match self.leave() {
                Ok(()) => Ok(None),
                Err(_) => Err(Error::OutcomeUnknown { cause: self.shared().health.cause() }),
            },
            Err(Refused::Conflict(lsn)) => Ok(Some(lsn)),
            // A tree that was dropped or cleared since: whoever did that is applied by now.
            Err(Refused::TreeGone | Refused::NotEmpty) => Ok(Some(self.shared().visible.newest_applied())),
            Err(Refused::Error(e)) => match self.leave() {
                Err(failed) if !matches!(e, Error::OutcomeUnknown { .. }) => Err(failed),
                _ => Err(e),
            },
        }
    }

    /// Commits without waiting for durability. Tells `ended` how, and the LSN that must be visible before anybody else is told.
    pub(crate) fn commit_undurably(mut self, durability: Durability, ended: impl FnOnce(u64, Result<()>)) {
        self.ended = true;
        let met = |tx: &Transaction| tx.reads.borrow().met;
        if self.writes.is_empty() {
            let met = met(&self);
            drop(self);
            return ended(met, Ok(()));
        }
        let outcome = self.commit_writes(durability, Until::Applied);
        let met = met(&self);
        // The slot is free before the answer is given.
        drop(self);
        match outcome {
            Ok(lsn) if durability == Durability::Immediate => ended(lsn.max(met), Ok(())),
            Ok(_) => ended(met, Ok(())),
            Err(Refused::Conflict(_) | Refused::TreeGone | Refused::NotEmpty) => ended(met, Err(Error::Conflict)),
            Err(Refused::Error(e)) => ended(met, Err(e)),
        }
    }

    /// Commits; its LSN.
    fn commit_writes(&mut self, durability: Durability, until: Until) -> std::result::Result<u64, Refused> {
        self.view.check()?;
        let shared = self.view.shared();
        shared.health.check()?;
        let _one = (!self.writes.wholes.is_empty()).then(|| shared.ddl.lock());
        self.check_wholes()?;
        let changed: Vec<&Space> = self.writes.spaces.iter().filter(|space| space.is_changed() && !space.dropped).collect();
        let writes: Vec<(TreeId, WriteRef<'_>)> = changed.iter().flat_map(|space| writes_of(space)).collect();
        let (mut blobs, references) = batch::write_blobs(shared, writes.iter().map(|(_, write)| *write))?;
        let may_wait = shared.may_postpone(self.writes.bytes as usize)
            && references.iter().all(Option::is_none)
            && self.writes.wholes.is_empty();
        let brought = self.bring_in(shared, &changed, may_wait)?;
        let mut operations = self.whole_operations();
        let points = writes.iter().zip(&references).map(|((tree, write), blob)| batch::operation(*tree, *write, blob.clone()));
        operations.extend(points);
        let ranges = operations.iter().filter(|o| matches!(o, Operation::DeleteRange { .. })).count() as u64;
        let record = record::many(&operations);
        let touches: Vec<TreeId> = changed.iter().filter_map(|space| space.base).collect();
        let drops = self.drops();
        let pages = shared.pages_for(operations.len(), record.len())
            + batch::RANGE_PAGES * ranges
            + WHOLE_PAGES * self.writes.wholes.len() as u64;
        let frees = operations.iter().all(|o| matches!(o, Operation::Delete { .. } | Operation::DeleteRange { .. }));
        let footprint = self.footprint();
        let is_known = || self.view.check();
        let unchanged = Unchanged { footprint: &footprint, since: self.view.lsn(), is_known: &is_known };
        let unchanged = Some(unchanged).filter(|u| !u.footprint.is_empty());
        let born = self.announce(shared);
        let prepared = Prepared {
            manner: Manner::of(&operations).postponed(brought.misses),
            record,
            hint: brought.hint,
            touches: &touches,
            drops: &drops,
            pages,
            frees,
            only_if_empty: None,
            unchanged,
            durability,
            until,
        };
        let outcome = shared.commit(prepared, || blobs.drain(..).for_each(blob::NewBlob::keep));
        if outcome.is_err() {
            let mut unborn = shared.unborn.lock();
            born.iter().for_each(|tree| drop(unborn.remove(tree)));
        }
        outcome
    }

    /// Whether the keyspaces that are made, dropped or cleared are still as they were. Under the `ddl` lock all that was done to others
    /// is applied.
    fn check_wholes(&self) -> std::result::Result<(), Refused> {
        let shared = self.view.shared();
        let lost = || Refused::Conflict(shared.visible.newest_applied());
        for whole in &self.writes.wholes {
            match *whole {
                Whole::Create(index) => {
                    let space = &self.writes.spaces[index];
                    let there = shared.names.lock().now.get(&space.state.name).cloned();
                    let dropped_here = |state| self.writes.find(state).is_some_and(|i| self.writes.spaces[i].dropped);
                    if there.as_ref().is_some_and(|state| !dropped_here(state)) {
                        return Err(lost());
                    }
                }
                Whole::Drop(index) | Whole::Clear(index) => {
                    let space = &self.writes.spaces[index];
                    if space.base.is_some() && space.state.tree().ok().map(|tree| tree.id) != space.base {
                        return Err(lost());
                    }
                }
            }
        }
        Ok(())
    }

    /// Operations on whole keyspaces, in the order in which they were made. One that is made and dropped again never was.
    fn whole_operations(&self) -> Vec<Operation<'_>> {
        let operation = |whole: &Whole| match *whole {
            Whole::Create(index) => {
                let space = &self.writes.spaces[index];
                (!space.dropped).then(|| Operation::CreateKeyspace { tree: space.target, name: &space.state.name })
            }
            Whole::Drop(index) => {
                let space = &self.writes.spaces[index];
                space.base.map(|tree| Operation::DropKeyspace { tree, name: &space.state.name })
            }
            Whole::Clear(index) => {
                let space = &self.writes.spaces[index];
                let tree = space.base.filter(|_| !space.dropped);
                tree.map(|tree| Operation::ClearKeyspace { tree, new_tree: space.target, name: &space.state.name })
            }
        };
        self.writes.wholes.iter().filter_map(operation).collect()
    }

    /// The trees that go with it.
    fn drops(&self) -> Vec<TreeId> {
        let gone = self.writes.spaces.iter().filter(|space| space.dropped || space.base != Some(space.target));
        gone.filter_map(|space| space.base).collect()
    }

    /// Tells the applier whose handles the keyspaces that are made have.
    fn announce(&self, shared: &Shared) -> Vec<TreeId> {
        let made = self.writes.spaces.iter().filter(|space| space.base.is_none() && !space.dropped);
        let mut unborn = shared.unborn.lock();
        made.map(|space| {
            unborn.insert(space.target, space.state.clone());
            space.target
        })
        .collect()
    }

    /// What must not have been changed by a commit since.
    fn footprint(&self) -> Footprint {
        if self.isolation == Isolation::Serializable {
            return std::mem::take(&mut self.reads.borrow_mut().footprint);
        }
        let mut footprint = Footprint::default();
        if self.shared().options.fault.is(Fault::WritesNotValidated) {
            return footprint;
        }
        for space in self.writes.spaces.iter().filter(|space| space.is_changed()) {
            let Some(tree) = space.base else {
                footprint.name(&space.state.name);
                continue;
            };
            space.keys.keys().for_each(|key| footprint.key(tree, key));
            for range in &space.removed {
                footprint.range(tree, range.clone());
            }
            if space.dropped || space.target != tree {
                footprint.whole(tree);
            }
        }
        footprint
    }

    /// Brings in the leaves that the writes will change, unless these may wait, and measures what removing ranges keeps in memory.
    fn bring_in(&self, shared: &Shared, changed: &[&Space], may_wait: bool) -> Result<Brought> {
        let mut prefetch = Prefetch::default();
        for space in changed.iter().filter(|space| space.base == Some(space.target)) {
            let tree = self.view.tree(&space.state)?;
            writes_of(space).for_each(|(_, write)| prefetch.add(tree, write));
        }
        prefetch.run(shared, may_wait)
    }
}

/// A keyspace's writes, ranges first.
fn writes_of(space: &Space) -> impl Iterator<Item = (TreeId, WriteRef<'_>)> {
    let ranges = space
        .removed
        .iter()
        .map(|(from, to)| WriteRef::DeleteRange(from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)));
    let keys = space.keys.iter().map(|(key, write)| match write {
        Some(value) => WriteRef::Put(key, value),
        None => WriteRef::Delete(key),
    });
    ranges.chain(keys).map(|write| (space.target, write))
}

impl Shared {
    /// Before a transaction is tried again: until the commit that it lost to is applied, and, where many have lost before, a little
    /// longer, so that not all begin at once.
    pub(crate) fn back_off(&self, lost_to: u64, tries: u32) -> Result<()> {
        self.apply_up_to(lost_to)?;
        if tries >= 2 {
            let longest = Duration::from_micros(10 << tries.min(12)).min(PAUSE_MAX);
            sync::sleep(longest.mul_f64((sync::random_u64() >> 11) as f64 / (1u64 << 53) as f64));
        }
        Ok(())
    }
}
