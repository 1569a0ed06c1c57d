//! The buffer pool's own policy (`bufferpool/src/policy.rs`, included), run as the pool runs it where all pages are clean and nobody
//! holds one:
//!
//! - a hit sets the frame's mark (`frame.rs`, `touch`), and so does the first use after a load: whoever waited for the page looks it up
//!   again (`load.rs`);
//! - a miss takes a free frame; where there is none, victims leave in groups (`reserve.rs`: a 64th of the frames, 64 at most), by
//!   `evict.rs`.
//!
//! Not here: dirty pages, latches, and the background thread, which evicts a little ahead of need.

use crate::page_id::PageId;
use crate::policy::Policy;
use crate::slot::FrameId;
use std::cell::Cell;

/// A cache of page ids that are below a limit.
pub struct PoolPolicy {
    policy: Policy,
    /// Uses since eviction last looked, by frame.
    marks: Vec<Cell<u8>>,
    /// By frame.
    page_of: Vec<u32>,
    /// By page.
    frame_of: Vec<Option<FrameId>>,
    free: Vec<FrameId>,
    how: How,
}

/// How the policy is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct How {
    /// So many pages leave at a time.
    pub victims: usize,
    /// Whether the use for which a page was loaded sets its mark.
    pub first_use_counts: bool,
    /// Uses are counted up to this, and each keeps the page for one more look; 1: a mark.
    pub uses_max: u8,
}

impl How {
    /// As in a pool of `frames` frames: `Limits::new` in `core.rs`.
    pub fn in_pool(frames: usize) -> How {
        How { victims: (frames / 64).clamp(1, 64), first_use_counts: true, uses_max: 1 }
    }
}

impl PoolPolicy {
    /// Of `frames` frames, at least one, for page ids below `pages`.
    pub fn new(frames: usize, pages: usize, how: How) -> PoolPolicy {
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        PoolPolicy {
            policy: Policy::new(frames),
            marks: vec![Cell::new(0); frames as usize],
            page_of: vec![0; frames as usize],
            frame_of: vec![None; pages],
            free: (0..frames).rev().map(FrameId).collect(),
            how,
        }
    }

    /// Uses `page`; tells whether it was in memory.
    pub fn access(&mut self, page: u32) -> bool {
        let found = self.frame_of[page as usize];
        let frame = found.unwrap_or_else(|| self.load(page));
        if found.is_some() || self.how.first_use_counts {
            let mark = &self.marks[frame.index()];
            mark.set((mark.get() + 1).min(self.how.uses_max));
        }
        found.is_some()
    }

    /// How many pages are in memory.
    pub fn resident(&self) -> usize {
        self.marks.len() - self.free.len()
    }

    fn load(&mut self, page: u32) -> FrameId {
        if self.free.is_empty() {
            self.evict();
        }
        let frame = self.free.pop().expect("a search of the policy offers every frame");
        let marks = &self.marks;
        self.policy.insert(frame, PageId(page.into()), |frame| marks[frame.index()].take() > 0);
        self.page_of[frame.index()] = page;
        self.frame_of[page as usize] = Some(frame);
        frame
    }

    fn evict(&mut self) {
        let mut search = self.policy.search();
        for _ in 0..self.how.victims {
            let marks = &self.marks;
            let take_mark = |frame: FrameId| {
                let mark = &marks[frame.index()];
                mark.replace(mark.get().saturating_sub(1)) > 0
            };
            let Some(frame) = self.policy.next_victim(&mut search, take_mark) else { break };
            let page = self.page_of[frame.index()];
            self.policy.evicted(frame, PageId(page.into()));
            self.frame_of[page as usize] = None;
            self.free.push(frame);
        }
    }
}
