//! The format document is true: a reader written from `docs/format.md` alone, with no type of the engine, decodes what the
//! engine has written, and finds every key and value, those of the last checkpoint and those that only the log has.

#![allow(clippy::unwrap_used, reason = "a test: an error is a failure")]

#[path = "format/bytes.rs"]
mod bytes;
#[path = "format/data.rs"]
mod data;
#[path = "format/log.rs"]
mod log;

use ashlardb::{Background, Database, Error, Keyspace, Options};
use data::{Count, Data, Entries};
use log::{Log, Trees};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::Path;

/// What was written: keyspaces by name.
type Model = BTreeMap<String, Entries>;

/// What the reader has met beside keys and values.
#[derive(Default, Debug)]
struct Met {
    count: Count,
    records: u64,
    records_below_a: u64,
    spanning: u64,
    crossing: u64,
    empty_flushes: usize,
    codes: [u64; 9],
    dropped_trees: u64,
    stranded: u64,
    stranded_pieces: u64,
    clean: bool,
}

/// Reads the database in `dir`: the checkpoint, then the log.
fn read(dir: &Path) -> (Model, Met) {
    let mut data = Data::open(dir);
    let mut met = Met::default();
    let mut trees = read_catalog(&mut data, &mut met);
    data.check_all_reached();
    let superblock = data.superblock.clone();
    met.clean = superblock.clean;
    let (records, empty_flushes) = Log::new(dir, &superblock).records();
    met.empty_flushes = empty_flushes;
    for record in records {
        met.records += 1;
        met.spanning += u64::from(record.flushes > 1);
        met.crossing += u64::from(record.crosses);
        if record.lsn <= superblock.a {
            met.records_below_a += 1;
            continue;
        }
        log::apply(&record.body, &mut trees, &mut data, &mut met.codes);
    }
    met.count = data.count;
    (trees.into_values().collect(), met)
}

fn read_catalog(data: &mut Data, met: &mut Met) -> Trees {
    let (mut trees, mut stranded) = (Trees::new(), BTreeMap::<[u8; 8], Vec<u8>>::new());
    if data.superblock.map_height == 0 {
        return trees;
    }
    for entry in data.tree(1, data.superblock.catalog_root) {
        assert_eq!(entry.kind, 0, "the catalog's values stand inline");
        let cell = &entry.cell;
        match entry.key[0] {
            b'k' => {
                let (tree, root) = (bytes::u64_at(cell, 0), bytes::u64_at(cell, 8));
                assert!(tree < data.superblock.next_tree);
                let entries = data.entries(tree, root);
                assert_eq!(entries.len() as u64, bytes::u64_at(cell, 16), "number of entries");
                trees.insert(tree, (log::text(&entry.key[1..]), entries));
            }
            b'd' => {
                let tree = u64::from_be_bytes(entry.key[1..].try_into().expect("a tree id"));
                for e in data.tree(tree, bytes::u64_at(cell, 0)) {
                    data.value(tree, e.kind, &e.cell);
                }
                met.dropped_trees += 1;
            }
            b'w' => {
                let (number, piece) = entry.key[1..].split_at(8);
                // In the order of their keys, so in that of their numbers.
                let so_far = stranded.entry(number.try_into().unwrap()).or_default();
                assert_eq!(u64::from(u16::from_be_bytes(piece.try_into().unwrap())) == 0, so_far.is_empty());
                so_far.extend(cell);
                met.stranded_pieces += 1;
            }
            other => unreachable!("catalog entry {other}"),
        }
    }
    for bytes in stranded.into_values() {
        assert_eq!(bytes::u32_at(&bytes, 0), bytes::crc32c(&bytes[4..]));
        assert!(bytes::u64_at(&bytes, 4) <= data.superblock.a);
        log::apply(&bytes[12..], &mut trees, data, &mut [0; 9]);
        met.stranded += 1;
    }
    trees
}

/// Writes to a database and to a model of it.
struct Writer<'a> {
    db: &'a Database,
    model: &'a mut Model,
    rng: ChaCha8Rng,
}

