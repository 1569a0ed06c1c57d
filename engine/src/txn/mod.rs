//! Transactions: reads at one LSN, writes that nobody sees before the commit, validation at the commit.
//!
//! Optimistic concurrency control with backward validation (Kung and Robinson, *On Optimistic Methods for Concurrency Control*,
//! 1981): a transaction takes no locks. At its commit, what it has read ([`Footprint`]) is compared with what the commits since its
//! read LSN have written; the order of LSNs is the serial order. Under [`Isolation::Snapshot`] it is what it has *written* that is
//! compared: the first committer wins.
//!
//! Invariants:
//! 1. A transaction reads at the newest applied LSN of its beginning, its own writes on top.
//! 2. From before its first read until its commit is validated it has a slot, which keeps the before-images that it reads and the
//!    recent commits that it is validated against. Where that slot was taken away, reads and the commit fail.
//! 3. What it has read may lie beyond the watermark, and a crash may take that back. So it does not end, in whatever way, before the
//!    watermark has passed the newest commit that it has met. One that lost and is tried again has not ended: else a key that many
//!    want would get one commit a flush.

mod commit;
mod footprint;
mod range;
mod write_set;

pub(crate) use footprint::Footprint;
pub use range::TransactionRange;

use crate::btree::{Tree, TreeId};
use crate::catalog::{self, KeyspaceState};
use crate::database::{Database, Shared};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::read::View;
use crate::value::Value;
use std::cell::RefCell;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use write_set::{Own, WriteSet};

/// What transactions that run at the same time may notice of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// As if they ran one after the other, in the order of their commits (strict serializability): everything that was read,
    /// keys and ranges, is as it was when the commit takes effect.
    #[default]
    Serializable,
    /// Each reads one state; of two that write the same key the first to commit wins. Two that read what the other writes may both
    /// commit (write skew).
    Snapshot,
}

/// How [`Database::transact_with`] runs a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransactionOptions {
    /// What it may notice of others. Default: [`Isolation::Serializable`].
    pub isolation: Isolation,
    /// Durability of its commit. Default (`None`): the database's ([`Options::durability`](crate::Options::durability)).
    pub durability: Option<Durability>,
}

/// A point within a transaction to which it can be rolled back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

/// Reads and writes that take effect together or not at all; see [`Database::begin`].
///
/// It reads the newest state as of its beginning, with its own writes on top, and holds back no other transaction. Dropped without
/// [`Transaction::commit`], its writes never happened.
#[derive(Debug)]
pub struct Transaction {
    view: Arc<View<Database>>,
    id: u64,
    isolation: Isolation,
    writes: WriteSet,
    reads: RefCell<Reads>,
    ended: bool,
}

/// What a transaction has read.
#[derive(Debug, Default)]
struct Reads {
    footprint: Footprint,
    /// The newest commit whose effects it may have seen, at most its own LSN.
    met: u64,
}

impl Transaction {
    pub(crate) fn new(database: &Database, isolation: Isolation) -> Result<Transaction> {
        let view = Arc::new(View::applied(database.clone())?);
        let id = database.shared().next_transaction.fetch_add(1, Relaxed);
        let (writes, reads) = Default::default();
        Ok(Transaction { view, id, isolation, writes, reads, ended: false })
    }

    fn shared(&self) -> &Shared {
        self.view.shared()
    }

    /// The LSN at which it reads: for tests.
    #[doc(hidden)]
    pub fn read_lsn(&self) -> u64 {
        self.lsn()
    }

    pub(crate) fn database(&self) -> &Database {
        self.view.holder()
    }

    fn lsn(&self) -> u64 {
        self.view.lsn()
    }

    /// Something was read whose newest commit is at `lsn`; `note` enters it in the footprint, if that counts.
    fn has_read(&self, lsn: u64, note: impl FnOnce(&mut Footprint)) {
        let mut reads = self.reads.borrow_mut();
        reads.met = reads.met.max(lsn.min(self.lsn()));
        if self.isolation == Isolation::Serializable {
            note(&mut reads.footprint);
        }
    }

