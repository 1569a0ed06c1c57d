//! Random transactions against ordered maps, with savepoints, while others write.
//!
//! Every read of a transaction is compared with a model of what it should see. When a serializable one has committed, all that it did
//! is played again, on a model of what stood at that moment: each read must give the same once more. That is what it means to be
//! serializable in the order of the commits. One under `Snapshot` must have the writes that it made, and on top of those of others.
//!
//! `ASHLAR_SEED` sets the first seed, `ASHLAR_TRANSACTION_RUNS` how many databases, `ASHLAR_TRANSACTIONS` how many transactions each.

use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_tests::dump;
use ashlar_tests::geometry::Geometry;
use ashlar_tests::number;
use ashlar_tests::state::{Bytes, KeyRange, State, Write, in_range, show, show_range};
use ashlar_tests::workload::{Keys, value, value_len};
use ashlardb::fault::Fault;
use ashlardb::{Background, Database, Durability, Error, Isolation, Keyspace, Savepoint, Transaction};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// What an iterator gave.
type Entry = Option<(Vec<u8>, Bytes)>;

/// Something that a transaction did, with what it was told.
#[derive(Clone)]
enum Step {
    Write(Write),
    /// Whether a keyspace is there.
    Exists(Arc<str>, bool),
    Get(Arc<str>, Vec<u8>, Option<Bytes>),
    Len(Arc<str>, u64),
    /// Entries from the front (false) or the back (true).
    Scan(Arc<str>, KeyRange, Vec<(bool, Entry)>),
    Savepoint,
    RollbackTo(usize),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Write(write) => write!(f, "{write:?}"),
            Step::Exists(name, there) => write!(f, "{name} is there: {there}"),
            Step::Get(name, key, found) => write!(f, "get {name}/{}: {:?}", show(key), found.as_deref().map(show)),
            Step::Len(name, len) => write!(f, "len of {name}: {len}"),
            Step::Scan(name, range, found) => {
                write!(f, "scan {name}/{}:", show_range(range))?;
                let entry = |found: &Entry| found.as_ref().map(|(key, value)| (show(key), show(value)));
                found.iter().try_for_each(|(back, found)| write!(f, " back {back} {:?}", entry(found)))
            }
            Step::Savepoint => write!(f, "savepoint"),
            Step::RollbackTo(number) => write!(f, "roll back to savepoint {number}"),
        }
    }
}

/// A model in which steps are played.
#[derive(Default)]
struct Play {
    state: State,
    savepoints: Vec<State>,
}

impl Play {
    fn of(state: &State) -> Play {
        Play { state: state.clone(), savepoints: Vec::new() }
    }

    /// Plays a step; an error if it would have given something else.
    fn play(&mut self, step: &Step) -> Result<(), String> {
        let differs = |expected: &dyn std::fmt::Debug| Err(format!("{step:?}, expected {expected:?}"));
        match step {
            Step::Write(write) => write.apply(&mut self.state),
            Step::Exists(name, there) => {
                if self.state.contains_key(&**name) != *there {
                    return differs(&!there);
                }
            }
            Step::Get(name, key, found) => {
                let expected = self.state.get(&**name).and_then(|entries| entries.get(key));
                if expected != found.as_ref() {
                    return differs(&expected.map(|v| show(v)));
                }
            }
            Step::Len(name, len) => {
                let expected = self.state.get(&**name).map_or(0, |entries| entries.len() as u64);
                if expected != *len {
                    return differs(&expected);
                }
            }
            Step::Scan(name, range, found) => {
                let entries = self.state.get(&**name).into_iter().flatten();
                let mut inside = entries.filter(|(key, _)| in_range(range, key));
                for (back, found) in found {
                    let expected = if *back { inside.next_back() } else { inside.next() };
                    if expected != found.as_ref().map(|(key, value)| (key, value)) {
                        return differs(&expected.map(|(key, value)| (*back, show(key), show(value))));
                    }
                }
            }
            Step::Savepoint => self.savepoints.push(self.state.clone()),
            Step::RollbackTo(number) => {
                self.savepoints.truncate(number + 1);
                self.state = self.savepoints[*number].clone();
            }
        }
        Ok(())
    }
}

