//! MIN: the page leaves that is not needed for the longest time. It knows the future, and no policy that loads each page it is asked for
//! has fewer misses.
//!
//! Source: L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966.

use super::Cache;
use crate::traces::Trace;
use std::collections::BinaryHeap;

/// The time of a use that never comes.
const NEVER: u32 = u32::MAX;
/// The next use of a page that is not in the cache.
const OUT: u32 = 0;

pub(crate) struct Min {
    frames: usize,
    resident: usize,
    /// When the page of each access is used next. Accesses are counted from 0.
    next_use: Vec<u32>,
    now: usize,
    /// By page: when a page of the cache is used next.
    next_of: Vec<u32>,
    /// Next uses and their pages, the latest first; some are over, or of pages that have left.
    heap: BinaryHeap<(u32, u32)>,
}

impl Min {
    /// For just this trace, from its beginning.
    pub(crate) fn new(frames: usize, trace: &Trace) -> Min {
        let mut later = vec![NEVER; trace.pages()];
        let mut next_use = vec![NEVER; trace.accesses.len()];
        for (now, &page) in trace.accesses.iter().enumerate().rev() {
            next_use[now] = std::mem::replace(&mut later[page as usize], now as u32);
        }
        Min { frames, resident: 0, next_use, now: 0, next_of: vec![OUT; trace.pages()], heap: BinaryHeap::new() }
    }

    fn evict(&mut self) {
        while let Some((at, page)) = self.heap.pop() {
            if self.next_of[page as usize] == at {
                self.next_of[page as usize] = OUT;
                self.resident -= 1;
                return;
            }
        }
    }
}

impl Cache for Min {
    fn access(&mut self, page: u32) -> bool {
        let hit = self.next_of[page as usize] != OUT;
        if !hit {
            if self.resident == self.frames {
                self.evict();
            }
            self.resident += 1;
        }
        let next = self.next_use[self.now];
        self.now += 1;
        self.next_of[page as usize] = next;
        self.heap.push((next, page));
        hit
    }

    fn resident(&self) -> usize {
        self.resident
    }
}
