//! Free frames.
//!
//! 1. A frame is in here exactly when its state is *free* and it is in no reservation and nobody's hands.
//! 2. Frames that were used before are given out first, the latest first; then those never used, from the lowest on: a pool
//!    touches no more memory than it needs.

use crate::slot::FrameId;
use ashlar_disk::sync::Mutex;

/// The free frames, and how many stand in reservations.
pub(crate) struct FreeList {
    inner: Mutex<Inner>,
}

struct Inner {
    returned: Vec<FrameId>,
    /// The lowest frame that was never used.
    fresh: u32,
    count: u32,
    reserved: usize,
}

impl FreeList {
    /// All of `count` frames, never used.
    pub(crate) fn new(count: u32) -> FreeList {
        FreeList { inner: Mutex::new(Inner { returned: Vec::new(), fresh: 0, count, reserved: 0 }) }
    }

    /// One frame, if there is one.
    pub(crate) fn take(&self) -> Option<FrameId> {
        self.inner.lock().take()
    }

    /// Takes `n` frames into a reservation if there are so many and `allowed` says yes to what is reserved then. All or none.
    pub(crate) fn reserve(&self, n: usize, into: &mut Vec<FrameId>, allowed: impl FnOnce(usize) -> bool) -> bool {
        let mut inner = self.inner.lock();
        if inner.len() < n || !allowed(inner.reserved + n) {
            return false;
        }
        inner.reserved += n;
        into.extend((0..n).map_while(|_| inner.take()));
        true
    }

    /// A reserved frame is put to use.
    pub(crate) fn unreserve(&self, n: usize) {
        self.inner.lock().reserved -= n;
    }

    /// Takes back what a reservation has not used.
    pub(crate) fn put_reserved(&self, frames: &mut Vec<FrameId>) {
        let mut inner = self.inner.lock();
        inner.reserved -= frames.len();
        inner.returned.append(frames);
    }

    /// Takes a frame back.
    pub(crate) fn put(&self, frame: FrameId) {
        self.inner.lock().returned.push(frame);
    }

    /// How many are free, reservations not among them.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().len()
    }

    /// How many frames were ever used.
    pub(crate) fn used(&self) -> u32 {
        self.inner.lock().fresh
    }

    /// How many stand in reservations.
    pub(crate) fn reserved(&self) -> usize {
        self.inner.lock().reserved
    }
}

impl Inner {
    fn len(&self) -> usize {
        self.returned.len() + (self.count - self.fresh) as usize
    }

    fn take(&mut self) -> Option<FrameId> {
        self.returned.pop().or_else(|| {
            let frame = FrameId(self.fresh);
            (self.fresh < self.count).then(|| {
                self.fresh += 1;
                frame
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_frames_first_and_used_ones_before_new_ones() {
        let list = FreeList::new(4);
        let mut taken = Vec::new();
        assert!(list.reserve(3, &mut taken, |reserved| reserved == 3));
        assert_eq!(taken, [FrameId(0), FrameId(1), FrameId(2)]);
        assert!(!list.reserve(2, &mut taken, |_| true), "only one is left");
        list.put_reserved(&mut taken);
        assert_eq!((list.reserved(), list.len(), list.used()), (0, 4, 3));
        for expected in [2, 1, 0, 3] {
            assert_eq!(list.take(), Some(FrameId(expected)));
        }
        assert_eq!(list.take(), None);
        list.put(FrameId(2));
        assert_eq!(list.take(), Some(FrameId(2)));
    }

    #[test]
    fn a_reservation_that_is_not_allowed_takes_nothing() {
        let list = FreeList::new(4);
        let mut taken = Vec::new();
        assert!(!list.reserve(2, &mut taken, |_| false));
        assert_eq!((list.reserved(), list.len(), taken.len()), (0, 4, 0));
    }
}
