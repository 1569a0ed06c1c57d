//! Random histories on the simulated machine: several threads append, flush, reserve and checkpoint under the deterministic
//! scheduler; the power goes or the process is killed at any call; the log is read again, and again.
//!
//! After every restart: what `flush_to` confirmed is there; what is there is a beginning of what was appended, in order, at the
//! positions that were given out; nothing else is there.
//!
//! `ASHLAR_WAL_HISTORIES` sets how many histories are run, `ASHLAR_WAL_SEED` the first seed: a failure names its seed.

mod common;

use ashlar_disk::Fs;
use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlar_disk::sync::{Mutex, sleep, spawn, yield_point};
use ashlar_wal::{Error, LogRecord, LogStart, Lsn, Wal, WalOptions};
use common::{Log, body, id_of, small};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// A record as it was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    id: u64,
    start: Lsn,
    lsn: Lsn,
    flush_start: Lsn,
    incarnation: u32,
}

/// What must and what may be in the log.
#[derive(Clone, Debug)]
struct Ledger {
    superblock: LogStart,
    /// In order of their LSNs.
    entries: Vec<Entry>,
    confirmed: Lsn,
    next_id: u64,
}

impl Ledger {
    /// Compares what recovery found with what it may find, and takes it as the truth from here on.
    fn recovered(&mut self, found: &[LogRecord]) -> Result<(), String> {
        self.entries.retain(|entry| entry.flush_start >= self.superblock.c);
        for (index, record) in found.iter().enumerate() {
            let same = |entry: &Entry| {
                (entry.start, entry.lsn, entry.flush_start) == (record.start, record.lsn, record.flush_start)
                    && id_of(&record.body) == Some(entry.id)
            };
            if !self.entries.get(index).is_some_and(same) {
                return Err(format!("record {index} at {} was not appended there: {:?}", record.start, self.entries.get(index)));
            }
        }
        let lost = &self.entries[found.len()..];
        if let Some(entry) = lost.iter().find(|entry| entry.lsn <= self.confirmed) {
            return Err(format!("lost, though the log was durable up to {}: {entry:?}", self.confirmed));
        }
        self.entries.truncate(found.len());
        // Recovery has made it durable, and builds upon it.
        self.confirmed = self.confirmed.max(self.entries.last().map_or(Lsn(0), |entry| entry.lsn));
        Ok(())
    }
}

/// One life of a process.
struct Process {
    log: Log,
    wal: Wal,
    ledger: Mutex<Ledger>,
    incarnation: u32,
    /// How many threads still commit.
    committing: AtomicUsize,
}

/// Runs until all is done or the machine crashes; gives what must be found by the next one.
fn live(fs: Arc<dyn Fs>, dir: PathBuf, options: WalOptions, mut ledger: Ledger, seed: u64) -> Result<Ledger, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut log = Log { fs, dir, options, start: ledger.superblock };
    let opened = log.open();
    ledger.superblock = log.start;
    let (wal, records) = match opened {
        Ok(opened) => opened,
        Err(error) => return crashed(error).map(|()| ledger),
    };
    ledger.recovered(&records)?;
    let incarnation = log.start.newest_incarnation;
    let committers = rng.random_range(1..4);
    let process = Process { log, wal, ledger: Mutex::new(ledger), incarnation, committing: AtomicUsize::new(committers) };
    let process = Arc::new(process);
    let mut threads = Vec::new();
    for _ in 0..committers {
        threads.push(start(&process, rng.random(), commits));
    }
    threads.push(start(&process, rng.random(), checkpoints));
    if rng.random() {
        threads.push(start(&process, rng.random(), idles));
    }
    for (thread, failure) in threads {
        thread.join().map_err(|panicked| format!("{panicked:?}"))?;
        failure.lock().take().map_or(Ok(()), Err)?;
    }
    if rng.random() {
        match process.wal.close() {
            Ok(()) => process.ledger.lock().confirmed = process.wal.appended(),
            Err(error) => crashed(error)?,
        }
    }
    let ledger = process.ledger.lock().clone();
    Ok(ledger)
}

