//! Going through the keys of a tree: for each stretch of keys the newest leaf that covers it, or none.
//!
//! The leaves come sorted by tree and lower fence; those that overlap the place where the sweep is are kept, the newest on top.
//! So memory is bounded by how many images overlap at one key, and every leaf is used for whole stretches, in the order of keys.

use super::leaf::Leaf;
use super::sorter::Sorted;
use crate::error::Result;
use std::collections::{BinaryHeap, VecDeque};

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
    /// Leaves that were taken ahead of a place to which the sweep then went back; by their lower fences. They come before those that
    /// have not been taken.
    ahead: VecDeque<Leaf>,
    /// How many may be active before those that are past are looked for.
    active_max: usize,
}

/// So many active leaves are no reason to look for those that are past.
const ACTIVE_MIN: usize = 64;

impl Sweep {
    /// Over a tree, from its first key on. The leaves of trees before it have been taken.
    pub(super) fn over(tree: u64) -> Sweep {
        Sweep { tree, at: Some(Vec::new()), active: BinaryHeap::new(), ahead: VecDeque::new(), active_max: ACTIVE_MIN }
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
        let active = std::mem::take(&mut self.active).into_iter().filter(|leaf| Some(leaf) != stretch.leaf.as_ref());
        let (here, mut ahead): (Vec<_>, Vec<_>) = active.partition(|leaf| leaf.lower <= stretch.from);
        self.active = here.into();
        ahead.extend(std::mem::take(&mut self.ahead));
        ahead.sort_by(|a, b| a.lower.cmp(&b.lower));
        self.ahead = ahead.into();
        self.at = Some(stretch.from);
    }

    /// The lower fence of the tree's next leaf.
    fn peek<'a>(&'a self, leaves: &'a Sorted) -> Option<&'a [u8]> {
        let taken = self.ahead.front().map(|leaf| &leaf.lower[..]);
        taken.or_else(|| leaves.peek().filter(|item| item.number == self.tree).map(|item| &item.key[..]))
    }

    fn take(&mut self, leaves: &mut Sorted) -> Result<()> {
        match self.ahead.pop_front() {
            Some(leaf) => self.active.push(leaf),
            None => self.active.extend(leaves.next()?.map(Leaf::from_item)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salvage::leaf::Age;
    use crate::salvage::pages::Place;
    use crate::salvage::sorter::Scratch;
    use ashlar_disk::sim::{Sim, SimOptions};
    use ashlar_disk::{BlockSize, Fs, IoMode};
    use rand::{RngExt, SeedableRng};
    use std::path::Path;
    use std::sync::Arc;

    /// Keys are numbers, in two bytes: every key counts.
    const KEYS: u16 = 40;

    fn key(number: u16) -> Vec<u8> {
        if number == 0 { Vec::new() } else { number.to_be_bytes().to_vec() }
    }

    fn leaf(tree: u64, from: u16, to: u16, age: u64, page: u64) -> Leaf {
        let upper = (to < KEYS).then(|| key(to));
        let age = Age { named: false, incarnation: 1, lsn: age, write_number: 1 << 40 | page };
        Leaf { tree, page, lower: key(from), upper, age, place: Place { address: page, blocks: 1 }, superseded: false }
    }

    #[test]
    fn each_key_belongs_to_the_newest_leaf_that_covers_it() {
        let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(1)).fs();
        let scratch = Scratch::new(&fs, Path::new("/"), IoMode::Direct, BlockSize::MIN);
        for seed in 0..300 {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut sorter = scratch.sorter("leaves");
            let mut all = Vec::new();
            for page in 0..random.random_range(0..30) {
                let from = random.random_range(0..KEYS);
                let to = random.random_range(from + 1..=KEYS);
                let leaf = leaf(random.random_range(1..4), from, to, random.random_range(0..12), page);
                sorter.push(leaf.clone().into_item()).unwrap();
                all.push(leaf);
            }
            let mut leaves = sorter.sorted().unwrap();
            // A leaf that can't be read any more when its turn comes is as if it were not there.
            let lost = random.random_range(0..30u64);
            for tree in 1..4 {
                let mut sweep = Sweep::over(tree);
                let mut at = Some(Vec::new());
                while let Some(stretch) = sweep.next(&mut leaves).unwrap() {
                    if stretch.leaf.as_ref().is_some_and(|leaf| leaf.page == lost) {
                        sweep.without(stretch);
                        continue;
                    }
                    assert_eq!(at.as_ref(), Some(&stretch.from), "seed {seed}: no gap between stretches");
                    for number in (0..KEYS).filter(|&number| key(number) >= stretch.from && stretch.ends_above(&key(number))) {
                        let covers = |leaf: &&Leaf| {
                            let upper = leaf.upper.as_ref();
                            leaf.tree == tree
                                && leaf.page != lost
                                && leaf.lower <= key(number)
                                && upper.is_none_or(|u| key(number) < *u)
                        };
                        let newest = all.iter().filter(covers).max_by_key(|leaf| leaf.age);
                        assert_eq!(stretch.leaf.as_ref(), newest, "seed {seed}, tree {tree}, key {number}");
                    }
                    at = stretch.to;
                }
                assert_eq!(at, None, "seed {seed}: to the end");
            }
            assert!(leaves.peek().is_none());
        }
    }
}
