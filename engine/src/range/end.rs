//! One end of a range: a copy of the leaf that was reached from there, and what of it is still to be given out.

use crate::btree::{KeyBuf, LeafCopy};
use crate::versions::Before;
use std::cmp::Ordering;
use std::ops::{Bound, Range};

/// See the module.
#[derive(Clone, Default)]
pub(super) struct End {
    pub(super) leaf: LeafCopy,
    /// The key of the entry of `leaf` that was reached last.
    pub(super) key: KeyBuf,
    /// Entries of `leaf` that are still to be given out, by index.
    pub(super) left: Range<usize>,
    /// Keys for which the leaf is not right, and what they held.
    pub(super) before: Vec<Before>,
    /// Those of `before` that are still to be given out.
    pub(super) before_left: Range<usize>,
    pub(super) started: bool,
    pub(super) done: bool,
}

/// Which of an end's entries comes next.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// One of the leaf.
    Leaf(usize),
    /// A before-image.
    Before(usize),
    /// Nothing more in this leaf.
    Exhausted,
}

impl End {
    /// The next entry upwards. Where a key stands in both, the before-image counts.
    #[inline]
    pub(super) fn next_up(&mut self) -> Next {
        if self.before_left.is_empty() {
            return self.left.next().map_or(Next::Exhausted, Next::Leaf);
        }
        self.next_of_both(Ordering::Less, |left| left.next(), |left| left.start)
    }

    /// The next entry downwards.
    #[inline]
    pub(super) fn next_down(&mut self) -> Next {
        if self.before_left.is_empty() {
            return self.left.next_back().map_or(Next::Exhausted, Next::Leaf);
        }
        self.next_of_both(Ordering::Greater, |left| left.next_back(), |left| left.end - 1)
    }

    /// The next entry where there are before-images: the leaf's if its key is `first` to theirs. `take` takes the next one of those left,
    /// `next` only tells it.
    fn next_of_both(
        &mut self,
        first: Ordering,
        take: impl Fn(&mut Range<usize>) -> Option<usize>,
        next: impl Fn(&Range<usize>) -> usize,
    ) -> Next {
        let before = next(&self.before_left);
        let of_leaf = (!self.left.is_empty()).then(|| next(&self.left));
        let order = of_leaf.map(|index| self.leaf.key(index)[..].cmp(&self.before[before].0));
        if order == Some(first) {
            return take(&mut self.left).map_or(Next::Exhausted, Next::Leaf);
        }
        if order == Some(Ordering::Equal) {
            take(&mut self.left);
        }
        take(&mut self.before_left);
        Next::Before(before)
    }

    /// A leaf has been copied: what lies between the bounds is still to be given out.
    pub(super) fn begin(&mut self, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) {
        self.left = 0..self.leaf.len();
        self.before_left = 0..self.before.len();
        self.started = true;
        self.leaf.begin_keys(&mut self.key);
        self.narrow(from, to);
    }

    /// Leaves out what does not lie between the bounds.
    pub(super) fn narrow(&mut self, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) {
        let start = match from {
            Bound::Included(key) => self.leaf.find(key).unwrap_or_else(|at| at),
            Bound::Excluded(key) => self.leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Unbounded => 0,
        };
        let end = match to {
            Bound::Included(key) => self.leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Excluded(key) => self.leaf.find(key).unwrap_or_else(|at| at),
            Bound::Unbounded => self.leaf.len(),
        };
        self.left = within(&self.left, start, end);
        let start = match from {
            Bound::Included(from) => self.before.partition_point(|(key, _)| **key < **from),
            Bound::Excluded(from) => self.before.partition_point(|(key, _)| **key <= **from),
            Bound::Unbounded => 0,
        };
        let end = match to {
            Bound::Included(to) => self.before.partition_point(|(key, _)| **key <= **to),
            Bound::Excluded(to) => self.before.partition_point(|(key, _)| **key < **to),
            Bound::Unbounded => self.before.len(),
        };
        self.before_left = within(&self.before_left, start, end);
    }
}

/// What of `left` lies in `start..end`.
fn within(left: &Range<usize>, start: usize, end: usize) -> Range<usize> {
    let (start, end) = (left.start.max(start), left.end.min(end));
    start..end.max(start)
}
