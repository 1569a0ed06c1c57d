//! A file of page images as the engine keeps it: an image is written to a new place, the old one waits for the checkpoint.
//!
//! Which blocks are free, the engine's own [`Space`] says, and it refuses what is in use. Beside it stands here what blocks hold, as a
//! tag: a page and how often it has been changed. So an image that is lost, or overwritten too early, is noticed ([`PageFile::check`]).
//!
//! Invariants:
//! 1. A page's newest image, and the one that the last checkpoint names, stand on the disk whole.
//! 2. Blocks are free, or *live* (of a newest image), or wait: the counts of each region add up.

use ashlar_benches::{Extent, Space};
use ashlar_bufferpool::Epoch;

/// No page's image begins here.
const NOBODY: u32 = u32::MAX;

/// What the study looks at as one: some MiB, which a log-structured file would call a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Region {
    /// Blocks that are free now.
    pub(crate) free: u64,
    /// Blocks of newest images.
    pub(crate) live: u64,
    /// When the youngest content of these was changed.
    pub(crate) youngest: u64,
}

/// Where one page stands.
#[derive(Clone, Copy, Debug)]
struct Page {
    at: Extent,
    version: u32,
    /// The file's clock when it was changed.
    changed: u64,
    /// As of the last checkpoint.
    durable: (Extent, u32),
}

/// The file.
#[derive(Debug)]
pub(crate) struct PageFile {
    space: Space,
    unit: u64,
    region_blocks: u64,
    pages: Vec<Page>,
    regions: Vec<Region>,
    /// By block: the page whose newest image begins there.
    owner: Vec<u32>,
    /// By block: what stands there.
    disk: Vec<u64>,
    epoch: Epoch,
    waiting: Vec<Extent>,
    moved_in_epoch: Vec<u32>,
    /// Pages changed so far.
    clock: u64,
}

fn tag(page: u32, version: u32) -> u64 {
    u64::from(page) << 32 | u64::from(version)
}

impl PageFile {
    /// Pages of these lengths, one behind the other as a load in order leaves them, in a file of `total` blocks.
    pub(crate) fn new(lens: &[u64], unit: u64, region_blocks: u64, total: u64) -> PageFile {
        let total = total.next_multiple_of(region_blocks);
        let mut space = Space::new(total, unit);
        space.release(Extent { start: 0, len: total });
        let nowhere = Extent { start: 0, len: 0 };
        let mut file = PageFile {
            space,
            unit,
            region_blocks,
            pages: vec![Page { at: nowhere, version: 0, changed: 0, durable: (nowhere, 0) }; lens.len()],
            regions: vec![Region { free: region_blocks, ..Region::default() }; (total / region_blocks) as usize],
            owner: vec![NOBODY; total as usize],
            disk: vec![u64::MAX; total as usize],
            epoch: Epoch::FIRST,
            waiting: Vec::new(),
            moved_in_epoch: Vec::new(),
            clock: 0,
        };
        let mut next = 0;
        for (page, &len) in (0..).zip(lens) {
            let start = (next..).find(|&start| file.fits(start, len)).unwrap_or(next);
            let at = Extent { start, len };
            assert!(file.claim(at), "the file is longer than what is loaded into it");
            file.write(page, at);
            next = start + len;
        }
        file.checkpoint();
        file
    }

    /// Where a page's newest image stands.
    pub(crate) fn at(&self, page: u32) -> Extent {
        self.pages[page as usize].at
    }

    /// When a page was changed.
    pub(crate) fn changed(&self, page: u32) -> u64 {
        self.pages[page as usize].changed
    }

    /// Pages changed so far.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Blocks of a whole page.
    pub(crate) fn unit(&self) -> u64 {
        self.unit
    }

    /// Blocks of the file.
    pub(crate) fn total(&self) -> u64 {
        self.space.total()
    }

    /// The regions, from the file's start.
    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Blocks of a region.
    pub(crate) fn region_blocks(&self) -> u64 {
        self.region_blocks
    }

    /// Whether all of it is free.
    pub(crate) fn is_free(&self, at: Extent) -> bool {
        at.start + at.len <= self.space.total() && self.space.all_free(at)
    }

