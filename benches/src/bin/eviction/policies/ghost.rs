//! Ids of pages that have left, for a while: the oldest fall out.

use lru::LruCache;
use std::num::NonZeroUsize;

pub(super) struct Ghost {
    /// Never looked up but to be removed, so that the least recently used is the oldest.
    ids: LruCache<u32, ()>,
}

impl Ghost {
    /// Room for `ids_max`, one at least.
    pub(super) fn new(ids_max: usize) -> Ghost {
        Ghost { ids: LruCache::new(NonZeroUsize::new(ids_max).unwrap_or(NonZeroUsize::MIN)) }
    }

    pub(super) fn insert(&mut self, page: u32) {
        self.ids.put(page, ());
    }

    /// Whether it was in it; it is not any more.
    pub(super) fn remove(&mut self, page: u32) -> bool {
        self.ids.pop(&page).is_some()
    }
}