struct Run {
    rng: ChaCha8Rng,
    geometry: Geometry,
    db: Database,
    keys: Keys,
    /// What is committed.
    committed: State,
    writes: u64,
    sum: Sum,
}

#[derive(Debug, Default)]
struct Sum {
    committed: u64,
    beside_others: u64,
    conflicts: u64,
    too_large: u64,
}

struct Open {
    tx: Transaction,
    isolation: Isolation,
    play: Play,
    steps: Vec<Step>,
    savepoints: Vec<Savepoint>,
    /// Savepoints that were rolled back past.
    gone: Vec<Savepoint>,
    others: Vec<Write>,
}

impl Run {
    fn new(seed: u64, fault: Fault) -> Run {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let geometry = Geometry { fault, ..Geometry::draw(&mut rng) };
        let fs = Sim::new(SimOptions::new(seed)).fs();
        let db = geometry.options(Some(fs), Background::Manual).open("/transactions").unwrap();
        let count = [12, 60, 200][rng.random_range(0..3)];
        let keys = Keys::draw(&mut rng, count, db.key_len_max());
        Run { rng, geometry, db, keys, committed: State::new(), writes: 0, sum: Sum::default() }
    }

    fn transaction(&mut self) -> Result<(), String> {
        let isolation = if self.rng.random() { Isolation::Serializable } else { Isolation::Snapshot };
        let tx = self.db.begin_with(isolation).unwrap();
        let (steps, savepoints, gone, others) = Default::default();
        let play = Play::of(&self.committed);
        let mut open = Open { tx, isolation, play, steps, savepoints, gone, others };
        // With many others hardly one goes through, without any it must.
        let others_in = [0, 0, 8, 40][self.rng.random_range(0..4)];
        for _ in 0..self.rng.random_range(1..40) {
            if others_in > 0 && self.rng.random_range(0..100) < others_in {
                self.other(&mut open);
            }
            let step = self.step(&mut open).map_err(|e| format!("{e}, {:?}", open.steps))?;
            open.play.play(&step).map_err(|e| format!("{e}; after {:?}, others {:?}", open.steps, open.others))?;
            open.steps.push(step);
        }
        self.end(open)
    }

    fn end(&mut self, open: Open) -> Result<(), String> {
        let Open { tx, isolation, play, steps, others, .. } = open;
        let tell = |what: &str| format!("{what} ({isolation:?}): {steps:?}\nothers: {others:?}");
        match self.rng.random_range(0..10) {
            0 => tx.rollback().unwrap(),
            1 => drop(tx),
            _ => {
                let durability = if self.rng.random() { Durability::Immediate } else { Durability::Eventual };
                match tx.commit_with(durability) {
                    Ok(()) if others.is_empty() => self.committed = play.state,
                    Ok(()) => {
                        self.sum.beside_others += 1;
                        let mut again = Play::of(&self.committed);
                        for step in &steps {
                            let played = again.play(step);
                            if isolation == Isolation::Serializable && steps_write(&steps) {
                                played.map_err(|e| tell(&format!("committed, though it would now give: {e}")))?;
                            }
                        }
                        self.committed = again.state;
                    }
                    Err(Error::Conflict) if others.is_empty() => return Err(tell("a conflict with nobody")),
                    Err(Error::Conflict) => self.sum.conflicts += 1,
                    Err(Error::TransactionTooLarge { .. }) => self.sum.too_large += 1,
                    Err(e) => return Err(tell(&e.to_string())),
                }
                self.sum.committed += 1;
            }
        }
        if self.rng.random_range(0..4) == 0 {
            self.db.checkpoint().unwrap();
        }
        if self.rng.random_range(0..4) == 0 {
            while self.db.maintain().unwrap() {}
        }
        dump::check(&self.db, &self.committed).map_err(|e| tell(&e.to_string()))
    }

