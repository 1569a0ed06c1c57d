//! Random writes of every kind while snapshots live, each of which must see the copy of the model that was taken with it: with few
//! entries a page and few frames, so that pages split, merge, are evicted and written all the time.
//!
//! `ASHLAR_SEED` sets the first seed, `ASHLAR_SNAPSHOT_RUNS` how many databases, `ASHLAR_SNAPSHOT_STEPS` how many steps each.

use super::{assert_nothing_is_kept, check, settled};
use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_tests::dump;
use ashlar_tests::geometry::Geometry;
use ashlar_tests::number;
use ashlar_tests::state::{Bytes, Entries, State, Write, in_range, show, show_range};
use ashlar_tests::workload::{Keys, value, value_len};
use ashlardb::fault::Fault;
use ashlardb::{Background, Database, Durability, Error, Range, Snapshot};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Snapshots that live at once, at most.
const LIVE_MAX: usize = 8;

/// A snapshot and what it must see.
struct Held {
    snapshot: Snapshot,
    state: State,
    since: u64,
}

/// An iterator of a snapshot that may be gone, and what it has left to give.
struct Scan {
    range: Range,
    left: Entries,
}

struct Run {
    rng: ChaCha8Rng,
    geometry: Geometry,
    db: Database,
    keys: Keys,
    now: State,
    writes: u64,
    held: Vec<Held>,
    scans: Vec<Scan>,
    trail: Vec<String>,
}

impl Run {
    fn new(db: Database, geometry: Geometry, mut rng: ChaCha8Rng) -> Run {
        let count = [12, 60, 200][rng.random_range(0..3)];
        let keys = Keys::draw(&mut rng, count, db.key_len_max());
        let (now, held, scans, trail) = Default::default();
        Run { rng, geometry, db, keys, now, writes: 0, held, scans, trail }
    }

    fn step(&mut self, number: u64) -> Result<(), String> {
        match self.rng.random_range(0..100) {
            0..55 => self.write(),
            55..58 => self.transaction(),
            58..61 => self.trail("checkpoint", |run| run.db.checkpoint().unwrap()),
            61..70 => self.trail("maintain", |run| _ = run.db.maintain().unwrap()),
            70..75 if self.held.len() < LIVE_MAX => {
                self.trail(&format!("snapshot {number}"), |_| ());
                let snapshot = self.db.snapshot().unwrap();
                self.held.push(Held { snapshot, state: self.now.clone(), since: number });
            }
            75..79 if !self.held.is_empty() => return self.let_go(),
            79..90 if !self.held.is_empty() => return self.read(),
            90..93 if !self.held.is_empty() && self.scans.len() < 4 => self.begin_scan(),
            93.. if !self.scans.is_empty() => return self.go_on(),
            _ => {}
        }
        Ok(())
    }

    fn trail(&mut self, what: &str, work: impl FnOnce(&mut Run)) {
        self.trail.push(what.to_owned());
        work(self);
    }

    fn write(&mut self) {
        let write = self.draw();
        self.trail(&format!("{write:?}"), |_| ());
        let durability = if self.rng.random_range(0..4) == 0 { Durability::Immediate } else { Durability::Eventual };
        let keyspace = self.db.existing_keyspace(write.keyspace()).unwrap();
        match (&write, keyspace) {
            (Write::Create { keyspace }, _) => drop(self.db.keyspace(keyspace).unwrap()),
            (Write::Drop { keyspace }, _) => assert!(self.db.drop_keyspace(keyspace).unwrap()),
            (Write::Put { key, value, .. }, Some(k)) => k.insert_with(key, value, durability).unwrap(),
            (Write::Remove { key, .. }, Some(k)) => k.remove_with(key, durability).unwrap(),
            (Write::RemoveRange { range, .. }, Some(k)) => k.remove_range(range.clone()).unwrap(),
            (Write::Clear { .. }, Some(k)) => k.clear().unwrap(),
            (_, None) => panic!("no keyspace for {write:?}"),
        }
        write.apply(&mut self.now);
    }

