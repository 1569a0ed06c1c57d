//! Batches: writes to any keyspaces, applied all or none.

use crate::blob;
use crate::btree::{Ahead, LeafCopy, Seek, Tree, TreeId, Upcoming};
use crate::catalog::KeyspaceState;
use crate::commit::record::{self, Operation};
use crate::commit::{Manner, Prepared, Refused, Until};
use crate::database::{Database, Shared};
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::pages;
use ashlar_bufferpool::PageId;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// Pages that removing a range has changed and not yet freed, at most, at any time.
pub(crate) const RANGE_PAGES: u64 = 48;

/// Writes that are applied together, atomically, when [`Batch::commit`] is called; dropped before, they never happened. Of several
/// writes to one key the last counts.
#[derive(Debug)]
pub struct Batch {
    database: Database,
    /// Those that are written to: one for each stretch of writes to the same.
    keyspaces: Vec<Arc<KeyspaceState>>,
    writes: Vec<Write>,
    /// Keys and values, one behind the other: no memory of its own for each write.
    bytes: Vec<u8>,
    /// What all of it takes, about.
    size: u64,
}

#[derive(Debug)]
struct Write {
    /// Which of the batch's keyspaces.
    keyspace: usize,
    what: What,
}

/// Keys and values stand in the batch's bytes.
#[derive(Debug)]
enum What {
    /// The value stands right behind the key.
    Put {
        at: usize,
        key_len: u32,
        value_len: usize,
    },
    Delete {
        at: usize,
        key_len: u32,
    },
    DeleteRange(Box<[Bound<Vec<u8>>; 2]>),
}

impl Batch {
    pub(crate) fn new(database: Database) -> Batch {
        Batch { database, keyspaces: Vec::new(), writes: Vec::new(), bytes: Vec::new(), size: 0 }
    }

    /// Puts `value` under `key`.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::TransactionTooLarge`]; the batch is as before.
    pub fn insert(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        keyspace.check_key(key)?;
        let what = What::Put { at: self.bytes.len(), key_len: key.len() as u32, value_len: value.len() };
        self.add(keyspace, key.len() + value.len(), what)?;
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// As [`Batch::insert`].
    pub fn remove(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        let key = key.as_ref();
        keyspace.check_key(key)?;
        self.add(keyspace, key.len(), What::Delete { at: self.bytes.len(), key_len: key.len() as u32 })?;
        self.bytes.extend_from_slice(key);
        Ok(())
    }

    /// Removes all keys in a range.
    ///
    /// # Errors
    /// As [`Batch::insert`].
    pub fn remove_range<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, range: impl std::ops::RangeBounds<K>) -> Result<()> {
        let own = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        let (from, to) = (own(range.start_bound()), own(range.end_bound()));
        self.add(keyspace, 64, What::DeleteRange(Box::new([from, to])))
    }

    fn add(&mut self, keyspace: &Keyspace, bytes: usize, what: What) -> Result<()> {
        let (needed, max) = (self.size + bytes as u64 + 32, self.database.shared().options.transaction_limit);
        if needed > max {
            return Err(Error::TransactionTooLarge { what: "memory", needed, max });
        }
        self.size = needed;
        if self.keyspaces.last().is_none_or(|last| !Arc::ptr_eq(last, keyspace.state())) {
            self.keyspaces.push(keyspace.state().clone());
        }
        self.writes.push(Write { keyspace: self.keyspaces.len() - 1, what });
        Ok(())
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Applies all writes, or none, with the database's default durability.
    ///
    /// # Errors
    /// [`Error::NoSuchKeyspace`] where one was dropped, [`Error::TransactionTooLarge`], [`Error::NoSpace`],
    /// [`Error::ReadOnly`]: nothing was applied. [`Error::OutcomeUnknown`]: see there.
    pub fn commit(self) -> Result<()> {
        let durability = self.database.shared().options.durability;
        self.commit_with(durability)
    }

    /// Applies all writes, or none, with this durability.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    pub fn commit_with(self, durability: Durability) -> Result<()> {
        self.database.shared().owner.check()?;
        if self.writes.is_empty() {
            return Ok(());
        }
        let shared = self.database.shared();
        let writes: Vec<KeyspaceWrite<'_>> = self.writes.iter().map(|write| self.borrow(write)).collect();
        commit_writes(shared, &effective(shared, writes)?, durability)
    }

