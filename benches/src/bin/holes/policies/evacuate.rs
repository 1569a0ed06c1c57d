//! Evacuating, as log-structured file systems clean segments (Rosenblum & Ousterhout 1991): pages go to regions that are free as a whole,
//! one behind the other; regions of which much is free are read, and what lives in them is written elsewhere, so that they become free.
//!
//! - *Greedy* takes the region with the least living in it.
//! - *Cost-benefit* takes that with the highest (1 - u) · age / (1 + u), u being the share that lives and the age that of the youngest
//!   page; pages that move are sorted by age.
//!
//! In favour of evacuating: pages that move have a log of their own, so that what changes seldom does not stand between what changes
//! often; images stand behind each other without regard to units; and a region is read in large transfers or piece by piece, whichever is
//! cheaper.
//!
//! Moves are part of a checkpoint like changes: the region is free when that is durable. Where what is free would not take the next batch, and
//! what can be moved in its own checkpoint is not enough, more checkpoints are made, with moves only; they are counted. So that they are
//! few, some regions more are kept free to move to, up to a fiftieth of the file.

use super::{Device, NoRoom, Policy, buffers, count_transfers};
use crate::page_file::{PageFile, Region};
use crate::tally::{Io, Tally};
use crate::updates::Update;
use ashlar_benches::Extent;

/// Free regions beyond what the next batch takes: one for the rest of each log, and one to move to.
const SPARE_REGIONS: u64 = 3;

/// Which region is emptied next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    Greedy,
    CostBenefit,
}

/// Where a log goes on, and where its region ends.
#[derive(Clone, Copy, Default, Debug)]
struct Head {
    next: u64,
    end: u64,
}

/// The policy.
pub(crate) struct Evacuate {
    device: Device,
    choice: Choice,
    changes: Head,
    moves: Head,
    /// Whether a region holds the end of a log, or was written since the last checkpoint: it is not emptied.
    open: Vec<bool>,
}

impl Evacuate {
    pub(crate) fn new(file: &PageFile, device: Device, choice: Choice) -> Evacuate {
        let open = vec![false; file.regions().len()];
        Evacuate { device, choice, changes: Head::default(), moves: Head::default(), open }
    }

    /// Regions that are free as a whole.
    fn free_regions(&self, file: &PageFile) -> u64 {
        file.regions().iter().zip(&self.open).filter(|&(region, open)| !open && region.free == file.region_blocks()).count()
            as u64
    }

    /// How many free regions the next batch takes, if it is like this one.
    fn needed(&self, file: &PageFile, batch: &[Update]) -> u64 {
        (batch.len() as u64 * file.unit()).div_ceil(file.region_blocks()) + SPARE_REGIONS
    }

    /// How many should be free after a checkpoint.
    fn wanted(&self, needed: u64) -> u64 {
        needed + (2 * needed).min(self.open.len() as u64 / 50)
    }

    /// The next place of a log; a region begun anew where the last one is full.
    fn place(&mut self, file: &mut PageFile, mut head: Head, len: u64) -> Option<(Head, Extent)> {
        if head.next + len > head.end {
            let free = |&region: &usize| !self.open[region] && file.regions()[region].free == file.region_blocks();
            let region = (0..self.open.len()).find(free)?;
            self.open[region] = true;
            let start = region as u64 * file.region_blocks();
            head = Head { next: start, end: start + file.region_blocks() };
        }
        let at = Extent { start: head.next, len };
        head.next += len;
        file.claim(at).then_some((head, at))
    }

    fn write_changes(&mut self, file: &mut PageFile, batch: &[Update], tally: &mut Tally) -> Result<(), NoRoom> {
        for buffer in buffers(batch, self.device.transfer_blocks, file.unit()) {
            let mut places = Vec::with_capacity(buffer.len());
            for update in buffer {
                let (head, at) = self.place(file, self.changes, update.len).ok_or(NoRoom)?;
                self.changes = head;
                file.write(update.page, at);
                places.push(at);
            }
            count_transfers(&places, &mut tally.written);
            tally.updated += buffer.len() as u64;
        }
        Ok(())
    }

