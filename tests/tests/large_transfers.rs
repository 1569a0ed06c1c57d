//! A large value is moved by several transfers at once: one of them fails, is short, or brings other bytes, whichever it is, and the
//! reader gets that error and no byte, the writer no commit; nothing is left over, and the next try gets what is true.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_tests::failing::{Call, FailingFs, Failure, Plan, Script};
use ashlardb::{Background, Database, Durability, Error, Keyspace, Options};
use common::{assert_clean, quiet, scratch, value_of};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes of the first run of a value, and of a value of two runs and some blocks.
const RUN: usize = 8 << 20;
const LEN: usize = RUN + (1 << 20) + 5000;

/// A database whose calls are counted, and may fail by a plan.
struct Counted {
    db: Database,
    keyspace: Keyspace,
    script: Arc<Script>,
}

impl Counted {
    fn new(plan: Option<Plan>) -> Counted {
        let script = Script::new(plan);
        let fs = FailingFs::over(Sim::new(SimOptions::new(1)).fs(), script.clone());
        let options = Options::new().file_system(fs).background(Background::Manual).page_size(4096).cache_size(4 << 20);
        let options = options.segment_size(1 << 20).log_limit(8 << 20).grow_step(32 << 20).durability(Durability::Eventual);
        let db = options.open("/db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        Counted { db, keyspace, script }
    }

    /// The same with a large value, of which a checkpoint knows.
    fn with_value(plan: Option<Plan>) -> Counted {
        let this = Counted::new(plan);
        this.keyspace.insert("large", value_of(1, LEN)).unwrap();
        this.db.checkpoint().unwrap();
        this
    }

    fn calls(&self) -> usize {
        self.script.seen().len()
    }

    /// What was read is no longer pinned, and what was being written is free: a value of that size finds room where the other was.
    fn assert_nothing_is_left(&self) {
        for round in 0..4 {
            self.keyspace.insert("large", value_of(2 + round, LEN)).unwrap();
            self.db.checkpoint().unwrap();
        }
        let file = self.db.stats().space.file;
        assert!(file <= 64 << 20, "the file has grown to {file} bytes");
        assert_clean(&self.db);
    }
}

/// The numbers of the calls of that kind that `work` makes.
fn numbers_of(call: Call, counted: &Counted, work: impl FnOnce(&Counted)) -> Vec<u64> {
    let before = counted.calls();
    work(counted);
    let seen = counted.script.seen();
    let numbers = (before..seen.len()).filter(|&at| seen[at] == call);
    numbers.map(|at| at as u64 + 1).collect()
}

fn plan(nth: u64, failure: Failure) -> Plan {
    Plan { nth, from_then_on: false, failure, with_effect: failure == Failure::Short }
}

#[test]
fn a_read_of_which_one_transfer_fails_gives_its_error() {
    let reads = numbers_of(Call::QueuedRead, &Counted::with_value(None), |counted| {
        assert!(counted.keyspace.get("large").unwrap().unwrap() == value_of(1, LEN));
    });
    assert!(reads.len() > 30, "{} transfers", reads.len());
    for (index, &nth) in reads.iter().enumerate() {
        let failure = if index % 2 == 0 { Failure::Eio } else { Failure::Short };
        let counted = Counted::with_value(Some(plan(nth, failure)));
        let error = counted.keyspace.get("large").map(drop).unwrap_err();
        assert!(matches!(error, Error::Io(_)) && error.to_string().contains("/db/data"), "transfer {index}: {error}");
        assert!(counted.keyspace.get("large").unwrap().unwrap() == value_of(1, LEN), "after transfer {index}");
        if index % 8 == 0 {
            counted.assert_nothing_is_left();
        }
    }
}

#[test]
fn a_stream_ends_before_the_run_of_which_one_transfer_fails() {
    let read_all = |counted: &Counted| -> (Vec<u8>, io::Result<usize>) {
        let mut reader = counted.keyspace.blob_reader("large").unwrap().unwrap();
        let mut found = Vec::new();
        let outcome = reader.read_to_end(&mut found);
        if outcome.is_err() {
            // It goes on where it was, once the disk does.
            assert_eq!(reader.stream_position().unwrap(), found.len() as u64);
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert!([&found[..], &rest].concat() == value_of(1, LEN));
            reader.seek(SeekFrom::Start(7)).unwrap();
        }
        (found, outcome)
    };
    let reads = numbers_of(Call::QueuedRead, &Counted::with_value(None), |counted| {
        assert!(read_all(counted).0 == value_of(1, LEN));
    });
    for (index, &nth) in reads.iter().enumerate().step_by(3) {
        let counted = Counted::with_value(Some(plan(nth, Failure::Eio)));
        let (found, outcome) = read_all(&counted);
        assert!(outcome.is_err() && (found.is_empty() || found.len() >= RUN), "transfer {index}: {} bytes", found.len());
        assert!(found[..] == value_of(1, LEN)[..found.len()]);
        counted.assert_nothing_is_left();
    }
}

#[test]
fn a_write_of_which_one_transfer_fails_commits_nothing() {
    let insert = |counted: &Counted| counted.keyspace.insert("large", value_of(9, LEN));
    let stream = |counted: &Counted| -> ashlardb::Result<()> {
        let mut writer = counted.keyspace.blob_writer("large")?;
        // Whoever does not look at an error does not make half a value of it.
        for piece in value_of(9, LEN).chunks(1 << 20) {
            let _ignored = writer.write_all(piece);
        }
        writer.finish()
    };
    type Writes<'a> = &'a dyn Fn(&Counted) -> ashlardb::Result<()>;
    for writes in [&insert as Writes<'_>, &stream] {
        let numbers = numbers_of(Call::QueuedWrite, &Counted::with_value(None), |counted| {
            writes(counted).unwrap();
            assert!(counted.keyspace.get("large").unwrap().unwrap() == value_of(9, LEN));
        });
        assert!(numbers.len() > 30, "{} transfers", numbers.len());
        for (index, &nth) in numbers.iter().enumerate().step_by(4) {
            let failure = if index % 8 == 0 { Failure::Eio } else { Failure::Short };
            let counted = Counted::with_value(Some(plan(nth, failure)));
            let error = writes(&counted).unwrap_err();
            assert!(matches!(error, Error::Io(_)), "transfer {index}: {error}");
            assert!(counted.keyspace.get("large").unwrap().unwrap() == value_of(1, LEN), "after transfer {index}");
            counted.assert_nothing_is_left();
        }
    }
}

#[test]
fn a_stream_for_which_there_is_no_room_commits_nothing() {
    let stream = |counted: &Counted| -> (bool, ashlardb::Result<()>) {
        let mut writer = counted.keyspace.blob_writer("large").unwrap();
        let mut told = false;
        for piece in value_of(9, 6 * RUN).chunks(1 << 20) {
            told |= writer.write_all(piece).is_err();
        }
        (told, writer.finish())
    };
    let growths = numbers_of(Call::Allocate, &Counted::with_value(None), |counted| stream(counted).1.unwrap());
    assert!(!growths.is_empty());
    for nth in growths {
        let counted = Counted::with_value(Some(plan(nth, Failure::Eio)));
        let (told, outcome) = stream(&counted);
        assert!(told && matches!(outcome, Err(Error::Io(_))), "{outcome:?}");
        assert!(counted.keyspace.get("large").unwrap().unwrap() == value_of(1, LEN));
        assert_clean(&counted.db);
    }
}

/// Real files, so that the queue is that of the kernel.
#[test]
fn bytes_that_are_not_those_written_are_given_to_nobody() {
    let dir = scratch();
    let (path, value) = (dir.path().join("db"), value_of(1, LEN));
    let open = || {
        let db = quiet().open(&path).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        (db, keyspace)
    };
    let (db, keyspace) = open();
    keyspace.insert("large", &value).unwrap();
    db.checkpoint().unwrap();
    drop((db, keyspace));
    let data = std::fs::OpenOptions::new().read(true).write(true).open(path.join("data")).unwrap();
    let content = std::fs::read(path.join("data")).unwrap();
    for at in [0, 5, (256 << 10) - 1, 256 << 10, 3_000_000, RUN - 1, RUN, RUN + 600_000, LEN - 1] {
        let within = value[at & !511..].len().min(512);
        let sector = &value[at & !511..(at & !511) + within];
        let place = content.chunks(512).position(|found| found.starts_with(sector)).unwrap() * 512 + at % 512;
        data.write_at(&[content[place] ^ 4], place as u64).unwrap();
        data.sync_all().unwrap();
        let (db, keyspace) = open();
        let error = keyspace.get("large").map(drop).unwrap_err();
        let block =
            format!("block {}", if at < RUN { content.chunks(512).position(|c| c == &value[..512]).unwrap() / 8 } else { 0 });
        assert!(matches!(error, Error::Corrupt(_)), "byte {at}: {error}");
        assert!(error.to_string().contains("blob run") && (at >= RUN || error.to_string().contains(&block)), "{error}");
        let mut found = Vec::new();
        let mut reader = keyspace.blob_reader("large").unwrap().unwrap();
        assert_eq!(reader.read_to_end(&mut found).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(found.len() <= at && found[..] == value[..found.len()]);
        assert!(!db.verify().unwrap().is_clean());
        drop((db, keyspace, reader));
        data.write_at(&[content[place]], place as u64).unwrap();
        data.sync_all().unwrap();
    }
    let (_db, keyspace) = open();
    assert!(keyspace.get("large").unwrap().unwrap() == value);
}
