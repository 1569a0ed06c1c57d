//! Going through the keys of a tree: for each stretch of keys the newest leaf that covers it, or none.
//!
//! The leaves come sorted by tree and lower fence; those that overlap the place where the sweep is are kept, the newest on top.
//! So memory is bounded by how many images overlap at one key, and every leaf is used for whole stretches, in the order of keys.

use super::leaf::Leaf;
use super::sorter::Sorted;
use crate::error::Result;
use std::collections::BinaryHeap;

/// The keys from `from` on and below `to` (`None`: all above), and the leaf that holds what they held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) from: Vec<u8>,
    pub(super) to: Option<Vec<u8>>,
    /// `None`: no leaf covers them.
    pub(super) leaf: Option<Leaf>,
}

impl Stretch {
    /// Whether a key is below its end.
    pub(super) fn ends_above(&self, key: &[u8]) -> bool {
        self.to.as_deref().is_none_or(|to| key < to)
    }
}

/// A sweep over one tree.
#[derive(Debug)]
pub(super) struct Sweep {
    tree: u64,
    /// Where it is; `None`: at the end.
    at: Option<Vec<u8>>,
    active: BinaryHeap<Leaf>,
    /// How many may be active before those that are past are looked for.
    active_max: usize,
}

/// So many active leaves are no reason to look for those that are past.
const ACTIVE_MIN: usize = 64;

impl Sweep {
    /// Over a tree, from its first key on. The leaves of trees before it have been taken.
    pub(super) fn over(tree: u64) -> Sweep {
        Sweep { tree, at: Some(Vec::new()), active: BinaryHeap::new(), active_max: ACTIVE_MIN }
    }

    /// The next stretch. The stretches follow each other without a gap, from the empty key to the end.
    pub(super) fn next(&mut self, leaves: &mut Sorted) -> Result<Option<Stretch>> {
        let Some(at) = self.at.take() else { return Ok(None) };
        while self.peek(leaves).is_some_and(|lower| lower <= &at[..]) {
            self.take(leaves)?;
        }
        let is_past = |leaf: &Leaf| leaf.upper.as_ref().is_some_and(|upper| *upper <= at);
        while self.active.peek().is_some_and(is_past) {
            self.active.pop();
        }
        if self.active.len() > self.active_max {
            self.active.retain(|leaf| !is_past(leaf));
            self.active_max = ACTIVE_MIN.max(2 * self.active.len());
        }
        let Some(top) = self.active.peek().cloned() else {
            let to = self.peek(leaves).map(<[u8]>::to_vec);
            self.at.clone_from(&to);
            return Ok(Some(Stretch { from: at, to, leaf: None }));
        };
        let mut to = top.upper.clone();
        while let Some(lower) = self.peek(leaves).filter(|lower| to.as_deref().is_none_or(|to| *lower < to)) {
            let lower = lower.to_vec();
            self.take(leaves)?;
            if self.active.peek().is_some_and(|newest| *newest != top) {
                to = Some(lower);
                break;
            }
        }
        self.at.clone_from(&to);
        Ok(Some(Stretch { from: at, to, leaf: Some(top) }))
    }

    /// A leaf could not be read again: from here on it is not there. To be called with the stretch that gave it, which is then gone over
    /// once more.
    pub(super) fn without(&mut self, stretch: Stretch) {
        if let Some(lost) = &stretch.leaf {
            self.active.retain(|leaf| leaf != lost);
        }
        self.at = Some(stretch.from);
    }

    /// The lower fence of the tree's next leaf.
    fn peek<'a>(&self, leaves: &'a Sorted) -> Option<&'a [u8]> {
        leaves.peek().filter(|item| item.number == self.tree).map(|item| &item.key[..])
    }

    fn take(&mut self, leaves: &mut Sorted) -> Result<()> {
        if let Some(item) = leaves.next()? {
            self.active.push(Leaf::from_item(item));
        }
        Ok(())
    }
}
