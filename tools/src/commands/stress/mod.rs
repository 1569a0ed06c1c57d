//! `ashlar stress`: the harnesses that break into a database's life, as long as you like: a simulated machine, processes killed,
//! processes forked, power cut.
//!
//! Reading order: `sim` (the harness of the project's own tests); then for real processes `ops` (what commits do), `value` (what they
//! write), `journal` (what is told of them), `plan` and `load` (the process that works), `check` (what may be left of it), and the
//! harnesses `kill`, `fork` and `power`.

mod check;
mod fork;
mod journal;
mod kill;
mod load;
mod ops;
mod part;
mod plan;
mod power;
mod sim;
mod value;

use crate::error::{Outcome, Result};
use crate::output::Output;
use clap::Subcommand;

/// Break into a database's life, and check what is left: crashes, faults of the disk, killed processes, power cuts
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Sim(sim::Args),
    Kill(kill::Args),
    Fork(fork::Args),
    Power(power::Args),
    /// Parts that other processes play in these tests
    #[command(hide = true)]
    Part(part::Args),
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    match &args.command {
        Command::Sim(args) => sim::run(args, out),
        Command::Kill(args) => kill::run(args, out),
        Command::Fork(args) => fork::run(args, out),
        Command::Power(args) => power::run(args, out),
        Command::Part(args) => part::run(args, out),
    }
}
