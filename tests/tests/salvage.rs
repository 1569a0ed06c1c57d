//! Salvage of whole and of damaged databases, against a model of what was written: what is not hurt comes back, what comes back is
//! right or was said to be older, and what is lost is said.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
mod salvage_support;

use ashlardb::salvage::{Evidence, FindingKind, Salvage, SuperblockState};
use ashlardb::{Database, Durability, Error};
use common::damage::{self, BLOCK, COPY_OFFSETS, Kind};
use common::{Expected, assert_clean, assert_holds, copy_database, message, quiet, scratch, value_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salvage_support::{Checkpoint, History, ScratchedFs, State, Wreck, contents, seeds};
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

/// A closed database with one keyspace of many leaves, one with long values and one with large ones. Every page has one image.
fn made(dir: &Path) -> State {
    let db = quiet().open(dir).unwrap();
    let mut all = State::new();
    for (name, count, len) in [("small", 400, 100), ("long", 12, 20_000), ("large", 4, 300_000)] {
        let keyspace = db.keyspace(name).unwrap();
        for i in 0..count {
            let (key, value) = (format!("{name} {i:04}").into_bytes(), value_of(i, len));
            keyspace.insert_with(&key, &value, Durability::Eventual).unwrap();
            all.entry(name.to_owned()).or_default().insert(key, value);
        }
    }
    db.close().unwrap();
    all
}

/// The keys of a keyspace that are missing.
fn missing(all: &State, found: &State, name: &str) -> Vec<Vec<u8>> {
    let found = &found[name];
    for (key, value) in found {
        assert!(all[name].get(key) == Some(value));
    }
    all[name].keys().filter(|key| !found.contains_key(*key)).cloned().collect()
}

/// A damaged leaf: its page, its block, its tree and its keys are told, and exactly those keys are missing.
#[test]
fn a_damaged_leaf_is_told_with_its_keys() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let whole = damage::bytes_of(&data);
    let checkpoint = Checkpoint::read(&whole);
    let leaf_of = |key: &str| checkpoint.entries[&("small".to_owned(), key.as_bytes().to_vec())].leaf.clone();
    for key in ["small 0000", "small 0200", "small 0399"] {
        std::fs::write(&data, &whole).unwrap();
        let leaf = leaf_of(key);
        damage::flip(&data, leaf.start * BLOCK as u64 + 90, 5);
        let (db, report) = salvaged(dir.path());
        let gone = missing(&all, &contents(&db), "small");
        let expected: Vec<_> =
            all["small"].keys().filter(|key| leaf_of(std::str::from_utf8(key).unwrap()) == leaf).cloned().collect();
        assert_eq!(gone, expected);
        let find = |kind| report.findings.iter().find(|finding| finding.kind == kind).unwrap();
        let (range, page) = (find(FindingKind::Range), find(FindingKind::Page));
        assert_eq!(report.findings_total, 2, "{:#?}", report.findings);
        assert_eq!((range.keyspace.as_deref(), page.keyspace.as_deref()), (Some("small"), Some("small")));
        assert_eq!(range.range, page.range, "{range} {page}");
        let (from, to) = range.range.clone().unwrap();
        assert!(gone.iter().all(|key| *key >= from && to.as_ref().is_none_or(|to| key < to)));
        assert_eq!((from.is_empty(), to.is_none()), (key == "small 0000", key == "small 0399"));
        assert_eq!(page.blocks.unwrap().0, leaf.start);
        assert!(page.what.contains("checksum") && page.file.as_ref().unwrap().ends_with("data"), "{page}");
        let small = report.keyspaces.iter().find(|keyspace| keyspace.name == "small").unwrap();
        assert_eq!((small.in_checkpoint, small.entries), (Some(400), 400 - gone.len() as u64));
        assert!(report.doubts.is_empty() && !report.is_whole());
    }
}

/// Inner pages are not needed: whatever is broken of them, nothing is missing.
#[test]
fn damaged_inner_pages_cost_nothing() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let images = damage::images(&damage::bytes_of(&data), 8192);
    for image in images.iter().filter(|image| image.kind == Kind::Inner) {
        damage::put(&data, image.block * BLOCK as u64, &vec![0; image.len]);
    }
    let (db, report) = salvaged(dir.path());
    assert_eq!(contents(&db), all);
    assert!(report.findings_total > 0 && report.findings.iter().all(|finding| finding.kind == FindingKind::Page), "{report}");
}

