//! Dividing the entries of a page, or of two neighbours, over two pages, so that one more entry finds room.
//!
//! 1. Both pages are built in private memory; nothing here changes a page or knows where it stands.
//! 2. The half where the new entry belongs has room for it. `layout` proves that one page can always be divided so.
//! 3. Separators between leaves are cut to the shortest key that separates.
//!
//! Where a page is divided: in the middle, by bytes; but where the new entry falls at the page's end, everything stays in the
//! left half as far as it fits, and the right one begins with the new entry, so that loading in ascending order leaves full
//! pages; likewise at the start for descending order. An inner page is divided at a separator, which then stands in neither
//! half: it goes to the parent, and its child becomes the first of the right half.

use super::access::Plain;
use super::build::{Blank, Builder, common_len};
use super::layout::{capacity, inner_entry_len, leaf_entry_len};
use super::node::{Fault, Node};
use super::search::Place;
use super::{TreeId, append};
use std::ops::Range;

/// The entry that needs room.
#[derive(Clone, Copy)]
pub(super) struct Pending<'a> {
    pub(super) key: &'a [u8],
    /// Length of its value; `None`: it is a child of an inner page.
    pub(super) value_len: Option<usize>,
}

impl Pending<'_> {
    fn entry_len(&self, prefix: usize) -> usize {
        let suffix = self.key.len().saturating_sub(prefix);
        self.value_len.map_or_else(|| inner_entry_len(suffix), |len| leaf_entry_len(suffix, len))
    }
}

/// Pages being built, and the key between them.
pub(super) struct Drafts {
    pub(super) left: Builder,
    pub(super) right: Builder,
    pub(super) separator: Vec<u8>,
    /// Those that come behind the left one where a run is appended.
    pub(super) run: [append::Next; append::PAGES],
}

impl Drafts {
    pub(super) fn new(page_size: usize) -> Drafts {
        Drafts {
            left: Builder::new(page_size),
            right: Builder::new(page_size),
            separator: Vec::new(),
            run: std::array::from_fn(|_| append::Next::new(page_size)),
        }
    }

    pub(super) fn page_size(&self) -> usize {
        self.left.page_size()
    }
}

/// Builds the halves of `node`, and the separator between them.
pub(super) fn split(node: Node<Plain<'_>>, tree: TreeId, pending: Pending<'_>, drafts: &mut Drafts) -> Result<(), Fault> {
    let nodes = [node];
    let lineup = Lineup::new(&nodes, 0, pending)?;
    for number in outward(split_point(&lineup.entry_lens(), lineup.lean()), lineup.len()) {
        // An inner page can't be divided at the pending entry: the child that would come first in the right half isn't there.
        let at_pending = lineup.is_new() && number == lineup.place.index();
        if (node.is_leaf() || !at_pending) && halve(&lineup, tree, number, drafts)? {
            return Ok(());
        }
    }
    Err("the page can't be split: its keys or values are above the limits")
}

/// Builds two neighbouring leaves anew, with their entries spread evenly, and the separator between them. The pending entry
/// belongs to the one numbered `holder`. False: neither would keep an eighth of its room, or the pending entry stands at the
/// end of a leaf, so that more like it may come: a split serves better.
pub(super) fn spread(
    nodes: [Node<Plain<'_>>; 2],
    holder: usize,
    tree: TreeId,
    pending: Pending<'_>,
    drafts: &mut Drafts,
) -> Result<bool, Fault> {
    let used_max = capacity(nodes[0].page().0.len()) * 7 / 8;
    let own = Lineup::new(&nodes[holder..=holder], 0, pending)?;
    if own.lean() != Lean::Even || nodes[0].used() + nodes[1].used() + pending.entry_len(0) > 2 * used_max {
        return Ok(false);
    }
    let lineup = Lineup::new(&nodes, holder, pending)?;
    let number = split_point(&lineup.entry_lens(), Lean::Even);
    let fits = number < lineup.len() && halve(&lineup, tree, number, drafts)?;
    Ok(fits && drafts.left.used().max(drafts.right.used()) <= used_max)
}

/// The entries of one page or of two neighbours, with the pending one among them, numbered as they will stand.
struct Lineup<'a> {
    nodes: &'a [Node<Plain<'a>>],
    /// Which of them the pending entry belongs to.
    holder: usize,
    pending: Pending<'a>,
    place: Place,
}

