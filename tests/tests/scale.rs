//! More data than cache: memory stays within its bound, the file within its own, and every entry is there, in order, from both ends.
//!
//! 300,000 entries; `ASHLAR_SCALE=3000000` for the size at which the bound on the file counts (it does from 100 MB of data on).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Database, Keyspace, Options};
use common::{assert_clean, scratch, value_of};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of cache.
const CACHE: u64 = 64 << 20;
/// Bytes of an entry: 16 of the key, 100 of the value.
const ENTRY: u64 = 116;
const BATCH: u64 = 1000;

fn entries() -> u64 {
    std::env::var("ASHLAR_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(300_000)
}

/// Makes the key of an entry.
type Key = fn(u64) -> [u8; 16];

/// The key of entry `i`: in no order at first sight.
fn shuffled(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&value_of(i ^ 0x5CA1E, 16));
    key
}

/// The key of entry `i`: in order.
fn ascending(i: u64) -> [u8; 16] {
    u128::from(i).to_be_bytes()
}

fn value(i: u64) -> Vec<u8> {
    value_of(i, 100)
}

/// Bytes of memory that this process has in RAM.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

/// What the sampler has seen at its worst.
#[derive(Debug, Default)]
struct Worst {
    samples: u64,
    /// Memory above the bound's fixed parts, per page of the database.
    resident: u64,
    /// Allocated bytes of `data` for each byte put in, once 100 MB were.
    file_ratio: f64,
}

/// Looks at memory and file until told to stop; panics with the first that is out of bounds.
fn sample(db: &Database, data: &Path, written: &AtomicU64, stop: &AtomicBool) -> Worst {
    let mut worst = Worst::default();
    while !stop.load(Ordering::Acquire) {
        let bytes = written.load(Ordering::Acquire) * ENTRY;
        let pages = db.stats().space.pages;
        let memory = resident();
        let bound = CACHE + CACHE / 10 + (64 << 20) + 24 * pages;
        assert!(memory <= bound, "{memory} bytes resident with {pages} pages and {bytes} bytes of data, at most {bound} may be");
        let allocated = std::fs::metadata(data).unwrap().blocks() * 512;
        // Commits may have put in more since than was counted, never less.
        if bytes >= 100_000_000 {
            let ratio = allocated as f64 / bytes as f64;
            assert!(ratio <= 2.5, "{allocated} bytes of file for {bytes} bytes of data");
            worst.file_ratio = worst.file_ratio.max(ratio);
        }
        worst.resident = worst.resident.max(memory);
        worst.samples += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    worst
}

fn load(db: &Database, keyspace: &Keyspace, key: Key, count: u64, next: &AtomicU64, written: &AtomicU64) {
    loop {
        let from = next.fetch_add(BATCH, Ordering::Relaxed);
        if from >= count {
            return;
        }
        let to = count.min(from + BATCH);
        let mut batch = db.batch();
        (from..to).for_each(|i| batch.insert(keyspace, key(i), value(i)).unwrap());
        batch.commit().unwrap();
        written.fetch_add(to - from, Ordering::Release);
    }
}

fn read_all(keyspace: &Keyspace, key: Key, count: u64, next: &AtomicU64) {
    loop {
        let from = next.fetch_add(BATCH, Ordering::Relaxed);
        if from >= count {
            return;
        }
        let range = from..count.min(from + BATCH);
        let found = keyspace.get_many(range.clone().map(key)).unwrap();
        for (i, found) in range.zip(found) {
            let found = found.unwrap_or_else(|| panic!("entry {i} is gone"));
            assert!(*found == value(i)[..], "entry {i} has a wrong byte");
        }
    }
}

/// A hash of a sequence that tells its order, made from either end.
struct Sequence {
    hash: u64,
    power: u64,
    count: u64,
}

impl Sequence {
    const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

    fn new() -> Sequence {
        Sequence { hash: 0, power: 1, count: 0 }
    }

    fn of_entry(key: &[u8], value: &[u8]) -> u64 {
        key.iter().chain(value).fold(0xCBF2_9CE4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
    }

    /// The next one, going on.
    fn append(&mut self, entry: u64) {
        self.hash = self.hash.wrapping_mul(Self::BASE).wrapping_add(entry);
        self.count += 1;
    }

    /// The one before, going back.
    fn prepend(&mut self, entry: u64) {
        self.hash = self.hash.wrapping_add(entry.wrapping_mul(self.power));
        self.power = self.power.wrapping_mul(Self::BASE);
        self.count += 1;
    }
}

/// Both directions give all entries, in order, and the same ones.
fn scan(keyspace: &Keyspace, count: u64) {
    let (mut forward, mut backward) = (Sequence::new(), Sequence::new());
    let mut last: Option<Vec<u8>> = None;
    for entry in keyspace.iter() {
        let (key, value) = entry.unwrap();
        assert!(last.is_none_or(|last| last < key), "the scan does not ascend at {}", common::shown(&key));
        forward.append(Sequence::of_entry(&key, &value));
        last = Some(key);
    }
    let mut last: Option<Vec<u8>> = None;
    for entry in keyspace.iter().rev() {
        let (key, value) = entry.unwrap();
        assert!(last.is_none_or(|last| last > key), "the reverse scan does not descend at {}", common::shown(&key));
        backward.prepend(Sequence::of_entry(&key, &value));
        last = Some(key);
    }
    assert_eq!((forward.count, backward.count), (count, count));
    assert_eq!(forward.hash, backward.hash, "one direction gives other entries than the other");
}

#[test]
fn more_data_than_cache() {
    run(shuffled);
}

#[test]
fn more_data_than_cache_in_the_order_of_its_keys() {
    run(ascending);
}

fn run(key: Key) {
    // Memory is looked at: one at a time.
    let _one = ONE_AT_A_TIME.lock();
    let dir = scratch();
    let path = dir.path().join("db");
    let open = || Options::new().cache_size(CACHE).open(&path).unwrap();
    let (count, started) = (entries(), Instant::now());
    let db = open();
    let keyspace = db.keyspace("k").unwrap();
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let worst = std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let data = path.join("data");
        let sampler = scope.spawn({
            let (db, written, stop) = (&db, &written, &stop);
            move || sample(db, &data, written, stop)
        });
        let both = |work: &(dyn Fn(&AtomicU64) + Sync)| {
            let next = AtomicU64::new(0);
            std::thread::scope(|two| (0..2).for_each(|_| drop(two.spawn(|| work(&next)))));
        };
        both(&|next| load(&db, &keyspace, key, count, next, &written));
        let loaded = started.elapsed();
        assert_eq!(keyspace.len().unwrap(), count);
        both(&|next| read_all(&keyspace, key, count, next));
        scan(&keyspace, count);
        db.checkpoint().unwrap();
        assert_clean(&db);
        eprintln!("{count} entries loaded in {loaded:?}, read in {:?}", started.elapsed() - loaded);
        drop(stopping);
        sampler.join().unwrap()
    });
    eprintln!("{worst:?}; at the end {:?}", db.stats().space);
    assert!(worst.samples > 10);
    drop(keyspace);
    db.close().unwrap();
    let db = open();
    let keyspace = db.keyspace("k").unwrap();
    assert_eq!(keyspace.len().unwrap(), count);
    read_all(&keyspace, key, count, &AtomicU64::new(0));
    scan(&keyspace, count);
    assert_clean(&db);
}

static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Ends the sampler also where the test panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