    /// Whether an image may go to `start` by the engine's rule: free, and within one unit.
    pub(crate) fn fits(&self, start: u64, len: u64) -> bool {
        start % self.unit + len <= self.unit && self.is_free(Extent { start, len })
    }

    /// The pages whose newest images stand in a region, in the order of their blocks.
    pub(crate) fn pages_in(&self, region: usize) -> Vec<u32> {
        let first = region * self.region_blocks as usize;
        let owners = &self.owner[first..first + self.region_blocks as usize];
        owners.iter().copied().filter(|&page| page != NOBODY).collect()
    }

    /// Takes a place that is free. False: a part of it is not.
    #[must_use]
    pub(crate) fn claim(&mut self, at: Extent) -> bool {
        let claimed = self.space.claim(at);
        if claimed {
            self.region_of(at).free -= at.len;
        }
        claimed
    }

    /// A place that was taken, and to which nothing was written, is free again.
    pub(crate) fn give_back(&mut self, at: Extent) {
        self.space.release(at);
        self.region_of(at).free += at.len;
    }

    /// Takes places as the engine does for a batch.
    pub(crate) fn allocate_batch(&mut self, lens: &[u64]) -> Option<Vec<Extent>> {
        let places = self.space.allocate_batch(lens)?;
        places.iter().for_each(|&at| self.region_of(at).free -= at.len);
        Some(places)
    }

    /// A page that has been changed is written to a place that was taken for it.
    pub(crate) fn write(&mut self, page: u32, at: Extent) {
        self.clock += 1;
        let entry = &mut self.pages[page as usize];
        entry.version += 1;
        entry.changed = self.clock;
        let content = tag(page, entry.version);
        self.blocks_of(at).fill(content);
        self.goes_to(page, at);
    }

    /// A page that has not been changed is read where it stands and written to a place that was taken for it.
    pub(crate) fn relocate(&mut self, page: u32, to: Extent) {
        let content = self.disk[self.at(page).start as usize];
        self.blocks_of(to).fill(content);
        self.goes_to(page, to);
    }

    /// All that was written is durable and named; what waited is free.
    pub(crate) fn checkpoint(&mut self) {
        for page in std::mem::take(&mut self.moved_in_epoch) {
            let entry = &mut self.pages[page as usize];
            entry.durable = (entry.at, entry.version);
        }
        self.space.checkpoint_durable(self.epoch);
        self.epoch = self.epoch.next();
        for at in std::mem::take(&mut self.waiting) {
            self.region_of(at).free += at.len;
        }
    }

    fn goes_to(&mut self, page: u32, to: Extent) {
        let entry = &mut self.pages[page as usize];
        let (from, changed) = (std::mem::replace(&mut entry.at, to), entry.changed);
        if from.len > 0 {
            self.owner[from.start as usize] = NOBODY;
            self.region_of(from).live -= from.len;
            self.space.release_after(self.epoch, from);
            self.waiting.push(from);
        }
        self.owner[to.start as usize] = page;
        let region = self.region_of(to);
        region.youngest = if region.live == 0 { changed } else { region.youngest.max(changed) };
        region.live += to.len;
        self.moved_in_epoch.push(page);
    }

    fn region_of(&mut self, at: Extent) -> &mut Region {
        &mut self.regions[(at.start / self.region_blocks) as usize]
    }

    fn blocks_of(&mut self, at: Extent) -> &mut [u64] {
        &mut self.disk[at.start as usize..(at.start + at.len) as usize]
    }

