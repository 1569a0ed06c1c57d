//! Writes that wait for a page that can't be read: the page fails those who read it and nobody else, and what was confirmed is kept beside the
//! tree, found by every read, in every checkpoint, until the page can be read again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::sim::{FaultKind, FaultRates, Restart, Sim, SimOptions};
use ashlardb::salvage::Salvage;
use ashlardb::{Background, Database, Durability, Error, Keyspace, Options};
use common::damage::{self, BLOCK, Kind};
use common::{Expected, assert_clean, assert_holds, copy_database, quiet, scratch, value_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

const ENTRIES: u64 = 2000;

fn key(i: u64) -> Vec<u8> {
    format!("key {i:06}").into_bytes()
}

fn options() -> Options {
    quiet().postpone_always(true).durability(Durability::Eventual)
}

/// A closed database in which the leaf that holds `key(1000)` can't be read; what it should hold, the keys of that leaf, and its image and
/// where it stands.
struct Damaged {
    _home: tempfile::TempDir,
    dir: std::path::PathBuf,
    model: Expected,
    lost: Vec<u64>,
    image: (u64, Vec<u8>),
}

fn image_of(data: &[u8], value: &[u8]) -> (u64, Vec<u8>) {
    let images = damage::images(data, 8192).into_iter().filter(|image| image.kind == Kind::Leaf);
    let bytes = |image: &damage::Image| data[image.block as usize * BLOCK..][..image.len].to_vec();
    let holds = |bytes: &[u8]| bytes.windows(value.len()).any(|window| window == value);
    let found: Vec<_> = images.map(|image| (image.block, bytes(&image))).filter(|(_, bytes)| holds(bytes)).collect();
    let [one] = &found[..] else { panic!("{} images of the leaf", found.len()) };
    one.clone()
}

/// With the leaf damaged in the closed database.
fn damaged() -> Damaged {
    let home = scratch();
    let dir = home.path().join("db");
    let model: Expected = (0..ENTRIES).map(|i| (key(i), value_of(i, 200))).collect();
    let db = options().open(&dir).unwrap();
    db.keyspace("k").unwrap().bulk_load(model.iter().map(|(k, v)| Ok::<_, Error>((k, v)))).unwrap();
    db.close().unwrap();
    let image = image_of(&damage::bytes_of(&dir.join("data")), &value_of(1000, 200));
    damage::flip(&dir.join("data"), image.0 * BLOCK as u64 + 100, 3);
    let db = options().open(&dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let lost: Vec<u64> = (0..ENTRIES).filter(|&i| keyspace.get(key(i)).is_err()).collect();
    assert!(lost.len() > 10 && lost.contains(&1000), "{} keys can't be read", lost.len());
    db.close().unwrap();
    Damaged { _home: home, dir, model, lost, image }
}

impl Damaged {
    fn data(&self) -> std::path::PathBuf {
        self.dir.join("data")
    }

    /// Writes `count` of the keys of the leaf, and two elsewhere, and removes one of each.
    fn write(&mut self, keyspace: &Keyspace, count: usize, seed: u64) -> Vec<u64> {
        let mut written: Vec<u64> = self.lost[..count].to_vec();
        let removed = [written.remove(2), 77];
        written.extend([3, ENTRIES - 5]);
        for (nth, &i) in written.iter().enumerate() {
            // The second stands beside its leaf.
            let value = value_of(seed + i, if nth == 1 { 5000 } else { 150 });
            keyspace.insert(key(i), &value).unwrap();
            self.model.insert(key(i), value);
        }
        for i in removed {
            keyspace.remove(key(i)).unwrap();
            self.model.remove(&key(i));
        }
        written.extend(removed);
        written
    }

    /// Whatever can be read is right, and only the other keys of the leaf can't.
    fn check(&self, written: &[u64], get: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, Error>) {
        for i in 0..ENTRIES {
            let lost = self.lost.contains(&i) && !written.contains(&i);
            match get(&key(i)) {
                Ok(found) => assert!(!lost && found.as_ref() == self.model.get(&key(i)), "key {i}"),
                Err(e) => assert!(lost, "key {i}: {e}"),
            }
        }
    }

    fn check_keyspace(&self, written: &[u64], keyspace: &Keyspace) {
        self.check(written, |key| Ok(keyspace.get(key)?.map(|value| value.to_vec())));
        let snapshot = keyspace.database().snapshot().unwrap();
        self.check(written, |key| Ok(snapshot.get(keyspace, key)?.map(|value| value.to_vec())));
        assert!(keyspace.iter().any(|entry| entry.is_err()) && keyspace.iter().rev().any(|entry| entry.is_err()));
        assert!(keyspace.len().is_err(), "a number of entries would be made up");
        let beside = keyspace.range(..key(self.lost[0])).map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
        assert!(beside.eq(self.model.range(..key(self.lost[0])).map(|(k, v)| (k.clone(), v.clone()))));
    }

    /// The leaf can be read again.
    fn mend(&self) {
        damage::put(&self.data(), self.image.0 * BLOCK as u64, &self.image.1);
    }
}

#[test]
fn a_page_that_cannot_be_read_fails_those_who_read_it_and_nobody_else() {
    let mut damaged = damaged();
    let db = options().open(&damaged.dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let before = db.snapshot().unwrap();
    let written = damaged.write(&keyspace, 8, 10_000);
    assert!(db.stats().postponed > 0);
    db.checkpoint().unwrap();
    assert_eq!((db.stats().postponed, db.stats().stranded, db.stats().read_only), (0, 8, None));
    damaged.check_keyspace(&written, &keyspace);
    // Who sees what was there before needs the page.
    assert!(before.get(&keyspace, key(damaged.lost[0])).is_err());
    assert_eq!(before.get(&keyspace, key(3)).unwrap().unwrap(), value_of(3, 200)[..]);
    drop(before);
    // The checkpoint has it, and so has the one after it.
    for _ in 0..2 {
        let held = db.checkpoint_snapshot().unwrap();
        damaged.check(&written, |key| Ok(held.get(&keyspace, key)?.map(|value| value.to_vec())));
        assert!(held.len(&keyspace).is_err());
        drop(held);
        keyspace.insert(key(9), b"nine").unwrap();
        damaged.model.insert(key(9), b"nine".to_vec());
        db.checkpoint().unwrap();
        assert_eq!(db.stats().stranded, 8);
    }
    let written = [&written[..], &[9]].concat();
    // What needs the page is refused alone.
    keyspace.remove_range(key(damaged.lost[0])..key(damaged.lost[5])).unwrap_err();
    for durability in [Durability::Immediate, Durability::Eventual] {
        for i in [damaged.lost[0], damaged.lost[9]] {
            let error = keyspace.insert_with(key(i), b"known to be unreadable", durability).unwrap_err();
            assert!(matches!(error, Error::Corrupt(_)), "{error}");
        }
    }
    let mut transaction = db.begin().unwrap();
    transaction.get(&keyspace, key(damaged.lost[9])).unwrap_err();
    transaction.insert(&keyspace, key(5), b"five").unwrap();
    transaction.commit().unwrap();
    damaged.model.insert(key(5), b"five".to_vec());
    let written = [&written[..], &[5]].concat();
    damaged.check_keyspace(&written, &keyspace);
    let report = db.verify().unwrap();
    assert_eq!((report.is_clean(), report.stranded), (false, 8), "{report}");
    drop((keyspace, db));
    // Still so after an open, and for those who only read.
    for read_only in [true, false] {
        let db = options().read_only(read_only).open(&damaged.dir).unwrap();
        assert_eq!(db.stats().stranded, 8);
        damaged.check_keyspace(&written, &db.existing_keyspace("k").unwrap().unwrap());
        drop(db);
    }
    damaged.mend();
    let db = options().read_only(true).open(&damaged.dir).unwrap();
    assert_holds(&db.existing_keyspace("k").unwrap().unwrap(), &damaged.model);
    drop(db);
    let db = options().open(&damaged.dir).unwrap();
    assert_eq!(db.stats().stranded, 0);
    assert_holds(&db.keyspace("k").unwrap(), &damaged.model);
    db.checkpoint().unwrap();
    assert_clean(&db);
}

/// The page can be read again while the database is open, with snapshots from before, between and after what was stranded.
#[test]
fn what_was_stranded_goes_to_its_tree_as_of_its_own_time() {
    let mut damaged = damaged();
    let db = options().open(&damaged.dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    // One that was there, one that was not, and one that a range will remove; before a key of the leaf that nobody writes.
    let [there, removed] = [damaged.lost[1], damaged.lost[3]].map(key);
    let new = [&key(damaged.lost[4])[..], b"!"].concat();
    let mut seen = vec![(db.snapshot().unwrap(), damaged.model.clone())];
    for round in 0..4u64 {
        // In the second round the new one goes again; numbers of entries change beside it each time.
        let absent = round == 1;
        for key in [&there, &removed, &new] {
            match absent && *key == new {
                true => keyspace.remove(key).unwrap(),
                false => keyspace.insert(key, value_of(round, 120)).unwrap(),
            }
            damaged.model.insert(key.clone(), value_of(round, 120));
        }
        if absent {
            damaged.model.remove(&new);
        }
        let beside = [b"z", &round.to_be_bytes()[..]].concat();
        keyspace.insert(&beside, b"beside").unwrap();
        damaged.model.insert(beside, b"beside".to_vec());
        seen.push((db.snapshot().unwrap(), damaged.model.clone()));
    }
    db.checkpoint().unwrap();
    assert_eq!(db.stats().stranded, 12, "each is kept for those who may read at it");
    // Whoever is between two of them goes: the older of these is not needed any more when the next one comes.
    drop(seen.remove(0));
    damaged.mend();
    let check = |seen: &[(ashlardb::Snapshot, Expected)]| {
        for (nth, (snapshot, model)) in seen.iter().enumerate() {
            for key in [&there, &removed, &new] {
                let found = snapshot.get(&keyspace, key).unwrap();
                assert_eq!(found.as_deref(), model.get(key).map(Vec::as_slice), "snapshot {nth}");
            }
            let found = snapshot.iter(&keyspace).map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
            assert!(found.eq(model.iter().map(|(k, v)| (k.clone(), v.clone()))), "snapshot {nth}");
            assert_eq!(snapshot.len(&keyspace).unwrap(), model.len() as u64, "snapshot {nth}");
        }
    };
    check(&seen);
    for key in [&there, &new] {
        keyspace.insert(key, b"the last").unwrap();
        damaged.model.insert(key.clone(), b"the last".to_vec());
    }
    keyspace.remove_range(&removed[..]..=&removed[..]).unwrap();
    damaged.model.remove(&removed);
    assert_eq!(keyspace.len().unwrap(), damaged.model.len() as u64);
    assert_eq!(db.stats().stranded, 0);
    seen.push((db.snapshot().unwrap(), damaged.model.clone()));
    check(&seen);
    drop(seen);
    db.checkpoint().unwrap();
    assert_clean(&db);
    drop((keyspace, db));
    assert_holds(&options().open(&damaged.dir).unwrap().keyspace("k").unwrap(), &damaged.model);
}

/// Keys of a leaf that stays as it is, and of one behind it that is mended: those are not tried first each time.
#[test]
fn what_stays_unreadable_keeps_nothing_else_from_its_tree() {
    let mut damaged = damaged();
    let other = image_of(&damage::bytes_of(&damaged.data()), &value_of(100, 200));
    damage::flip(&damaged.data(), other.0 * BLOCK as u64 + 100, 3);
    let db = options().open(&damaged.dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let never: Vec<u64> = (0..500).filter(|&i| keyspace.get(key(i)).is_err()).collect();
    let (count, mut written) = (9.min(never.len()), 0);
    assert!(count > 6, "more than are tried at once");
    for &i in never[..count].iter().chain(&damaged.lost[5..9]) {
        keyspace.insert(key(i), b"waits").unwrap();
        damaged.model.insert(key(i), b"waits".to_vec());
        written += 1;
    }
    db.checkpoint().unwrap();
    assert_eq!(db.stats().stranded, written);
    damaged.mend();
    // Four that fail end a try, which comes with each checkpoint.
    let mut tries = 0;
    while db.stats().stranded as usize > count {
        db.checkpoint().unwrap();
        tries += 1;
        assert!(tries <= count / 4 + 1, "{} are stranded", db.stats().stranded);
    }
    for &i in &damaged.lost {
        assert_eq!(keyspace.get(key(i)).unwrap().as_deref(), damaged.model.get(&key(i)).map(Vec::as_slice), "key {i}");
    }
    assert!(never.iter().skip(count).all(|&i| keyspace.get(key(i)).is_err()));
    assert_eq!(db.stats().read_only, None);
}

/// Nothing waits any more, and no checkpoint was made for it.
fn merged(db: &Database) {
    // A number of entries needs that; there may be leaves that can't be read.
    let _ = db.keyspace("k").unwrap().len();
    assert_eq!((db.stats().postponed, db.stats().checkpoints), (0, 0));
}

/// A database as a kill leaves it: the checkpoint has eight stranded writes, the log newer ones of the same keys, and of others.
fn killed() -> (Damaged, Vec<u64>) {
    let mut damaged = damaged();
    let db = options().open(&damaged.dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    // Three lots of a window, the keys of the leaf in the second; then what waits for the next window.
    let beside: Vec<u64> = (100..170).chain(1500..1600).collect();
    for &i in &beside {
        keyspace.insert(key(i), b"beside").unwrap();
        damaged.model.insert(key(i), b"beside".to_vec());
    }
    damaged.write(&keyspace, 8, 10_000);
    db.maintain().unwrap();
    let written = damaged.write(&keyspace, 14, 20_000);
    assert_eq!(db.stats().stranded, 0);
    db.maintain().unwrap();
    let stats = db.stats();
    assert!(stats.stranded == 8 && stats.postponed >= 14 && stats.checkpoints == 1, "{stats:?}");
    db.flush().unwrap();
    let dir = damaged.dir.with_file_name("killed");
    copy_database(&damaged.dir, &dir);
    drop((keyspace, db));
    (Damaged { dir, ..damaged }, [written, beside].concat())
}

/// A kill before the checkpoint that would have them: replay meets the page, or what is merged after it.
#[test]
fn replay_strands_as_well() {
    let (killed, written) = killed();
    for waits in [false, true, false] {
        let options = if waits { options() } else { options().postponed_limit(0) };
        let db = options.open(&killed.dir).unwrap();
        assert_eq!(db.stats().postponed > 0, waits);
        killed.check_keyspace(&written, &db.keyspace("k").unwrap());
        merged(&db);
        assert_eq!(db.stats().stranded, 14);
        killed.check_keyspace(&written, &db.keyspace("k").unwrap());
        // Without a checkpoint: the next open has the same to do.
        let again = killed.dir.with_file_name("again");
        copy_database(&killed.dir, &again);
        drop(db);
        std::fs::remove_dir_all(&killed.dir).unwrap();
        std::fs::rename(again, &killed.dir).unwrap();
    }
    killed.mend();
    let db = options().open(&killed.dir).unwrap();
    merged(&db);
    assert_eq!(db.stats().stranded, 0);
    assert_holds(&db.keyspace("k").unwrap(), &killed.model);
}

#[test]
fn salvage_brings_what_waits_for_a_page_over() {
    let (killed, written) = killed();
    let closed = killed.dir.with_file_name("closed");
    copy_database(&killed.dir, &closed);
    options().open(&closed).unwrap().close().unwrap();
    for (from, into) in [(&killed.dir, "killed's"), (&closed, "closed's")] {
        let into = killed.dir.with_file_name(into);
        Salvage::new(quiet()).run(from, &into).unwrap();
        let db = quiet().open(&into).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for i in 0..ENTRIES {
            let lost = killed.lost.contains(&i) && !written.contains(&i);
            let expected = killed.model.get(&key(i)).filter(|_| !lost);
            assert_eq!(keyspace.get(key(i)).unwrap().as_deref(), expected.map(Vec::as_slice), "key {i}");
        }
    }
}

#[test]
fn of_a_key_the_newest_counts_and_is_kept() {
    let damaged = damaged();
    let db = options().stranded_limit(100_000).open(&damaged.dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut model = damaged.model.clone();
    for (n, &i) in damaged.lost.iter().cycle().take(200).enumerate() {
        // The same keys over and over: only the newest of each counts.
        keyspace.insert(key(i), value_of(n as u64, 2000)).unwrap();
        model.insert(key(i), value_of(n as u64, 2000));
    }
    db.checkpoint().unwrap();
    assert_eq!(db.stats().stranded, damaged.lost.len() as u64);
    for &i in &damaged.lost {
        assert!(keyspace.get(key(i)).unwrap().as_deref() == model.get(&key(i)).map(Vec::as_slice), "key {i}");
    }
}

/// It is bounded. Where it is full the database fails, as where anything else can't be applied; the log has what was confirmed, and reads find it.
#[test]
fn where_there_is_no_place_beside_the_trees_the_log_has_what_was_confirmed() {
    let damaged = damaged();
    let db = options().stranded_limit(10_000).open(&damaged.dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut model = damaged.model.clone();
    for &i in &damaged.lost[..10] {
        keyspace.insert(key(i), vec![7; 2000]).unwrap();
        model.insert(key(i), vec![7; 2000]);
    }
    db.flush().unwrap();
    let error = db.checkpoint().unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    let cause = db.stats().read_only.unwrap();
    assert!(cause.contains("merging") && cause.contains("checksum"), "{cause}");
    for &i in &damaged.lost[..10] {
        assert!(keyspace.get(key(i)).unwrap().as_deref() == model.get(&key(i)).map(Vec::as_slice), "key {i}");
    }
    drop((keyspace, db));
    // With room for it all is as if nothing had been.
    let db = options().open(&damaged.dir).unwrap();
    merged(&db);
    assert_eq!(db.stats().stranded, 10);
}

#[test]
fn a_keyspace_takes_what_waits_for_its_pages_along() {
    for how in ["dropped", "cleared", "loaded"] {
        let mut damaged = damaged();
        let db = options().open(&damaged.dir).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let written = damaged.write(&keyspace, 8, 10_000);
        db.checkpoint().unwrap();
        assert_eq!(db.stats().stranded, 8);
        let before = db.snapshot().unwrap();
        match how {
            "dropped" => assert!(db.drop_keyspace("k").unwrap()),
            _ => keyspace.clear().unwrap(),
        }
        damaged.check(&written, |key| Ok(before.get(&keyspace, key)?.map(|value| value.to_vec())));
        let entries = if how == "loaded" { 5 } else { 0 };
        if how == "loaded" {
            keyspace.bulk_load((0..entries).map(|i| Ok::<_, Error>((key(i), b"new")))).unwrap();
        }
        if how != "dropped" {
            assert_eq!((keyspace.len().unwrap(), keyspace.get(key(damaged.lost[0])).unwrap()), (entries, None));
        }
        drop((before, keyspace));
        db.checkpoint().unwrap();
        assert_eq!(db.verify().unwrap().stranded, 0, "{how}");
        // The pages of the old tree can't all be freed: that is nobody's end.
        while db.maintain().unwrap() {}
        assert_eq!((db.stats().stranded, db.stats().read_only), (0, None), "{how}");
        drop(db);
        let db = options().open(&damaged.dir).unwrap();
        while db.maintain().unwrap() {}
        assert_eq!((db.stats().stranded, db.stats().read_only), (0, None), "{how}");
        assert_eq!(db.keyspace("k").unwrap().len().unwrap(), entries);
    }
}

#[test]
fn a_keyspace_of_which_something_waits_is_not_taken_for_empty() {
    let home = scratch();
    let dir = home.path().join("db");
    let db = options().open(&dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert(b"one", value_of(1, 100)).unwrap();
    db.checkpoint().unwrap();
    keyspace.remove(b"one").unwrap();
    db.close().unwrap();
    drop(keyspace);
    // The empty leaf is all that the keyspace has.
    let data = damage::bytes_of(&dir.join("data"));
    let db = options().open(&dir).unwrap();
    let report = db.verify().unwrap();
    assert!(report.is_clean());
    db.close().unwrap();
    let newest = damage::images(&data, 8192).into_iter().filter(|image| image.kind == Kind::Leaf && image.tree == 2);
    for image in newest {
        damage::flip(&dir.join("data"), image.block * BLOCK as u64 + 60, 3);
    }
    let db = options().open(&dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert(b"two", b"2").unwrap();
    db.checkpoint().unwrap();
    assert_eq!(db.stats().stranded, 1);
    let loaded = keyspace.bulk_load([Ok::<_, Error>((b"three", b"3"))]);
    assert!(matches!(loaded, Err(Error::KeyspaceNotEmpty { .. } | Error::Corrupt(_))), "{loaded:?}");
    assert_eq!(keyspace.get(b"two").unwrap().unwrap(), b"2"[..]);
}

// From here on in the simulation: pages that can be read again a moment later.

fn sim_options(sim: &Sim) -> Options {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).page_size(4096).segment_size(256 << 10);
    let options = options.grow_step(256 << 10).log_limit(4 << 20).cache_size(64 << 12).postponed_limit(16 << 10);
    options.postpone_always(true)
}

fn fail_reads(sim: &Sim, of_65536: u32) {
    sim.set_faults(FaultRates::none().with(FaultKind::ReadError, of_65536));
}

/// A database in the simulation, what it should hold, and what it held when snapshots were taken.
struct Run {
    sim: Sim,
    rng: ChaCha8Rng,
    db: Database,
    keyspace: Keyspace,
    model: Expected,
    snapshots: Vec<(ashlardb::Snapshot, Expected)>,
    stranded: u64,
    failed: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let sim = Sim::new(SimOptions::new(seed));
        let db = sim_options(&sim).open("/db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let model: Expected = (0..3000).map(|i| (key(i), value_of(i, 100))).collect();
        keyspace.bulk_load(model.iter().map(|(k, v)| Ok::<_, Error>((k, v)))).unwrap();
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Run { sim, rng, db, keyspace, model, snapshots: Vec::new(), stranded: 0, failed: 0 }
    }

    /// Writes, if that is possible, with what the keys hold after it. Where a page of the catalog or the page map can't be read, the database
    /// fails, and what became of the write is seen after an open.
    fn write(&mut self, after: Vec<(Vec<u8>, Option<Vec<u8>>)>, write: impl FnOnce(&Keyspace) -> Result<(), Error>) {
        let outcome = write(&self.keyspace);
        if self.db.stats().read_only.is_some() {
            self.failed += 1;
            self.reopen();
        }
        for (key, value) in after {
            let applied = match &outcome {
                Ok(()) => true,
                Err(Error::OutcomeUnknown { .. }) => self.keyspace.get(&key).unwrap().as_ref().map(|v| v.to_vec()) == value,
                Err(_) => false,
            };
            match value {
                Some(value) if applied => drop(self.model.insert(key, value)),
                None if applied => drop(self.model.remove(&key)),
                _ => {}
            }
        }
    }

    /// After a power cut: whatever was confirmed is there, and nothing else.
    fn reopen(&mut self) {
        fail_reads(&self.sim, 0);
        self.snapshots.clear();
        self.sim.crash();
        self.sim = self.sim.restart(Restart::PowerCut, SimOptions::new(self.rng.random()));
        self.db = sim_options(&self.sim).open("/db").unwrap();
        self.keyspace = self.db.keyspace("k").unwrap();
    }

    fn check(&self) {
        check(&self.keyspace, &self.model, &self.snapshots);
    }

    fn step(&mut self, step: u64) {
        // Half of the time one of a few, far from each other: what is stranded of a key is soon written again.
        let i = if self.rng.random_bool(0.5) { 150 * self.rng.random_range(0..20) } else { self.rng.random_range(0..3100) };
        match self.rng.random_range(0..1000) {
            0..650 => {
                let value = value_of(step, if step.is_multiple_of(40) { 3000 } else { 100 });
                self.write(vec![(key(i), Some(value.clone()))], |keyspace| keyspace.insert(key(i), &value));
            }
            650..800 => self.write(vec![(key(i), None)], |keyspace| keyspace.remove(key(i))),
            800..830 => {
                let removed = (i..i + 3).map(|i| (key(i), None)).collect();
                self.write(removed, |keyspace| keyspace.remove_range(key(i)..key(i + 3)));
            }
            830..860 => {
                let value = value_of(step, 100_000);
                self.write(vec![(key(i), Some(value.clone()))], |keyspace| keyspace.insert(key(i), &value));
            }
            860..890 => self.snapshots.push((self.db.snapshot().unwrap(), self.model.clone())),
            890..920 => self.snapshots.truncate(self.rng.random_range(0..3)),
            920..970 => fail_reads(&self.sim, [0, 3000, 20_000][self.rng.random_range(0..3)]),
            970..985 => {
                fail_reads(&self.sim, 0);
                self.db.maintain().unwrap();
            }
            985..993 => {
                fail_reads(&self.sim, 0);
                self.check();
            }
            993..997 => {
                fail_reads(&self.sim, 0);
                self.db.checkpoint().unwrap();
            }
            _ => {
                self.reopen();
                self.check();
            }
        }
        self.stranded += u64::from(self.db.stats().stranded > 0);
    }
}

/// Everything against the model, with snapshots of what was; now and then reads fail for a while.
#[test]
fn pages_that_come_and_go_cost_nothing_but_errors() {
    let (mut stranded, mut failed) = (0, 0);
    for seed in 0..seeds() {
        let mut run = Run::new(seed);
        (0..1500).for_each(|step| run.step(step));
        fail_reads(&run.sim, 0);
        run.check();
        run.reopen();
        run.check();
        assert_eq!(run.db.stats().stranded, 0);
        run.db.checkpoint().unwrap();
        assert_clean(&run.db);
        (stranded, failed) = (stranded + run.stranded, failed + run.failed);
    }
    println!("something was stranded in {stranded} steps, {failed} databases failed");
    assert!(stranded > 200, "something was stranded in {stranded} steps");
}

/// How many histories; with `ASHLAR_STRANDED` as many as that says.
fn seeds() -> u64 {
    std::env::var("ASHLAR_STRANDED").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

/// A full disk keeps nobody from removing a range that has stranded keys, and what is written to one may stay stranded.
#[test]
fn where_there_is_no_room_what_is_stranded_holds_nobody_up() {
    let sim = Sim::new(SimOptions::new(1));
    let db = sim_options(&sim).open("/db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut model: Expected = (0..3000).map(|i| (key(i), value_of(i, 100))).collect();
    keyspace.bulk_load(model.iter().map(|(k, v)| Ok::<_, Error>((k, v)))).unwrap();
    db.close().unwrap();
    drop(keyspace);
    let db = sim_options(&sim).open("/db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    // What is above the leaves and the catalog are in memory; then nothing can be read for a while.
    (0..3000).step_by(500).for_each(|i| drop(keyspace.get(key(i)).unwrap()));
    drop(db.keyspace("beside").unwrap());
    let written: Vec<u64> = (0..8).map(|i| 300 * i + 150).collect();
    for &i in &written {
        keyspace.insert(key(i), value_of(i, 90)).unwrap();
        model.insert(key(i), value_of(i, 90));
    }
    fail_reads(&sim, 65_536);
    keyspace.len().unwrap_err();
    fail_reads(&sim, 0);
    assert_eq!((db.stats().stranded, db.stats().read_only), (8, None));
    sim.set_capacity(sim.used());
    let filled = (0..100_000u64).find(|i| match keyspace.insert(key(10_000 + i), value_of(*i, 1000)) {
        Ok(()) => {
            model.insert(key(10_000 + i), value_of(*i, 1000));
            false
        }
        Err(Error::NoSpace { .. }) => true,
        Err(e) => panic!("{e}"),
    });
    assert!(filled.is_some());
    let still = db.stats().stranded;
    keyspace.remove_range(key(written[0])..key(written[3])).unwrap();
    model.retain(|k, _| !(key(written[0])..key(written[3])).contains(k));
    // Refused alone, or done.
    for value in [value_of(1, 200), value_of(1, 100_000)] {
        match keyspace.insert(key(written[5]), &value) {
            Ok(()) => drop(model.insert(key(written[5]), value)),
            Err(e) => assert!(matches!(e, Error::NoSpace { .. }), "{e}"),
        }
    }
    println!("{still} were stranded on the full disk, {} after", db.stats().stranded);
    assert_eq!(db.stats().read_only, None);
    check(&keyspace, &model, &[]);
    sim.set_capacity(u64::MAX);
    db.checkpoint().unwrap();
    assert_eq!(db.stats().stranded, 0);
    check(&keyspace, &model, &[]);
    assert_clean(&db);
}

fn check(keyspace: &Keyspace, model: &Expected, snapshots: &[(ashlardb::Snapshot, Expected)]) {
    assert_holds(keyspace, model);
    for (snapshot, model) in snapshots {
        let found = snapshot.iter(keyspace).map(Result::unwrap).map(|(k, v)| (k, v.to_vec()));
        assert!(found.eq(model.iter().map(|(k, v)| (k.clone(), v.clone()))), "a snapshot, by a scan");
        assert_eq!(snapshot.len(keyspace).unwrap(), model.len() as u64, "a snapshot's number of entries");
        for i in (0..3100).step_by(17) {
            assert_eq!(snapshot.get(keyspace, key(i)).unwrap().as_deref(), model.get(&key(i)).map(Vec::as_slice));
        }
    }
}

/// The files of the damaged database stay what they are where nothing can be read at all.
#[test]
fn a_catalog_whose_writes_are_not_whole_is_refused() {
    let mut damaged = damaged();
    let db = options().open(&damaged.dir).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    damaged.write(&keyspace, 8, 10_000);
    db.close().unwrap();
    drop(keyspace);
    flip_in_catalog(&damaged.data(), &value_of(10_000 + damaged.lost[0], 150));
    let error = Database::open(&damaged.dir).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
}

/// Damages a value in each leaf of the catalog that has it, and makes the checksum of the page right again.
fn flip_in_catalog(data: &Path, value: &[u8]) {
    let bytes = damage::bytes_of(data);
    let mut count = 0;
    for image in damage::images(&bytes, 8192).into_iter().filter(|image| image.kind == Kind::Leaf && image.tree == 1) {
        let at = image.block as usize * BLOCK;
        let mut page = bytes[at..at + image.len].to_vec();
        if let Some(found) = page.windows(value.len()).position(|window| window == value) {
            page[found] ^= 1;
            let crc = damage::crc32c(&page[4..]);
            page[..4].copy_from_slice(&crc.to_le_bytes());
            damage::put(data, at as u64, &page);
            count += 1;
        }
    }
    assert!(count > 0);
}
