//! The command line: which commands there are, and the options that several share.

use crate::bench;
use crate::commands::{compact, del, dump, get, load, probe, put, salvage, scan, stat, stress, verify, wal};
use crate::error::{Outcome, Result};
use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tracing::level_filters::LevelFilter;

const AFTER: &str = "Exit status: 0 done; 1 the answer is no (key absent, damage found, a stress test failed); 2 could not run (bad arguments, no \
database, locked, I/O error).\nASHLAR_LOG sets what is logged to stderr, for example ASHLAR_LOG=debug (default: warn; off\nfor stress).";

/// Looks into Ashlar databases, moves data in and out of them, checks and measures them.
#[derive(Parser, Debug)]
#[command(name = "ashlar", version, after_help = AFTER, max_term_width = 110)]
pub(crate) struct Cli {
    /// Print JSON: one object, or one a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Probe(probe::Args),
    Get(get::Args),
    Put(put::Args),
    Del(del::Args),
    Scan(scan::Args),
    Dump(dump::Args),
    Load(load::Args),
    Stat(stat::Args),
    Compact(compact::Args),
    Verify(verify::Args),
    Salvage(salvage::Args),
    Wal(wal::Args),
    Bench(bench::Args),
    Stress(stress::Args),
}

impl Cli {
    /// From which level on the engine's log is shown. Where errors are made on purpose, nobody wants to read of each.
    pub(crate) fn logged(&self) -> LevelFilter {
        if matches!(self.command, Command::Stress(_)) { LevelFilter::OFF } else { LevelFilter::WARN }
    }

    /// Runs what was asked for.
    pub(crate) fn run(self) -> Result<Outcome> {
        let mut out = Output::new(self.json);
        let outcome = match &self.command {
            Command::Probe(args) => probe::run(args, &mut out),
            Command::Get(args) => get::run(args, &mut out),
            Command::Put(args) => put::run(args, &mut out),
            Command::Del(args) => del::run(args, &mut out),
            Command::Scan(args) => scan::run(args, &mut out),
            Command::Dump(args) => dump::run(args, &mut out),
            Command::Load(args) => load::run(args, &mut out),
            Command::Stat(args) => stat::run(args, &mut out),
            Command::Compact(args) => compact::run(args, &mut out),
            Command::Verify(args) => verify::run(args, &mut out),
            Command::Salvage(args) => salvage::run(args, &mut out),
            Command::Wal(args) => wal::run(args, &mut out),
            Command::Bench(args) => bench::run(args, &mut out),
            Command::Stress(args) => stress::run(args, &mut out),
        };
        // What was printed before an error is a result, too.
        let flushed = out.flush();
        let outcome = outcome?;
        flushed.map(|()| outcome)
    }
}

/// How a database is opened.
#[derive(Args, Clone, Debug)]
pub(crate) struct OpenArgs {
    /// Memory for pages, in MiB [default: a quarter of RAM or of the cgroup's limit]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub(crate) cache_mb: Option<u64>,
    /// Go through the kernel's page cache, where direct I/O doesn't work
    #[arg(long)]
    pub(crate) buffered: bool,
    /// Permit a network file system, whose server may confirm what it has not stored
    #[arg(long)]
    pub(crate) allow_network_fs: bool,
}

/// How a database is made, where there is none.
#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    /// Bytes of a page of a new database: 4096, 8192, 16384, 32768 or 65536 [default: 8192]
    #[arg(long, value_name = "BYTES", value_parser = page_size)]
    pub(crate) page_size: Option<usize>,
    /// Directory for the log of a new database, for example on another device [default: DIR/wal]
    #[arg(long, value_name = "PATH")]
    pub(crate) wal_dir: Option<PathBuf>,
}

pub(crate) fn page_size(text: &str) -> Result<usize, String> {
    let size: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    let possible = size.is_power_of_two() && (4096..=65536).contains(&size);
    if possible { Ok(size) } else { Err("it must be 4096, 8192, 16384, 32768 or 65536".into()) }
}

/// The keyspace that is used where none is named; also where the unnamed database of a dump goes.
pub(crate) const DEFAULT_KEYSPACE: &str = "default";

/// Which keyspace.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeyspaceArg {
    /// The keyspace: a database holds any number of them, each an ordered map of its own
    #[arg(short = 'k', long, value_name = "NAME", default_value = DEFAULT_KEYSPACE)]
    pub(crate) keyspace: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
