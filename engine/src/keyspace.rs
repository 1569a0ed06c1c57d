//! A keyspace: a named ordered map from keys to values.

use crate::batch::{WriteRef, commit_writes};
use crate::btree::{Limits, limits};
use crate::catalog::KeyspaceState;
use crate::database::{Database, Shared};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::range::{self, Cursor, Range, Scan};
use crate::read::{self, View};
use crate::value::Value;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// A handle on a keyspace. Cheap to clone, and keeps the database open.
///
/// Keys are any bytes, from none to [`Database::key_len_max`]; their order is that of unsigned bytes. Values are any bytes of any
/// length.
#[derive(Clone, Debug)]
pub struct Keyspace {
    database: Database,
    state: Arc<KeyspaceState>,
}

/// What [`Keyspace::compare_and_swap`] came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Swap {
    /// The key held what was expected, and holds the new value.
    Done,
    /// It holds this instead, and nothing was changed.
    Differs(Option<Value>),
}

impl Keyspace {
    pub(crate) fn new(database: Database, state: Arc<KeyspaceState>) -> Keyspace {
        Keyspace { database, state }
    }

    pub(crate) fn state(&self) -> &Arc<KeyspaceState> {
        &self.state
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.database.shared()
    }

    fn limits(&self) -> Limits {
        limits(self.shared().pool.page_size())
    }

    pub(crate) fn check_key(&self, key: &[u8]) -> Result<()> {
        let max = self.limits().key_max;
        if key.len() > max { Err(Error::KeyTooLarge { len: key.len(), max }) } else { Ok(()) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The database it is in.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What `key` holds.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] where its page can't be read (other keys stay readable), [`Error::NoSuchKeyspace`] if
    /// the keyspace was dropped, [`Error::ForkedChild`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.look_up(key.as_ref(), Value::copy_of)
    }