type Thread = (ashlar_disk::sync::JoinHandle, Arc<Mutex<Option<String>>>);

fn start(process: &Arc<Process>, seed: u64, job: fn(&Process, &mut ChaCha8Rng) -> Result<(), Error>) -> Thread {
    let (process, failure) = (process.clone(), Arc::new(Mutex::new(None)));
    let told = failure.clone();
    let run = move || {
        if let Err(error) = job(&process, &mut ChaCha8Rng::seed_from_u64(seed)) {
            *told.lock() = crashed(error).err();
        }
    };
    (spawn("thread", run).expect("a simulated thread starts"), failure)
}

/// The only error that may come is the crash.
fn crashed(error: Error) -> Result<(), String> {
    if matches!(error, Error::Disk(ashlar_disk::Error::Crashed { .. })) { Ok(()) } else { Err(error.to_string()) }
}

fn commits(process: &Process, rng: &mut ChaCha8Rng) -> Result<(), Error> {
    let outcome = append_and_flush(process, rng);
    process.committing.fetch_sub(1, Relaxed);
    outcome
}

/// Appends, and waits for some of it.
fn append_and_flush(process: &Process, rng: &mut ChaCha8Rng) -> Result<(), Error> {
    for _ in 0..rng.random_range(1..12) {
        let len = match rng.random_range(0..10) {
            0 => rng.random_range(8..40_000),
            1 | 2 => rng.random_range(3900..8300),
            _ => rng.random_range(8..500),
        };
        let room = if rng.random() { Some(process.wal.reserve(len as u64)?) } else { None };
        let mut ledger = process.ledger.lock();
        let id = ledger.next_id;
        ledger.next_id += 1;
        let appended = match room {
            Some(room) => process.wal.append_with(room, body(id, len)),
            None => process.wal.append(body(id, len)),
        };
        let ashlar_wal::Appended { start, lsn, flush_start } = appended;
        ledger.entries.push(Entry { id, start, lsn, flush_start, incarnation: process.incarnation });
        drop(ledger);
        if rng.random_ratio(2, 3) {
            process.wal.flush_to(lsn)?;
            let mut ledger = process.ledger.lock();
            ledger.confirmed = ledger.confirmed.max(lsn);
        }
    }
    Ok(())
}

fn checkpoints(process: &Process, rng: &mut ChaCha8Rng) -> Result<(), Error> {
    checkpoint_while_committing(process, rng).inspect_err(|error| process.wal.refuse_room(error.clone()))
}

/// Checkpoints now and then; to the end of the log when somebody waits for room.
fn checkpoint_while_committing(process: &Process, rng: &mut ChaCha8Rng) -> Result<(), Error> {
    for _ in 0..rng.random_range(0..8) {
        checkpoint(process, rng.random_range(0..3))?;
    }
    while process.committing.load(Relaxed) > 0 {
        sleep(Duration::from_millis(1));
        if process.wal.pressure().waiting > 0 {
            checkpoint(process, 0)?;
        }
    }
    Ok(())
}

/// Moves the start of replay on, as a checkpoint does: to the flush of the first record after A. A is the `nth` last record.
fn checkpoint(process: &Process, nth: usize) -> Result<(), Error> {
    let ledger = process.ledger.lock();
    let superblock = ledger.superblock;
    let next = ledger.entries.len().saturating_sub(nth);
    let Some(a) = next.checked_sub(1).map(|a| ledger.entries[a]) else { return Ok(()) };
    let (c, incarnation_at_c) = match ledger.entries.get(next) {
        Some(next) => (next.flush_start, next.incarnation),
        None => (process.wal.cut_point(), process.incarnation),
    };
    drop(ledger);
    process.wal.flush_to(a.lsn)?;
    if c >= superblock.c {
        // The superblock's write: a machine that has crashed writes none.
        process.log.fs.list(&process.log.dir)?;
        process.ledger.lock().superblock = LogStart { c, incarnation_at_c, durable: a.lsn, ..superblock };
        process.wal.recycle_below(c)?;
    }
    Ok(())
}

