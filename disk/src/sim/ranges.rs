//! A set of numbers as disjoint ranges: which chunks of a file have room on the disk.

use std::collections::BTreeMap;

/// Ranges `start..end`; no two touch.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct Ranges {
    ends: BTreeMap<u64, u64>,
    total: u64,
}

impl Ranges {
    /// How many numbers are in the set.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many of `start..end` are.
    pub(super) fn covered(&self, start: u64, end: u64) -> u64 {
        if start >= end {
            return 0;
        }
        let overlapping = self.ends.range(..end).rev().take_while(|&(_, &e)| e > start);
        overlapping.map(|(&s, &e)| e.min(end) - s.max(start)).sum()
    }

    /// Adds `start..end`.
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((&s, &e)) = self.ends.range(..=end).next_back()
            && e >= start
        {
            self.take(s, e);
            start = start.min(s);
            end = end.max(e);
        }
        self.put(start, end);
    }

    /// Takes `start..end` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        while let Some((&s, &e)) = self.ends.range(..end).next_back()
            && e > start
        {
            self.take(s, e);
            self.put(s, start);
            self.put(end, e);
        }
    }

    fn take(&mut self, start: u64, end: u64) {
        self.ends.remove(&start);
        self.total -= end - start;
    }

    fn put(&mut self, start: u64, end: u64) {
        if start < end {
            self.ends.insert(start, end);
            self.total += end - start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::simulation::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn behaves_like_a_set_of_numbers() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed, 0);
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for _ in 0..40 {
                let start = rng.below(30) as u64;
                let end = start + rng.below(8) as u64;
                if rng.chance(128) {
                    ranges.insert(start, end);
                    model.extend(start..end);
                } else {
                    ranges.remove(start, end);
                    model.retain(|n| !(start..end).contains(n));
                }
                assert_eq!(ranges.total(), model.len() as u64);
                let (a, b) = (rng.below(40) as u64, rng.below(40) as u64);
                assert_eq!(
                    ranges.covered(a, b),
                    model.iter().filter(|&&n| n >= a && n < b).count() as u64,
                    "{ranges:?} {a}..{b}"
                );
                assert!(ranges.ends.iter().zip(ranges.ends.iter().skip(1)).all(|((_, &e), (&s, _))| e < s), "{ranges:?}");
            }
        }
    }
}
