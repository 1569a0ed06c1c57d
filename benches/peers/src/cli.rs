//! The command line.

use crate::driver;
use crate::engines;
use crate::matrix::{self, Choice};
use crate::report;
use crate::row::{self, Plan, Profile};
use crate::workload::Workload;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Ashlar beside other embedded storage engines: the same workloads, every read checked
#[derive(Parser, Debug)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Measure the whole matrix of a profile, engines in turns, and write the report; begun again it goes on
    All {
        /// Whether the data fits in memory
        #[arg(long, value_enum, default_value = "mem")]
        profile: Profile,
        /// Only these workloads
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        workloads: Vec<Workload>,
        #[command(flatten)]
        choice: Choice,
    },
    /// A small table in a quarter of an hour or less, all in memory
    Quick {
        #[command(flatten)]
        choice: Choice,
    },
    /// Measure one workload, and show it
    Row {
        /// Which
        workload: Workload,
        /// Whether the data fits in memory
        #[arg(long, value_enum, default_value = "mem")]
        profile: Profile,
        #[command(flatten)]
        choice: Choice,
    },
    /// Make report.md and plots/ of the records in DIR/results
    Report {
        /// As --dir of the others
        dir: PathBuf,
    },
    /// Measure one row in this process
    Run {
        #[command(flatten)]
        plan: Plan,
        /// The engine's directory: a loaded data set, or nothing (it is loaded first, unmeasured, if the workload needs it)
        #[arg(long)]
        dir: PathBuf,
        /// Where the record goes [default: standard output]
        #[arg(long)]
        json: Option<PathBuf>,
        /// Which of several runs of the same
        #[arg(long, default_value_t = 1)]
        repeat: u32,
    },
    /// Load a data set into an empty directory
    Load {
        #[command(flatten)]
        plan: Plan,
        /// The engine's directory
        #[arg(long)]
        dir: PathBuf,
    },
    /// The engines of this build: versions, and what they promise after an operating system's crash
    Engines,
    /// Update data until killed
    #[command(hide = true)]
    Victim {
        #[command(flatten)]
        plan: Plan,
        #[arg(long)]
        dir: PathBuf,
    },
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What prevents it.
    pub fn run(self) -> Result<()> {
        match self.command {
            Action::All { profile, workloads, choice } => {
                let workloads = if workloads.is_empty() { Workload::ALL.to_vec() } else { workloads };
                measure(&choice, profile, &matrix::rows(profile, &workloads, cores(), &choice.threads))
            }
            Action::Quick { choice } => {
                driver::run(&choice, Profile::Mem, &matrix::quick_rows(), true)?;
                show(&choice)
            }
            Action::Row { workload, profile, choice } => {
                measure(&choice, profile, &matrix::rows(profile, &[workload], cores(), &choice.threads))
            }
            Action::Report { dir } => report::make(&dir).map(|path| println!("{}", path.display())),
            Action::Run { plan, dir, json, repeat } => run_row(&plan, &dir, json, repeat),
            Action::Load { plan, dir } => {
                std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
                row::load(&plan, &dir)
            }
            Action::Engines => {
                print!("{}", report::engines_table(&engines::all()));
                Ok(())
            }
            Action::Victim { plan, dir } => row::be_killed(&plan, &dir),
        }
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

fn measure(choice: &Choice, profile: Profile, spots: &[matrix::Spot]) -> Result<()> {
    driver::check_profile(profile)?;
    driver::run(choice, profile, spots, false)?;
    show(choice)
}

fn show(choice: &Choice) -> Result<()> {
    let path = report::make(&choice.dir)?;
    print!("{}", std::fs::read_to_string(&path)?);
    Ok(())
}

fn run_row(plan: &Plan, dir: &std::path::Path, json: Option<PathBuf>, repeat: u32) -> Result<()> {
    row::check_engine(plan)?;
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    if row::needs_data(plan) && crate::cached::files_below(dir)?.is_empty() {
        driver::load(plan, dir)?;
    }
    let row = row::measure(plan, repeat, dir)?;
    match json {
        Some(path) => row::write(&path, &row),
        None => {
            println!("{}", serde_json::to_string_pretty(&row)?);
            Ok(())
        }
    }
}
