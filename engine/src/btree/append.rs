//! New keys that come behind all that a leaf holds, as in a load in ascending order: leaves with them are built whole, instead of being filled
//! one key at a time.
//!
//! ```text
//!   leaf: 3 5 8, full             3 5 8 | 10 11 12 | 13 15 16 | 17
//!   changes: 10 11 12 13 15 ..    the same, and three new leaves behind it
//! ```
//!
//! 1. Such a run is of puts whose keys ascend and lie below the leaf's upper fence. It ends where a key comes again.
//! 2. What the leaves will hold is built in private memory before anything is latched; with the parent and the leaf latched nothing is left
//!    that a page may be missing for.
//! 3. Where the parent has no room, or the run is of one key, nothing is done: an ordinary split serves (see `split`).

use super::access::Plain;
use super::build::{Blank, Builder, common_len};
use super::divide::{Drafts, shorten};
use super::edit::{self, Entry};
use super::error::Stop;
use super::layout::{capacity, inner_entry_len, leaf_entry_len};
use super::node::{Fault, Node};
use super::search::Place;
use super::write::{Bend, Writer, corrupt};
use super::{Change, Lsns, Observer, Tree, TreeOp};
use ashlar_bufferpool::{ExclusiveGuard, PageId, PageStore};
use smallvec::SmallVec;
use std::ops::Range;

/// New leaves of one step, at most: as long as they are filled, nobody reads in what their parent leads to.
pub(super) const PAGES: usize = 4;

/// Frames that a step takes beside those of its new leaves: copies of the parent and the leaf whose frames are frozen.
pub(super) const COPIES: usize = 2;

/// A leaf to come, and its lower fence.
pub(super) struct Next {
    lower: Vec<u8>,
    page: Builder,
}

/// What has been built.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Plan {
    /// Changes that the leaf itself takes.
    taken: usize,
    /// New leaves; without any nothing is to be done.
    pages: usize,
}

impl Next {
    pub(super) fn new(page_size: usize) -> Next {
        Next { lower: Vec::new(), page: Builder::new(page_size) }
    }
}

