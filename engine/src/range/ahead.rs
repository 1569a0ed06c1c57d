//! Asking for the leaves that come next in a scan, so that many reads are in flight while it goes through what is there.
//!
//! 1. Nothing is asked for in a short scan; the longer it runs, the further ahead it reads, up to [`BYTES_MAX`] and to a share of the
//!    pool, so that what was read ahead is still there when it is needed, and pushes out nothing that is needed more.
//! 2. Leaves are asked for by key, in the order of the scan, and each once: the list goes on from parent to parent. Neighbours that were
//!    written side by side come with one transfer, so they are asked for many at a time.
//! 3. All this is advice. Where an inner page is missing, or writers disturb, less is asked for; where the tree has changed so much that
//!    the scan has overtaken what was asked for, it begins anew.

use crate::btree::{LeafCopy, Stop, Tree, Upcoming};
use crate::database::Database;
use crate::read::View;
use ashlar_bufferpool::PageId;
use std::ops::Bound;

/// Bytes of pages that are asked for ahead of a scan, at most.
const BYTES_MAX: usize = 2 << 20;

/// One frame in so many is for what is read ahead of one end. The pool takes the touches of a page's youngest days for one use, while it is
/// among the youngest twentieth: a leaf that were asked for earlier than that would leave before its turn, or be taken for a page that is
/// used again and again.
const SHARE: usize = 32;

/// So many leaves are asked for even in the smallest pool, as long as there are frames.
const LEAVES_MIN: usize = 4;

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
    /// Leaves that have been asked for and not yet been reached.
    asked: usize,
    /// Where those begin that have not been asked for. `None`: none is left.
    next: Option<Vec<u8>>,
    list: Upcoming,
}

impl ReadAhead {
    /// The scan has come to `leaf`: asks for what comes next, if it is time.
    pub(super) fn leaf_reached(&mut self, view: &View<Database>, tree: Tree, leaf: &LeafCopy, towards: Towards<'_>) {
        self.leaves += 1;
        self.asked = self.asked.saturating_sub(1);
        let depth = (self.leaves.saturating_sub(1) * 2).min(leaves_max(view));
        if depth == 0 || self.asked > depth / 4 * 3 || !view.pool().may_miss() {
            return;
        }
        if self.asked == 0 || self.is_overtaken(leaf, towards) {
            let behind = match towards {
                Towards::Up(_) => leaf.upper(),
                Towards::Down(_) => Some(leaf.lower()).filter(|lower| !lower.is_empty()),
            };
            (self.asked, self.next) = (0, behind.map(<[u8]>::to_vec));
        }
        let pages = self.list_up_to(depth, view, tree, towards);
        view.pool().prefetch(&pages);
    }

    /// Lists leaves until `depth` are asked for; where an inner page is missing, that ends the list.
    fn list_up_to(&mut self, depth: usize, view: &View<Database>, tree: Tree, towards: Towards<'_>) -> Vec<PageId> {
        let mut pages = Vec::new();
        while self.asked < depth
            && let Some(next) = &self.next
            && towards.is_within(next)
        {
            let max = depth - self.asked;
            let listed = match towards {
                Towards::Up(_) => tree.leaves_from(view.pool(), next, max, &mut self.list),
                Towards::Down(_) => tree.leaves_before(view.pool(), next, max, &mut self.list),
            };
            match listed {
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

/// How many leaves are asked for ahead of one end, at most.
fn leaves_max(view: &View<Database>) -> usize {
    let pool = view.pool();
    let share = (pool.frames() as usize / SHARE).max(LEAVES_MIN);
    share.min(BYTES_MAX / pool.page_size())
}
