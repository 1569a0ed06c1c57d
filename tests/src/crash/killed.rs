//! A real process on real files that is killed at any moment, and what it leaves.
//!
//! The child ([`load`]) works on a database with several threads as fast as it can and tells everything over its standard output; the
//! parent ([`rounds`]) kills it, opens the database, compares and verifies everything, and starts the next child.

use super::events::{Event, Pipe, Told};
use super::judge::Judge;
use super::world::{Shape, Stop, World};
use super::{life, reader, writer};
use crate::dump;
use crate::geometry::Geometry;
use crate::history::History;
use crate::workload::Keys;
use ashlar_disk::real::{RealFs, RealOptions};
use ashlar_disk::sync::Mutex;
use ashlardb::{Background, Database, QueueKind};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What stands on the child's command line.
#[derive(Clone, Debug)]
pub struct Load {
    /// The database.
    pub path: PathBuf,
    /// Decides all that is drawn.
    pub seed: u64,
    /// The first number of its commits.
    pub next_seq: u32,
}

impl Load {
    /// From the command line's words.
    pub fn from_words(mut words: impl Iterator<Item = String>) -> Option<Load> {
        let path = words.next()?.into();
        Some(Load { path, seed: words.next()?.parse().ok()?, next_seq: words.next()?.parse().ok()? })
    }
}

/// Larger than what the simulated machine gets: a second of real work is thousands of commits.
fn geometry(seed: u64) -> Geometry {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Geometry {
        frames: [128, 1024][rng.random_range(0..2)],
        slots_max: [0, 16][rng.random_range(0..2)],
        ..Geometry::draw(&mut rng)
    }
}

fn open(path: &Path, seed: u64, background: Background) -> Result<Database, ashlardb::Error> {
    let queue = if seed.is_multiple_of(2) { QueueKind::Best } else { QueueKind::Threads };
    geometry(seed).options(None, background).queue_kind(queue).open(path)
}

/// The child: works until it is killed. Returns only when something is wrong, having told it.
pub fn load(load: &Load) {
    let stdout = std::io::stdout();
    let pipe = stdout.as_fd().try_clone_to_owned().map(|fd| Pipe::new(fd.into()));
    let Ok(pipe) = pipe else { return };
    match work(load, pipe) {
        Ok(()) | Err(Stop::Crashed | Stop::Told) => {}
        Err(Stop::Failed(text)) => println!("{}", serde_json::to_string(&Event::Failed { text }).unwrap_or_default()),
    }
}

fn work(load: &Load, pipe: Pipe) -> Result<(), Stop> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Stop::Failed(format!("{what}: {e}"));
    let mut rng = ChaCha8Rng::seed_from_u64(load.seed);
    let db = open(&load.path, load.seed, Background::Threads).map_err(|e| failed("open", &e))?;
    pipe.send(&Event::Opened);
    let shape = Shape { whole: rng.random(), immediate: [1, 8, 15][rng.random_range(0..3)], ..Shape::draw(&mut rng) };
    let keys = Keys::draw(&mut rng, shape.keys, db.key_len_max());
    let fs = RealFs::new(RealOptions::default()).map_err(|e| failed("file system", &e))?;
    let world = Arc::new(World::new(db, geometry(load.seed), shape, keys, Arc::new(Judge::strict(fs))).telling(pipe));
    world.working.store(usize::from(shape.writers), Relaxed);
    let records = Arc::new(Mutex::new(writer::Records::default()));
    let mut threads = Vec::new();
    for number in 1..=shape.writers {
        let writer = writer::Writer::new(number, load.next_seq, rng.random()).commits(u32::MAX);
        let records = records.clone();
        threads.push(life::start(&world, "writer", move |world| writer.run(world, &records)));
    }
    let (seed, all) = (rng.random(), records.clone());
    threads.push(life::start(&world, "reader", move |world| reader::run(world, seed, &all)));
    let seed = rng.random();
    threads.push(life::start(&world, "keeper", move |world| life::keep(world, seed)));
    for (thread, told) in threads {
        thread.join().map_err(|panicked| Stop::Failed(panicked.to_string()))?;
        told.lock().take().map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// What some rounds came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Children that were killed before they had opened the database.
    pub killed_in_open: u64,
    /// Children that were killed later.
    pub killed_at_work: u64,
    /// Commits that they had begun.
    pub commits: u64,
}

/// The parent: `count` children of `program`, each killed at some moment, on one database in `path`.
///
/// # Errors
/// What is wrong with what a child left, or what a child found wrong, with its seed.
pub fn rounds(program: &Path, path: &Path, first: u64, count: u64) -> Result<Rounds, String> {
    let mut history = History::default();
    let mut next_seq = 0;
    let mut sum = Rounds::default();
    for seed in first..first + count {
        let load = Load { path: path.to_owned(), seed, next_seq };
        let told = run_and_kill(program, &load).map_err(|e| format!("round {seed}: {e}"))?;
        next_seq = next_seq.max(told.next_seq());
        sum.commits += told.commits() as u64;
        *if told.opened { &mut sum.killed_at_work } else { &mut sum.killed_in_open } += 1;
        told.enter(&mut history);
        look(path, seed, &mut history).map_err(|e| format!("after round {seed}: {e}"))?;
    }
    Ok(sum)
}

/// Opens what a child has left and compares everything.
fn look(path: &Path, seed: u64, history: &mut History) -> Result<(), String> {
    let db = open(path, seed, Background::Manual).map_err(|e| format!("open: {e}"))?;
    let found = dump::dump(&db).map_err(|e| format!("reading everything: {e}"))?;
    history.settle(found)?;
    dump::check(&db, history.base()).map_err(|e| e.to_string())?;
    dump::verify(&db).map_err(|e| e.to_string())?;
    if seed.is_multiple_of(3) { db.close().map_err(|e| format!("close: {e}")) } else { Ok(()) }
}

fn run_and_kill(program: &Path, load: &Load) -> Result<Told, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(load.seed ^ 0x4B11);
    let mut command = Command::new(program);
    command.arg(&load.path).arg(load.seed.to_string()).arg(load.next_seq.to_string());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let stdout = child.stdout.take().ok_or("no pipe")?;
    let listener = std::thread::spawn(move || {
        let mut told = Told::default();
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        let mut failure = None;
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            failure = failure.or(told.take(&line).err());
            line.clear();
        }
        failure.map_or(Ok(told), Err)
    });
    // Short times end in recovery, or in the creation of the database.
    let most = [8, 40, 300][rng.random_range(0..3)];
    std::thread::sleep(Duration::from_micros(rng.random_range(0..most * 1000)));
    let killed = child.kill();
    let status = child.wait().map_err(|e| e.to_string())?;
    let told = listener.join().map_err(|_| "the listener panicked".to_owned())??;
    match killed {
        Ok(()) if status.code().is_none() => Ok(told),
        _ => Err(format!("the child ended by itself: {status}")),
    }
}
