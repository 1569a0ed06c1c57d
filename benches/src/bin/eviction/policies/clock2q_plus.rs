//! Clock2Q+: as S3-FIFO, but uses of a page that has only just come into the small queue (its younger half, the *correlation window*) do
//! not count; one use after that does, and the main queue is a clock.
//!
//! Sources: Y. Zhai and others, "Clock2Q+: A Simple and Efficient Replacement Algorithm for Metadata Cache in VMware vSAN",
//! arXiv:2511.21958; sizes and the treatment of a cache that is not yet full by libCacheSim's `Clock2QPlus.c` (pull request 314, by an
//! author of the paper): small queue 10 % of the frames, ghost 90 %, window half of the small queue, one use moves a page to main. The
//! clock's pages have one bit here; an older state of that file counts up to 3.

use super::Cache;
use super::ghost::Ghost;
use std::collections::VecDeque;

/// How many pages the parts of a cache have room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    pub(super) small: usize,
    pub(super) main: usize,
    pub(super) ghost: usize,
    pub(super) window: usize,
}

impl Sizes {
    pub(crate) fn published(frames: usize) -> Sizes {
        Sizes::shares(frames, 10, 90)
    }

    /// With a small queue and a ghost of so many percent of the frames.
    pub(crate) fn shares(frames: usize, small: usize, ghost: usize) -> Sizes {
        let small = (frames * small / 100).max(1);
        Sizes { small, main: frames - small, ghost: frames * ghost / 100, window: small / 2 }
    }
}

pub(crate) struct Clock2QPlus {
    sizes: Sizes,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghost: Ghost,
    pages: Vec<Entry>,
    /// Pages that have come into the small queue so far.
    admitted: u64,
    evicted: bool,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    place: Place,
    used: bool,
}

#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Out,
    /// In the small queue, as the so-many-th page.
    Small(u64),
    Main,
}

impl Clock2QPlus {
    pub(crate) fn new(sizes: Sizes, pages: usize) -> Clock2QPlus {
        let (small, main) = Default::default();
        let ghost = Ghost::new(sizes.ghost);
        Clock2QPlus { sizes, small, main, ghost, pages: vec![Entry::default(); pages], admitted: 0, evicted: false }
    }

    fn evict(&mut self) {
        self.evicted = true;
        if self.main.len() > self.sizes.main || self.small.is_empty() { self.evict_from_main() } else { self.evict_from_small() }
    }

    fn evict_from_small(&mut self) {
        while let Some(page) = self.small.pop_front() {
            let entry = &mut self.pages[page as usize];
            if !std::mem::take(&mut entry.used) {
                entry.place = Place::Out;
                self.ghost.insert(page);
                return;
            }
            entry.place = Place::Main;
            self.main.push_back(page);
        }
    }

    fn evict_from_main(&mut self) {
        while let Some(page) = self.main.pop_front() {
            let entry = &mut self.pages[page as usize];
            if !std::mem::take(&mut entry.used) {
                entry.place = Place::Out;
                return;
            }
            self.main.push_back(page);
        }
    }
}

impl Cache for Clock2QPlus {
    fn access(&mut self, page: u32) -> bool {
        let entry = &mut self.pages[page as usize];
        match entry.place {
            Place::Small(number) => {
                entry.used |= self.admitted - number >= self.sizes.window as u64;
                return true;
            }
            Place::Main => {
                entry.used = true;
                return true;
            }
            Place::Out => {}
        }
        let comes_back = self.ghost.remove(page);
        while self.resident() >= self.sizes.small + self.sizes.main {
            self.evict();
        }
        let filling = !self.evicted && self.small.len() >= self.sizes.small;
        let place = if comes_back || filling {
            self.main.push_back(page);
            Place::Main
        } else {
            self.admitted += 1;
            self.small.push_back(page);
            Place::Small(self.admitted)
        };
        self.pages[page as usize] = Entry { place, used: false };
        false
    }

    fn resident(&self) -> usize {
        self.small.len() + self.main.len()
    }
}
