//! A file that was filled and emptied again becomes short again: by itself where its end is free, by `compact` wherever the free
//! space is; and everything is still there.
//!
//! `ASHLAR_COMPACT` sets how many values are written to real files: some 10 KB each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_disk::{Access, BlockSize, Create as CreateFile, File, Fs, IoMode, OpenHow};
use ashlar_tests::dump;
use ashlar_tests::state::{State, Write};
use ashlar_tests::workload::value;
use ashlardb::{Background, Create, Database, Durability, Error, Options, QueueKind};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const NAMES: [&str; 2] = ["one", "two"];

/// Bytes that a file of this page size may be longer than what is in use: what is kept for writers, a checkpoint, and deletes.
fn slack(page_size: u64) -> u64 {
    260 * page_size
}

fn options(fs: Option<Arc<dyn Fs>>, page_size: usize) -> Options {
    let options = Database::options()
        .page_size(page_size)
        .cache_size(256 * page_size as u64)
        .grow_step(256 << 10)
        .segment_size(1 << 20)
        .blob_threshold(20_000)
        .durability(Durability::Eventual)
        .queue_kind(QueueKind::Threads)
        .background(Background::Manual);
    match fs {
        Some(fs) => options.file_system(fs),
        None => options,
    }
}

/// Lengths of values: in leaves, in overflow pages, in runs of their own, the last ones of several runs.
fn len(number: u64) -> usize {
    match number % 50 {
        0 => 300_000,
        1 => 21_000,
        2..6 => 15_000,
        6..10 => 5_000,
        n => 10 * n as usize,
    }
}

fn key(number: u64) -> [u8; 8] {
    // Neighbours in the tree are written at different times, so that what is deleted leaves holes everywhere.
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

struct Both {
    db: Database,
    model: State,
}

impl Both {
    fn put(&mut self, name: &str, number: u64, len: usize) {
        let value = value(number + 1, len);
        self.db.keyspace(name).unwrap().insert(key(number), &value).unwrap();
        Write::Put { keyspace: name.into(), key: key(number).to_vec(), value }.apply(&mut self.model);
    }

    fn remove(&mut self, name: &str, number: u64) {
        self.db.keyspace(name).unwrap().remove(key(number)).unwrap();
        Write::Remove { keyspace: name.into(), key: key(number).to_vec() }.apply(&mut self.model);
    }

    fn check(&self) {
        dump::check(&self.db, &self.model).unwrap();
        dump::verify(&self.db).unwrap();
    }

    fn file_len(&self) -> u64 {
        self.db.stats().space.file
    }

    fn in_use(&self) -> u64 {
        let space = self.db.stats().space;
        space.file - space.free
    }
}

/// Fills, empties but for one entry of `keep`, compacts, and looks at everything.
fn fills_and_empties(fs: Option<Arc<dyn Fs>>, path: &Path, page_size: usize, count: u64, keep: u64) {
    let db = options(fs.clone(), page_size).open(path).unwrap();
    let mut both = Both { db, model: State::new() };
    for name in NAMES {
        Write::Create { keyspace: name.into() }.apply(&mut both.model);
        both.db.keyspace(name).unwrap();
    }
    for number in 0..count {
        both.put(NAMES[number as usize % 2], number, len(number));
    }
    both.db.checkpoint().unwrap();
    let full = both.file_len();
    for number in (0..count).filter(|n| (n / 2) % keep > 0) {
        both.remove(NAMES[number as usize % 2], number);
    }
    both.db.checkpoint().unwrap();
    let begun = std::time::Instant::now();
    let done = both.db.compact().unwrap();
    let (after, used) = (both.file_len(), both.in_use());
    println!("page {page_size}: {full} full, {done:?} in {:?}, {used} in use", begun.elapsed());
    assert_eq!(done.after, after);
    assert!(after <= used + used / 8 + slack(page_size as u64), "{after} bytes for {used} in use, {full} before");
    assert!(after < full / 2, "{after} of {full} bytes");
    both.check();
    // A second time there is nothing to do.
    let again = both.db.compact().unwrap();
    assert!(again.after <= after + slack(page_size as u64) / 4 && again.moved < 100, "{again:?}");
    both.check();
    // It goes on working, and can be opened again, after a close and after a drop.
    for number in 0..count / 10 {
        both.put(NAMES[0], number, 100);
    }
    both.check();
    for close in [true, false] {
        let Both { db, model } = both;
        if close {
            db.close().unwrap();
        } else {
            drop(db);
        }
        let db = options(fs.clone(), page_size).create(Create::Never).open(path).unwrap();
        both = Both { db, model };
        both.check();
    }
}

#[test]
fn a_file_is_short_again_after_deletes() {
    for (page_size, seed) in [(4096, 1), (8192, 2), (16384, 3)] {
        let fs = Sim::new(SimOptions::new(seed)).fs();
        fills_and_empties(Some(fs), Path::new("/db"), page_size, 3000, 12);
    }
}

#[test]
fn a_file_is_short_again_after_deletes_on_real_files() {
    let dir = tempfile::tempdir_in(ashlar_tests::test_dir()).unwrap();
    let path = dir.path().join("db");
    fills_and_empties(None, &path, 8192, ashlar_tests::number("ASHLAR_COMPACT", 3000), 12);
    let on_disk = std::fs::metadata(path.join("data")).unwrap().len();
    let db = options(None, 8192).create(Create::Never).open(&path).unwrap();
    assert_eq!(db.stats().space.file, on_disk);
}

#[test]
fn what_goes_as_a_whole_needs_no_compacting() {
    let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(4)).fs();
    let db = options(Some(fs.clone()), 4096).open("/db").unwrap();
    let keyspace = db.keyspace("one").unwrap();
    for number in 0..2000 {
        keyspace.insert(key(number), value(number, 2000)).unwrap();
    }
    db.checkpoint().unwrap();
    let full = db.stats().space.file;
    db.drop_keyspace("one").unwrap();
    while db.maintain().unwrap() {}
    // The first checkpoint frees the pages, but what it wrote itself may stand at the end; what the next ones write does not.
    let other = db.keyspace("two").unwrap();
    for number in 0..4 {
        other.insert(key(number), b"v").unwrap();
        db.checkpoint().unwrap();
    }
    let stats = db.stats();
    assert!(stats.shrunk > 0 && stats.space.file < full / 2, "{} of {full} bytes", stats.space.file);
    dump::verify(&db).unwrap();
}

