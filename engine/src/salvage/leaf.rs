//! A leaf that was found, as it is sorted: whose it is, which keys it covers, how new it is and where it stands.

use super::pages::Place;
use super::sorter::Item;
use crate::btree::LonePage;
use crate::store::page_header::{self, get_u32, get_u64};
use std::cmp::Ordering;

/// How new what stands in a leaf is, compared with another leaf that covers the same key.
///
/// In this order: whether the page map names it; the incarnation that wrote it; the LSN of the newest commit that changed it; the write
/// number. An incarnation's pages hold all that counts of earlier ones, and may have LSNs below those that an earlier one gave to commits
/// which a crash took back. Within one, the tree has one leaf for a key at any LSN, and who takes keys over from a leaf has its LSN at
/// least; where LSNs are alike the keys that both cover have not changed in between, but within one commit, whose images' numbers rise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Age {
    /// The page map of the checkpoint that is read names this image.
    pub(super) named: bool,
    pub(super) incarnation: u32,
    pub(super) lsn: u64,
    pub(super) write_number: u64,
}

impl Age {
    /// Of a page in memory, which the map names or not.
    pub(super) fn of(page: &[u8], named: bool) -> Age {
        let write_number = get_u64(page, page_header::WRITE_NUMBER);
        let incarnation = (write_number >> 40) as u32;
        Age { named, incarnation, lsn: get_u64(page, page_header::COMMIT_LSN), write_number }
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leaf {
    pub(super) tree: u64,
    pub(super) page: u64,
    pub(super) lower: Vec<u8>,
    pub(super) upper: Option<Vec<u8>>,
    pub(super) age: Age,
    pub(super) place: Place,
    /// A newer image of the same page was found: this one is not the tree's any more, unless nothing else is.
    pub(super) superseded: bool,
}

impl Leaf {
    /// Of a page in memory, which stands there.
    pub(super) fn of(page: &LonePage<'_>, age: Age, place: Place) -> Leaf {
        Leaf {
            tree: page.tree().0,
            page: page.page().0,
            lower: page.lower().to_vec(),
            upper: page.upper().map(<[u8]>::to_vec),
            age,
            place,
            superseded: false,
        }
    }

    /// Whether all its keys are keys of `other`, too, and those newer.
    pub(super) fn is_covered_by(&self, other: &Leaf) -> bool {
        let ends_within = match (&self.upper, &other.upper) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(others)) => own <= others,
        };
        self.tree == other.tree && self.age <= other.age && other.lower <= self.lower && ends_within
    }

    /// As an item that is sorted by tree and lower fence.
    pub(super) fn into_item(self) -> Item {
        let mut payload = Vec::with_capacity(48 + self.upper.as_ref().map_or(0, Vec::len));
        payload.extend(self.page.to_le_bytes());
        payload.extend(self.age.lsn.to_le_bytes());
        payload.extend(self.age.write_number.to_le_bytes());
        payload.extend(self.place.address.to_le_bytes());
        payload.extend(self.place.blocks.to_le_bytes());
        payload.push(u8::from(self.age.named) | u8::from(self.superseded) << 1 | u8::from(self.upper.is_some()) << 2);
        payload.extend(self.upper.unwrap_or_default());
        Item { number: self.tree, key: self.lower, order: [0; 3], payload }
    }

    /// The leaf of an item. The sorter gives back what it was given.
    pub(super) fn from_item(item: Item) -> Leaf {
        let payload = &item.payload;
        let (write_number, flags) = (get_u64(payload, 16), payload[36]);
        Leaf {
            tree: item.number,
            page: get_u64(payload, 0),
            lower: item.key,
            upper: (flags & 4 != 0).then(|| payload[37..].to_vec()),
            age: Age { named: flags & 1 != 0, incarnation: (write_number >> 40) as u32, lsn: get_u64(payload, 8), write_number },
            place: Place { address: get_u64(payload, 24), blocks: get_u32(payload, 32) },
            superseded: flags & 2 != 0,
        }
    }
}

/// The newest is the greatest.
impl Ord for Leaf {
    fn cmp(&self, other: &Leaf) -> Ordering {
        let key = |leaf: &Leaf| (leaf.age, leaf.place, leaf.page);
        key(self).cmp(&key(other)).then_with(|| self.lower.cmp(&other.lower)).then_with(|| self.upper.cmp(&other.upper))
    }
}

impl PartialOrd for Leaf {
    fn partial_cmp(&self, other: &Leaf) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_come_back_from_items() {
        for (upper, named, superseded) in [(None, false, true), (Some(Vec::new()), true, false), (Some(vec![7; 900]), true, true)]
        {
            let age = Age { named, incarnation: 5, lsn: u64::MAX, write_number: 5 << 40 | 77 };
            let place = Place { address: 1 << 37, blocks: 16 };
            let leaf = Leaf { tree: 9, page: 3, lower: vec![1, 2], upper, age, place, superseded };
            assert_eq!(Leaf::from_item(leaf.clone().into_item()), leaf);
        }
    }

    #[test]
    fn what_a_crash_took_back_is_older_whatever_its_lsn() {
        let age = |incarnation: u32, lsn| Age { named: false, incarnation, lsn, write_number: u64::from(incarnation) << 40 };
        assert!(age(1, 1000) < age(2, 900));
        assert!(age(2, 900) < age(2, 901));
        assert!(age(3, 901) < Age { named: true, ..age(1, 5) });
    }
}
