//! Opening: after a clean close, and after SIGKILL under updates.
//!
//! 1. Measured is the time from the open to the first read, with nothing of the files in the page cache: after a power cut there is
//!    nothing there either.
//! 2. After a recovery everything is read and checked, unmeasured: each entry must be there, with some value that was written to it.

use super::Set;
use super::on_data::OnData;
use crate::cached;
use crate::clock::Sample;
use crate::engine::{Engine, Settings, Spec};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the process that is killed says when it has begun.
pub const STARTED: &str = "started";

/// Opens, reads one entry, closes.
///
/// # Errors
/// Those of the engine, and wrong data.
pub fn reopen(spec: &Spec, settings: &Settings, set: Set) -> Result<(Sample, Box<dyn Engine>)> {
    cached::drop_files(&settings.dir)?;
    settings.touch_memory()?;
    let start = Instant::now();
    let engine = (spec.open)(settings)?;
    OnData::new(&*engine, set, 0)?.look(set.n / 2)?;
    let elapsed = start.elapsed();
    let mut sample = Sample { elapsed, complete: true, ..Sample::empty()? };
    sample.add(set.amount(1), elapsed, elapsed);
    sample.steps.clear();
    Ok((sample, engine))
}

/// Lets `victim`, a process that updates the data and says when it has begun, work for `time`, and kills it; then as [`reopen`].
///
/// # Errors
/// As [`reopen`]; that the process ended before it was killed.
pub fn recover(spec: &Spec, settings: &Settings, set: Set, victim: Command, time: Duration) -> Result<(Sample, Box<dyn Engine>)> {
    kill_at_work(victim, time)?;
    let (sample, engine) = reopen(spec, settings, set)?;
    OnData::new(&*engine, set, 0)?.scan(0, set.n).context("after the recovery")?;
    Ok((sample, engine))
}

fn kill_at_work(mut victim: Command, time: Duration) -> Result<()> {
    let mut child = victim.stdout(Stdio::piped()).spawn().context("starting the process to be killed")?;
    let outcome = wait_and_see(&mut child, time);
    // It is a SIGKILL.
    child.kill().context("killing it")?;
    child.wait().context("waiting for it")?;
    outcome
}

fn wait_and_see(child: &mut Child, time: Duration) -> Result<()> {
    let Some(stdout) = child.stdout.take() else { bail!("the process to be killed has no output") };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim_end() != STARTED {
        bail!("the process to be killed did not begin");
    }
    std::thread::sleep(time);
    match child.try_wait()? {
        Some(status) => bail!("the process to be killed ended by itself: {status}"),
        None => Ok(()),
    }
}