    fn borrow<'a>(&'a self, Write { keyspace, what }: &'a Write) -> KeyspaceWrite<'a> {
        let write = match *what {
            What::Put { at, key_len, value_len } => {
                let (key, rest) = self.bytes[at..].split_at(key_len as usize);
                WriteRef::Put(key, &rest[..value_len])
            }
            What::Delete { at, key_len } => WriteRef::Delete(&self.bytes[at..][..key_len as usize]),
            What::DeleteRange(ref bounds) => {
                let [from, to] = bounds.each_ref().map(|bound| bound.as_ref().map(Vec::as_slice));
                WriteRef::DeleteRange(from, to)
            }
        };
        (&self.keyspaces[*keyspace], write)
    }
}

/// A write, and the keyspace that it is to.
pub(crate) type KeyspaceWrite<'a> = (&'a KeyspaceState, WriteRef<'a>);

/// A write whose bytes somebody else owns.
#[derive(Clone, Copy)]
pub(crate) enum WriteRef<'a> {
    Put(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
    DeleteRange(Bound<&'a [u8]>, Bound<&'a [u8]>),
}

impl WriteRef<'_> {
    /// Bytes of its key and value.
    fn len(&self) -> usize {
        match self {
            WriteRef::Put(key, value) => key.len() + value.len(),
            WriteRef::Delete(key) => key.len(),
            WriteRef::DeleteRange(..) => 0,
        }
    }
}

/// The writes without those that a later one in the same batch overtakes, where one of them may be too large for the log: it needs no
/// blob. What travels in the log is sorted out when the record is made. A keyspace that was dropped is another one than its
/// successor of the same name, and a write to it makes the commit fail: it is kept.
fn effective<'a>(shared: &Shared, mut writes: Vec<KeyspaceWrite<'a>>) -> Result<Vec<KeyspaceWrite<'a>>> {
    let logged_max = logged_max(shared)?;
    let is_large = |write: &WriteRef<'_>| matches!(write, WriteRef::Put(_, value) if value.len() > logged_max);
    if !writes.iter().any(|(_, write)| is_large(write)) {
        return Ok(writes);
    }
    let mut last = BTreeSet::new();
    writes.reverse();
    writes.retain(|(keyspace, write)| match write {
        WriteRef::Put(key, _) | WriteRef::Delete(key) => last.insert((std::ptr::from_ref(*keyspace), *key)),
        WriteRef::DeleteRange(..) => true,
    });
    writes.reverse();
    Ok(writes)
}

/// Bytes of the largest value that travels in the log. One that would fill much of the largest record does not.
fn logged_max(shared: &Shared) -> Result<usize> {
    Ok(shared.options.blob_threshold.min((shared.wal()?.record_size_max() / 4) as usize))
}

