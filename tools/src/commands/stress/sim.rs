//! `ashlar stress sim`: histories on a simulated machine whose power goes and whose disk has faults.

use super::failed::Failed;
use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use crate::progress::Progress;
use crate::units::{bytes, count};
use ashlar_tests::crash::short::{Counts, Enumeration, enumerate};
use ashlar_tests::crash::{Caps, Faults, Setup, Summary, run as run_histories};
use ashlar_tests::large;
use ashlar_tests::seeds::{Seeds, processors};
use serde_json::json;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const AFTER: &str = "A history is several lives of one small database on a simulated disk, in memory. In each, several
threads write, read and make checkpoints, until the machine crashes or the database is closed; then
the next life opens it and compares everything with what may be there. All of it comes from the
seed: the order of the threads, when transfers complete, when it crashes, what the crash leaves,
which faults the disk has.

Faults, as words or a list of them:
  none      the database is closed at the end of each life
  crash     the power goes or the process is killed, at any call to the disk
  io        crashes, and faults that the disk tells: read-error, write-error, sync-error, no-space,
            short-transfer; nothing that was confirmed may be lost
  corrupt   crashes, and faults that it does not tell: bit-flip, bad-sector, lost-write,
            misdirected-write; the database may say that it is damaged and must not give a wrong value
  all       all of these

A failing history is made smaller as long as it fails, and the command that repeats it is printed.
The options from --max-lives on are what such commands use.

Examples:
  ashlar stress sim --seconds 3600
  ashlar stress sim --seed 4711 --runs 1 --faults io
  ashlar stress sim --enumerate 3      all sequences of up to 3 operations, a crash at every call
  ashlar stress sim --large --runs 1   a database that grows past 1 GB (1.5 GB of memory, 7 minutes)

Exit status 1: a history failed.";

/// Run histories on a simulated machine with crashes and faults of its disk
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The first seed; the histories after it have the seeds after it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many histories [default: 1000, or no end with --seconds]
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Begin no history after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// What goes wrong: none, crash, io, corrupt, all, or a list of kinds
    #[arg(long, value_name = "WHAT", default_value = "all")]
    faults: Faults,
    /// Most lives of a history
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=1000))]
    lives: u32,
    /// Histories at the same time [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Don't make a failing history smaller
    #[arg(long)]
    no_minimize: bool,
    /// Instead of random histories: all sequences of up to N operations with a crash at every call of
    /// the last, and in the recovery, two deep, after all of up to two operations
    #[arg(long, value_name = "N", conflicts_with_all = ["large", "faults", "lives"], value_parser = clap::value_parser!(u32).range(1..=4))]
    enumerate: Option<u32>,
    /// With --enumerate: crashes in recovery after all sequences up to this length
    #[arg(long, value_name = "N", default_value_t = 2, requires = "enumerate")]
    recovery_up_to: u32,
    /// Instead of small databases: one that grows past 1 GB, with crashes
    #[arg(long, conflicts_with_all = ["faults", "lives"])]
    large: bool,
    #[command(flatten)]
    caps: CapArgs,
}

/// What is cut off of what was drawn.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Less than was drawn")]
struct CapArgs {
    /// Most lives before the last
    #[arg(long, value_name = "N")]
    max_lives: Option<u32>,
    /// Most threads that write
    #[arg(long, value_name = "N")]
    max_writers: Option<u16>,
    /// Most commits of a thread in a life
    #[arg(long, value_name = "N")]
    max_commits: Option<u32>,
    /// Most faults
    #[arg(long, value_name = "N")]
    max_faults: Option<u64>,
    /// No readers and checkpoints beside the writers
    #[arg(long)]
    alone: bool,
    /// No threads of the database's own
    #[arg(long)]
    manual: bool,
    /// The call to the disk at which a life crashes, from 0; "never" for none
    #[arg(long, value_name = "LIFE:CALL", value_parser = crash_at)]
    crash_at: Vec<(u32, Option<u64>)>,
}

fn crash_at(text: &str) -> Result<(u32, Option<u64>), String> {
    let parse = || {
        let (life, call) = text.split_once(':')?;
        let call = if call == "never" { None } else { Some(call.parse().ok().filter(|&n: &u64| n > 0)?) };
        Some((life.parse().ok()?, call))
    };
    parse().ok_or_else(|| "it must be LIFE:CALL or LIFE:never, with numbers".into())
}

impl Args {
    fn setup(&self) -> Setup {
        let CapArgs { max_lives, max_writers, max_commits, max_faults, alone, manual, ref crash_at } = self.caps;
        let caps = Caps {
            lives: max_lives,
            writers: max_writers,
            commits: max_commits,
            faults: max_faults,
            alone,
            manual,
            crashes: crash_at.iter().copied().collect(),
        };
        Setup { faults: self.faults.clone(), lives_max: self.lives, caps, ..Setup::default() }
    }

