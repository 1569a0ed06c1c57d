//! Making pages dirty that have not changed, so that they are written to new places: which they are, and doing it.
//!
//! A page is reached through the page above it, which names it, and is looked at before it is made dirty; whoever calls this has
//! the lock that lets one writer into the tree, from picking a page to touching it.

use super::error::{Stop, TreeError};
use super::write::{Writer, corrupt};
use super::{Seek, Tree};
use ashlar_bufferpool::{PageId, PageStore, Pool};

/// Pages of a tree that were asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picked {
    /// Pages on the way from the root to those below.
    pub above: Vec<PageId>,
    /// Leaves, in the order of their keys.
    pub leaves: Vec<PageId>,
    /// The key from which on to look for more. `None`: there are none.
    pub next: Option<Vec<u8>>,
}

impl Tree {
    /// Pages for which `wanted` says yes: of those above the leaf of `from`, and of the leaves from there on, at most `max`, as far
    /// as one page names them. No leaf is read. The caller holds the writer's lock.
    pub fn pick<S: PageStore>(
        &self,
        pool: &Pool<S>,
        from: &[u8],
        max: usize,
        wanted: &dyn Fn(PageId) -> bool,
    ) -> Result<Picked, TreeError<S::Error>> {
        Writer::new(self, pool).run(|writer| writer.pick(from, max, wanted))
    }

    /// Makes pages of this tree dirty, which [`Tree::pick`] gave. The caller has held the writer's lock since.
    pub fn touch<S: PageStore>(&self, pool: &Pool<S>, pages: &[PageId]) -> Result<(), TreeError<S::Error>> {
        let mut writer = Writer::new(self, pool);
        pages.iter().try_for_each(|&page| writer.run(|writer| writer.touch(page)))
    }
}

impl<S: PageStore> Writer<'_, S> {
    fn pick(&mut self, from: &[u8], max: usize, wanted: &dyn Fn(PageId) -> bool) -> Result<Picked, Stop> {
        let leaf = self.descend(Seek::AtOrAfter(from))?;
        let mut picked = Picked::default();
        picked.above.extend(self.path.iter().map(|bend| bend.page).filter(|&page| wanted(page)));
        let Some(&bend) = self.path.last() else {
            picked.leaves.extend(wanted(leaf).then_some(leaf));
            return Ok(picked);
        };
        let guard = self.shared(bend.page)?;
        let node = self.open(bend.page, guard.bytes())?;
        for index in bend.index..node.count() {
            if picked.leaves.len() >= max {
                let mut next = Vec::new();
                node.key_into(index, &mut next).map_err(|what| corrupt(bend.page, what))?;
                picked.next = Some(next);
                break;
            }
            let leaf = node.child(index);
            picked.leaves.extend(wanted(leaf).then_some(leaf));
        }
        if picked.next.is_none() {
            picked.next = node.upper_fence().map(<[u8]>::to_vec);
        }
        // Else looking for more would never end.
        match &picked.next {
            Some(next) if &next[..] <= from => Err(corrupt(bend.page, "the page's keys are not above those before")),
            _ => Ok(picked),
        }
    }

    fn touch(&mut self, page: PageId) -> Result<(), Stop> {
        {
            let guard = self.shared(page)?;
            self.open(page, guard.bytes())?;
        }
        self.exclusive(page).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::testing::small_pool;
    use crate::btree::{Change, TreeId, TreeOp};
    use std::collections::BTreeSet;

    #[test]
    fn every_page_of_a_tree_is_picked_once_and_can_be_touched() {
        let pool = small_pool(4096, 24);
        let tree = Tree { slots_max: 5, ..Tree::create(&pool, TreeId(1)).unwrap() };
        for count in [0, 3, 200] {
            for i in 0..count as u16 {
                let key = (i * 37 % 400).to_be_bytes();
                let op = TreeOp { key: &key, change: Change::Put { kind: 0, bytes: b"v" } };
                tree.apply(&pool, 1, &[op], &mut |_: &[u8], _: Option<(u8, &[u8])>| {}).unwrap();
            }
            for max in [1, 3, 1000] {
                let (mut above, mut leaves, mut from) = (BTreeSet::new(), Vec::new(), Some(Vec::new()));
                while let Some(key) = from {
                    let picked = tree.pick(&pool, &key, max, &|_| true).unwrap();
                    assert!(picked.leaves.len() <= max);
                    let new: Vec<PageId> = picked.above.into_iter().filter(|&page| above.insert(page)).collect();
                    tree.touch(&pool, &new).unwrap();
                    tree.touch(&pool, &picked.leaves).unwrap();
                    leaves.extend(picked.leaves);
                    from = picked.next;
                }
                let mut all: Vec<PageId> = above.into_iter().chain(leaves).collect();
                all.sort();
                let mut pages = Vec::new();
                tree.check(&pool, &mut |finding| {
                    if let crate::btree::Finding::Page { page, .. } = finding {
                        pages.push(page);
                    }
                })
                .unwrap();
                pages.sort();
                assert_eq!(all, pages, "{count} keys, {max} at a time");
                let none = tree.pick(&pool, &[], max, &|_| false).unwrap();
                assert!(none.above.is_empty() && none.leaves.is_empty());
            }
        }
    }
}
