//! A keyspace: a named ordered map from keys to values.

use crate::batch::{WriteRef, commit_writes};
use crate::btree::{Limits, limits};
use crate::catalog::KeyspaceState;
use crate::database::{Database, Shared};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::pages;
use crate::range::Range;
use crate::value::Value;
use crate::value::fetch::{Fetched, Stored};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A handle on a keyspace. Cheap to clone, and keeps the database open.
///
/// Keys are any bytes, from none to [`Database::key_len_max`]; their order is that of unsigned bytes. Values are any bytes of any
/// length.
#[derive(Clone, Debug)]
pub struct Keyspace {
    database: Database,
    state: Arc<KeyspaceState>,
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
        Ok(self.stored(key.as_ref(), |_| Value::copy_of(b""))?.is_some())
    }

    /// Finds a key; `inline` makes the value of one that stands in the leaf.
    fn look_up(&self, key: &[u8], mut inline: impl FnMut(&[u8]) -> Value) -> Result<Option<Value>> {
        self.shared().owner.check()?;
        let mut last = None;
        loop {
            match self.stored(key, &mut inline)? {
                None => return Ok(None),
                Some(Stored::Inline(value)) => return Ok(Some(value)),
                Some(Stored::Elsewhere { kind, bytes }) => {
                    let still_named = || self.names_still(key, kind, &bytes);
                    if let Fetched::Value(value) = crate::value::fetch::fetch(self.shared(), kind, &bytes, still_named)? {
                        return Ok(Some(value));
                    }
                    // The value was replaced between leaf and pages. That the leaf says the same twice and its pages
                    // don't fit both times is no race.
                    let now = Some((kind, bytes));
                    if now == last && self.names_still(key, kind, now.as_ref().map_or(&[], |(_, b)| b))? {
                        return Err(crate::value::fetch::lost(&self.state.name, key));
                    }
                    last = now;
                }
            }
        }
    }

    pub(crate) fn names_still(&self, key: &[u8], kind: u8, bytes: &[u8]) -> Result<bool> {
        let now = self.stored(key, |_| Value::copy_of(b""))?;
        Ok(matches!(now, Some(Stored::Elsewhere { kind: k, bytes: b }) if k == kind && b == bytes))
    }

    /// What stands in the leaf for a key, once it may be seen.
    fn stored(&self, key: &[u8], mut inline: impl FnMut(&[u8]) -> Value) -> Result<Option<Stored>> {
        let shared = self.shared();
        loop {
            let (tree, since) = self.state.tree_since()?;
            let watermark = shared.visible.watermark();
            if since > watermark {
                shared.wait_visible(since)?;
                continue;
            }
            let found = pages::find(&shared.pool, tree, key, |found| {
                if found.lsn > watermark {
                    return Err(found.lsn);
                }
                Ok(found.value.map(|(kind, bytes)| Stored::copy(kind, bytes, &mut inline)))
            });
            match found {
                Ok(Ok(stored)) => return Ok(stored),
                Ok(Err(lsn)) => shared.wait_visible(lsn)?,
                // Cleared meanwhile: the old tree's pages are being freed, and the keyspace has another.
                Err(Error::Corrupt(_)) if self.state.tree()?.id != tree.id => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// What each of `keys` holds, in their order. Reads that miss the cache are in flight together: much faster than one after
    /// the other.
    ///
    /// # Errors
    /// As [`Keyspace::get`], the first that occurs.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Value>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        crate::get_many::get_many(self, &keys)
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
    /// [`Error::TransactionTooLarge`] where the list of pages is larger than the log's limit takes; errors of the entries
    /// themselves. Nothing was changed.
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

    /// The number of entries as of the last applied commit.
    ///
    /// # Errors
    /// [`Error::NoSuchKeyspace`], [`Error::ForkedChild`].
    pub fn len(&self) -> Result<u64> {
        self.shared().owner.check()?;
        self.state.tree()?;
        Ok(self.state.len.load(Relaxed))
    }

    /// Whether there are no entries.
    ///
    /// # Errors
    /// As [`Keyspace::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The entries in a range, in order of their keys, from either end. Each leaf is read as one consistent step; between leaves
    /// other commits may come. An entry that can't be read is an `Err` item, and the iteration goes on behind it only if its leaf
    /// could be read.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range {
        let own = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        Range::new(self.clone(), own(range.start_bound()), own(range.end_bound()))
    }

    /// All entries, in order of their keys, from either end.
    pub fn iter(&self) -> Range {
        Range::new(self.clone(), Bound::Unbounded, Bound::Unbounded)
    }

    /// The entries whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        let prefix = prefix.as_ref();
        let end = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Range::new(self.clone(), Bound::Included(prefix.to_vec()), end)
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

/// The smallest key above all that begin with `prefix`, if there is one.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&b| b != 0xFF)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_of_its_length_or_shorter() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xFF\xFF"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xFF"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