/// What goes on in the background.
fn idles(process: &Process, rng: &mut ChaCha8Rng) -> Result<(), Error> {
    for _ in 0..rng.random_range(1..10) {
        yield_point();
        match rng.random_range(0..3) {
            0 => process.wal.prepare_segments()?,
            1 => process.wal.witness().map(|_| ())?,
            _ => process.wal.flush_to(process.wal.appended())?,
        }
    }
    Ok(())
}

/// One log from its creation through several crashes.
fn history(seed: u64) -> Result<u64, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sim = Sim::new(SimOptions::new(seed));
    let dir = Path::new("/wal");
    let options = WalOptions { flush_size_max: 4096 << rng.random_range(0..5), log_limit: 192 << 10, ..small() };
    let log = Log::create(sim.fs(), dir, options.clone()).map_err(|error| error.to_string())?;
    let mut ledger = Ledger { superblock: log.start, entries: Vec::new(), confirmed: Lsn(0), next_id: 0 };
    drop(log);
    let lives = rng.random_range(2..6);
    for life in 0..lives {
        let calls = sim.calls();
        // Early calls are those of recovery; crashing in them again and again must end in the same state.
        let calls_max = 1 << rng.random_range(2..9);
        let crash_after = rng.random_range(1..calls_max);
        sim.set_crash_at((life + 1 < lives && rng.random_ratio(3, 4)).then_some(calls + crash_after));
        let (fs, options, before, seed) = (sim.fs(), options.clone(), ledger.clone(), rng.random());
        let outcome = sim.run(move || live(fs, dir.to_owned(), options, before, seed));
        ledger = match (outcome.value, outcome.failure) {
            (Some(after), None) => after.map_err(|failure| format!("life {life}: {failure}"))?,
            (_, failure) => return Err(format!("life {life}: {failure:?}")),
        };
        let how = if rng.random_ratio(2, 3) { Restart::PowerCut } else { Restart::Kill };
        sim = sim.restart(how, SimOptions::new(rng.random()));
    }
    let mut log = Log { fs: sim.fs(), dir: dir.to_owned(), options, start: ledger.superblock };
    let (_, records) = log.open().map_err(|error| format!("at last: {error}"))?;
    ledger.recovered(&records).map_err(|failure| format!("at last: {failure}"))?;
    Ok(ledger.next_id)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_confirmed_is_lost_and_nothing_else_is_found() {
    let first = number("ASHLAR_WAL_SEED", 0);
    let histories = number("ASHLAR_WAL_HISTORIES", 400);
    let mut records = 0;
    for seed in first..first + histories {
        match history(seed) {
            Ok(appended) => records += appended,
            Err(failure) => panic!("ASHLAR_WAL_SEED={seed} ASHLAR_WAL_HISTORIES=1: {failure}"),
        }
    }
    println!("{histories} histories, {records} records");
}

/// A witness goes to the last block of a segment, in a log that has just been opened; before it is written, a record is appended behind
/// it, and a checkpoint recycles the segment.
#[test]
fn a_segment_is_not_recycled_under_a_flush() {
    let mut races = 0;
    for seed in 0..300 {
        let sim = Sim::new(SimOptions::new(seed));
        let fs = sim.fs();
        let run = move || {
            let mut log = Log::create(fs, Path::new("/wal"), small())?;
            let (wal, _) = log.open()?;
            let almost_a_segment = 64 * 1024 - 4096 - 4 * 64 - 8;
            let last = wal.append(body(0, almost_a_segment));
            wal.flush_to(last.lsn)?;
            drop(wal);
            let (wal, _) = log.open()?;
            let wal = Arc::new(wal);
            let witness = wal.clone();
            let witness = spawn("witness", move || drop(witness.witness())).expect("a simulated thread starts");
            yield_point();
            let next = wal.append(body(1, 100));
            wal.recycle_below(next.flush_start)?;
            wal.flush_to(next.lsn)?;
            witness.join().expect("no panic");
            log.start.c = next.flush_start;
            assert_eq!(log.records()?.len(), 1);
            Ok::<bool, Error>(next.flush_start == Lsn(64 * 1024))
        };
        races += u32::from(sim.run(run).expect("a run").expect("no error"));
    }
    assert!(races > 0, "the witness came first at least once");
}

