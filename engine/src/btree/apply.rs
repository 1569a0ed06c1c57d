//! Applying a commit's sorted changes, leaf by leaf.
//!
//! Leaves that are not in memory are asked for ahead (see `leaves`). Then:
//!
//! 1. Go down to the leaf of the first change, unless it was looked up ahead (see `hints`), latch it, and make all changes whose keys
//!    lie between its fences.
//! 2. If one doesn't fit: make room (a step of its own, see `split`), or, where it and others come behind all that the leaf holds, make
//!    them in leaves of their own (see `append`); then go on with 1.
//! 3. If deletes have left the leaf sparse: join it with a neighbour (see `join`).

use super::access::Plain;
use super::edit::{self, Entry};
use super::error::{Corrupt, Stop, TreeError};
use super::hints::Hints;
use super::layout::{SLOT_LEN, capacity};
use super::leaves::LeavesAhead;
use super::node::{Fault, Node};
use super::search::Place;
use super::write::{Writer, corrupt};
use super::{Change, Lsns, Observer, Seek, Tree, TreeOp, limits};
use ashlar_bufferpool::{PageId, PageMut, PageStore, Pool};

/// Splits in a row that make no room for a change: more than a tree of any height needs.
const SPLITS_MAX: usize = 600;

/// How far a step in one leaf has come.
pub(super) struct Progress {
    /// Changes made.
    pub(super) done: usize,
    /// What is to follow.
    pub(super) next: Next,
}

/// What a step in a leaf leaves to do.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// The next leaf.
    Leaf,
    /// The next change doesn't fit.
    MakeRoom,
    /// The leaf has become sparse.
    Settle,
}