    fn draw(&mut self) -> Write {
        let keyspace: Arc<str> = NAMES[self.rng.random_range(0..NAMES.len())].into();
        if !self.now.contains_key(&*keyspace) {
            return Write::Create { keyspace };
        }
        match self.rng.random_range(0..200) {
            0..2 => Write::Drop { keyspace },
            2..4 => Write::Clear { keyspace },
            4..8 => Write::RemoveRange { keyspace, range: self.keys.range(&mut self.rng) },
            8..20 => Write::RemoveRange { keyspace, range: self.keys.short_range(&mut self.rng) },
            20..75 => Write::Remove { keyspace, key: self.keys.near(&mut self.rng) },
            _ => {
                let key = self.keys.pick(&mut self.rng);
                self.writes += 1;
                let value = value(self.writes, value_len(&mut self.rng, &self.geometry, key.len()));
                Write::Put { keyspace, key, value }
            }
        }
    }

    /// Several writes in one commit: also two of one key, a range and a key within, a keyspace made and filled.
    fn transaction(&mut self) {
        let mut state = self.now.clone();
        let mut writes = Vec::new();
        let outcome = self.db.clone().transact_with(ashlardb::TransactionOptions::default(), |tx| {
            for _ in 0..self.rng.random_range(1..12) {
                let before = std::mem::replace(&mut self.now, state.clone());
                let write = self.draw();
                self.now = before;
                let keyspace = tx.existing_keyspace(write.keyspace())?;
                match (&write, keyspace) {
                    (Write::Create { keyspace }, _) => drop(tx.keyspace(keyspace)?),
                    (Write::Drop { keyspace }, _) => assert!(tx.drop_keyspace(keyspace)?),
                    (Write::Put { key, value, .. }, Some(k)) => tx.insert(&k, key, value)?,
                    (Write::Remove { key, .. }, Some(k)) => tx.remove(&k, key)?,
                    (Write::RemoveRange { range, .. }, Some(k)) => tx.remove_range(&k, range.clone())?,
                    (Write::Clear { .. }, Some(k)) => tx.clear(&k)?,
                    (_, None) => panic!("no keyspace for {write:?}"),
                }
                write.apply(&mut state);
                writes.push(write);
            }
            Ok(())
        });
        self.trail.push(format!("transaction: {writes:?}: {outcome:?}"));
        match outcome {
            Ok(()) => self.now = state,
            Err(Error::TransactionTooLarge { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }

    fn let_go(&mut self) -> Result<(), String> {
        let index = self.rng.random_range(0..self.held.len());
        let held = self.held.swap_remove(index);
        self.trail.push(format!("release of {}", held.since));
        check(&held.snapshot, &held.state).map_err(|e| format!("snapshot {}: {e}", held.since))
    }

    /// One read, at any snapshot.
    fn read(&mut self) -> Result<(), String> {
        let index = self.rng.random_range(0..self.held.len());
        let Held { snapshot, state, since } = &self.held[index];
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        let keyspace = snapshot.keyspace(name).unwrap();
        let Some(entries) = state.get(name) else {
            return if keyspace.is_none() { Ok(()) } else { Err(format!("snapshot {since} has {name}")) };
        };
        let keyspace = keyspace.ok_or_else(|| format!("snapshot {since} has no {name}"))?;
        let bytes = |value: ashlardb::Value| Bytes::from(&value[..]);
        if self.rng.random() {
            let key = self.keys.near(&mut self.rng);
            let found = snapshot.get(&keyspace, &key).unwrap().map(bytes);
            if found.as_ref() != entries.get(&key) {
                return Err(format!("snapshot {since}: get {name}/{}: {:?}", show(&key), found.as_deref().map(show)));
            }
            return Ok(());
        }
        let range = if self.rng.random() { self.keys.short_range(&mut self.rng) } else { self.keys.range(&mut self.rng) };
        let back = self.rng.random();
        let found = dump::entries(snapshot.range(&keyspace, range.clone()), back).map_err(|e| e.to_string())?;
        let expected = entries.iter().filter(|(key, _)| in_range(&range, key));
        if !expected.eq(found.iter()) {
            return Err(format!("snapshot {since}: {name}/{} (from the back: {back})", show_range(&range)));
        }
        Ok(())
    }

    fn begin_scan(&mut self) {
        let held = &self.held[self.rng.random_range(0..self.held.len())];
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        if let (Some(keyspace), Some(entries)) = (held.snapshot.keyspace(name).unwrap(), held.state.get(name)) {
            self.scans.push(Scan { range: held.snapshot.iter(&keyspace), left: entries.clone() });
        }
    }

    /// A scan gives some more, from either end, whether or not its snapshot is still held.
    fn go_on(&mut self) -> Result<(), String> {
        let index = self.rng.random_range(0..self.scans.len());
        for _ in 0..self.rng.random_range(1..20) {
            let back = self.rng.random();
            let scan = &mut self.scans[index];
            let expected = if back { scan.left.pop_last() } else { scan.left.pop_first() };
            let found = if back { scan.range.next_back() } else { scan.range.next() };
            let found = found.map(|entry| entry.unwrap()).map(|(key, value)| (key, Bytes::from(&value[..])));
            if found != expected {
                let key = |entry: Option<(Vec<u8>, Bytes)>| entry.map(|(key, _)| show(&key));
                return Err(format!("a scan (from the back: {back}) gives {:?}, expected {:?}", key(found), key(expected)));
            }
            if expected.is_none() {
                self.scans.swap_remove(index);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Everything is let go and taken down: nothing is left over of what `empty` bytes are enough for.
    fn finish(mut self, empty: u64) -> Result<Database, String> {
        while !self.held.is_empty() {
            self.let_go()?;
        }
        self.scans.clear();
        assert_nothing_is_kept(&self.db);
        dump::check(&self.db, &self.now).map_err(|e| e.to_string())?;
        settled(&self.db);
        dump::verify(&self.db).map_err(|e| e.to_string())?;
        for name in self.db.keyspaces().unwrap() {
            self.db.drop_keyspace(&name).unwrap();
        }
        let space = settled(&self.db);
        dump::verify(&self.db).map_err(|e| e.to_string())?;
        let used = space.file - space.free;
        if space.waiting > 0 || used > empty {
            return Err(format!("{used} bytes are used, {} wait, an empty database has {empty}", space.waiting));
        }
        Ok(self.db)
    }
}

fn run(seed: u64, steps: u64, fault: Fault) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let geometry = Geometry { fault, ..Geometry::draw(&mut rng) };
    let fs = Sim::new(SimOptions::new(seed)).fs();
    let open = || geometry.options(Some(fs.clone()), Background::Manual).open("/snapshots").unwrap();
    let db = open();
    db.keyspace("first").unwrap();
    db.drop_keyspace("first").unwrap();
    let empty = settled(&db);
    let mut run = Run::new(db, geometry, rng);
    for step in 0..steps {
        if let Err(failure) = run.step(step) {
            let trail = &run.trail[run.trail.len().saturating_sub(30)..];
            return Err(format!("seed {seed}, step {step}, {geometry:?}: {failure}\nafter:\n  {}", trail.join("\n  ")));
        }
    }
    println!("seed {seed}: {} writes, {} snapshots live, {} before-images", run.writes, run.held.len(), run.db.stats().versions);
    let db = run.finish(empty.file - empty.free).map_err(|e| format!("seed {seed}, {geometry:?}: at the end: {e}"))?;
    let before = db.stats().space;
    db.close().unwrap();
    let after = open().stats().space;
    if (after.free, after.pages) != (before.free, before.pages) {
        return Err(format!("seed {seed}: after a reopen {after:?}, before {before:?}"));
    }
    Ok(())
}

#[test]
fn they_see_the_state_of_their_moment() {
    let (first, runs) = (number("ASHLAR_SEED", 0), number("ASHLAR_SNAPSHOT_RUNS", 40));
    for seed in first..first + runs {
        if let Err(failure) = run(seed, number("ASHLAR_SNAPSHOT_STEPS", 800), Fault::None) {
            panic!("{failure}");
        }
    }
}

/// A test of the test: before-images that stay behind when their keys move must be missed.
#[test]
fn before_images_that_stay_behind_are_noticed() {
    let noticed = (0..20).find_map(|seed| run(seed, 800, Fault::BeforeStays).err());
    println!("{:.300}", noticed.unwrap());
}
