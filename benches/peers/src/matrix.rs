//! Which rows are measured, and what their records are called.

use crate::engines;
use crate::row::{Loaded, Plan, Profile};
use crate::workload::Workload;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Choice {
    /// Where data sets, records and the report go: on the file system that is to be measured
    #[arg(long, value_name = "DIR", default_value = "peers-data")]
    pub dir: PathBuf,
    /// Only these engines [default: all that were built in]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub engines: Vec<String>,
    /// Entries of the data set [default: mem 2,000,000; disk 10,000,000; quick 200,000]
    #[arg(long, value_name = "N")]
    pub n: Option<u64>,
    /// Seconds of workloads that have no end of their own [default: 5; disk 15; quick 0.7]
    #[arg(long)]
    pub seconds: Option<f64>,
    /// How often each row is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Only with these numbers of threads, instead of those of the matrix
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub threads: Vec<u32>,
    /// The engine's memory in MiB [default: mem: twice the data and 128; disk: a tenth of the data]
    #[arg(long, value_name = "MIB")]
    pub cache_mb: Option<u64>,
    /// The process's memory in MiB in the disk profile [default: the cache, a quarter more, and 24]
    #[arg(long, value_name = "MIB")]
    pub limit_mb: Option<u64>,
    /// Values of 1 MiB of the blob workloads [default: 256; quick 64]
    #[arg(long, value_name = "N")]
    pub blobs: Option<u64>,
    /// Seconds after which a load that is measured is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    pub load_limit: f64,
    /// Leave out fio
    #[arg(long)]
    pub no_fio: bool,
    /// Measure rows again that failed
    #[arg(long)]
    pub retry_failed: bool,
}

/// A row of the matrix: the same for all engines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// What it does.
    pub workload: Workload,
    /// In so many threads.
    pub threads: u32,
    /// On data that was loaded so.
    pub loaded: Loaded,
}

fn spots(workload: Workload, threads: &[u32]) -> impl Iterator<Item = Spot> {
    threads.iter().map(move |&threads| Spot { workload, threads, loaded: Loaded::Rand })
}

/// The rows of a profile, with as many threads as tell something on `cores` processors.
pub fn rows(profile: Profile, workloads: &[Workload], cores: u32, chosen: &[u32]) -> Vec<Spot> {
    let some = cores.clamp(2, 8);
    let mut rows = Vec::new();
    for &workload in workloads {
        let threads: Vec<u32> = match (chosen, profile, workload) {
            (_, _, Workload::Reopen | Workload::Recover | Workload::BulkLoad | Workload::GetMany) => vec![1],
            ([_, ..], _, _) => chosen.to_vec(),
            (_, _, Workload::PutSync) => vec![1, 8, 16],
            (_, Profile::Mem, workload) if workload.is_load() => vec![1],
            (_, Profile::Mem, Workload::ScanFull | Workload::Scan100 | Workload::BlobGet | Workload::PutAsync) => vec![1],
            (_, Profile::Mem, _) => vec![1, some],
            (_, Profile::Disk, Workload::GetRand | Workload::UpdateRand | Workload::Scan100) => vec![1, 8],
            (_, Profile::Disk, Workload::GetZipf) => vec![8],
            (_, Profile::Disk, workload) if workload.name().starts_with("ycsb") => vec![8],
            (_, Profile::Disk, _) => vec![1],
        };
        rows.extend(spots(workload, &threads));
        if workload == Workload::ScanFull {
            rows.extend(spots(workload, &threads).map(|spot| Spot { loaded: Loaded::Bulk, ..spot }));
        }
    }
    rows
}

/// The rows of the quick table.
pub fn quick_rows() -> Vec<Spot> {
    let mut rows = Vec::new();
    for workload in Workload::ALL {
        let threads: &[u32] = match workload {
            Workload::GetRand => &[1, 2],
            Workload::PutSync => &[1, 8],
            _ => &[1],
        };
        rows.extend(spots(workload, threads));
    }
    rows
}

impl Choice {
    /// The plan of a row for an engine.
    pub fn plan(&self, engine: &str, profile: Profile, spot: Spot, is_quick: bool) -> Plan {
        let by_profile = |quick, mem, disk| match profile {
            _ if is_quick => quick,
            Profile::Mem => mem,
            Profile::Disk => disk,
        };
        Plan {
            engine: engine.to_owned(),
            workload: spot.workload,
            profile,
            n: self.n.unwrap_or(by_profile(200_000, 2_000_000, 10_000_000)),
            threads: spot.threads,
            seconds: self.seconds.unwrap_or(by_profile(7, 50, 150) as f64 / 10.0),
            value_size: 100,
            blobs: self.blobs.unwrap_or(by_profile(64, 256, 256)),
            loaded: spot.loaded,
            cache_mb: self.cache_mb,
            limit_mb: self.limit_mb,
            load_limit: self.load_limit,
        }
    }

    /// The engines, in order.
    ///
    /// # Errors
    /// One is not known.
    pub fn engines(&self) -> Result<Vec<&'static str>> {
        if self.engines.is_empty() {
            return Ok(engines::all().iter().map(|spec| spec.name).collect());
        }
        self.engines.iter().map(|name| engines::find(name).map(|spec| spec.name)).collect()
    }
}

/// What is the same for all engines of a row, as a name.
pub fn spot_name(profile: Profile, spot: Spot) -> String {
    let loaded = if spot.loaded == Loaded::Bulk { "-bulk" } else { "" };
    format!("{}-{}{loaded}-t{}", profile.name(), spot.workload.name(), spot.threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_rows() {
        for profile in [Profile::Mem, Profile::Disk] {
            let rows = rows(profile, &Workload::ALL, 2, &[]);
            assert!(Workload::ALL.iter().all(|workload| rows.iter().any(|spot| spot.workload == *workload)));
            let mut names: Vec<_> = rows.iter().map(|spot| spot_name(profile, *spot)).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), rows.len());
        }
        assert!(Workload::ALL.iter().all(|workload| quick_rows().iter().any(|spot| spot.workload == *workload)));
    }

    #[test]
    fn chosen_threads_are_taken_where_they_mean_something() {
        let rows = rows(Profile::Mem, &[Workload::GetRand, Workload::Reopen], 2, &[3, 5]);
        let threads: Vec<_> = rows.iter().map(|spot| spot.threads).collect();
        assert_eq!(threads, [3, 5, 1]);
    }
}
