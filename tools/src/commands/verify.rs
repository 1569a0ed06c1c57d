//! `ashlar verify`: whether everything is as it was written.

use crate::cli::OpenArgs;
use crate::error::{Error, Outcome, Result};
use crate::open;
use crate::output::Output;
use crate::progress::Spinner;
use ashlardb::verify::{Finding, Report};
use serde_json::json;
use std::path::PathBuf;

const AFTER: &str = "Reads and checks all that the last durable checkpoint names, from the device: superblocks, page
map, every page and large value, the order of keys, that each block has one owner, and the log.
Writes nothing.

With --json: an object for each finding, then one with the totals.

Exit status 1: something was found.";

/// Check everything, and list every finding
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
    let db = match open::for_reading(&args.dir, &args.open, out) {
        Ok(db) => db,
        // Damage that an open meets is a finding like any other, though it hides the rest.
        Err(Error::Engine(error)) if is_damage(&error) => return unopened(&error, out),
        Err(other) => return Err(other),
    };
    let report = {
        let _spinner = Spinner::start(out, format!("verifying {}", args.dir.display()))?;
        db.verify()?
    };
    for finding in &report.findings {
        show(finding, out)?;
    }
    totals(&report, out)?;
    Ok(if report.is_clean() { Outcome::Done } else { Outcome::No })
}

fn is_damage(error: &ashlardb::Error) -> bool {
    use ashlardb::Error::{Corrupt, WalCorrupted};
    matches!(error, Corrupt(_) | WalCorrupted { .. })
}

fn unopened(error: &ashlardb::Error, out: &mut Output) -> Result<Outcome> {
    let what = error.to_string();
    if out.is_json() {
        out.object(&json!({ "finding": what, "page": null, "keyspace": null }))?;
        out.object(&json!({ "findings": 1, "opened": false }))?;
    } else {
        out.line(what)?;
        out.line("the database can't be opened with this damage, so nothing else was checked")?;
    }
    Ok(Outcome::No)
}

fn show(finding: &Finding, out: &mut Output) -> Result<()> {
    match out.is_json() {
        true => out.object(&json!({ "finding": finding.what, "page": finding.page, "keyspace": finding.keyspace })),
        false => out.line(finding),
    }
}

fn totals(report: &Report, out: &mut Output) -> Result<()> {
    if !out.is_json() {
        return out.line(report);
    }
    out.object(&json!({
        "findings": report.findings.len(),
        "opened": true,
        "checkpoint": report.checkpoint,
        "tree_pages": report.tree_pages,
        "overflow_pages": report.overflow_pages,
        "blob_runs": report.blob_runs,
        "map_nodes": report.map_nodes,
        "entries": report.entries,
        "log_commits": report.log_records,
        "bytes_read": report.bytes,
    }))
}
