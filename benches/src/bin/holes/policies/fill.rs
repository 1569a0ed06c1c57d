//! Filling holes: nothing is moved, an image goes to a place that is free.
//!
//! - [`Sweep`] is the engine's: `Space::allocate_batch`, from low to high;
//! - [`RunsFirst`] leaves short holes until there are no long ones: so they get time to become longer; or takes any, and cares for no
//!   units: then nothing can be promised to who makes pages dirty;
//! - [`EmptiestFirst`] goes to the region of which most is free, fills it, and goes to the next;
//! - [`HotApart`] does that with pages that were changed a short while ago, and with all others what the engine does: so what is free again
//!   soon stands together.

use super::{Device, Fill, NoRoom, Policy};
use crate::page_file::PageFile;
use crate::tally::Tally;
use crate::updates::Update;
use ashlar_benches::Extent;

/// The engine's own.
pub(crate) struct Sweep {
    device: Device,
}

impl Sweep {
    pub(crate) fn new(device: Device) -> Sweep {
        Sweep { device }
    }
}

impl Fill for Sweep {
    fn places(&mut self, file: &mut PageFile, lens: &[u64]) -> Option<Vec<Extent>> {
        file.allocate_batch(lens)
    }

    fn device(&self) -> Device {
        self.device
    }
}

/// A sweep that stops only at runs of some length. One that finds none is followed by one that takes half as long ones.
pub(crate) struct RunsFirst {
    device: Device,
    /// Whether an image may lie across two units.
    across_units: bool,
    /// Units of a run that is wanted.
    wanted: u64,
    /// Units of a run that this sweep takes.
    least: u64,
    /// Where it goes on.
    next: u64,
    /// Whether the sweep has placed anything.
    found: bool,
    /// The run that is being filled ends here.
    run_end: u64,
}

impl RunsFirst {
    pub(crate) fn new(device: Device, wanted: u64) -> RunsFirst {
        RunsFirst { device, across_units: false, wanted, least: wanted, next: 0, found: false, run_end: 0 }
    }

    /// Takes any hole that is long enough for the image.
    pub(crate) fn across_units(device: Device) -> RunsFirst {
        RunsFirst { across_units: true, ..RunsFirst::new(device, 1) }
    }

    fn place(&mut self, file: &mut PageFile, len: u64) -> Option<Extent> {
        loop {
            while self.next + len <= self.run_end {
                let at = Extent { start: self.next, len };
                if (self.across_units || file.fits(at.start, len)) && file.claim(at) {
                    self.next += len;
                    self.found = true;
                    return Some(at);
                }
                self.next += 1;
            }
            self.next_run(file)?;
        }
    }

    /// Goes to the next run that is long enough. `None`: a sweep that took all found nothing.
    fn next_run(&mut self, file: &PageFile) -> Option<()> {
        // The last sweep takes single blocks as well, for short images.
        let blocks = |least| if least == 1 { 1 } else { least * file.unit() };
        // What is left of the run before is too short.
        let mut block = self.next.max(self.run_end);
        loop {
            if block >= file.total() {
                self.start_over()?;
                (block, self.next, self.run_end) = (0, 0, 0);
            }
            let region = &file.regions()[(block / file.region_blocks()) as usize];
            if block.is_multiple_of(file.region_blocks()) && region.free == 0 {
                block += file.region_blocks();
                continue;
            }
            // Regions are counted apart, so no image lies across two.
            let stop = if self.across_units { (block + 1).next_multiple_of(file.region_blocks()) } else { file.total() };
            let end = (block..stop).find(|&end| !file.is_free(Extent { start: end, len: 1 })).unwrap_or(stop);
            if end - block >= blocks(self.least) {
                (self.next, self.run_end) = (block, end);
                return Some(());
            }
            block = end.max(block + 1);
        }
    }

    fn start_over(&mut self) -> Option<()> {
        if !self.found && self.least == 1 {
            return None;
        }
        self.least = if self.found { self.wanted } else { self.least / 2 };
        self.found = false;
        Some(())
    }
}