    fn seeds(&self) -> Seeds {
        let until = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let count = self.runs.unwrap_or(if until.is_some() { u64::MAX } else { 1000 });
        Seeds { first: self.seed, count, until, threads: self.threads() }
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(processors, usize::from)
    }
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    match args.enumerate {
        Some(len) => enumerate_short(args, len, out),
        None if args.large => grow(args, out),
        None => histories(args, out),
    }
}

fn per_second(n: u64, took: Duration) -> u64 {
    (n as f64 / took.as_secs_f64().max(0.001)) as u64
}

fn histories(args: &Args, out: &mut Output) -> Result<Outcome> {
    let (seeds, setup) = (args.seeds(), args.setup());
    let total = if seeds.count == u64::MAX { None } else { Some(seeds.count) };
    let shared = Mutex::new((Summary::default(), Progress::new(out, "histories", total)));
    let begun = Instant::now();
    let told = |summary: &Summary| {
        let Ok(mut shared) = shared.lock() else { return };
        let (sum, progress) = &mut *shared;
        sum.add(summary);
        progress.step(1, || {
            let (crashes, faults, recovered, detected) = (sum.crashes(), sum.faults(), sum.recovered, sum.detected());
            format!("histories: {crashes} crashes, {faults} faults, {recovered} recovered, {detected} errors told")
        });
    };
    let outcome = run_histories(&seeds, &setup, &told);
    let took = begun.elapsed();
    // Where one failed, what the others came to is still of interest.
    let (sum, progress) = shared.into_inner().map_err(|_| Error::Wrong("a thread of the harness panicked".into()))?;
    drop(progress);
    match outcome {
        Ok(sum) => {
            report(&sum, took, None, out)?;
            Ok(Outcome::Done)
        }
        Err((seed, failure)) => {
            let failed = Failed::new(seed, &setup, failure, !args.no_minimize);
            report(&sum, took, Some(&failed), out)?;
            Ok(Outcome::No)
        }
    }
}

fn report(sum: &Summary, took: Duration, failed: Option<&Failed>, out: &mut Output) -> Result<()> {
    let rate = per_second(sum.crashes(), took);
    if out.is_json() {
        let seconds = took.as_secs_f64();
        return out.object(&json!({
            "passed": failed.is_none(),
            "seconds": seconds,
            "crashes_per_second": rate,
            "summary": sum,
            "failed": failed.map(Failed::json),
        }));
    }
    if let Some(failed) = failed {
        failed.print(out)?;
        out.line("\nbefore that:")?;
    }
    let list = |counts: &std::collections::BTreeMap<&'static str, u64>| {
        let words: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {}", count(*n))).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    out.line(format_args!(
        "histories         {}, {} lives, {} commits, {} reads",
        count(sum.histories),
        count(sum.lives),
        count(sum.commits),
        count(sum.reads)
    ))?;
    out.line(format_args!(
        "crashes           {}, {} of them while opening; {rate} a second",
        count(sum.crashes()),
        count(sum.crashes_in_recovery)
    ))?;
    out.line(format_args!("faults injected   {}", list(&sum.injected)))?;
    out.line(format_args!("errors told       {}", list(&sum.told)))?;
    out.line(format_args!(
        "after faults      {} times found whole, {} opens refused, {} in part unreadable, {} with the log's end lost",
        count(sum.recovered),
        count(sum.refused),
        count(sum.unreadable),
        count(sum.rolled_back)
    ))?;
    out.line(format_args!("took              {:.1} s", took.as_secs_f64()))
}

fn enumerate_short(args: &Args, len: u32, out: &mut Output) -> Result<Outcome> {
    let enumeration = Enumeration { whole_up_to: args.recovery_up_to, threads: args.threads(), ..Enumeration::up_to(len) };
    let shared = Mutex::new((Counts::default(), Progress::new(out, "sequences", Some(enumeration.sequences()))));
    let begun = Instant::now();
    let told = |counts: &Counts| {
        let Ok(mut shared) = shared.lock() else { return };
        let (sum, progress) = &mut *shared;
        sum.add(counts);
        progress.step(1, || format!("sequences: {} crashes, {} databases looked at", sum.all_crashes(), sum.looks));
    };
    let outcome = enumerate(&enumeration, &told);
    let took = begun.elapsed();
    let (counts, progress) = shared.into_inner().map_err(|_| Error::Wrong("a thread of the harness panicked".into()))?;
    drop(progress);
    let failure = outcome.err();
    let rate = per_second(counts.all_crashes(), took);
    if out.is_json() {
        let seconds = took.as_secs_f64();
        let object = json!({ "passed": failure.is_none(), "seconds": seconds, "crashes_per_second": rate, "counts": counts, "failure": failure });
        out.object(&object)?;
    } else {
        if let Some(failure) = &failure {
            out.line(format_args!("FAILED: {failure}\nagain:\n  ashlar stress sim --enumerate {len}\n\nbefore that:"))?;
        }
        let [first, second] = counts.crashes_in_recovery;
        out.line(format_args!("sequences         {} of {}", count(counts.sequences), count(enumeration.sequences())))?;
        out.line(format_args!(
            "crashes           {}, {} more in the recovery, {} in the one after that; {rate} a second",
            count(counts.crashes),
            count(first),
            count(second)
        ))?;
        out.line(format_args!("databases         {} looked at, {} like one of these", count(counts.looks), count(counts.alike)))?;
        out.line(format_args!("took              {:.1} s", took.as_secs_f64()))?;
    }
    Ok(if failure.is_none() { Outcome::Done } else { Outcome::No })
}