/// A value that stands elsewhere and is damaged: its key and length are told, and it alone is missing.
#[test]
fn damaged_values_are_told_with_their_keys() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let whole = damage::bytes_of(&data);
    let checkpoint = Checkpoint::read(&whole);
    for (name, key, part) in [("long", "long 0003", 1), ("large", "large 0001", 0), ("large", "large 0003", 1)] {
        std::fs::write(&data, &whole).unwrap();
        let entry = &checkpoint.entries[&(name.to_owned(), key.as_bytes().to_vec())];
        damage::flip(&data, entry.blocks[part].start * BLOCK as u64 + 100, 0);
        let (db, report) = salvaged(dir.path());
        assert_eq!(missing(&all, &contents(&db), name), [key.as_bytes()]);
        let value = report.findings.iter().find(|finding| finding.kind == FindingKind::Value).unwrap();
        assert_eq!((value.key.as_deref(), value.keyspace.as_deref()), (Some(key.as_bytes()), Some(name)));
        assert_eq!(value.len, Some(entry.value.len() as u64));
        // A damaged overflow page is a damaged page; of a run the value says all.
        assert_eq!(report.findings_total, if name == "long" { 2 } else { 1 }, "{:#?}", report.findings);
        assert!(value.to_string().contains(&format!("key \"{key}\"")), "{value}");
    }
}

/// Without superblocks and page map: all but large values, whose places nothing tells.
#[test]
fn without_superblocks_and_map_only_large_values_are_lost() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let images = damage::images(&damage::bytes_of(&data), 8192);
    for offset in COPY_OFFSETS {
        damage::put(&data, offset, &[0; BLOCK]);
    }
    for map in images.iter().filter(|image| image.kind == Kind::Map) {
        damage::put(&data, map.block * BLOCK as u64, &value_of(9, map.len));
    }
    let (db, report) = salvaged(dir.path());
    let found = contents(&db);
    assert_eq!((&found["small"], &found["long"]), (&all["small"], &all["long"]));
    assert_eq!((report.evidence, report.superblock, report.page_size), (Evidence::Scan, SuperblockState::Lost, 8192));
    let lost: Vec<_> = report.findings.iter().filter(|finding| finding.kind == FindingKind::Value).collect();
    // The log still names those that were committed last.
    assert_eq!(found["large"].len() + lost.len(), 4);
    assert!(lost.iter().all(|finding| finding.len == Some(300_000) && finding.keyspace.as_deref() == Some("large")), "{lost:?}");
    std::fs::remove_dir_all(dir.path().join("db/wal")).unwrap();
    let (db, report) = salvaged(dir.path());
    assert_eq!((&contents(&db)["small"], contents(&db)["large"].len()), (&all["small"], 0));
    assert!(
        report.doubts.len() == 2 && report.findings.iter().any(|finding| finding.kind == FindingKind::Log),
        "{:?}",
        report.doubts
    );
    // With the size of a page, if it is the wrong one, nothing is found; but nothing goes wrong either.
    let (db, _) = salvaged_by(dir.path(), &Salvage::new(quiet()).page_size(4096));
    assert!(db.keyspaces().unwrap().is_empty());
}

/// A catalog that is gone: the keyspaces come back under names that are made up.
#[test]
fn without_the_catalog_keyspaces_get_names_that_are_made_up() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    for leaf in Checkpoint::read(&damage::bytes_of(&data)).catalog {
        damage::put(&data, leaf.start * BLOCK as u64, &value_of(1, BLOCK));
    }
    let (db, report) = salvaged(dir.path());
    let found: Vec<Expected> = contents(&db).into_values().collect();
    assert!(all.values().all(|expected| found.contains(expected)) && found.len() == all.len());
    assert!(report.keyspaces.iter().all(|k| k.made_up && k.name == format!("lost+found-tree-{}", k.tree)), "{report:?}");
    assert_eq!(report.findings.iter().filter(|finding| finding.kind == FindingKind::Keyspace).count(), 3);
}

