//! What the device gives, as `fio` measures it in a file on the same file system, just before and after the rows that are compared with
//! it.

use crate::row::Profile;
use crate::workload::Workload;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a page of Ashlar's, by default.
const PAGE: &str = "8k";
/// Bytes of the file that is read and written.
const FILE_BYTES: u64 = 1 << 30;

/// A measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Random reads of a page, so many in flight
    RandomRead(u32),
    /// Reads in order, 1 MiB each, 8 in flight
    SequentialRead,
    /// Writes in order, 1 MiB each, 8 in flight
    SequentialWrite,
    /// Durable writes of 4 KiB, one at a time in each of so many jobs
    DurableWrite(u32),
    /// Random reads of a page, so many in flight, beside merged writes of 256 KiB at 250 MB/s
    ReadBesideWrites(u32),
}

/// What a job gave.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Which.
    pub job: Job,
    /// Operations a second.
    pub iops: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
    /// The mean latency in nanoseconds.
    pub mean_ns: f64,
}

/// What was measured around a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Device {
    /// The row's profile.
    pub profile: Profile,
    /// The row's workload.
    pub workload: Workload,
    /// The row's threads.
    pub threads: u32,
    /// The row's repeat.
    pub repeat: u32,
    /// What was measured; empty where there is no `fio`.
    pub figures: Vec<Figure>,
    /// Why there is nothing.
    pub missing: Option<String>,
}

impl Job {
    /// Those that belong to a row; the first is the one that it is compared with.
    pub fn of(profile: Profile, workload: Workload, threads: u32) -> Vec<Job> {
        use Workload::*;
        let disk = profile == Profile::Disk;
        match workload {
            PutSync => vec![Job::DurableWrite(threads)],
            LoadSeq | LoadRand | BulkLoad | BlobPut => vec![Job::SequentialWrite],
            GetRand | GetZipf | Scan100 | YcsbC if disk => vec![Job::RandomRead(threads), Job::RandomRead(64)],
            GetMany if disk => vec![Job::RandomRead(64)],
            ScanFull if disk => vec![Job::SequentialRead, Job::RandomRead(32)],
            BlobGet if disk => vec![Job::SequentialRead],
            UpdateRand | YcsbA | YcsbF if disk => vec![Job::ReadBesideWrites(threads.max(32))],
            _ => Vec::new(),
        }
    }

    /// In a few words.
    pub fn words(self) -> String {
        match self {
            Job::RandomRead(depth) => format!("random reads of {PAGE}, depth {depth}"),
            Job::SequentialRead => "sequential reads".into(),
            Job::SequentialWrite => "sequential writes".into(),
            Job::DurableWrite(jobs) => format!("durable 4k writes, {jobs} jobs"),
            Job::ReadBesideWrites(depth) => format!("random reads of {PAGE}, depth {depth}, beside 250 MB/s of merged writes"),
        }
    }

    /// Whether its figure is bytes a second, not operations.
    pub fn counts_bytes(self) -> bool {
        matches!(self, Job::SequentialRead | Job::SequentialWrite)
    }

    /// Sections of a job file, the measured one first.
    fn sections(self) -> Vec<String> {
        let section = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        match self {
            Job::RandomRead(depth) => vec![section(&["rw=randread", &format!("bs={PAGE}"), &format!("iodepth={depth}")])],
            Job::SequentialRead => vec![section(&["rw=read", "bs=1m", "iodepth=8"])],
            Job::SequentialWrite => vec![section(&["rw=write", "bs=1m", "iodepth=8"])],
            Job::DurableWrite(jobs) => {
                let jobs = format!("numjobs={jobs}");
                vec![section(&["rw=write", "bs=4k", "ioengine=psync", "sync=dsync", "size=64m", "offset_increment=64m", &jobs])]
            }
            Job::ReadBesideWrites(depth) => vec![
                section(&["rw=randread", &format!("bs={PAGE}"), &format!("iodepth={depth}")]),
                section(&["rw=randwrite", "bs=256k", "iodepth=4", "rate=250m"]),
            ],
        }
    }
}

