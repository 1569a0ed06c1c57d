//! `ashlar bench`: workloads on a database of its own, every read checked.
//!
//! ```text
//!   place    the database: made, kept or removed; what is in it ──┐
//!   (ashlar-workload) keys, values and choices from numbers ──────┼─> workloads ──> run (threads, clock, latencies) ──> measured
//!   on_data  what a thread does on the data set ──────────────────┤                 timeline (ends of operations)       text, json
//!   ycsb     mixes of reads and changes ──────────────────────────┤                 watch (checkpoints, progress)       report/
//!   pause    small commits beside large ones ─────────────────────┤
//!   life     opens, also after a kill; victim: who is killed ─────┤
//!   costs    curves against size and log ─────────────────────────┘
//! ```
//!
//! 1. The data set is a function of its size: no two runs differ in it, and any value can be checked without a copy.
//! 2. A read that gives anything else than was written ends the run, with exit status 1.

mod choice;
mod costs;
mod json;
mod life;
mod measured;
mod on_data;
mod pause;
mod place;
mod report;
mod run;
mod text;
mod timeline;
mod victim;
mod watch;
mod workloads;
mod ycsb;

use crate::cli::OpenArgs;
use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use choice::Choice;
use clap::ValueEnum;
use measured::Measured;
use place::Place;
use report::Report;
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
  reopen                close the database and open it again: the operation is the open
  recover               open it after a process was killed, three times, that wrote single keys to it,
                        durable within 100 ms: the operation is the open, its entries are the commits
                        replayed; no commit that was durable may be missing
  costs                 what must not grow: a read, a commit and an open with the entries of the database,
                        a read with the length of the log; for each of --sizes, in a database of its own

Examples:
  ashlar bench --workload load-rand,get-rand,scan-full
  ashlar bench --dir /mnt/nvme -w all --n 20000000 --cache-mb 256 --threads 8 --keep
  ashlar bench --workload put-sync --threads 16 --seconds 30 --json
  ashlar bench --workload pause --pause-writes 1000000
  ashlar bench --workload all,costs --report results

All is everything but costs. Keys have 16 bytes. MB/s counts keys and values (10^6 bytes). A latency is
that of one operation: a transaction, a read, a scan; it includes checking what was read. The pause is the
longest time in which no operation of any thread ended (with several threads, below a millisecond: at least).
Workloads on the data set load it first, unmeasured, if it is not there; what is in the cache then, is left
there, unless --cold. The database is DIR/ashlar-bench (of costs DIR/ashlar-bench-costs): removed
afterwards unless --keep; one that is there is used again.

With --json each measurement is an object, and has the operations of each tenth of a second and the moments
of checkpoints, too. --report writes that to results.json and draws it in index.html.

Exit status 1: a read gave something else than was written.";

/// Measure workloads on a database made for it
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The directory in which the database ashlar-bench is made
    #[arg(long, value_name = "PATH", default_value = ".")]
    dir: PathBuf,
    /// What to run, one after the other; "all" for everything but costs
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
    /// Sizes of costs: entries, and writes in the log
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [100_000, 1_000_000, 10_000_000], value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    sizes: Vec<u64>,
    /// Empty the cache before each workload on the data set: close the database, and open it again
    #[arg(long)]
    cold: bool,
    /// Leave the database in place
    #[arg(long)]
    keep: bool,
    /// Write a page with tables and plots, index.html, and results.json into this directory; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The process that recover kills
    #[arg(long, hide = true)]
    victim: bool,
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

impl Args {
    /// What to run, in order.
    fn chosen(&self) -> Vec<Choice> {
        Choice::each(&self.workload)
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
    if args.victim {
        return victim::work(args, out).map(|()| Outcome::Done);
    }
    let mut place = Place::find(args)?;
    let report = args.report.as_deref().map(|dir| Report::begin(dir, args)).transpose()?;
    let mut all = Vec::new();
    let outcome = measure(args, &mut place, &mut all, out);
    // Also after an error: what was made for this run goes, unless it is to stay, and what was measured is told.
    let left = place.leave(args.keep);
    let reported = report.map_or(Ok(()), |report| report.write(&all, outcome.as_ref().err()));
    outcome.and(left).and(reported).map(|()| Outcome::Done)
}

fn measure(args: &Args, place: &mut Place, all: &mut Vec<Measured>, out: &mut Output) -> Result<()> {
    text::begin(out)?;
    for choice in args.chosen() {
        let measured = workloads::run(choice, args, place, out)?;
        measured.iter().try_for_each(|m| if out.is_json() { out.object(&json::object(m)) } else { text::show(m, out) })?;
        out.flush()?;
        all.extend(measured);
    }
    if out.is_json() { Ok(()) } else { text::summary(all, out) }
}

/// Data that is not as it was written.
fn wrong(what: String) -> Error {
    Error::Wrong(format!("the database has returned wrong data: {what}; keep it and report this"))
}