    /// Empties regions until so many are free after the checkpoint, or there is no room to move to. How many it emptied.
    fn empty_regions(&mut self, file: &mut PageFile, wanted: u64, tally: &mut Tally) -> u64 {
        let mut leaving: Vec<Update> = Vec::new();
        let (mut emptied, mut blocks) = (0, 0);
        let unit = file.unit();
        // Of a region that is filled, less than a unit is left over at its end.
        let room = |free: u64, head: Head| free * (file.region_blocks() - unit) + (head.end - head.next);
        loop {
            let free = self.free_regions(file);
            let Some(victim) = self.victim(file).filter(|_| free + emptied < wanted + blocks / file.region_blocks()) else {
                break;
            };
            let live = file.regions()[victim].live;
            if blocks + live > room(free, self.moves) {
                break;
            }
            let pages = file.pages_in(victim);
            self.count_reads(file, &pages, tally);
            leaving.extend(pages.iter().map(|&page| Update { page, len: file.at(page).len }));
            self.open[victim] = true;
            emptied += 1;
            blocks += live;
        }
        match self.choice {
            Choice::Greedy => leaving.sort_unstable(),
            Choice::CostBenefit => leaving.sort_by_key(|update| file.changed(update.page)),
        }
        self.move_pages(file, &leaving, tally);
        emptied
    }

    fn victim(&self, file: &PageFile) -> Option<usize> {
        let size = file.region_blocks();
        let worth = |region: &Region| match self.choice {
            Choice::Greedy => (size - region.live) as f64,
            Choice::CostBenefit => {
                let (u, age) = (region.live as f64 / size as f64, (file.clock() - region.youngest) as f64);
                (1.0 - u) * age / (1.0 + u)
            }
        };
        let regions = file.regions().iter().enumerate();
        // One that is nearly full is no gain, and one that is free has nothing to give.
        let can_go = regions.filter(|&(at, region)| !self.open[at] && region.free < size && region.live + file.unit() < size);
        can_go.max_by(|a, b| worth(a.1).total_cmp(&worth(b.1))).map(|(at, _)| at)
    }

    fn count_reads(&self, file: &PageFile, pages: &[u32], tally: &mut Tally) {
        let places: Vec<Extent> = pages.iter().map(|&page| file.at(page)).collect();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
        let mut pieces = Io::default();
        for stretch in places.chunk_by(|a, b| a.start + a.len == b.start) {
            add_in_transfers(&mut pieces, stretch.iter().map(|at| at.len).sum(), self.device.transfer_blocks);
        }
        let mut whole = Io::default();
        add_in_transfers(&mut whole, last.start + last.len - first.start, self.device.transfer_blocks);
        let time = |io| self.device.cost.of_reads(io, self.device.block_kib);
        let cheaper = if time(whole) < time(pieces) { whole } else { pieces };
        tally.read.transfers += cheaper.transfers;
        tally.read.blocks += cheaper.blocks;
    }

    fn move_pages(&mut self, file: &mut PageFile, leaving: &[Update], tally: &mut Tally) {
        for buffer in buffers(leaving, self.device.transfer_blocks, file.unit()) {
            let mut places = Vec::with_capacity(buffer.len());
            for update in buffer {
                // Room was counted before: a page for which there is none stays.
                let Some((head, at)) = self.place(file, self.moves, update.len) else { break };
                self.moves = head;
                file.relocate(update.page, at);
                places.push(at);
            }
            count_transfers(&places, &mut tally.written);
            tally.moved += places.len() as u64;
        }
    }

    /// The checkpoint: only regions with the end of a log stay open.
    fn checkpoint(&mut self, file: &mut PageFile) {
        file.checkpoint();
        self.open.fill(false);
        for head in [self.changes, self.moves] {
            if head.next < head.end {
                self.open[(head.next / file.region_blocks()) as usize] = true;
            }
        }
    }
}

impl Policy for Evacuate {
    fn write_epoch(&mut self, file: &mut PageFile, batch: &[Update], tally: &mut Tally) -> Result<(), NoRoom> {
        let needed = self.needed(file, batch);
        let mut idle = 0;
        while self.free_regions(file) < needed {
            let before = self.free_regions(file);
            if self.empty_regions(file, self.wanted(needed), tally) == 0 {
                return Err(NoRoom);
            }
            self.checkpoint(file);
            tally.extra_checkpoints += 1;
            // What little a region gives may take some rounds to become a region.
            idle = if self.free_regions(file) > before { 0 } else { idle + 1 };
            if idle > file.regions().len() {
                return Err(NoRoom);
            }
        }
        self.write_changes(file, batch, tally)?;
        self.empty_regions(file, self.wanted(needed), tally);
        self.checkpoint(file);
        Ok(())
    }
}

