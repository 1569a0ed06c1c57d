//! One kind of damage at a time, and exactly what it costs and what is told of it.

use super::{Checkpoint, ScratchedFs, State, contents};
use crate::common::damage::{self, BLOCK, COPY_OFFSETS, Kind};
use crate::common::{Expected, assert_clean, copy_database, message, quiet, scratch, value_of};
use crate::{salvaged, salvaged_by};
use ashlardb::salvage::{Evidence, FindingKind, Salvage, SuperblockState};
use ashlardb::{Durability, Error};
use std::path::Path;

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

/// What the log says in the order in which it says it: ranges removed, and what was put before and after.
#[test]
fn operations_take_effect_in_their_order() {
    let dir = scratch();
    let live = dir.path().join("live");
    let db = quiet().open(&live).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        keyspace.insert(key, "in the checkpoint").unwrap();
    }
    db.checkpoint().unwrap();
    for key in ["b", "bb", "c", "d", "f"] {
        keyspace.insert(key, "before").unwrap();
    }
    keyspace.remove_range("bb".."e").unwrap();
    keyspace.insert("c", "after").unwrap();
    keyspace.remove("f").unwrap();
    let mut batch = db.batch();
    batch.insert(&keyspace, "g", "x").unwrap();
    batch.remove_range(&keyspace, "g"..).unwrap();
    batch.insert(&keyspace, "h", "last").unwrap();
    batch.commit().unwrap();
    copy_database(&live, &dir.path().join("db"));
    let (new, report) = salvaged(dir.path());
    assert!(report.is_whole(), "{report}");
    let expected = [("a", "in the checkpoint"), ("b", "before"), ("c", "after"), ("e", "in the checkpoint"), ("h", "last")];
    let expected: Expected = expected.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    assert_eq!(contents(&new)["k"], expected);
    assert_eq!(contents(&new)["k"], contents(&db)["k"]);
}

/// Without a checkpoint, where the log has lost what a leaf has: the leaf is newer than what is left of the log.
#[test]
fn a_leaf_is_newer_than_what_the_log_has_kept() {
    let dir = scratch();
    let live = dir.path().join("live");
    let db = quiet().open(&live).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for value in ["first", "second"] {
        keyspace.insert("changed", value).unwrap();
        keyspace.insert("removed", value).unwrap();
    }
    keyspace.remove("removed").unwrap();
    db.checkpoint().unwrap();
    keyspace.insert("later", "in the log alone").unwrap();
    copy_database(&live, &dir.path().join("db"));
    let data = dir.path().join("db/data");
    for offset in COPY_OFFSETS {
        damage::put(&data, offset, &[0; BLOCK]);
    }
    let segment = &damage::segments(&dir.path().join("db"))[0];
    let flushes = damage::flushes(&damage::bytes_of(segment));
    // What is left: the keyspace, the first values, and what is in the log alone.
    for hurt in &flushes[3..flushes.len() - 1] {
        damage::flip(segment, hurt.offset + 70, 1);
    }
    let (new, report) = salvaged(dir.path());
    assert_eq!(report.evidence, Evidence::Scan);
    let expected = [("changed", "second"), ("later", "in the log alone")];
    let expected: Expected = expected.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    assert_eq!(contents(&new)["k"], expected, "{report}");
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

/// A keyspace that was dropped stays so as long as anything says it; else it comes back under a made-up name.
#[test]
fn a_keyspace_that_was_dropped() {
    let dir = scratch();
    let live = dir.path().join("live");
    let db = quiet().open(&live).unwrap();
    for name in ["kept", "dropped"] {
        db.keyspace(name).unwrap().insert("key", name).unwrap();
    }
    db.checkpoint().unwrap();
    db.drop_keyspace("dropped").unwrap();
    // It is listed as dropped, and its pages are there still.
    db.checkpoint().unwrap();
    copy_database(&live, &dir.path().join("db"));
    let (new, report) = salvaged(dir.path());
    assert!(report.is_whole() && new.keyspaces().unwrap() == ["kept"], "{report}");
    let data = dir.path().join("db/data");
    for offset in COPY_OFFSETS {
        damage::put(&data, offset, &[0; BLOCK]);
    }
    assert_eq!(salvaged(dir.path()).0.keyspaces().unwrap(), ["kept"], "the log says so");
    std::fs::remove_dir_all(dir.path().join("db/wal")).unwrap();
    let (new, report) = salvaged(dir.path());
    let found = contents(&new);
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["kept", "lost+found-tree-3"], "{report}");
    assert_eq!(found["lost+found-tree-3"][&b"key"[..]], b"dropped");
    assert!(report.findings.iter().any(|f| f.kind == FindingKind::Keyspace && f.what.contains("may have been dropped")));
}
