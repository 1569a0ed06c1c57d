//! Finding a leaf without a lock on the way.
//!
//! A reader of an inner page takes no latch: it reads, goes to the child, and only then looks whether the page it came from
//! has changed meanwhile. A leaf is read under its shared latch.
//!
//! 1. Parent after child: the parent is found unchanged *after* the child's version or latch was taken. So the child was the
//!    right one at that moment, and whatever moves keys out of it later raises its version.
//! 2. Nothing read from an inner page is used, not even to report that a page is missing or wrong, before that page has been
//!    found unchanged.
//! 3. A descent that was disturbed [`RESTARTS_MAX`] times goes down under shared latches, parent before child, which a writer
//!    can only delay.
//! 4. A child's level is one less than its parent's, so a descent ends, whatever stands in the pages.

use super::access::{Access, Plain};
use super::error::{Corrupt, Stop};
use super::node::{Fault, Node};
use super::search::Place;
use super::{Found, Seek, Tree};
use ashlar_bufferpool::{Miss, Optimistic, PageId, PageStore, Pool, SharedGuard};
use ashlar_disk::sync::stall_point;

/// How often a descent is tried without latches.
pub(super) const RESTARTS_MAX: usize = 16;

/// What an attempt has found; `None`: it was disturbed and tells nothing.
type Attempt<T> = Result<Option<T>, Stop>;

impl Seek<'_> {
    /// The child of an inner page in which the sought leaf is.
    #[inline]
    pub(super) fn child_of<A: Access>(self, node: &Node<A>) -> Result<usize, Fault> {
        match self {
            Seek::AtOrAfter(key) => node.child_at(key),
            Seek::Before(key) => node.child_before(key),
            Seek::First => Ok(0),
            Seek::Last => Ok(node.count() - 1),
        }
    }
}

/// What an inner page says about the way down.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub(super) level: u8,
    /// The slot taken; 0 in a leaf.
    pub(super) index: usize,
    /// The child taken; the page itself if it is a leaf.
    pub(super) child: PageId,
}

impl Tree {
    /// Reads what `key` holds and gives it to `use_found`, which runs under the leaf's shared latch: it must be short, must
    /// not wait, and must not use this pool.
    ///
    /// # Errors
    /// [`Stop::Missing`]: a page must be loaded first. [`Stop::Corrupt`]: a page is wrong.
    #[inline]
    pub fn get<S: PageStore, R>(&self, pool: &Pool<S>, key: &[u8], use_found: impl FnOnce(Found<'_>) -> R) -> Result<R, Stop> {
        let leaf = self.leaf(pool, Seek::AtOrAfter(key))?;
        let page = leaf.page();
        self.find_in_leaf(leaf.bytes(), page, key).map(use_found).map_err(|what| Stop::Corrupt(Corrupt { page, what }))
    }

    fn find_in_leaf<'a>(&self, bytes: &'a [u8], page: PageId, key: &[u8]) -> Result<Found<'a>, Fault> {
        let node = Node::open(Plain(bytes), self.id)?;
        let value = match node.find(key)? {
            Place::At(index) => Some(node.value(index)?),
            Place::Before(_) => None,
        };
        Ok(Found { page, lsn: node.lsn(), value })
    }

    /// The number of its levels: 1 where the root is a leaf.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn height<S: PageStore>(&self, pool: &Pool<S>) -> Result<u32, Stop> {
        let root = pool.shared(self.root).map_err(root_miss)?;
        let node = Node::open(Plain(root.bytes()), self.id).map_err(|what| Corrupt { page: self.root, what })?;
        Ok(u32::from(node.level()) + 1)
    }

    /// The leaf where the seek lands, latched.
    #[inline]
    pub(super) fn leaf<'p, S: PageStore>(&self, pool: &'p Pool<S>, seek: Seek<'_>) -> Result<SharedGuard<'p>, Stop> {
        for _ in 0..RESTARTS_MAX {
            if let Some(leaf) = self.try_leaf(pool, seek)? {
                return Ok(leaf);
            }
        }
        self.leaf_by_latches(pool, seek)
    }

    fn try_leaf<'p, S: PageStore>(&self, pool: &'p Pool<S>, seek: Seek<'_>) -> Attempt<SharedGuard<'p>> {
        let mut above = pool.optimistic(self.root).map_err(root_miss)?;
        let mut turn = match self.turn(above.view(), above.page(), seek, None) {
            Ok(turn) => turn,
            Err(what) => return wrong(&above, what),
        };
        if turn.level == 0 {
            return self.try_root_leaf(pool);
        }
        while turn.level > 1 {
            pause();
            let below = match pool.optimistic(turn.child) {
                Ok(below) => below,
                Err(miss) => return missed(&above, miss),
            };
            if !above.validate() {
                return Ok(None);
            }
            above = below;
            turn = match self.turn(above.view(), above.page(), seek, Some(turn.level - 1)) {
                Ok(turn) => turn,
                Err(what) => return wrong(&above, what),
            };
        }
        pause();
        pool.fetch(turn.child);
        match pool.shared(turn.child) {
            Ok(leaf) if above.validate() => check_leaf(leaf).map(Some),
            Ok(_) => Ok(None),
            Err(miss) => missed(&above, miss),
        }
    }

    /// The root, if it is still a leaf.
    fn try_root_leaf<'p, S: PageStore>(&self, pool: &'p Pool<S>) -> Attempt<SharedGuard<'p>> {
        let root = pool.shared(self.root).map_err(root_miss)?;
        match root.view().u8(super::layout::LEVEL_AT) {
            0 => Ok(Some(root)),
            _ => Ok(None),
        }
    }

    /// Which way the seek goes in the page `view`, whose level is `level`, if that is known.
    #[inline]
    pub(super) fn turn<A: Access>(&self, view: A, page: PageId, seek: Seek<'_>, level: Option<u8>) -> Result<Turn, Fault> {
        let node = Node::open(view, self.id)?;
        if level.is_some_and(|level| level != node.level()) {
            return Err("the page's level is not one below its parent's");
        }
        if node.is_leaf() {
            return Ok(Turn { level: 0, index: 0, child: page });
        }
        let index = seek.child_of(&node)?;
        Ok(Turn { level: node.level(), index, child: node.child(index) })
    }

    /// As [`Tree::leaf`], with a shared latch on each page until its child's is held.
    #[cold]
    fn leaf_by_latches<'p, S: PageStore>(&self, pool: &'p Pool<S>, seek: Seek<'_>) -> Result<SharedGuard<'p>, Stop> {
        let mut above = pool.shared(self.root).map_err(root_miss)?;
        let mut level = None;
        loop {
            let page = above.page();
            let turn = self.turn(Plain(above.bytes()), page, seek, level).map_err(|what| Corrupt { page, what })?;
            if turn.level == 0 {
                return Ok(above);
            }
            level = Some(turn.level - 1);
            above = pool.shared(turn.child).map_err(child_miss)?;
        }
    }

    /// The page above the leaf where the seek lands, not validated; `None` inside: the root is a leaf.
    pub(super) fn try_above_leaf<'p, S: PageStore>(
        &self,
        pool: &'p Pool<S>,
        seek: Seek<'_>,
    ) -> Attempt<Option<(Optimistic<'p>, Turn)>> {
        let mut above = pool.optimistic(self.root).map_err(root_miss)?;
        let mut level = None;
        loop {
            let turn = match self.turn(above.view(), above.page(), seek, level) {
                Ok(turn) => turn,
                Err(what) => return wrong(&above, what),
            };
            match turn.level {
                0 => return Ok(above.validate().then_some(None)),
                1 => return Ok(Some(Some((above, turn)))),
                _ => level = Some(turn.level - 1),
            }
            let below = match pool.optimistic(turn.child) {
                Ok(below) => below,
                Err(miss) => return missed(&above, miss),
            };
            if !above.validate() {
                return Ok(None);
            }
            above = below;
        }
    }
}

