//! CLOCK (second chance): a circle of pages with a bit each, which a use sets. The hand clears the bits that it meets, and takes the
//! first page whose bit is clear.
//!
//! Source: F. J. Corbató, "A Paging Experiment with the Multics System", 1968. A page comes in with its bit clear, as in libCacheSim's
//! `Clock.c`: with the bit set, which is the other reading, pages that are used once stay longer.

use super::Cache;
use std::collections::VecDeque;

pub(crate) struct Clock {
    frames: usize,
    /// From the hand on.
    circle: VecDeque<u32>,
    resident: Vec<bool>,
    used: Vec<bool>,
}

impl Clock {
    pub(crate) fn new(frames: usize, pages: usize) -> Clock {
        Clock { frames, circle: VecDeque::with_capacity(frames), resident: vec![false; pages], used: vec![false; pages] }
    }

    fn evict(&mut self) {
        while let Some(page) = self.circle.pop_front() {
            if !std::mem::take(&mut self.used[page as usize]) {
                self.resident[page as usize] = false;
                return;
            }
            self.circle.push_back(page);
        }
    }
}

impl Cache for Clock {
    fn access(&mut self, page: u32) -> bool {
        if self.resident[page as usize] {
            self.used[page as usize] = true;
            return true;
        }
        if self.circle.len() == self.frames {
            self.evict();
        }
        self.circle.push_back(page);
        self.resident[page as usize] = true;
        false
    }

    fn resident(&self) -> usize {
        self.circle.len()
    }
}
