//! Random histories: several keyspaces, values of every kind, deletes, ranges, drops, bulk loads, checkpoints, reopens and kills, with
//! a model of what the database holds and of every value that any key has ever held.

use crate::common::{Expected, copy_database, quiet, value_of};
use ashlardb::{Database, Durability, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a database holds, by keyspace.
pub(crate) type State = BTreeMap<String, Expected>;

/// A history, and the database as it is at its end: durable to the last commit.
pub(crate) struct History {
    pub(crate) page_size: usize,
    pub(crate) model: State,
    /// Every value that a key of a keyspace has ever held.
    pub(crate) ever: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Keys written or removed since the last checkpoint that was asked for, and keyspaces made, loaded or cleared since.
    pub(crate) touched: BTreeSet<(String, Vec<u8>)>,
    pub(crate) whole: BTreeSet<String>,
    /// Whether a kill has taken commits back.
    pub(crate) killed: bool,
    /// Keys, and keyspaces, of which such a commit may have been.
    pub(crate) taken_back: BTreeSet<(String, Vec<u8>)>,
    pub(crate) taken_back_whole: BTreeSet<String>,
    db: Option<Database>,
    dir: PathBuf,
    random: ChaCha8Rng,
    serial: u64,
}

impl History {
    /// Runs the history of a seed on a new database in `dir`.
    pub(crate) fn run(dir: &Path, seed: u64) -> History {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let page_size = [4096, 8192, 8192, 16384][random.random_range(0..4)];
        let mut history = History {
            page_size,
            model: State::new(),
            ever: BTreeMap::new(),
            touched: BTreeSet::new(),
            whole: BTreeSet::new(),
            killed: false,
            taken_back: BTreeSet::new(),
            taken_back_whole: BTreeSet::new(),
            db: None,
            dir: dir.to_owned(),
            random,
            serial: seed << 32,
        };
        history.db = Some(history.options().open(dir).unwrap());
        let kills = seed.is_multiple_of(2);
        for step in 0..history.random.random_range(12..30) {
            history.step(step, kills);
        }
        history.db().flush().unwrap();
        history
    }

    fn options(&self) -> Options {
        // A small cache, so that pages are written back between checkpoints.
        quiet().page_size(self.page_size).cache_size(96 * self.page_size as u64).segment_size(256 << 10).slots_max(24)
    }

    pub(crate) fn db(&self) -> &Database {
        self.db.as_ref().unwrap()
    }

    /// Closes the database.
    pub(crate) fn close(mut self) -> History {
        self.db.take().unwrap().close().unwrap();
        (self.touched, self.whole) = Default::default();
        self
    }

    fn step(&mut self, step: usize, kills: bool) {
        match self.random.random_range(0..20) {
            0..=1 => {
                self.db().checkpoint().unwrap();
                (self.touched, self.whole) = Default::default();
            }
            2 => while self.db().maintain().unwrap() {},
            3 => self.remove_range(),
            4 => self.whole_keyspace(),
            5 => self.load(),
            6 => {
                // Dropped without a checkpoint, opened again.
                self.db = None;
                self.db = Some(self.options().open(&self.dir).unwrap());
            }
            7 if kills => self.kill(step),
            8 => self.large(),
            _ => self.writes(),
        }
    }

    /// The process dies, with what is not yet durable.
    fn kill(&mut self, step: usize) {
        let next = self.dir.with_file_name(format!("life {step}"));
        copy_database(&self.dir, &next);
        self.db = None;
        std::fs::remove_dir_all(&self.dir).unwrap();
        std::fs::rename(&next, &self.dir).unwrap();
        self.db = Some(self.options().open(&self.dir).unwrap());
        let found = super::contents(self.db());
        if found != self.model {
            self.killed = true;
            self.taken_back.extend(self.touched.iter().cloned());
            self.taken_back_whole.extend(self.whole.iter().cloned());
        }
        self.model = found;
    }

    fn name(&mut self) -> String {
        ["alpha", "beta", "gamma", "delta"][self.random.random_range(0..4)].to_owned()
    }

    fn key(&mut self, name: &str) -> Vec<u8> {
        let number = self.random.random_range(0u32..600);
        let mut key = format!("{name} {number:05}").into_bytes();
        if number % 50 == 0 {
            key.resize(200 + number as usize, b'x');
        }
        if number == 7 { Vec::new() } else { key }
    }

    fn value(&mut self) -> Vec<u8> {
        self.serial += 1;
        let len = match self.random.random_range(0..100) {
            0..=3 => 0,
            4..=80 => self.random.random_range(1..300),
            81..=90 => self.random.random_range(300..2500),
            _ => self.random.random_range(2500..40_000),
        };
        value_of(self.serial, len)
    }

    fn note(&mut self, name: &str, key: &[u8], value: Option<&[u8]>) {
        self.touched.insert((name.to_owned(), key.to_vec()));
        let keyspace = self.model.entry(name.to_owned()).or_default();
        match value {
            Some(value) => {
                keyspace.insert(key.to_vec(), value.to_vec());
                self.ever.entry(key.to_vec()).or_default().insert(value.to_vec());
            }
            None => {
                keyspace.remove(key);
            }
        }
    }

    /// Notes a keyspace that is made if it is not there.
    fn made(&mut self, name: &str) {
        if !self.model.contains_key(name) {
            self.whole.insert(name.to_owned());
            self.model.insert(name.to_owned(), Expected::new());
        }
    }

    fn writes(&mut self) {
        for _ in 0..self.random.random_range(1..12) {
            let name = self.name();
            self.made(&name);
            let keyspace = self.db().keyspace(&name).unwrap();
            let mut batch = self.db().batch();
            for _ in 0..self.random.random_range(1..30) {
                let key = self.key(&name);
                if self.random.random_range(0..5) == 0 {
                    batch.remove(&keyspace, &key).unwrap();
                    self.note(&name, &key, None);
                } else {
                    let value = self.value();
                    batch.insert(&keyspace, &key, &value).unwrap();
                    self.note(&name, &key, Some(&value));
                }
            }
            let durability = [Durability::Eventual, Durability::Immediate][self.random.random_range(0..2)];
            batch.commit_with(durability).unwrap();
        }
    }

    fn large(&mut self) {
        let name = self.name();
        self.made(&name);
        self.serial += 1;
        let (key, len) = (self.key(&name), self.random.random_range(66_000..400_000));
        let value = value_of(self.serial, len);
        self.db().keyspace(&name).unwrap().insert(&key, &value).unwrap();
        self.note(&name, &key, Some(&value));
    }

    fn remove_range(&mut self) {
        let name = self.name();
        let Some(expected) = self.model.get(&name) else { return };
        let (from, to) = (self.random.random_range(0..600), self.random.random_range(0..200));
        let range = format!("{name} {from:05}").into_bytes()..format!("{name} {:05}", from + to).into_bytes();
        let gone: Vec<_> = expected.range(range.clone()).map(|(key, _)| key.clone()).collect();
        self.db().keyspace(&name).unwrap().remove_range(range).unwrap();
        gone.iter().for_each(|key| self.note(&name, key, None));
    }

    fn whole_keyspace(&mut self) {
        let name = self.name();
        if !self.model.contains_key(&name) {
            return;
        }
        self.whole.insert(name.clone());
        if self.random.random_range(0..2) == 0 {
            self.db().drop_keyspace(&name).unwrap();
            self.model.remove(&name);
        } else {
            self.db().keyspace(&name).unwrap().clear().unwrap();
            self.model.insert(name, Expected::new());
        }
    }

    fn load(&mut self) {
        let name = self.name();
        if self.model.get(&name).is_some_and(|expected| !expected.is_empty()) {
            return;
        }
        let mut entries = Expected::new();
        for _ in 0..self.random.random_range(1..300) {
            let (key, value) = (self.key(&name), self.value());
            entries.insert(key, value);
        }
        self.db().keyspace(&name).unwrap().bulk_load(entries.iter().map(Ok::<_, ashlardb::Error>)).unwrap();
        self.whole.insert(name.clone());
        self.model.insert(name.clone(), Expected::new());
        entries.iter().for_each(|(key, value)| self.note(&name, key, Some(value)));
    }
}