/// Lets the deterministic scheduler of debug builds put a writer between a parent and its child: reading without latches has no
/// point of its own where it could.
#[inline]
fn pause() {
    if cfg!(debug_assertions) {
        stall_point();
    }
}

/// A leaf that was reached through its parent must be one.
#[inline]
fn check_leaf(leaf: SharedGuard<'_>) -> Result<SharedGuard<'_>, Stop> {
    match leaf.view().u8(super::layout::LEVEL_AT) {
        0 => Ok(leaf),
        _ => Err(Corrupt { page: leaf.page(), what: "the page's level is not one below its parent's" }.into()),
    }
}

/// A page made no sense: because it was changing, or because it is wrong.
#[cold]
pub(super) fn wrong<T>(page: &Optimistic<'_>, what: Fault) -> Attempt<T> {
    if page.validate() { Err(Corrupt { page: page.page(), what }.into()) } else { Ok(None) }
}

/// A child was not there: because the parent was changing, or because it must be loaded.
#[cold]
pub(super) fn missed<T>(above: &Optimistic<'_>, miss: Miss) -> Attempt<T> {
    if above.validate() { Err(child_miss(miss)) } else { Ok(None) }
}

pub(super) fn child_miss(miss: Miss) -> Stop {
    match miss {
        Miss::NotResident(page) => Stop::Missing(page),
        Miss::NotAllocated(page) => Corrupt { page, what: "a page of the tree is not allocated" }.into(),
    }
}

pub(super) fn root_miss(miss: Miss) -> Stop {
    match miss {
        Miss::NotResident(page) => Stop::Missing(page),
        Miss::NotAllocated(page) => Corrupt { page, what: "the tree's root is not allocated" }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::testing::{small_pool, wait_for};
    use crate::btree::{Change, TreeId, TreeOp};

    /// The way down under latches leads where the way without leads.
    #[test]
    fn both_ways_down_lead_to_the_same_leaf() {
        let pool = small_pool(4096, 24);
        let tree = Tree { slots_max: 5, ..Tree::create(&pool, TreeId(1)).unwrap() };
        let mut levels = 0;
        for i in 0..400u16 {
            let key = (i * 37 % 400).to_be_bytes();
            let op = TreeOp { key: &key, change: Change::Put { kind: 0, bytes: &[] } };
            tree.apply(&pool, 1, &[op], &mut |_: &[u8], _: Option<(u8, &[u8])>| {}).unwrap();
            for seek in [Seek::AtOrAfter(&key), Seek::Before(&key), Seek::First, Seek::Last] {
                let page = wait_for(&pool, || tree.leaf(&pool, seek).map(|leaf| leaf.page()));
                assert_eq!(wait_for(&pool, || tree.leaf_by_latches(&pool, seek).map(|leaf| leaf.page())), page, "{seek:?}");
            }
            levels = wait_for(&pool, || pool.shared(tree.root).map(|root| root.view().u8(6)).map_err(root_miss));
        }
        assert!(levels >= 3);
    }
}