impl Tree {
    /// Makes the changes `ops` of the commit at `lsn`, and tells `observer` what each key held.
    ///
    /// The caller holds the lock that lets only one writer at a time into this tree.
    ///
    /// # Errors
    /// Changes before an error are made, those after it are not; the tree is whole. [`TreeError::TooLarge`] comes before any.
    ///
    /// # Panics
    /// In debug builds, where the keys are not in order and different.
    pub fn apply<S: PageStore, O: Observer + ?Sized>(
        &self,
        pool: &Pool<S>,
        lsn: u64,
        ops: &[TreeOp<'_>],
        observer: &mut O,
    ) -> Result<(), TreeError<S::Error>> {
        self.apply_from(pool, Lsns::All(lsn), ops, None, observer)
    }

    /// As [`Tree::apply`], for changes of one commit or of several, where `hint` may be the leaf of the first change (see [`Tree::hint`]).
    /// Of several commits, the changes of one key stand in the order of the commits.
    ///
    /// # Errors
    /// As [`Tree::apply`].
    ///
    /// # Panics
    /// As [`Tree::apply`].
    pub fn apply_from<S: PageStore, O: Observer + ?Sized>(
        &self,
        pool: &Pool<S>,
        lsns: Lsns<'_>,
        ops: &[TreeOp<'_>],
        hint: Option<PageId>,
        observer: &mut O,
    ) -> Result<(), TreeError<S::Error>> {
        debug_assert!(is_in_order(lsns, ops), "changes are sorted by key, one a key and commit");
        check_sizes(pool.page_size(), ops)?;
        let mut writer = Writer::new(self, pool);
        let (mut rest, mut splits) = (ops, 0);
        let mut ahead = LeavesAhead::new(pool, ops.len());
        let (mut hints, mut step) = (Hints::starting(hint), 1);
        while !rest.is_empty() {
            if ahead.is_due(ops.len() - rest.len(), ops.len()) {
                writer.give_back_frames();
                ahead.ask(pool, self, ops);
            }
            let hint = hints.turn((self, pool), ops, ops.len() - rest.len(), step, observer);
            let of_rest = lsns.starting_at(ops.len() - rest.len());
            let progress = writer.run(|writer| writer.change_leaf(of_rest, rest, hint, observer))?;
            splits = if progress.done > 0 { 0 } else { splits + 1 };
            step = progress.done.max(1);
            let last = &rest[progress.done.saturating_sub(1)];
            rest = &rest[progress.done..];
            match progress.next {
                Next::Leaf => {}
                Next::Settle => drop(writer.settle(last.key, observer)?),
                Next::MakeRoom if splits > SPLITS_MAX => {
                    return Err(Corrupt { page: self.root, what: "no number of splits makes room for a key" }.into());
                }
                Next::MakeRoom => {
                    let made = writer.make_room(lsns.starting_at(ops.len() - rest.len()), rest, observer)?;
                    (rest, splits) = (&rest[made..], if made > 0 { 0 } else { splits });
                }
            }
        }
        Ok(())
    }
}

fn is_in_order(lsns: Lsns<'_>, ops: &[TreeOp<'_>]) -> bool {
    match lsns {
        Lsns::All(_) => ops.is_sorted_by(|a, b| a.key < b.key),
        Lsns::Each(each) => each.len() == ops.len() && ops.iter().zip(each).is_sorted_by(|a, b| (a.0.key, a.1) < (b.0.key, b.1)),
    }
}

/// Every change must be one that any page can be split for.
fn check_sizes<E: std::error::Error>(page_size: usize, ops: &[TreeOp<'_>]) -> Result<(), TreeError<E>> {
    let limits = limits(page_size);
    for op in ops {
        let value_len = if let Change::Put { bytes, .. } = op.change { bytes.len() } else { 0 };
        if op.key.len() > limits.key_max || value_len > limits.inline_value_max(op.key.len()) {
            return Err(TreeError::TooLarge { key_len: op.key.len(), value_len });
        }
    }
    Ok(())
}

impl<S: PageStore> Writer<'_, S> {
    /// Makes the first of `ops` that lie in one leaf.
    fn change_leaf<O: Observer + ?Sized>(
        &mut self,
        lsns: Lsns<'_>,
        ops: &[TreeOp<'_>],
        hint: Option<PageId>,
        observer: &mut O,
    ) -> Result<Progress, Stop> {
        let page = match hint.filter(|&page| self.is_leaf_of(page, ops[0].key)) {
            Some(page) => page,
            None => self.descend(Seek::AtOrAfter(ops[0].key))?,
        };
        let mut leaf = self.exclusive(page)?;
        let node = self.open(page, leaf.bytes())?;
        if !node.is_leaf() || !node.covers(ops[0].key) {
            return Err(corrupt(page, "the page's level or fences are not those that its parent promises"));
        }
        let here = match node.upper_fence() {
            Some(upper) => ops.iter().take_while(|op| op.key < upper).count(),
            None => ops.len(),
        };
        let used = node.used();
        let mut done = 0;
        while done < here {
            // Before the change: what follows may find that there is no room, and comes back for it.
            edit::raise_lsn(&mut leaf, lsns.of(done));
            if !self.change(page, &mut leaf, &ops[done], observer).map_err(|what| corrupt(page, what))? {
                break;
            }
            done += 1;
        }
        let next = match done < here {
            true => Next::MakeRoom,
            false if self.is_newly_sparse(used, &self.open(page, leaf.bytes())?) => Next::Settle,
            false => Next::Leaf,
        };
        Ok(Progress { done, next })
    }

    /// Makes one change in its leaf. False: it doesn't fit.
    fn change<O: Observer + ?Sized>(
        &self,
        page: PageId,
        leaf: &mut PageMut,
        op: &TreeOp<'_>,
        observer: &mut O,
    ) -> Result<bool, Fault> {
        let tree = self.tree.id;
        let node = Node::open(Plain(leaf.bytes()), tree)?;
        match (node.find(op.key)?, op.change) {
            (Place::At(index), Change::Put { kind, bytes }) => {
                let old = node.value(index)?;
                if bytes.len() > old.1.len() && bytes.len() - old.1.len() > node.free() {
                    return Ok(false);
                }
                observer.replaced(page, op.key, Some(old));
                edit::replace_value(leaf, tree, index, kind, bytes)
            }
            (Place::At(index), Change::Delete) => {
                observer.replaced(page, op.key, Some(node.value(index)?));
                edit::remove(leaf, tree, index..index + 1).map(|()| true)
            }
            (Place::Before(index), Change::Put { kind, bytes }) => {
                let suffix = &op.key[node.prefix_len()..];
                let entry = Entry::Value(kind, bytes);
                if entry.cell_len(suffix.len()) + SLOT_LEN > node.free() || !self.slot_allowed(node.count()) {
                    return Ok(false);
                }
                observer.replaced(page, op.key, None);
                edit::insert(leaf, tree, index, suffix, entry)
            }
            (Place::Before(_), Change::Delete) => {
                observer.replaced(page, op.key, None);
                Ok(true)
            }
        }
    }

    /// Whether a page that used `before` bytes and is now `page` is to be joined with a neighbour, if one has room. It is asked
    /// once for each eighth of the page that is lost below a half, so that a page whose neighbours are full is not tried at
    /// every delete. Where slots are few it is they that count.
    pub(super) fn is_newly_sparse(&self, before: usize, page: &Node<Plain<'_>>) -> bool {
        let after = page.used();
        if self.tree.slots_max > 0 && after < before && page.count() * 2 < usize::from(self.tree.slots_max) {
            return true;
        }
        let eighth = |used: usize| used * 8 / capacity(self.pool.page_size());
        after < before && eighth(after) < 4 && eighth(after) < eighth(before)
    }
}
