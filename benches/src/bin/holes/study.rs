//! One run: a file is loaded, changed until it looks the same turn after turn, and then measured.
//!
//! A *turn* is as many changed pages as there are pages.

use crate::measure::{FreeRuns, Locality, is_steady};
use crate::page_file::PageFile;
use crate::policies::{Device, Named, NoRoom, Policy};
use crate::tally::Tally;
use crate::updates::{Lens, Skew, Updates};
use serde::Serialize;

/// What is the same in all runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) pages: u32,
    pub(crate) lens: Lens,
    pub(crate) device: Device,
    pub(crate) region_blocks: u64,
    pub(crate) turns_max: usize,
    pub(crate) turns_measured: usize,
    pub(crate) tolerance: f64,
    pub(crate) seed: u64,
}

/// What differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) skew: Skew,
    /// Share of the file in use, in percent.
    pub(crate) used: f64,
    /// Pages of a batch.
    pub(crate) batch: usize,
}

/// What a run has found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) updates: &'static str,
    pub(crate) used_percent: f64,
    pub(crate) batch: usize,
    pub(crate) policy: &'static str,
    /// `None`: there was no room for a batch.
    pub(crate) found: Option<Found>,
}

/// Figures of the measured turns.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) tally: Tally,
    /// Turns before measuring; whether the file was steady then, and how much its free runs changed while it was measured.
    pub(crate) turns: usize,
    pub(crate) steady: bool,
    pub(crate) drift: f64,
    pub(crate) free_runs: FreeRuns,
    pub(crate) scan: Locality,
    /// Writes for each page changed.
    pub(crate) transfers_a_page: f64,
    /// KiB of a write.
    pub(crate) kib_a_transfer: f64,
    /// Pages written for each page changed: that one, and those that were moved.
    pub(crate) written_a_page: f64,
    /// KiB read for each page changed.
    pub(crate) read_kib_a_page: f64,
    /// The device's time for each page changed, in microseconds: writes, and reads.
    pub(crate) write_us: f64,
    pub(crate) read_us: f64,
}

/// Runs one policy.
pub(crate) fn run(setup: &Setup, case: Case, named: &Named) -> Outcome {
    let mut updates = Updates::new(setup.pages, case.skew, setup.lens, setup.seed);
    let lens = updates.first_lens();
    let total = (lens.iter().sum::<u64>() as f64 * 100.0 / case.used.clamp(1.0, 100.0)) as u64;
    let mut run = Run {
        setup,
        batch: case.batch,
        file: PageFile::new(&lens, setup.lens.unit, setup.region_blocks, total),
        updates,
        tally: Tally::default(),
    };
    let mut policy = named.policy(&run.file, setup.device);
    Outcome {
        updates: case.skew.name(),
        used_percent: case.used,
        batch: case.batch,
        policy: named.name,
        found: run.whole(&mut *policy).ok(),
    }
}

struct Run<'a> {
    setup: &'a Setup,
    batch: usize,
    file: PageFile,
    updates: Updates,
    tally: Tally,
}

impl Run<'_> {
    fn whole(&mut self, policy: &mut dyn Policy) -> Result<Found, NoRoom> {
        let mut history = Vec::new();
        while history.len() < self.setup.turns_max && !is_steady(&history, self.setup.tolerance) {
            self.turn(policy)?;
            history.push(FreeRuns::of(&self.file));
        }
        let before = self.tally;
        for _ in 0..self.setup.turns_measured {
            self.turn(policy)?;
        }
        self.file.check().expect("no page is lost");
        Ok(self.found(&history, self.tally.since(&before)))
    }

    fn turn(&mut self, policy: &mut dyn Policy) -> Result<(), NoRoom> {
        let end = self.tally.updated + u64::from(self.setup.pages);
        while self.tally.updated < end {
            let batch = self.updates.batch(self.batch);
            policy.write_epoch(&mut self.file, &batch, &mut self.tally)?;
        }
        Ok(())
    }

    fn found(&self, history: &[FreeRuns], tally: Tally) -> Found {
        let Device { transfer_blocks, block_kib, cost } = self.setup.device;
        let (updated, free_runs) = (tally.updated as f64, FreeRuns::of(&self.file));
        Found {
            tally,
            turns: history.len(),
            steady: is_steady(history, self.setup.tolerance),
            drift: history.last().map_or(1.0, |before| before.distance(&free_runs)),
            free_runs,
            scan: Locality::of(&self.file, block_kib, transfer_blocks),
            transfers_a_page: tally.written.transfers as f64 / updated,
            kib_a_transfer: (tally.written.blocks * block_kib) as f64 / tally.written.transfers as f64,
            written_a_page: (tally.updated + tally.moved) as f64 / updated,
            read_kib_a_page: (tally.read.blocks * block_kib) as f64 / updated,
            write_us: cost.of_writes(tally.written, block_kib) / updated,
            read_us: cost.of_reads(tally.read, block_kib) / updated,
        }
    }
}