impl<'a> Lineup<'a> {
    fn new(nodes: &'a [Node<Plain<'a>>], holder: usize, pending: Pending<'a>) -> Result<Lineup<'a>, Fault> {
        let before: usize = nodes[..holder].iter().map(Node::count).sum();
        let place = match nodes[holder].find(pending.key)? {
            Place::At(_) if !nodes[holder].is_leaf() => return Err("a separator that is to be added is already there"),
            Place::At(index) => Place::At(before + index),
            Place::Before(index) => Place::Before(before + index),
        };
        Ok(Lineup { nodes, holder, pending, place })
    }

    fn own_len(&self) -> usize {
        self.nodes.iter().map(Node::count).sum()
    }

    fn len(&self) -> usize {
        self.own_len() + usize::from(self.is_new())
    }

    /// Whether the pending entry's key is not yet there.
    fn is_new(&self) -> bool {
        matches!(self.place, Place::Before(_))
    }

    /// Number of the pages' own entries among the first `number`.
    fn own_below(&self, number: usize) -> usize {
        number - usize::from(self.is_new() && self.place.index() < number)
    }

    /// The page and slot of one of the pages' own entries.
    fn slot(&self, own: usize) -> (&Node<Plain<'a>>, usize) {
        let first = &self.nodes[0];
        match self.nodes.get(1) {
            Some(second) if own >= first.count() => (second, own - first.count()),
            _ => (first, own),
        }
    }

    fn entry_lens(&self) -> Vec<usize> {
        (0..self.len()).map(|number| self.entry_len(number)).collect()
    }

    fn entry_len(&self, number: usize) -> usize {
        if number == self.place.index() {
            return self.pending.entry_len(self.nodes[self.holder].prefix_len());
        }
        let (node, slot) = self.slot(self.own_below(number));
        node.entry_len(slot)
    }

    fn key_into(&self, number: usize, key: &mut Vec<u8>) -> Result<(), Fault> {
        if number != self.place.index() {
            let (node, slot) = self.slot(self.own_below(number));
            return node.key_into(slot, key);
        }
        key.clear();
        key.extend_from_slice(self.pending.key);
        Ok(())
    }

    /// Appends those of the pages' own entries. False: they don't fit.
    fn push(&self, builder: &mut Builder, own: Range<usize>) -> Result<bool, Fault> {
        let first = self.nodes[0].count();
        Ok(builder.push_from(&self.nodes[0], own.start.min(first)..own.end.min(first))?
            && match self.nodes.get(1) {
                Some(second) => builder.push_from(second, own.start.max(first) - first..own.end.max(first) - first)?,
                None => true,
            })
    }

    fn lean(&self) -> Lean {
        let node = &self.nodes[0];
        match self.place {
            Place::Before(index) if index == self.own_len() => Lean::FullLeft,
            // In an inner page, slot 0 is the lower fence: the first new separator stands before slot 1.
            Place::Before(index) if index == usize::from(!node.is_leaf()) => Lean::FullRight,
            _ => Lean::Even,
        }
    }

    /// Bytes that the pending entry adds to a page with the prefix of `builder`, which has been given the entry it replaces.
    fn pending_growth(&self, builder: &Builder) -> usize {
        let prefix = builder.prefix_len();
        let old = match self.place {
            Place::At(own) => {
                let (node, slot) = self.slot(own);
                leaf_entry_len(self.pending.key.len().saturating_sub(prefix), node.value_len(slot))
            }
            Place::Before(_) => 0,
        };
        self.pending.entry_len(prefix).saturating_sub(old)
    }
}

/// How a split divides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lean {
    Even,
    /// Keys come in ascending order.
    FullLeft,
    /// Keys come in descending order.
    FullRight,
}