fn grow(args: &Args, out: &mut Output) -> Result<Outcome> {
    let seeds = args.seeds();
    let runs = args.runs.unwrap_or(1);
    let begun = Instant::now();
    let mut all: Vec<large::Growth> = Vec::new();
    for seed in (args.seed..).take(runs as usize) {
        if seeds.until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let size = large::Size::gigabyte();
        let mut progress = Progress::new(out, "batches", Some(size.batches));
        let mut done = 0;
        let outcome = large::run(seed, size, &mut |batches| {
            progress.step(batches.saturating_sub(done), || format!("seed {seed}: batches"));
            done = done.max(batches);
        });
        drop(progress);
        match outcome {
            Ok(growth) => all.push(growth),
            Err(failure) => {
                let command = format!("ashlar stress sim --large --seed {seed} --runs 1");
                if out.is_json() {
                    out.object(&json!({ "passed": false, "seed": seed, "failure": failure, "command": command }))?;
                } else {
                    out.line(format_args!("FAILED: seed {seed}: {failure}\nagain:\n  {command}"))?;
                }
                return Ok(Outcome::No);
            }
        }
        if let (false, Some(growth)) = (out.is_json(), all.last()) {
            grown(seed, growth, out)?;
        }
    }
    if out.is_json() {
        out.object(&json!({ "passed": true, "seconds": begun.elapsed().as_secs_f64(), "databases": all }))?;
    }
    Ok(Outcome::Done)
}

fn grown(seed: u64, growth: &large::Growth, out: &mut Output) -> Result<()> {
    out.line(format_args!(
        "seed {seed}: {} in {} pages, {} of log in {} used segments; {} batches, {} crashes ({} while opening); {} entries compared, \
         {} times everything",
        bytes(growth.file_bytes),
        count(growth.pages),
        bytes(growth.log_bytes),
        count(growth.segments_reused),
        count(growth.batches),
        count(growth.crashes),
        count(growth.crashes_in_recovery),
        count(growth.compared),
        count(growth.looks)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_tests::crash::minimize::Smallest;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn parse(options: &str) -> Result<Args, clap::Error> {
        Only::try_parse_from(["sim"].into_iter().chain(options.split(' '))).map(|only| only.args)
    }

    #[test]
    fn the_command_that_repeats_a_failure_asks_for_the_same_history() {
        let caps = Caps {
            lives: Some(2),
            writers: Some(1),
            commits: Some(7),
            faults: Some(3),
            alone: true,
            manual: true,
            crashes: [(0, Some(17)), (1, None)].into(),
        };
        let faults: Faults = "crash,lost-write,sync-error".parse().expect("known");
        let setup = Setup { faults, lives_max: 9, caps, ..Setup::default() };
        let failure = ashlar_tests::crash::Failure { life: 1, lives: 2, crashes: vec![], faults: vec![], text: "x".into() };
        let options = Smallest { seed: 77, setup: setup.clone(), failure, runs: 1 }.options();
        let args = parse(&options).unwrap_or_else(|e| panic!("{options}: {e}"));
        assert_eq!((args.seeds().first, args.seeds().count), (77, 1));
        assert_eq!(format!("{:?}", args.setup()), format!("{setup:?}"), "{options}");
    }

    #[test]
    fn without_an_end_it_runs_as_long_as_it_may() {
        let seeds = parse("--seconds 5").expect("possible").seeds();
        assert!(seeds.until.is_some() && seeds.count == u64::MAX);
        let seeds = parse("--threads 3").expect("possible").seeds();
        assert!(seeds.until.is_none() && seeds.count == 1000 && seeds.threads == 3);
        assert!(parse("--enumerate 2 --large").is_err() && parse("--crash-at 3").is_err() && parse("--crash-at 1:0").is_err());
    }
}