/// Two wait for room; recycling makes enough for both, and each is given it though neither gives back its own.
#[test]
fn room_for_two_is_given_to_both() {
    for seed in 0..200 {
        let sim = Sim::new(SimOptions::new(seed));
        let fs = sim.fs();
        let run = move || {
            let mut log = Log::create(fs, Path::new("/wal"), WalOptions { log_limit: 64 << 10, ..small() })?;
            let (wal, _) = log.open()?;
            let wal = Arc::new(wal);
            let full = wal.append(body(0, 60_000));
            let rooms = Arc::new(Mutex::new(Vec::new()));
            let wait = || {
                let (wal, rooms) = (wal.clone(), rooms.clone());
                let reserve = move || {
                    let room = wal.reserve(5000).expect("room");
                    rooms.lock().push(room);
                };
                spawn("waiter", reserve).expect("a simulated thread starts")
            };
            let waiters = [wait(), wait()];
            wal.flush_to(full.lsn)?;
            wal.recycle_below(wal.durable())?;
            waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
            assert_eq!(rooms.lock().len(), 2);
            rooms.lock().clear();
            Ok::<(), Error>(())
        };
        sim.run(run).expect("a run").expect("no error");
    }
}

/// A short life with a crash at each of its calls; the recovery from that, with a crash at each of its calls; the last recovery.
#[test]
fn a_crash_at_every_call_and_in_every_recovery_from_it() {
    let mut crashes = 0;
    for seed in 0..4 {
        for first in 1.. {
            let Some(again) = crash_twice(seed, first, None).expect("one crash") else { break };
            for second in (1..=again).step_by(1 + seed as usize * 2) {
                crash_twice(seed, first, Some(second)).expect("two crashes");
                crashes += 1;
            }
        }
    }
    println!("{crashes} pairs of crashes");
    assert!(crashes > 100);
}

/// A life that crashes at call `first`, then one that crashes at call `second`. Gives how many calls the second life made, or
/// nothing if the first one ended before its crash.
fn crash_twice(seed: u64, first: u64, second: Option<u64>) -> Result<Option<u64>, String> {
    let mut sim = Sim::new(SimOptions::new(seed));
    let dir = Path::new("/wal");
    let options = WalOptions { flush_size_max: 8192, log_limit: 192 << 10, ..small() };
    let log = Log::create(sim.fs(), dir, options.clone()).map_err(|error| error.to_string())?;
    let mut ledger = Ledger { superblock: log.start, entries: Vec::new(), confirmed: Lsn(0), next_id: 0 };
    drop(log);
    let mut calls = 0;
    for (life, crash_after) in [Some(first), second, None].into_iter().enumerate() {
        let before = sim.calls();
        sim.set_crash_at(crash_after.map(|calls| before + calls));
        let (fs, options) = (sim.fs(), options.clone());
        let outcome = sim.run(move || live(fs, dir.to_owned(), options, ledger, seed));
        ledger =
            outcome.expect("a life").map_err(|failure| format!("seed {seed}, {first}, {second:?}, life {life}: {failure}"))?;
        match life {
            0 if !sim.has_crashed() => return Ok(None),
            1 => calls = sim.calls() - before,
            _ => {}
        }
        let how = if (first + life as u64).is_multiple_of(2) { Restart::PowerCut } else { Restart::Kill };
        sim = sim.restart(how, SimOptions::new(seed * 1000 + first));
    }
    Ok(Some(calls))
}

#[test]
fn the_same_seed_is_the_same_history() {
    assert_eq!(history(7), history(7));
}
