//! `ashlar salvage`: what can be read of a damaged database, into a new one.

use crate::bytes::to_hex;
use crate::cli::{OpenArgs, page_size};
use crate::error::{Outcome, Result};
use crate::output::Output;
use crate::progress::Progress;
use crate::units::{bytes, count, counted};
use ashlardb::salvage::{Event, Evidence, Finding, KeyspaceReport, Report, Salvage, Stage, SuperblockState};
use serde_json::{Value, json};
use std::path::PathBuf;

const AFTER: &str = "The damaged database is only read, under the lock of a reader. What is whole of it is brought over, whatever
else is missing: superblocks, nodes of the page map, pages of trees, parts of the log, blocks that
can't be read. Each finding is printed when it is made: what was damaged, which keys are lost, which
may be older than they were. Large values need the page map: without it those that the log does not
name are lost. See docs/salvage.md.

With --json: an object for each finding, then one with the totals.

Exit status 0: all is there as it was confirmed last; 1: something was damaged, is lost or in doubt;
2: it could not run, or not to its end. The new database is not finished then: remove it.";

/// Bring over what can be read of a damaged database into a new one
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The damaged database's directory
    dir: PathBuf,
    /// The new database's directory: not there yet, or empty
    #[arg(long, value_name = "NEW")]
    into: PathBuf,
    /// Bytes of the damaged database's pages, where no superblock and no page is left that says so
    #[arg(long, value_name = "BYTES", value_parser = page_size)]
    page_size: Option<usize>,
    /// Where the damaged database's log is [default: where its superblock says, or DIR/wal]
    #[arg(long, value_name = "PATH")]
    damaged_wal_dir: Option<PathBuf>,
    /// Directory for the log of the new database [default: NEW/wal]
    #[arg(long, value_name = "PATH")]
    wal_dir: Option<PathBuf>,
    /// Apply commits behind a gap in the log, too: more comes back, but not as of one moment
    #[arg(long)]
    past_gaps: bool,
    #[command(flatten)]
    open: OpenArgs,
}

impl Args {
    fn salvage(&self) -> Salvage {
        let options = self.open.options();
        let mut salvage = Salvage::new(match &self.wal_dir {
            Some(dir) => options.wal_dir(dir),
            None => options,
        });
        if let Some(bytes) = self.page_size {
            salvage = salvage.page_size(bytes);
        }
        if let Some(dir) = &self.damaged_wal_dir {
            salvage = salvage.damaged_wal_dir(dir);
        }
        salvage.past_gaps(self.past_gaps)
    }
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let mut bars = Bars::new(out);
    // What can't be printed any more ends nothing: it is told afterwards.
    let mut printed = Ok(());
    let report = args.salvage().run_with(&args.dir, &args.into, |event| match event {
        Event::Progress(progress) => bars.reach(&progress),
        Event::Finding(finding) if printed.is_ok() => printed = show(finding, out),
        _ => {}
    })?;
    drop(bars);
    printed?;
    match out.is_json() {
        true => out.object(&totals(&report))?,
        false => summary(&report, out)?,
    }
    Ok(if report.is_whole() { Outcome::Done } else { Outcome::No })
}

/// A bar for each stage.
struct Bars {
    looking: Option<Progress>,
    building: Option<Progress>,
}

impl Bars {
    fn new(out: &Output) -> Bars {
        let bar = |label| Some(Progress::new(out, label, None));
        Bars { looking: bar("looking for pages"), building: bar("building") }
    }

    fn reach(&mut self, progress: &ashlardb::salvage::Progress) {
        let bar = match progress.stage {
            Stage::Looking => &mut self.looking,
            _ => {
                self.looking = None;
                &mut self.building
            }
        };
        if let Some(bar) = bar {
            bar.at(progress.done, progress.total);
        }
    }
}

fn show(finding: &Finding, out: &mut Output) -> Result<()> {
    if !out.is_json() {
        return out.line(finding);
    }
    let text = |key: &[u8]| match std::str::from_utf8(key) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "hex": to_hex(key) }),
    };
    let range = finding.range.as_ref().map(|(from, to)| json!({ "from": text(from), "to": to.as_deref().map(text) }));
    out.object(&json!({
        "finding": finding.kind.name(),
        "what": finding.what,
        "file": finding.file.as_ref().map(|file| file.display().to_string()),
        "block": finding.blocks.map(|(block, _)| block),
        "blocks": finding.blocks.map(|(_, count)| count),
        "page": finding.page,
        "tree": finding.tree,
        "keyspace": finding.keyspace,
        "key": finding.key.as_deref().map(text),
        "length": finding.len,
        "keys": range,
    }))
}

fn evidence(report: &Report) -> &'static str {
    match report.evidence {
        Evidence::Map => "page map",
        Evidence::MapInPart => "page map in part",
        _ => "scan",
    }
}

fn superblock(report: &Report) -> &'static str {
    match report.superblock {
        SuperblockState::Known => "known",
        SuperblockState::MaybeOlder => "maybe older",
        _ => "lost",
    }
}

fn totals(report: &Report) -> Value {
    let keyspace = |keyspace: &KeyspaceReport| {
        json!({
            "keyspace": keyspace.name, "tree": keyspace.tree, "made_up": keyspace.made_up, "entries": keyspace.entries,
            "older": keyspace.older, "in_checkpoint": keyspace.in_checkpoint, "values_lost": keyspace.values_lost,
            "ranges_lost": keyspace.ranges_lost,
        })
    };
    json!({
        "whole": report.is_whole(),
        "findings": report.findings_total,
        "entries": report.entries(),
        "keyspaces": report.keyspaces.iter().map(keyspace).collect::<Vec<_>>(),
        "evidence": evidence(report),
        "superblock": superblock(report),
        "checkpoint": report.checkpoint,
        "checkpoint_lsn": report.checkpoint_lsn,
        "page_size": report.page_size,
        "block_size": report.block_size,
        "data_bytes": report.data_bytes,
        "blocks_unreadable": report.blocks_unreadable,
        "leaves": report.leaves,
        "log": {
            "applied": report.log.applied, "left_out": report.log.left_out, "last": report.log.last, "gaps": report.log.gaps,
        },
        "doubts": report.doubts,
    })
}

fn summary(report: &Report, out: &mut Output) -> Result<()> {
    out.line(format_args!("data: {}, pages of {}", bytes(report.data_bytes), bytes(report.page_size as u64)))?;
    for keyspace in &report.keyspaces {
        let mut line = format!("keyspace {}: {}", keyspace.name, counted(keyspace.entries, "entry", "entries"));
        if let Some(before) = keyspace.in_checkpoint {
            line += &format!(" (the checkpoint had {})", count(before));
        }
        for (number, one, many) in [
            (keyspace.values_lost, "lost by its value", "lost by their values"),
            (keyspace.ranges_lost, "stretch of keys lost", "stretches of keys lost"),
            (keyspace.older, "from an older image", "from older images"),
        ] {
            if number > 0 {
                line += &format!(", {}", counted(number, one, many));
            }
        }
        out.line(line)?;
    }
    for doubt in &report.doubts {
        out.line(format_args!("in doubt: {doubt}"))?;
    }
    out.line(report)
}