impl<S: PageStore> Writer<'_, S> {
    /// Makes the first of `ops`, which doesn't fit in `leaf`, where the last descent ended, and some behind it, in new leaves. Gives how many.
    pub(super) fn append<O: Observer + ?Sized>(
        &mut self,
        leaf: PageId,
        (lsns, ops): (Lsns<'_>, &[TreeOp<'_>]),
        observer: &mut O,
    ) -> Result<usize, Stop> {
        let Some(&above) = self.path.last() else { return Ok(0) };
        let mut drafts = self.take_drafts();
        let planned = self.plan_append(above, leaf, (lsns, ops), &mut drafts);
        let outcome = match planned {
            Ok(Plan { pages: 0, .. }) => Ok(0),
            Ok(plan) => self.append_leaves(above, leaf, (&mut drafts, plan), ops, observer),
            Err(stop) => Err(stop),
        };
        self.give_drafts(drafts);
        outcome
    }

    /// Builds the leaf anew, and leaves that are to come behind it: as many as there are frames for, and their parent has room for.
    fn plan_append(
        &mut self,
        above: Bend,
        leaf: PageId,
        (lsns, ops): (Lsns<'_>, &[TreeOp<'_>]),
        drafts: &mut Drafts,
    ) -> Result<Plan, Stop> {
        let draft = |pages_max: usize, drafts: &mut Drafts| {
            let guard = self.shared(leaf)?;
            let node = self.open(leaf, guard.bytes())?;
            draft(node, self.tree, (lsns, ops), pages_max, drafts).map_err(|what| corrupt(leaf, what))
        };
        let plan = draft(PAGES.min(self.frames_left().saturating_sub(COPIES)), drafts)?;
        let room = self.parent_room(above, leaf, &drafts.run[..plan.pages])?;
        if room == plan.pages { Ok(plan) } else { draft(room, drafts) }
    }

    /// For how many of these, from the front, the parent of `leaf` has room behind it.
    fn parent_room(&self, Bend { page: parent, index }: Bend, leaf: PageId, run: &[Next]) -> Result<usize, Stop> {
        let guard = self.shared(parent)?;
        let node = self.open(parent, guard.bytes())?;
        if index >= node.count() || node.child(index) != leaf {
            return Err(corrupt(parent, "the page's children are not those found on the way down"));
        }
        let mut room = node.free();
        let fits = |&(nth, next): &(usize, &Next)| {
            let needed = inner_entry_len(next.lower.len().saturating_sub(node.prefix_len()));
            let fits = next.lower.len() >= node.prefix_len() && needed <= room && self.slot_allowed(node.count() + nth);
            room = room.saturating_sub(needed);
            fits
        };
        Ok(run.iter().enumerate().take_while(fits).count())
    }

    /// Puts the leaves that were built where they belong. Gives how many changes that makes.
    fn append_leaves<O: Observer + ?Sized>(
        &mut self,
        Bend { page: parent, index }: Bend,
        leaf: PageId,
        (drafts, Plan { taken, pages }): (&mut Drafts, Plan),
        ops: &[TreeOp<'_>],
        observer: &mut O,
    ) -> Result<usize, Stop> {
        let mut parent_guard = self.exclusive(parent)?;
        let mut leaf_guard = self.exclusive(leaf)?;
        let prefix = self.open(parent, parent_guard.bytes())?.prefix_len();
        let upper = self.open(leaf, leaf_guard.bytes())?.upper_fence().map(<[u8]>::to_vec);
        let (tree, run) = (self.tree.id, &mut drafts.run[..pages]);
        let mut guards: SmallVec<[ExclusiveGuard<'_, S>; PAGES]> = SmallVec::new();
        for (nth, next) in run.iter().enumerate() {
            let guard = self.create();
            let child = Entry::Child(guard.page());
            guards.push(guard);
            match edit::insert(&mut parent_guard, tree, index + 1 + nth, &next.lower[prefix..], child) {
                Ok(true) => {}
                failed => {
                    // As it was: a page in which something is wrong leads to no leaf that has nothing in it.
                    let undone = edit::remove(&mut parent_guard, tree, index + 1..index + 1 + nth);
                    guards.into_iter().for_each(|guard| self.pool.free(guard));
                    let what = failed.err().or(undone.err()).unwrap_or("a page's room is not what its header says");
                    return Err(corrupt(parent, what));
                }
            }
        }
        for (nth, guard) in guards.iter().enumerate() {
            let above = run.get(nth + 1).map(|next| &next.lower[..]).or(upper.as_deref());
            observer.moved(leaf, guard.page(), &run[nth].lower, above);
        }
        ops[..taken].iter().for_each(|op| observer.replaced(leaf, op.key, None));
        let mut made = taken;
        for (guard, next) in guards.iter_mut().zip(run) {
            let page = guard.page();
            let here = &ops[made..made + next.page.count()];
            here.iter().for_each(|op| observer.replaced(page, op.key, None));
            made += here.len();
            next.page.install(guard, page);
        }
        drafts.left.install(&mut leaf_guard, leaf);
        Ok(made)
    }
}

/// Builds `node` anew, with as many of the run that `ops` begin with as fit in it once it has a nearer upper fence, and leaves of those behind.
/// No leaves where there is no such run behind `node`.
fn draft(
    node: Node<Plain<'_>>,
    tree: &Tree,
    (lsns, ops): (Lsns<'_>, &[TreeOp<'_>]),
    pages_max: usize,
    drafts: &mut Drafts,
) -> Result<Plan, Fault> {
    let own = node.count();
    let is_run = node.is_leaf() && own > 0 && (0..2).all(|index| is_of_run(ops, index, node.upper_fence()));
    if pages_max == 0 || !is_run || node.find(ops[0].key)? != Place::Before(own) {
        return Ok(Plan::default());
    }
    let run = Run::behind(&node, tree, ops)?;
    let (mut from, Some(mut lower)) = run.leaf(0, node.lower_fence(), false)? else { return Ok(Plan::default()) };
    let blank = Blank { tree: tree.id, level: 0, lsn: node.lsn(), lower: node.lower_fence(), upper: Some(&lower) };
    let newest = |here: Range<usize>| here.map(|index| lsns.of(index)).fold(node.lsn(), u64::max);
    let here = 0..from - own;
    let begun = drafts.left.start(Blank { lsn: newest(here.clone()), ..blank }) && drafts.left.push_from(&node, 0..own)?;
    if !begun || !push(&mut drafts.left, &ops[here])? {
        return Ok(Plan::default());
    }
    let (taken, mut pages) = (from - own, 0);
    while pages < pages_max && run.goes_on(from) {
        let (count, closed) = run.leaf(from, &lower, pages + 1 == pages_max)?;
        let (here, next) = (from - own..from - own + count, &mut drafts.run[pages]);
        let upper = closed.as_deref().or(run.upper);
        let blank = Blank { tree: tree.id, level: 0, lsn: newest(here.clone()), lower: &lower, upper };
        if count == 0 || !next.page.start(blank) || !push(&mut next.page, &ops[here])? {
            return Ok(Plan::default());
        }
        (pages, from) = (pages + 1, from + count);
        let Some(above) = closed else {
            next.lower = lower;
            break;
        };
        next.lower = std::mem::replace(&mut lower, above);
    }
    Ok(Plan { taken, pages })
}

