//! The ledger: which epochs are owed images, how many frames are unclean, and which frames are to be written next.
//!
//! 1. `owed` of an epoch is the number of images of it that frames owe ([`State::owes`]); `unclean` the number of frames that
//!    are [`State::is_unclean`]. Both change with the frame's state, while its body is locked.
//! 2. A frame with bytes that have yet to be packed for an epoch stands in that epoch's queue at least while nobody is about
//!    to pack it. Queues may name frames for which nothing is to be done any more: whoever takes one asks its state.
//! 3. Detached frames stand at the head of all queues, since writing one gives back a whole frame; then older epochs come
//!    before newer ones, and within an epoch what became dirty first.

use crate::page_id::Epoch;
use crate::slot::FrameId;
use crate::states::State;
use ashlar_disk::sync::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// The ledger of a pool.
pub(crate) struct Ledger {
    unclean: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    owed: BTreeMap<Epoch, usize>,
    queues: BTreeMap<Epoch, VecDeque<FrameId>>,
    detached: VecDeque<FrameId>,
}

/// Where a frame stood in the queues, so that its `listed` can be cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) frame: FrameId,
    /// The epoch of the queue; `None` for the queue of detached frames.
    pub(crate) queue: Option<Epoch>,
}

impl Ledger {
    pub(crate) fn new() -> Ledger {
        Ledger { unclean: AtomicUsize::new(0), inner: Mutex::new(Inner::default()) }
    }

    /// A frame goes from one state to another; `listed` is the queue that it stands in. Called with its body locked.
    pub(crate) fn moved(&self, frame: FrameId, from: State, to: State, listed: &mut Option<Epoch>) {
        match (from.is_unclean(), to.is_unclean()) {
            (false, true) => drop(self.unclean.fetch_add(1, Relaxed)),
            (true, false) => drop(self.unclean.fetch_sub(1, Release)),
            (false, false) => return,
            (true, true) => {}
        }
        let mut inner = self.inner.lock();
        for epoch in to.owes().into_iter().flatten() {
            *inner.owed.entry(epoch).or_default() += 1;
        }
        for epoch in from.owes().into_iter().flatten() {
            inner.settle(epoch);
        }
        if let Some(epoch) = to.unpacked() {
            if *listed != Some(epoch) {
                inner.queues.entry(epoch).or_default().push_back(frame);
                *listed = Some(epoch);
            }
            if to.is_detached() && !from.is_detached() {
                inner.detached.push_back(frame);
            }
        }
    }

    /// Frames that are not clean: dirty, being written, or detached.
    pub(crate) fn unclean(&self) -> usize {
        self.unclean.load(Acquire)
    }

    /// How many images of epochs up to `last` are owed.
    pub(crate) fn owed_up_to(&self, last: Epoch) -> usize {
        self.inner.lock().owed.range(..=last).map(|(_, count)| count).sum()
    }

    /// Takes the next frames to be written off the queues, `max` at most.
    pub(crate) fn take_oldest(&self, max: usize) -> Vec<Listed> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::with_capacity(max.min(256));
        while taken.len() < max
            && let Some(frame) = inner.detached.pop_front()
        {
            taken.push(Listed { frame, queue: None });
        }
        while taken.len() < max
            && let Some(mut queue) = inner.queues.first_entry()
        {
            let epoch = *queue.key();
            let count = queue.get().len().min(max - taken.len());
            taken.extend(queue.get_mut().drain(..count).map(|frame| Listed { frame, queue: Some(epoch) }));
            if queue.get().is_empty() {
                queue.remove();
            }
        }
        taken
    }

    /// The frames in the queues of epochs up to `last`, which stay there.
    pub(crate) fn queued_up_to(&self, last: Epoch) -> Vec<FrameId> {
        self.inner.lock().queues.range(..=last).flat_map(|(_, queue)| queue).copied().collect()
    }

    /// Takes all frames off the queues of epochs up to `last`.
    pub(crate) fn take_up_to(&self, last: Epoch) -> Vec<Listed> {
        let mut inner = self.inner.lock();
        let later = inner.queues.split_off(&last.next());
        let queues = std::mem::replace(&mut inner.queues, later);
        let listed = |(epoch, queue): (Epoch, VecDeque<FrameId>)| queue.into_iter().map(move |frame| (epoch, frame));
        queues.into_iter().flat_map(listed).map(|(epoch, frame)| Listed { frame, queue: Some(epoch) }).collect()
    }

    /// Nothing of epochs up to `last` is to be written any more: their queues go.
    pub(crate) fn close(&self, last: Epoch) {
        let mut inner = self.inner.lock();
        inner.queues = inner.queues.split_off(&last.next());
        inner.detached.clear();
    }
}

impl Inner {
    fn settle(&mut self, epoch: Epoch) {
        let Some(count) = self.owed.get_mut(&epoch) else {
            debug_assert!(false, "{epoch} is owed nothing");
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.owed.remove(&epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_come_first_then_what_has_been_dirty_longest() {
        let ledger = Ledger::new();
        let dirty = |frame, epoch| {
            let mut listed = None;
            ledger.moved(FrameId(frame), State::Free, State::Dirty { epoch }, &mut listed);
            listed
        };
        let (old, new) = (Epoch(1), Epoch(2));
        dirty(3, old);
        dirty(1, new);
        let mut listed = dirty(2, old);
        let detached = State::Detached { epoch: old, superseded: new };
        ledger.moved(FrameId(2), State::Dirty { epoch: old }, detached, &mut listed);
        assert_eq!((ledger.unclean(), ledger.owed_up_to(old), ledger.owed_up_to(new)), (3, 2, 3));
        let frames = |listed: Vec<Listed>| listed.into_iter().map(|listed| listed.frame.0).collect::<Vec<_>>();
        assert_eq!(frames(ledger.take_oldest(2)), [2, 3], "the detached one gives back a frame");
        assert_eq!(frames(ledger.take_oldest(9)), [2, 1], "who takes a frame asks its state, so twice is no harm");
        assert_eq!(frames(ledger.take_oldest(9)), []);
    }

    #[test]
    fn a_frame_is_listed_once_for_each_epoch() {
        let ledger = Ledger::new();
        let (at, frame) = (crate::BlockPtr::LOWEST, FrameId(7));
        let mut listed = None;
        for epoch in [Epoch(1), Epoch(1), Epoch(2)] {
            ledger.moved(frame, State::Clean { at }, State::Dirty { epoch }, &mut listed);
            ledger.moved(frame, State::Dirty { epoch }, State::Writing { epoch }, &mut listed);
            ledger.moved(frame, State::Writing { epoch }, State::Clean { at }, &mut listed);
        }
        assert_eq!((ledger.unclean(), ledger.owed_up_to(Epoch(2))), (0, 0));
        assert_eq!(ledger.queued_up_to(Epoch(1)), [frame]);
        assert_eq!(ledger.take_up_to(Epoch(2)).len(), 2);
    }
}
