//! Runs rows one after the other, each in a process of its own: engines in turns, resumable.
//!
//! ```text
//!   for each row of the matrix          data/      data sets (stage), the file of fio
//!     for each repeat                   results/   a record a row:     <row>-<engine>-r<repeat>.json
//!       fio, each engine, fio                      of what fio gave:   <row>-fio-r<repeat>-<before|after>.json
//! ```
//!
//! A record that is there is not made again. A row that fails has a record of that, and is not tried again unless that is asked for.

use crate::engines;
use crate::fio;
use crate::matrix::{self, Choice, Spot};
use crate::row::{self, Loaded, Plan, Profile};
use crate::stage;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Seconds that a row may take beside what it runs: opening, checking, closing.
const GRACE: f64 = 900.0;

/// The record of a row that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Which.
    pub plan: Plan,
    /// Which of several runs of the same.
    pub repeat: u32,
    /// Why.
    pub failed: String,
}

/// Measures rows, those that have no record yet.
///
/// # Errors
/// A data set can't be loaded or a record not be written. Rows that fail are told of, and the others measured.
pub fn run(choice: &Choice, profile: Profile, spots: &[Spot], is_quick: bool) -> Result<()> {
    let (data, results) = (choice.dir.join("data"), choice.dir.join("results"));
    for dir in [&data, &results] {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let engines = choice.engines()?;
    let start = Instant::now();
    for (at, &spot) in spots.iter().enumerate() {
        let name = matrix::spot_name(profile, spot);
        eprintln!("[{}/{}, {:.0} s] {name}", at + 1, spots.len(), start.elapsed().as_secs_f64());
        for repeat in 1..=choice.repeats {
            let plans: Vec<Plan> = engines
                .iter()
                .map(|engine| choice.plan(engine, profile, spot, is_quick))
                .filter(|plan| is_due(plan, &record_path(&results, &name, &plan.engine, repeat), choice.retry_failed))
                .collect();
            if plans.is_empty() {
                continue;
            }
            let seconds = if is_quick { 1.0 } else { 3.0 };
            let device = |when: &str| -> Result<()> {
                if choice.no_fio || fio::Job::of(profile, spot.workload, spot.threads).is_empty() {
                    return Ok(());
                }
                let device = fio::measure(profile, spot.workload, spot.threads, repeat, seconds, &data);
                if let Some(why) = &device.missing {
                    eprintln!("  fio: {why}");
                }
                row::write(&results.join(format!("{name}-fio-r{repeat}-{when}.json")), &device)
            };
            device("before")?;
            for plan in &plans {
                let record = record_path(&results, &name, &plan.engine, repeat);
                row_in_process(plan, repeat, &data, &record)?;
            }
            device("after")?;
        }
    }
    Ok(())
}

fn record_path(results: &Path, name: &str, engine: &str, repeat: u32) -> PathBuf {
    results.join(format!("{name}-{engine}-r{repeat}.json"))
}

/// Whether a row has yet to be measured.
fn is_due(plan: &Plan, record: &Path, retry_failed: bool) -> bool {
    let lacks = engines::find(&plan.engine).map_or(Some("is not known"), |spec| plan.workload.lacks(spec));
    let failed = || std::fs::read(record).is_ok_and(|text| serde_json::from_slice::<Failure>(&text).is_ok());
    lacks.is_none() && (!record.exists() || (retry_failed && failed()))
}

fn row_in_process(plan: &Plan, repeat: u32, data: &Path, record: &Path) -> Result<()> {
    let stage = match stage::prepare(plan, data, |dir| load(plan, dir)) {
        Ok(stage) => stage,
        Err(error) => return fail(plan, repeat, record, format!("{error:#}")),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").args(arguments(plan)).arg("--dir").arg(stage.dir()).arg("--json").arg(record);
    command.args(["--repeat", &repeat.to_string()]);
    let limit = plan.seconds * 2.0 + if plan.workload.is_load() { plan.load_limit } else { 0.0 } + GRACE;
    match wait(command, Duration::from_secs_f64(limit))? {
        None => {
            let row = row::read(record)?;
            let (value, unit) = crate::report::figure(&row);
            eprintln!("  r{repeat} {:12} {} {unit}", plan.engine, crate::report::count(value));
            stage.leave()
        }
        Some(why) => fail(plan, repeat, record, why),
    }
}

fn fail(plan: &Plan, repeat: u32, record: &Path, failed: String) -> Result<()> {
    eprintln!("  r{repeat} {:12} failed: {failed}", plan.engine);
    row::write(record, &Failure { plan: plan.clone(), repeat, failed })
}

/// Loads a data set, in a process of its own.
///
/// # Errors
/// It fails.
pub fn load(plan: &Plan, dir: &Path) -> Result<()> {
    let start = Instant::now();
    let of = engines::find(&plan.engine)?.data_of().to_owned();
    let plan = Plan { engine: of, ..plan.clone() };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load").args(arguments(&plan)).arg("--dir").arg(dir);
    match wait(command, Duration::from_secs(4 * 3600))? {
        None => {
            eprintln!("  loaded {} for {} in {:.1} s", plan.n, plan.engine, start.elapsed().as_secs_f64());
            Ok(())
        }
        Some(why) => bail!("{why}"),
    }
}

/// Runs a process to its end; why it failed, if it did.
fn wait(mut command: Command, limit: Duration) -> Result<Option<String>> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting a process")?;
    // Read meanwhile: one that says much would wait for a reader.
    let Some(mut stderr) = child.stderr.take() else { bail!("a process has no standard error") };
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What could be read is what there is to tell.
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = match wait_until(&mut child, start + limit)? {
        Some(status) => status,
        None => {
            child.kill().context("ending a process")?;
            child.wait().context("ending a process")?;
            return Ok(Some(format!("it took longer than {:.0} s", limit.as_secs_f64())));
        }
    };
    let text = reader.join().unwrap_or_default();
    Ok((!status.success()).then(|| why(status, &text)))
}

fn wait_until(child: &mut Child, end: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("waiting for a process")? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn why(status: ExitStatus, stderr: &str) -> String {
    use std::os::unix::process::ExitStatusExt;
    let last: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).rev().take(3).collect();
    let said = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
    match status.signal() {
        Some(libc::SIGKILL) => format!("it was killed: probably it needed more memory than allowed; {said}"),
        _ => format!("{status}: {said}"),
    }
}

/// Command-line arguments that mean a plan.
pub fn arguments(plan: &Plan) -> Vec<String> {
    let loaded = if plan.loaded == Loaded::Bulk { "bulk" } else { "rand" };
    let profile = plan.profile.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    add("engine", plan.engine.clone());
    add("workload", plan.workload.name());
    add("profile", profile);
    add("n", plan.n.to_string());
    add("threads", plan.threads.to_string());
    add("seconds", plan.seconds.to_string());
    add("value-size", plan.value_size.to_string());
    add("blobs", plan.blobs.to_string());
    add("loaded", loaded.to_owned());
    add("load-limit", plan.load_limit.to_string());
    if let Some(mib) = plan.cache_mb {
        add("cache-mb", mib.to_string());
    }
    if let Some(mib) = plan.limit_mb {
        add("limit-mb", mib.to_string());
    }
    arguments
}

/// What a measured row needs, checked before hours pass: that a memory cgroup can be had.
///
/// # Errors
/// It can't.
pub fn check_profile(profile: Profile) -> Result<()> {
    if profile == Profile::Disk {
        let group = crate::memcg::enter(1 << 40).context("the disk profile can't be measured here")?;
        ensure!(group.peak_bytes().is_some() || cfg!(target_os = "linux"), "the memory cgroup tells nothing");
    }
    Ok(())
}
