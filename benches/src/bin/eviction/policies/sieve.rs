//! SIEVE: a queue of pages with a bit each, which a use sets. A hand goes from the oldest to the newest page and begins again; it
//! clears the bits that it meets, and takes the first page whose bit is clear. Pages that stay keep their places.
//!
//! Source: Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson, K. V. Rashmi, "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm
//! for Web Caches", NSDI 2024, algorithm 1.

use super::Cache;

const NONE: u32 = u32::MAX;

pub(crate) struct Sieve {
    frames: usize,
    len: usize,
    /// By page.
    pages: Vec<Entry>,
    newest: u32,
    oldest: u32,
    /// The next to be looked at, or none: the oldest.
    hand: u32,
}

#[derive(Clone)]
struct Entry {
    resident: bool,
    used: bool,
    newer: u32,
    older: u32,
}

impl Sieve {
    pub(crate) fn new(frames: usize, pages: usize) -> Sieve {
        let entry = Entry { resident: false, used: false, newer: NONE, older: NONE };
        Sieve { frames, len: 0, pages: vec![entry; pages], newest: NONE, oldest: NONE, hand: NONE }
    }

    fn entry(&mut self, page: u32) -> &mut Entry {
        &mut self.pages[page as usize]
    }

    fn evict(&mut self) {
        let mut at = if self.hand == NONE { self.oldest } else { self.hand };
        while std::mem::take(&mut self.entry(at).used) {
            at = match self.entry(at).newer {
                NONE => self.oldest,
                newer => newer,
            };
        }
        self.hand = self.entry(at).newer;
        self.unlink(at);
    }

    fn unlink(&mut self, page: u32) {
        let Entry { newer, older, .. } = *self.entry(page);
        match newer {
            NONE => self.newest = older,
            newer => self.entry(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entry(older).newer = newer,
        }
        self.entry(page).resident = false;
        self.len -= 1;
    }

    fn push(&mut self, page: u32) {
        let older = std::mem::replace(&mut self.newest, page);
        *self.entry(page) = Entry { resident: true, used: false, newer: NONE, older };
        match older {
            NONE => self.oldest = page,
            older => self.entry(older).newer = page,
        }
        self.len += 1;
    }
}

impl Cache for Sieve {
    fn access(&mut self, page: u32) -> bool {
        if self.entry(page).resident {
            self.entry(page).used = true;
            return true;
        }
        if self.len == self.frames {
            self.evict();
        }
        self.push(page);
        false
    }

    fn resident(&self) -> usize {
        self.len
    }
}
