//! Free blocks of `data`, and which may be used when.
//!
//! Free space is not recorded on disk: it is what the page map does not name. In memory it is one bit a block.
//!
//! Invariants:
//! 1. A block is free, or in use by exactly one owner (a page image, a map page, a blob run), or *waiting*: nothing that is to
//!    come refers to it any more, but the last durable checkpoint (or the log beyond it) still does. It waits for the
//!    checkpoint of the epoch in which it was superseded.
//! 2. A **unit** is a page's worth of adjacent blocks, aligned to its own length. `free_units` counts the units that are
//!    free as a whole: every dirty page can go to one of them, however broken up the rest is. Whoever makes a page dirty has
//!    made sure before that `free_units` covers all dirty pages and the map pages that record them
//!    ([`Space::shortfall`]); so a write-back or a checkpoint never fails for want of space.
//! 3. Images shorter than a unit go to units that are broken already, if there are any.
//! 4. A pinned block (a transfer on it is in flight) is not handed out: what becomes free meanwhile is kept back until unpinned.

mod tail;

pub(crate) use tail::{TailRule, boundary};

use ashlar_bufferpool::Epoch;
use std::collections::BTreeMap;

/// Adjacent blocks: the first and their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Extent {
    /// Address of the first block.
    pub start: u64,
    /// How many.
    pub len: u64,
}

/// Blocks of a region: what an allocation looks through at once.
const REGION_BLOCKS: u64 = 1024;

/// The blocks of one file.
#[derive(Clone, Debug)]
pub struct Space {
    /// One bit a block, 1 = free. Whole regions.
    bits: Vec<u64>,
    /// Free blocks and wholly free units of each region.
    regions: Vec<Region>,
    /// Blocks of the file: what lies beyond is not there yet.
    total: u64,
    /// Blocks of a unit: a power of two, at most 16.
    unit: u64,
    /// Where the next batch starts to look: batches fill the file from low to high, then start over.
    cursor: usize,
    /// Everything goes to the lowest place there is: what is freed below the cursor brings it back.
    low_first: bool,
    free: u64,
    free_units: u64,
    waiting: BTreeMap<Epoch, Vec<Extent>>,
    waiting_blocks: u64,
    pins: BTreeMap<u64, Pin>,
    /// A deliberate mistake: nothing waits.
    reuse_early: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Region {
    free: u32,
    free_units: u32,
}

#[derive(Clone, Debug, Default)]
struct Pin {
    count: u32,
    /// To be freed when the last pin goes.
    freed: Option<u64>,
}

impl Space {
    /// A file of `total` blocks, all in use. `unit`: blocks a page.
    pub fn new(total: u64, unit: u64) -> Space {
        assert!(unit.is_power_of_two() && unit <= 16, "a page is 1 to 16 blocks, not {unit}");
        let mut space = Space {
            bits: Vec::new(),
            regions: Vec::new(),
            total: 0,
            unit,
            cursor: 0,
            low_first: false,
            free: 0,
            free_units: 0,
            waiting: BTreeMap::new(),
            waiting_blocks: 0,
            pins: BTreeMap::new(),
            reuse_early: false,
        };
        space.extend_to(total);
        space
    }

    /// The file has grown to `total` blocks; the new ones are in use until they are freed.
    pub fn extend_to(&mut self, total: u64) {
        let regions = total.div_ceil(REGION_BLOCKS) as usize;
        self.regions.resize(regions.max(self.regions.len()), Region::default());
        self.bits.resize(self.regions.len() * (REGION_BLOCKS as usize / 64), 0);
        self.total = self.total.max(total);
    }

    /// Blocks of the file.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Free blocks.
    pub fn free_blocks(&self) -> u64 {
        self.free
    }

    /// Units that are free as a whole.
    pub fn free_units(&self) -> u64 {
        self.free_units
    }

    /// Blocks that wait for a checkpoint.
    pub fn waiting_blocks(&self) -> u64 {
        self.waiting_blocks
    }

    /// Blocks waiting for the checkpoint of `epoch` or one before it.
    pub fn waiting_up_to(&self, epoch: Epoch) -> u64 {
        self.waiting.range(..=epoch).flat_map(|(_, extents)| extents).map(|extent| extent.len).sum()
    }

