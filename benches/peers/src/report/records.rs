//! The records in a directory, by row and engine.

use super::figure;
use crate::driver::Failure;
use crate::engines::OURS;
use crate::fio::Device;
use crate::row::{Loaded, Plan, Profile, Row};
use crate::workload::Workload;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// What is the same for all engines of a row: profile, workload, how the data was loaded, threads.
pub type Place = (Profile, Workload, Loaded, u32);

/// Several runs of one engine in one row.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Those that gave something, by repeat.
    pub rows: BTreeMap<u32, Row>,
    /// Why the others failed.
    pub failed: Vec<String>,
}

/// All there is.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// By row and engine.
    pub runs: BTreeMap<Place, BTreeMap<String, Runs>>,
    /// What the device gave, by row and repeat: before and after.
    pub devices: BTreeMap<Place, BTreeMap<u32, Vec<Device>>>,
}

fn place(plan: &Plan) -> Place {
    (plan.profile, plan.workload, plan.loaded, plan.threads)
}

impl Records {
    /// Reads a directory.
    ///
    /// # Errors
    /// There is nothing in it, or a file that is no record.
    pub fn read(dir: &Path) -> Result<Records> {
        let mut records = Records::default();
        let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                let bulk = path.file_name().is_some_and(|name| name.to_string_lossy().contains("-bulk-t"));
                records.add(&text, bulk).with_context(|| path.display().to_string())?;
            }
        }
        ensure!(!records.runs.is_empty(), "there are no records in {}", dir.display());
        Ok(records)
    }

    /// Adds one record; `bulk`: its row is on bulk-loaded data.
    fn add(&mut self, text: &[u8], bulk: bool) -> Result<()> {
        if let Ok(row) = serde_json::from_slice::<Row>(text) {
            self.add_row(row);
        } else if let Ok(failure) = serde_json::from_slice::<Failure>(text) {
            let runs = self.runs.entry(place(&failure.plan)).or_default().entry(failure.plan.engine).or_default();
            runs.failed.push(failure.failed);
        } else if let Ok(device) = serde_json::from_slice::<Device>(text) {
            let loaded = if bulk { Loaded::Bulk } else { Loaded::Rand };
            let place = (device.profile, device.workload, loaded, device.threads);
            self.devices.entry(place).or_default().entry(device.repeat).or_default().push(device);
        } else {
            bail!("is no record");
        }
        Ok(())
    }

    /// Adds a row.
    pub fn add_row(&mut self, row: Row) {
        let runs = self.runs.entry(place(&row.plan)).or_default().entry(row.plan.engine.clone()).or_default();
        runs.rows.insert(row.repeat, row);
    }

    /// The engines that occur: ours first.
    pub fn engines(&self) -> Vec<String> {
        let mut engines: Vec<String> = self.runs.values().flat_map(|by_engine| by_engine.keys().cloned()).collect();
        engines.sort_by_key(|name| (name != OURS, name.clone()));
        engines.dedup();
        engines
    }
}

impl Runs {
    /// The figures of all runs.
    pub fn figures(&self) -> Vec<f64> {
        self.rows.values().map(|row| figure(row).0).collect()
    }

    /// The run whose figure is the median.
    pub fn median_row(&self) -> Option<&Row> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_by(|a, b| figure(a).0.total_cmp(&figure(b).0));
        rows.get(rows.len().checked_sub(1)? / 2).copied()
    }

    /// Whether the database is consistent after a crash.
    pub fn consistent(&self) -> bool {
        self.rows.values().all(|row| row.consistent)
    }

    /// Whether all runs did what they were to do.
    pub fn complete(&self) -> bool {
        self.rows.values().all(|row| row.complete)
    }
}
