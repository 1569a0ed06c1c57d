//! `ashlar bench`: workloads on a database of its own, every read checked.
//!
//! ```text
//!   place    the database: made, kept or removed; what is in it ──┐
//!   data     keys and values from numbers, and checking them ─────┤
//!   zipf     skewed choices ──────────────────────────────────────┼─> workloads ──> run (threads, clock, latencies) ──> report
//!   on_data  what a thread does on the data set ──────────────────┤
//!   ycsb     mixes of reads and changes; grown: what they add ────┤
//!   pause    small commits beside large ones ─────────────────────┘
//! ```
//!
//! 1. The data set is a function of its size: no two runs differ in it, and any value can be checked without a copy.
//! 2. A read that gives anything else than was written ends the run, with exit status 1.

mod data;
mod grown;
mod on_data;
mod pause;
mod place;
mod report;
mod run;
mod workloads;
mod ycsb;
mod zipf;

use crate::cli::OpenArgs;
use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use clap::ValueEnum;
use place::Place;
use std::path::PathBuf;

const AFTER: &str = "Workloads:
  load-bulk             one bulk load of N sorted entries, one thread
  load-seq, load-rand   insert N entries in sorted or random order, in transactions of 1000, durable at the end
  get-rand, get-zipf    point reads of random keys, evenly or skewed (zipf 0.99)
  get-rand-writers      the same, evenly, while one thread more commits single keys
  get-many              point reads in batches of 64
  scan-full, scan-100   everything in order; 100 entries from a random start
  put-sync              one durable single-key commit at a time; threads share flushes of the log
  put-async             single-key commits, durable within 100 ms
  update-rand           read a random key, write it changed: a serializable transaction, begun again
                        where another commit came between
  ycsb-a, ycsb-b        zipf: 50 % or 95 % reads, the rest updates
  ycsb-c                zipf: reads
  ycsb-d                95 % reads, mostly of what is newest; 5 % inserts
  ycsb-e                95 % scans of 1 to 100 entries from a zipf start; 5 % inserts
  ycsb-f                zipf: 50 % reads, 50 % read-modify-writes, each a serializable transaction
  pause                 single-key commits while another thread commits large transactions: how long
                        the small ones wait, and what the large ones spend their time with
  blob                  put 256 values of 1 MiB, then get them in random order

Examples:
  ashlar bench --workload load-rand,get-rand,scan-full
  ashlar bench --dir /mnt/nvme -w all --n 20000000 --cache-mb 256 --threads 8 --keep
  ashlar bench --workload put-sync --threads 16 --seconds 30 --json
  ashlar bench --workload pause --pause-writes 1000000

Keys have 16 bytes. MB/s counts keys and values (10^6 bytes). A latency is that of one operation:
a transaction, a read, a scan; it includes checking what was read. Read workloads load the data set
first, unmeasured, if it is not there. The database is DIR/ashlar-bench: removed afterwards unless
--keep; one that is there is used again.

Exit status 1: a read gave something else than was written.";

/// Measure workloads on a database made for it
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The directory in which the database ashlar-bench is made
    #[arg(long, value_name = "PATH", default_value = ".")]
    dir: PathBuf,
    /// What to run, one after the other; "all" for everything
    #[arg(short, long, value_name = "NAME", required = true, value_delimiter = ',', ignore_case = true)]
    workload: Vec<Choice>,
    /// Entries of the data set
    #[arg(short, long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    n: u64,
    /// Threads
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// How long each workload that has no end of its own runs, in seconds
    #[arg(short, long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Bytes of a value, from 16 on
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(16..=1 << 30))]
    value_size: u64,
    /// Values of blob
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    blobs: u64,
    /// Bytes of a value of blob, from 16 on
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(16..=1 << 30))]
    blob_size: u64,
    /// Bytes of a page: 4096, 8192, 16384, 32768 or 65536 [default: 8192]
    #[arg(long, value_name = "BYTES", value_parser = crate::cli::page_size)]
    page_size: Option<usize>,
    /// Entries of a transaction of load-*, reads of a batch of get-many [default: 1000 and 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: Option<u32>,
    /// Writes of each large transaction of pause, at most N; the limits of log and memory are raised where it needs that
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pause_writes: u64,
    /// Durability of commits of load-*, get-rand-writers, update-rand, ycsb-* and blob [default: eventual, durable at the end]
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// Leave the database in place
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    open: OpenArgs,
}

/// What `--durability` can say.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum DurabilityArg {
    /// Each commit survives power loss when it returns
    Immediate,
    /// Durable within 100 ms, and at the end
    Eventual,
}

/// What `--workload` can say.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    LoadBulk,
    LoadSeq,
    LoadRand,
    GetRand,
    GetZipf,
    GetRandWriters,
    GetMany,
    ScanFull,
    #[value(name = "scan-100")]
    Scan100,
    PutSync,
    PutAsync,
    UpdateRand,
    YcsbA,
    YcsbB,
    YcsbC,
    YcsbD,
    YcsbE,
    YcsbF,
    Pause,
    Blob,
    All,
}

impl Choice {
    const EACH: [Choice; 20] = [
        Choice::LoadBulk,
        Choice::LoadSeq,
        Choice::LoadRand,
        Choice::GetRand,
        Choice::GetZipf,
        Choice::GetRandWriters,
        Choice::GetMany,
        Choice::ScanFull,
        Choice::Scan100,
        Choice::PutSync,
        Choice::PutAsync,
        Choice::UpdateRand,
        Choice::YcsbA,
        Choice::YcsbB,
        Choice::YcsbC,
        Choice::YcsbD,
        Choice::YcsbE,
        Choice::YcsbF,
        Choice::Pause,
        Choice::Blob,
    ];

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Args {
    /// What to run, in order.
    fn chosen(&self) -> Vec<Choice> {
        if self.workload.contains(&Choice::All) { Choice::EACH.to_vec() } else { self.workload.clone() }
    }

    fn runs(&self, choice: Choice) -> bool {
        self.chosen().contains(&choice)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 1e6 => Ok(s),
        _ => Err("it must be a number above 0".into()),
    }
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let mut place = Place::find(args)?;
    let outcome = report::heading(out).and_then(|()| {
        args.chosen().iter().try_for_each(|choice| {
            let measured = workloads::run(*choice, args, &mut place, out)?;
            measured.iter().try_for_each(|m| report::show(m, out))?;
            out.flush()
        })
    });
    // Also after an error: what was made for this run goes, unless it is to stay.
    let left = place.leave(args.keep);
    outcome.and(left.map(|()| Outcome::Done))
}

/// Data that is not as it was written.
fn wrong(what: String) -> Error {
    Error::Wrong(format!("the database has returned wrong data: {what}; keep it and report this"))
}