/// The best number of entries for the left of two pages, at least 1 and less than all of them.
fn split_point(entries: &[usize], lean: Lean) -> usize {
    let last = entries.len().saturating_sub(1).max(1);
    match lean {
        Lean::FullLeft => last,
        Lean::FullRight => 1,
        Lean::Even => {
            let total: usize = entries.iter().sum();
            let mut left = 0;
            let fewer = entries.iter().take_while(|&len| {
                left += len;
                left * 2 <= total
            });
            fewer.count().clamp(1, last)
        }
    }
}

/// The numbers from 1 to `end`, without `end`, those nearest to `start` first.
fn outward(start: usize, end: usize) -> impl Iterator<Item = usize> {
    let steps = 0..end;
    steps
        .flat_map(move |step| [start.checked_sub(step), (step > 0).then_some(start + step)])
        .flatten()
        .filter(move |&number| 0 < number && number < end)
}

/// Builds the two pages for a division before entry `number`. False: one doesn't fit.
fn halve(lineup: &Lineup<'_>, tree: TreeId, number: usize, drafts: &mut Drafts) -> Result<bool, Fault> {
    let Drafts { left, right, separator, .. } = drafts;
    let (first, last) = (&lineup.nodes[0], &lineup.nodes[lineup.nodes.len() - 1]);
    let (own, all) = (lineup.own_below(number), lineup.own_len());
    lineup.key_into(number, separator)?;
    if first.is_leaf() {
        let mut below = Vec::new();
        lineup.key_into(number - 1, &mut below)?;
        shorten(&below, separator)?;
    }
    let lsn = first.lsn().max(last.lsn());
    let blank = Blank { tree, level: first.level(), lsn, lower: first.lower_fence(), upper: last.upper_fence() };
    let started = left.start(Blank { upper: Some(separator), ..blank }) && right.start(Blank { lower: separator, ..blank });
    if !started || !lineup.push(left, 0..own)? {
        return Ok(false);
    }
    let rest = match first.is_leaf() {
        true => own,
        false => own + usize::from(right.push_first(first.child(own))),
    };
    if !lineup.push(right, rest..all)? {
        return Ok(false);
    }
    let half = if lineup.place.index() < number { left } else { right };
    Ok(half.used() + lineup.pending_growth(half) <= capacity(first.page().0.len()))
}