/// So many blocks in transfers of so many at most.
fn add_in_transfers(io: &mut Io, blocks: u64, transfer_blocks: u64) {
    io.transfers += blocks.div_ceil(transfer_blocks);
    io.blocks += blocks;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Cost;

    const DEVICE: Device = Device {
        transfer_blocks: 8,
        block_kib: 4,
        cost: Cost { write_us: 8.6, write_kib_us: 0.51, read_us: 11.5, read_kib_us: 0.8 },
    };

    /// Four regions of eight pages, and four free ones; pages as given are changed, and go to the fifth.
    fn file(changed: &[u32]) -> PageFile {
        let mut file = PageFile::new(&[2; 32], 2, 16, 128);
        for (&page, start) in changed.iter().zip((64..).step_by(2)) {
            assert!(file.claim(Extent { start, len: 2 }));
            file.write(page, Extent { start, len: 2 });
        }
        file.checkpoint();
        file
    }

    #[test]
    fn greedy_takes_the_least_living_and_cost_benefit_weighs_age() {
        // One page of the first region is gone, two of the last, whose other pages are younger.
        let mut file = file(&[0, 30, 31]);
        let victim = |file: &PageFile, choice| Evacuate::new(file, DEVICE, choice).victim(file);
        // The fifth region, with three pages, is the emptiest of those in use.
        assert_eq!(victim(&file, Choice::Greedy), Some(4));
        // It has just been written.
        assert_eq!(victim(&file, Choice::CostBenefit), Some(3));
        for (page, start) in [(24, 80), (30, 82), (31, 84)] {
            assert!(file.claim(Extent { start, len: 2 }));
            file.write(page, Extent { start, len: 2 });
        }
        file.checkpoint();
        assert_eq!(victim(&file, Choice::Greedy), Some(4), "one page is left there");
    }

    #[test]
    fn an_emptied_region_is_free_after_the_checkpoint_and_its_pages_stand_elsewhere() {
        let mut file = file(&[0, 1, 2, 3, 4, 5]);
        let mut evacuate = Evacuate::new(&file, DEVICE, Choice::Greedy);
        let mut tally = Tally::default();
        let free = evacuate.free_regions(&file);
        assert_eq!(evacuate.empty_regions(&mut file, free + 1, &mut tally), 1);
        evacuate.checkpoint(&mut file);
        file.check().unwrap();
        assert_eq!(file.regions()[0].live, 0);
        assert!(file.at(6).start >= 64 && file.at(7).start >= 64);
        assert_eq!((tally.moved, tally.written.blocks), (2, 4));
    }

    #[test]
    fn a_region_is_read_in_the_cheaper_way() {
        let read = |changed: &[u32]| {
            let file = file(changed);
            let mut tally = Tally::default();
            Evacuate::new(&file, DEVICE, Choice::Greedy).count_reads(&file, &file.pages_in(0), &mut tally);
            tally.read
        };
        assert_eq!(read(&[]), Io { transfers: 2, blocks: 16 });
        assert_eq!(read(&[1, 3, 5]), Io { transfers: 2, blocks: 16 }, "with what lies between");
        assert_eq!(read(&[1, 2, 3, 4, 5, 6]), Io { transfers: 2, blocks: 4 }, "the two that are left, each by itself");
    }

    #[test]
    fn where_nothing_can_be_won_there_is_no_room() {
        // Everything in use, and as much free as one region: not what a batch takes.
        let mut file = PageFile::new(&[2; 56], 2, 16, 128);
        let batch: Vec<Update> = (0..40).map(|page| Update { page, len: 2 }).collect();
        let mut evacuate = Evacuate::new(&file, DEVICE, Choice::Greedy);
        assert_eq!(evacuate.write_epoch(&mut file, &batch, &mut Tally::default()), Err(NoRoom));
        file.check().unwrap();
    }
}
