//! `ashlar wal`: the log, flush by flush, where it ends and why.

use crate::cli::OpenArgs;
use crate::error::{Error, Outcome, Result};
use crate::files::DatabaseFiles;
use crate::output::{Output, remark};
use crate::units::{bytes, counted};
use ashlar_wal::{FlushInfo, LogEnd, Lsn};
use serde_json::json;
use std::path::PathBuf;

const AFTER: &str = "The database is not opened and nothing is recovered, so this works where an open fails. Positions
(LSN) are bytes in an endless log; replay starts at C, the first that the checkpoint still needs.

Exit status 1: a part of the log that had been confirmed is damaged.";

/// List what is in the log, where it ends and why
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    /// List commits (their records' positions and sizes), too
    #[arg(short, long)]
    commits: bool,
    /// Print only the summary at the end
    #[arg(short, long, conflicts_with = "commits")]
    summary: bool,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let files = DatabaseFiles::open(&args.dir, &args.open)?;
    let found = flushes(args, &files, out)?;
    if args.commits && found.damage.is_none() {
        commits(&files, out)?;
    }
    summary(&files, &found, out)?;
    if let Some(damage) = &found.damage {
        remark(damage);
        return Ok(Outcome::No);
    }
    Ok(Outcome::Done)
}

/// What following the log has shown.
pub(crate) struct Found {
    pub(crate) flushes: u64,
    /// Bytes of headers and records, without padding.
    pub(crate) used: u64,
    /// Where the next flush would begin.
    pub(crate) end: Lsn,
    /// Why it does not, in words.
    pub(crate) why: &'static str,
    /// What is wrong there, if something is.
    pub(crate) damage: Option<String>,
}

/// Follows the log from where replay starts, and tells `each` flush.
pub(crate) fn follow(files: &DatabaseFiles, mut each: impl FnMut(&FlushInfo) -> Result<()>) -> Result<Found> {
    let mut inspection = ashlar_wal::inspect(&files.fs, &files.wal_dir, &files.wal_options, &files.log_start())?;
    let mut found = Found { flushes: 0, used: 0, end: Lsn(0), why: "", damage: None };
    for flush in inspection.by_ref() {
        match flush {
            Ok(flush) => {
                found.flushes += 1;
                found.used += u64::from(flush.length);
                each(&flush)?;
            }
            Err(damage @ ashlar_wal::Error::Corrupted { .. }) => {
                found.damage = Some(damage.to_string());
                found.why = "damaged";
            }
            Err(other) => return Err(other.into()),
        }
    }
    let (end, why) = inspection.end();
    found.end = end;
    found.why = why.map_or(found.why, reason);
    Ok(found)
}

fn reason(why: LogEnd) -> &'static str {
    match why {
        LogEnd::Unwritten => "nothing was ever written behind it",
        LogEnd::Leftover => "what stands behind it is older and of another place",
        LogEnd::Torn => "the flush behind it is not whole and was never confirmed",
        LogEnd::OlderIncarnation(_) => "the flush behind it is left over from before a crash",
        _ => "for a reason unknown here",
    }
}

fn flushes(args: &Args, files: &DatabaseFiles, out: &mut Output) -> Result<Found> {
    let segment = |lsn: Lsn| lsn.0 / files.superblock.segment_size;
    if !args.summary && !out.is_json() {
        out.line(format_args!(
            "{:>14} {:>10} {:>10} {:>11} {:>14}  first record",
            "flush at", "bytes", "segment", "incarnation", "durable"
        ))?;
    }
    follow(files, |flush| {
        if args.summary {
            return Ok(());
        }
        let first = flush.first_record;
        if out.is_json() {
            return out.object(&json!({
                "flush": flush.lsn.0, "bytes": flush.length, "end": flush.end.0, "segment": segment(flush.lsn),
                "incarnation": flush.incarnation, "durable": flush.durable.0, "first_record": first.map(|lsn| lsn.0),
            }));
        }
        let first = first.map_or("none begins in it".into(), |lsn| lsn.to_string());
        let (lsn, segment) = (flush.lsn.0, segment(flush.lsn));
        out.line(format_args!(
            "{lsn:>14} {:>10} {segment:>10} {:>11} {:>14}  {first}",
            flush.length, flush.incarnation, flush.durable.0
        ))
    })
}

fn commits(files: &DatabaseFiles, out: &mut Output) -> Result<()> {
    let scan = ashlar_wal::read_log(&files.fs, &files.wal_dir, &files.wal_options, &files.log_start())?;
    if !out.is_json() {
        out.line(format_args!("{:>14} {:>14} {:>10}", "commit", "begins at", "bytes"))?;
    }
    for record in scan.records()? {
        let record = record?;
        let (lsn, start, len) = (record.lsn.0, record.start.0, record.body.len());
        let in_checkpoint = lsn <= files.superblock.last_commit;
        if out.is_json() {
            out.object(&json!({ "commit": lsn, "start": start, "bytes": len, "in_checkpoint": in_checkpoint }))?;
        } else {
            let note = if in_checkpoint { "  in the checkpoint" } else { "" };
            out.line(format_args!("{lsn:>14} {start:>14} {len:>10}{note}"))?;
        }
    }
    Ok(())
}

fn summary(files: &DatabaseFiles, found: &Found, out: &mut Output) -> Result<(), Error> {
    let s = &files.superblock;
    let (segments, segment_bytes) = files.segments()?;
    if out.is_json() {
        return out.object(&json!({
            "start": s.replay_from, "end": found.end.0, "why": found.why, "damage": found.damage, "flushes": found.flushes,
            "bytes": found.used, "last_commit_in_checkpoint": s.last_commit, "segments": segments, "segment_bytes": segment_bytes,
            "incarnation": s.incarnation, "closed": s.clean, "directory": files.wal_dir.display().to_string(),
        }));
    }
    let flushes = counted(found.flushes, "flush", "flushes");
    out.line(format_args!("{flushes} from {} (C) to {}, {} without padding", s.replay_from, found.end, bytes(found.used)))?;
    out.line(format_args!("the checkpoint holds all commits up to {}", s.last_commit))?;
    let segments = counted(segments, "segment", "segments");
    out.line(format_args!("{segments} in {}, {}", files.wal_dir.display(), bytes(segment_bytes)))?;
    if s.clean {
        out.line(format_args!("the database was closed with nothing in the log from C on"))?;
    }
    out.line(format_args!("the log ends at {}: {}", found.end, found.why))
}
