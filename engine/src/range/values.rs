//! Asking for the pages of values that come next in a scan, where values stand in pages of their own.
//!
//! A cursor goes ahead of the scan, by the same view and so over the same entries, through copies of leaves of its own, and never waits. What
//! lies between the two, in pages, is the window.
//!
//! 1. Nothing is asked for before the second such value. From then on the window grows with what the scan has gone through, up to
//!    [`pages::ahead_max`]; the leaves that the cursor has entered count in it, since what was read ahead must still be there in its turn.
//! 2. The next leaf is asked for when the cursor is about to come to the end of its own, and entered when it is there. So the window
//!    reaches over the ends of leaves.
//! 3. While anything that was asked for has not been reached, the cursor is ahead. A scan that comes to a value which was not asked for
//!    in full has caught up with it, or to a leaf behind the cursor's: the cursor begins anew at the scan.
//! 4. Nobody pays for this who scans values that stand in their leaves.

use super::ahead::Towards;
use super::end::{End, Next};
use crate::btree::{LeafCopy, Seek, Stop, Tree, Upcoming};
use crate::database::Database;
use crate::pages;
use crate::read::View;
use crate::value::cell;
use crate::value::overflow;
use ashlar_bufferpool::PageId;
use std::collections::VecDeque;
use std::ops::Bound;

/// Leaves that the cursor enters at once, at most: where such values are rare, nobody waits while it looks for the next one.
const LEAVES_AT_ONCE: usize = 32;

/// What was asked for ahead of one end of a range.
#[derive(Default)]
pub(super) struct ValuesAhead {
    /// Pages of values that the scan has come to since its start,
    reached: usize,
    /// and in its present leaf.
    reached_in_leaf: usize,
    /// Pages between scan and cursor: of values that have been asked for, and the leaves that the cursor has entered.
    asked: usize,
    cursor: Option<Box<End>>,
    /// Pages of values that the cursor has come to and that have not been asked for.
    due: VecDeque<PageId>,
    /// The next leaf.
    list: Upcoming,
}

impl ValuesAhead {
    /// The scan has come to `leaf`: gives how many pages of values it had in the one before.
    pub(super) fn leaf_reached(&mut self, leaf: &LeafCopy, towards: Towards<'_>) -> usize {
        self.asked = self.asked.saturating_sub(1);
        if self.cursor.as_ref().is_some_and(|cursor| towards.is_past(leaf, &cursor.leaf)) {
            // The tree had fewer leaves by the time the scan came there.
            (self.asked, self.cursor) = (0, None);
        }
        std::mem::take(&mut self.reached_in_leaf)
    }

    /// The scan, of which `end` has what is still to come, has come to the value of this cell: asks for those behind it, if it is time.
    pub(super) fn value_reached(
        &mut self,
        view: &View<Database>,
        tree: Tree,
        end: &End,
        (kind, bytes): (u8, &[u8]),
        towards: Towards<'_>,
    ) {
        let pool = view.pool();
        let piece = overflow::piece_len_max(pool.page_size());
        let count = cell::overflow_pages(kind, bytes, piece).len();
        // Those of this value come before all that is asked for here.
        let depth = (self.reached * 2).min(pages::ahead_max(pool)).saturating_sub(count.saturating_sub(1));
        self.reached += count;
        self.reached_in_leaf += count;
        let is_caught_up = self.asked < count;
        self.asked = self.asked.saturating_sub(count);
        if count == 0 || depth == 0 || self.asked > depth / 2 || !pool.may_miss() {
            return;
        }
        if is_caught_up {
            self.cursor = None;
            self.due.clear();
        }
        let mut cursor = self.cursor.take().unwrap_or_else(|| Box::new(end.clone()));
        let mut pages = self.list_up_to(depth, &mut cursor, view, tree, towards);
        if cursor.left.len() + cursor.before_left.len() <= depth / 2
            && let Some(behind) = towards.behind(&cursor.leaf)
        {
            pages.extend(self.way_to_leaf(behind, view, tree, towards));
        }
        self.cursor = Some(cursor);
        pool.prefetch(&pages);
    }

    /// Takes the cursor forward until `depth` pages lie between it and the scan, and lists those to be asked for.
    fn list_up_to(
        &mut self,
        depth: usize,
        cursor: &mut End,
        view: &View<Database>,
        tree: Tree,
        towards: Towards<'_>,
    ) -> Vec<PageId> {
        let piece = overflow::piece_len_max(view.pool().page_size());
        let mut pages = Vec::new();
        let mut leaves = 0;
        while self.asked < depth {
            if let Some(page) = self.due.pop_front() {
                pages.push(page);
                self.asked += 1;
                continue;
            }
            let next = match towards {
                Towards::Up(_) => cursor.next_up(),
                Towards::Down(_) => cursor.next_down(),
            };
            let cell = match next {
                Next::Leaf(index) => Some(cursor.leaf.value(index)),
                Next::Before(index) => cursor.before[index].1.as_ref().map(|(kind, bytes)| (*kind, &**bytes)),
                Next::Exhausted => {
                    if leaves == LEAVES_AT_ONCE || !enter_next_leaf(cursor, view, tree, towards) {
                        break;
                    }
                    leaves += 1;
                    self.asked += 1;
                    continue;
                }
            };
            if let Some((kind, bytes)) = cell {
                self.due.extend(cell::overflow_pages(kind, bytes, piece));
            }
        }
        pages
    }

    /// What must be in memory before the cursor can enter the leaf that begins at `key`: that leaf, or a page above it.
    fn way_to_leaf(&mut self, key: &[u8], view: &View<Database>, tree: Tree, towards: Towards<'_>) -> Option<PageId> {
        match towards.list(view, tree, key, 1, &mut self.list) {
            Ok(()) => self.list.pages.first().copied(),
            Err(Stop::Missing(page)) => Some(page),
            Err(Stop::Corrupt(_)) => None,
        }
    }
}

/// Takes the cursor to the next leaf that may hold something of the range. False: there is none, or it has not come yet; or it is wrong,
/// and whoever comes there is told.
fn enter_next_leaf(cursor: &mut End, view: &View<Database>, tree: Tree, towards: Towards<'_>) -> bool {
    let Some(behind) = towards.behind(&cursor.leaf).map(<[u8]>::to_vec) else { return false };
    let seek = match towards {
        Towards::Up(_) => Seek::AtOrAfter(&behind),
        Towards::Down(_) => Seek::Before(&behind),
    };
    let End { leaf, before, .. } = &mut *cursor;
    if view.look_at_leaf(tree, seek, leaf, before).is_err() {
        return false;
    }
    match towards {
        Towards::Up(to) => cursor.begin(&Bound::Unbounded, to),
        Towards::Down(from) => cursor.begin(from, &Bound::Unbounded),
    }
    true
}