/// Runs the jobs of a row for `seconds` each, in a file in `dir`.
pub fn measure(profile: Profile, workload: Workload, threads: u32, repeat: u32, seconds: f64, dir: &Path) -> Device {
    let mut device = Device { profile, workload, threads, repeat, figures: Vec::new(), missing: None };
    for job in Job::of(profile, workload, threads) {
        match run(job, seconds, dir) {
            Ok(figure) => device.figures.push(figure),
            Err(error) => {
                device.missing = Some(format!("{error:#}"));
                break;
            }
        }
    }
    device
}

fn run(job: Job, seconds: f64, dir: &Path) -> Result<Figure> {
    let file = dir.join("fio.tmp");
    lay_out(&file)?;
    let mut tried = None;
    // Which of them there is depends on how it was built and on what the kernel allows.
    for engine in ["io_uring", "libaio"] {
        match run_with(job, engine, seconds, &file) {
            Ok(figure) => return Ok(figure),
            Err(error) => tried = Some(error),
        }
    }
    tried.map_or_else(|| bail!("no engine of fio was tried"), Err)
}

/// The file is written once as a whole: reads of what was never written touch no device.
fn lay_out(file: &Path) -> Result<()> {
    if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() == FILE_BYTES) {
        return Ok(());
    }
    let text = format!("[layout]\nfilename={}\nsize={FILE_BYTES}\nrw=write\nbs=1m\ndirect=1\nend_fsync=1\n", file.display());
    call(&text, file).map(drop)
}

fn run_with(job: Job, engine: &str, seconds: f64, file: &Path) -> Result<Figure> {
    let mut text = format!(
        "[global]\nfilename={}\nsize={FILE_BYTES}\ndirect=1\nioengine={engine}\nruntime={seconds}\ntime_based=1\n\
         randrepeat=0\nnorandommap=1\ngroup_reporting=1\noverwrite=1\nfallocate=none\n",
        file.display()
    );
    for (at, section) in job.sections().iter().enumerate() {
        text.push_str(&format!("[job{at}]\nnew_group=1\n{section}"));
    }
    let output = call(&text, file)?;
    figure_of(job, &output)
}

fn call(text: &str, file: &Path) -> Result<Value> {
    let jobs: PathBuf = file.with_extension("fio");
    std::fs::write(&jobs, text).with_context(|| format!("writing {}", jobs.display()))?;
    let output = Command::new("fio").arg("--output-format=json").arg(&jobs).output();
    let output = output.context("fio can't be run (install it to have the device's figures)")?;
    std::fs::remove_file(&jobs)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fio failed: {}", errors.lines().next().unwrap_or("no reason given"));
    // Warnings may stand before the object.
    let start = output.stdout.iter().position(|&byte| byte == b'{').context("fio gave no JSON")?;
    serde_json::from_slice(&output.stdout[start..]).context("fio's JSON")
}

fn figure_of(job: Job, output: &Value) -> Result<Figure> {
    let direction = match job {
        Job::RandomRead(_) | Job::SequentialRead | Job::ReadBesideWrites(_) => "read",
        Job::SequentialWrite | Job::DurableWrite(_) => "write",
    };
    let part = &output["jobs"][0][direction];
    let number = |value: &Value| value.as_f64().context("a figure is missing in fio's output");
    Ok(Figure {
        job,
        iops: number(&part["iops"])?,
        bytes_per_s: number(&part["bw_bytes"])?,
        mean_ns: number(&part["clat_ns"]["mean"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        let text = r#"{"jobs":[{"read":{"iops":0.0,"bw_bytes":0,"clat_ns":{"mean":0.0}},
            "write":{"iops":10000.5,"bw_bytes":40962048,"clat_ns":{"mean":98000.5}}}]}"#;
        let output: Value = serde_json::from_str(text).unwrap();
        let figure = figure_of(Job::DurableWrite(1), &output).unwrap();
        assert_eq!((figure.iops, figure.bytes_per_s, figure.mean_ns), (10000.5, 40962048.0, 98000.5));
        assert!(figure_of(Job::DurableWrite(1), &Value::Null).is_err());
    }

    #[test]
    fn rows_in_memory_are_not_compared_with_reads() {
        assert!(Job::of(Profile::Mem, Workload::GetRand, 1).is_empty());
        assert_eq!(Job::of(Profile::Disk, Workload::GetRand, 8)[0], Job::RandomRead(8));
        assert_eq!(Job::of(Profile::Mem, Workload::PutSync, 8), [Job::DurableWrite(8)]);
    }
}