    /// The tree to read from, for a keyspace that the transaction has not changed as a whole; `None`: there is nothing to read.
    fn base(&self, state: &Arc<KeyspaceState>) -> Result<Option<Tree>> {
        let no_such = || Error::NoSuchKeyspace { name: state.name.clone() };
        match self.writes.find(state).map(|index| &self.writes.spaces[index]) {
            Some(space) if space.dropped => Err(no_such()),
            Some(space) if space.base != Some(space.target) => Ok(None),
            _ => {
                let tree = self.tree(state)?;
                self.has_read(state.changed_at(self.lsn()), |_| ());
                Ok(Some(tree))
            }
        }
    }

    /// A keyspace's tree at the beginning. That there was none is something that was read.
    fn tree(&self, state: &KeyspaceState) -> Result<Tree> {
        let outcome = self.view.tree(state);
        outcome.inspect_err(|_| self.has_read(self.lsn(), |footprint| footprint.name(&state.name)))
    }

    fn own(&self, state: &Arc<KeyspaceState>, key: &[u8]) -> Own<'_> {
        self.writes.find(state).map_or(Own::Unknown, |index| self.writes.spaces[index].own(key))
    }

    /// What `key` holds, as of the transaction's beginning and its own writes.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; [`Error::SnapshotTooOld`].
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        let state = self.state_of(keyspace)?;
        let base = self.base(state)?;
        if let Own::Written(value) = self.own(state, key) {
            return Ok(value.map(Value::copy_of));
        }
        let Some(tree) = base else { return Ok(None) };
        let (value, leaf_lsn) = self.view.get(tree, key, Value::copy_of)?;
        self.has_read(leaf_lsn, |footprint| footprint.key(tree.id, key));
        Ok(value)
    }

    /// Whether `key` holds something.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains_key(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        let state = self.state_of(keyspace)?;
        let base = self.base(state)?;
        if let Own::Written(value) = self.own(state, key) {
            return Ok(value.is_some());
        }
        let Some(tree) = base else { return Ok(false) };
        let (found, leaf_lsn) = self.view.contains(tree, key)?;
        self.has_read(leaf_lsn, |footprint| footprint.key(tree.id, key));
        Ok(found)
    }

    /// What each of `keys` holds, in their order, with reads that miss the cache in flight together.
    ///
    /// # Errors
    /// As [`Transaction::get`], the first that occurs.
    pub fn get_many<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Value>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let state = self.state_of(keyspace)?;
        let Some(tree) = self.base(state)? else {
            return keys.iter().map(|key| self.get(keyspace, key)).collect();
        };
        let unknown: Vec<&[u8]> =
            keys.iter().map(AsRef::as_ref).filter(|key| matches!(self.own(state, key), Own::Unknown)).collect();
        let mut found = crate::get_many::get_many(&self.view, tree, &unknown)?.into_iter();
        let value_of = |key: &K| match self.own(state, key.as_ref()) {
            Own::Written(value) => value.map(Value::copy_of),
            Own::Unknown => found.next().and_then(|(value, leaf_lsn)| {
                self.has_read(leaf_lsn, |footprint| footprint.key(tree.id, key.as_ref()));
                value
            }),
        };
        Ok(keys.iter().map(value_of).collect())
    }

    /// The entries in a range, in order of their keys, from either end, with the transaction's own writes. What was iterated over
    /// counts as read, and no more.
    pub fn range<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> TransactionRange<'_> {
        let own = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        TransactionRange::new(self, keyspace, own(range.start_bound()), own(range.end_bound()))
    }

    /// All entries, in order of their keys, from either end.
    pub fn iter(&self, keyspace: &Keyspace) -> TransactionRange<'_> {
        TransactionRange::new(self, keyspace, Bound::Unbounded, Bound::Unbounded)
    }

    /// The entries whose keys begin with `prefix`.
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> TransactionRange<'_> {
        let (from, to) = crate::range::of_prefix(prefix.as_ref());
        TransactionRange::new(self, keyspace, from, to)
    }

    /// The entry with the smallest key.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn first(&self, keyspace: &Keyspace) -> Result<Option<(Vec<u8>, Value)>> {
        self.iter(keyspace).next().transpose()
    }

    /// The entry with the largest key.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn last(&self, keyspace: &Keyspace) -> Result<Option<(Vec<u8>, Value)>> {
        self.iter(keyspace).next_back().transpose()
    }

    /// The number of entries. Counts as a read of all of them. Costs a look-up for each key that the transaction has written, and a
    /// scan of ranges that it has removed.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn len(&self, keyspace: &Keyspace) -> Result<u64> {
        let state = self.state_of(keyspace)?;
        let base = self.base(state)?;
        let space = self.writes.find(state).map(|index| &self.writes.spaces[index]);
        let puts = space.map_or(0, |s| s.keys.values().filter(|w| w.is_some()).count() as u64);
        let Some(tree) = base else { return Ok(puts) };
        self.has_read(self.lsn(), |footprint| footprint.whole(tree.id));
        let Some(space) = space else { return self.view.len(state) };
        let mut hidden = 0;
        if space.removed.is_empty() {
            for key in space.keys.keys() {
                hidden += u64::from(self.view.contains(tree, key)?.0);
            }
        } else {
            let mut scan = crate::range::Scan::new(self.view.clone(), tree, Bound::Unbounded, Bound::Unbounded);
            while let Some((key, _)) = scan.step_forward()? {
                hidden += u64::from(space.keys.contains_key(&key) || space.is_hidden(&key));
            }
        }
        Ok(self.view.len(state)? - hidden + puts)
    }

    /// Whether there are no entries.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn is_empty(&self, keyspace: &Keyspace) -> Result<bool> {
        Ok(self.first(keyspace)?.is_none())
    }

    /// Puts `value` under `key`.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::TransactionTooLarge`], [`Error::NoSuchKeyspace`]; the transaction is as before.
    pub fn insert(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write(keyspace, key.as_ref(), Some(value.as_ref()))
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn remove(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.write(keyspace, key.as_ref(), None)
    }

    fn write(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        keyspace.check_key(key)?;
        self.room_for(key.len() + value.map_or(0, <[u8]>::len))?;
        let space = self.space(keyspace)?;
        self.writes.write(space, key, value.map(Box::from));
        Ok(())
    }

    /// Removes all keys in a range. Counts as a write of the range, not as a read.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Result<()> {
        let own = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        let range = (own(range.start_bound()), own(range.end_bound()));
        self.room_for(64)?;
        let space = self.space(keyspace)?;
        self.writes.remove_range(space, range);
        Ok(())
    }

    /// Removes everything from a keyspace, at a cost that does not depend on how much there is.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn clear(&mut self, keyspace: &Keyspace) -> Result<()> {
        let space = self.space(keyspace)?;
        let tree = self.new_tree();
        self.writes.clear(space, tree);
        Ok(())
    }

    fn room_for(&self, bytes: usize) -> Result<()> {
        let (needed, max) = (self.writes.bytes + bytes as u64, self.shared().options.transaction_limit);
        if needed > max { Err(Error::TransactionTooLarge { what: "memory", needed, max }) } else { Ok(()) }
    }

    fn new_tree(&self) -> TreeId {
        TreeId(self.shared().next_tree.fetch_add(1, Relaxed))
    }

    fn state_of<'k>(&self, keyspace: &'k Keyspace) -> Result<&'k Arc<KeyspaceState>> {
        if std::ptr::eq(&**keyspace.shared(), self.shared()) {
            return Ok(keyspace.state());
        }
        Err(Error::NoSuchKeyspace { name: format!("{} (the handle is of another database)", keyspace.name()) })
    }

    /// The number of a keyspace that is to be written to.
    fn space(&mut self, keyspace: &Keyspace) -> Result<usize> {
        let state = self.state_of(keyspace)?;
        match self.writes.find(state) {
            Some(index) if self.writes.spaces[index].dropped => Err(Error::NoSuchKeyspace { name: keyspace.name().to_owned() }),
            Some(index) => Ok(index),
            None => {
                let tree = self.tree(state)?;
                Ok(self.writes.enter(state.clone(), tree.id))
            }
        }
    }

    /// A handle on the keyspace of that name, which the transaction makes if it is missing: the handle is of use to others once it
    /// has committed.
    ///
    /// # Errors
    /// [`Error::KeyspaceName`].
    pub fn keyspace(&mut self, name: &str) -> Result<Keyspace> {
        if let Some(keyspace) = self.existing_keyspace(name)? {
            return Ok(keyspace);
        }
        catalog::check_name(name, self.view.holder().key_len_max())?;
        let tree = self.new_tree();
        let state = Arc::new(KeyspaceState::unborn(name, tree, self.shared().options.slots_max));
        self.writes.create(state.clone(), tree);
        Ok(Keyspace::new(self.view.holder().clone(), state))
    }

    /// A handle on the keyspace of that name, if there is one.
    ///
    /// # Errors
    /// [`Error::SnapshotTooOld`].
    pub fn existing_keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        let handle = |state: &Arc<KeyspaceState>| Keyspace::new(self.view.holder().clone(), state.clone());
        if let Some(index) = self.writes.named(name) {
            return Ok(Some(handle(&self.writes.spaces[index].state)));
        }
        let found = self.shared().names.lock().at(name, self.lsn());
        self.view.check()?;
        let lsn = found.as_ref().map_or(self.lsn(), |state| state.changed_at(self.lsn()));
        self.has_read(lsn, |footprint| footprint.name(name));
        // One that is there, and that the transaction has met by no other name, it may have dropped.
        Ok(found.filter(|state| self.writes.find(state).is_none()).as_ref().map(handle))
    }

    /// Drops a keyspace with everything in it. False: there is none of that name.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn drop_keyspace(&mut self, name: &str) -> Result<bool> {
        let Some(keyspace) = self.existing_keyspace(name)? else { return Ok(false) };
        let space = self.space(&keyspace)?;
        self.writes.drop_keyspace(space);
        Ok(true)
    }

    /// A point to which the transaction can be rolled back, any number of times. What was read counts as read all the same.
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint { transaction: self.id, number: self.writes.mark() }
    }

    /// Undoes all writes since a savepoint.
    ///
    /// # Errors
    /// [`Error::NoSuchSavepoint`]; the transaction is as before.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        if savepoint.transaction == self.id && self.writes.roll_back(savepoint.number) {
            Ok(())
        } else {
            Err(Error::NoSuchSavepoint)
        }
    }

    /// Ends the transaction without its writes. Waits until what it has read is durable, as far as that was promised.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] where the database has failed and what was read may not survive.
    pub fn rollback(mut self) -> Result<()> {
        self.leave()
    }

    /// Another takes its place, and with it what this one has met.
    fn replaced_by(mut self, next: &Transaction) {
        self.ended = true;
        let met = self.reads.borrow().met;
        let mut reads = next.reads.borrow_mut();
        reads.met = reads.met.max(met);
    }

    /// Waits until a crash can't take back what the transaction has met.
    fn leave(&mut self) -> Result<()> {
        self.ended = true;
        let met = self.reads.borrow().met;
        if self.shared().options.fault.is(Fault::LeaveAtOnce) {
            return Ok(());
        }
        self.shared().wait_visible(met)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let shared = self.view.shared();
        if !self.ended && !std::thread::panicking() && !shared.owner.is_forked_child() && !shared.health.failed() {
            let _ = self.leave();
        }
    }
}

