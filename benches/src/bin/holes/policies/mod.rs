//! Where the images of a checkpoint go: each policy under the name by which the table knows it.
//!
//! All of them keep the engine's rules: images of a write are packed into one buffer (256 KiB), sorted by page; what stands side by side in
//! the buffer and in the file is one transfer; and an old place is not free before the checkpoint.

mod evacuate;
mod fill;
#[cfg(test)]
mod tests;

use crate::page_file::PageFile;
use crate::tally::{Cost, Io, Tally};
use crate::updates::Update;
use ashlar_benches::Extent;
pub(crate) use evacuate::{Choice, Evacuate};
pub(crate) use fill::{EmptiestFirst, HotApart, RunsFirst, Sweep};

/// There is no room for a batch, whatever is moved and however often a checkpoint is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoRoom;

/// What policies know of the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// Blocks of the largest transfer.
    pub(crate) transfer_blocks: u64,
    pub(crate) block_kib: u64,
    pub(crate) cost: Cost,
}

/// A policy.
pub(crate) trait Policy {
    /// Writes the pages of a checkpoint, and makes that checkpoint.
    fn write_epoch(&mut self, file: &mut PageFile, batch: &[Update], tally: &mut Tally) -> Result<(), NoRoom>;
}

/// Its name, and how it is made for a file that has been loaded.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    make: Box<Make>,
}

type Make = dyn Fn(&PageFile, Device) -> Box<dyn Policy>;

impl Named {
    fn new<P: Policy + 'static>(name: &'static str, make: impl Fn(&PageFile, Device) -> P + 'static) -> Named {
        Named { name, make: Box::new(move |file, device| Box::new(make(file, device))) }
    }

    /// The policy, at its start.
    pub(crate) fn policy(&self, file: &PageFile, device: Device) -> Box<dyn Policy> {
        (self.make)(file, device)
    }
}

/// Those that are compared, the engine's first.
pub(crate) fn all() -> Vec<Named> {
    vec![
        Named::new("fill (engine)", |_, device| Sweep::new(device)),
        Named::new("fill, runs of 2 first", |_, device| RunsFirst::new(device, 2)),
        Named::new("fill, runs of 4 first", |_, device| RunsFirst::new(device, 4)),
        Named::new("fill, units ignored", |_, device| RunsFirst::across_units(device)),
        Named::new("fill, emptiest first", EmptiestFirst::new),
        Named::new("fill, hot apart", HotApart::new),
        Named::new("evacuate, greedy", |file, device| Evacuate::new(file, device, Choice::Greedy)),
        Named::new("evacuate, cost-benefit", |file, device| Evacuate::new(file, device, Choice::CostBenefit)),
    ]
}

/// Images as they are packed into the buffers of one write each: the engine packs while a whole page has room.
pub(crate) fn buffers(batch: &[Update], transfer_blocks: u64, unit: u64) -> Vec<&[Update]> {
    let mut out = Vec::new();
    let (mut from, mut used) = (0, 0);
    for (at, update) in batch.iter().enumerate() {
        if used + unit > transfer_blocks && at > from {
            out.push(&batch[from..at]);
            (from, used) = (at, 0);
        }
        used += update.len;
    }
    if from < batch.len() {
        out.push(&batch[from..]);
    }
    out
}

/// Counts the transfers of one buffer: one for each stretch of adjacent blocks.
pub(crate) fn count_transfers(places: &[Extent], io: &mut Io) {
    for stretch in places.chunk_by(|a, b| a.start + a.len == b.start) {
        io.add(stretch.iter().map(|at| at.len).sum());
    }
}

/// Where images of one buffer go by a policy that fills holes: places that are taken.
pub(crate) trait Fill {
    /// Taken places, one for each length; `None` (and nothing taken) where there is no room before the next checkpoint.
    fn places(&mut self, file: &mut PageFile, lens: &[u64]) -> Option<Vec<Extent>>;

    /// What the device takes.
    fn device(&self) -> Device;

    /// A checkpoint has made places free.
    fn freed(&mut self) {}

    /// Writes pages, with a checkpoint where there is no room else.
    fn write_pages(&mut self, file: &mut PageFile, batch: &[Update], tally: &mut Tally) -> Result<(), NoRoom> {
        for buffer in buffers(batch, self.device().transfer_blocks, file.unit()) {
            let lens: Vec<u64> = buffer.iter().map(|update| update.len).collect();
            let places = match self.places(file, &lens) {
                Some(places) => places,
                None => {
                    file.checkpoint();
                    self.freed();
                    tally.extra_checkpoints += 1;
                    self.places(file, &lens).ok_or(NoRoom)?
                }
            };
            buffer.iter().zip(&places).for_each(|(update, &at)| file.write(update.page, at));
            count_transfers(&places, &mut tally.written);
            tally.updated += buffer.len() as u64;
        }
        Ok(())
    }
}

impl<F: Fill> Policy for F {
    fn write_epoch(&mut self, file: &mut PageFile, batch: &[Update], tally: &mut Tally) -> Result<(), NoRoom> {
        self.write_pages(file, batch, tally)?;
        file.checkpoint();
        self.freed();
        Ok(())
    }
}
