//! Looks at a crash image: attached, mounted, opened, compared; and at one that was kept.

use super::super::check::Survivors;
use super::super::journal::{self, Event};
use super::super::kill::WRITERS;
use super::super::ops::Size;
use super::super::plan::{End, Plan};
use super::crash::Cut;
use super::image::Image;
use super::loops::Loop;
use super::needs::FileSystem;
use super::place::{Mounted, Scene};
use super::record::{self, Recorded, Spec};
use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// What all images came to.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) images: u64,
    pub(super) recordings: u64,
    pub(super) lives: u64,
    pub(super) kills: u64,
    pub(super) writes: u64,
    pub(super) bytes: u64,
    pub(super) flushes: u64,
    pub(super) commits: u64,
    pub(super) lost: u64,
    pub(super) without: u64,
    /// Recordings that went on with what a power cut had left.
    pub(super) continued: u64,
    /// Writes that were there or not.
    pub(super) in_doubt: u64,
    /// Images in which none was.
    pub(super) certain: u64,
}

impl Tally {
    pub(super) fn add(&mut self, recorded: &Recorded) {
        let (writes, bytes, flushes) = recorded.recording.totals();
        self.recordings += 1;
        self.lives += u64::from(recorded.lives);
        self.kills += u64::from(recorded.kills);
        self.writes += writes;
        self.bytes += bytes;
        self.flushes += flushes;
    }

    pub(super) fn found(&mut self, survivors: &Survivors) {
        self.commits += survivors.commits;
        self.lost += survivors.lost;
        self.without += u64::from(survivors.last.is_empty());
    }
}

/// An image that is wrong, or a recording that could not be made.
pub(super) struct Failure {
    pub(super) draw: u64,
    pub(super) cut: Option<Cut>,
    pub(super) what: String,
    pub(super) kept: Option<PathBuf>,
}

/// Mounts an image and has the database on it checked.
pub(super) fn examine(
    spec: Spec,
    image: &Image,
    told: &[Event],
    scene: &Scene,
) -> Result<std::result::Result<Survivors, String>> {
    let (file, at) = (scene.file("crashed"), scene.dir("mounted")?);
    let open = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&file);
    open.and_then(|open| image.store(&open)).map_err(|e| Error::file("writing", &file, e))?;
    let device = Loop::attach(&file, spec.sector, false).map_err(|e| Error::file("a loop device on", &file, e))?;
    let mounted = match Mounted::new(device.path(), &at, spec.filesystem.name(), spec.filesystem.options()) {
        Ok(mounted) => mounted,
        Err(e) => return Ok(Err(format!("{} does not mount the image: {e}", spec.filesystem.name()))),
    };
    let life = told.iter().rev().find_map(|event| match event {
        Event::Opened { life } | Event::Began { life, .. } => Some(*life),
        _ => None,
    });
    let plan = Plan {
        db: at.join("db"),
        journal: None,
        seed: spec.seed,
        // Another queue and other sizes of what is not on the disk than the life that was cut off.
        life: life.unwrap_or(0) + 100,
        next: vec![1; WRITERS],
        millis: 0,
        end: End::Drop,
        size: Size::Small,
        lie: None,
        queue: None,
    };
    let checked = record::check(&plan, told, &scene.file("told"))?;
    mounted.unmount().map_err(|e| Error::file("unmounting", &at, e.into()))?;
    Ok(checked)
}

/// What an image is of.
#[derive(Serialize, Deserialize)]
struct About {
    filesystem: FileSystem,
    seed: u64,
    sector: u32,
    what: String,
}

/// Keeps an image and what was told; where.
pub(super) fn keep(spec: Spec, image: &Image, told: &[Event], scene: &Scene, name: &str) -> std::io::Result<PathBuf> {
    let dir = scene.kept(name);
    std::fs::create_dir_all(&dir)?;
    image.store(&File::create(dir.join("image"))?)?;
    std::fs::write(dir.join("journal"), told.iter().flat_map(|event| event.to_bytes()).collect::<Vec<u8>>())?;
    let what = "a crash image: image (a disk), journal (what was told of the database on it)".to_owned();
    let about = About { filesystem: spec.filesystem, seed: spec.seed, sector: spec.sector, what };
    std::fs::write(dir.join("about.json"), serde_json::to_vec_pretty(&about)?)?;
    Ok(scene.kept_name(name))
}

/// Checks an image again that was kept.
pub(super) fn again(kept: &Path, dir: &Path, out: &mut Output) -> Result<Outcome> {
    let failed = |name: &str| {
        let path = kept.join(name);
        move |e: std::io::Error| Error::file("reading", &path, e)
    };
    let about = std::fs::read(kept.join("about.json")).map_err(failed("about.json"))?;
    let about: About = serde_json::from_slice(&about).map_err(|e| failed("about.json")(e.into()))?;
    super::demand(about.filesystem)?;
    let image = File::open(kept.join("image")).and_then(|mut file| Image::load(&mut file)).map_err(failed("image"))?;
    let told = journal::events(&std::fs::read(kept.join("journal")).map_err(failed("journal"))?).map_err(Error::Usage)?;
    let scene = Scene::new(dir)?;
    let spec = Spec { filesystem: about.filesystem, seed: about.seed, draw: 0, sector: about.sector, lie: None };
    let outcome = examine(spec, &image, &told, &scene)?;
    let what = outcome.as_ref().err();
    match (out.is_json(), what) {
        (true, what) => out.object(&json!({ "failure": what }))?,
        (false, Some(what)) => out.line(format_args!("FAILED          {what}"))?,
        (false, None) => out.line("the image is as it may be")?,
    }
    Ok(if what.is_some() { Outcome::No } else { Outcome::Done })
}
