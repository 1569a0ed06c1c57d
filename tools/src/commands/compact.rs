//! `ashlar compact`: gives free space back to the file system.

use crate::cli::OpenArgs;
use crate::error::{Outcome, Result};
use crate::open;
use crate::output::Output;
use crate::progress::Spinner;
use crate::units::{bytes, counted};
use serde_json::json;
use std::path::PathBuf;

const AFTER: &str =
    "Frees what dropped keyspaces have left, moves what stands at the end of the data file to free places below, and
cuts the end off, until the file is as short as it gets. It needs no room beside the database: what is moved goes to free space
within the file. Stopped at any moment it loses nothing.

A program that has the database open can do the same with Database::compact.";

/// Make the data file as short as it gets
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let db = open::for_writing(&args.dir, &args.open, out)?;
    let done = {
        let _spinner = Spinner::start(out, format!("compacting {}", args.dir.display()))?;
        let done = db.compact()?;
        db.close()?;
        done
    };
    if out.is_json() {
        out.object(&json!({ "bytes_before": done.before, "bytes_after": done.after, "moved": done.moved }))?;
    } else {
        let moved = counted(done.moved, "page or run", "pages and runs");
        out.line(format!("data: {} before, {} after; {moved} moved", bytes(done.before), bytes(done.after)))?;
    }
    Ok(Outcome::Done)
}