    /// Looks at everything: what is wrong, if something is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut used = vec![false; self.disk.len()];
        for (page, entry) in (0..).zip(&self.pages) {
            for (at, version, of) in [(entry.at, entry.version, "newest"), (entry.durable.0, entry.durable.1, "durable")] {
                let blocks = at.start as usize..(at.start + at.len) as usize;
                if self.disk[blocks].iter().any(|&found| found != tag(page, version)) {
                    return Err(format!("the {of} image of page {page} is not at {at:?}"));
                }
                if !self.space.none_free(at) {
                    return Err(format!("the {of} image of page {page} at {at:?} stands in free blocks"));
                }
            }
            for block in entry.at.start..entry.at.start + entry.at.len {
                if std::mem::replace(&mut used[block as usize], true) {
                    return Err(format!("block {block} has two owners"));
                }
            }
            if self.owner[entry.at.start as usize] != page {
                return Err(format!("page {page} is not known to stand at {:?}", entry.at));
            }
        }
        let owners = self.owner.iter().filter(|&&page| page != NOBODY).count();
        if owners != self.pages.len() {
            return Err(format!("{owners} images of {} pages", self.pages.len()));
        }
        self.check_counts(&used)
    }

    fn check_counts(&self, used: &[bool]) -> Result<(), String> {
        let mut waiting = vec![0; self.regions.len()];
        for at in &self.waiting {
            waiting[(at.start / self.region_blocks) as usize] += at.len;
        }
        for (at, (region, blocks)) in self.regions.iter().zip(used.chunks_exact(self.region_blocks as usize)).enumerate() {
            let live = blocks.iter().filter(|&&used| used).count() as u64;
            if region.live != live || region.free + live + waiting[at] != self.region_blocks {
                return Err(format!("region {at}: {region:?}, {live} blocks live, {} wait", waiting[at]));
            }
        }
        let free: u64 = self.regions.iter().map(|region| region.free).sum();
        if free != self.space.free_blocks() {
            return Err(format!("{free} blocks free by region, {} of all", self.space.free_blocks()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> PageFile {
        PageFile::new(&[2, 2, 1, 2, 1, 1], 2, 16, 32)
    }

    #[test]
    fn pages_are_loaded_in_order_within_units() {
        let file = small();
        let starts: Vec<u64> = (0..file.pages()).map(|page| file.at(page).start).collect();
        assert_eq!(starts, [0, 2, 4, 6, 8, 9]);
        assert_eq!((file.regions()[0].free, file.regions()[0].live, file.total()), (7, 9, 32));
        file.check().unwrap();
    }

    #[test]
    fn an_old_place_is_free_only_after_the_checkpoint() {
        let mut file = small();
        let to = Extent { start: 16, len: 2 };
        assert!(file.claim(to));
        file.write(1, to);
        assert!(!file.is_free(Extent { start: 2, len: 2 }));
        file.check().unwrap();
        file.checkpoint();
        assert!(file.is_free(Extent { start: 2, len: 2 }));
        file.check().unwrap();
    }

    #[test]
    fn a_page_that_moves_keeps_its_content_and_its_age() {
        let mut file = small();
        let (to, changed) = (Extent { start: 20, len: 2 }, file.changed(3));
        assert!(file.claim(to));
        file.relocate(3, to);
        assert_eq!((file.at(3), file.changed(3)), (to, changed));
        file.checkpoint();
        file.check().unwrap();
        assert_eq!(file.pages_in(1), [3]);
        assert_eq!(file.regions()[1].youngest, changed);
    }

    #[test]
    fn what_is_overwritten_or_lost_is_noticed() {
        let mut early = small();
        let old = early.at(0);
        let to = Extent { start: 20, len: 2 };
        assert!(early.claim(to));
        early.write(0, to);
        // The disk is written where the durable image still stands.
        early.blocks_of(old).fill(tag(1, 9));
        assert!(early.check().unwrap_err().contains("durable image of page 0"));

        let mut moved_wrong = small();
        assert!(moved_wrong.claim(to));
        moved_wrong.pages[1].at = moved_wrong.at(0);
        moved_wrong.relocate(1, to);
        assert!(moved_wrong.check().is_err());

        let mut miscounted = small();
        miscounted.regions[1].free -= 1;
        assert!(miscounted.check().unwrap_err().contains("region 1"));
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_place_is_not_given_up_twice() {
        let mut file = small();
        let to = Extent { start: 20, len: 2 };
        assert!(file.claim(to));
        file.write(0, to);
        file.space.release_after(file.epoch, Extent { start: 0, len: 2 });
        file.checkpoint();
    }
}
