//! One life of a database: opened, compared, worked on, ended.

use super::faults::Plan;
use super::judge::{Class, Judge};
use super::past::Past;
use super::setup::Caps;
use super::world::{Shape, Stop, World};
use super::{Crash, reader, writer};
use crate::dump::{self, Mismatch};
use crate::geometry::Geometry;
use crate::workload::Keys;
use ashlar_disk::Fs;
use ashlar_disk::sim::Sim;
use ashlar_disk::sync::{JoinHandle, Mutex, sleep, spawn};
use ashlardb::{Background, Create, Database};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
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
    /// What else goes wrong.
    pub(super) plan: Plan,
    /// The machine's file system, as the database is given it.
    pub(super) fs: Arc<dyn Fs>,
    /// The database's shape.
    pub(super) geometry: Geometry,
    /// What is done to it.
    pub(super) shape: Shape,
    /// What is left out of that.
    pub(super) caps: Caps,
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
    /// The database did not open because of a fault.
    Refused,
    /// It opened, and a fault kept some of it from being read.
    Unreadable,
    /// The database was closed or dropped.
    Stopped,
}

/// Runs until all is done or the machine crashes.
pub(super) fn live(life: &Life, mut past: Past) -> Result<(Past, Ending), String> {
    if life.plan.in_open {
        life.machine.set_faults(life.plan.rates);
    }
    let judge = Arc::new(Judge::of(life.fs.clone(), life.machine.clone(), past.class, past.faults));
    let ending = open_and_work(life, &judge, &mut past)?;
    past.note_faults(&life.machine.injected(), &judge);
    Ok((past, ending))
}

/// The stages of a life, each of which may be its last.
fn open_and_work(life: &Life, judge: &Arc<Judge>, past: &mut Past) -> Result<Ending, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(life.seed);
    let (db, read_only) = match open(life, judge, past, &mut rng) {
        Ok(opened) => opened,
        Err(Stop::Crashed) => return Ok(Ending::CrashInOpen),
        Err(Stop::Told) => return Ok(Ending::Refused),
        Err(Stop::Failed(text)) => return Err(text),
    };
    let world = match compare(life, judge, db, read_only, past, &mut rng) {
        Ok(world) => world,
        Err(Stop::Crashed) => return Ok(Ending::CrashInOpen),
        Err(Stop::Told) => return Ok(Ending::Unreadable),
        Err(Stop::Failed(text)) => return Err(text),
    };
    if let Crash::AtWork(n) = life.crash {
        life.machine.set_crash_at(Some(life.machine.calls() + n));
    }
    life.machine.set_faults(life.plan.rates);
    if let Some(room) = life.plan.room {
        life.machine.set_capacity(life.machine.used() + room);
    }
    match work(life, world, past) {
        Err(Stop::Crashed) => Ok(Ending::CrashAtWork),
        Err(Stop::Failed(text)) => Err(text),
        Ok(()) | Err(Stop::Told) => Ok(Ending::Stopped),
    }
}

/// What a read-only open saw.
type SeenReadOnly = Option<crate::state::State>;

/// Opens the database.
fn open(life: &Life, judge: &Judge, past: &mut Past, rng: &mut ChaCha8Rng) -> Result<(Database, SeenReadOnly), Stop> {
    let seen_read_only = match past.made && rng.random_ratio(1, 6) {
        true => match look_read_only(life, judge, past) {
            Err(Stop::Told) => None,
            seen => Some(seen?),
        },
        false => None,
    };
    let background = if life.shape.threads { Background::Threads } else { Background::Manual };
    let create = if past.made { Create::Never } else { Create::IfMissing };
    let db = life.geometry.options(Some(life.fs.clone()), background).create(create).open(PATH);
    let db = db.map_err(|e| judge.stop("open", &e))?;
    past.made = true;
    Ok((db, seen_read_only))
}

/// Compares everything in it with what may be there.
fn compare(
    life: &Life,
    judge: &Arc<Judge>,
    db: Database,
    seen_read_only: SeenReadOnly,
    past: &mut Past,
    rng: &mut ChaCha8Rng,
) -> Result<World, Stop> {
    let found = match dump::dump(&db) {
        Ok(found) => found,
        Err(e) => {
            let stop = judge.stop("reading everything", &e);
            if matches!(stop, Stop::Told) {
                past.check_what_is_readable(&db, judge)?;
            }
            return Err(stop);
        }
    };
    if let Some(text) = seen_read_only.and_then(|seen| crate::state::difference(&seen, &found))
        && past.class != Class::Corrupting
    {
        return Err(Stop::Failed(format!("a read-only open saw something else before: {text}")));
    }
    past.settle(found, &life.machine.injected()).map_err(Stop::Failed)?;
    match check_all(judge, &db, past) {
        Ok(()) | Err(Stop::Told) => {}
        Err(stop) => return Err(stop),
    }
    let keys = Keys::draw(rng, life.shape.keys, db.key_len_max());
    Ok(World::new(db, life.geometry, life.shape, keys, judge.clone()))
}

