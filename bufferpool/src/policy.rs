//! Which page leaves memory: a small queue on probation, a clock of pages that have proved themselves, and a memory of ids that
//! left too early (after S3-FIFO and Clock2Q+).
//!
//! ```text
//!  first touch ──▶ window ──▶ rest ──touched again──▶ main (clock) ──▶ out
//!                  └─ probation ─┘                       ▲
//!                                └──▶ out, remembered ───┘ comes back soon
//! ```
//!
//! 1. A hit does no more than set the frame's mark, if it is not set. Queues move only when pages come and go.
//! 2. Touches within the *window* (the younger half of the probation queue) don't count: the few accesses that follow a load
//!    are one use. A scan, which uses each page once, thus passes through probation and leaves *main* as it is.
//! 3. A frame stands in exactly one queue from when its page becomes resident until that leaves or moves to another frame.
//!
//! Not here: whether a victim may leave (held, dirty, latched). Asked for victims, the policy turns them over to the end of
//! their queue, and is told with [`Policy::remove`] of those that left.

use crate::ghost::Ghost;
use crate::lists::{Lists, QueueId};
use crate::page_id::PageId;
use crate::slot::FrameId;

/// The queues of a pool.
pub(crate) struct Policy {
    lists: Lists,
    ghost: Ghost,
    window_max: usize,
    probation_max: usize,
}

/// A search for victims: how many frames are still to be looked at. It ends when each was offered that was there all along.
pub(crate) struct Search {
    probation: usize,
    main: usize,
}

const WINDOW: QueueId = QueueId::new(0);
const REST: QueueId = QueueId::new(1);
const MAIN: QueueId = QueueId::new(2);

/// One frame in so many is for pages on probation.
const PROBATION_SHARE: usize = 10;

/// As many ids are remembered as there are frames, divided by this. More are no help where choices are skewed: a page that comes back
/// only after that long has proved nothing (`docs/performance.md`, *Eviction*).
const REMEMBERED_SHARE: usize = 4;

impl Policy {
    /// Empty queues for a pool of `frames`.
    pub(crate) fn new(frames: u32) -> Policy {
        let frames = frames as usize;
        let probation_max = (frames / PROBATION_SHARE).max(1);
        Policy { lists: Lists::new(), ghost: Ghost::new(frames / REMEMBERED_SHARE), window_max: probation_max / 2, probation_max }
    }

    /// A page became resident in `frame`. `take_mark` tells of a frame whether it was touched, and forgets it.
    pub(crate) fn insert(&mut self, frame: FrameId, page: PageId, take_mark: impl Fn(FrameId) -> bool) {
        take_mark(frame);
        let queue = if self.ghost.remove(page) { MAIN } else { WINDOW };
        self.lists.push(queue, frame);
        while self.lists.len(WINDOW) > self.window_max
            && let Some(oldest) = self.lists.first(WINDOW)
        {
            take_mark(oldest);
            self.lists.move_to(REST, oldest);
        }
    }

    /// The page in `old` goes on in `new`, and keeps its place.
    pub(crate) fn replace(&mut self, old: FrameId, new: FrameId) {
        self.lists.replace(old, new);
    }

    /// The frame's page is gone.
    pub(crate) fn remove(&mut self, frame: FrameId) {
        self.lists.remove(frame);
    }

    /// The frame's page was evicted: if it was on probation its id is remembered for a while.
    pub(crate) fn evicted(&mut self, frame: FrameId, page: PageId) {
        if matches!(self.lists.queue_of(frame), Some(WINDOW | REST)) {
            self.ghost.insert(page);
        }
        self.lists.remove(frame);
    }

    /// Begins to look for victims.
    pub(crate) fn search(&self) -> Search {
        Search { probation: self.on_probation(), main: 2 * self.len() }
    }

    /// The next frame whose page should leave. It goes to the end of its queue: if it can't leave now, others come first. `None`
    /// when every frame was offered.
    pub(crate) fn next_victim(&mut self, search: &mut Search, take_mark: impl Fn(FrameId) -> bool) -> Option<FrameId> {
        loop {
            let shrink_probation = self.on_probation() >= self.probation_max || search.main == 0;
            let frame = if shrink_probation && search.probation > 0 {
                search.probation -= 1;
                self.lists.first(REST).or_else(|| self.lists.first(WINDOW))
            } else if search.main > 0 {
                search.main -= 1;
                self.lists.first(MAIN)
            } else {
                return None;
            };
            let Some(frame) = frame else { continue };
            // Marks that are set again and again must not keep everything: the last round does not ask.
            let touched = take_mark(frame) && search.main > self.len();
            let hot = self.lists.queue_of(frame) == Some(MAIN);
            self.lists.move_to(if hot || touched { MAIN } else { REST }, frame);
            if !touched {
                return Some(frame);
            }
        }
    }

