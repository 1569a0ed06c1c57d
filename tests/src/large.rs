//! A database that grows past a gigabyte on a simulated machine that crashes: past the first level of the page map, past the first use
//! again of blocks, page ids and log segments. Faults that need size do not show in small databases.
//!
//! One thread, no scheduler: what counts here is how much there is. A bulk load makes most of it; then batches put, replace and remove,
//! whole ranges as well, with values in leaves, overflow pages and blobs. Each batch writes its number to a key of its own, so that after a
//! crash the database tells how many of them it holds: all that were confirmed, and of the others the first ones. All entries are a
//! function of key and generation, and are compared after some crashes and at the end; a sample of them after each.

use crate::workload::value;
use ashlar_disk::Fs;
use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Durability, Error, Keyspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that most values have: three or four entries to a page.
const VALUE_LEN: usize = 960;
/// Entries that the page map's first two levels can't hold the pages of.
const ENTRIES: u64 = 1_150_000;
/// Pages that the page map's first two levels can hold.
const PAGES_OF_TWO_LEVELS: u64 = 512 * 512;
/// The key that holds the number of the last batch.
const COUNT: &[u8] = b"batches";

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// Databases.
    pub runs: u64,
    /// Crashes.
    pub crashes: u64,
    /// Those while the database was being opened.
    pub crashes_in_recovery: u64,
    /// Batches that were committed.
    pub batches: u64,
    /// Bytes of the data file, at most.
    pub file_bytes: u64,
    /// Pages, at most.
    pub pages: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Log segments that were used again.
    pub segments_reused: u64,
    /// Entries that were compared.
    pub compared: u64,
    /// Times that everything was compared and verified.
    pub looks: u64,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Entries of the bulk load.
    pub entries: u64,
    /// Batches after it.
    pub batches: u64,
}

impl Size {
    /// Past a gigabyte.
    pub fn gigabyte() -> Size {
        Size { entries: ENTRIES, batches: 3000 }
    }
}

/// One change of a batch. Entries are numbers; a key is its number, so that order and ranges are theirs.
#[derive(Clone, Copy, Debug)]
enum Change {
    Put(u64, u32),
    RemoveRange(u64, u64),
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn value_of(number: u64, generation: u32) -> crate::state::Bytes {
    let len = match number % 5000 {
        0 => 150_000,
        n if n % 400 == 1 => 6000,
        n => VALUE_LEN - (n % 64) as usize,
    };
    value(number << 20 | u64::from(generation), len)
}

struct Machine {
    size: Size,
    rng: ChaCha8Rng,
    sim: Sim,
    /// What is durable: numbers and their generations.
    entries: BTreeMap<u64, u32>,
    /// Batches that are not known to be durable, with their numbers.
    pending: Vec<(u64, Vec<Change>)>,
    batches: u64,
    /// The newest generation, also of batches that were lost.
    generation: u32,
    growth: Growth,
}

/// Runs one. `told` is called now and then with how many batches there have been.
///
/// # Errors
/// What went wrong.
pub fn run(seed: u64, size: Size, told: &mut dyn FnMut(u64)) -> Result<Growth, String> {
    let sim = Sim::new(SimOptions::new(seed));
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let growth = Growth { runs: 1, ..Growth::default() };
    let mut machine =
        Machine { size, rng, sim, entries: BTreeMap::new(), pending: Vec::new(), batches: 0, generation: 0, growth };
    machine.load()?;
    let db = machine.reopen(true)?;
    let mut db = Some(db);
    while machine.batches < size.batches {
        let calls = 1 << machine.rng.random_range(4..13);
        let calls = machine.rng.random_range(1..=calls);
        machine.sim.set_crash_at(Some(machine.sim.calls() + calls));
        let open = db.take().ok_or("no database")?;
        machine.work(&open, size.batches)?;
        machine.note(&open);
        drop(open);
        machine.growth.crashes += u64::from(machine.sim.has_crashed());
        let everything = machine.rng.random_ratio(1, 60);
        db = Some(machine.reopen(everything)?);
        told(machine.batches);
    }
    drop(db);
    drop(machine.reopen(true)?);
    machine.check_growth()?;
    Ok(machine.growth)
}

fn explain(what: &str) -> impl Fn(Error) -> String {
    move |e| format!("{what}: {e} ({e:?})")
}

impl Machine {
    fn open(&self) -> Result<Database, Error> {
        let fs: Arc<dyn Fs> = self.sim.fs();
        let options = Database::options().page_size(4096).block_size(4096).cache_size(24 << 20).segment_size(1 << 20);
        options.log_limit(32 << 20).blob_threshold(16 << 10).background(Background::Manual).file_system(fs).open("/db")
    }

