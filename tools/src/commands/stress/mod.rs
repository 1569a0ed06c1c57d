//! `ashlar stress`: the harnesses that break into a database's life, as long as you like: a simulated machine, processes killed,
//! processes forked, power cut.
//!
//! Reading order: `sim` (the harness of the project's own tests); then for real processes `ops` (what commits do), `value` (what they
//! write), `journal` (what is told of them), `plan` and `load` (the process that works), `check` (what may be left of it), and the
//! harnesses `kill`, `fork` and `power`.

mod check;
mod failed;
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

use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// The directory of the database that `kill` and `fork` make.
const NAME: &str = "ashlar-stress";

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

/// Where the database will be; an error unless nothing is there, and a database can be made in that directory.
fn new_database(dir: &Path) -> Result<PathBuf> {
    let dir = dir.canonicalize().map_err(|e| Error::file("finding", dir, e))?;
    let db = dir.join(NAME);
    if db.exists() {
        return Err(Error::Usage(format!("{} is there already: remove it, or name another --dir", db.display())));
    }
    // What is wrong with the place is told before anything begins. The first child makes its database itself, and may be killed at that.
    let trial = dir.join(format!("{NAME}-trial"));
    let opened = ashlardb::Options::new().cache_size(4 << 20).segment_size(64 << 10).log_limit(1 << 20).open(&trial).map(drop);
    let removed = std::fs::remove_dir_all(&trial);
    opened?;
    removed.map_err(|e| Error::file("removing", &trial, e))?;
    Ok(db)
}
