//! Queues of frames, linked through arrays: a frame is in one of them or in none, and can leave from anywhere.

use crate::slot::FrameId;

/// How many queues there are.
const QUEUES: usize = 3;

/// One of the queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QueueId(u8);

impl QueueId {
    pub(crate) const fn new(index: u8) -> QueueId {
        assert!((index as usize) < QUEUES);
        QueueId(index)
    }
}

/// The queues. Their arrays grow to the highest frame that was ever put in.
pub(crate) struct Lists {
    links: Vec<Link>,
    queues: [Ends; QUEUES],
}

#[derive(Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
    queue: u8,
}

#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
    len: usize,
}

const NONE: u32 = u32::MAX;
const IN_NO_QUEUE: u8 = u8::MAX;
const _: () = assert!(FrameId::END < NONE, "no frame has the number that means none");

impl Lists {
    pub(crate) fn new() -> Lists {
        Lists { links: Vec::new(), queues: [Ends { first: NONE, last: NONE, len: 0 }; QUEUES] }
    }

    pub(crate) fn len(&self, queue: QueueId) -> usize {
        self.queues[queue.0 as usize].len
    }

    /// The one that has been in the queue longest.
    pub(crate) fn first(&self, queue: QueueId) -> Option<FrameId> {
        let first = self.queues[queue.0 as usize].first;
        (first != NONE).then_some(FrameId(first))
    }

    /// Which queue the frame is in.
    pub(crate) fn queue_of(&self, frame: FrameId) -> Option<QueueId> {
        let queue = self.links.get(frame.index())?.queue;
        (queue != IN_NO_QUEUE).then_some(QueueId(queue))
    }

    /// Puts a frame that is in no queue at the end of one.
    pub(crate) fn push(&mut self, queue: QueueId, frame: FrameId) {
        assert!(self.queue_of(frame).is_none(), "a frame is in one queue at most");
        self.grow_to(frame);
        let ends = &mut self.queues[queue.0 as usize];
        let last = std::mem::replace(&mut ends.last, frame.0);
        ends.len += 1;
        match last {
            NONE => ends.first = frame.0,
            last => self.links[last as usize].after = frame.0,
        }
        self.links[frame.index()] = Link { before: last, after: NONE, queue: queue.0 };
    }

    fn grow_to(&mut self, frame: FrameId) {
        if frame.index() >= self.links.len() {
            self.links.resize(frame.index() + 1, Link { before: NONE, after: NONE, queue: IN_NO_QUEUE });
        }
    }

    /// Takes the frame out of its queue, if it is in one.
    pub(crate) fn remove(&mut self, frame: FrameId) {
        let Some(queue) = self.queue_of(frame) else { return };
        let Link { before, after, .. } = self.links[frame.index()];
        self.links[frame.index()].queue = IN_NO_QUEUE;
        let ends = &mut self.queues[queue.0 as usize];
        ends.len -= 1;
        match before {
            NONE => ends.first = after,
            before => self.links[before as usize].after = after,
        }
        match after {
            NONE => ends.last = before,
            after => self.links[after as usize].before = before,
        }
    }

    /// Puts the frame at the end of a queue, out of whichever it was in.
    pub(crate) fn move_to(&mut self, queue: QueueId, frame: FrameId) {
        self.remove(frame);
        self.push(queue, frame);
    }

    /// Puts `new` where `old` stands; `old` is in no queue then.
    pub(crate) fn replace(&mut self, old: FrameId, new: FrameId) {
        let Some(queue) = self.queue_of(old) else { return };
        assert!(self.queue_of(new).is_none(), "a frame is in one queue at most");
        self.grow_to(new);
        let link = self.links[old.index()];
        self.links[new.index()] = link;
        self.links[old.index()].queue = IN_NO_QUEUE;
        let ends = &mut self.queues[queue.0 as usize];
        match link.before {
            NONE => ends.first = new.0,
            before => self.links[before as usize].after = new.0,
        }
        match link.after {
            NONE => ends.last = new.0,
            after => self.links[after as usize].before = new.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    const QUEUE: [QueueId; QUEUES] = [QueueId::new(0), QueueId::new(1), QueueId::new(2)];

    fn contents(lists: &Lists, queue: QueueId) -> Vec<FrameId> {
        let mut found = Vec::new();
        let mut next = lists.first(queue);
        while let Some(frame) = next {
            found.push(frame);
            let after = lists.links[frame.index()].after;
            next = (after != NONE).then_some(FrameId(after));
        }
        found
    }

    #[test]
    fn queues_behave_like_vectors() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut lists = Lists::new();
        let mut model: [Vec<FrameId>; QUEUES] = Default::default();
        for _ in 0..if cfg!(miri) { 300 } else { 20_000 } {
            let frame = FrameId(random.random_range(0..12));
            let to = random.random_range(0..QUEUES);
            let place = (0..QUEUES).find_map(|q| Some((q, model[q].iter().position(|&f| f == frame)?)));
            match (place, random.random_range(0..4)) {
                (None, _) => {
                    lists.push(QUEUE[to], frame);
                    model[to].push(frame);
                }
                (Some((q, at)), 0) => {
                    lists.remove(frame);
                    model[q].remove(at);
                }
                (Some((q, at)), 1) => {
                    lists.move_to(QUEUE[to], frame);
                    model[q].remove(at);
                    model[to].push(frame);
                }
                (Some((q, at)), _) => {
                    let new = FrameId(random.random_range(12..16));
                    if model.iter().any(|queue| queue.contains(&new)) {
                        lists.remove(new);
                        model.iter_mut().for_each(|queue| queue.retain(|&f| f != new));
                    }
                    let at = model[q].iter().position(|&f| f == frame).unwrap_or(at);
                    lists.replace(frame, new);
                    model[q][at] = new;
                }
            }
            for q in 0..QUEUES {
                assert_eq!(contents(&lists, QUEUE[q]), model[q]);
                assert_eq!(lists.len(QUEUE[q]), model[q].len());
            }
        }
    }
}