/// Cuts `above` to the shortest key that is above `below`.
pub(super) fn shorten(below: &[u8], above: &mut Vec<u8>) -> Result<(), Fault> {
    if below >= &above[..] {
        return Err("the page's keys are not in order");
    }
    above.truncate(common_len(below, above) + 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::edit::Entry;
    use crate::btree::limits;
    use crate::btree::testing::random_key;
    use ashlar_bufferpool::PageId;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeMap;

    const TREE: TreeId = TreeId(1);

    #[test]
    fn a_split_point_leaves_entries_on_both_sides() {
        assert_eq!(split_point(&[10, 10, 10, 10], Lean::Even), 2);
        assert_eq!(split_point(&[10, 10, 10, 10], Lean::FullLeft), 3);
        assert_eq!(split_point(&[10, 10, 10, 10], Lean::FullRight), 1);
        assert_eq!(split_point(&[1, 1, 1, 100], Lean::Even), 3);
        assert_eq!(split_point(&[100, 1, 1, 1], Lean::Even), 1);
        assert_eq!(split_point(&[5, 5], Lean::Even), 1);
    }

    #[test]
    fn outward_meets_each_number_once() {
        assert_eq!(outward(3, 6).collect::<Vec<_>>(), [3, 2, 4, 1, 5]);
        assert_eq!(outward(1, 4).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(outward(3, 4).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(outward(1, 1).count(), 0);
    }

    #[test]
    fn separators_are_as_short_as_they_can_be() {
        for (below, above, shortest) in
            [("a", "b", "b"), ("a", "bcd", "b"), ("ab", "abc", "abc"), ("abc", "abxyz", "abx"), ("", "q", "q")]
        {
            let mut separator = above.as_bytes().to_vec();
            shorten(below.as_bytes(), &mut separator).unwrap();
            assert_eq!(separator, shortest.as_bytes());
        }
        assert!(shorten(b"b", &mut b"b".to_vec()).is_err());
    }

    /// The entries of one page: values' lengths in a leaf, nothing in an inner page.
    struct Page {
        level: u8,
        lower: Vec<u8>,
        upper: Option<Vec<u8>>,
        entries: BTreeMap<Vec<u8>, usize>,
    }

    impl Page {
        fn build(&self, builder: &mut Builder) -> bool {
            let (lower, upper) = (&self.lower, self.upper.as_deref());
            let values = [0; 65536];
            builder.start(Blank { tree: TREE, level: self.level, lsn: 1, lower, upper })
                && (self.level == 0 || builder.push_first(PageId(0)))
                && self.entries.iter().all(|(key, &len)| {
                    let entry = if self.level == 0 { Entry::Value(0, &values[..len]) } else { Entry::Child(PageId(1)) };
                    builder.push(key, entry).unwrap()
                })
        }

        fn covers(&self, key: &[u8]) -> bool {
            let above = if self.level == 0 { self.lower[..] <= *key } else { self.lower[..] < *key };
            above && self.upper.as_deref().is_none_or(|upper| key < upper)
        }

        /// Gives what lies on one side of `separator` away.
        fn halve(&mut self, separator: &[u8], keep_left: bool) {
            let mut right = self.entries.split_off(separator);
            if keep_left {
                self.upper = Some(separator.to_vec());
            } else {
                // In an inner page the separator has become the lower fence.
                right.retain(|key, _| self.level == 0 || key != separator);
                (self.entries, self.lower) = (right, separator.to_vec());
            }
        }
    }

    /// Keys that are as long as can be and alike to the last bytes, so that separators and fences are long as well.
    fn hard_key(random: &mut ChaCha8Rng, key_max: usize) -> Vec<u8> {
        if random.random_range(0..3) == 0 {
            return random_key(random, key_max);
        }
        let mut key = vec![b'k'; key_max - random.random_range(0..3)];
        for back in 1..=[2, 3, 8, key_max][random.random_range(0..4)].min(4) {
            let at = key.len() - back;
            key[at] = random.random();
        }
        if random.random_range(0..4) == 0 {
            key[0] = random.random();
        }
        key
    }

    /// Whatever a page has come to hold, with any entry that doesn't fit it can be split so that the entry fits.
    #[test]
    fn every_page_can_be_split() {
        let mut splits = 0;
        for seed in 0..1000 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let page_size = 4096 << (seed % 5);
            let limits = limits(page_size);
            let mut builder = Builder::new(page_size);
            let mut drafts = Drafts::new(page_size);
            let level = (seed / 5 % 2) as u8;
            let mut page = Page { level, lower: Vec::new(), upper: None, entries: BTreeMap::new() };
            // In half of the runs all entries are large.
            let sizes = [0..6, 1..5][random.random_range(0..2)].clone();
            let tiles = random.random_range(2..7);
            for _ in 0..150 {
                let key = hard_key(&mut random, limits.key_max);
                if !page.covers(&key) || level > 0 && page.entries.contains_key(&key) {
                    if random.random_range(0..10) == 0 {
                        page = Page { level, lower: Vec::new(), upper: None, entries: BTreeMap::new() };
                    }
                    continue;
                }
                let value_max = limits.inline_value_max(key.len());
                // So many of them fill a page to the last byte.
                let tile = (capacity(page_size) / tiles).saturating_sub(leaf_entry_len(key.len(), 0)).min(value_max);
                let value_len =
                    [0, value_max, tile, tile, tile, random.random_range(0..=value_max)][random.random_range(sizes.clone())];
                let before = page.entries.insert(key.clone(), value_len);
                if page.build(&mut builder) {
                    continue;
                }
                page.entries.remove(&key);
                page.entries.extend(before.map(|len| (key.clone(), len)));
                assert!(page.build(&mut builder));
                let pending = Pending { key: &key, value_len: (level == 0).then_some(value_len) };
                let node = Node::open(Plain(builder.finished()), TREE).unwrap();
                split(node, TREE, pending, &mut drafts).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
                splits += 1;
                let keep_left = key < drafts.separator;
                page.halve(&drafts.separator, keep_left);
                page.entries.insert(key, value_len);
                assert!(page.build(&mut builder), "seed {seed}: the half has no room for the entry");
            }
        }
        assert!(splits > 2000, "{splits}");
    }
}
