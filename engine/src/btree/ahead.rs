//! Leaves that are asked for ahead of the one that is needed, while keys are gone through one by one: many reads in flight, in a sliding
//! window.
//!
//! A window is small beside the pool, so that what was read ahead is still there when it is needed. Where everything is in memory
//! nothing is looked up twice.

use super::error::Stop;
use super::{PageId, Tree};
use ashlar_bufferpool::{PageStore, Pool};
use std::ops::Range;

/// Keys that are looked up ahead, at most.
const WINDOW: usize = 64;

/// One frame in so many is for what was read ahead, at most.
const SHARE: usize = 8;

/// How far a pass over keys has asked for their leaves.
#[derive(Debug)]
pub(crate) struct Ahead {
    window: usize,
    /// The first key whose leaf has not been asked for.
    asked: usize,
    missing: Vec<PageId>,
}

impl Ahead {
    /// Of a pass that begins.
    pub(crate) fn new<S: PageStore>(pool: &Pool<S>) -> Ahead {
        let window = if pool.may_miss() { WINDOW.min(pool.frames() as usize / SHARE) } else { 0 };
        Ahead { window, asked: 0, missing: Vec::new() }
    }

    /// The keys of which the leaves should be asked for before key `at` of `count` is looked up.
    pub(crate) fn due(&mut self, at: usize, count: usize) -> Option<Range<usize>> {
        // A key whose turn it is already is read by whoever needs it.
        self.asked = self.asked.max(at + 1);
        let end = count.min(at + self.window);
        let due = self.asked..end;
        if due.is_empty() || (end < count && due.len() * 2 < self.window) {
            return None;
        }
        self.asked = end;
        Some(due)
    }

    /// Starts reads of the pages that the ways to these keys miss first. Waits for frames, not for the reads: with nothing latched and
    /// nothing reserved.
    pub(crate) fn ask<'k, S: PageStore>(&mut self, pool: &Pool<S>, keys: impl Iterator<Item = (Tree, &'k [u8])>) {
        self.missing.clear();
        for (tree, key) in keys {
            if let Err(Stop::Missing(page)) = tree.get(pool, key, |_| ())
                && self.missing.last() != Some(&page)
            {
                self.missing.push(page);
            }
        }
        pool.bring(&self.missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_but_those_whose_turn_it_is_is_asked_for_once_and_in_time() {
        for (window, count) in [(64, 1000), (8, 100), (8, 5), (2, 9), (1, 9), (0, 9), (64, 1)] {
            let mut ahead = Ahead { window, asked: 0, missing: Vec::new() };
            let mut asked = vec![0; count];
            for at in 0..count {
                if let Some(due) = ahead.due(at, count) {
                    assert!(due.start > at && due.end <= count.min(at + window));
                    due.for_each(|key| asked[key] += 1);
                }
                if window >= 2 {
                    let soon = &asked[count.min(at + 1)..count.min(at + 1 + window / 2)];
                    assert!(soon.iter().all(|&n| n == 1), "window {window}, key {at} of {count}: {asked:?}");
                }
            }
            assert_eq!(asked[0], 0);
            assert!(asked[1..].iter().all(|&n| n == usize::from(window >= 2)), "window {window} of {count}: {asked:?}");
        }
    }
}
