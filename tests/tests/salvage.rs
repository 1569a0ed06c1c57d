//! Salvage of whole and of damaged databases, against a model of what was written: what is not hurt comes back, what comes back is
//! right or was said to be older, and what is lost is said.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
mod salvage_support;

use ashlardb::Database;
use ashlardb::salvage::{Evidence, Salvage, SuperblockState};
use common::{assert_clean, assert_holds, copy_database, quiet, scratch, value_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salvage_support::{History, Wreck, contents, seeds};
use std::path::Path;

/// Salvages `db` in `dir` to `new`, checks that the new database verifies, and gives it back with the report.
fn salvaged(dir: &Path) -> (Database, ashlardb::salvage::Report) {
    salvaged_by(dir, &Salvage::new(quiet()))
}

fn salvaged_by(dir: &Path, salvage: &Salvage) -> (Database, ashlardb::salvage::Report) {
    let into = dir.join("new");
    let _ = std::fs::remove_dir_all(&into);
    let before = salvage_support::fingerprint(&dir.join("db"));
    let mut told = 0;
    let report = salvage
        .run_with(dir.join("db"), &into, |event| {
            told += u64::from(matches!(event, ashlardb::salvage::Event::Finding(_)));
        })
        .unwrap();
    assert_eq!(told, report.findings_total);
    assert_eq!(salvage_support::fingerprint(&dir.join("db")), before, "the damaged database is as it was");
    let names = std::fs::read_dir(&into).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| ["data", "wal", "LOCK"].contains(&&*name)), "nothing is left over");
    let db = quiet().open(&into).unwrap();
    assert_clean(&db);
    let entries: u64 = contents(&db).values().map(|keyspace| keyspace.len() as u64).sum();
    assert_eq!(entries, report.entries(), "{report}");
    (db, report)
}

/// A whole database comes back as it was, and nothing is reported.
fn assert_whole(dir: &Path, history: &History) {
    let (db, report) = salvaged(dir);
    assert!(report.is_whole(), "{report}\n{:?}\n{:?}", report.findings, report.doubts);
    assert_eq!((report.evidence, report.superblock), (Evidence::Map, SuperblockState::Known));
    assert_eq!(contents(&db), history.model);
    for (name, expected) in &history.model {
        assert_holds(&db.existing_keyspace(name).unwrap().unwrap(), expected);
    }
}

#[test]
fn whole_databases_come_back_as_they_were() {
    for seed in seeds("ASHLAR_SALVAGE_WHOLE", 6) {
        let dir = scratch();
        let history = History::run(&dir.path().join("live"), seed);
        // Killed: what stands in the files now. Then closed.
        copy_database(&dir.path().join("live"), &dir.path().join("db"));
        assert_whole(dir.path(), &history);
        let history = history.close();
        std::fs::remove_dir_all(dir.path().join("db")).unwrap();
        copy_database(&dir.path().join("live"), &dir.path().join("db"));
        assert_whole(dir.path(), &history);
    }
}

#[test]
fn a_database_without_a_checkpoint_or_without_anything() {
    let dir = scratch();
    let live = dir.path().join("live");
    let db = quiet().open(&live).unwrap();
    copy_database(&live, &dir.path().join("db"));
    let (new, report) = salvaged(dir.path());
    assert!(report.is_whole() && new.keyspaces().unwrap().is_empty(), "{report}");
    db.keyspace("empty").unwrap();
    db.keyspace("one").unwrap().insert("key", "value").unwrap();
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    drop(new);
    copy_database(&live, &dir.path().join("db"));
    let (new, report) = salvaged(dir.path());
    assert!(report.is_whole(), "{report}: {:?}", report.findings);
    assert_eq!(new.keyspaces().unwrap(), ["empty", "one"]);
    assert_eq!(new.keyspace("one").unwrap().get("key").unwrap().unwrap(), "value");
    assert_eq!((report.log.applied, report.checkpoint), (3, Some(0)));
}

/// More than memory takes: the same, through files.
#[test]
fn sorting_in_files() {
    let dir = scratch();
    let history = History::run(&dir.path().join("live"), 5);
    copy_database(&dir.path().join("live"), &dir.path().join("db"));
    for wreck in [Wreck::Nothing, Wreck::SuperblocksAndMap] {
        wreck.apply(&dir.path().join("db"), &history);
        let (few, report) = salvaged_by(dir.path(), &Salvage::new(quiet()).sort_memory(1));
        let few = contents(&few);
        assert!(report.leaves > 10 && report.log.applied > 0, "{report}");
        assert_eq!(contents(&salvaged(dir.path()).0), few, "{wreck:?}");
    }
}

/// The heart: blocks destroyed at random, in many ways, alone and with everything that says where pages stand.
#[test]
fn what_is_not_hurt_comes_back() {
    let mut sum = salvage_support::Sum::default();
    for seed in seeds("ASHLAR_SALVAGE_DAMAGED", 6) {
        let dir = scratch();
        let live = dir.path().join("live");
        let mut history = History::run(&live, seed);
        if seed % 3 > 0 {
            history = history.close();
        }
        for wreck in Wreck::ALL {
            let _ = std::fs::remove_dir_all(dir.path().join("db"));
            copy_database(&live, &dir.path().join("db"));
            let survivors = wreck.damage(&dir.path().join("db"), &history, seed);
            let (db, report) = salvaged(dir.path());
            sum.add(survivors.check(
                &dir.path().join("db"),
                &contents(&db),
                &report,
                &history,
                &format!("seed {seed}, {wreck:?}"),
            ));
        }
    }
    eprintln!("{sum}");
    assert!(sum.intact > 1000 && sum.hurt > 10, "{sum}");
}

/// Whatever stands in the files, right checksums over it or not: no panic, no endless run, and a new database that is whole.
#[test]
fn junk() {
    for seed in seeds("ASHLAR_SALVAGE_JUNK", 16) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let dir = scratch();
        let db = dir.path().join("db");
        let history = (seed % 4 > 0).then(|| History::run(&dir.path().join("live"), seed));
        match &history {
            Some(_) => copy_database(&dir.path().join("live"), &db),
            None => {
                std::fs::create_dir_all(db.join("wal")).unwrap();
                let len = random.random_range(0..2_000_000);
                std::fs::write(db.join("data"), value_of(seed, len)).unwrap();
                std::fs::write(db.join("wal/000000000000.wal"), value_of(seed + 1, 1 << random.random_range(10..20))).unwrap();
                std::fs::write(db.join("wal/000000000007.wal"), []).unwrap();
            }
        }
        if let Some(history) = &history {
            salvage_support::corrupt_sealed(&db, history.page_size, &mut random);
        }
        match Salvage::new(quiet()).run(&db, dir.path().join("new")) {
            Ok(report) => {
                let new = quiet().open(dir.path().join("new")).unwrap();
                assert_clean(&new);
                assert!(history.is_some() || report.entries() == 0, "seed {seed}: {report}");
            }
            Err(error) => assert!(history.is_none() && error.to_string().contains("the size of a page"), "seed {seed}: {error}"),
        }
    }
}
