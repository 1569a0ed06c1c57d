//! One measured row: how it is run in this process, and its record.

use crate::cached;
use crate::clock::{STEP, Sample};
use crate::engine::{Access, Durability, Engine, Settings, Spec};
use crate::engines;
use crate::host::{Host, Used};
use crate::memcg;
use crate::stage;
use crate::work::{Set, blob, load, on_data, opens, ycsb};
use crate::workload::{Start, Workload};
use anyhow::{Context, Result, bail, ensure};
use ashlar_workload::data;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whether the data fits in memory.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// All data fits in the cache
    Mem,
    /// The cache is about a tenth of the data, and a memory cgroup holds the process to little more
    Disk,
}

impl Profile {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Mem => "mem",
            Profile::Disk => "disk",
        }
    }
}

/// How the data set of a row that needs one was loaded.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loaded {
    /// In random order
    #[default]
    Rand,
    /// By the engine's bulk load; in sorted order where it has none
    Bulk,
}

/// What a row measures, and how.
#[derive(clap::Args, Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The engine
    #[arg(long, value_name = "NAME")]
    pub engine: String,
    /// What it does
    #[arg(long, value_enum, value_name = "NAME")]
    pub workload: Workload,
    /// Whether the data fits in memory
    #[arg(long, value_enum, default_value = "mem")]
    pub profile: Profile,
    /// Entries of the data set
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..=1 << 40))]
    pub n: u64,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// How long workloads run that have no end of their own, in seconds
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(16..=4000))]
    pub value_size: u64,
    /// Values of 1 MiB of the blob workloads
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub blobs: u64,
    /// How the data set was loaded
    #[arg(long, value_enum, default_value = "rand")]
    pub loaded: Loaded,
    /// The engine's memory in MiB [default: mem: twice the data and 128; disk: a tenth of the data, at least 16]
    #[arg(long, value_name = "MIB")]
    pub cache_mb: Option<u64>,
    /// The process's memory in MiB in the disk profile [default: the cache, a quarter more, and 24]
    #[arg(long, value_name = "MIB")]
    pub limit_mb: Option<u64>,
    /// Seconds after which a load is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    pub load_limit: f64,
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// The longest pause.
    pub max: u64,
    /// Average.
    pub mean: f64,
}

/// The record of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub plan: Plan,
    /// Which of several runs of the same.
    pub repeat: u32,
    /// The engine's version.
    pub version: String,
    /// What its commits promise after an operating system's crash; empty where the row commits nothing.
    pub promise: String,
    /// Whether the database is then consistent.
    pub consistent: bool,
    /// Seconds since 1970.
    pub started: u64,
    /// The machine.
    pub host: Host,
    /// Bytes of the engine's memory.
    pub cache_bytes: u64,
    /// Bytes that the cgroup allowed.
    pub limit_bytes: Option<u64>,
    /// Bytes of the data's files that were in the page cache when it began.
    pub cached_before_bytes: u64,
    /// Operations.
    pub ops: u64,
    /// Entries moved.
    pub entries: u64,
    /// Bytes of keys and values moved.
    pub bytes: u64,
    /// Seconds, making durable included.
    pub elapsed_s: f64,
    /// Whether it did all that it was to do; false for a load that was stopped.
    pub complete: bool,
    /// Of an operation.
    pub latency: Latency,
    /// Milliseconds of a step of `entries_by_step`.
    pub step_ms: u64,
    /// Entries in each step.
    pub entries_by_step: Vec<u64>,
    /// Transactions that began again.
    pub retries: u64,
    /// What the process used while it was measured.
    pub used: Used,
    /// The most that was charged to the cgroup.
    pub charged_peak_bytes: Option<u64>,
    /// Bytes of keys and values of the whole data set.
    pub data_bytes: u64,
    /// Bytes on the device afterwards, while still open.
    pub space_bytes: u64,
    /// What the engine says.
    pub note: Option<String>,
}

impl Plan {
    /// The data set.
    pub fn set(&self) -> Set {
        if self.workload.is_blob() {
            Set { n: self.blobs, value_len: blob::LEN }
        } else {
            Set { n: self.n, value_len: self.value_size as usize }
        }
    }

