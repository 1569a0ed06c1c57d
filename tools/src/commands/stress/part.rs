//! The parts that other processes play: the command starts itself again.

use super::check::{self, Survivors, Task};
use super::load;
use super::plan::Plan;
use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A part, as JSON.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    part: String,
}

/// What another process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Part {
    /// Works on a database.
    Load(Plan),
    /// Checks what a crash has left, and prints what has survived.
    Check(Task),
    /// Started by a child of a process that has this database open: must be refused, and have nothing of it.
    Stranger { db: PathBuf, owner: u32 },
}

/// What a check prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Right(Survivors),
    Wrong(String),
}

/// Plays it.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let part = serde_json::from_str(&args.part).map_err(|e| Error::Usage(format!("no part: {e}")))?;
    match part {
        Part::Load(plan) => load::run(&plan).map_err(Error::Wrong)?,
        Part::Check(task) => {
            let answer = check::answer(&task).map_or_else(Answer::Wrong, Answer::Right);
            out.object(&answer)?;
        }
        Part::Stranger { db, owner } => stranger(&db, owner).map_err(Error::Wrong)?,
    }
    Ok(Outcome::Done)
}

/// The command line that plays a part.
pub(super) fn command(part: &Part) -> Result<Command> {
    let program = std::env::current_exe().map_err(|e| Error::file("finding", "this program", e))?;
    let mut command = Command::new(program);
    command.args(["stress", "part"]).arg(json(part)?).stdin(Stdio::null());
    Ok(command)
}

/// A part as its argument.
pub(super) fn json(part: &Part) -> Result<String> {
    serde_json::to_string(part).map_err(|e| Error::Usage(format!("a part as JSON: {e}")))
}

fn stranger(db: &Path, owner: u32) -> std::result::Result<(), String> {
    for entry in std::fs::read_dir("/proc/self/fd").map_err(|e| e.to_string())?.flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.starts_with(db) {
            return Err(format!("after exec, {} is still open", target.display()));
        }
    }
    match ashlardb::Options::new().create(ashlardb::Create::Never).open(db) {
        Err(ashlardb::Error::Locked { pid: Some(pid), .. }) if pid == owner => Ok(()),
        Err(e) => Err(format!("after exec, the database should be locked by process {owner}: {e}")),
        Ok(_) => Err(format!("after exec, the database that process {owner} has open could be opened")),
    }
}