impl Database {
    /// Begins a transaction that reads and writes, serializably. For one that may have to be tried again there is
    /// [`Database::transact`].
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn begin(&self) -> Result<Transaction> {
        self.begin_with(Isolation::default())
    }

    /// The same, isolated as that says.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn begin_with(&self, isolation: Isolation) -> Result<Transaction> {
        Transaction::new(self, isolation)
    }

    /// Runs `work` in a transaction and commits it; where that conflicts with another commit, again from the start. Each retry means
    /// that another commit has succeeded. An error of `work` ends the transaction without effect. `work` may run several times,
    /// so it should have no effects outside of the transaction.
    ///
    /// # Errors
    /// Those of `work`; those of [`Transaction::commit`] but for [`Error::Conflict`].
    pub fn transact<T>(&self, work: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        self.transact_with(TransactionOptions::default(), work)
    }

    /// The same with options, and with errors of the caller's own kind.
    ///
    /// # Errors
    /// As [`Database::transact`].
    pub fn transact_with<T, E: From<Error>>(
        &self,
        options: TransactionOptions,
        mut work: impl FnMut(&mut Transaction) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let durability = options.durability.unwrap_or(self.shared().options.durability);
        let mut tries = 0;
        let mut transaction = self.begin_with(options.isolation)?;
        loop {
            let result = match work(&mut transaction) {
                Ok(result) => result,
                Err(e) => {
                    transaction.leave()?;
                    return Err(e);
                }
            };
            match transaction.try_commit(durability)? {
                None => return Ok(result),
                Some(lost_to) => self.shared().back_off(lost_to, tries)?,
            }
            let next = self.begin_with(options.isolation)?;
            std::mem::replace(&mut transaction, next).replaced_by(&transaction);
            tries += 1;
        }
    }
}
