//! `ashlar verify`: whether everything is as it was written.

use crate::cli::OpenArgs;
use crate::error::{Error, Outcome, Result};
use crate::open;
use crate::output::Output;
use crate::progress::{Progress, Spinner};
use ashlardb::Database;
use ashlardb::verify::{Depth, Finding, Report};
use serde_json::json;
use std::path::PathBuf;

const AFTER: &str = "Reads and checks all that the last durable checkpoint names, from the device: superblocks, page
map, every page and large value, the order of keys, that each block has one owner, and the log.
Writes nothing.

--quick checks what needs no walk over the trees: the superblocks, the page map whole, and with it
that each block has one owner, and the log. It reads no page of a tree and no value, but for those
that the open needs: damage in the others is not found.

With --json: an object for each finding, then one with the totals.

Exit status 1: something was found.";

/// Check everything, and list every finding
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    /// Check superblocks, page map and log only, no trees and values
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let db = match open::for_reading(&args.dir, &args.open, out) {
        Ok(db) => db,
        // Damage that an open meets is a finding like any other, though it hides the rest.
        Err(Error::Engine(error)) if is_damage(&error) => return unopened(args, &error, out),
        Err(other) => return Err(other),
    };
    let report = examine(&db, args, out)?;
    for finding in &report.findings {
        show(finding, out)?;
    }
    totals(&report, out)?;
    Ok(if report.is_clean() { Outcome::Done } else { Outcome::No })
}

fn examine(db: &Database, args: &Args, out: &Output) -> Result<Report> {
    let mut spinner = Some(Spinner::start(out, format!("verifying {}", args.dir.display()))?);
    if args.quick {
        return Ok(db.verify_quick()?);
    }
    let mut progress = Progress::new(out, "verifying", None);
    let report = db.verify_with(|walk| {
        // The bar takes its place once it is known how much there is.
        drop(spinner.take());
        progress.reach(walk);
    });
    Ok(report?)
}

fn is_damage(error: &ashlardb::Error) -> bool {
    use ashlardb::Error::{Corrupt, WalCorrupted};
    matches!(error, Corrupt(_) | WalCorrupted { .. })
}

fn unopened(args: &Args, error: &ashlardb::Error, out: &mut Output) -> Result<Outcome> {
    let what = error.to_string();
    if out.is_json() {
        out.object(&json!({ "finding": what, "file": null, "block": null, "page": null, "keyspace": null }))?;
        out.object(&json!({ "findings": 1, "opened": false, "quick": args.quick }))?;
    } else {
        out.line(what)?;
        out.line("the database can't be opened with this damage, so nothing else was checked")?;
    }
    Ok(Outcome::No)
}

fn show(finding: &Finding, out: &mut Output) -> Result<()> {
    match out.is_json() {
        true => out.object(&json!({
            "finding": finding.what,
            "file": finding.file.to_string_lossy(),
            "block": finding.block,
            "page": finding.page,
            "keyspace": finding.keyspace,
        })),
        false => out.line(finding),
    }
}

fn totals(report: &Report, out: &mut Output) -> Result<()> {
    if !out.is_json() {
        return out.line(report);
    }
    let quick = report.depth == Depth::Quick;
    // What was not looked at is not zero.
    let read = |n: u64| (!quick).then_some(n);
    out.object(&json!({
        "findings": report.findings.len(),
        "opened": true,
        "quick": quick,
        "checkpoint": report.checkpoint,
        "mapped_pages": report.mapped_pages,
        "logged_pages": report.logged_pages,
        "unreached": read(report.unreached),
        "map_nodes": report.map_nodes,
        "tree_pages": read(report.tree_pages),
        "overflow_pages": read(report.overflow_pages),
        "blob_runs": read(report.blob_runs),
        "entries": read(report.entries),
        "stranded": read(report.stranded),
        "entries_hidden": (!quick).then_some(report.entries_hidden),
        "log_commits": report.log_records,
        "bytes_read": report.bytes,
    }))
}