fn mismatch(judge: &Judge, what: &str, mismatch: Mismatch) -> Stop {
    match mismatch {
        Mismatch::Error(e) => judge.stop(what, &e),
        Mismatch::Wrong(text) => Stop::Failed(format!("{what}: {text}")),
    }
}

fn check_all(judge: &Judge, db: &Database, past: &Past) -> Result<(), Stop> {
    dump::check(db, past.history.base()).map_err(|m| mismatch(judge, "reading it in other ways", m))?;
    verify(judge, db)
}

/// What verification finds after the machine has crashed may be the crash; what it finds beside faults may be the faults.
fn verify(judge: &Judge, db: &Database) -> Result<(), Stop> {
    dump::verify(db).map_err(|m| match m {
        Mismatch::Error(e) => judge.stop("verifying", &e),
        Mismatch::Wrong(text) => judge.findings(format!("verifying: {text}")),
    })
}

/// What a read-only open sees: it changes nothing, and recovery will find the same.
fn look_read_only(life: &Life, judge: &Judge, past: &Past) -> Result<crate::state::State, Stop> {
    let roomy = Geometry { frames: 2048, ..life.geometry };
    let db = roomy.options(Some(life.fs.clone()), Background::Manual).read_only(true).open(PATH);
    let db = db.map_err(|e| judge.stop("read-only open", &e))?;
    let found = dump::dump(&db).map_err(|e| judge.stop("reading everything, read-only", &e))?;
    let settled = past.clone().settle(found.clone(), &life.machine.injected());
    settled.map_err(|text| Stop::Failed(format!("read-only open: {text}")))?;
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
    let writers = world.shape.writers.min(life.caps.writers.unwrap_or(u16::MAX));
    world.working.store(usize::from(writers), Relaxed);
    let mut threads = Vec::new();
    for number in 1..=world.shape.writers {
        let writer = writer::Writer::new(number, past.next_seq, rng.random());
        let writer = if life.last { writer.commits(4) } else { writer };
        let writer = writer.at_most(life.caps.commits.unwrap_or(u32::MAX));
        if number > writers {
            continue;
        }
        let records = records.clone();
        threads.push(start(&world, "writer", move |world| writer.run(world, &records)));
    }
    for _ in 0..rng.random_range(0..=1) {
        let (seed, records) = (rng.random(), records.clone());
        if !life.caps.alone {
            threads.push(start(&world, "reader", move |world| reader::run(world, seed, &records)));
        }
    }
    if rng.random_ratio(2, 3) {
        let seed = rng.random();
        if !life.caps.alone {
            threads.push(start(&world, "keeper", move |world| keep(world, seed)));
        }
    }
    let mut crashed = false;
    for (thread, told) in threads {
        thread.join().map_err(|panicked| Stop::Failed(panicked.to_string()))?;
        match told.lock().take() {
            Some(Stop::Crashed) => crashed = true,
            Some(Stop::Failed(text)) => return Err(Stop::Failed(text)),
            Some(Stop::Told) | None => {}
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
        let outcome = match rng.random_range(least..draws) {
            0..3 => world.db.checkpoint().map_err(|e| world.stop("checkpoint", &e)),
            3..6 => world.db.maintain().map(drop).map_err(|e| world.stop("maintain", &e)),
            6 => world.db.compact().map(drop).map_err(|e| world.stop("compact", &e)),
            _ => {
                sleep(Duration::from_micros(rng.random_range(0..2000)));
                Ok(())
            }
        };
        match outcome {
            // A fault: it must be possible to try again.
            Err(Stop::Told) => sleep(Duration::from_micros(500)),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Ends a life without a crash: looks again, then closes or drops the database. Either makes all of it durable, unless a fault keeps it
/// from that: a close says so, a drop can't.
fn end(life: &Life, world: Arc<World>, past: &mut Past, how: u32) -> Result<(), Stop> {
    let db = world.db.clone();
    if life.last || how == 0 {
        match look_at_the_end(&world, past) {
            Ok(()) | Err(Stop::Told) => {}
            Err(stop) => return Err(stop),
        }
    }
    if how < 3 {
        let begun = world.now();
        if how < 2 {
            db.clone().close().map_err(|e| world.stop("close", &e))?;
        }
        drop(db);
        let judge = world.judge.clone();
        let world = Arc::into_inner(world);
        assert!(world.is_some(), "all threads have ended");
        drop(world);
        // A crash during the drop is told to nobody.
        if judge.has_crashed() {
            return Err(Stop::Crashed);
        }
        if how < 2 || !judge.is_struck() {
            past.history.add_flush(begun);
        }
    }
    Ok(())
}

fn look_at_the_end(world: &World, past: &Past) -> Result<(), Stop> {
    let db = &world.db;
    let found = dump::dump(db).map_err(|e| world.stop("reading everything at the end", &e))?;
    let mut expected = past.history.clone();
    if !world.has_failed() {
        // Without a crash nothing that was applied may be missing, durable or not.
        expected.add_flush(world.now());
    }
    expected.settle(found.clone()).map_err(|text| Stop::Failed(format!("before the end: {text}")))?;
    dump::check(db, &found).map_err(|m| mismatch(&world.judge, "at the end", m))?;
    verify(&world.judge, db)
}
