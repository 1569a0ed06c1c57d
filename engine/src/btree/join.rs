//! Joining a sparse page with a neighbour under the same parent, so that deletes give pages back.
//!
//! A page that uses less than half of its bytes is joined with its left or its right neighbour if what both hold takes at most
//! nine tenths of a page: the left one takes all, the right one is freed. An empty leaf is joined in any case. Otherwise the
//! page is left as it is. Joining may leave the parent sparse, so the same is tried on each level above.

use super::access::Plain;
use super::build::Blank;
use super::divide::Drafts;
use super::edit::{self, Entry};
use super::error::Stop;
use super::layout::capacity;
use super::node::{Fault, Node};
use super::write::{Pair, Side, Writer, corrupt};
use super::{Observer, Seek, Tree, TreeError, TreeId};
use ashlar_bufferpool::{PageStore, Pool};

impl Tree {
    /// Joins the leaf in which `key` lies, if it is sparse, with a neighbour, and so on upwards, as far as that is possible.
    /// True: something was joined. For leaves that could not be joined when they became sparse: see [`Observer::left_sparse`].
    ///
    /// The caller holds the lock that lets only one writer at a time into this tree.
    ///
    /// # Errors
    /// A page can't be loaded or is wrong; what was joined before stays joined.
    pub fn settle<S: PageStore, O: Observer + ?Sized>(
        &self,
        pool: &Pool<S>,
        key: &[u8],
        observer: &mut O,
    ) -> Result<bool, TreeError<S::Error>> {
        Writer::new(self, pool).settle(key, observer)
    }
}

impl<S: PageStore> Writer<'_, S> {
    /// See [`Tree::settle`].
    pub(super) fn settle<O: Observer + ?Sized>(&mut self, key: &[u8], observer: &mut O) -> Result<bool, TreeError<S::Error>> {
        let mut joined = false;
        while self.settle_lowest(key, observer)? {
            joined = true;
        }
        Ok(joined)
    }

    /// Makes the lowest join that is possible on the way to `key`. False: there is none. Each attempt is a step of its own, so
    /// that it holds no more pages than a path and one neighbour.
    fn settle_lowest<O: Observer + ?Sized>(&mut self, key: &[u8], observer: &mut O) -> Result<bool, TreeError<S::Error>> {
        let mut level = 0;
        loop {
            for side in [Side::Left, Side::Right] {
                match self.run(|writer| writer.settle_step(key, level, side, observer))? {
                    Some(true) => return Ok(true),
                    Some(false) => {}
                    None => return self.run(|writer| writer.shrink_root(observer)),
                }
            }
            level += 1;
        }
    }

    /// Joins the page at `level` of the way to `key` with one of its neighbours, if it is sparse and they fit. `None`: the root is
    /// not above that level.
    fn settle_step<O: Observer + ?Sized>(
        &mut self,
        key: &[u8],
        level: usize,
        side: Side,
        observer: &mut O,
    ) -> Result<Option<bool>, Stop> {
        let leaf = self.descend(Seek::AtOrAfter(key))?;
        let Some(above) = self.path.len().checked_sub(level + 1) else { return Ok(None) };
        let page = self.path.get(above + 1).map_or(leaf, |bend| bend.page);
        let used = {
            let guard = self.shared(page)?;
            self.open(page, guard.bytes())?.used()
        };
        let room = capacity(self.pool.page_size());
        if used * 2 >= room {
            return Ok(Some(false));
        }
        let Some(pair) = self.pair(self.path[above], page, side)? else { return Ok(Some(false)) };
        match self.join(pair, key, observer) {
            // A neighbour is read from disk only for the sake of a page that is nearly empty.
            Err(Stop::Missing(_)) if used * 4 >= room => Ok(Some(false)),
            outcome => outcome.map(Some),
        }
    }

    /// Joins two neighbours if both fit in one page. False: they don't, or the right one may not be freed.
    fn join<O: Observer + ?Sized>(&mut self, pair: Pair, key: &[u8], observer: &mut O) -> Result<bool, Stop> {
        let mut drafts = self.take_drafts();
        let outcome = self.join_with(pair, &mut drafts, key, observer);
        self.give_drafts(drafts);
        outcome
    }

    fn join_with<O: Observer + ?Sized>(
        &mut self,
        pair: Pair,
        drafts: &mut Drafts,
        key: &[u8],
        observer: &mut O,
    ) -> Result<bool, Stop> {
        if !self.plan_join(pair, drafts)? {
            return Ok(false);
        }
        if drafts.left.is_leaf() && !observer.may_free(pair.right) {
            observer.left_sparse(key);
            return Ok(false);
        }
        let mut parent_guard = self.exclusive(pair.parent)?;
        let mut left_guard = self.exclusive(pair.left)?;
        let right_guard = self.exclusive(pair.right)?;
        let right = self.open(pair.right, right_guard.bytes())?;
        let right_slot = pair.index + 1;
        edit::remove(&mut parent_guard, self.tree.id, right_slot..right_slot + 1).map_err(|what| corrupt(pair.parent, what))?;
        if right.is_leaf() {
            observer.moved(pair.right, pair.left, right.lower_fence(), right.upper_fence());
        }
        drafts.left.install(&mut left_guard, pair.left);
        self.pool.free(right_guard);
        Ok(true)
    }

    /// Builds the page that both make. False: they don't fit in one.
    fn plan_join(&self, pair: Pair, drafts: &mut Drafts) -> Result<bool, Stop> {
        let (left_guard, right_guard) = (self.shared(pair.left)?, self.shared(pair.right)?);
        let left = self.open(pair.left, left_guard.bytes())?;
        let right = self.open(pair.right, right_guard.bytes())?;
        if left.level() != right.level() || left.upper_fence() != Some(right.lower_fence()) {
            return Err(corrupt(pair.right, "the page's level or lower fence is not what its neighbour asks for"));
        }
        let any_empty = left.count() == 0 || right.count() == 0;
        let share = |all: usize| if any_empty { all } else { all * 9 / 10 };
        let used_max = share(capacity(self.pool.page_size()));
        let slots_max = if self.tree.slots_max == 0 { usize::MAX } else { share(usize::from(self.tree.slots_max)) };
        // What both hold without the fence between them; prefixes can only become shorter, entries longer.
        let used_at_least = (left.used() + right.used()).saturating_sub(left.upper_len() + right.lower_len());
        if used_at_least > used_max || left.count() + right.count() > slots_max {
            return Ok(false);
        }
        let built = join_nodes(&left, &right, self.tree.id, drafts).map_err(|what| corrupt(pair.right, what))?;
        Ok(built && drafts.left.used() <= used_max)
    }
}

/// Builds the page that holds all of `left` and `right`. False: it doesn't fit.
fn join_nodes(left: &Node<Plain<'_>>, right: &Node<Plain<'_>>, tree: TreeId, drafts: &mut Drafts) -> Result<bool, Fault> {
    let built = &mut drafts.left;
    let lsn = left.lsn().max(right.lsn());
    let (lower, upper) = (left.lower_fence(), right.upper_fence());
    if !built.start(Blank { tree, level: left.level(), lsn, lower, upper }) || !built.push_from(left, 0..left.count())? {
        return Ok(false);
    }
    if right.is_leaf() {
        return built.push_from(right, 0..right.count());
    }
    // The right page's lower fence becomes the separator of its first child.
    Ok(built.push(right.lower_fence(), Entry::Child(right.child(0)))? && built.push_from(right, 1..right.count())?)
}