impl Fill for RunsFirst {
    fn places(&mut self, file: &mut PageFile, lens: &[u64]) -> Option<Vec<Extent>> {
        place_all(file, lens, |file, len| self.place(file, len))
    }

    fn device(&self) -> Device {
        self.device
    }

    fn freed(&mut self) {
        self.found |= self.least == 1;
    }
}

/// Fills the emptiest region, then the next.
pub(crate) struct EmptiestFirst {
    device: Device,
    /// Where it goes on, in the region of this block; behind the file's end at the start.
    next: u64,
    /// By region: it was left with so many blocks free, because none of them was right.
    left_with: Vec<u64>,
}

impl EmptiestFirst {
    pub(crate) fn new(file: &PageFile, device: Device) -> EmptiestFirst {
        EmptiestFirst { device, next: file.total(), left_with: vec![u64::MAX; file.regions().len()] }
    }

    fn place(&mut self, file: &mut PageFile, len: u64) -> Option<Extent> {
        loop {
            let region = (self.next / file.region_blocks()) as usize;
            if region < file.regions().len() && self.left_with[region] == u64::MAX {
                let end = (region as u64 + 1) * file.region_blocks();
                if let Some(start) = (self.next..end).find(|&start| file.fits(start, len)) {
                    let at = Extent { start, len };
                    // The last block of a region stays its own.
                    self.next = (start + len).min(end - 1);
                    return file.claim(at).then_some(at);
                }
                self.left_with[region] = file.regions()[region].free;
            }
            self.next = self.emptiest(file)? as u64 * file.region_blocks();
        }
    }

    /// The region with most free blocks of those where some may be right.
    fn emptiest(&mut self, file: &PageFile) -> Option<usize> {
        let open = file.regions().iter().enumerate().filter(|&(at, region)| region.free > 0 && self.left_with[at] != region.free);
        let (at, _) = open.max_by_key(|(_, region)| region.free)?;
        self.left_with[at] = u64::MAX;
        Some(at)
    }
}

impl Fill for EmptiestFirst {
    fn places(&mut self, file: &mut PageFile, lens: &[u64]) -> Option<Vec<Extent>> {
        place_all(file, lens, |file, len| self.place(file, len))
    }

    fn device(&self) -> Device {
        self.device
    }
}

/// What changes often goes to the emptiest regions, the rest from low to high.
pub(crate) struct HotApart {
    hot: EmptiestFirst,
    cold: Sweep,
}

/// Hot is what was changed among the last so many batches of changes.
const HOT_BATCHES: u64 = 2;

impl HotApart {
    pub(crate) fn new(file: &PageFile, device: Device) -> HotApart {
        HotApart { hot: EmptiestFirst::new(file, device), cold: Sweep::new(device) }
    }
}

impl Policy for HotApart {
    fn write_epoch(&mut self, file: &mut PageFile, batch: &[Update], tally: &mut Tally) -> Result<(), NoRoom> {
        let since = file.clock().saturating_sub(HOT_BATCHES * batch.len() as u64);
        let (hot, cold): (Vec<Update>, Vec<Update>) = batch.iter().partition(|update| file.changed(update.page) > since);
        self.hot.write_pages(file, &hot, tally)?;
        self.cold.write_pages(file, &cold, tally)?;
        file.checkpoint();
        Ok(())
    }
}

/// One place after the other. What was taken before there was none is given back: nothing is there yet.
fn place_all(
    file: &mut PageFile,
    lens: &[u64],
    mut place: impl FnMut(&mut PageFile, u64) -> Option<Extent>,
) -> Option<Vec<Extent>> {
    let mut places = Vec::with_capacity(lens.len());
    for &len in lens {
        match place(file, len) {
            Some(at) => places.push(at),
            None => {
                places.into_iter().for_each(|at| file.give_back(at));
                return None;
            }
        }
    }
    Some(places)
}
