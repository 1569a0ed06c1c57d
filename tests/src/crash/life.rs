//! One life of a database: opened, compared, worked on, ended.

use super::world::{Shape, Stop, World, stop};
use super::{Crash, reader, writer};
use crate::dump::{self, Mismatch};
use crate::geometry::Geometry;
use crate::history::History;
use crate::workload::Keys;
use ashlar_disk::sim::Sim;
use ashlar_disk::sync::{JoinHandle, Mutex, sleep, spawn};
use ashlar_disk::{Error as DiskError, Fs};
use ashlardb::{Background, Create, Database};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Where the database is.
const PATH: &str = "/db";

/// What one life needs to know.
pub(super) struct Life {
    pub(super) machine: Arc<Sim>,
    /// When it crashes.
    pub(super) crash: Crash,
    /// The machine's file system, as the database is given it.
    pub(super) fs: Arc<dyn Fs>,
    /// The database's shape.
    pub(super) geometry: Geometry,
    /// What is done to it.
    pub(super) shape: Shape,
    /// Decides all that is drawn.
    pub(super) seed: u64,
    /// The last life: nothing goes wrong in it.
    pub(super) last: bool,
}

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// The machine crashed before the database had been opened and compared.
    CrashInOpen,
    /// It crashed later.
    CrashAtWork,
    /// The database was closed or dropped.
    Stopped,
}

/// What is known from the lives before.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    history: History,
    /// Whether an open has succeeded: from then on the database is there.
    made: bool,
    /// The next commit's number.
    pub(super) next_seq: u32,
    pub(super) commits: u64,
    pub(super) reads: u64,
}

/// Runs until all is done or the machine crashes.
pub(super) fn live(life: &Life, mut past: Past) -> Result<(Past, Ending), String> {
    let ending = match begin(life, &mut past) {
        Err(Stop::Crashed) => Ending::CrashInOpen,
        Err(Stop::Failed(text)) => return Err(text),
        Ok(world) => {
            if let Crash::AtWork(n) = life.crash {
                life.machine.set_crash_at(Some(life.machine.calls() + n));
            }
            match work(life, world, &mut past) {
                Err(Stop::Crashed) => Ending::CrashAtWork,
                Err(Stop::Failed(text)) => return Err(text),
                Ok(()) => Ending::Stopped,
            }
        }
    };
    Ok((past, ending))
}

/// Opens the database and compares everything in it.
fn begin(life: &Life, past: &mut Past) -> Result<World, Stop> {
    let mut rng = ChaCha8Rng::seed_from_u64(life.seed);
    let seen_read_only = match past.made && rng.random_ratio(1, 6) {
        true => Some(look_read_only(life, past)?),
        false => None,
    };
    let background = if life.shape.threads { Background::Threads } else { Background::Manual };
    let create = if past.made { Create::Never } else { Create::IfMissing };
    let db = life.geometry.options(Some(life.fs.clone()), background).create(create).open(PATH);
    let db = db.map_err(|e| stop(&*life.fs, "open", &e))?;
    past.made = true;
    let found = dump::dump(&db).map_err(|e| stop(&*life.fs, "reading everything", &e))?;
    if let Some(text) = seen_read_only.and_then(|seen| crate::state::difference(&seen, &found)) {
        return Err(Stop::Failed(format!("a read-only open saw something else before: {text}")));
    }
    past.history.settle(found).map_err(Stop::Failed)?;
    check_all(life, &db, past)?;
    let keys = Keys::draw(&mut rng, life.shape.keys, db.key_len_max());
    Ok(World::new(life.fs.clone(), db, life.geometry, life.shape, keys))
}

fn mismatch(life: &Life, what: &str, mismatch: Mismatch) -> Stop {
    match mismatch {
        Mismatch::Error(e) => stop(&*life.fs, what, &e),
        Mismatch::Wrong(text) => Stop::Failed(format!("{what}: {text}")),
    }
}

fn check_all(life: &Life, db: &Database, past: &Past) -> Result<(), Stop> {
    dump::check(db, past.history.base()).map_err(|m| mismatch(life, "reading it in other ways", m))?;
    verify(life, db)
}

/// What verification finds after the machine has crashed may be the crash.
fn verify(life: &Life, db: &Database) -> Result<(), Stop> {
    dump::verify(db).map_err(|m| match life.fs.exists(Path::new("/")) {
        Err(DiskError::Crashed { .. }) => Stop::Crashed,
        _ => mismatch(life, "verifying", m),
    })
}

