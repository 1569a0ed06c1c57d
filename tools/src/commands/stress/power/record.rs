//! Makes a recording: a file system on the disk that is served, and some lives of a database on it.

use super::super::check::{Survivors, Task};
use super::super::journal::Event;
use super::super::kill::WRITERS;
use super::super::ops::Size;
use super::super::part::{self, Answer, Part};
use super::super::plan::{End, Lie, Plan};
use super::image::Image;
use super::loops::Loop;
use super::needs::FileSystem;
use super::place::{self, Scene};
use super::recording::Recording;
use super::server::Server;
use crate::error::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// A check that takes longer hangs.
const CHECK_MAX: Duration = Duration::from_secs(180);

/// What decides a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) filesystem: FileSystem,
    /// What commits do, and the sizes of a new database, follow from it.
    pub(super) seed: u64,
    /// What else happens in this recording.
    pub(super) draw: u64,
    pub(super) sector: u32,
    pub(super) lie: Option<Lie>,
}

/// Where a recording begins.
pub(super) struct Start {
    /// An empty file system, or what a power cut has left of an earlier recording.
    pub(super) image: Image,
    /// What had been told up to then.
    pub(super) told: Vec<Event>,
}

/// A recording, with the first step at which the file system is mounted.
pub(super) struct Recorded {
    pub(super) recording: Recording,
    pub(super) mounted: usize,
    pub(super) lives: u32,
    pub(super) kills: u32,
}

struct Recorder<'a> {
    spec: Spec,
    scene: &'a Scene,
    server: &'a Server,
    db: PathBuf,
    next: Vec<u32>,
    life: u32,
    kills: u32,
}

/// Makes one. An error in the answer is one of the engine: it could not open, or work, or what a killed process left is wrong.
pub(super) fn record(spec: Spec, start: Start, scene: &Scene, server: &Server) -> Result<std::result::Result<Recorded, String>> {
    let at = scene.dir("disk")?;
    let goes_on = !start.told.is_empty();
    server.record(start.image, start.told);
    let device =
        Loop::attach(&server.image(), spec.sector, true).map_err(|e| Error::file("a loop device on", server.image(), e))?;
    let options = spec.filesystem.options();
    let mount = ["-t", spec.filesystem.name(), "-o", if options.is_empty() { "defaults" } else { options }].map(AsRef::as_ref);
    place::run("mount", &[&mount[..], &[device.path().as_ref(), at.as_ref()]].concat()).map_err(Error::Usage)?;
    let mounted = server.position();
    let recorder = Recorder { spec, scene, server, db: at.join("db"), next: vec![1; WRITERS], life: 0, kills: 0 };
    let lived = recorder.lives(goes_on);
    let unmounted = place::run("umount", &[at.as_ref()]);
    let (lives, kills) = match lived? {
        Ok(lived) => lived,
        Err(what) => {
            // What could not be unmounted goes with the namespace.
            return Ok(Err(what));
        }
    };
    unmounted.map_err(Error::Usage)?;
    drop(device);
    let recording = server.finish().ok_or_else(|| Error::Usage("there is no recording".into()))?;
    Ok(Ok(Recorded { recording, mounted, lives, kills }))
}

impl Recorder<'_> {
    /// Two to four lives; how many, and how many of them were killed. Where the recording goes on after a power cut, recovery comes first.
    fn lives(mut self, goes_on: bool) -> Result<std::result::Result<(u32, u32), String>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.spec.draw ^ 0x117E5);
        if goes_on {
            self.number_on();
            if let Err(what) = self.settle()? {
                return Ok(Err(format!("after a power cut: {what}")));
            }
        }
        let before = self.life;
        for _ in 0..rng.random_range(2..=4) {
            self.life += 1;
            let end = [End::Close, End::Drop, End::Killed][rng.random_range(0..3)];
            let millis = rng.random_range(50..900);
            let outcome = match end {
                End::Killed => self.killed(millis)?,
                end => self.lived(end, millis)?,
            };
            if let Err(what) = outcome {
                return Ok(Err(format!("life {} of recording {}: {what}", self.life, self.spec.draw)));
            }
        }
        Ok(Ok((self.life - before, self.kills)))
    }

    fn plan(&self, end: End, millis: u64) -> Plan {
        Plan {
            db: self.db.clone(),
            journal: Some(self.server.journal()),
            seed: self.spec.seed,
            life: self.life,
            next: self.next.clone(),
            millis,
            end,
            size: Size::Small,
            lie: self.spec.lie,
            queue: None,
        }
    }

    /// Numbers of lives and commits go on after those that were told.
    fn number_on(&mut self) {
        for event in self.server.told() {
            if let Event::Opened { life } = event {
                self.life = self.life.max(life);
            }
            if let Event::Began { writer, number, .. } = event {
                let next = &mut self.next[usize::from(writer)];
                *next = (*next).max(number + 1);
            }
        }
    }

    fn lived(&mut self, end: End, millis: u64) -> Result<std::result::Result<(), String>> {
        let mut command = part::command(&Part::Load(self.plan(end, millis)))?;
        let output = command.output().map_err(|e| Error::file("starting", "a child", e))?;
        self.number_on();
        Ok(if output.status.success() { Ok(()) } else { Err(ended("the process at work", &output)) })
    }

    /// A process that is killed; what it leaves is checked, and the recording goes on with what has survived.
    fn killed(&mut self, millis: u64) -> Result<std::result::Result<(), String>> {
        let mut command = part::command(&Part::Load(self.plan(End::Killed, 0)))?;
        let mut child = command.stderr(Stdio::piped()).spawn().map_err(|e| Error::file("starting", "a child", e))?;
        std::thread::sleep(Duration::from_millis(millis));
        let _ = child.kill();
        let output = child.wait_with_output().map_err(|e| Error::file("waiting for", "a child", e))?;
        if output.status.code().is_some() {
            return Ok(Err(ended("the process at work", &output)));
        }
        self.number_on();
        self.kills += 1;
        Ok(self.settle()?.map_err(|what| format!("killed: {what}")))
    }

    /// Checks what a crash has left, on the disk that is recorded; the recording goes on with what has survived.
    fn settle(&mut self) -> Result<std::result::Result<(), String>> {
        let told = self.server.told();
        match check(&self.plan(End::Drop, 0), &told, &self.scene.file("told"))? {
            Ok(survivors) => {
                for (writer, number) in survivors.last {
                    self.server.tell(Event::Settled { writer, number });
                }
                Ok(Ok(()))
            }
            Err(what) => Ok(Err(what)),
        }
    }
}

fn ended(what: &str, output: &Output) -> String {
    format!("{what} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())
}

/// Has a process of its own check what a crash has left.
pub(super) fn check(plan: &Plan, told: &[Event], file: &Path) -> Result<std::result::Result<Survivors, String>> {
    let bytes: Vec<u8> = told.iter().flat_map(|event| event.to_bytes()).collect();
    std::fs::write(file, bytes).map_err(|e| Error::file("writing", file, e))?;
    let task = Task { plan: plan.clone(), told: file.to_owned() };
    let mut command = part::command(&Part::Check(task))?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| Error::file("starting", "a check", e))?;
    let until = Instant::now() + CHECK_MAX;
    // What it prints fits into a pipe.
    while child.try_wait().map_err(|e| Error::file("waiting for", "a check", e))?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Err(format!("the check has not ended after {} s", CHECK_MAX.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().map_err(|e| Error::file("waiting for", "a check", e))?;
    Ok(match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Right(survivors)) => Ok(survivors),
        Ok(Answer::Wrong(what)) => Err(what),
        Err(_) => Err(ended("the check", &output)),
    })
}
