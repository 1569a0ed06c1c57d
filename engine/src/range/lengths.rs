//! How many leaves scans usually go through, learned from those that have ended: one that begins asks for as many at once, instead of waiting
//! for one after the other.
//!
//! Of each tree a number that four scans in five stay within. A scan that goes further moves it up by four steps, one that stays below down
//! by one: where it rests, the first are a fifth of all (frugal streaming: Ma, Muthukrishnan, Sandler 2013). So a few very long scans among short
//! ones change nothing. Trees whose ids are equal modulo [`SLOTS`] share a number.
//!
//! This is advice, and kept without any order among threads.

use crate::btree::TreeId;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Numbers.
const SLOTS: usize = 64;

/// Steps of one leaf.
const STEPS: u32 = 16;

/// How far a scan that goes further moves the number.
const UP: u32 = 4;

/// Longer scans soon ask for more by themselves.
const USUAL_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lengths {
    /// In steps, beyond the first leaf.
    beyond: [AtomicU32; SLOTS],
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths { beyond: std::array::from_fn(|_| AtomicU32::new(0)) }
    }
}

impl Lengths {
    fn of(&self, tree: TreeId) -> &AtomicU32 {
        &self.beyond[tree.0 as usize % SLOTS]
    }

    /// Within how many leaves most scans of a tree stay: one at least.
    pub(super) fn usual(&self, tree: TreeId) -> usize {
        1 + ((self.of(tree).load(Relaxed) + STEPS / 2) / STEPS) as usize
    }

    /// A scan of a tree has ended after so many leaves, one at least.
    pub(super) fn ended(&self, tree: TreeId, leaves: usize) {
        let (number, this) = (self.of(tree), (leaves.clamp(1, USUAL_MAX) as u32 - 1) * STEPS);
        let before = number.load(Relaxed);
        let after = if this > before { this.min(before + UP) } else { this.max(before.saturating_sub(1)) };
        if after != before {
            number.store(after, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lengths: &[usize], rounds: usize) -> usize {
        let learned = Lengths::default();
        (0..rounds).flat_map(|_| lengths).for_each(|&leaves| learned.ended(TreeId(70), leaves));
        assert_eq!(learned.usual(TreeId(71)), 1);
        learned.usual(TreeId(70))
    }

    #[test]
    fn most_scans_stay_within_what_is_usual() {
        assert_eq!(after(&[], 0), 1);
        assert_eq!(after(&[1], 100), 1);
        assert_eq!(after(&[3], 20), 3);
        assert_eq!(after(&[2, 3, 3, 4], 100), 4);
        assert_eq!(after(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 5000], 100), 1, "one long scan in ten");
        assert_eq!(after(&[5000], 100), USUAL_MAX);
        let learned = Lengths::default();
        (0..100).for_each(|_| learned.ended(TreeId(1), 8));
        (0..200).for_each(|_| learned.ended(TreeId(1), 1));
        assert_eq!(learned.usual(TreeId(1)), 1, "what changes is learned anew");
    }
}