    /// Bytes of memory for the engine.
    pub fn cache_bytes(&self) -> u64 {
        // By the small values, so that blobs get what the rest gets.
        let data = self.n * (data::KEY_LEN as u64 + self.value_size);
        let blobs = if self.workload.is_blob() { self.blobs << 20 } else { 0 };
        match (self.cache_mb, self.profile) {
            (Some(mib), _) => mib << 20,
            (None, Profile::Mem) => (2 * data + blobs + (128 << 20)).next_power_of_two(),
            (None, Profile::Disk) => (data / 10).max(16 << 20),
        }
    }

    /// Bytes that the process may use.
    pub fn limit_bytes(&self) -> Option<u64> {
        match self.profile {
            Profile::Mem => None,
            Profile::Disk => Some(self.limit_mb.map_or(self.cache_bytes() * 5 / 4 + (24 << 20), |mib| mib << 20)),
        }
    }

    /// How the engine is opened, in `dir`.
    pub fn settings(&self, dir: &Path) -> Settings {
        Settings {
            dir: dir.to_owned(),
            cache_bytes: self.cache_bytes(),
            threads: self.threads as usize,
            durability: self.workload.durability(),
            blobs: self.workload.is_blob(),
            transactions: self.workload.transactions(),
            larger_than_memory: self.profile == Profile::Disk,
            access: self.workload.access(),
            keep: self.workload == Workload::Reopen,
        }
    }

    /// How long it runs.
    pub fn time(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.seconds).context("--seconds")
    }

    fn load_limit(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.load_limit).context("--load-limit")
    }
}

/// The plan's engine.
///
/// # Errors
/// There is none of that name, or it has no such row.
pub fn check_engine(plan: &Plan) -> Result<&'static Spec> {
    let spec = engines::find(&plan.engine)?;
    match plan.workload.lacks(spec) {
        None => Ok(spec),
        Some(why) => bail!("{} has no row {}: {why}", spec.name, plan.workload.name()),
    }
}

