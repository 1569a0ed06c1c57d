//! Asking for the leaves that come next in a scan, so that many reads are in flight while it goes through what is there.
//!
//! 1. At its beginning a scan asks for as many leaves as scans of its tree usually go through ([`super::lengths`]), and within these for
//!    no more. The further it goes beyond, the further ahead it reads, up to [`pages::ahead_max`], so that what was
//!    read ahead is still there when it is needed, and pushes out nothing that is needed more. Where values stand in pages of their own
//!    (see [`super::values`]), these come between the leaves, and the fewer leaves are asked for.
//! 2. Leaves are asked for by key, in the order of the scan, and each once: the list goes on from parent to parent. Neighbours that were
//!    written side by side come with one transfer, so they are asked for many at a time.
//! 3. All this is advice. Where an inner page is missing, or writers disturb, less is asked for; where the tree has changed so much that
//!    the scan has overtaken what was asked for, it begins anew.

use super::end::End;
use super::values::ValuesAhead;
use crate::btree::{LeafCopy, Stop, Tree, Upcoming};
use crate::database::Database;
use crate::pages;
use crate::read::View;
use ashlar_bufferpool::PageId;
use std::ops::Bound;

/// Which way a scan goes, and where its range ends there.
#[derive(Clone, Copy)]
pub(super) enum Towards<'k> {
    /// Upwards, to this bound.
    Up(&'k Bound<Vec<u8>>),
    /// Downwards.
    Down(&'k Bound<Vec<u8>>),
}

/// What was asked for ahead of one end of a range.
#[derive(Default)]
pub(super) struct ReadAhead {
    /// Leaves read since the start.
    leaves: usize,
    /// Leaves that were asked for at the start, beside the first.
    at_start: usize,
    /// Leaves that have been asked for and not yet been reached.
    asked: usize,
    /// Where those begin that have not been asked for. `None`: none is left.
    next: Option<Vec<u8>>,
    list: Upcoming,
    values: ValuesAhead,
}

impl ReadAhead {
    /// The scan is about to go to its first leaf, the one that lies at `key` in its order.
    pub(super) fn begin(&mut self, view: &View<Database>, tree: Tree, key: &[u8], towards: Towards<'_>) {
        let usual = view.shared().scan_lengths.usual(tree.id).min(pages::ahead_max(view.pool()));
        if usual < 2 || !view.pool().may_miss() {
            return;
        }
        self.next = Some(key.to_vec());
        let pages = self.list_up_to(usual, view, tree, towards);
        self.at_start = self.asked.saturating_sub(1);
        view.pool().prefetch(&pages);
    }

    /// The scan has ended.
    pub(super) fn end(&self, view: &View<Database>, tree: Tree) {
        if self.leaves > 0 && view.pool().may_miss() {
            view.shared().scan_lengths.ended(tree.id, self.leaves);
        }
    }

    /// The scan has come to `leaf`: asks for what comes next, if it is time.
    pub(super) fn leaf_reached(&mut self, view: &View<Database>, tree: Tree, leaf: &LeafCopy, towards: Towards<'_>) {
        self.leaves += 1;
        self.asked = self.asked.saturating_sub(1);
        let between = self.values.leaf_reached(leaf, towards);
        let depth = (self.leaves.saturating_sub(1 + self.at_start) * 2).min(pages::ahead_max(view.pool()) / (1 + between));
        if depth == 0 || self.asked > depth / 4 * 3 || !view.pool().may_miss() {
            return;
        }
        if self.asked == 0 || self.is_overtaken(leaf, towards) {
            (self.asked, self.next) = (0, towards.behind(leaf).map(<[u8]>::to_vec));
        }
        let pages = self.list_up_to(depth, view, tree, towards);
        view.pool().prefetch(&pages);
    }

    /// The scan has come to a value that does not stand in its leaf: asks for those that come next, if it is time.
    pub(super) fn value_reached(
        &mut self,
        view: &View<Database>,
        tree: Tree,
        end: &End,
        cell: (u8, &[u8]),
        towards: Towards<'_>,
    ) {
        self.values.value_reached(view, tree, end, cell, towards);
    }

    /// Lists leaves until `depth` are asked for; where an inner page is missing, that ends the list.
    fn list_up_to(&mut self, depth: usize, view: &View<Database>, tree: Tree, towards: Towards<'_>) -> Vec<PageId> {
        let mut pages = Vec::new();
        while self.asked < depth
            && let Some(next) = &self.next
            && towards.is_within(next)
        {
            let max = depth - self.asked;
            match towards.list(view, tree, next, max, &mut self.list) {
                Ok(()) if self.list.pages.is_empty() => break,
                Ok(()) => {}
                Err(Stop::Missing(page)) => {
                    pages.push(page);
                    break;
                }
                // Whoever comes there is told.
                Err(Stop::Corrupt(_)) => break,
            }
            self.asked += self.list.pages.len();
            pages.append(&mut self.list.pages);
            std::mem::swap(&mut self.next, &mut self.list.next);
        }
        pages
    }

    /// Whether the scan has come past where what was not asked for begins.
    fn is_overtaken(&self, leaf: &LeafCopy, towards: Towards<'_>) -> bool {
        self.next.as_deref().is_some_and(|next| match towards {
            Towards::Up(_) => leaf.upper().is_none_or(|upper| next < upper),
            Towards::Down(_) => next > leaf.lower(),
        })
    }
}

impl Towards<'_> {
    /// Where the leaf behind `leaf` begins, in the order of the scan. `None`: there is none that may hold something of the range.
    pub(super) fn behind(self, leaf: &LeafCopy) -> Option<&[u8]> {
        let behind = match self {
            Towards::Up(_) => leaf.upper(),
            Towards::Down(_) => Some(leaf.lower()).filter(|lower| !lower.is_empty()),
        };
        behind.filter(|key| self.is_within(key))
    }

    /// Lists the leaf that begins at `key`, in the order of the scan, and those behind it; see [`Tree::leaves_from`].
    pub(super) fn list(self, view: &View<Database>, tree: Tree, key: &[u8], max: usize, list: &mut Upcoming) -> Result<(), Stop> {
        match self {
            Towards::Up(_) => tree.leaves_from(view.pool(), key, max, list),
            Towards::Down(_) => tree.leaves_before(view.pool(), key, max, list),
        }
    }

    /// Whether a scan at `leaf` has gone past `other`, altogether.
    pub(super) fn is_past(self, leaf: &LeafCopy, other: &LeafCopy) -> bool {
        match self {
            Towards::Up(_) => other.upper().is_some_and(|upper| upper <= leaf.lower()),
            Towards::Down(_) => leaf.upper().is_some_and(|upper| upper <= other.lower()),
        }
    }

    /// Whether a leaf that begins at `key`, in the order of the scan, may hold something of the range.
    fn is_within(self, key: &[u8]) -> bool {
        match self {
            Towards::Up(Bound::Included(to)) => key <= &to[..],
            Towards::Up(Bound::Excluded(to)) => key < &to[..],
            Towards::Down(Bound::Included(from) | Bound::Excluded(from)) => key > &from[..],
            Towards::Up(Bound::Unbounded) | Towards::Down(Bound::Unbounded) => true,
        }
    }
}
