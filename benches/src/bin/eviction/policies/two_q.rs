//! 2Q, the full version: *A1in*, a queue of new pages in which uses don't count; *A1out*, ids of pages that have left it; *Am*, an LRU
//! list of pages that came back while their id was in A1out.
//!
//! Source: T. Johnson, D. Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm", VLDB 1994, with the
//! sizes that the paper recommends: Kin a quarter of the frames, Kout half of them.

use super::Cache;
use super::ghost::Ghost;
use lru::LruCache;
use std::collections::{HashSet, VecDeque};

pub(crate) struct TwoQ {
    frames: usize,
    kin: usize,
    a1in: VecDeque<u32>,
    in_a1in: HashSet<u32>,
    a1out: Ghost,
    am: LruCache<u32, ()>,
}

impl TwoQ {
    pub(crate) fn new(frames: usize) -> TwoQ {
        let (a1in, in_a1in) = Default::default();
        TwoQ { frames, kin: (frames / 4).max(1), a1in, in_a1in, a1out: Ghost::new(frames / 2), am: LruCache::unbounded() }
    }

    /// Sees to it that a frame is free.
    fn reclaim(&mut self) {
        if self.resident() < self.frames {
            return;
        }
        if (self.a1in.len() > self.kin || self.am.is_empty())
            && let Some(page) = self.a1in.pop_front()
        {
            self.in_a1in.remove(&page);
            self.a1out.insert(page);
        } else {
            // Not remembered: it was not used for a while.
            self.am.pop_lru();
        }
    }
}

impl Cache for TwoQ {
    fn access(&mut self, page: u32) -> bool {
        if self.am.get(&page).is_some() || self.in_a1in.contains(&page) {
            return true;
        }
        if self.a1out.remove(page) {
            self.reclaim();
            self.am.put(page, ());
        } else {
            self.reclaim();
            self.a1in.push_back(page);
            self.in_a1in.insert(page);
        }
        false
    }

    fn resident(&self) -> usize {
        self.a1in.len() + self.am.len()
    }
}