/// What a read-only open sees: it changes nothing, and recovery will find the same.
fn look_read_only(life: &Life, past: &Past) -> Result<crate::state::State, Stop> {
    let roomy = Geometry { frames: 2048, ..life.geometry };
    let db = roomy.options(Some(life.fs.clone()), Background::Manual).read_only(true).open(PATH);
    let db = db.map_err(|e| stop(&*life.fs, "read-only open", &e))?;
    let found = dump::dump(&db).map_err(|e| stop(&*life.fs, "reading everything, read-only", &e))?;
    past.history.clone().settle(found.clone()).map_err(|text| Stop::Failed(format!("read-only open: {text}")))?;
    Ok(found)
}

/// A thread of a life, and what stopped it.
pub(super) type Thread = (JoinHandle, Arc<Mutex<Option<Stop>>>);

/// Starts a thread.
pub(super) fn start(world: &Arc<World>, name: &str, job: impl FnOnce(&World) -> Result<(), Stop> + Send + 'static) -> Thread {
    let (world, told) = (world.clone(), Arc::new(Mutex::new(None)));
    let slot = told.clone();
    let run = move || {
        if let Err(stop) = job(&world) {
            *slot.lock() = Some(stop);
        }
    };
    (spawn(name, run).expect("a thread starts"), told)
}

fn work(life: &Life, world: World, past: &mut Past) -> Result<(), Stop> {
    let mut rng = ChaCha8Rng::seed_from_u64(life.seed ^ 0x5EED);
    let world = Arc::new(world);
    let records = Arc::new(Mutex::new(writer::Records::default()));
    world.working.store(usize::from(world.shape.writers), Relaxed);
    let mut threads = Vec::new();
    for number in 1..=world.shape.writers {
        let writer = writer::Writer::new(number, past.next_seq, rng.random());
        let writer = if life.last { writer.commits(4) } else { writer };
        let records = records.clone();
        threads.push(start(&world, "writer", move |world| writer.run(world, &records)));
    }
    for _ in 0..rng.random_range(0..=1) {
        let (seed, records) = (rng.random(), records.clone());
        threads.push(start(&world, "reader", move |world| reader::run(world, seed, &records)));
    }
    if rng.random_ratio(2, 3) {
        let seed = rng.random();
        threads.push(start(&world, "keeper", move |world| keep(world, seed)));
    }
    let mut crashed = false;
    for (thread, told) in threads {
        thread.join().map_err(|panicked| Stop::Failed(panicked.to_string()))?;
        match told.lock().take() {
            Some(Stop::Crashed) => crashed = true,
            Some(failed) => return Err(failed),
            None => {}
        }
    }
    let records = std::mem::take(&mut *records.lock());
    past.next_seq = past.next_seq.max(records.next_seq);
    past.commits += records.commits.len() as u64;
    past.reads += records.observations.len() as u64;
    records.tell(&mut past.history);
    if crashed {
        return Err(Stop::Crashed);
    }
    end(life, world, past, rng.random_range(0..4))
}

/// Checkpoints, maintenance and compaction beside the writers.
pub(super) fn keep(world: &World, seed: u64) -> Result<(), Stop> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // In some lives little else is done than compacting.
    let draws = [12, 12, 7][rng.random_range(0..3)];
    let least = if draws == 7 { 4 } else { 0 };
    while world.working.load(Relaxed) > 0 {
        match rng.random_range(least..draws) {
            0..3 => world.db.checkpoint().map_err(|e| world.stop("checkpoint", &e))?,
            3..6 => world.db.maintain().map(drop).map_err(|e| world.stop("maintain", &e))?,
            6 => world.db.compact().map(drop).map_err(|e| world.stop("compact", &e))?,
            _ => sleep(Duration::from_micros(rng.random_range(0..2000))),
        }
    }
    Ok(())
}

/// Ends a life in which nothing went wrong: looks again, then closes or drops the database. Either makes all of it durable.
fn end(life: &Life, world: Arc<World>, past: &mut Past, how: u32) -> Result<(), Stop> {
    let db = world.db.clone();
    if life.last || how == 0 {
        let found = dump::dump(&db).map_err(|e| world.stop("reading everything at the end", &e))?;
        let mut expected = past.history.clone();
        // Without a crash nothing that was applied may be missing, durable or not.
        expected.add_flush(world.now());
        expected.settle(found.clone()).map_err(|text| Stop::Failed(format!("before the end: {text}")))?;
        dump::check(&db, &found).map_err(|m| mismatch(life, "at the end", m))?;
        verify(life, &db)?;
    }
    if how < 3 {
        let begun = world.now();
        if how < 2 {
            db.clone().close().map_err(|e| world.stop("close", &e))?;
        }
        drop(db);
        let fs = world.fs.clone();
        let world = Arc::into_inner(world);
        assert!(world.is_some(), "all threads have ended");
        drop(world);
        // A crash during the drop is told to nobody.
        if let Err(DiskError::Crashed { .. }) = fs.exists(Path::new("/")) {
            return Err(Stop::Crashed);
        }
        past.history.add_flush(begun);
    }
    Ok(())
}
