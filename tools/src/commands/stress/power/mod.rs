//! `ashlar stress power`: the power is cut under a real file system.
//!
//! 1. A recording: a small file system in user space serves a disk ([`server`]); a loop device stands on it, a real file system on that,
//!    and a database works there for a few lives, some of them killed ([`record`]). Every write and every flush of the disk is recorded,
//!    and between them, in the one order in which they were served, what the process at work tells of its commits.
//! 2. Crash images: everything up to the last flush before some moment, and some of what came after it ([`crash`]).
//! 3. Each is mounted, which lets the file system replay its own journal, opened, and compared with what had been told up to the moment
//!    of the cut ([`examine`]).
//!
//! It all happens in a mount namespace of its own ([`place`]), and leaves nothing behind, however it ends.

mod crash;
mod examine;
mod image;
mod loops;
mod needs;
mod place;
mod record;
mod recording;
mod server;

use super::plan::Lie;
use crate::error::{Error, Outcome, Result};
use crate::output::{Output, remark};
use crate::progress::Progress;
use ashlar_tests::lying;
use examine::{Failure, Tally};
use needs::FileSystem;
use place::Scene;
use record::{Recorded, Spec, Start};
use serde_json::json;
use server::Server;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const AFTER: &str = "Needs root, /dev/fuse, loop devices and the file system's mkfs. Mounts are made in a mount namespace of
its own, over DIR, whose content stays as it is; nothing is left behind, however this ends.
Of a failure, image and journal are kept in DIR; --again checks such an image again.

With --json: one object at the end.

Exit status 1: a crash image is wrong. 2: this can't be done here.";

/// Cut the power under a real file system, and check what is left on the disk
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// A directory to work in
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The file system
    #[arg(long, value_name = "NAME", default_value = "ext4")]
    fs: FileSystem,
    /// Crash images
    #[arg(long, value_name = "N", default_value_t = 100)]
    images: usize,
    /// Crash images of one recording
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    each: u64,
    /// Decides all that is drawn
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Check an image again that a failure has kept
    #[arg(long, value_name = "KEPT")]
    again: Option<PathBuf>,
    /// Test of the test: something that lies, and must be found
    #[arg(long, hide = true)]
    lie: Option<Liar>,
}

/// Who lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Liar {
    /// The process at work confirms as `Immediate` what is not.
    NoSync,
    /// The engine does not make its log's writes durable.
    NoLogSync,
    /// The engine does not sync `data`.
    NoDataSync,
    /// The disk confirms flushes and does none of the last.
    DeafDisk,
}

/// Flushes that a deaf disk has not done yet.
const DEAF: usize = 40;

impl Liar {
    /// What the process at work does.
    fn at_work(self) -> Option<Lie> {
        match self {
            Liar::NoSync => Some(Lie::Confirms),
            Liar::NoLogSync => Some(Lie::LeavesOut(lying::Lie::LogWrite)),
            Liar::NoDataSync => Some(Lie::LeavesOut(lying::Lie::DataSyncs)),
            Liar::DeafDisk => None,
        }
    }
}

/// Runs it.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    needs::check_dir(&args.dir)?;
    if let Some(kept) = &args.again {
        return examine::again(kept, &args.dir, out);
    }
    demand(args.fs)?;
    let begin = Instant::now();
    let scene = Scene::new(&args.dir)?;
    let server = Server::start(&scene.dir("served")?).map_err(|e| Error::file("serving a disk in", &args.dir, e))?;
    let mut progress = Progress::new(out, "cutting the power", Some(args.images as u64));
    let mut tally = Tally::default();
    let mut failure = None;
    let mut draw = args.seed;
    let mut last: Option<(Spec, Start)> = None;
    while failure.is_none() && tally.images < args.images as u64 {
        let (spec, start) = match last.take() {
            // Every third recording goes on with what a power cut has left: recovery is cut off as well.
            Some((spec, start)) if draw % 3 == 2 => (Spec { draw, ..spec }, start),
            _ => anew(args, draw, &scene)?,
        };
        tally.continued += u64::from(!start.told.is_empty());
        match record::record(spec, start, &scene, &server)? {
            Ok(recorded) => {
                tally.add(&recorded);
                let count = args.images.saturating_sub(tally.images as usize).min(args.each as usize);
                match cut(args, spec, &recorded, count, &scene, &mut tally, &mut progress)? {
                    Ok(start) => last = start.map(|start| (spec, start)),
                    Err(found) => failure = Some(found),
                }
            }
            Err(what) => failure = Some(Failure { draw, cut: None, what, kept: None }),
        }
        draw += 1;
    }
    drop(progress);
    report(args, &tally, begin.elapsed(), failure.as_ref(), out)?;
    Ok(if failure.is_some() { Outcome::No } else { Outcome::Done })
}