    /// Something that somebody else commits meanwhile.
    fn other(&mut self, open: &mut Open) {
        let name: Arc<str> = NAMES[self.rng.random_range(0..NAMES.len())].into();
        let keyspace = self.db.existing_keyspace(&name).unwrap();
        let write = match (keyspace, self.rng.random_range(0..30)) {
            (None, _) => {
                self.db.keyspace(&name).unwrap();
                Write::Create { keyspace: name }
            }
            (Some(_), 0) => {
                self.db.drop_keyspace(&name).unwrap();
                Write::Drop { keyspace: name }
            }
            (Some(keyspace), 1) => {
                keyspace.clear().unwrap();
                Write::Clear { keyspace: name }
            }
            (Some(keyspace), 2..5) => {
                let range = self.keys.short_range(&mut self.rng);
                keyspace.remove_range(range.clone()).unwrap();
                Write::RemoveRange { keyspace: name, range }
            }
            (Some(keyspace), 5..12) => {
                let key = self.keys.pick(&mut self.rng);
                keyspace.remove(&key).unwrap();
                Write::Remove { keyspace: name, key }
            }
            (Some(keyspace), _) => {
                let (key, value) = self.entry();
                keyspace.insert(&key, &value).unwrap();
                Write::Put { keyspace: name, key, value }
            }
        };
        write.apply(&mut self.committed);
        open.others.push(write);
        if self.rng.random_range(0..10) == 0 {
            self.db.checkpoint().unwrap();
        }
    }

    fn entry(&mut self) -> (Vec<u8>, Bytes) {
        let key = self.keys.pick(&mut self.rng);
        self.writes += 1;
        let value = value(self.writes, value_len(&mut self.rng, &self.geometry, key.len()));
        (key, value)
    }

    fn step(&mut self, open: &mut Open) -> Result<Step, String> {
        let name: Arc<str> = NAMES[self.rng.random_range(0..NAMES.len())].into();
        match self.rng.random_range(0..100) {
            0..5 => {
                open.savepoints.push(open.tx.savepoint());
                return Ok(Step::Savepoint);
            }
            5..10 if !open.savepoints.is_empty() => return self.roll_back(open),
            10..14 => {
                let there = open.tx.existing_keyspace(&name).unwrap().is_some();
                return Ok(Step::Exists(name, there));
            }
            14..16 => {
                let there = open.tx.drop_keyspace(&name).unwrap();
                return Ok(if there { Step::Write(Write::Drop { keyspace: name }) } else { Step::Exists(name, false) });
            }
            _ => {}
        }
        // By a handle of somebody else's, where there is one of the same keyspace.
        let handle =
            self.db.existing_keyspace(&name).unwrap().filter(|handle| open.tx.get(handle, "").is_ok() && self.rng.random());
        let Some(keyspace) = handle.or_else(|| open.tx.existing_keyspace(&name).unwrap()) else {
            open.tx.keyspace(&name).unwrap();
            return Ok(Step::Write(Write::Create { keyspace: name }));
        };
        Ok(if self.rng.random() { self.read(&open.tx, &keyspace, name) } else { self.write(&mut open.tx, &keyspace, name) })
    }

    fn roll_back(&mut self, open: &mut Open) -> Result<Step, String> {
        if let Some(gone) = open.gone.last()
            && !matches!(open.tx.rollback_to(gone), Err(Error::NoSuchSavepoint))
        {
            return Err("a savepoint that was rolled back past was taken".into());
        }
        let number = self.rng.random_range(0..open.savepoints.len());
        open.tx.rollback_to(&open.savepoints[number]).unwrap();
        open.gone.extend(open.savepoints.drain(number + 1..));
        Ok(Step::RollbackTo(number))
    }

    fn write(&mut self, tx: &mut Transaction, keyspace: &Keyspace, name: Arc<str>) -> Step {
        let write = match self.rng.random_range(0..40) {
            0 => {
                tx.clear(keyspace).unwrap();
                Write::Clear { keyspace: name }
            }
            1..6 => {
                let range = if self.rng.random() { self.keys.short_range(&mut self.rng) } else { self.keys.range(&mut self.rng) };
                tx.remove_range(keyspace, range.clone()).unwrap();
                Write::RemoveRange { keyspace: name, range }
            }
            6..15 => {
                let key = self.keys.near(&mut self.rng);
                tx.remove(keyspace, &key).unwrap();
                Write::Remove { keyspace: name, key }
            }
            _ => {
                let (key, value) = self.entry();
                tx.insert(keyspace, &key, &value).unwrap();
                Write::Put { keyspace: name, key, value }
            }
        };
        Step::Write(write)
    }

