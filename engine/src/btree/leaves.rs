//! The leaves of many sorted keys, asked for ahead of their changes: many reads in flight, of pages that mostly stand side by side.
//!
//! The pages right above the leaves say which leaf each key lies in, many keys with one descent, and no leaf is looked at. What is asked
//! for is bounded in bytes, and small beside the pool, so that it is still there when it is needed.
//!
//! This is advice: where writers disturb, or a page above is missing or wrong, less is asked for. Whoever changes a leaf brings in what is
//! missing itself, and finds what is wrong.

use super::error::Stop;
use super::node::{Fault, Node};
use super::read::wrong;
use super::{Seek, Tree, TreeOp};
use ashlar_bufferpool::{PageId, PageStore, Pool};
use std::collections::VecDeque;

/// Bytes of leaves that are asked for before their turn, at most.
const BYTES: usize = 4 << 20;

/// One frame in so many is for them, at most.
const SHARE: usize = 8;

/// Restarts where a writer disturbs.
const TRIES: usize = 3;

/// A leaf, and the first of the keys that lies behind it.
type Leaf = (PageId, usize);

/// How far a pass over sorted keys has asked for their leaves.
#[derive(Debug)]
pub(super) struct LeavesAhead {
    /// Leaves asked for and not reached, at most.
    window: usize,
    /// For each of them, in order, the first key that lies behind it.
    ends: VecDeque<usize>,
    /// The first key whose leaf has not been asked for.
    asked: usize,
    found: Vec<Leaf>,
    pages: Vec<PageId>,
}

impl LeavesAhead {
    /// Of a pass over `count` keys that begins.
    pub(super) fn new<S: PageStore>(pool: &Pool<S>, count: usize) -> LeavesAhead {
        let window = match count > 1 && pool.may_miss() {
            true => (BYTES / pool.page_size()).min(pool.frames() as usize / SHARE),
            false => 0,
        };
        LeavesAhead { window, ends: VecDeque::new(), asked: 0, found: Vec::new(), pages: Vec::new() }
    }

    /// Whether more leaves should be asked for before key `at` of `count` is changed.
    pub(super) fn is_due(&mut self, at: usize, count: usize) -> bool {
        while self.ends.front().is_some_and(|&end| end <= at) {
            self.ends.pop_front();
        }
        // A key that was passed needs nothing any more.
        self.asked = self.asked.max(at);
        self.asked < count && self.ends.len() * 2 <= self.window && self.window > 0
    }

