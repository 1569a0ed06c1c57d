//! Large values that were read, in memory: whoever reads one again gets the same memory, without a copy.
//!
//! 1. *Room*: what the pool's pages have never taken of the cache's size, and a sixteenth of that size at least; or as much as the options
//!    say. As pages take more, values go.
//! 2. *Admission*: while there is room, whatever is read stays. Then a value comes in, in place of those whose last read is oldest, if it was
//!    read before, not long ago: so reading many values once drives nothing out.
//!
//! Invariants:
//! 1. A value is found under all that its cell says of it: ids, length, checksums. What is found has passed its check.
//! 2. Whoever frees runs has the value forgotten first, and a reader leaves one here only while its runs are held back. Both under one lock:
//!    so nothing stays under an id that can be given out again.

use crate::pages::EnginePool;
use crate::value::cell::StoredBlob;
use ashlar_bufferpool::PageId;
use ashlar_disk::AlignedBuf;
use ashlar_disk::sync::Mutex;
use lru::LruCache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// One byte in so many of the cache's size is for large values, whatever pages take.
const SHARE_MIN: usize = 16;

/// One value may take this part of the room.
const VALUE_SHARE: usize = 4;

/// Ids of values that were read and did not come in are remembered: as many as there are values, and so many more.
const MET_MORE: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    /// The room that the options set.
    fixed: Option<u64>,
    inner: Mutex<Inner>,
    /// Bytes in use, as in `inner`.
    bytes: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    /// By the ids of their first runs.
    values: LruCache<PageId, Entry>,
    bytes: usize,
    /// Values that were read when there was no room.
    met: LruCache<PageId, ()>,
}

#[derive(Debug)]
struct Entry {
    blob: StoredBlob,
    bytes: Arc<AlignedBuf>,
}

impl Cache {
    /// An empty one, of `fixed` bytes where that is given.
    pub(crate) fn new(fixed: Option<u64>) -> Cache {
        let inner = Inner { values: LruCache::unbounded(), bytes: 0, met: LruCache::unbounded() };
        let (bytes, hits, misses) = Default::default();
        Cache { fixed, inner: Mutex::new(inner), bytes, hits, misses }
    }

    /// How many bytes may be here, beside the pages of `pool`.
    fn room(&self, pool: &EnginePool) -> usize {
        let whole = pool.frames() as usize * pool.page_size();
        match self.fixed {
            Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            None => pool.idle_memory().max(whole / SHARE_MIN),
        }
    }

    /// A value that was kept.
    pub(crate) fn get(&self, blob: &StoredBlob) -> Option<Arc<AlignedBuf>> {
        let first = blob.pages().next()?;
        let mut inner = self.inner.lock();
        let found = inner.values.get(&first).filter(|entry| entry.blob == *blob)?.bytes.clone();
        self.hits.fetch_add(1, Relaxed);
        Some(found)
    }

    /// Keeps a value that was read and checked, if it may come in. `is_valid`: whether whoever has read it holds its runs back still.
    pub(crate) fn keep(&self, pool: &EnginePool, blob: &StoredBlob, bytes: &Arc<AlignedBuf>, is_valid: impl FnOnce() -> bool) {
        self.misses.fetch_add(1, Relaxed);
        let room = self.room(pool);
        let Some(first) = blob.pages().next().filter(|_| bytes.len() <= room / VALUE_SHARE) else { return };
        let mut gone = Vec::new();
        let mut inner = self.inner.lock();
        if !is_valid() {
            return;
        }
        if inner.bytes + bytes.len() <= room || inner.met.pop(&first).is_some() {
            gone.extend(inner.values.put(first, Entry { blob: blob.clone(), bytes: bytes.clone() }));
            inner.bytes = inner.bytes + bytes.len() - gone.iter().map(|entry| entry.bytes.len()).sum::<usize>();
            inner.shrink(room, &mut gone);
            self.bytes.store(inner.bytes, Relaxed);
        } else {
            inner.met.put(first, ());
            while inner.met.len() > inner.values.len() + MET_MORE {
                inner.met.pop_lru();
            }
        }
        // Giving memory back takes its time.
        drop(inner);
        drop(gone);
    }

    /// Lets go of what pages have taken the room of.
    pub(crate) fn shrink(&self, pool: &EnginePool) {
        if self.bytes.load(Relaxed) > self.room(pool) {
            let mut gone = Vec::new();
            let mut inner = self.inner.lock();
            inner.shrink(self.room(pool), &mut gone);
            self.bytes.store(inner.bytes, Relaxed);
            drop(inner);
            drop(gone);
        }
    }

    /// The runs of a value are about to be freed.
    pub(crate) fn forget(&self, blob: &StoredBlob) {
        let Some(first) = blob.pages().next() else { return };
        let mut inner = self.inner.lock();
        inner.met.pop(&first);
        let gone = inner.values.pop(&first);
        inner.bytes -= gone.as_ref().map_or(0, |entry| entry.bytes.len());
        self.bytes.store(inner.bytes, Relaxed);
        drop(inner);
        drop(gone);
    }

    /// How many bytes are here, and how many reads of values found theirs here and did not.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.bytes.load(Relaxed) as u64, self.hits.load(Relaxed), self.misses.load(Relaxed))
    }
}

impl Inner {
    fn shrink(&mut self, room: usize, gone: &mut Vec<Entry>) {
        debug_assert_eq!(self.bytes, self.values.iter().map(|(_, entry)| entry.bytes.len()).sum::<usize>());
        while self.bytes > room {
            let Some((_, entry)) = self.values.pop_lru() else { break };
            self.bytes -= entry.bytes.len();
            gone.push(entry);
        }
    }
}
