//! Leaves that are looked up some keys ahead of the one that is changed, so that the processor fetches what a change touches first
//! while it works on others: several cache misses at once instead of one after the other. Batched reads look their keys up ahead, too, but
//! go down again: without the tree's lock a hint proves nothing.
//!
//! A hint is the leaf in which a key lay when it was looked up. It may be wrong by the time that it is used, and is looked at again
//! then by the one writer of the tree, while nobody else can change it: a leaf of this tree whose fences enclose the key is the one
//! in which the key belongs.

use super::node::Node;
use super::write::Writer;
use super::{Observer, PageId, Seek, Tree, TreeOp};
use ashlar_bufferpool::{PageStore, Pool};
use smallvec::SmallVec;

/// Leaves that are fetched at a time. A core has some dozen misses in flight at most, and a leaf takes several.
const AHEAD: usize = 4;

impl Tree {
    /// The leaf in which `key` belongs, as far as can be told without waiting and without reading the leaf, which is fetched meanwhile.
    pub fn hint<S: PageStore>(&self, pool: &Pool<S>, key: &[u8]) -> Option<PageId> {
        let above = self.try_above_leaf(pool, Seek::AtOrAfter(key)).ok()??;
        let leaf = match above {
            Some((above, turn)) => above.validate().then_some(turn.child)?,
            None => self.root,
        };
        pool.fetch(leaf);
        Some(leaf)
    }
}

/// The leaves of the next changes of a pass.
#[derive(Default)]
pub(super) struct Hints {
    /// By the places of their changes, ascending.
    ahead: SmallVec<[(usize, PageId); AHEAD]>,
    /// The first change that has not been looked up.
    next: usize,
}

impl Hints {
    /// Those of a pass whose first change may lie in `first`.
    pub(super) fn starting(first: Option<PageId>) -> Hints {
        Hints { ahead: first.map(|leaf| (0, leaf)).into_iter().collect(), next: 1 }
    }

    /// The leaf of change `at`, if it was looked up. Later ones are looked up, every `step`th: as many changes as the last leaf took. Where
    /// that does not lead to the changes whose turn it is, one at a time, so that little is done in vain.
    pub(super) fn turn<S: PageStore, O: Observer + ?Sized>(
        &mut self,
        (tree, pool): (&Tree, &Pool<S>),
        ops: &[TreeOp<'_>],
        at: usize,
        step: usize,
        observer: &mut O,
    ) -> Option<PageId> {
        let hint = self.ahead.iter().find(|(place, _)| *place == at).map(|&(_, leaf)| leaf);
        let depth = if hint.is_some() { AHEAD } else { 1 };
        if hint.is_some() {
            self.ahead.retain(|(place, _)| *place > at);
        } else {
            self.ahead.clear();
            self.next = at + step;
        }
        while self.ahead.len() < depth && self.next < ops.len() {
            let leaf = tree.hint(pool, ops[self.next].key);
            leaf.into_iter().for_each(|leaf| observer.upcoming(leaf));
            self.ahead.extend(leaf.map(|leaf| (self.next, leaf)));
            self.next += step;
            if leaf.is_none() {
                break;
            }
        }
        hint
    }
}

impl<S: PageStore> Writer<'_, S> {
    /// Whether `key` belongs in `page`: a leaf of this tree, in memory, whose fences enclose it.
    pub(super) fn is_leaf_of(&self, page: PageId, key: &[u8]) -> bool {
        let Ok(leaf) = self.pool.optimistic(page) else { return false };
        let covers = Node::open(leaf.view(), self.tree.id).is_ok_and(|node| node.is_leaf() && node.covers(key));
        covers && leaf.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::testing::{small_pool, wait_for};
    use crate::btree::{Change, Lsns, TreeId};
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    fn put(key: &[u8]) -> TreeOp<'_> {
        TreeOp { key, change: Change::Put { kind: 0, bytes: key } }
    }

