//! Where a key stands in a page.
//!
//! The search is binary over the heads, without a branch that depends on what is compared; only where the head of a slot
//! equals the key's is the cell looked at. The prefix is not compared: whoever came to this page through its parent knows
//! that the key lies between the fences, and so begins with it.

use super::access::Access;
use super::layout::{HEAD_LEN, rest_len};
use super::node::{Fault, Node, Slot, head};
use std::cmp::Ordering;

/// Where a key is or would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In this slot.
    At(usize),
    /// Before this slot.
    Before(usize),
}

impl Place {
    /// The first slot that is not below the key.
    pub(crate) fn index(self) -> usize {
        match self {
            Place::At(index) | Place::Before(index) => index,
        }
    }
}

impl<A: Access> Node<A> {
    /// Where `key`, which lies between the fences, stands.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Result<Place, Fault> {
        let suffix = key.get(self.prefix_len()..).ok_or("a page's prefix is longer than the key that leads to it")?;
        let head = head(suffix);
        let mut index = self.first_head(head);
        while index < self.count() {
            match self.compare(self.slot(index), head, suffix) {
                Ordering::Less => index = self.first_not_below(index + 1, head, suffix),
                Ordering::Equal => return Ok(Place::At(index)),
                Ordering::Greater => break,
            }
        }
        Ok(Place::Before(index))
    }

    /// The child of an inner page in which `key` lies: the last slot not above it.
    #[inline]
    pub(crate) fn child_at(&self, key: &[u8]) -> Result<usize, Fault> {
        Ok(match self.find(key)? {
            Place::At(index) => index,
            // Slot 0 is below every key, so that this is never less than 1 on a page in order.
            Place::Before(index) => index.saturating_sub(1),
        })
    }

    /// Whether the key of slot `index` is above `key`, which lies between the fences.
    #[inline]
    pub(crate) fn is_above(&self, index: usize, key: &[u8]) -> Result<bool, Fault> {
        let suffix = key.get(self.prefix_len()..).ok_or("a page's prefix is longer than the key that leads to it")?;
        Ok(self.compare(self.slot(index), head(suffix), suffix) == Ordering::Greater)
    }

    /// The child of an inner page in which the keys right below `key` lie: the last slot below it.
    pub(crate) fn child_before(&self, key: &[u8]) -> Result<usize, Fault> {
        Ok(self.find(key)?.index().saturating_sub(1))
    }

    /// The first slot whose head is not below `head`.
    #[inline]
    fn first_head(&self, head: u32) -> usize {
        let (mut base, mut len) = (0, self.count());
        while len > 1 {
            let half = len / 2;
            // A conditional move, not a jump: half of all such jumps would be mispredicted.
            base += if self.slot(base + half - 1).head() < head { half } else { 0 };
            len -= half;
        }
        base + usize::from(len == 1 && self.slot(base).head() < head)
    }

    /// The first slot from `from` on that is not below the key, where many heads are equal.
    #[cold]
    fn first_not_below(&self, from: usize, head: u32, suffix: &[u8]) -> usize {
        let (mut low, mut high) = (from, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.compare(self.slot(middle), head, suffix) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// The order of a slot's suffix and `suffix`, whose head is `head`.
    ///
    /// Where the heads are equal and one suffix has no more than its head, that one is a prefix of the other: both are equal
    /// as far as the shorter goes, and beyond it the head has only zeros. So the lengths decide.
    #[inline]
    fn compare(&self, slot: Slot, head: u32, suffix: &[u8]) -> Ordering {
        slot.head().cmp(&head).then_with(|| {
            let len = slot.suffix_len();
            if len <= HEAD_LEN || suffix.len() <= HEAD_LEN {
                return len.cmp(&suffix.len());
            }
            self.page().compare(self.rest_at(slot), rest_len(len), &suffix[HEAD_LEN..])
        })
    }
}