/// Commits behind a gap in the log: not applied, told, and applied where that is asked for.
#[test]
fn a_gap_in_the_log() {
    let dir = scratch();
    let live = dir.path().join("live");
    let db = quiet().open(&live).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    db.checkpoint().unwrap();
    for i in 0..40u32 {
        keyspace.insert(i.to_be_bytes(), value_of(i.into(), 50)).unwrap();
    }
    copy_database(&live, &dir.path().join("db"));
    let segment = &damage::segments(&dir.path().join("db"))[0];
    let flushes = damage::flushes(&damage::bytes_of(segment));
    // The flush of the 21st key: one flush a commit.
    let hurt = flushes[flushes.len() - 20];
    damage::flip(segment, hurt.offset + 70, 1);
    let (new, report) = salvaged(dir.path());
    let keys: Vec<_> = contents(&new)["k"].keys().map(|key| u32::from_be_bytes(key[..].try_into().unwrap())).collect();
    assert_eq!(keys, (0..20).collect::<Vec<_>>(), "{report}");
    assert_eq!((report.log.left_out, report.log.gaps), (19, 1));
    assert_eq!(report.doubts.len(), 1);
    assert!(report.findings.iter().any(|finding| finding.to_string().contains(&format!("a gap from LSN {}", hurt.lsn))));
    let (new, report) = salvaged_by(dir.path(), &Salvage::new(quiet()).past_gaps(true));
    let keys: Vec<_> = contents(&new)["k"].keys().map(|key| u32::from_be_bytes(key[..].try_into().unwrap())).collect();
    assert_eq!(keys, (0..20).chain(21..40).collect::<Vec<_>>(), "{report}");
    assert_eq!((report.log.left_out, report.doubts.len()), (0, 1));
}

/// Blocks that can't be read, of both files: each costs what stands in it.
#[test]
fn blocks_that_can_not_be_read() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let path = dir.path().join("db/data");
    let checkpoint = Checkpoint::read(&damage::bytes_of(&path));
    let entry = |name: &str, key: &str| &checkpoint.entries[&(name.to_owned(), key.as_bytes().to_vec())];
    let (leaf, run) = (entry("small", "small 0123").leaf.clone(), entry("large", "large 0002").blocks[0].clone());
    let log = damage::segments(&dir.path().join("db"))[0].clone();
    // The first block as well, with which an open would begin.
    let bad = [(path, [0, leaf.start, run.start + 7].into()), (log, (0..256).collect())].into();
    let real: std::sync::Arc<dyn ashlar_disk::Fs> = ashlar_disk::real::RealFs::new(Default::default()).unwrap();
    let options = quiet().file_system(ScratchedFs::over(real, bad));
    let report = Salvage::new(options).run(dir.path().join("db"), dir.path().join("new")).unwrap();
    let db = quiet().open(dir.path().join("new")).unwrap();
    let found = contents(&db);
    assert_clean(&db);
    assert_eq!(found["long"], all["long"]);
    assert_eq!(missing(&all, &found, "large"), [b"large 0002"]);
    let gone = missing(&all, &found, "small");
    assert!(gone.contains(&b"small 0123".to_vec()) && gone.len() < 100, "{}", gone.len());
    assert_eq!(report.blocks_unreadable, 2, "the superblock's copy is told as such");
    let told: Vec<_> = report.findings.iter().filter(|f| f.kind == FindingKind::Unreadable).filter_map(|f| f.blocks).collect();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&(leaf.start, 1)) && told.contains(&(run.start + 7, 1)), "{told:?}");
    assert!(report.findings.iter().any(|f| f.kind == FindingKind::Unreadable && f.what.contains("Input/output error")));
}

#[test]
fn what_is_refused() {
    let dir = scratch();
    let (from, into) = (dir.path().join("db"), dir.path().join("new"));
    let salvage = Salvage::new(quiet());
    let refused = |what: &[&str]| message(salvage.run(&from, &into), what);
    refused(&["db", "does not exist"]);
    std::fs::create_dir(&from).unwrap();
    refused(&["db", "there is no file \"data\""]);
    std::fs::write(from.join("data"), []).unwrap();
    refused(&["data", "the size of a page is not known"]);
    assert!(!into.exists(), "nothing is made for nothing");
    std::fs::remove_file(from.join("data")).unwrap();
    let db = quiet().open(&from).unwrap();
    db.keyspace("k").unwrap().insert("a", "b").unwrap();
    assert!(matches!(salvage.run(&from, &into), Err(Error::Locked { .. })), "open elsewhere");
    db.close().unwrap();
    message(Salvage::new(quiet()).page_size(4096).run(&from, &into), &["page_size", "8192 bytes"]);
    std::fs::create_dir(&into).unwrap();
    std::fs::write(into.join("mine"), "something else").unwrap();
    refused(&["new", "not empty"]);
    assert!(matches!(salvage.run(&from, &from), Err(Error::AlreadyExists { .. })), "into itself");
    std::fs::remove_file(into.join("mine")).unwrap();
    assert!(salvage.run(&from, &into).unwrap().is_whole(), "an empty directory will do");
    assert!(matches!(salvage.run(&from, &into), Err(Error::AlreadyExists { .. })));
    damage::edit_superblock(&from.join("data"), 0, 8, 2);
    message(salvage.run(&from, dir.path().join("other")), &["format version 2"]);
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