    /// Starts reads of the leaves that come next, as far as they are missing. Waits for frames, not for the reads: with nothing latched and
    /// nothing reserved.
    pub(super) fn ask<S: PageStore>(&mut self, pool: &Pool<S>, tree: &Tree, ops: &[TreeOp<'_>]) {
        self.pages.clear();
        while self.ends.len() < self.window && self.asked < ops.len() {
            let room = self.window - self.ends.len();
            let outcome = tree.leaves_of(pool, ops, self.asked, room, &mut self.found);
            let Some(&(_, end)) = self.found.last() else {
                if let Err(Stop::Missing(page)) = outcome {
                    // Its turn comes when it is there.
                    self.pages.push(page);
                }
                break;
            };
            self.pages.extend(self.found.iter().map(|(page, _)| page));
            self.ends.extend(self.found.iter().map(|(_, end)| end));
            self.asked = end;
        }
        pool.bring(&self.pages);
    }
}

impl Tree {
    /// The leaves in which the keys of `ops` lie, in order, each with the first key that lies behind it. Pages above the leaves are read where
    /// they are missing, the leaves are not looked at. The list ends early where a page above can't be read, or is wrong.
    pub fn leaves<S: PageStore>(&self, pool: &Pool<S>, ops: &[TreeOp<'_>]) -> Vec<(PageId, usize)> {
        let (mut all, mut found, mut at) = (Vec::new(), Vec::new(), 0);
        // What was read stays until it has been looked at.
        let mut held = None;
        while at < ops.len() {
            if let Err(Stop::Missing(page)) = self.leaves_of(pool, ops, at, usize::MAX, &mut found) {
                held = pool.load(page).ok();
                if held.is_some() {
                    continue;
                }
            }
            let Some(&(_, end)) = found.last() else { break };
            all.append(&mut found);
            at = end;
        }
        drop(held);
        all
    }

    /// The leaves in which the keys of `ops` from `first` on lie, as many as stand under the same parent as the first one and at most `max`.
    /// They replace what `found` holds. It stays empty where writers kept disturbing.
    ///
    /// # Errors
    /// As [`Tree::get`]: an inner page is missing or wrong. The leaves themselves are not looked at.
    fn leaves_of<S: PageStore>(
        &self,
        pool: &Pool<S>,
        ops: &[TreeOp<'_>],
        first: usize,
        max: usize,
        found: &mut Vec<Leaf>,
    ) -> Result<(), Stop> {
        found.clear();
        for _ in 0..TRIES {
            found.clear();
            let Some(above) = self.try_above_leaf(pool, Seek::AtOrAfter(ops[first].key))? else { continue };
            let Some((above, turn)) = above else {
                found.push((self.root, ops.len()));
                return Ok(());
            };
            let listed = Node::open(above.view(), self.id).and_then(|node| list(&node, turn.index, ops, first, max, found));
            match listed {
                Ok(()) if above.validate() => return Ok(()),
                Ok(()) => {}
                Err(what) => drop(wrong::<()>(&above, what).inspect_err(|_| found.clear())?),
            }
        }
        found.clear();
        Ok(())
    }
}

/// Lists the leaves under `node` as [`Tree::leaves_of`] does; `index` is the slot of the first one.
fn list<A: super::access::Access>(
    node: &Node<A>,
    mut index: usize,
    ops: &[TreeOp<'_>],
    first: usize,
    max: usize,
    found: &mut Vec<Leaf>,
) -> Result<(), Fault> {
    let mut upper = Vec::new();
    let bounded = node.upper_fence_into(&mut upper)?;
    let mut child = node.child(index);
    for (at, op) in ops.iter().enumerate().skip(first + 1) {
        let within = !bounded || op.key < &upper[..];
        if within && (index + 1 >= node.count() || node.is_above(index + 1, op.key)?) {
            continue;
        }
        found.push((child, at));
        if !within || found.len() >= max {
            return Ok(());
        }
        index = node.child_at(op.key)?;
        child = node.child(index);
    }
    found.push((child, ops.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::testing::{small_pool, wait_for};
    use crate::btree::{Change, TreeId};
    use rand::{RngExt, SeedableRng};

    fn put(key: &[u8]) -> TreeOp<'_> {
        TreeOp { key, change: Change::Put { kind: 0, bytes: b"value" } }
    }

    /// A tree of several levels, with each of these keys.
    fn tree_of(pool: &crate::btree::testing::TestPool, keys: &[Vec<u8>]) -> Tree {
        let tree = Tree { slots_max: 5, ..Tree::create(pool, TreeId(1)).unwrap() };
        for key in keys {
            tree.apply(pool, 1, &[put(key)], &mut |_: &[u8], _: Option<(u8, &[u8])>| {}).unwrap();
        }
        tree
    }

    /// Every key lies in the leaf that is listed for it, whichever keys there are and wherever a list ends.
    #[test]
    fn each_key_is_listed_with_its_leaf() {
        for seed in 0..20 {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let pool = small_pool(4096, 256);
            let key = |random: &mut rand_chacha::ChaCha8Rng| -> Vec<u8> {
                let common = if random.random_bool(0.5) { &b"a long common beginning"[..] } else { b"" };
                common.iter().copied().chain((0..random.random_range(0..5)).map(|_| random.random_range(0..4u8))).collect()
            };
            let keys: Vec<Vec<u8>> = (0..300).map(|_| key(&mut random)).collect();
            let tree = tree_of(&pool, &keys);
            let leaf_of = |key: &[u8]| wait_for(&pool, || tree.get(&pool, key, |found| found.page));
            let mut sought: Vec<Vec<u8>> = (0..random.random_range(1..200)).map(|_| key(&mut random)).collect();
            sought.sort();
            sought.dedup();
            let ops: Vec<TreeOp<'_>> = sought.iter().map(|key| put(key)).collect();
            let (mut found, mut at, mut lists) = (Vec::new(), 0, 0);
            while at < ops.len() {
                let max = random.random_range(1..20);
                wait_for(&pool, || tree.leaves_of(&pool, &ops, at, max, &mut found));
                assert!(!found.is_empty() && found.len() <= max, "seed {seed}");
                for &(page, end) in &found {
                    assert!(end > at, "seed {seed}: a leaf without a key");
                    for op in &ops[at..end] {
                        assert_eq!(leaf_of(op.key), page, "seed {seed}");
                    }
                    at = end;
                }
                lists += 1;
            }
            assert!(lists > 1 || ops.len() < 30, "seed {seed}: a list ends where its parent does");
            let mut at = 0;
            for (page, end) in tree.leaves(&pool, &ops) {
                assert!(ops[at..end].iter().all(|op| leaf_of(op.key) == page), "seed {seed}");
                at = end;
            }
            assert_eq!(at, ops.len(), "seed {seed}");
        }
    }

    #[test]
    fn a_tree_of_one_leaf_has_all_keys_in_it() {
        let pool = small_pool(4096, 24);
        let tree = tree_of(&pool, &[b"key".to_vec()]);
        let mut found = Vec::new();
        tree.leaves_of(&pool, &[put(b"a"), put(b"b")], 1, 9, &mut found).unwrap();
        assert_eq!(found, [(tree.root, 2)]);
    }

    /// Leaves of ten keys each: never more than the window ahead, never none ahead, and each leaf once.
    #[test]
    fn every_leaf_is_asked_for_once_and_in_time() {
        for (window, count) in [(8, 1000), (2, 95), (1, 30), (512, 100), (0, 50)] {
            let mut ahead = LeavesAhead { window, ends: VecDeque::new(), asked: 0, found: Vec::new(), pages: Vec::new() };
            let mut asked = vec![0; count];
            for at in 0..count {
                if ahead.is_due(at, count) {
                    while ahead.ends.len() < window && ahead.asked < count {
                        let end = (ahead.asked / 10 * 10 + 10).min(count);
                        asked[ahead.asked..end].iter_mut().for_each(|n| *n += 1);
                        ahead.ends.push_back(end);
                        ahead.asked = end;
                    }
                }
                let soon = count.min((at / 10 + window / 2) * 10);
                assert!(window < 2 || asked[at..soon.max(at)].iter().all(|&n| n == 1), "window {window}, key {at}");
                assert!(ahead.ends.len() <= window);
            }
            assert!(asked.iter().all(|&n| n == usize::from(window > 0)), "window {window} of {count}");
        }
    }
}