impl Writer<'_> {
    fn keyspace(&mut self, name: &str) -> Keyspace {
        self.model.entry(name.into()).or_default();
        self.db.keyspace(name).unwrap()
    }

    fn entries(&mut self, name: &str) -> &mut Entries {
        self.model.get_mut(name).unwrap()
    }

    fn put(&mut self, name: &str, key: &[u8], value: Vec<u8>) {
        self.keyspace(name).insert(key, &value).unwrap();
        self.entries(name).insert(key.to_vec(), value);
    }

    fn value(&mut self, len: usize) -> Vec<u8> {
        let mut value = vec![0; len];
        self.rng.fill(&mut value[..]);
        value
    }

    /// A key with a long or short common part, sometimes as long as can be.
    fn key(&mut self) -> Vec<u8> {
        let mut key = match self.rng.random_range(0..3) {
            0 => b"a/common/part/of/many/keys/".to_vec(),
            1 => b"b".to_vec(),
            _ => Vec::new(),
        };
        let max = self.db.key_len_max() - key.len();
        let len = if self.rng.random_bool(0.03) { max } else { self.rng.random_range(0..12) };
        key.extend((0..len).map(|_| self.rng.random_range(0..4u8) * 85));
        key
    }

    /// Many commits of several keys each: inline and overflow values, deletes.
    fn churn(&mut self, name: &str, commits: usize) {
        let keyspace = self.keyspace(name);
        for _ in 0..commits {
            let mut batch = self.db.batch();
            for _ in 0..self.rng.random_range(1..30) {
                let key = self.key();
                if self.rng.random_bool(0.25) {
                    batch.remove(&keyspace, &key).unwrap();
                    self.entries(name).remove(&key);
                } else {
                    let len = if self.rng.random_bool(0.1) { 3000 } else { 60 };
                    let len = self.rng.random_range(0..len);
                    let value = self.value(len);
                    batch.insert(&keyspace, &key, &value).unwrap();
                    self.entries(name).insert(key, value);
                }
            }
            batch.commit().unwrap();
        }
    }

    fn remove_range(&mut self, name: &str, from: &[u8], to: &[u8]) {
        self.keyspace(name).remove_range(from..to).unwrap();
        self.entries(name).retain(|key, _| !(from..to).contains(&&key[..]));
    }

    fn clear(&mut self, name: &str) {
        self.keyspace(name).clear().unwrap();
        self.entries(name).clear();
    }

    fn bulk_load(&mut self, name: &str, count: u32) {
        let keyspace = self.keyspace(name);
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = (0..count).map(|i| (i.to_be_bytes().to_vec(), vec![i as u8; 100])).collect();
        entries[7].1 = vec![1; 40_000];
        entries[9].1 = vec![2; 15_000];
        let loaded: Result<u64, Error> = keyspace.bulk_load(entries.iter().map(|(k, v)| Ok((k, v))));
        assert_eq!(loaded.unwrap(), u64::from(count));
        self.entries(name).extend(entries);
    }

    fn drop_keyspace(&mut self, name: &str) {
        assert!(self.db.drop_keyspace(name).unwrap());
        self.model.remove(name);
    }
}

fn options(page_size: usize, block_size: usize) -> Options {
    Options::new()
        .page_size(page_size)
        .block_size(block_size)
        .segment_size(64 << 10)
        .log_limit(8 << 20)
        .cache_size(8 << 20)
        .blob_threshold(16 << 10)
        .background(Background::Manual)
}

/// A directory on a disk, for direct I/O.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(ashlar_tests::test_dir()).unwrap()
}

/// Everything that has a form of its own on disk, in the checkpoint and behind it in the log.
fn write_all_forms(db: &Database, model: &mut Model, seed: u64) {
    let mut w = Writer { db, model, rng: ChaCha8Rng::seed_from_u64(seed) };
    w.churn("orders", 150);
    w.churn("users", 40);
    w.put("users", b"", b"the empty key".to_vec());
    w.put("big", b"one run", vec![1; 20_000]);
    let value = w.value(300_001);
    w.put("big", b"runs", value);
    let key = vec![b'x'; db.key_len_max()];
    w.put("big", &key, vec![7; 4095 * 4096 - 100]);
    w.churn("cleared", 20);
    w.churn("dropped", 20);
    w.put("dropped", b"overflow", vec![2; 9000]);
    w.drop_keyspace("dropped");
    db.checkpoint().unwrap();

    // From here on only the log has it.
    let value = w.value(100_000);
    w.put("big", b"logged", value);
    w.put("big", b"one run", vec![3; 17_000]);
    w.put("new", b"long enough to cross a segment", vec![4; 9_000]);
    w.churn("orders", 60);
    w.clear("cleared");
    w.put("cleared", b"again", b"there".to_vec());
    w.remove_range("users", b"a/", b"b");
    w.put("new", b"k", Vec::new());
    w.drop_keyspace("new");
    w.churn("new", 5);
    w.bulk_load("loaded", 500);
    let mut batch = db.batch();
    for i in 0..300u32 {
        let value = w.value(1000);
        batch.insert(&db.keyspace("wide").unwrap(), i.to_be_bytes(), &value).unwrap();
        w.keyspace("wide");
        w.entries("wide").insert(i.to_be_bytes().to_vec(), value);
    }
    batch.commit().unwrap();
}

#[test]
fn a_reader_of_the_document_finds_all_that_was_written() {
    for (seed, page_size, block_size) in [(1, 4096, 4096), (2, 16384, 4096), (3, 65536, 16384)] {
        let dir = directory();
        let path = dir.path().join("db");
        let mut model = Model::new();
        let db = options(page_size, block_size).open(&path).unwrap();
        write_all_forms(&db, &mut model, seed);
        drop(db);
        let (found, met) = read(&path);
        assert!(found == model, "page size {page_size}: {:?} against {:?}", sizes(&found), sizes(&model));
        check_met(&met, page_size);

        // Another open has an incarnation and a superblock of its own, and changes nothing that is said.
        drop(options(page_size, block_size).create(ashlardb::Create::Never).open(&path).unwrap());
        let (before, after) = (found, read(&path).0);
        assert!(before == after);
    }
}