/// Measures a row in this process. `dir` holds the loaded data set where the row needs one, else nothing.
///
/// # Errors
/// Those of the engine, wrong data, and what is not as it should be around them.
pub fn measure(plan: &Plan, repeat: u32, dir: &Path) -> Result<Row> {
    let spec = check_engine(plan)?;
    stage::check_start(plan, dir)?;
    cached::drop_files(dir)?;
    let cached_before_bytes = cached::cached_bytes(dir)?;
    let group = plan.limit_bytes().map(memcg::enter).transpose()?;
    if group.is_some() {
        let data = cached::space_bytes(dir)?;
        ensure!(cached_before_bytes <= data / 20, "the page cache still holds {cached_before_bytes} bytes of the data's {data}");
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let host = Host::now();
    let (measured, engine, used) = run(plan, spec, dir)?;
    let (sample, retries) = measured;
    let promise = spec.promise(plan.workload.durability());
    let quantile = |q: f64| sample.latency.value_at_quantile(q);
    let row = Row {
        plan: plan.clone(),
        repeat,
        version: spec.version(),
        promise: if plan.workload.writes() { promise.words.to_owned() } else { String::new() },
        consistent: promise.consistent || !plan.workload.writes(),
        started,
        host,
        cache_bytes: plan.cache_bytes(),
        limit_bytes: plan.limit_bytes(),
        cached_before_bytes,
        ops: sample.ops,
        entries: sample.moved.entries,
        bytes: sample.moved.bytes,
        elapsed_s: sample.elapsed.as_secs_f64(),
        complete: sample.complete || !plan.workload.is_load(),
        latency: Latency {
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: sample.latency.max(),
            mean: sample.latency.mean(),
        },
        step_ms: STEP.as_millis() as u64,
        entries_by_step: if plan.workload.writes() { sample.steps } else { Vec::new() },
        retries,
        used,
        charged_peak_bytes: group.as_ref().and_then(|group| group.peak_bytes()),
        data_bytes: plan.set().bytes(),
        space_bytes: cached::space_bytes(dir)?,
        note: engine.note(),
    };
    engine.close()?;
    Ok(row)
}

type Measured = ((Sample, u64), Box<dyn Engine>, Used);

fn run(plan: &Plan, spec: &Spec, dir: &Path) -> Result<Measured> {
    let (settings, set, threads) = (plan.settings(dir), plan.set(), plan.threads as usize);
    if plan.workload.is_open() {
        let before = Used::so_far()?;
        let (sample, engine) = match plan.workload {
            Workload::Recover => opens::recover(spec, &settings, set, victim(plan, dir)?, plan.time()?)?,
            _ => opens::reopen(spec, &settings, set)?,
        };
        return Ok(((sample, 0), engine, Used::so_far()?.since(&before)));
    }
    settings.touch_memory()?;
    let engine = (spec.open)(&settings)?;
    if plan.workload == Workload::BlobGet {
        blob::put(&*engine, set, 1, plan.load_limit()?)?;
        engine.settle()?;
    }
    if needs_data(plan) || plan.workload == Workload::BlobGet {
        warm(plan, &*engine)?;
    }
    let before = Used::so_far()?;
    let measured = match plan.workload {
        Workload::LoadSeq | Workload::LoadRand | Workload::BulkLoad => {
            (load::run(&*engine, plan.workload, set, threads, plan.load_limit()?)?, 0)
        }
        Workload::BlobPut => (blob::put(&*engine, set, threads, plan.load_limit()?)?, 0),
        Workload::BlobGet => (blob::get(&*engine, set, threads, plan.time()?)?, 0),
        mix if ycsb::is_one(mix) => ycsb::run(&*engine, mix, set, threads, plan.time()?)?,
        other => on_data::run(&*engine, other, set, threads, plan.time()?)?,
    };
    Ok((measured, engine, Used::so_far()?.since(&before)))
}

/// Brings the caches to what they are when such a row has run for a while: in memory everything is read once in order; then point reads
/// of the row's kind for a fifth of its time.
fn warm(plan: &Plan, engine: &dyn Engine) -> Result<()> {
    let (set, threads) = (plan.set(), plan.threads as usize);
    if plan.profile == Profile::Mem {
        on_data::OnData::new(engine, set, 0)?.scan(0, set.n)?;
    }
    let is_skewed = plan.workload == Workload::GetZipf || ycsb::is_one(plan.workload);
    let reads = if is_skewed { Workload::GetZipf } else { Workload::GetRand };
    on_data::run(engine, reads, set, threads, plan.time()? / 5).map(drop)
}

/// The process that is killed: this program, as [`be_killed`].
fn victim(plan: &Plan, dir: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("victim").arg("--dir").arg(dir).args(crate::driver::arguments(plan));
    Ok(command)
}

/// Updates the data until it is killed. It says when it has begun.
///
/// # Errors
/// Those of the engine, and wrong data.
pub fn be_killed(plan: &Plan, dir: &Path) -> Result<()> {
    let engine = (engines::find(&plan.engine)?.open)(&plan.settings(dir))?;
    println!("{}", opens::STARTED);
    // Longer than anybody waits; who started this one is gone then, too.
    let time = plan.time()? * 2 + Duration::from_secs(60);
    on_data::run(&*engine, Workload::UpdateRand, plan.set(), plan.threads as usize, time).map(drop)
}

/// Loads the data set for other rows, into the empty directory `dir`: with the row's memory, but no limit of the whole process's.
///
/// # Errors
/// Those of the engine.
pub fn load(plan: &Plan, dir: &Path) -> Result<()> {
    let spec = engines::find(&plan.engine)?;
    let set = Set { n: plan.n, value_len: plan.value_size as usize };
    let workload = match plan.loaded {
        Loaded::Rand => Workload::LoadRand,
        Loaded::Bulk if spec.bulk.is_some() => Workload::BulkLoad,
        Loaded::Bulk => Workload::LoadSeq,
    };
    let settings =
        Settings { durability: Durability::AtEnd, keep: true, transactions: false, access: Access::Random, ..plan.settings(dir) };
    let engine = (spec.open)(&settings)?;
    let sample = load::run(&*engine, workload, set, 1, Duration::MAX)?;
    ensure!(sample.moved.entries == set.n, "{} of {} entries were loaded", sample.moved.entries, set.n);
    engine.settle()?;
    engine.close()
}

/// Reads a record.
///
/// # Errors
/// It can't be read, or is none.
pub fn read(path: &Path) -> Result<Row> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no record of a row", path.display()))
}

/// Writes a record, or whatever else is to be there whole or not at all.
///
/// # Errors
/// It can't be written.
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    let mut unfinished: PathBuf = path.to_owned();
    unfinished.set_extension("tmp");
    std::fs::write(&unfinished, text).with_context(|| format!("writing {}", unfinished.display()))?;
    std::fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))
}

/// Whether a row needs a loaded data set.
pub fn needs_data(plan: &Plan) -> bool {
    plan.workload.start() != Start::Empty
}
