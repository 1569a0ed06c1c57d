//! Pages and runs that no checkpoint names any more and that snapshots still read: before-images of large values.
//!
//! Invariants:
//! 1. A page retired in epoch `r` is *freed* in the delta of `r`. Its blocks and its id are its own until it is discarded, in an
//!    epoch `f`; then they are free as any that go in `f`.
//! 2. An image of it that belongs to an epoch from `r` on, and before `f`, enters no delta: it is known to the page table alone.
//!    One of an earlier epoch enters that epoch's, for whose checkpoint it is owed.
//! 3. After `f` the id may be another page's, whose images belong to `f` or later.
//! 4. Nothing of this is on disk: to the next open these blocks are free from the checkpoint of `r` on, and before it the page is
//!    what it was.

use ashlar_bufferpool::{BlockPtr, Epoch, PageId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// By page and `r`: `f`, once it is known, until the checkpoint of `f` is durable.
    pages: BTreeMap<(PageId, Epoch), Option<Epoch>>,
    /// Where runs of blobs stand.
    runs: BTreeMap<PageId, BlockPtr>,
}

impl Retired {
    pub(super) fn retire_page(&mut self, page: PageId, epoch: Epoch) {
        self.pages.insert((page, epoch), None);
    }

    /// The page is discarded in `epoch`, if it was retired.
    pub(super) fn page_gone(&mut self, page: PageId, epoch: Epoch) {
        if let Some((_, gone)) = self.pages.range_mut((page, Epoch(0))..=(page, epoch)).next_back()
            && gone.is_none()
        {
            *gone = Some(epoch);
        }
    }

    /// Whether an image of `page` that belongs to `epoch` is to enter no delta.
    pub(super) fn swallows(&self, page: PageId, epoch: Epoch) -> bool {
        let newest = self.pages.range((page, Epoch(0))..=(page, epoch)).next_back();
        newest.is_some_and(|(_, gone)| gone.is_none_or(|gone| epoch < gone))
    }

    /// The checkpoint of `epoch` is durable: every image of it and of those before has been recorded.
    pub(super) fn checkpoint_durable(&mut self, epoch: Epoch) {
        self.pages.retain(|_, gone| gone.is_none_or(|gone| gone > epoch));
    }

    pub(super) fn retire_run(&mut self, page: PageId, at: BlockPtr) {
        self.runs.insert(page, at);
    }

    /// Where a retired run stands.
    pub(super) fn run(&self, page: PageId) -> Option<BlockPtr> {
        self.runs.get(&page).copied()
    }

    /// Nobody reads the run any more; where it stands.
    pub(super) fn run_gone(&mut self, page: PageId) -> Option<BlockPtr> {
        self.runs.remove(&page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_retired_enter_no_delta_and_those_before_and_after_do() {
        let (mut retired, page) = (Retired::default(), PageId(5));
        retired.retire_page(page, Epoch(3));
        let swallowed = |retired: &Retired| (1..8).filter(|&e| retired.swallows(page, Epoch(e))).collect::<Vec<_>>();
        assert_eq!(swallowed(&retired), [3, 4, 5, 6, 7]);
        retired.page_gone(page, Epoch(5));
        assert_eq!(swallowed(&retired), [3, 4]);
        // The id is another page's by now, which is retired in its turn.
        retired.retire_page(page, Epoch(6));
        assert_eq!(swallowed(&retired), [3, 4, 6, 7]);
        assert!(!retired.swallows(PageId(6), Epoch(6)));
        retired.checkpoint_durable(Epoch(4));
        assert_eq!(swallowed(&retired), [3, 4, 6, 7]);
        retired.checkpoint_durable(Epoch(5));
        assert_eq!(swallowed(&retired), [6, 7]);
    }
}
