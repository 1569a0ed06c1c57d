//! Splitting a page in two, so that one more entry finds room.
//!
//! A split moves entries and makes none: the change that needs room is made afterwards, in the half where it belongs. One step
//! splits one page, below a parent that has room for one more child; where it has not, the step splits the parent instead, and
//! the writer comes back. A root that must be split first gets a single child with all that it held (see `root`).
//!
//! 1. Both halves are built in private memory before any latch is taken exclusively.
//! 2. The half where the new entry belongs has room for it. `layout` proves that there is always such a split.
//! 3. Separators between leaves are cut to the shortest key that separates.
//!
//! Where a page is split: in the middle, by bytes; but where the new entry falls at the page's end, everything stays in the
//! left half as far as it fits, and the right one begins with the new entry, so that loading in ascending order leaves full
//! pages; likewise at the start for descending order.

use super::access::Plain;
use super::build::{Blank, Builder, common_len};
use super::edit::{self, Entry};
use super::error::Stop;
use super::layout::{capacity, inner_entry_len, leaf_entry_len};
use super::node::{Fault, Node};
use super::search::Place;
use super::write::{Drafts, Writer, corrupt};
use super::{Change, Observer, Seek, TreeId, TreeOp};
use ashlar_bufferpool::{PageId, PageStore};

/// The entry that needs room.
#[derive(Clone, Copy)]
struct Pending<'a> {
    key: &'a [u8],
    /// Length of its value; `None`: it is a child of an inner page.
    value_len: Option<usize>,
}

impl Pending<'_> {
    fn entry_len(&self, prefix: usize) -> usize {
        let suffix = self.key.len().saturating_sub(prefix);
        self.value_len.map_or_else(|| inner_entry_len(suffix), |len| leaf_entry_len(suffix, len))
    }
}

/// The entries of a page with the pending one among them, numbered as they will stand.
struct Lineup<'a> {
    node: Node<Plain<'a>>,
    pending: Pending<'a>,
    place: Place,
}

impl<'a> Lineup<'a> {
    fn new(node: Node<Plain<'a>>, pending: Pending<'a>) -> Result<Lineup<'a>, Fault> {
        let place = node.find(pending.key)?;
        if !node.is_leaf() && matches!(place, Place::At(_)) {
            return Err("a separator that is to be added is already there");
        }
        Ok(Lineup { place, node, pending })
    }

    fn len(&self) -> usize {
        self.node.count() + usize::from(self.is_new())
    }

    /// Whether the pending entry's key is not yet in the page.
    fn is_new(&self) -> bool {
        matches!(self.place, Place::Before(_))
    }

    /// Number of the page's own entries among the first `number`.
    fn own_below(&self, number: usize) -> usize {
        number - usize::from(self.is_new() && self.place.index() < number)
    }

    fn entry_len(&self, number: usize) -> usize {
        if number == self.place.index() {
            return self.pending.entry_len(self.node.prefix_len());
        }
        self.node.entry_len(self.own_below(number))
    }

    fn key_into(&self, number: usize, key: &mut Vec<u8>) -> Result<(), Fault> {
        if number != self.place.index() {
            return self.node.key_into(self.own_below(number), key);
        }
        key.clear();
        key.extend_from_slice(self.pending.key);
        Ok(())
    }

    fn lean(&self) -> Lean {
        match self.place {
            Place::Before(index) if index == self.node.count() => Lean::FullLeft,
            // In an inner page, slot 0 is the lower fence: the first new separator stands before slot 1.
            Place::Before(index) if index == usize::from(!self.node.is_leaf()) => Lean::FullRight,
            _ => Lean::Even,
        }
    }

    /// Bytes that the pending entry adds to a page with the prefix of `builder`, which has been given the entry it replaces.
    fn pending_growth(&self, builder: &Builder) -> usize {
        let new = self.pending.entry_len(builder.prefix_len());
        let old = match self.place {
            Place::At(index) => {
                leaf_entry_len(self.pending.key.len().saturating_sub(builder.prefix_len()), self.node.value_len(index))
            }
            Place::Before(_) => 0,
        };
        new.saturating_sub(old)
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

impl<S: PageStore> Writer<'_, S> {
    /// Makes room for `op` in its leaf, or goes one step towards it.
    pub(super) fn make_room<O: Observer + ?Sized>(
        &mut self,
        op: &TreeOp<'_>,
        observer: &mut O,
    ) -> Result<(), super::TreeError<S::Error>> {
        let Change::Put { bytes, .. } = op.change else { return Ok(()) };
        let pending = Pending { key: op.key, value_len: Some(bytes.len()) };
        self.run(|writer| {
            let leaf = writer.descend(Seek::AtOrAfter(op.key))?;
            writer.split(writer.path.len(), leaf, pending, observer)
        })
    }

    /// Splits `page`, which stands at `depth` of the path, or else the page above it that must be split first.
    fn split<O: Observer + ?Sized>(
        &mut self,
        depth: usize,
        page: PageId,
        pending: Pending<'_>,
        observer: &mut O,
    ) -> Result<(), Stop> {
        let Some(above) = depth.checked_sub(1) else { return self.grow_root(observer) };
        let mut drafts = self.take_drafts();
        let outcome = self.split_below(above, page, pending, &mut drafts, observer);
        let separator = std::mem::take(&mut drafts.separator);
        self.give_drafts(drafts);
        match outcome? {
            true => Ok(()),
            false => self.split(above, self.path[above].page, Pending { key: &separator, value_len: None }, observer),
        }
    }

    /// Splits `page` below its parent, which stands at `above` of the path. False: the parent is full, nothing has changed.
    fn split_below<O: Observer + ?Sized>(
        &mut self,
        above: usize,
        page: PageId,
        pending: Pending<'_>,
        drafts: &mut Drafts,
        observer: &mut O,
    ) -> Result<bool, Stop> {
        let super::write::Bend { page: parent, index } = self.path[above];
        self.plan_split(page, pending, drafts)?;
        if !self.parent_has_room(parent, index, page, &drafts.separator)? {
            return Ok(false);
        }
        let mut parent_guard = self.exclusive(parent)?;
        let mut left_guard = self.exclusive(page)?;
        let mut right_guard = self.create();
        let right = right_guard.page();
        let prefix = self.open(parent, parent_guard.bytes())?.prefix_len();
        let suffix = &drafts.separator[prefix..];
        match edit::insert(&mut parent_guard, self.tree.id, index + 1, suffix, Entry::Child(right)) {
            Ok(true) => {}
            failed => {
                self.pool.free(right_guard);
                return Err(corrupt(parent, failed.err().unwrap_or("a page's room is not what its header says")));
            }
        }
        if drafts.left.is_leaf() {
            let node = self.open(page, left_guard.bytes())?;
            observer.moved(page, right, &drafts.separator, node.upper_fence());
        }
        drafts.right.install(&mut right_guard, right);
        drafts.left.install(&mut left_guard, page);
        Ok(true)
    }

    /// Whether `parent`, whose slot `index` has `child`, has room for a separator behind that slot.
    fn parent_has_room(&self, parent: PageId, index: usize, child: PageId, separator: &[u8]) -> Result<bool, Stop> {
        let guard = self.shared(parent)?;
        let node = self.open(parent, guard.bytes())?;
        if index >= node.count() || node.child(index) != child || node.prefix_len() > separator.len() {
            return Err(corrupt(parent, "the page's separators do not fit those of its child"));
        }
        Ok(node.free() >= inner_entry_len(separator.len() - node.prefix_len()) && self.slot_allowed(node.count()))
    }

    /// Builds both halves of `page`, and the separator between them.
    fn plan_split(&mut self, page: PageId, pending: Pending<'_>, drafts: &mut Drafts) -> Result<(), Stop> {
        let guard = self.shared(page)?;
        let node = self.open(page, guard.bytes())?;
        plan(node, self.tree.id, pending, drafts).map_err(|what| corrupt(page, what))
    }
}