/// An empty disk.
fn anew(args: &Args, draw: u64, scene: &Scene) -> Result<(Spec, Start)> {
    // Some disks have large sectors: writes are torn there alone.
    let sector = if draw % 4 == 3 { 4096 } else { 512 };
    let spec = Spec { filesystem: args.fs, seed: draw, draw, sector, lie: args.lie.and_then(Liar::at_work) };
    Ok((spec, Start { image: args.fs.make(scene, sector)?, told: Vec::new() }))
}

fn demand(filesystem: FileSystem) -> Result<()> {
    let missing = needs::missing(filesystem);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!("the power can't be cut under {} here: missing is {}", filesystem.name(), missing.join(", "))))
}

/// The crash images of one recording; one of them, to go on with.
fn cut(
    args: &Args,
    spec: Spec,
    recorded: &Recorded,
    count: usize,
    scene: &Scene,
    tally: &mut Tally,
    progress: &mut Progress,
) -> Result<std::result::Result<Option<Start>, Failure>> {
    let deaf = if args.lie == Some(Liar::DeafDisk) { DEAF } else { 0 };
    let mut builder = crash::Builder::new(&recorded.recording, spec.sector as usize, deaf);
    let mut to_go_on = None;
    for (n, cut) in crash::cuts(&recorded.recording, recorded.mounted, count, spec.draw).into_iter().enumerate() {
        let (image, in_doubt) = builder.build(cut);
        let told = recorded.recording.told_before(cut.at);
        let examined = examine::examine(spec, &image, &told, scene)?;
        tally.images += 1;
        tally.in_doubt += in_doubt as u64;
        tally.certain += u64::from(in_doubt == 0);
        progress.step(1, String::new);
        match examined {
            Ok(survivors) => tally.found(&survivors),
            Err(what) => {
                let name = format!("failed-{}-{}-{}", spec.filesystem.name(), spec.draw, cut.at);
                let kept = examine::keep(spec, &image, &told, scene, &name);
                let kept = kept.inspect_err(|e| remark(format_args!("the image could not be kept: {e}"))).ok();
                return Ok(Err(Failure { draw: spec.draw, cut: Some(cut), what, kept }));
            }
        }
        if n == count / 2 && !told.is_empty() {
            to_go_on = Some(Start { image, told });
        }
    }
    Ok(Ok(to_go_on))
}

fn report(args: &Args, tally: &Tally, time: Duration, failure: Option<&Failure>, out: &mut Output) -> Result<()> {
    let name = args.fs.name();
    let kept = failure.and_then(|f| f.kept.as_ref()).map(|k| k.display().to_string());
    let again = kept.as_ref().map(|kept| format!("ashlar stress power --again {kept} --dir DIR"));
    let repeat = failure.map(|f| {
        format!("ashlar stress power --fs {name} --images {} --seed {} --dir DIR", 2 * args.each, f.draw.saturating_sub(1))
    });
    if out.is_json() {
        return out.object(&json!({
            "filesystem": name, "images": tally.images, "recordings": tally.recordings, "continued": tally.continued, "lives": tally.lives, "kills": tally.kills,
            "writes": tally.writes, "bytes_written": tally.bytes, "flushes": tally.flushes,
            "commits_found": tally.commits, "commits_lost": tally.lost, "without_database": tally.without,
            "writes_in_doubt": tally.in_doubt, "images_without_doubt": tally.certain,
            "seconds": time.as_secs_f64(), "seed": args.seed, "failure": failure.map(|f| &f.what),
            "cut": failure.and_then(|f| f.cut).map(|c| c.at), "kept": kept, "again": again, "repeat": repeat,
        }));
    }
    out.line(format_args!("images          {} on {name} in {:.1} s, seed {}", tally.images, time.as_secs_f64(), args.seed))?;
    out.line(format_args!(
        "recordings      {}, {} of them after a power cut; {} lives, {} killed: {} writes, {}, {} flushes",
        tally.recordings,
        tally.continued,
        tally.lives,
        tally.kills,
        tally.writes,
        crate::units::bytes(tally.bytes),
        tally.flushes
    ))?;
    let (mean, certain) = (tally.in_doubt as f64 / tally.images.max(1) as f64, tally.certain);
    out.line(format_args!("in doubt        {mean:.1} writes an image; none in {certain} images"))?;
    out.line(format_args!(
        "commits         {} found, {} begun and not there; {} images from before there was a database",
        tally.commits, tally.lost, tally.without
    ))?;
    if let Some(failure) = failure {
        let at = failure.cut.map_or_else(String::new, |cut| format!(", cut before step {}", cut.at));
        out.line(format_args!("FAILED          recording {}{at}: {}", failure.draw, failure.what))?;
        if let (Some(kept), Some(again)) = (kept, again) {
            out.line(format_args!("kept            {kept}"))?;
            out.line(format_args!("check again     {again}"))?;
        }
        out.line(format_args!("repeat          {}", repeat.unwrap_or_default()))?;
    }
    Ok(())
}
