//! `ashlar stress`: the harness of the project's own tests, as long as you like.

mod failed;
mod sim;

use crate::error::{Outcome, Result};
use crate::output::Output;
use clap::Subcommand;

/// Try to break databases made for it: crashes, faults of the disk, killed processes
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Sim(sim::Args),
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    match &args.what {
        What::Sim(args) => sim::run(args, out),
    }
}