/// Builds the halves of `node` in `drafts`, at the best point where both fit.
fn plan(node: Node<Plain<'_>>, tree: TreeId, pending: Pending<'_>, drafts: &mut Drafts) -> Result<(), Fault> {
    let lineup = Lineup::new(node, pending)?;
    let entries: Vec<usize> = (0..lineup.len()).map(|number| lineup.entry_len(number)).collect();
    let best = split_point(&entries, lineup.lean());
    for number in outward(best, lineup.len()) {
        // An inner page can't be split at the pending entry: the child that would come first in the right half isn't there.
        let at_pending = lineup.is_new() && number == lineup.place.index();
        if (node.is_leaf() || !at_pending) && halve(&lineup, tree, number, drafts)? {
            return Ok(());
        }
    }
    Err("the page can't be split: its keys or values are above the limits")
}

/// Builds the halves for a split before entry `number`. False: one doesn't fit.
fn halve(lineup: &Lineup<'_>, tree: TreeId, number: usize, drafts: &mut Drafts) -> Result<bool, Fault> {
    let Drafts { left, right, separator } = drafts;
    let node = &lineup.node;
    let own = lineup.own_below(number);
    lineup.key_into(number, separator)?;
    if node.is_leaf() {
        let mut below = Vec::new();
        lineup.key_into(number - 1, &mut below)?;
        shorten(&below, separator)?;
    }
    let blank = Blank { tree, level: node.level(), lsn: node.lsn(), lower: node.lower_fence(), upper: node.upper_fence() };
    if !left.start(Blank { upper: Some(separator), ..blank }) || !right.start(Blank { lower: separator, ..blank }) {
        return Ok(false);
    }
    if !left.push_from(node, 0..own)? {
        return Ok(false);
    }
    let first = match node.is_leaf() {
        true => own,
        false => own + usize::from(right.push_first(node.child(own))),
    };
    if !right.push_from(node, first..node.count())? {
        return Ok(false);
    }
    let half = if lineup.place.index() < number { left } else { right };
    Ok(half.used() + lineup.pending_growth(half) <= capacity(node.page().0.len()))
}

/// Cuts `above` to the shortest key that is above `below`.
fn shorten(below: &[u8], above: &mut Vec<u8>) -> Result<(), Fault> {
    if below >= &above[..] {
        return Err("the page's keys are not in order");
    }
    above.truncate(common_len(below, above) + 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::limits;
    use crate::btree::testing::random_key;
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
            let mut drafts = Drafts { left: Builder::new(page_size), right: Builder::new(page_size), separator: Vec::new() };
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
                plan(node, TREE, pending, &mut drafts).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
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