    /// The bulk load, confirmed, and a crash.
    fn load(&mut self) -> Result<(), String> {
        let db = self.open().map_err(explain("making the database"))?;
        let keyspace = db.keyspace("entries").map_err(explain("keyspace"))?;
        let entries = self.size.entries;
        // Every other number, so that there is room between them.
        let items = (0..entries).map(|n| Ok::<_, Error>((key(2 * n), value_of(2 * n, 0))));
        keyspace.bulk_load(items).map_err(explain("bulk load"))?;
        self.entries.extend((0..entries).map(|n| (2 * n, 0)));
        self.note(&db);
        self.sim.crash();
        self.growth.crashes += 1;
        Ok(())
    }

    fn note(&mut self, db: &Database) {
        let stats = db.stats();
        self.growth.file_bytes = self.growth.file_bytes.max(stats.space.file);
        self.growth.pages = self.growth.pages.max(stats.space.pages);
        self.growth.segments_reused += stats.log.as_ref().map_or(0, |log| log.segments_reused);
        self.growth.log_bytes += stats.log.map_or(0, |log| log.bytes_written);
    }

    /// Restarts the machine, opens the database, with a crash in between sometimes, and compares.
    fn reopen(&mut self, everything: bool) -> Result<Database, String> {
        loop {
            let how = if self.rng.random_ratio(2, 3) { Restart::PowerCut } else { Restart::Kill };
            self.sim = self.sim.restart(how, SimOptions::new(self.rng.random()));
            let crashes = self.rng.random_ratio(1, 4);
            let call = self.rng.random_range(1..200);
            self.sim.set_crash_at(crashes.then_some(call));
            match self.open() {
                Ok(db) if !self.sim.has_crashed() => {
                    self.sim.set_crash_at(None);
                    self.settle(&db)?;
                    self.compare(&db, everything)?;
                    return Ok(db);
                }
                Err(e) if !self.sim.has_crashed() => return Err(explain("open")(e)),
                _ => {
                    self.growth.crashes += 1;
                    self.growth.crashes_in_recovery += 1;
                }
            }
        }
    }

    /// Batches, until the machine crashes or there have been enough.
    fn work(&mut self, db: &Database, batches: u64) -> Result<(), String> {
        while self.batches < batches {
            match self.step(db) {
                Err(_) if self.sim.has_crashed() => return Ok(()),
                outcome => outcome.map_err(explain("at work"))?,
            }
        }
        Ok(())
    }

    fn step(&mut self, db: &Database) -> Result<(), Error> {
        match self.rng.random_range(0..100) {
            0 => return db.checkpoint(),
            1 => return db.compact().map(drop),
            2..12 => return db.maintain().map(drop),
            _ => {}
        }
        let keyspace = db.keyspace("entries")?;
        let changes = self.draw();
        self.batches += 1;
        let number = self.batches;
        let durability = if self.rng.random() { Durability::Immediate } else { Durability::Eventual };
        let mut batch = db.batch();
        batch.insert(&db.keyspace("count")?, COUNT, number.to_be_bytes())?;
        for change in &changes {
            match *change {
                Change::Put(number, generation) => batch.insert(&keyspace, key(number), &value_of(number, generation)[..])?,
                Change::RemoveRange(from, to) => batch.remove_range(&keyspace, key(from)..key(to))?,
            }
        }
        self.pending.push((number, changes));
        batch.commit_with(durability)?;
        if durability == Durability::Immediate {
            self.take(number);
        }
        self.growth.batches += 1;
        Ok(())
    }