/// Commits writes: large values go to blobs first, the rest travels in the record. Starts over where a keyspace was cleared
/// meanwhile: its tree is another one then.
pub(crate) fn commit_writes(shared: &Shared, writes: &[KeyspaceWrite<'_>], durability: Durability) -> Result<()> {
    shared.health.check()?;
    let (mut blobs, references) = write_blobs(shared, writes.iter().map(|(_, write)| *write))?;
    let bytes = writes.iter().map(|(_, write)| write.len()).sum();
    // What has blobs does not wait.
    let may_wait = shared.may_postpone(bytes) && references.iter().all(Option::is_none);
    loop {
        let mut prefetch = Prefetch::default();
        let mut operations: SmallVec<[_; 1]> = SmallVec::with_capacity(writes.len());
        for ((keyspace, write), reference) in writes.iter().zip(&references) {
            let tree = shared.tree_of(keyspace)?;
            prefetch.add(tree, *write);
            operations.push(operation(tree.id, *write, reference.clone()));
        }
        let brought = prefetch.run(shared, may_wait)?;
        let outcome =
            commit_operations(shared, &operations, brought, durability, || blobs.drain(..).for_each(blob::NewBlob::keep));
        match outcome {
            Err(Refused::TreeGone | Refused::NotEmpty | Refused::Conflict(_)) => {
                // The commit that took the tree has its LSN; once it is applied the keyspace says what stands now.
                drop(shared.apply.lock());
            }
            Err(Refused::Error(e)) => return Err(e),
            Ok(_) => return Ok(()),
        }
    }
}

/// Commits a value whose bytes stand in runs already.
pub(crate) fn commit_blob(
    shared: &Shared,
    keyspace: &KeyspaceState,
    key: &[u8],
    new: blob::NewBlob<'_>,
    durability: Durability,
) -> Result<()> {
    shared.health.check()?;
    new.finish()?;
    blob::sync(shared.store()).map_err(|e| shared.fail_now(format!("syncing a large value failed: {e}")))?;
    let reference = new.reference().clone();
    let mut new = Some(new);
    loop {
        let tree = keyspace.tree()?;
        let mut prefetch = Prefetch::default();
        prefetch.add(tree, WriteRef::Delete(key));
        let brought = prefetch.run(shared, false)?;
        let operation = Operation::PutBlob { tree: tree.id, key, blob: reference.clone() };
        let keep = || new.take().map_or((), blob::NewBlob::keep);
        match commit_operations(shared, &[operation], brought, durability, keep) {
            Err(Refused::TreeGone | Refused::NotEmpty | Refused::Conflict(_)) => drop(shared.apply.lock()),
            Err(Refused::Error(e)) => return Err(e),
            Ok(_) => return Ok(()),
        }
    }
}

/// What a record names in place of each value, if anything.
pub(crate) type References = SmallVec<[Option<blob::BlobRef>; 1]>;

/// Writes values that are too large for the log to runs of their own, durably: what the record names in place of each, if any.
pub(crate) fn write_blobs<'a, 's>(
    shared: &'s Shared,
    writes: impl Iterator<Item = WriteRef<'a>>,
) -> Result<(Vec<blob::NewBlob<'s>>, References)> {
    let logged_max = logged_max(shared)?;
    let (mut blobs, mut references) = (Vec::new(), References::new());
    for write in writes {
        references.push(match write {
            WriteRef::Put(_, value) if value.len() > logged_max => {
                let new = shared.with_room(|| blob::write(&shared.pool, value))?;
                let reference = new.reference().clone();
                blobs.push(new);
                Some(reference)
            }
            _ => None,
        });
    }
    if !blobs.is_empty() {
        blob::sync(shared.store()).map_err(|e| shared.fail_now(format!("syncing a large value failed: {e}")))?;
    }
    Ok((blobs, references))
}

pub(crate) fn operation<'a>(tree: TreeId, write: WriteRef<'a>, reference: Option<blob::BlobRef>) -> Operation<'a> {
    match (write, reference) {
        (WriteRef::Put(key, _), Some(blob)) => Operation::PutBlob { tree, key, blob },
        (WriteRef::Put(key, value), None) => Operation::Put { tree, key, value },
        (WriteRef::Delete(key), _) => Operation::Delete { tree, key },
        (WriteRef::DeleteRange(from, to), _) => Operation::DeleteRange { tree, from, to },
    }
}