    /// How many units are missing so that `wanted` pages can be written.
    pub fn shortfall(&self, wanted: u64) -> u64 {
        wanted.saturating_sub(self.free_units)
    }

    /// Whether the whole extent is free: for checks.
    pub fn all_free(&self, extent: Extent) -> bool {
        pieces(extent).all(|(word, mask)| self.bits.get(word).is_some_and(|bits| bits & mask == mask))
    }

    /// Whether the whole extent is in use or waiting: for checks.
    pub fn none_free(&self, extent: Extent) -> bool {
        extent.start + extent.len <= self.total
            && pieces(extent).all(|(word, mask)| self.bits.get(word).is_none_or(|bits| bits & mask == 0))
    }

    /// Marks an extent that is free as in use. False, and nothing changed, where a part of it is not free: two owners.
    pub fn claim(&mut self, extent: Extent) -> bool {
        if extent.start.checked_add(extent.len).is_none_or(|end| end > self.total) || !self.all_free(extent) {
            return false;
        }
        self.set(extent, false);
        true
    }

    /// Frees an extent now. It must be in use, and nothing durable may refer to it.
    pub fn release(&mut self, extent: Extent) {
        assert!(self.none_free(extent), "blocks {extent:?} freed twice");
        if let Some(pin) = self.pins.get_mut(&extent.start) {
            assert!(pin.freed.is_none(), "blocks {extent:?} freed twice");
            pin.freed = Some(extent.len);
            return;
        }
        self.set(extent, true);
    }

    /// See [`Fault::ReuseEarly`](crate::fault::Fault).
    pub(crate) fn set_reuse_early(&mut self, early: bool) {
        self.reuse_early = early;
    }

    /// The extent is free when the checkpoint of `epoch` is durable.
    pub fn release_after(&mut self, epoch: Epoch, extent: Extent) {
        debug_assert!(self.none_free(extent), "blocks {extent:?} freed twice");
        if self.reuse_early {
            return self.release(extent);
        }
        self.waiting.entry(epoch).or_default().push(extent);
        self.waiting_blocks += extent.len;
    }

    /// The checkpoint of `epoch` is durable, superblock and mirror: what waited for it and for those before is free.
    pub fn checkpoint_durable(&mut self, epoch: Epoch) {
        let later = self.waiting.split_off(&Epoch(epoch.0 + 1));
        for extent in std::mem::replace(&mut self.waiting, later).into_values().flatten() {
            self.waiting_blocks -= extent.len;
            self.release(extent);
        }
    }

    /// A checkpoint that can't finish: what waited for `epoch` waits for `heir`.
    pub fn hand_over(&mut self, epoch: Epoch, heir: Epoch) {
        if let Some(extents) = self.waiting.remove(&epoch) {
            self.waiting.entry(heir).or_default().extend(extents);
        }
    }

    /// Keeps the blocks that start at `start` from being handed out while a transfer is on them.
    pub fn pin(&mut self, start: u64) {
        self.pins.entry(start).or_default().count += 1;
    }

    /// The transfer is over.
    pub fn unpin(&mut self, start: u64) {
        let Some(pin) = self.pins.get_mut(&start) else { return };
        pin.count -= 1;
        if pin.count == 0
            && let Some(Pin { freed: Some(len), .. }) = self.pins.remove(&start)
        {
            self.set(Extent { start, len }, true);
        }
    }

    /// Blocks for images of these lengths (each at most a unit), in the order given, adjacent as far as free space allows: the
    /// extents, one an image. `None`, and nothing taken, where there is no room (invariant 2 says: never for what was reserved).
    pub fn allocate_batch(&mut self, lens: &[u64]) -> Option<Vec<Extent>> {
        let mut out = Vec::with_capacity(lens.len());
        for &len in lens {
            debug_assert!(len >= 1 && len <= self.unit);
            let follow = out.last().map(|e: &Extent| e.start + e.len);
            match self.place(len, follow) {
                Some(extent) => {
                    self.set(extent, false);
                    out.push(extent);
                }
                None => {
                    out.into_iter().for_each(|e| self.set(e, true));
                    return None;
                }
            }
        }
        Some(out)
    }

