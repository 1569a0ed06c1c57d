//! A study of where pages are written: filling the holes that checkpoints leave, or evacuating regions so that writes become large.
//!
//! ```sh
//! cargo run --release -p ashlar-benches --bin holes               # a table, as in docs/performance.md
//! cargo run --release -p ashlar-benches --bin holes -- --details  # transfers, pages moved, and what a scan meets, of each run
//! cargo run --release -p ashlar-benches --bin holes -- --engine DIR   # the engine itself, beside the simulation
//! ```
//!
//! The engine's allocator is the real one, included (`ashlar_benches::Space`); the rest of the engine is left out. Reading order: `page_file`,
//! `updates`, `policies`, `tally`, `measure`, `study`, `report`, `engine`.

mod engine;
mod measure;
mod page_file;
mod policies;
mod report;
mod study;
mod tally;
mod updates;

use clap::Parser;
use engine::{Seen, Work};
use policies::Device;
use std::error::Error;
use std::path::PathBuf;
use study::{Case, Outcome, Setup};
use tally::Cost;
use updates::{Lens, Skew};

/// Compares filling holes with evacuating regions, by transfers, pages written and the device's time.
#[derive(Parser)]
#[command(name = "holes")]
struct Args {
    /// How many pages there are.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1000..=20_000_000))]
    pages: u32,
    /// Blocks of a page.
    #[arg(long, default_value_t = 2, value_parser = power_of_two)]
    unit: u64,
    /// KiB of a block.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    block_kib: u64,
    /// Pages are from so many percent to all full, and trimmed to blocks.
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=100))]
    fill_from: u32,
    /// How much of the file is in use, in percent.
    #[arg(long = "use", value_delimiter = ',', default_values_t = [70, 80, 87], value_parser = clap::value_parser!(u32).range(10..=98))]
    used: Vec<u32>,
    /// Pages that a checkpoint writes.
    #[arg(long, value_delimiter = ',', default_values_t = [256, 2048, 16384], value_parser = clap::value_parser!(u32).range(1..))]
    batch: Vec<u32>,
    /// How pages are chosen.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Skew::Uniform, Skew::Zipf])]
    updates: Vec<Skew>,
    /// Only policies whose names have this in them.
    #[arg(long, default_value = "")]
    policy: String,
    /// KiB of the largest write.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(64..=65536))]
    transfer_kib: u64,
    /// KiB of a region that is evacuated.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(64..=1_048_576))]
    region_kib: u64,
    /// Turns until a file that is never steady is measured all the same. A turn: as many changed pages as there are pages.
    #[arg(long, default_value_t = 40)]
    turns_max: usize,
    /// Turns that are measured.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Which share of free blocks may stand in runs of another class of length, for a file to be steady.
    #[arg(long, default_value_t = 0.02)]
    tolerance: f64,
    /// Decides all choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Changes a new database in this folder at random instead, and tells its writes beside those that are simulated.
    #[arg(long, value_name = "DIR")]
    engine: Option<PathBuf>,
    /// With --engine: how many entries there are, how many are changed before each checkpoint, and how many checkpoints are made.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 1000, 60], value_parser = clap::value_parser!(u64).range(1..))]
    work: Vec<u64>,
    /// Prints all figures of each run.
    #[arg(long)]
    details: bool,
    /// Prints JSON instead of Markdown.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cost: Cost,
}

fn power_of_two(text: &str) -> Result<u64, String> {
    let unit = text.parse().ok().filter(|unit: &u64| unit.is_power_of_two() && *unit <= 16);
    unit.ok_or_else(|| "a page is 1, 2, 4, 8 or 16 blocks".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if let Some(dir) = &args.engine {
        let &[entries, changes, checkpoints] = args.work.as_slice() else { return Err("--work takes three numbers".into()) };
        let seen = engine::measure(dir, Work { entries, changes, checkpoints, seed: args.seed })?;
        let simulated = simulated(&seen, args.seed).ok_or("the simulator has no room for this")?;
        println!("{seen:?}; simulated: {simulated:.3} writes a page");
        return Ok(());
    }
    let (outcomes, columns) = simulate(&args);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else if args.details {
        print!("{}", report::details(&outcomes));
    } else {
        print!("{}", report::times(&outcomes, columns));
    }
    Ok(())
}

/// Writes a page, of the engine's policy with what was seen of a database: as many pages, all full, a batch and a use like that.
fn simulated(seen: &Seen, seed: u64) -> Option<f64> {
    let args = Args::parse_from(["holes", "--fill-from", "100", "--region-kib", "64"]);
    let setup = Setup { pages: u32::try_from(seen.pages).ok()?, seed, ..setup(&args) };
    let case = Case { skew: Skew::Uniform, used: seen.used, batch: seen.batch as usize };
    study::run(&setup, case, policies::all().first()?).found.map(|found| found.transfers_a_page)
}

/// Case by case: all policies. And how many there are.
fn simulate(args: &Args) -> (Vec<Outcome>, usize) {
    let setup = setup(args);
    let policies: Vec<_> = policies::all().into_iter().filter(|policy| policy.name.contains(&args.policy)).collect();
    let mut outcomes = Vec::new();
    for &skew in &args.updates {
        for &used in &args.used {
            for &batch in &args.batch {
                let case = Case { skew, used: f64::from(used), batch: batch as usize };
                outcomes.extend(policies.iter().map(|policy| study::run(&setup, case, policy)));
            }
        }
    }
    (outcomes, policies.len().max(1))
}

fn setup(args: &Args) -> Setup {
    let unit = args.unit;
    // A region is some whole units, and a transfer takes a page.
    let region_blocks = (args.region_kib / args.block_kib).next_multiple_of(unit).max(unit);
    let transfer_blocks = (args.transfer_kib / args.block_kib).max(unit);
    Setup {
        pages: args.pages,
        lens: Lens { unit, fill_from: args.fill_from },
        device: Device { transfer_blocks, block_kib: args.block_kib, cost: args.cost },
        region_blocks,
        turns_max: args.turns_max,
        turns_measured: args.turns as usize,
        tolerance: args.tolerance,
        seed: args.seed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_run_in_every_case() {
        let line = "holes --pages 4000 --region-kib 256 --batch 64,256 --use 70,80 --turns-max 2 --turns 1";
        let (outcomes, columns) = simulate(&Args::parse_from(line.split(' ')));
        assert_eq!((columns, outcomes.len()), (policies::all().len(), columns * 2 * 2 * 2));
        for outcome in &outcomes {
            let found = outcome.found.as_ref().expect("there is room");
            assert!(found.tally.updated >= 4000 && found.write_us > 0.0, "{outcome:?}");
            assert_eq!(found.tally.moved > 0, outcome.policy.starts_with("evacuate"), "{outcome:?}");
            assert_eq!(found.turns, 2);
        }
    }
}