fn commit_operations(
    shared: &Shared,
    operations: &[Operation<'_>],
    brought: Brought,
    durability: Durability,
    appended: impl FnOnce(),
) -> std::result::Result<u64, Refused> {
    let record = if let [one] = operations { record::single(one) } else { record::many(operations) };
    let mut touches: SmallVec<[TreeId; 1]> = operations.iter().map(Operation::tree).collect();
    touches.dedup();
    let mut pages = shared.pages_for(operations.len(), record.len());
    // A range's pages go one after the other: at any time it has changed a few on each level at its two ends.
    pages += RANGE_PAGES * operations.iter().filter(|o| o.point().is_none()).count() as u64;
    let frees = operations.iter().all(|o| matches!(o, Operation::Delete { .. } | Operation::DeleteRange { .. }));
    shared.commit(
        Prepared {
            record,
            manner: Manner::of(operations).postponed(brought.misses),
            hint: brought.hint,
            touches: &touches,
            drops: &[],
            pages,
            frees,
            only_if_empty: None,
            unchanged: None,
            durability,
            until: Until::Durable,
        },
        appended,
    )
}

/// The bounds of a range.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Brings in the leaves that writes will change, so that applying them rarely waits for the device: many reads in flight, in a
/// sliding window, and one descent more for what is in memory already. Where everything is in memory there is nothing to do.
#[derive(Default)]
pub(crate) struct Prefetch<'a> {
    keys: SmallVec<[(Tree, &'a [u8]); 1]>,
    ranges: Vec<(Tree, Bounds<'a>)>,
}

/// What bringing leaves in has come to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Brought {
    /// The leaf of a write that is alone, as far as can be told.
    pub(crate) hint: Option<PageId>,
    /// Not all leaves are in memory: the writes may wait.
    pub(crate) misses: bool,
}

impl<'a> Prefetch<'a> {
    /// A write to a tree.
    pub(crate) fn add(&mut self, tree: Tree, write: WriteRef<'a>) {
        match write {
            WriteRef::Put(key, _) | WriteRef::Delete(key) => self.keys.push((tree, key)),
            WriteRef::DeleteRange(from, to) => self.ranges.push((tree, (from, to))),
        }
    }

    /// Reads what is missing, unless the writes may wait, and measures what removing the ranges keeps in memory until nobody can see it any
    /// more.
    ///
    /// # Errors
    /// A page can't be read. [`Error::TransactionTooLarge`].
    pub(crate) fn run(&self, shared: &Shared, may_wait: bool) -> Result<Brought> {
        let mut left = shared.options.transaction_limit;
        for (tree, bounds) in &self.ranges {
            unless_gone(shared, tree.id, measure(shared, *tree, *bounds, &mut left))?;
        }
        let hint = match &self.keys[..] {
            [(tree, key)] => tree.hint(&shared.pool, key),
            _ => None,
        };
        if let Some(leaf) = hint {
            shared.versions.fetch(leaf);
        }
        if may_wait && shared.options.postpone_always {
            return Ok(Brought { hint, misses: self.ranges.is_empty() });
        }
        if !shared.pool.may_miss() || hint.is_some_and(|leaf| shared.pool.is_resident(leaf)) {
            return Ok(Brought { hint, misses: false });
        }
        if may_wait && self.ranges.is_empty() {
            let is_there =
                |(tree, key): &(Tree, &[u8])| tree.hint(&shared.pool, key).is_some_and(|leaf| shared.pool.is_resident(leaf));
            return Ok(Brought { hint, misses: !self.keys.iter().all(is_there) });
        }
        let mut ahead = Ahead::new(&shared.pool);
        for (at, &(tree, key)) in self.keys.iter().enumerate() {
            if let Some(due) = ahead.due(at, self.keys.len()) {
                ahead.ask(&shared.pool, self.keys[due].iter().copied());
            }
            unless_gone(shared, tree.id, pages::find(&shared.pool, tree, key, |_| ()))?;
        }
        Ok(Brought { hint, misses: false })
    }
}

/// What was found in a tree that is dropped or cleared by now, and whose pages are going, is no damage: the commit finds that out.
fn unless_gone(shared: &Shared, tree: TreeId, outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(Error::Corrupt(_)) if shared.order.lock().is_any_gone(&[tree]) => Ok(()),
        outcome => outcome,
    }
}

/// Reads the leaves of a range, ahead of need, and takes what they hold from `left`.
fn measure(shared: &Shared, tree: Tree, (from, to): Bounds<'_>, left: &mut u64) -> Result<()> {
    let mut leaf = LeafCopy::new();
    let mut at = match from {
        Bound::Included(key) | Bound::Excluded(key) => key.to_vec(),
        Bound::Unbounded => Vec::new(),
    };
    let mut ahead = Upcoming::new();
    for number in 0u64.. {
        if number.is_multiple_of(AHEAD)
            && shared.pool.may_miss()
            && tree.leaves_from(&shared.pool, &at, WINDOW, &mut ahead).is_ok()
        {
            shared.pool.prefetch(&ahead.pages);
        }
        pages::read_leaf(&shared.pool, tree, Seek::AtOrAfter(&at), &mut leaf)?;
        let bytes = (0..leaf.len()).map(|index| leaf.value(index).1.len() as u64 + 64).sum::<u64>();
        let max = shared.options.transaction_limit;
        *left = left.checked_sub(bytes).ok_or(Error::TransactionTooLarge { what: "memory", needed: max - *left + bytes, max })?;
        match leaf.upper() {
            Some(upper) if is_within(upper, to) => at = upper.to_vec(),
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Leaves of a range that are asked for at once, and after how many it is time to ask for more.
const WINDOW: usize = 64;
const AHEAD: u64 = 32;

fn is_within(key: &[u8], to: Bound<&[u8]>) -> bool {
    match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    }
}
