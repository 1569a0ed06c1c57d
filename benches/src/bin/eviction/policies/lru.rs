//! LRU: the page leaves that was used longest ago.

use super::Cache;
use lru::LruCache;
use std::num::NonZeroUsize;

pub(crate) struct Lru {
    pages: LruCache<u32, ()>,
}

impl Lru {
    /// Of `frames` frames, one at least.
    pub(crate) fn new(frames: usize) -> Lru {
        Lru { pages: LruCache::new(NonZeroUsize::new(frames).unwrap_or(NonZeroUsize::MIN)) }
    }
}

impl Cache for Lru {
    fn access(&mut self, page: u32) -> bool {
        let hit = self.pages.get(&page).is_some();
        if !hit {
            self.pages.put(page, ());
        }
        hit
    }

    fn resident(&self) -> usize {
        self.pages.len()
    }
}