    fn read(&mut self, tx: &Transaction, keyspace: &Keyspace, name: Arc<str>) -> Step {
        let bytes = |value: ashlardb::Value| Bytes::from(&value[..]);
        match self.rng.random_range(0..20) {
            0..8 => {
                let key = self.keys.near(&mut self.rng);
                let found = if self.rng.random() {
                    tx.get(keyspace, &key).unwrap()
                } else {
                    tx.get_many(keyspace, [&key]).unwrap().remove(0)
                };
                Step::Get(name, key, found.map(bytes))
            }
            8..10 => {
                let len = tx.len(keyspace).unwrap();
                Step::Len(name, len)
            }
            _ => {
                let range = if self.rng.random() { self.keys.short_range(&mut self.rng) } else { self.keys.range(&mut self.rng) };
                let mut scan = tx.range(keyspace, range.clone());
                let (most, backs) = ([3, 10, 1000][self.rng.random_range(0..3)], self.rng.random_range(0..=100));
                let mut found = Vec::new();
                while found.len() < most {
                    let back = self.rng.random_range(0..100) < backs;
                    let entry = if back { scan.next_back() } else { scan.next() };
                    let entry = entry.map(|entry| entry.unwrap()).map(|(key, value)| (key, bytes(value)));
                    let ended = entry.is_none();
                    found.push((back, entry));
                    if ended {
                        break;
                    }
                }
                Step::Scan(name, range, found)
            }
        }
    }
}

/// Whether a transaction has anything to commit: one that has not stands at its beginning, and may be right no longer.
fn steps_write(steps: &[Step]) -> bool {
    let mut counts = vec![0];
    for step in steps {
        match step {
            Step::Write(_) => *counts.last_mut().unwrap() += 1,
            Step::Savepoint => counts.push(*counts.last().unwrap()),
            Step::RollbackTo(number) => {
                counts.truncate(number + 2);
                let at = counts[*number];
                *counts.last_mut().unwrap() = at;
            }
            _ => {}
        }
    }
    *counts.last().unwrap() > 0
}

/// A database, and so many transactions on it.
fn run(seed: u64, transactions: u64, fault: Fault, sum: &mut Sum) -> Result<(), String> {
    let mut run = Run::new(seed, fault);
    let within = |run: &Run, failure: String| format!("seed {seed}, {:?}: {failure}", run.geometry);
    for _ in 0..transactions {
        run.transaction().map_err(|failure| within(&run, failure))?;
    }
    while run.db.maintain().unwrap() {}
    run.db.checkpoint().unwrap();
    dump::verify(&run.db).map_err(|failure| within(&run, failure.to_string()))?;
    sum.committed += run.sum.committed;
    sum.beside_others += run.sum.beside_others;
    sum.conflicts += run.sum.conflicts;
    sum.too_large += run.sum.too_large;
    Ok(())
}

#[test]
fn they_do_what_ordered_maps_do() {
    let (first, runs) = (number("ASHLAR_SEED", 0), number("ASHLAR_TRANSACTION_RUNS", 40));
    let transactions = number("ASHLAR_TRANSACTIONS", 40);
    let mut sum = Sum::default();
    for seed in first..first + runs {
        if let Err(failure) = run(seed, transactions, Fault::None, &mut sum) {
            panic!("{failure}");
        }
    }
    println!("{sum:?}");
    if runs >= 40 {
        assert!(sum.beside_others > sum.committed / 20 && sum.conflicts > sum.committed / 20, "{sum:?}");
    }
}

/// A test of the test: validation that is left out must show.
#[test]
fn mistakes_in_validation_are_noticed() {
    for fault in [Fault::RangesNotValidated, Fault::TrimAtWatermark] {
        let noticed = (0..100).find_map(|seed| run(seed, 40, fault, &mut Sum::default()).err());
        let Some(failure) = noticed else { panic!("{fault:?} went unnoticed") };
        println!("{fault:?}: {failure:.200}");
        assert!(failure.contains("committed, though it would now give"), "{failure}");
    }
}
