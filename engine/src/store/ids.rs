//! Page ids: which are in use, and which may be used for what.
//!
//! The log names blobs by the page ids of their runs, tree pages never. So after a crash a run has the very id that it was given,
//! beside the pages of the last durable checkpoint; tree pages are given new ones as the log is applied again.
//!
//! Invariants:
//! 1. A run never gets an id that a page of the last durable checkpoint has, nor one that the log beyond it names for another run:
//!    an id that goes free in epoch `e` is for runs when checkpoint `e` is durable.
//! 2. An id that a run had is for pages, too, only then. One that a page had is for pages at once.

use ashlar_bufferpool::{Epoch, PageId};
use std::collections::BTreeMap;

/// The page ids of one database.
#[derive(Debug)]
pub(super) struct PageIds {
    /// The lowest id that never was in use.
    next: u64,
    /// Free in the last durable checkpoint and not named by the log beyond it; the next to be used last.
    settled: Vec<u64>,
    /// Ids of pages that went free since, by the epoch in which they did.
    of_pages: BTreeMap<Epoch, Vec<u64>>,
    /// Ids of runs that went free since.
    of_runs: BTreeMap<Epoch, Vec<u64>>,
}

impl PageIds {
    /// The ids below `next`, of which `free` are free: those to be used first at the end.
    pub(super) fn new(next: u64, free: Vec<u64>) -> PageIds {
        PageIds { next, settled: free, of_pages: BTreeMap::new(), of_runs: BTreeMap::new() }
    }

    /// The lowest id that never was in use.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many below [`PageIds::next`] are free.
    pub(super) fn free(&self) -> u64 {
        let waiting = self.of_pages.values().chain(self.of_runs.values());
        (self.settled.len() + waiting.map(Vec::len).sum::<usize>()) as u64
    }

    /// An id for a page of a tree.
    pub(super) fn take_for_page(&mut self) -> PageId {
        let Some(mut newest) = self.of_pages.last_entry() else { return self.take_for_run() };
        let id = newest.get_mut().pop();
        if newest.get().is_empty() {
            newest.remove();
        }
        id.map_or_else(|| self.take_for_run(), PageId)
    }

    /// An id for a run of a blob.
    pub(super) fn take_for_run(&mut self) -> PageId {
        self.settled.pop().map_or_else(|| self.take_fresh(), PageId)
    }

    /// An id that never was in use.
    pub(super) fn take_fresh(&mut self) -> PageId {
        self.next += 1;
        PageId(self.next - 1)
    }

    /// An id taken for something that the log came not to name is free again.
    pub(super) fn give_back(&mut self, page: PageId) {
        self.settled.push(page.0);
    }

    /// A tree page has gone in `epoch`.
    pub(super) fn page_freed(&mut self, page: PageId, epoch: Epoch) {
        self.of_pages.entry(epoch).or_default().push(page.0);
    }

    /// A run has gone in `epoch`.
    pub(super) fn run_freed(&mut self, page: PageId, epoch: Epoch) {
        self.of_runs.entry(epoch).or_default().push(page.0);
    }

    /// The checkpoint of `epoch` is durable: what went free in it or before is for everything.
    pub(super) fn checkpoint_durable(&mut self, epoch: Epoch) {
        for freed in [&mut self.of_pages, &mut self.of_runs] {
            let later = freed.split_off(&Epoch(epoch.0 + 1));
            self.settled.extend(std::mem::replace(freed, later).into_values().flatten());
        }
    }

    /// Recovery: the ids below `end` for which `is_named` says that the log names them are in use.
    pub(super) fn reserve(&mut self, end: u64, is_named: impl Fn(PageId) -> bool) {
        let next = self.next;
        self.next = next.max(end);
        let old = std::mem::take(&mut self.settled);
        let all = (next..self.next).rev().chain(old);
        self.settled = all.filter(|&id| !is_named(PageId(id))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_never_has_an_id_that_a_page_of_the_last_checkpoint_has() {
        let mut ids = PageIds::new(2, Vec::new());
        ids.page_freed(PageId(0), Epoch(1));
        assert_eq!(ids.take_for_run(), PageId(2));
        assert_eq!(ids.take_for_page(), PageId(0));
        ids.page_freed(PageId(0), Epoch(1));
        ids.page_freed(PageId(1), Epoch(2));
        ids.checkpoint_durable(Epoch(1));
        assert_eq!(ids.take_for_run(), PageId(0));
        assert_eq!(ids.take_for_run(), PageId(3));
        assert_eq!(ids.free(), 1);
    }

    #[test]
    fn an_id_that_the_log_names_for_a_run_is_nobody_elses_before_the_next_checkpoint() {
        let mut ids = PageIds::new(0, Vec::new());
        let run = ids.take_for_run();
        ids.run_freed(run, Epoch(1));
        assert_ne!(ids.take_for_page(), run);
        assert_ne!(ids.take_for_run(), run);
        ids.checkpoint_durable(Epoch(1));
        assert_eq!(ids.take_for_page(), run);
    }

    #[test]
    fn recovery_keeps_the_ids_that_the_log_names() {
        let mut ids = PageIds::new(3, vec![1]);
        ids.reserve(6, |page| [1, 4].contains(&page.0));
        assert_eq!(ids.next(), 6);
        assert_eq!([ids.take_for_page(), ids.take_for_page(), ids.take_for_page()].map(|p| p.0), [3, 5, 6]);
    }
}