/// Otherwise the test would pass by not looking.
fn check_met(met: &Met, page_size: usize) {
    let Count { leaves, inner, overflow, runs, long_blobs, packed } = met.count;
    assert!(leaves > 3 && inner > 0 && overflow > 3 && runs > 5, "{met:?}");
    assert!(long_blobs > 0 || page_size > 4096, "{met:?}");
    assert!(packed > 0 || page_size == 4096, "{met:?}");
    assert!(met.records > 60 && met.spanning > 0 && met.crossing > 0 && met.empty_flushes > 0, "{met:?}");
    assert!(met.codes[1..].iter().all(|&n| n > 0), "{met:?}");
    assert!(met.dropped_trees > 0, "{met:?}");
}

fn sizes(model: &Model) -> Vec<(&str, usize)> {
    model.iter().map(|(name, entries)| (&**name, entries.len())).collect()
}

#[test]
fn a_database_without_a_checkpoint_is_all_log() {
    let dir = directory();
    let path = dir.path().join("db");
    let mut model = Model::new();
    let db = options(4096, 4096).open(&path).unwrap();
    let mut w = Writer { db: &db, model: &mut model, rng: ChaCha8Rng::seed_from_u64(4) };
    w.churn("a", 10);
    w.put("b", b"blob", vec![5; 50_000]);
    drop(db);
    assert!(read(&path).0 == model);
}

#[test]
fn a_closed_database_is_all_checkpoint_and_its_log_is_in_another_directory() {
    let dir = directory();
    let path = dir.path().join("db");
    let mut model = Model::new();
    let db = options(8192, 4096).wal_dir("../log").open(&path).unwrap();
    let mut w = Writer { db: &db, model: &mut model, rng: ChaCha8Rng::seed_from_u64(5) };
    w.churn("a", 60);
    w.put("b", b"blob", vec![5; 50_000]);
    while db.maintain().unwrap() {}
    db.close().unwrap();
    let (found, met) = read(&path);
    assert!(found == model);
    assert_eq!(met.codes, [0; 9], "nothing lies beyond A");
    assert!(met.clean && met.empty_flushes == 0, "and nothing at all beyond C");
    assert!(dir.path().join("log/000000000000.wal").exists() || met.records == 0);
}

/// Writes that were made while a leaf could not be read, which is whole again by the time that somebody looks.
#[test]
fn stranded_writes_stand_in_the_catalog() {
    let dir = directory();
    let path = dir.path().join("db");
    let mut model = Model::new();
    let options = || options(4096, 4096).postpone_always(true);
    let db = options().open(&path).unwrap();
    let mut w = Writer { db: &db, model: &mut model, rng: ChaCha8Rng::seed_from_u64(6) };
    w.churn("a", 60);
    w.bulk_load("loaded", 500);
    db.close().unwrap();
    let leaf = leaf_with(&path.join("data"), &[250; 100]);
    flip(&path.join("data"), leaf);
    let db = options().open(&path).unwrap();
    let loaded = db.keyspace("loaded").unwrap();
    let lost: Vec<u32> = (0..500).filter(|i: &u32| loaded.get(i.to_be_bytes()).is_err()).collect();
    assert!(lost.contains(&250) && lost.len() > 10);
    let mut w = Writer { db: &db, model: &mut model, rng: ChaCha8Rng::seed_from_u64(7) };
    for (nth, &i) in lost[..6].iter().enumerate() {
        // Some need several pieces.
        let value = w.value(nth * 2500);
        w.put("loaded", &i.to_be_bytes(), value);
    }
    db.keyspace("loaded").unwrap().remove(lost[8].to_be_bytes()).unwrap();
    w.entries("loaded").remove(&lost[8].to_be_bytes().to_vec());
    db.checkpoint().unwrap();
    w.put("loaded", &499u32.to_be_bytes(), b"in the log".to_vec());
    db.flush().unwrap();
    assert_eq!(db.stats().stranded, 7);
    drop((loaded, db));
    flip(&path.join("data"), leaf);
    let (found, met) = read(&path);
    assert!(found == model, "{:?} against {:?}", sizes(&found), sizes(&model));
    assert!(met.stranded == 7 && met.stranded_pieces > 10, "{met:?}");
}

/// Where the one page image begins that holds these bytes.
fn leaf_with(data: &Path, bytes: &[u8]) -> u64 {
    let data = std::fs::read(data).unwrap();
    let found: Vec<usize> = (0..data.len() - bytes.len()).filter(|&at| data[at..].starts_with(bytes)).collect();
    let [one] = found[..] else { unreachable!("{} of them", found.len()) };
    (one / 4096 * 4096) as u64
}

/// Flips one bit behind the header of the page image that begins there.
fn flip(data: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(data).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at + 60).unwrap();
    file.write_all_at(&[byte[0] ^ 8], at + 60).unwrap();
    file.sync_all().unwrap();
}