#[test]
fn what_is_to_be_used_again_is_not_given_back_each_time() {
    let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(5)).fs();
    let db = options(Some(fs), 4096).open("/db").unwrap();
    let keyspace = db.keyspace("one").unwrap();
    for round in 0..30 {
        for number in 0..300 {
            keyspace.insert(key(number), value(round, 1000)).unwrap();
        }
        db.checkpoint().unwrap();
    }
    let stats = db.stats();
    assert!(stats.shrunk <= 2, "{} times shorter, {} times longer", stats.shrunk, stats.grown);
}

#[test]
fn a_read_only_database_is_not_compacted() {
    let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(6)).fs();
    options(Some(fs.clone()), 4096).open("/db").unwrap().close().unwrap();
    let db = options(Some(fs), 4096).read_only(true).open("/db").unwrap();
    assert!(matches!(db.compact(), Err(Error::ReadOnly { .. })));
}

#[test]
fn on_a_full_disk_compacting_makes_room() {
    const CAPACITY: u64 = 24 << 20;
    let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(7).capacity(CAPACITY)).fs();
    let db = options(Some(fs), 4096).open("/db").unwrap();
    let mut both = Both { db, model: State::new() };
    Write::Create { keyspace: NAMES[0].into() }.apply(&mut both.model);
    let keyspace = both.db.keyspace(NAMES[0]).unwrap();
    let mut count = 0;
    loop {
        let value = value(count + 1, len(count));
        match keyspace.insert(key(count), &value) {
            Ok(()) => Write::Put { keyspace: NAMES[0].into(), key: key(count).to_vec(), value }.apply(&mut both.model),
            Err(Error::NoSpace { .. }) => break,
            Err(e) => panic!("{e}"),
        }
        count += 1;
    }
    // Full as it is it can't get shorter, and says so without harm.
    let full = both.file_len();
    both.db.compact().unwrap();
    both.check();
    for number in (0..count).filter(|n| n % 8 > 0) {
        both.remove(NAMES[0], number);
    }
    let done = both.db.compact().unwrap();
    assert!(done.after < full / 2, "{done:?}, {full} bytes full, {} in use", both.in_use());
    both.check();
    for number in 0..count / 4 {
        both.put(NAMES[0], number, 2000);
    }
    both.check();
}

/// Takes all room there is.
fn take_all_room(filler: &dyn File) {
    while filler.allocate(filler.len().unwrap(), 4096).is_ok() {}
}

