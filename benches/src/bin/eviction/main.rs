//! A simulator of eviction: hit ratios of the pool's policy, of others, and of the optimum, on traces of several kinds.
//!
//! ```sh
//! cargo run --release -p ashlar-benches --bin eviction            # a table, as in docs/performance.md
//! cargo run --release -p ashlar-benches --bin eviction -- --constants   # the pool's policy with other constants
//! ```
//!
//! The pool's policy is the real one, included from the pool (`ashlar_benches::pool_policy`); everything else that the pool does is
//! left out. Reading order: `traces`, `policies`, `report`.

mod policies;
mod report;
mod traces;

use clap::Parser;
use policies::Policy;
use report::Outcome;
use traces::{Kind, Trace};

/// Compares eviction policies by their hit ratios.
#[derive(Parser)]
#[command(name = "eviction")]
struct Args {
    /// How many pages there are.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=50_000_000))]
    pages: u32,
    /// Accesses of a trace. The first quarter warms the cache and is not counted.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000_000))]
    accesses: u32,
    /// Decides all traces.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints JSON instead of a Markdown table.
    #[arg(long)]
    json: bool,
    /// Compares the pool's policy with changes of it instead of with other policies; "10 % / 50 %": share of the frames on probation, and
    /// of ids that are remembered.
    #[arg(long)]
    constants: bool,
}

/// Sizes of caches, in percent of the pages.
const CACHES: [usize; 4] = [1, 5, 10, 25];

fn main() -> serde_json::Result<()> {
    let args = Args::parse();
    let mut compared = vec![policies::optimum(), policies::ashlar()];
    compared.extend(if args.constants { policies::other_constants() } else { policies::others() });
    let outcomes = simulate(&args, &compared);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        print!("{}", report::markdown(&outcomes, compared.len()));
    }
    Ok(())
}

/// Row by row: all policies on one trace with one size.
fn simulate(args: &Args, compared: &[Policy]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for kind in Kind::ALL {
        for cache_percent in CACHES {
            let frames = args.pages as usize * cache_percent / 100;
            let trace = kind.trace(args.pages, args.accesses as usize, frames, args.seed);
            let warm_up = trace.accesses.len() / 4;
            outcomes.extend(compared.iter().map(|policy| Outcome {
                trace: kind.name(),
                policy: policy.name.clone(),
                cache_percent,
                frames,
                accesses: trace.accesses.len() - warm_up,
                hits: hits(policy, frames, &trace, warm_up),
            }));
        }
    }
    outcomes
}

/// Hits of all accesses but the first `warm_up`.
fn hits(policy: &Policy, frames: usize, trace: &Trace, warm_up: usize) -> usize {
    let mut cache = policy.cache(frames, trace);
    let was_hit = trace.accesses.iter().map(|&page| cache.access(page));
    was_hit.skip(warm_up).filter(|&hit| hit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_run_on_every_trace_with_every_size() {
        let args = Args::parse_from(["eviction", "--pages", "1000", "--accesses", "4000"]);
        let compared = [policies::optimum(), policies::ashlar()];
        let outcomes = simulate(&args, &compared);
        assert_eq!(outcomes.len(), Kind::ALL.len() * CACHES.len() * 2);
        assert!(outcomes.iter().all(|outcome| outcome.accesses == 3000 && outcome.hits <= 3000));
        assert!(outcomes.chunks_exact(2).all(|pair| pair[0].hits >= pair[1].hits && pair[0].hits > 0));
    }
}