    /// One run of `len` blocks, for a blob: whole units, at the lowest place that has room. `None` where no run is that long.
    pub fn allocate_run(&mut self, len: u64) -> Option<Extent> {
        let units = len.div_ceil(self.unit);
        let mut run = 0;
        let mut block = 0;
        while block + self.unit <= self.total {
            if block % REGION_BLOCKS == 0 && self.regions[(block / REGION_BLOCKS) as usize].free_units == 0 {
                run = 0;
                block += REGION_BLOCKS;
                continue;
            }
            run = if self.unit_free(block) { run + 1 } else { 0 };
            block += self.unit;
            if run == units {
                let extent = Extent { start: block - units * self.unit, len };
                self.set(extent, false);
                return Some(extent);
            }
        }
        None
    }

    /// A place for one image: right behind the last one if that is free, else the next hole from the cursor on; a whole unit
    /// only where no broken one has room (invariant 3).
    fn place(&mut self, len: u64, follow: Option<u64>) -> Option<Extent> {
        if let Some(start) = follow
            && self.fits_behind(start, len)
        {
            return Some(Extent { start, len });
        }
        let n = self.regions.len();
        for step in 0..=n {
            let region = (self.cursor + step) % n.max(1);
            if let Some(extent) = self.place_in(region, len) {
                self.cursor = region;
                return Some(extent);
            }
        }
        None
    }

    /// Whether an image fits at `start` without leaving its unit.
    fn fits_behind(&self, start: u64, len: u64) -> bool {
        let unit_end = start / self.unit * self.unit + self.unit;
        let inside = start.is_multiple_of(self.unit) || start + len <= unit_end;
        inside && start + len <= self.total && self.all_free(Extent { start, len })
    }

    fn place_in(&self, region: usize, len: u64) -> Option<Extent> {
        let state = self.regions.get(region)?;
        if u64::from(state.free) < len {
            return None;
        }
        let first = region as u64 * REGION_BLOCKS;
        let broken = u64::from(state.free) - u64::from(state.free_units) * self.unit;
        let mut whole = None;
        for unit in (first..(first + REGION_BLOCKS).min(self.total)).step_by(self.unit as usize) {
            if self.unit_free(unit) {
                whole = whole.or(Some(unit));
                if broken < len || len == self.unit {
                    break;
                }
            } else if len < self.unit
                && let Some(start) = (unit..=unit + self.unit - len).find(|&s| self.all_free(Extent { start: s, len }))
            {
                return Some(Extent { start, len });
            }
        }
        whole.map(|start| Extent { start, len })
    }

    fn unit_free(&self, unit: u64) -> bool {
        let mask = ((1u64 << (self.unit - 1)) << 1).wrapping_sub(1) << (unit % 64);
        self.bits.get((unit / 64) as usize).is_some_and(|w| w & mask == mask)
    }

    /// Sets the bits of an extent and keeps the counts. Every bit changes: checked.
    fn set(&mut self, extent: Extent, free: bool) {
        for (word, mask) in pieces(extent) {
            let before = self.bits[word];
            let wrong = if free { before & mask } else { !before & mask };
            let block = word as u64 * 64 + u64::from(wrong.trailing_zeros());
            assert!(wrong == 0, "block {block} is {} already", if free { "free" } else { "in use" });
            let after = before ^ mask;
            self.bits[word] = after;
            let (blocks, units) = (mask.count_ones(), self.units_in(before).abs_diff(self.units_in(after)));
            let region_at = word / (REGION_BLOCKS as usize / 64);
            let region = &mut self.regions[region_at];
            if free {
                region.free += blocks;
                region.free_units += units;
                self.free += u64::from(blocks);
                self.free_units += u64::from(units);
                if self.low_first {
                    self.cursor = self.cursor.min(region_at);
                }
            } else {
                region.free -= blocks;
                region.free_units -= units;
                self.free -= u64::from(blocks);
                self.free_units -= u64::from(units);
            }
        }
    }

