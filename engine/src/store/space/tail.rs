//! The end of the file: how much of it is free, how much of that is given back, and how far down what stands high could go.
//!
//! Invariants:
//! 1. Only free blocks are given back ([`Space::cut`]): no transfer is on them, and nothing durable refers to them, since a block
//!    is not free before (`space`, 1 and 4).
//! 2. What is given back leaves every promise kept: so many units are free after as have to be ([`TailRule::cut_point`]).

use super::{Extent, REGION_BLOCKS, Space};

/// How much of a free end is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TailRule {
    /// Free blocks at the end below which nothing is.
    pub(crate) least: u64,
    /// Free blocks that stay there.
    pub(crate) keep: u64,
}

impl TailRule {
    /// For a file that may be needed again: so many blocks or an eighth of the file must be free at the end, whichever is more, and
    /// one step of growth stays. A file that has just grown, by a step or an eighth of itself, is not cut at once.
    pub(crate) fn when_worth_it(total: u64, grow_step: u64) -> TailRule {
        TailRule { least: grow_step.saturating_mul(2).max(total / 8), keep: grow_step }
    }

    /// For a file that is to be as short as it can.
    pub(crate) fn all() -> TailRule {
        TailRule { least: 1, keep: 0 }
    }

    /// Where a file of `total` blocks ends from now on, if it is to become shorter: it is free from block `tail` on, `spare` of its
    /// free units are not needed, and a unit has `unit` blocks.
    pub(crate) fn cut_point(&self, total: u64, tail: u64, spare: u64, unit: u64) -> Option<u64> {
        if total - tail.min(total) < self.least {
            return None;
        }
        let lowest = tail.saturating_add(self.keep).max(total.saturating_sub(spare.saturating_mul(unit)));
        let end = lowest.checked_next_multiple_of(unit)?;
        // What is not worth a step is not worth the calls either.
        (end < total && total - end >= self.keep.min(self.least)).then_some(end)
    }
}

/// The lowest granule from whose start on all images would find room below, each counted as the units that it may need:
/// `needed[i]` of the images that end in granule `i`, against `free[i]`, the units of it that are free as a whole.
pub(crate) fn boundary(needed: &[u64], free: &[u64]) -> usize {
    let mut room: u64 = free.iter().sum();
    let mut moving = 0;
    for granule in (0..needed.len()).rev() {
        room -= free[granule];
        moving += needed[granule];
        if moving > room {
            return granule + 1;
        }
    }
    0
}

impl Space {
    /// Where the free stretch at the file's end begins; the file's length where there is none.
    pub fn tail(&self) -> u64 {
        let mut end = self.total;
        while end > 0 {
            let region = (end - 1) / REGION_BLOCKS;
            let first = region * REGION_BLOCKS;
            if u64::from(self.regions[region as usize].free) < end - first {
                break;
            }
            end = first;
        }
        while end > 0 && self.all_free(Extent { start: end - 1, len: 1 }) {
            end -= 1;
        }
        end
    }

    /// The file ends at block `end` from now on. What lies behind is free, and there no more.
    pub fn cut(&mut self, end: u64) {
        assert!((self.tail()..=self.total).contains(&end), "blocks from {end} on are in use, and were to be given back");
        let regions = end.div_ceil(REGION_BLOCKS) as usize;
        let stays = (regions as u64 * REGION_BLOCKS).min(self.total);
        if end < stays {
            self.set(Extent { start: end, len: stays - end }, false);
        }
        for region in self.regions.drain(regions..) {
            self.free -= u64::from(region.free);
            self.free_units -= u64::from(region.free_units);
        }
        self.bits.truncate(regions * (REGION_BLOCKS as usize / 64));
        self.total = end;
        self.cursor = self.cursor.min(regions.saturating_sub(1));
    }

    /// From now on everything goes to the lowest place there is, or no more.
    pub(crate) fn set_low_first(&mut self, on: bool) {
        self.low_first = on;
        if on {
            self.cursor = 0;
        }
    }

    /// A file of which half is free is filled from the front again: else what is changed again and again would keep its end in use,
    /// wherever the last batch came to stand.
    pub(crate) fn start_over_if_roomy(&mut self) {
        if self.free_units > self.total / self.unit / 2 {
            self.cursor = 0;
        }
    }

    /// Blocks of the pieces in which [`Space::free_units_of`] looks at this file: few enough to be counted at once.
    pub(crate) fn granule(&self) -> u64 {
        if self.total > 256 * REGION_BLOCKS { REGION_BLOCKS } else { self.unit }
    }

    /// The units that are free as a whole, of each granule.
    pub(crate) fn free_units_of_granules(&self) -> Vec<u64> {
        if self.granule() == REGION_BLOCKS {
            return self.regions.iter().map(|region| u64::from(region.free_units)).collect();
        }
        (0..self.total.div_ceil(self.unit)).map(|unit| u64::from(self.unit_free(unit * self.unit))).collect()
    }

