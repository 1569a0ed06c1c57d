//! One life of a database: opened, compared with what may be left, worked on by many threads, ended.

use super::check::Possible;
use super::record::{Commit, Records};
use super::worker::{Worker, keep};
use super::world::{LASTING, Shape, World};
use crate::dump::{self, Mismatch};
use crate::state::{State, Write, difference};
use crate::stop::{Stop, has_crashed, stop};
use crate::workload::Keys;
use ashlar_disk::Fs;
use ashlar_disk::sim::Sim;
use ashlar_disk::sync::{Mutex, spawn};
use ashlardb::{Create, Database, Error, Keyspace, probe};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const PATH: &str = "/db";

/// When a life's machine crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crash {
    Never,
    /// During that call to the disk.
    AtCall(u64),
    /// During that call after the database has been opened and compared.
    AtWork(u64),
}

/// What one life needs to know.
pub(super) struct Life {
    pub(super) machine: Arc<Sim>,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) crash: Crash,
    pub(super) shape: Shape,
    pub(super) keys: Keys,
    pub(super) seed: u64,
    /// A number that no value of the lives before has.
    pub(super) tag: u64,
    /// What may be found.
    pub(super) possible: Possible,
    /// Whether an open has succeeded.
    pub(super) made: bool,
}

/// How a life ended.
pub(super) enum Ending {
    /// In a crash before the database was open, or was compared.
    CrashInOpen,
    /// In a crash; what was found at the beginning, and what was done.
    CrashAtWork(State, Records),
    /// All threads ended; what the database held at the end, if it was looked at.
    Stopped(State, Records, Option<State>),
}

/// Runs until all is done or the machine crashes.
pub(super) fn live(life: &Life) -> Result<Ending, String> {
    let (db, found) = match begin(life) {
        Ok(begun) => begun,
        Err(Stop::Crashed) => return Ok(Ending::CrashInOpen),
        Err(Stop::Failed(text)) => return Err(text),
    };
    if let Crash::AtWork(n) = life.crash {
        life.machine.set_crash_at(Some(life.machine.calls() + n));
    }
    let mut records = Records::default();
    match work(life, db, &found, &mut records) {
        Ok(last) => Ok(Ending::Stopped(found, records, last)),
        Err(Stop::Crashed) => Ok(Ending::CrashAtWork(found, records)),
        Err(Stop::Failed(text)) => Err(text),
    }
}

fn begin(life: &Life) -> Result<(Database, State), Stop> {
    let create = if life.made { Create::Never } else { Create::IfMissing };
    let db = life.shape.options(life.fs.clone()).create(create).open(PATH).map_err(|e| stop(&*life.fs, "open", &e))?;
    let found = dump::dump(&db).map_err(|e| stop(&*life.fs, "reading everything", &e))?;
    let Possible { states, why } = &life.possible;
    if !states.contains(&found) {
        let differences = states.iter().filter_map(|state| difference(state, &found));
        let told: Vec<String> = differences.map(|text| format!("\n  {text}")).collect();
        let text = format!("what is found is none of {} states that may be left:{}\n{why}", told.len(), told.concat());
        return Err(Stop::Failed(text));
    }
    Ok((db, found))
}

/// The keyspace that lasts, made if it is missing.
fn lasting(world: &World, found: &State, records: &mut Records) -> Result<Keyspace, Stop> {
    probe::take_lsn();
    let begun = world.now();
    let made = world.db.keyspace(LASTING);
    if let Some(lsn) = probe::take_lsn() {
        let writes = vec![Write::Create { keyspace: LASTING.into() }];
        let returned = made.is_ok().then(|| world.now());
        records.commits.push(Commit { lsn, writes, premise: None, immediate: true, thread: 0, begun, returned });
    } else if made.is_ok() && !found.contains_key(LASTING) {
        return Err(Stop::Failed("a keyspace that is not there was not made".into()));
    }
    made.map_err(|e| world.stop("keyspace", &e))
}

fn work(life: &Life, db: Database, found: &State, records: &mut Records) -> Result<Option<State>, Stop> {
    let mut rng = ChaCha8Rng::seed_from_u64(life.seed);
    let world = Arc::new(World::new(life.machine.clone(), life.fs.clone(), db, life.shape, life.keys.clone(), life.tag));
    let lasting = lasting(&world, found, records)?;
    world.begin()?;
    let told: Arc<Mutex<Vec<Stop>>> = Arc::default();
    let mut threads = Vec::new();
    for number in 0..=life.shape.threads {
        let (world, told, lasting, seed) = (world.clone(), told.clone(), lasting.clone(), rng.random());
        if number == 0 && !life.shape.keeper {
            continue;
        }
        let run = move || {
            let outcome = match number {
                0 => keep(&world, seed),
                _ => Worker::new(number, seed, lasting).run(&world),
            };
            if let Err(stop) = outcome {
                told.lock().push(stop);
            }
        };
        threads.push(spawn(&format!("worker {number}"), run).expect("a thread starts"));
    }
    for thread in threads {
        thread.join().map_err(|panicked| Stop::Failed(panicked.to_string()))?;
    }
    records.append(std::mem::take(&mut *world.records.lock()));
    let stops = std::mem::take(&mut *told.lock());
    let (crashed, mut failed): (Vec<Stop>, Vec<Stop>) = stops.into_iter().partition(|s| matches!(s, Stop::Crashed));
    if let Some(failure) = failed.pop() {
        return Err(failure);
    }
    if !crashed.is_empty() {
        return Err(Stop::Crashed);
    }
    drop(lasting);
    end(world, rng.random_range(0..4))
}

/// Looks at everything, then closes or drops the database: either makes all of it durable.
fn end(world: Arc<World>, how: u32) -> Result<Option<State>, Stop> {
    let fs = world.fs.clone();
    let mut seen = None;
    if how < 2 {
        seen = Some(dump::dump(&world.db).map_err(|e| world.stop("reading everything at the end", &e))?);
        dump::verify(&world.db).map_err(|mismatch| match mismatch {
            _ if has_crashed(&*fs) => Stop::Crashed,
            Mismatch::Error(e) => world.stop("verifying", &e),
            Mismatch::Wrong(text) => Stop::Failed(text),
        })?;
    }
    if how.is_multiple_of(2) {
        let closed: Result<(), Error> = world.db.clone().close();
        closed.map_err(|e| world.stop("close", &e))?;
    }
    let world = Arc::into_inner(world);
    assert!(world.is_some(), "all threads have ended");
    drop(world);
    // A crash during the drop is told to nobody.
    if has_crashed(&*fs) { Err(Stop::Crashed) } else { Ok(seen) }
}