#[test]
fn what_was_promised_is_kept_though_others_take_what_is_given_back() {
    let mut all_given_back = 0;
    for seed in 0..12 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(seed).capacity(20 << 20)).fs();
        let db = options(Some(fs.clone()), 4096).open("/db").unwrap();
        let how = OpenHow { access: Access::ReadWrite, create: CreateFile::New, mode: IoMode::Direct, block: BlockSize::MIN };
        let filler = fs.open(Path::new("/filler"), &how).unwrap();
        let mut both = Both { db, model: State::new() };
        Write::Create { keyspace: NAMES[0].into() }.apply(&mut both.model);
        let keyspace = both.db.keyspace(NAMES[0]).unwrap();
        let (mut refused, mut given_back) = (0, 0);
        for step in 0..3000 {
            let number = rng.random_range(0..400);
            // It fills and empties by turns; while it fills nobody else takes anything.
            let empties = step / 400 % 2 == 1;
            if step % 800 == 0 {
                filler.set_len(0).unwrap();
            }
            match rng.random_range(if empties { 50..100 } else { 0..97 }) {
                0..60 => {
                    let value = value(step, len(number));
                    match keyspace.insert(key(number), &value) {
                        Ok(()) => {
                            Write::Put { keyspace: NAMES[0].into(), key: key(number).to_vec(), value }.apply(&mut both.model);
                        }
                        Err(Error::NoSpace { .. }) => refused += 1,
                        Err(e) => panic!("seed {seed}, step {step}: {e}"),
                    }
                }
                60..97 => both.remove(NAMES[0], number),
                97 => {
                    let done = both.db.compact().unwrap();
                    given_back += done.before.saturating_sub(done.after);
                    take_all_room(&*filler);
                }
                98 => both.db.checkpoint().unwrap(),
                // There may be no room for the log's next segment.
                _ => assert!(matches!(both.db.maintain(), Ok(_) | Err(Error::NoSpace { .. }))),
            }
        }
        both.check();
        println!("seed {seed}: {refused} refused, {given_back} bytes given back");
        all_given_back += given_back;
        assert!(refused > 0, "the disk never was full");
        // With room again all goes on.
        filler.set_len(0).unwrap();
        both.put(NAMES[0], 0, 300_000);
        both.check();
    }
    assert!(all_given_back > 20 << 20, "{all_given_back} bytes were given back in all");
}

#[test]
fn threads_write_and_read_while_the_file_is_compacted() {
    const WRITERS: u64 = 3;
    let dir = tempfile::tempdir_in(ashlar_tests::test_dir()).unwrap();
    let db = options(None, 4096).background(Background::Threads).open(dir.path().join("db")).unwrap();
    let working = AtomicUsize::new(WRITERS as usize);
    let (model, compacted) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (db, working) = (db.clone(), &working);
                scope.spawn(move || {
                    let name = format!("of {writer}");
                    let mut both = Both { db, model: State::new() };
                    Write::Create { keyspace: name.as_str().into() }.apply(&mut both.model);
                    both.db.keyspace(&name).unwrap();
                    for round in 0..6 {
                        for number in 0..400 {
                            // Not the long ones: what runs of many blocks leave in a random order is of no use to the next.
                            both.put(&name, number, len(number + round).min(30_000));
                        }
                        for number in (0..400).filter(|n| n % 5 > 0) {
                            both.remove(&name, number);
                            let found = both.db.keyspace(&name).unwrap().get(key(number / 5 * 5)).unwrap();
                            assert_eq!(found.as_deref(), Some(&*both.model[&name][&key(number / 5 * 5)[..]]));
                        }
                    }
                    working.fetch_sub(1, Relaxed);
                    both.model
                })
            })
            .collect();
        let mut compacted = 0;
        while working.load(Relaxed) > 0 {
            compacted += db.compact().unwrap().moved;
        }
        let models = writers.into_iter().map(|writer| writer.join().unwrap());
        (
            models.reduce(|mut all, one| {
                all.extend(one);
                all
            }),
            compacted,
        )
    });
    println!("{compacted} moved, {:?}", db.stats().space);
    assert!(compacted > 0);
    let both = Both { db, model: model.unwrap() };
    both.check();
    let done = both.db.compact().unwrap();
    assert!(done.after <= both.in_use() + both.in_use() / 8 + slack(4096), "{done:?}");
    both.check();
}