    /// Replaces the contents of `out` by what `key` holds; false, and `out` empty, if it holds nothing. Allocates only where `out`
    /// is too small, or the value is not in a leaf.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_into(&self, key: impl AsRef<[u8]>, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        let found = self.look_up(key.as_ref(), |bytes| {
            out.extend_from_slice(bytes);
            Value::copy_of(b"")
        })?;
        if let Some(long) = found.as_ref().filter(|v| !v.is_empty()) {
            out.extend_from_slice(long);
        }
        Ok(found.is_some())
    }

    /// Whether `key` holds something.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        read::newest_in_leaf(self.shared(), &self.state, key.as_ref(), |cell| cell.is_some())
    }

    /// Finds a key; `inline` makes the value of one that stands in the leaf.
    fn look_up(&self, key: &[u8], inline: impl FnMut(&[u8]) -> Value) -> Result<Option<Value>> {
        read::newest(self.shared(), &self.state, key, inline)
    }

    /// What each of `keys` holds, in their order, all as of one moment. Reads that miss the cache are in flight together: much faster than one after
    /// the other.
    ///
    /// # Errors
    /// As [`Keyspace::get`], the first that occurs.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Value>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let view = View::newest(&**self.shared())?;
        let found = crate::get_many::get_many(&view, view.tree(&self.state)?, &keys)?;
        Ok(found.into_iter().map(|(value, _)| value).collect())
    }

    /// Puts `value` under `key`, with the database's default durability.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::NoSpace`], [`Error::TransactionTooLarge`] (a value beyond the log's limit),
    /// [`Error::ReadOnly`]: nothing was changed. [`Error::OutcomeUnknown`]: see there.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.insert_with(key, value, self.shared().options.durability)
    }

    /// Puts `value` under `key`, with this durability.
    ///
    /// # Errors
    /// As [`Keyspace::insert`].
    pub fn insert_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.write(WriteRef::Put(key, value.as_ref()), durability)
    }

    /// Removes `key`, if it is there, with the database's default durability.
    ///
    /// # Errors
    /// As [`Keyspace::insert`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.remove_with(key, self.shared().options.durability)
    }

    /// Removes `key`, if it is there, with this durability.
    ///
    /// # Errors
    /// As [`Keyspace::insert`].
    pub fn remove_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.write(WriteRef::Delete(key), durability)
    }

    /// Gives `key` the value `new` (`None`: removes it) if it holds `expected` (`None`: nothing), as one step, with the database's default
    /// durability.
    ///
    /// # Errors
    /// As [`Keyspace::insert`] and [`Keyspace::get`].
    pub fn compare_and_swap(&self, key: impl AsRef<[u8]>, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<Swap> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.database.transact(|tx| {
            let found = tx.get(self, key)?;
            if found.as_deref() != expected {
                return Ok(Swap::Differs(found));
            }
            match new {
                Some(value) => tx.insert(self, key, value)?,
                None => tx.remove(self, key)?,
            }
            Ok(Swap::Done)
        })
    }

    /// Removes all keys in a range, in one commit.
    ///
    /// # Errors
    /// As [`Keyspace::insert`].
    pub fn remove_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        let (from, to) = (range.start_bound().map(AsRef::as_ref), range.end_bound().map(AsRef::as_ref));
        self.write(WriteRef::DeleteRange(from, to), self.shared().options.durability)
    }

    fn write(&self, write: WriteRef<'_>, durability: Durability) -> Result<()> {
        self.shared().owner.check()?;
        commit_writes(self.shared(), &[(&self.state, write)], durability)
    }

    /// Fills an empty keyspace with entries in ascending order of their keys, all or nothing, durably: much faster than inserting
    /// them, into full pages that stand side by side. Gives their number.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotEmpty`], [`Error::NotSorted`], [`Error::KeyTooLarge`], [`Error::NoSpace`],
    /// [`Error::TransactionTooLarge`] where the list of pages is larger than the log's limit takes; those of [`Keyspace::len`]; errors of the
    /// entries themselves. Nothing was changed.
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>, E: From<Error>>(
        &self,
        entries: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
    ) -> std::result::Result<u64, E> {
        crate::bulk::load(self, entries)
    }

    /// Removes everything, in one commit that costs the same however much there is; the space is freed in the background.
    ///
    /// # Errors
    /// As [`Keyspace::insert`].
    pub fn clear(&self) -> Result<()> {
        self.shared().owner.check()?;
        self.database.clear_keyspace(&self.state)
    }

    /// The number of entries. Where writes wait for a page that can't be read ([`Stats::stranded`](crate::Stats::stranded)) they are counted
    /// one by one.
    ///
    /// # Errors
    /// [`Error::NoSuchKeyspace`], [`Error::ForkedChild`]; of reading, where they are counted.
    pub fn len(&self) -> Result<u64> {
        read::at_newest(self.shared(), |view| view.len(&self.state))
    }

    /// Whether there are no entries.
    ///
    /// # Errors
    /// As [`Keyspace::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The entries in a range, in order of their keys, from either end: all as of one moment, whatever is committed meanwhile. An
    /// entry that can't be read is an `Err` item; [`Error::SnapshotTooOld`] where the iteration takes so long that what it
    /// sees was taken away for memory.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range {
        let own = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        Range::new(self.scan(own(range.start_bound()), own(range.end_bound())))
    }

    /// The same as a cursor, which lends keys and values instead of giving them away: nothing is allocated for an entry.
    pub fn cursor<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Cursor {
        let own = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        Cursor::new(self.scan(own(range.start_bound()), own(range.end_bound())))
    }

    fn scan(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Scan {
        let view = View::newest(self.database.clone()).map(Arc::new);
        Scan::of(view, &self.state, from, to)
    }

    /// All entries, in order of their keys, from either end.
    pub fn iter(&self) -> Range {
        Range::new(self.scan(Bound::Unbounded, Bound::Unbounded))
    }

    /// The entries whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        let (from, to) = range::of_prefix(prefix.as_ref());
        Range::new(self.scan(from, to))
    }

    /// The entry with the smallest key.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn first(&self) -> Result<Option<(Vec<u8>, Value)>> {
        self.iter().next().transpose()
    }

    /// The entry with the largest key.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn last(&self) -> Result<Option<(Vec<u8>, Value)>> {
        self.iter().next_back().transpose()
    }
}
