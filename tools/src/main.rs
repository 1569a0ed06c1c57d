//! The command `ashlar`: looks into databases, moves data in and out of them, checks and measures them.
//!
//! 1. Exit status: 0 done; 1 the answer is no (key absent, damage found); 2 could not run (bad arguments, no database, locked, an
//!    error of the disk). Whoever runs it needs to read no text to know which.
//! 2. Results go to stdout, everything else to stderr. A reader of stdout that goes away ends the command quietly.
//! 3. With `--json`, stdout has one JSON object, or one a line.
//!
//! Reading order: `cli` (what there is), `commands` (one file each), `dump_format` (the format of `dump` and `load`, by itself),
//! `bench` (the workloads).

mod bench;
mod bytes;
mod cli;
mod commands;
mod dump_format;
mod error;
mod files;
mod open;
mod output;
mod progress;
mod units;

use clap::Parser;
use cli::Cli;
use error::{Error, Outcome};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.logged());
    match cli.run() {
        Ok(Outcome::Done) | Err(Error::Pipe) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            // Where stderr is gone, too, the status has to say it all.
            let _ = writeln!(std::io::stderr(), "ashlar: {error}");
            ExitCode::from(error.status())
        }
    }
}

/// What the engine logs, from that level up or as `ASHLAR_LOG` says, to stderr.
fn log_to_stderr(level: tracing::level_filters::LevelFilter) {
    let filter =
        tracing_subscriber::EnvFilter::builder().with_env_var("ASHLAR_LOG").with_default_directive(level.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    builder.with_ansi(std::io::stderr().is_terminal()).without_time().with_target(false).init();
}