    fn on_probation(&self) -> usize {
        self.lists.len(WINDOW) + self.lists.len(REST)
    }

    /// Frames in all queues.
    pub(crate) fn len(&self) -> usize {
        self.on_probation() + self.lists.len(MAIN)
    }

    /// Frames in the main queue.
    pub(crate) fn hot(&self) -> usize {
        self.lists.len(MAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// A cache that consists of the policy alone.
    struct Cache {
        policy: Policy,
        frames: u32,
        resident: BTreeMap<u64, FrameId>,
        page_of: BTreeMap<FrameId, u64>,
        marks: RefCell<BTreeMap<FrameId, bool>>,
        misses: usize,
    }

    impl Cache {
        fn new(frames: u32) -> Cache {
            let (resident, page_of, marks) = Default::default();
            Cache { policy: Policy::new(frames), frames, resident, page_of, marks, misses: 0 }
        }

        fn access(&mut self, page: u64) {
            let frame = match self.resident.get(&page) {
                Some(&frame) => frame,
                None => self.load(page),
            };
            self.marks.borrow_mut().insert(frame, true);
        }

        fn load(&mut self, page: u64) -> FrameId {
            self.misses += 1;
            let marks = &self.marks;
            let take = |frame: FrameId| marks.borrow_mut().insert(frame, false).unwrap_or(false);
            let frame = if self.resident.len() < self.frames as usize {
                FrameId(self.resident.len() as u32)
            } else {
                let frame = self.policy.next_victim(&mut self.policy.search(), take).expect("the cache is full");
                let old = self.page_of.remove(&frame).expect("a page is in it");
                self.resident.remove(&old);
                self.policy.evicted(frame, PageId(old));
                frame
            };
            self.policy.insert(frame, PageId(page), take);
            self.resident.insert(page, frame);
            self.page_of.insert(frame, page);
            frame
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "statistics, too slow there")]
    fn a_scan_leaves_hot_pages_alone() {
        let mut cache = Cache::new(100);
        for _ in 0..20 {
            (0..50).for_each(|page| cache.access(page));
            (1000..1030).for_each(|page| cache.access(page));
        }
        for page in 0..10_000 {
            cache.access(100_000 + page);
        }
        let kept = (0..50).filter(|page| cache.resident.contains_key(page)).count();
        assert!(kept >= 45, "{kept} of 50 hot pages outlived the scan");
    }

    #[test]
    fn what_comes_back_soon_becomes_hot() {
        let mut cache = Cache::new(100);
        (0..200).for_each(|page| cache.access(page));
        let gone = (0..200).rev().find(|page| !cache.resident.contains_key(page)).expect("half of them had to leave");
        cache.access(gone);
        assert_eq!(cache.policy.lists.queue_of(cache.resident[&gone]), Some(MAIN));
    }

    #[test]
    #[cfg_attr(miri, ignore = "statistics, too slow there")]
    fn a_skewed_load_misses_less_than_in_a_fifo() {
        let mut cache = Cache::new(100);
        let mut random = 1u64;
        let mut fifo = std::collections::VecDeque::new();
        let mut fifo_misses = 0;
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let uniform = (random >> 33) as f64 / (1u64 << 31) as f64;
            let page = (1000.0 * uniform.powi(4)) as u64;
            cache.access(page);
            if !fifo.contains(&page) {
                fifo_misses += 1;
                fifo.push_back(page);
                if fifo.len() > 100 {
                    fifo.pop_front();
                }
            }
        }
        assert!(cache.misses * 10 < fifo_misses * 9, "{} misses, a FIFO has {fifo_misses}", cache.misses);
    }

    #[test]
    fn a_search_offers_every_frame_and_ends() {
        let mut policy = Policy::new(16);
        assert_eq!(policy.next_victim(&mut policy.search(), |_| false), None);
        (0..16).for_each(|frame| policy.insert(FrameId(frame), PageId(frame.into()), |_| false));
        for marked in [false, true, false] {
            let mut search = policy.search();
            let mut seen: Vec<_> = std::iter::from_fn(|| policy.next_victim(&mut search, |_| marked)).collect();
            assert!(seen.len() <= 48, "{} offers for 16 frames", seen.len());
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 16, "marks that are set all the time ({marked}) keep nothing out");
        }
        (0..16).for_each(|frame| policy.remove(FrameId(frame)));
        assert_eq!((policy.len(), policy.next_victim(&mut policy.search(), |_| false)), (0, None));
    }
}
