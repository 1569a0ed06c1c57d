//! `ashlar probe`: what direct I/O can do at a path.

use crate::error::{Outcome, Result};
use crate::output::Output;
use crate::units;
use ashlar_disk::real::probe::{DirectIo, Probe, probe};
use ashlar_disk::real::{FoundBy, SyncMethod};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Find out what direct I/O can do at a path
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Leaves nothing behind; takes up to half a second.\n\nExit status 1: a database can't be made there as it is."
)]
pub(crate) struct Args {
    /// A directory in which a database may be made; or a file or block device, which is only read
    path: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let probe = probe(&args.path)?;
    if out.is_json() {
        out.object(&object(&probe))?;
    } else {
        lines(&probe).into_iter().try_for_each(|(name, text)| out.line(format_args!("{name:<16}{text}")))?;
    }
    Ok(if probe.is_usable() { Outcome::Done } else { Outcome::No })
}

fn lines(p: &Probe) -> Vec<(&'static str, String)> {
    let network = if p.network { " (of a network: refused unless allowed)" } else { "" };
    let mut lines = vec![
        ("path", p.path.display().to_string()),
        ("kernel", p.kernel.clone()),
        ("file system", format!("{}, {}{network}", p.filesystem, units::bytes(p.capacity))),
    ];
    match &p.direct {
        Ok(direct) => lines.extend(direct_lines(direct)),
        Err(error) => lines.push(("direct I/O", format!("no: {error}"))),
    }
    lines.push(("io_uring", p.io_uring.as_ref().map_or_else(|e| format!("no, threads do its work: {e}"), |()| "yes".into())));
    let locked = p.locked_memory_max.map_or_else(|| "no limit".into(), units::bytes);
    lines.push(("locked memory", format!("{locked} (what io_uring may register)")));
    lines.push(("cachestat", if p.cachestat { "yes" } else { "no: page-cache residue can't be counted" }.into()));
    let atomic = p.atomic_writes.map(|a| format!("{} to {}", units::bytes(a.min.into()), units::bytes(a.max.into())));
    lines.push(("atomic writes", atomic.unwrap_or_else(|| "not told (not needed)".into())));
    match &p.sync_costs {
        Ok(costs) => {
            let (dsync, fdatasync) = (units::time(costs.dsync), units::time(costs.fdatasync));
            lines.push((
                "durable write",
                format!("RWF_DSYNC {dsync}, write and fdatasync {fdatasync}: {}", method_name(costs.best())),
            ));
        }
        Err(error) => lines.push(("durable write", format!("not measured: {error}"))),
    }
    lines.push(("verdict", verdict(p).into()));
    lines
}

fn direct_lines(direct: &DirectIo) -> Vec<(&'static str, String)> {
    let (memory, offset) = (direct.alignment.memory, direct.alignment.offset);
    let seen = if direct.seen_uncached { "seen to leave nothing in the page cache" } else { "trusted: this kernel can't tell" };
    vec![
        ("direct I/O", format!("yes, {seen}")),
        ("alignment", format!("{offset} bytes for offsets and lengths, {memory} for memory ({})", found_by(direct.found_by))),
    ]
}

fn found_by(how: FoundBy) -> &'static str {
    match how {
        FoundBy::Statx => "the file system says so: STATX_DIOALIGN",
        FoundBy::Device => "the block device says so: BLKSSZGET",
        FoundBy::Reads => "by trying reads",
        FoundBy::Assumed => "assumed: the file is too short to try",
    }
}

fn method_name(method: SyncMethod) -> &'static str {
    match method {
        SyncMethod::Dsync => "RWF_DSYNC",
        SyncMethod::Fdatasync => "fdatasync",
    }
}

fn verdict(p: &Probe) -> &'static str {
    match (&p.direct, p.network) {
        (Ok(_), false) => "a database can be made here",
        (Ok(_), true) => "a database can be made here with --allow-network-fs",
        (Err(_), _) => "a database can be made here only with --buffered, through the page cache",
    }
}

fn object(p: &Probe) -> Value {
    let direct = p.direct.as_ref();
    json!({
        "path": p.path.display().to_string(),
        "kernel": p.kernel,
        "filesystem": p.filesystem,
        "network": p.network,
        "capacity": p.capacity,
        "direct_io": direct.is_ok(),
        "direct_io_error": direct.err().map(ToString::to_string),
        "alignment_offset": direct.ok().map(|d| d.alignment.offset),
        "alignment_memory": direct.ok().map(|d| d.alignment.memory),
        "alignment_found_by": direct.ok().map(|d| format!("{:?}", d.found_by).to_lowercase()),
        "seen_uncached": direct.ok().map(|d| d.seen_uncached),
        "io_uring": p.io_uring.is_ok(),
        "io_uring_error": p.io_uring.as_ref().err().map(ToString::to_string),
        "locked_memory_max": p.locked_memory_max,
        "cachestat": p.cachestat,
        "atomic_write_min": p.atomic_writes.map(|a| a.min),
        "atomic_write_max": p.atomic_writes.map(|a| a.max),
        "dsync_us": p.sync_costs.as_ref().ok().map(|c| c.dsync.as_micros() as u64),
        "fdatasync_us": p.sync_costs.as_ref().ok().map(|c| c.fdatasync.as_micros() as u64),
        "sync_method": p.sync_method().map(method_name),
        "usable": p.is_usable(),
        "verdict": verdict(p),
    })
}
