//! S3-FIFO: a small queue of new pages, a main queue for those that were used more than once there or came back soon, and a ghost
//! queue of ids that left from the small one. Uses are counted up to 3; the main queue gives a page one more round for each.
//!
//! Source: J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, "FIFO Queues are All You Need for Cache Eviction", SOSP 2023, algorithm 1:
//! the small queue has a tenth of the frames, the ghost queue as many ids as the main queue has frames.

use super::Cache;
use super::ghost::Ghost;
use std::collections::VecDeque;

const USES_MAX: u8 = 3;

pub(crate) struct S3Fifo {
    frames: usize,
    small_max: usize,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghost: Ghost,
    resident: Vec<bool>,
    uses: Vec<u8>,
}

impl S3Fifo {
    pub(crate) fn new(frames: usize, pages: usize) -> S3Fifo {
        let small_max = (frames / 10).max(1);
        let (small, main) = Default::default();
        let ghost = Ghost::new(frames - small_max);
        S3Fifo { frames, small_max, small, main, ghost, resident: vec![false; pages], uses: vec![0; pages] }
    }

    fn evict(&mut self) {
        if self.small.len() >= self.small_max { self.evict_from_small() } else { self.evict_from_main() }
    }

    fn evict_from_small(&mut self) {
        while let Some(page) = self.small.pop_front() {
            if self.uses[page as usize] <= 1 {
                self.resident[page as usize] = false;
                self.ghost.insert(page);
                return;
            }
            self.uses[page as usize] = 0;
            self.main.push_back(page);
            if self.main.len() > self.frames - self.small_max {
                self.evict_from_main();
            }
        }
    }

    fn evict_from_main(&mut self) {
        while let Some(page) = self.main.pop_front() {
            let uses = &mut self.uses[page as usize];
            if *uses == 0 {
                self.resident[page as usize] = false;
                return;
            }
            *uses -= 1;
            self.main.push_back(page);
        }
    }
}

impl Cache for S3Fifo {
    fn access(&mut self, page: u32) -> bool {
        if self.resident[page as usize] {
            let uses = &mut self.uses[page as usize];
            *uses = (*uses + 1).min(USES_MAX);
            return true;
        }
        let comes_back = self.ghost.remove(page);
        while self.resident() >= self.frames {
            self.evict();
        }
        if comes_back { &mut self.main } else { &mut self.small }.push_back(page);
        self.uses[page as usize] = 0;
        self.resident[page as usize] = true;
        false
    }

    fn resident(&self) -> usize {
        self.small.len() + self.main.len()
    }
}
