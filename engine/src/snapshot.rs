//! Snapshots: the whole database as of one moment.

use crate::catalog::KeyspaceState;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::range::{self, Range};
use crate::read::View;
use crate::value::Value;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// The database as it was when [`Database::snapshot`] was called, whatever is committed since. Cheap to clone.
///
/// It holds up no writer, and no writer holds it up. What later commits replace is kept in memory for as long as it lives; where that
/// passes [`Options::versions_limit`](crate::Options::versions_limit), the oldest snapshot is taken away, and every read from it
/// gives [`Error::SnapshotTooOld`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    view: Arc<View<Database>>,
}

impl Database {
    /// A snapshot of everything that is visible now: what survives power loss if it was committed `Immediate`, and what this process has
    /// committed `Eventual` and been told of.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot { view: Arc::new(View::newest(self.clone())?) })
    }
}

impl Database {
    /// A snapshot of the last checkpoint, to be read for as long as it takes: it is never taken away, since it holds back blocks of the
    /// data file and no memory. It may be behind by all that was committed since ([`Database::checkpoint`] makes one), and has a small
    /// cache of its own. Opening it reads the page map, 8 bytes a page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] where the page map or the catalog can't be read; [`Error::ForkedChild`].
    pub fn checkpoint_snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot { view: Arc::new(View::checkpoint(self.clone())?) })
    }
}

impl Snapshot {
    /// The LSN that it shows: of two snapshots the one with the higher LSN is the newer.
    pub fn lsn(&self) -> u64 {
        self.view.lsn()
    }

    pub(crate) fn view(&self) -> &Arc<View<Database>> {
        &self.view
    }

    fn state<'k>(&self, keyspace: &'k Keyspace) -> Result<&'k KeyspaceState> {
        if std::ptr::eq(&**keyspace.shared(), self.view.shared()) {
            return Ok(keyspace.state());
        }
        Err(Error::NoSuchKeyspace { name: format!("{} (the handle is of another database)", keyspace.name()) })
    }

    /// What `key` held.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; [`Error::SnapshotTooOld`]; [`Error::NoSuchKeyspace`] where the keyspace was not there.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let tree = self.view.tree(self.state(keyspace)?)?;
        Ok(self.view.get(tree, key.as_ref(), Value::copy_of)?.0)
    }

    /// Whether `key` held something.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn contains_key(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        let tree = self.view.tree(self.state(keyspace)?)?;
        Ok(self.view.contains(tree, key.as_ref())?.0)
    }

    /// What each of `keys` held, in their order, with reads that miss the cache in flight together.
    ///
    /// # Errors
    /// As [`Snapshot::get`], the first that occurs.
    pub fn get_many<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Value>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let tree = self.view.tree(self.state(keyspace)?)?;
        let found = crate::get_many::get_many(&self.view, tree, &keys)?;
        Ok(found.into_iter().map(|(value, _)| value).collect())
    }

    /// The entries in a range, in order of their keys, from either end.
    pub fn range<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Range {
        let own = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        self.scan(keyspace, own(range.start_bound()), own(range.end_bound()))
    }

    fn scan(&self, keyspace: &Keyspace, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Range {
        match self.state(keyspace) {
            Ok(state) => Range::new(Ok(self.view.clone()), state, from, to),
            Err(error) => Range::new(Err(error), keyspace.state(), from, to),
        }
    }

    /// All entries, in order of their keys, from either end.
    pub fn iter(&self, keyspace: &Keyspace) -> Range {
        self.scan(keyspace, Bound::Unbounded, Bound::Unbounded)
    }

    /// The entries whose keys begin with `prefix`.
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Range {
        let (from, to) = range::of_prefix(prefix.as_ref());
        self.scan(keyspace, from, to)
    }

    /// The entry with the smallest key.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn first(&self, keyspace: &Keyspace) -> Result<Option<(Vec<u8>, Value)>> {
        self.iter(keyspace).next().transpose()
    }

    /// The entry with the largest key.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn last(&self, keyspace: &Keyspace) -> Result<Option<(Vec<u8>, Value)>> {
        self.iter(keyspace).next_back().transpose()
    }

    /// The number of entries.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn len(&self, keyspace: &Keyspace) -> Result<u64> {
        self.view.len(self.state(keyspace)?)
    }

    /// Whether there were no entries.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn is_empty(&self, keyspace: &Keyspace) -> Result<bool> {
        Ok(self.len(keyspace)? == 0)
    }

    /// A handle on the keyspace that had that name, if there was one: also one that has been dropped since.
    ///
    /// # Errors
    /// [`Error::SnapshotTooOld`].
    pub fn keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        let names = &self.view.shared().names;
        let found = match self.view.held() {
            None => names.lock().at(name, self.lsn()),
            Some(held) => match (held.keyspace(name), names.lock().now.get(name)) {
                (Err(_), _) => None,
                (Ok(_), Some(now)) => Some(now.clone()),
                // Dropped since: the handle is of use with this snapshot alone.
                (Ok((tree, len)), None) => Some(Arc::new(KeyspaceState::dropped(name, tree, len))),
            },
        };
        self.view.check()?;
        Ok(found.map(|state| Keyspace::new(self.view.holder().clone(), state)))
    }

    /// The names of all keyspaces, sorted.
    ///
    /// # Errors
    /// [`Error::SnapshotTooOld`].
    pub fn keyspaces(&self) -> Result<Vec<String>> {
        let names = match self.view.held() {
            None => self.view.shared().names.lock().all_at(self.lsn()),
            Some(held) => held.names(),
        };
        self.view.check()?;
        Ok(names)
    }
}