    /// How many units of a word of bits are free as a whole.
    fn units_in(&self, mut word: u64) -> u32 {
        // After a step with `n`, a bit says that it and the 2n - 1 above it are all free.
        let mut n = 1;
        while n < self.unit {
            word &= word >> n;
            n *= 2;
        }
        let firsts = match self.unit {
            1 => u64::MAX,
            2 => u64::MAX / 3,
            4 => u64::MAX / 15,
            8 => u64::MAX / 255,
            _ => u64::MAX / 65535,
        };
        (word & firsts).count_ones()
    }
}

/// The words that an extent's bits stand in, each with its bits.
fn pieces(extent: Extent) -> impl Iterator<Item = (usize, u64)> {
    let end = extent.start + extent.len;
    let mut block = extent.start;
    std::iter::from_fn(move || {
        if block >= end {
            return None;
        }
        let (word, bit) = ((block / 64) as usize, block % 64);
        let n = (64 - bit).min(end - block);
        block += n;
        Some((word, (u64::MAX >> (64 - n)) << bit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn random_use_keeps_every_count_and_no_block_has_two_owners() {
        for seed in 0..200 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let unit = 1 << rng.random_range(0..5);
            let total = rng.random_range(1..6) * 512;
            let mut space = Space::new(total, unit);
            space.release(Extent { start: 0, len: total });
            let mut owned: Vec<Extent> = Vec::new();
            let mut waiting: Vec<Extent> = Vec::new();
            for _ in 0..400 {
                match rng.random_range(0..12) {
                    0..4 => {
                        let lens: Vec<u64> = (0..rng.random_range(1..20)).map(|_| rng.random_range(1..=unit)).collect();
                        let units = space.free_units();
                        match space.allocate_batch(&lens) {
                            Some(extents) => owned.extend(extents),
                            None => assert!(units < lens.len() as u64, "{units} units did not hold {} images", lens.len()),
                        }
                    }
                    4 => owned.extend(space.allocate_run(rng.random_range(1..200))),
                    5..8 if !owned.is_empty() => {
                        let extent = owned.swap_remove(rng.random_range(0..owned.len()));
                        space.release(extent);
                    }
                    8 if !owned.is_empty() => {
                        let extent = owned.swap_remove(rng.random_range(0..owned.len()));
                        space.release_after(Epoch(3), extent);
                        waiting.push(extent);
                    }
                    9 => {
                        space.checkpoint_durable(Epoch(3));
                        waiting.clear();
                    }
                    10 => {
                        // Cut, and grown again.
                        let end = rng.random_range(space.tail()..=total);
                        space.cut(end);
                        space.extend_to(total);
                        if end < total {
                            space.release(Extent { start: end, len: total - end });
                        }
                    }
                    11 => space.set_low_first(rng.random()),
                    _ => {}
                }
                let used: u64 = owned.iter().chain(&waiting).map(|e| e.len).sum();
                assert_eq!(space.free_blocks() + used, total);
                let mut all: Vec<Extent> = owned.iter().chain(&waiting).copied().collect();
                all.sort();
                assert!(all.windows(2).all(|w| w[0].start + w[0].len <= w[1].start), "overlap");
                assert!(all.iter().all(|&e| space.none_free(e)));
                let units = (0..total / unit).filter(|&u| space.all_free(Extent { start: u * unit, len: unit })).count();
                assert_eq!(space.free_units(), units as u64);
            }
        }
    }

    #[test]
    fn a_batch_into_free_space_is_adjacent() {
        let mut space = Space::new(4096, 2);
        space.release(Extent { start: 256, len: 3840 });
        let got = space.allocate_batch(&[2, 2, 1, 1, 2]).unwrap();
        assert!(got.windows(2).all(|w| w[0].start + w[0].len == w[1].start), "{got:?}");
    }

    #[test]
    fn pinned_blocks_are_not_reused_until_the_transfer_ends() {
        let mut space = Space::new(64, 1);
        space.release(Extent { start: 0, len: 4 });
        let run = space.allocate_run(4).unwrap();
        space.pin(run.start);
        space.pin(run.start);
        space.release(run);
        assert_eq!(space.allocate_run(4), None);
        space.unpin(run.start);
        assert_eq!(space.allocate_run(4), None);
        space.unpin(run.start);
        assert_eq!(space.allocate_run(4), Some(run));
    }

    #[test]
    fn claiming_what_somebody_owns_fails_and_changes_nothing() {
        let mut space = Space::new(64, 1);
        space.release(Extent { start: 8, len: 8 });
        assert!(!space.claim(Extent { start: 6, len: 4 }));
        assert!(!space.claim(Extent { start: 60, len: 8 }));
        assert_eq!(space.free_blocks(), 8);
        assert!(space.claim(Extent { start: 8, len: 8 }));
        assert!(!space.claim(Extent { start: 15, len: 1 }));
    }
}