    /// Mostly replaced and new entries near each other, and now and then a range that goes: the pages of thousands of entries.
    fn draw(&mut self) -> Vec<Change> {
        let end = 2 * self.size.entries;
        let start = self.rng.random_range(0..end);
        if self.rng.random_ratio(1, 12) {
            return vec![Change::RemoveRange(start, start + self.rng.random_range(1..8000))];
        }
        self.generation += 1;
        let generation = self.generation;
        let (count, spread) = (self.rng.random_range(1..200), [1, 3, 20_000][self.rng.random_range(0..3)]);
        (0..count).map(|n| Change::Put((start + n * spread) % end, generation)).collect()
    }

    /// All batches up to that number are durable.
    fn take(&mut self, number: u64) {
        let count = self.pending.partition_point(|(n, _)| *n <= number);
        for change in self.pending.drain(..count).flat_map(|(_, changes)| changes) {
            match change {
                Change::Put(number, generation) => drop(self.entries.insert(number, generation)),
                Change::RemoveRange(from, to) => {
                    let mut rest = self.entries.split_off(&from);
                    self.entries.append(&mut rest.split_off(&to));
                }
            }
        }
    }

    /// Which batches the database holds.
    fn settle(&mut self, db: &Database) -> Result<(), String> {
        let count = match db.existing_keyspace("count").map_err(explain("keyspace"))? {
            Some(keyspace) => keyspace.get(COUNT).map_err(explain("number of batches"))?,
            None => None,
        };
        let found = count.map_or(0, |bytes| bytes[..].try_into().map_or(u64::MAX, u64::from_be_bytes));
        let least = self.pending.first().map_or(self.batches, |(n, _)| n - 1);
        if found < least || found > self.batches {
            return Err(format!("{found} batches are there, {least} were confirmed, {} begun", self.batches));
        }
        self.take(found);
        self.pending.clear();
        self.batches = found;
        Ok(())
    }

    fn compare(&mut self, db: &Database, everything: bool) -> Result<(), String> {
        let keyspace = db.keyspace("entries").map_err(explain("keyspace"))?;
        for _ in 0..300 {
            let number = self.rng.random_range(0..2 * self.size.entries);
            let found = keyspace.get(key(number)).map_err(explain("get"))?;
            self.compare_entry(number, found.as_deref())?;
        }
        if !everything {
            let from = self.rng.random_range(0..2 * self.size.entries);
            return self.compare_range(&keyspace, from, from + 2000);
        }
        self.growth.looks += 1;
        self.compare_range(&keyspace, 0, u64::MAX)?;
        let report = db.verify().map_err(explain("verify"))?;
        if report.is_clean() { Ok(()) } else { Err(format!("verify: {report}: {:?}", report.findings.first())) }
    }

    fn compare_entry(&mut self, number: u64, found: Option<&[u8]>) -> Result<(), String> {
        self.growth.compared += 1;
        let expected = self.entries.get(&number).map(|&generation| value_of(number, generation));
        if found == expected.as_deref() {
            return Ok(());
        }
        let show = |v: Option<&[u8]>| v.map_or("nothing".to_owned(), crate::state::show);
        Err(format!("entry {number} holds {}, expected {}", show(found), show(expected.as_deref())))
    }

    fn compare_range(&mut self, keyspace: &Keyspace, from: u64, to: u64) -> Result<(), String> {
        let expected: Vec<u64> = self.entries.range(from..to).map(|(&n, _)| n).collect();
        let mut expected = expected.into_iter();
        for entry in keyspace.range(key(from)..key(to)) {
            let (found, value) = entry.map_err(explain("scan"))?;
            let number = found[..].try_into().map_or(u64::MAX, u64::from_be_bytes);
            if expected.next() != Some(number) {
                return Err(format!("a scan gives entry {number} where another should be"));
            }
            self.compare_entry(number, Some(&value))?;
        }
        expected.next().map_or(Ok(()), |number| Err(format!("a scan ends before entry {number}")))
    }

    /// The run was as large as it was to be.
    fn check_growth(&self) -> Result<(), String> {
        let Growth { file_bytes, pages, segments_reused, .. } = self.growth;
        let is_large = file_bytes > 1 << 30 && pages > PAGES_OF_TWO_LEVELS && segments_reused > 0;
        if self.size.entries >= ENTRIES && !is_large {
            return Err(format!("the harness: only {file_bytes} bytes, {pages} pages, {segments_reused} segments used again"));
        }
        Ok(())
    }
}
