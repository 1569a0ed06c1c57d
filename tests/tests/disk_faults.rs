//! Histories of many threads on a simulated machine whose disk has faults, beside crashes.
//!
//! `ASHLAR_FAULT_HISTORIES` sets how many of each class, `ASHLAR_SEED` the first seed; `ashlar stress sim` runs the same for hours.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ashlar_disk::sim::{FaultKind, FaultRates, Sim, SimOptions};
use ashlar_tests::crash::{Faults, Setup, Summary, histories, history};
use ashlar_tests::number;
use ashlardb::{Background, Database, Durability, Error};

fn run(faults: Faults) -> Summary {
    let (first, count) = (number("ASHLAR_SEED", 0), number("ASHLAR_FAULT_HISTORIES", 300));
    let setup = Setup { faults: faults.clone(), ..Setup::default() };
    let begun = std::time::Instant::now();
    match histories(first, count, &setup) {
        Ok(sum) => {
            println!("{count} histories with {faults} in {:?}: {sum:?}", begun.elapsed());
            sum
        }
        Err((seed, failure)) => {
            panic!("seed {seed}: {failure}\nagain: ashlar stress sim --seed {seed} --runs 1 --faults {faults}")
        }
    }
}

#[test]
fn faults_that_are_told_lose_nothing_confirmed() {
    let sum = run(Faults::io());
    assert!(sum.injected.len() == 5 && sum.recovered > 50 && sum.refused > 10, "{sum:?}");
}

#[test]
fn faults_that_corrupt_never_give_a_wrong_value() {
    let sum = run(Faults::corrupting());
    assert!(sum.injected.len() == 4 && sum.told.contains_key("corrupt"), "{sum:?}");
}

#[test]
fn all_kinds_in_turn() {
    run(Faults::all());
}

#[test]
fn the_same_seed_is_the_same_history_with_faults() {
    let setup = Setup { faults: Faults::all(), ..Setup::default() };
    for seed in 0..10 {
        assert_eq!(history(seed, &setup), history(seed, &setup), "seed {seed}");
    }
}

/// What a failed sync has dropped may be anybody's pages: after one no checkpoint may be made, whoever asked for the sync.
#[test]
fn a_sync_that_fails_while_the_file_grows_ends_all_writing() {
    let sim = Sim::new(SimOptions::new(1));
    let db = Database::options()
        .page_size(4096)
        .cache_size(1 << 20)
        .segment_size(4 << 20)
        .log_limit(16 << 20)
        .grow_step(256 << 10)
        .background(Background::Manual)
        .file_system(sim.fs())
        .open("/db")
        .unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let insert = |n: u32| keyspace.insert_with(n.to_be_bytes(), [7; 1000], Durability::Immediate);
    insert(0).unwrap();
    let grown = sim.used();
    sim.set_faults(FaultRates::none().with(FaultKind::SyncError, FaultRates::OF));
    let error = (1..2000).find_map(|n| insert(n).err()).unwrap();
    sim.set_faults(FaultRates::none());
    assert!(matches!(error, Error::Io(_)) && sim.used() > grown, "{error}");
    let cause = db.stats().read_only.unwrap();
    assert!(cause.contains("syncing the data file failed"), "{cause}");
    assert!(matches!(insert(9999), Err(Error::ReadOnly { .. })));
    assert!(matches!(db.checkpoint(), Err(Error::ReadOnly { .. })));
    assert_eq!(&keyspace.get(0u32.to_be_bytes()).unwrap().unwrap()[..], [7; 1000]);
}

/// Pages that stand side by side are read together. Where one of them can't be read, that one is the error, and no other.
#[test]
fn of_pages_that_are_read_together_only_the_unreadable_are_errors() {
    const COUNT: u32 = 4000;
    // By this seed leaves are hit and no page above them, whose loss would be that of all below.
    let sim = Sim::new(SimOptions::new(3));
    let options = || {
        let options = Database::options().page_size(4096).segment_size(4 << 20).log_limit(16 << 20);
        options.cache_size(1 << 20).background(Background::Manual).file_system(sim.fs())
    };
    let db = options().open("/db").unwrap();
    db.keyspace("k").unwrap().bulk_load((0..COUNT).map(|n| Ok::<_, Error>((n.to_be_bytes(), [n as u8; 1000])))).unwrap();
    db.close().unwrap();
    // Each key, by itself or in a scan that goes on behind an error: whether it can be read, and that it is right.
    let singly = |db: &Database| -> Vec<bool> {
        let keyspace = db.keyspace("k").unwrap();
        let read = |n: u32| match keyspace.get(n.to_be_bytes()) {
            Ok(value) => {
                assert_eq!(&value.unwrap()[..], [n as u8; 1000]);
                true
            }
            Err(error) => {
                assert!(matches!(error, Error::Io(_)), "{error}");
                false
            }
        };
        (0..COUNT).map(read).collect()
    };
    let scanned = |db: &Database| -> Vec<bool> {
        let keyspace = db.keyspace("k").unwrap();
        let mut readable = vec![false; COUNT as usize];
        let mut next = 0;
        while next < COUNT {
            for entry in keyspace.range(next.to_be_bytes()..) {
                let Ok((key, value)) = entry.inspect_err(|error| assert!(matches!(error, Error::Io(_)), "{error}")) else {
                    break;
                };
                next = u32::from_be_bytes(key[..].try_into().unwrap());
                assert_eq!(&value[..], [next as u8; 1000]);
                readable[next as usize] = true;
                next += 1;
            }
            // Over the key at the error, which another leaf may begin behind.
            next += 1;
        }
        readable
    };
    // For a moment nothing can be read; then some sectors, for good.
    let db = options().open("/db").unwrap();
    sim.set_faults(FaultRates::none().with(FaultKind::ReadError, FaultRates::OF));
    assert!(!scanned(&db).contains(&true));
    sim.set_faults(FaultRates::none());
    assert!(!scanned(&db).contains(&false));
    drop(db);
    let db = options().open("/db").unwrap();
    sim.set_faults(FaultRates::none().with(FaultKind::BadSector, FaultRates::OF / 20));
    let once = scanned(&db);
    sim.set_faults(FaultRates::none());
    let bad = once.iter().filter(|readable| !**readable).count();
    assert!(bad > 10 && bad < COUNT as usize / 2, "{bad} of {COUNT} can't be read");
    assert!(singly(&db) == once && scanned(&db) == once);
}