    /// Blocks of a unit.
    pub(crate) fn unit(&self) -> u64 {
        self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_end_is_given_back_only_where_that_is_worth_it() {
        let cut = |total, tail, spare| TailRule::when_worth_it(total, 64).cut_point(total, tail, spare, 2);
        assert_eq!(cut(10_000, 8_000, 5_000), Some(8_064), "one step stays");
        assert_eq!(cut(10_000, 9_000, 5_000), None, "less than an eighth is free at the end");
        assert_eq!(cut(500, 400, 5_000), None, "less than two steps are");
        assert_eq!(cut(500, 372, 5_000), Some(436));
        assert_eq!(cut(500, 500, 5_000), None);
        // Promises come first.
        assert_eq!(cut(10_000, 8_000, 500), Some(9_000));
        assert_eq!(cut(10_000, 8_000, 10), None, "20 blocks are not worth it");
        assert_eq!(cut(10_000, 8_000, 0), None);
    }

    #[test]
    fn a_file_that_has_just_grown_is_not_cut() {
        for used in (100..100_000).step_by(77) {
            let grown = used + 64.max(used / 8);
            assert_eq!(TailRule::when_worth_it(grown, 64).cut_point(grown, used, u64::MAX, 2), None, "{used}");
        }
    }

    #[test]
    fn all_of_a_free_end_that_is_not_promised_can_be_given_back() {
        let cut = |tail, spare| TailRule::all().cut_point(1000, tail, spare, 4);
        assert_eq!(cut(301, 1000), Some(304), "whole units stay");
        assert_eq!(cut(301, 10), Some(960));
        assert_eq!(cut(1000, 1000), None);
        assert_eq!(cut(997, 1000), None);
        assert_eq!(cut(301, 0), None);
    }

    #[test]
    fn a_cut_leaves_the_counts_of_what_stays() {
        for (total, unit) in [(4096, 2), (4000, 1), (1024, 16), (5003, 4)] {
            for used in [0, 1, 300, 1023, 1024, 1025, 2048, 3000, total] {
                let used = used.min(total);
                let mut space = Space::new(total, unit);
                if used < total {
                    space.release(Extent { start: used, len: total - used });
                }
                assert_eq!(space.tail(), used, "{total} {unit}");
                let end = (used + 7).next_multiple_of(unit).min(total);
                space.cut(end);
                assert_eq!((space.total(), space.free_blocks(), space.tail()), (end, end - used, used), "{total} {unit}");
                let units = (end / unit).saturating_sub(used.div_ceil(unit));
                assert_eq!(space.free_units(), units, "{total} {unit} {used}");
                space.extend_to(total);
                assert!(space.none_free(Extent { start: end, len: total - end }));
                if end < total {
                    space.release(Extent { start: end, len: total - end });
                }
                assert_eq!(
                    (space.free_blocks(), space.free_units()),
                    (total - used, (total / unit).saturating_sub(used.div_ceil(unit)))
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "in use")]
    fn what_is_in_use_is_not_given_back() {
        let mut space = Space::new(100, 1);
        space.release(Extent { start: 50, len: 50 });
        space.cut(49);
    }

    #[test]
    fn the_boundary_is_where_all_above_find_room_below() {
        assert_eq!(boundary(&[2, 2, 0, 1], &[0, 0, 2, 1]), 3, "one goes to granule 2");
        assert_eq!(boundary(&[0, 2, 0, 2], &[2, 0, 2, 0]), 2, "with those of granule 1 four would move, to two units");
        assert_eq!(boundary(&[1, 1, 1], &[0, 0, 0]), 3, "nothing can move");
        assert_eq!(boundary(&[0, 0, 0], &[1, 1, 1]), 0);
        assert_eq!(boundary(&[], &[]), 0);
    }

    #[test]
    fn while_low_places_are_wanted_what_was_freed_low_is_used_next() {
        let mut space = Space::new(4 * REGION_BLOCKS, 1);
        space.release(Extent { start: 10, len: 4 * REGION_BLOCKS - 10 });
        let first = space.allocate_batch(&[1; 2000]).unwrap();
        space.set_low_first(true);
        assert_eq!(space.allocate_batch(&[1]).unwrap()[0].start, 2010);
        space.release(first[5]);
        assert_eq!(space.allocate_batch(&[1]).unwrap(), [first[5]]);
        space.set_low_first(false);
        space.allocate_batch(&[1]).unwrap();
        space.release(first[5]);
        assert_ne!(space.allocate_batch(&[1]).unwrap(), [first[5]], "the cursor has gone on");
    }
}