    /// Hints of every kind: right ones, other leaves, inner pages, another tree's, pages that were freed or never there.
    #[test]
    fn a_hint_that_is_wrong_changes_nothing_but_the_way() {
        let pool = small_pool(4096, 64);
        let trees = [1, 2].map(|id| Tree { slots_max: 5, ..Tree::create(&pool, TreeId(id)).unwrap() });
        let mut model = [BTreeMap::new(), BTreeMap::new()];
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let (mut right, mut wrong) = (0, 0);
        for lsn in 1..6000u64 {
            let which = random.random_range(0..2);
            let (tree, key) = (trees[which], random.random_range(0..300u16).to_be_bytes());
            let hint = match random.random_bool(0.3) {
                true => wait_for(&pool, || tree.leaf(&pool, Seek::AtOrAfter(&key)).map(|leaf| leaf.page())),
                false => PageId(random.random_range(0..400)),
            };
            let is_right = Writer::new(&tree, &pool).is_leaf_of(hint, &key);
            let leaf = wait_for(&pool, || tree.leaf(&pool, Seek::AtOrAfter(&key)).map(|leaf| leaf.page()));
            assert!(!is_right || hint == leaf);
            *(if is_right { &mut right } else { &mut wrong }) += 1;
            // Deletes more often than not at times, so that leaves are joined and freed.
            let op = match random.random_bool(if lsn / 1000 % 2 == 0 { 0.3 } else { 0.7 }) {
                true => TreeOp { key: &key, change: Change::Delete },
                false => put(&key),
            };
            match op.change {
                Change::Delete => drop(model[which].remove(&key)),
                Change::Put { .. } => drop(model[which].insert(key, ())),
            }
            tree.apply_from(&pool, Lsns::All(lsn), &[op], Some(hint), &mut |_: &[u8], _: Option<(u8, &[u8])>| {}).unwrap();
        }
        assert!(right > 1000 && wrong > 1000, "{right} right, {wrong} wrong");
        for (tree, model) in trees.iter().zip(&model) {
            for key in (0..300u16).map(u16::to_be_bytes) {
                let found = wait_for(&pool, || tree.get(&pool, &key, |found| found.value.is_some()));
                assert_eq!(found, model.contains_key(&key));
            }
            tree.check(&pool, &mut |_| ()).unwrap();
        }
    }

    /// In a pass over many keys each leaf that is looked up ahead is the right one, as long as none is split.
    #[test]
    fn a_pass_looks_its_leaves_up_ahead() {
        let pool = small_pool(4096, 64);
        let tree = Tree { slots_max: 5, ..Tree::create(&pool, TreeId(1)).unwrap() };
        let keys: Vec<[u8; 2]> = (0..200u16).map(u16::to_be_bytes).collect();
        let ops: Vec<TreeOp<'_>> = keys.iter().map(|key| put(key)).collect();
        let mut nobody = |_: &[u8], _: Option<(u8, &[u8])>| {};
        tree.apply(&pool, 1, &ops, &mut nobody).unwrap();
        for key in &keys {
            wait_for(&pool, || tree.get(&pool, key, |_| ()));
        }
        let mut hints = Hints::starting(None);
        for at in 0..ops.len() {
            let hint = hints.turn((&tree, &pool), &ops, at, 1, &mut nobody);
            assert_eq!(hint.is_some(), at > 0, "change {at}");
            assert!(hint.is_none_or(|leaf| Writer::new(&tree, &pool).is_leaf_of(leaf, ops[at].key)));
            assert!(hints.ahead.len() <= AHEAD);
        }
        let mut hints = Hints::starting(None);
        let looked_up = (0..ops.len()).step_by(7).filter_map(|at| hints.turn((&tree, &pool), &ops, at, 7, &mut nobody)).count();
        assert_eq!(looked_up, 200 / 7);
        // After a change that was not expected they are found again.
        let mut hints = Hints::starting(None);
        let found = [(1, 1), (3, 7), (10, 7)].map(|(at, step)| hints.turn((&tree, &pool), &ops, at, step, &mut nobody).is_some());
        assert_eq!(found, [false, false, true]);
    }
}
