//! The ids of pages that left memory from probation, for a while: one that comes back soon left too early.

use crate::page_id::PageId;
use lru::LruCache;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroUsize;

/// A bounded list of ids; the oldest fall out.
pub(crate) struct Ghost {
    ids: LruCache<PageId, (), BuildHasherDefault<PageHasher>>,
}

impl Ghost {
    /// Room for `ids_max` ids, one at least.
    pub(crate) fn new(ids_max: usize) -> Ghost {
        let ids_max = NonZeroUsize::new(ids_max).unwrap_or(NonZeroUsize::MIN);
        // Without `unbounded` the table would be allocated for all of them at once.
        let mut ids = LruCache::unbounded_with_hasher(BuildHasherDefault::default());
        ids.resize(ids_max);
        Ghost { ids }
    }

    pub(crate) fn insert(&mut self, page: PageId) {
        self.ids.put(page, ());
    }

    /// Whether the id was in it; it is not any more.
    pub(crate) fn remove(&mut self, page: PageId) -> bool {
        self.ids.pop(&page).is_some()
    }
}

/// Spreads page ids over a hash table: the same in every run.
#[derive(Default)]
pub(crate) struct PageHasher(u64);

impl Hasher for PageHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing, folded so that both ends of the hash are mixed.
        let mixed = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ids_fall_out() {
        let mut ghost = Ghost::new(3);
        (0..5).for_each(|page| ghost.insert(PageId(page)));
        assert!(!ghost.remove(PageId(0)) && !ghost.remove(PageId(1)));
        assert!(ghost.remove(PageId(3)) && !ghost.remove(PageId(3)));
    }
}