/// Appends puts. False: they don't fit.
fn push(page: &mut Builder, ops: &[TreeOp<'_>]) -> Result<bool, Fault> {
    for op in ops {
        let Change::Put { kind, bytes } = op.change else { return Err("a run of puts has something else in it") };
        if !page.push(op.key, Entry::Value(kind, bytes))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether change `index` belongs to the run that these begin with, if those before do: it lies below `upper`, the leaf's upper fence.
fn is_of_run(ops: &[TreeOp<'_>], index: usize, upper: Option<&[u8]>) -> bool {
    let Some(op) = ops.get(index) else { return false };
    let is_above = index.checked_sub(1).is_none_or(|before| ops[before].key < op.key);
    is_above && matches!(op.change, Change::Put { .. }) && upper.is_none_or(|upper| op.key < upper)
}

/// The entries of a leaf and, numbered on behind them, changes of which some, from the first on, are a run.
struct Run<'a> {
    /// Lengths of the keys and values of the leaf's entries.
    own: Vec<(usize, usize)>,
    /// The key of the last of these.
    last: Vec<u8>,
    ops: &'a [TreeOp<'a>],
    /// The leaf's upper fence.
    upper: Option<&'a [u8]>,
    tree: &'a Tree,
    /// Bytes of a leaf for fences and entries.
    room: usize,
}

impl<'a> Run<'a> {
    fn behind(node: &Node<Plain<'a>>, tree: &'a Tree, ops: &'a [TreeOp<'a>]) -> Result<Run<'a>, Fault> {
        let mut last = Vec::new();
        node.key_into(node.count() - 1, &mut last)?;
        let lens = |slot: usize| (node.prefix_len() + node.slot(slot).suffix_len(), node.value_len(slot));
        let (own, room) = ((0..node.count()).map(lens).collect(), capacity(node.page().0.len()));
        Ok(Run { own, last, ops, upper: node.upper_fence(), tree, room })
    }

    /// The key of the leaf's last entry, or of one of the run.
    fn key(&self, index: usize) -> &[u8] {
        index.checked_sub(self.own.len()).map_or(&self.last, |index| self.ops[index].key)
    }

    /// Whether `index` belongs to the run, if those before do.
    fn goes_on(&self, index: usize) -> bool {
        index.checked_sub(self.own.len()).is_none_or(|index| is_of_run(self.ops, index, self.upper))
    }

    /// Bytes of an entry whose key is without `prefix` bytes.
    fn entry_len(&self, index: usize, prefix: usize) -> usize {
        let (key, value) = match index.checked_sub(self.own.len()).map(|index| self.ops[index]) {
            None => self.own[index],
            Some(TreeOp { key, change: Change::Put { bytes, .. } }) => (key.len(), bytes.len()),
            Some(TreeOp { key, .. }) => (key.len(), 0),
        };
        leaf_entry_len(key.saturating_sub(prefix), value)
    }

    /// Whether `count` of them from `from` on fit in a leaf between these fences.
    fn fits(&self, from: usize, count: usize, lower: &[u8], upper: Option<&[u8]>) -> bool {
        let prefix = upper.map_or(0, |upper| common_len(lower, upper));
        let entries: usize = (from..from + count).map(|index| self.entry_len(index, prefix)).sum();
        lower.len() + upper.map_or(0, <[u8]>::len) + entries <= self.room
    }

    /// How many from `from` on the next leaf holds, all of its own at least, and its upper fence, if it is not that of all.
    fn leaf(&self, from: usize, lower: &[u8], is_last: bool) -> Result<(usize, Option<Vec<u8>>), Fault> {
        let own = self.own.len().saturating_sub(from);
        // As many as may fit, whatever the fence: with the longest prefix there can be.
        let whole = |index: usize| self.entry_len(index, 0);
        let (mut count, mut all) = (own, lower.len() + (from..from + own).map(whole).sum::<usize>());
        while self.goes_on(from + count) && (count == 0 || self.tree.slot_allowed(count)) {
            all += whole(from + count);
            if all.saturating_sub((count + 1) * common_len(lower, self.key(from + count))) > self.room {
                break;
            }
            count += 1;
        }
        let is_all = !self.goes_on(from + count);
        if is_last || is_all && self.fits(from, count, lower, self.upper) {
            let fits = (own.max(1)..=count).rev().find(|&count| self.fits(from, count, lower, self.upper));
            return Ok((fits.unwrap_or(0), None));
        }
        for count in (own.max(1)..=count - usize::from(is_all)).rev() {
            let mut upper = self.key(from + count).to_vec();
            shorten(self.key(from + count - 1), &mut upper)?;
            if self.fits(from, count, lower, Some(&upper)) {
                return Ok((count, Some(upper)));
            }
        }
        Ok((0, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::testing::{TestPool, page_count, small_pool, wait_for};
    use crate::btree::{Finding, Seek, TreeId};
    use std::collections::BTreeMap;

    fn put<'a>(key: &'a [u8], bytes: &'a [u8]) -> TreeOp<'a> {
        TreeOp { key, change: Change::Put { kind: 0, bytes } }
    }

    /// Steps of this kind that a batch makes, and the changes that they make.
    fn appended(tree: &Tree, pool: &TestPool, ops: &[TreeOp<'_>]) -> usize {
        let mut writer = Writer::new(tree, pool);
        writer.reserve_frames(COPIES + PAGES).unwrap();
        let leaf = writer.run(|writer| writer.descend(Seek::AtOrAfter(ops[0].key))).unwrap();
        writer.reserve_frames(COPIES + PAGES).unwrap();
        let mut nobody = |_: &[u8], _: Option<(u8, &[u8])>| {};
        writer.run(|writer| writer.append(leaf, (Lsns::All(9), ops), &mut nobody)).unwrap()
    }

    #[test]
    fn an_ascending_load_leaves_full_leaves() {
        // With long keys their parents have no room for all at times.
        for (slots_max, head) in [(0, 0), (9, 0), (0, 84)] {
            let pool = small_pool(8192, 3000);
            let tree = Tree { slots_max, ..Tree::create(&pool, TreeId(1)).unwrap() };
            let keys: Vec<Vec<u8>> = (0..20_000u128).map(|nth| [&vec![b'k'; head][..], &nth.to_be_bytes()].concat()).collect();
            let mut told = Vec::new();
            for some in keys.chunks(1000) {
                let ops: Vec<TreeOp<'_>> = some.iter().map(|key| put(key, &[5; 100])).collect();
                tree.apply(&pool, 1, &ops, &mut |key: &[u8], old: Option<(u8, &[u8])>| told.push((key.to_vec(), old.is_some())))
                    .unwrap();
            }
            assert!(told.iter().map(|(key, old)| (&key[..], *old)).eq(keys.iter().map(|key| (&key[..], false))));
            let (mut fills, mut entries) = (BTreeMap::new(), 0);
            let mut note = |finding: Finding<'_, _>| match finding {
                Finding::Page { page, level: 0, used, .. } => drop(fills.insert(page, used)),
                Finding::Page { .. } => {}
                Finding::Entry { .. } => entries += 1,
                fault => panic!("{fault:?}"),
            };
            tree.check(&pool, &mut note).unwrap();
            assert_eq!(entries, keys.len());
            let least = if slots_max == 0 { 20_000 * 111 / (8192 - 64 - 2 * (head + 16)) } else { 20_000 / 9 };
            assert!((least..least + 2 + least / 20).contains(&fills.len()), "{} leaves, at least {least}", fills.len());
        }
    }

    /// A new leaf has the LSN of the newest commit that has changed it, or the leaf from which its keys come.
    #[test]
    fn new_leaves_have_the_newest_lsn() {
        let pool = small_pool(4096, 100);
        let tree = Tree { slots_max: 4, ..Tree::create(&pool, TreeId(1)).unwrap() };
        let mut nobody = |_: &[u8], _: Option<(u8, &[u8])>| {};
        let keys: Vec<[u8; 1]> = (0..20).map(|key| [key]).collect();
        for key in &keys[..8] {
            tree.apply(&pool, 50, &[put(key, b"")], &mut nobody).unwrap();
        }
        let (ops, lsns) = (keys[8..16].iter().map(|key| put(key, b"")).collect::<Vec<_>>(), [40, 60, 41, 42, 43, 44, 45, 46]);
        tree.apply_from(&pool, Lsns::Each(&lsns), &ops, None, &mut nobody).unwrap();
        let lsn_at = |key: &[u8]| wait_for(&pool, || tree.get(&pool, key, |found| found.lsn));
        assert_eq!([lsn_at(&keys[7]), lsn_at(&keys[8]), lsn_at(&keys[12]), lsn_at(&keys[15])], [50, 60, 50, 50]);
    }

    /// What belongs to a run, and what ends it.
    #[test]
    fn a_run_ends_where_it_must() {
        let pool = small_pool(4096, 100);
        let tree = Tree { slots_max: 4, ..Tree::create(&pool, TreeId(1)).unwrap() };
        let mut nobody = |_: &[u8], _: Option<(u8, &[u8])>| {};
        let first: Vec<[u8; 1]> = [10, 20, 30, 40, 50, 60, 70, 80].map(|key: u8| [key]).into();
        for key in &first {
            tree.apply(&pool, 1, &[put(key, b"")], &mut nobody).unwrap();
        }
        // Leaves: 10 20 30 40 | 50 60 70 80.
        let before = page_count(&pool);
        assert_eq!(before, 3);
        let ops = |keys: &[u8]| -> Vec<[u8; 1]> { keys.iter().map(|key| [*key]).collect() };
        let made = |keys: &[u8]| {
            let keys = ops(keys);
            let ops: Vec<TreeOp<'_>> = keys.iter().map(|key| put(key, b"")).collect();
            appended(&tree, &pool, &ops)
        };
        assert_eq!(made(&[41]), 0, "one key");
        assert_eq!(made(&[41, 50]), 0, "the second is another leaf's");
        assert_eq!(made(&[39, 41]), 0, "not behind all");
        assert_eq!(made(&[40, 41]), 0, "not a new one");
        assert_eq!(made(&[41, 41]), 0, "a key comes again");
        let deleted = [put(b")", b""), TreeOp { key: b"*", change: Change::Delete }, put(b"+", b"")];
        assert_eq!(appended(&tree, &pool, &deleted), 0, "a key goes");
        assert_eq!(page_count(&pool), before);
        assert_eq!(made(&[41, 42, 43, 50, 51]), 3, "the leaf's upper fence");
        // Leaves: 10 20 30 40 | 41 42 43 | 50 60 70 80. The root has room for one more child.
        assert_eq!(made(&[81, 82, 83, 84, 85, 86, 87, 88, 89]), 4, "the parent's room");
        assert_eq!(made(&[90, 91, 92]), 0, "the parent is full");
        tree.check(&pool, &mut |finding| assert!(!finding.is_fault(), "{finding:?}")).unwrap();
    }
}
