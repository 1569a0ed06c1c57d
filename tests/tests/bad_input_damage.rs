//! Files that are not what was written: every kind of block, damaged in every way. Whatever is damaged, no wrong byte is read, the
//! error names file and block, other keys stay readable, and verification lists it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Database, Durability, Error, Keyspace};
use common::damage::{self, BLOCK, COPY_OFFSETS, Image, Kind};
use common::{Expected, copy_database, message, quiet, scratch, value_of};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

const PAGE: usize = 8192;

/// A closed database: "small" with many leaves, "long" with overflow pages, "large" with blobs. Every page has one image.
fn made(dir: &Path) -> Vec<(&'static str, Expected)> {
    let db = quiet().open(dir).unwrap();
    let mut all = Vec::new();
    for (name, count, len) in [("small", 400, 100), ("long", 12, 20_000), ("large", 4, 300_000)] {
        let keyspace = db.keyspace(name).unwrap();
        let mut expected = Expected::new();
        for i in 0..count {
            let (key, value) = (format!("{name} {i:04}").into_bytes(), value_of(i, len));
            keyspace.insert_with(&key, &value, Durability::Eventual).unwrap();
            expected.insert(key, value);
        }
        all.push((name, expected));
    }
    db.close().unwrap();
    all
}

/// What reading everything gave: the errors, by key. Anything read must be right, in every way of reading.
fn read_all(db: &Database, all: &[(&str, Expected)]) -> Vec<(Vec<u8>, String)> {
    let mut errors = Vec::new();
    for (name, expected) in all {
        let keyspace = match db.existing_keyspace(name) {
            Ok(Some(keyspace)) => keyspace,
            Ok(None) => panic!("keyspace {name} is gone without a word"),
            Err(e) => {
                errors.extend(expected.keys().map(|k| (k.clone(), e.to_string())));
                continue;
            }
        };
        let mut failed = BTreeSet::new();
        for (key, value) in expected {
            match keyspace.get(key) {
                Ok(Some(found)) => assert!(found == *value, "{}: a wrong byte", common::shown(key)),
                Ok(None) => panic!("{} is gone without a word", common::shown(key)),
                Err(e) => {
                    failed.insert(key.clone());
                    errors.push((key.clone(), e.to_string()));
                }
            }
        }
        scan(&keyspace, expected, &failed);
        let many = keyspace.get_many(expected.keys());
        match many {
            Ok(values) => {
                assert!(failed.is_empty());
                assert!(values.iter().zip(expected.values()).all(|(found, v)| found.as_ref().unwrap() == v));
            }
            Err(_) => assert!(!failed.is_empty()),
        }
    }
    errors
}

/// A scan gives right entries only, and what it leaves out it says.
fn scan(keyspace: &Keyspace, expected: &Expected, failed: &BTreeSet<Vec<u8>>) {
    for reverse in [false, true] {
        let entries: Vec<_> =
            if reverse { keyspace.iter().rev().take(2000).collect() } else { keyspace.iter().take(2000).collect() };
        let mut right = 0;
        let mut errors = 0;
        for entry in &entries {
            match entry {
                Ok((key, value)) => {
                    assert!(value == expected.get(key).unwrap_or_else(|| panic!("{} was never there", common::shown(key))));
                    assert!(!failed.contains(key), "get fails, the scan gives it");
                    right += 1;
                }
                Err(_) => errors += 1,
            }
        }
        assert_eq!(errors == 0, failed.is_empty(), "{} entries, reverse {reverse}", entries.len());
        assert!(failed.is_empty() == (right == expected.len()), "{right} entries without an error, reverse {reverse}");
    }
}

/// The ways in which a block is damaged.
const WAYS: [&str; 6] = ["a flipped bit", "zeros", "junk", "another block's content", "its second half lost", "its end flipped"];

fn damage_block(data: &Path, way: &str, block: u64, len: usize, other: u64) {
    let bytes = damage::bytes_of(data);
    let at = block as usize * BLOCK;
    let image = match way {
        "a flipped bit" => return damage::flip(data, (at + 60) as u64, 3),
        "its end flipped" => return damage::flip(data, (at + len - 1) as u64, 0),
        "zeros" => vec![0; len],
        "junk" => value_of(block, len),
        "another block's content" => bytes[other as usize * BLOCK..][..len].to_vec(),
        _ => {
            let mut half = bytes[at..at + len].to_vec();
            half[len / 2..].fill(0);
            half
        }
    };
    if image != bytes[at..at + len] {
        damage::put(data, at as u64, &image);
    }
}

/// One image of each kind (several leaves), with what a reader of it must say.
fn victims(bytes: &[u8]) -> Vec<Image> {
    let all = damage::images(bytes, PAGE);
    let ids: BTreeSet<_> = all.iter().filter(|i| i.kind != Kind::Map).map(|i| i.page).collect();
    assert_eq!(ids.len(), all.iter().filter(|i| i.kind != Kind::Map).count(), "each page has one image");
    let of = |kind: Kind| all.iter().filter(move |i| i.kind == kind);
    assert!(of(Kind::Leaf).count() > 6 && of(Kind::Overflow).count() >= 36 && of(Kind::Map).count() == 1, "{all:?}");
    let mut chosen: Vec<Image> = of(Kind::Leaf).step_by(2).cloned().collect();
    chosen.extend(of(Kind::Inner).cloned());
    chosen.extend(of(Kind::Overflow).step_by(17).cloned());
    chosen
}

#[test]
fn damaged_tree_and_overflow_pages() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let whole = damage::bytes_of(&data);
    let total: usize = all.iter().map(|(_, e)| e.len()).sum();
    let victims = victims(&whole);
    let catalog =
        |i: &Image| i.kind == Kind::Leaf && i.tree < victims.iter().map(|v| v.tree).filter(|&t| t > 1).min().unwrap_or(2);
    for victim in &victims {
        let other = victims.iter().find(|o| o.page != victim.page && o.len >= victim.len).unwrap();
        for way in WAYS {
            std::fs::write(&data, &whole).unwrap();
            damage_block(&data, way, victim.block, victim.len, other.block);
            if damage::bytes_of(&data) == whole {
                continue;
            }
            let named = format!("block {}", victim.block);
            let open = quiet().read_only(true).open(dir.path().join("db"));
            let db = match open {
                Ok(db) => db,
                Err(e) => {
                    assert!(catalog(victim), "{way} in {victim:?}: {e}");
                    message::<()>(Err(e), &["data", &named]);
                    continue;
                }
            };
            let errors = read_all(&db, &all);
            assert!(!errors.is_empty(), "{way} in {victim:?} was not noticed");
            assert!(errors.len() < total, "{way} in {victim:?}: other keys stay readable");
            for (key, text) in &errors {
                assert!(text.contains(&named) && text.contains("data"), "{way} in {victim:?}, {}: {text}", common::shown(key));
            }
            let report = db.verify().unwrap();
            let listed = report.findings.iter().find(|f| f.what.contains(&named));
            let listed = listed.unwrap_or_else(|| panic!("{way} in {victim:?}: verify lists {:?}", report.findings));
            assert_eq!(listed.page, Some(victim.page), "{listed}");
            assert!(listed.keyspace.is_some(), "{listed}");
        }
    }
}

#[test]
fn damaged_blob_runs() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let whole = damage::bytes_of(&data);
    let (_, large) = &all[2];
    for (i, (key, value)) in large.iter().enumerate().take(2) {
        let first = damage::find_run(&whole, &value[..BLOCK]);
        // 300,000 bytes are 74 blocks: runs of 64 and 10. The last block of the second, too, whose end is padding.
        let second = damage::find_run(&whole, &value[64 * BLOCK..65 * BLOCK]);
        let padding = (second + 10) * BLOCK as u64 - 1;
        for (run, block) in [(first, first), (first, first + 63), (second, second + 5)] {
            for way in WAYS {
                std::fs::write(&data, &whole).unwrap();
                damage_block(&data, way, block, BLOCK, first + 20);
                check_blob(dir.path(), &all, key, run, &format!("{way} in block {block} of value {i}"));
            }
        }
        std::fs::write(&data, &whole).unwrap();
        damage::flip(&data, padding, 7);
        check_blob(dir.path(), &all, key, second, "a flipped bit in the padding");
    }
}

fn check_blob(dir: &Path, all: &[(&str, Expected)], key: &[u8], run: u64, what: &str) {
    let db = quiet().open(dir.join("db")).unwrap();
    let errors = read_all(&db, all);
    assert_eq!(errors.iter().map(|(k, _)| k.as_slice()).collect::<Vec<_>>(), [key], "{what}");
    let named = format!("block {run}");
    assert!(errors[0].1.contains(&named) && errors[0].1.contains("checksum"), "{what}: {}", errors[0].1);
    let report = db.verify().unwrap();
    assert!(report.findings.iter().any(|f| f.what.contains(&named) && f.page.is_some()), "{what}: {:?}", report.findings);
    assert!(report.findings.iter().all(|f| f.keyspace.as_deref() == Some("large")), "{what}: {:?}", report.findings);
}

/// A damaged value can be replaced or removed, and is sound again then.
#[test]
fn damage_goes_with_what_was_damaged() {
    let dir = scratch();
    let mut all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let whole = damage::bytes_of(&data);
    let large: Vec<_> = all[2].1.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (_, value) in &large[..2] {
        damage::flip(&data, damage::find_run(&whole, &value[..BLOCK]) * BLOCK as u64 + 9, 1);
    }
    let db = quiet().open(dir.path().join("db")).unwrap();
    assert_eq!(read_all(&db, &all).len(), 2);
    let keyspace = db.keyspace("large").unwrap();
    keyspace.insert(&large[0].0, "short and sound").unwrap();
    keyspace.remove(&large[1].0).unwrap();
    all[2].1.insert(large[0].0.clone(), b"short and sound".to_vec());
    all[2].1.remove(&large[1].0);
    db.checkpoint().unwrap();
    assert_eq!(read_all(&db, &all), []);
    common::assert_clean(&db);
}

/// Nothing is known about free space without the whole map: no open for writing, and nothing is guessed or changed.
#[test]
fn a_damaged_page_map() {
    let dir = scratch();
    let all = made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let whole = damage::bytes_of(&data);
    let images = damage::images(&whole, PAGE);
    let map = images.iter().find(|i| i.kind == Kind::Map).unwrap();
    let other = images.iter().find(|i| i.kind == Kind::Leaf && i.len >= map.len).unwrap();
    for way in WAYS {
        std::fs::write(&data, &whole).unwrap();
        damage_block(&data, way, map.block, map.len, other.block);
        if damage::bytes_of(&data) == whole {
            continue;
        }
        for read_only in [false, true] {
            let text = message(quiet().read_only(read_only).open(dir.path().join("db")), &["data", "page-map node 0"]);
            assert!(text.contains(&format!("block {}", map.block)), "{way}: {text}");
        }
    }
    std::fs::write(&data, &whole).unwrap();
    assert_eq!(read_all(&quiet().open(dir.path().join("db")).unwrap(), &all), []);
}

/// A page map that is whole, but names the same blocks for two pages.
#[test]
fn a_block_with_two_owners() {
    let dir = scratch();
    made(&dir.path().join("db"));
    let data = dir.path().join("db/data");
    let mut whole = damage::bytes_of(&data);
    let map = damage::images(&whole, PAGE).into_iter().rfind(|i| i.kind == Kind::Map).unwrap();
    let at = map.block as usize * BLOCK;
    let entry = damage::u64_at(&whole, at + 48 + 3 * 8);
    let block = entry >> 26;
    whole[at + 48 + 4 * 8..][..8].copy_from_slice(&entry.to_le_bytes());
    let crc = damage::crc32c(&whole[at + 4..at + map.len]);
    damage::put(&data, at as u64, &crc.to_le_bytes());
    damage::put(&data, (at + 4) as u64, &whole[at + 4..at + map.len]);
    for (copy, &offset) in COPY_OFFSETS.iter().enumerate() {
        // The older slot may name no map yet.
        let root = damage::u32_at(&whole, offset as usize + 88);
        if root != 0 {
            damage::edit_superblock(&data, copy, 88, root & !0x1F_FFFF | crc & 0x1F_FFFF);
        }
    }
    for read_only in [false, true] {
        let open = quiet().read_only(read_only).open(dir.path().join("db"));
        message(open, &["data", &format!("block {block}"), "page 4", "a second owner"]);
    }
}

/// Under an open database: a quick verification finds damage in superblocks, page map and log, and reads no tree.
#[test]
fn quick_verification() {
    let dir = scratch();
    made(&dir.path().join("db"));
    let db = quiet().open(dir.path().join("db")).unwrap();
    db.keyspace("small").unwrap().insert("one more", "for the log").unwrap();
    let data = dir.path().join("db/data");
    let whole = damage::bytes_of(&data);
    let images = damage::images(&whole, PAGE);
    let found = |what: &str| {
        let report = db.verify_quick().unwrap();
        assert_eq!((report.tree_pages, report.overflow_pages, report.blob_runs, report.entries), (0, 0, 0, 0));
        assert!(report.to_string().ends_with("; trees and values were not read"), "{report}");
        assert_eq!(report.depth, ashlardb::verify::Depth::Quick);
        let text: String = report.findings.iter().map(|f| format!("{f}\n")).collect();
        assert_eq!(report.is_clean(), what.is_empty(), "{what}: {text}");
        assert!(text.contains(what), "{what}: {text}");
        report
    };
    let report = found("");
    let pages = images.iter().filter(|i| i.kind != Kind::Map).count() as u64;
    // Two runs for each of the four large values.
    assert_eq!((report.map_nodes, report.mapped_pages, report.log_records), (1, pages + 8, 1));

    let leaf = images.iter().rfind(|i| i.kind == Kind::Leaf).unwrap();
    damage::flip(&data, leaf.block * BLOCK as u64 + 60, 3);
    found("");
    assert!(!db.verify().unwrap().is_clean());
    std::fs::write(&data, &whole).unwrap();

    let map = images.iter().rfind(|i| i.kind == Kind::Map).unwrap();
    for (offset, what) in [
        (map.block * BLOCK as u64 + 60, format!("block {}, page-map node 0", map.block)),
        (COPY_OFFSETS[2] + 60, format!("superblock copy 2 at byte {}", COPY_OFFSETS[2])),
    ] {
        damage::flip(&data, offset, 3);
        found(&what);
        damage::flip(&data, offset, 3);
    }
    let flushes = damage::segments(&dir.path().join("db")).into_iter().flat_map(|segment| {
        let found = damage::flushes(&damage::bytes_of(&segment));
        found.into_iter().map(move |flush| (flush.lsn, flush.offset, segment.clone()))
    });
    let (_, offset, segment) = flushes.max().unwrap();
    damage::flip(&segment, offset + 70, 3);
    found("the log is damaged");
}

/// An old, whole image in place of a newer one: its checksum is right, the pointer's is not.
#[test]
fn a_lost_write() {
    let dir = scratch();
    let path = dir.path().join("db");
    let all = made(&path);
    let data = path.join("data");
    let old = damage::bytes_of(&data);
    let db = quiet().open(&path).unwrap();
    let keyspace = db.keyspace("small").unwrap();
    let mut all = all;
    for (i, (key, value)) in all[0].1.iter_mut().enumerate().take(40) {
        *value = value_of(1000 + i as u64, 100);
        keyspace.insert(key, &value).unwrap();
    }
    drop(keyspace);
    db.close().unwrap();
    let new = damage::bytes_of(&data);
    let old_images = damage::images(&old, PAGE);
    let changed: Vec<_> = damage::images(&new, PAGE).into_iter().filter(|i| i.kind == Kind::Leaf && i.tree > 1).collect();
    let mut lost = 0;
    for image in changed.iter().filter(|i| !old_images.iter().any(|o| o.block == i.block && o.page == i.page)) {
        let Some(before) = old_images.iter().find(|o| o.page == image.page && o.len <= image.len) else { continue };
        std::fs::write(&data, &new).unwrap();
        let bytes = &old[before.block as usize * BLOCK..][..before.len];
        damage::put(&data, image.block * BLOCK as u64, bytes);
        let db = quiet().open(&path).unwrap();
        let errors = read_all(&db, &all);
        assert!(!errors.is_empty(), "the lost write of {image:?} was not noticed");
        let named = format!("block {}", image.block);
        assert!(errors.iter().all(|(_, text)| text.contains(&named)), "{errors:?}");
        assert!(errors.iter().any(|(_, text)| text.contains("lost")), "{errors:?}");
        lost += 1;
    }
    assert!(lost > 0, "some page was written again");
}

/// The text that a subscriber would show, on this thread.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn warnings_of<T>(run: impl FnOnce() -> T) -> (T, String) {
        use tracing_subscriber::util::SubscriberInitExt;
        let shown = Shown::default();
        let to = shown.clone();
        let format = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN).with_ansi(false);
        let guard = format.with_writer(move || to.clone()).finish().set_default();
        let outcome = run();
        drop(guard);
        let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
        (outcome, text)
    }
}

#[test]
fn one_rotten_superblock_copy_costs_nothing() {
    let dir = scratch();
    let path = dir.path().join("db");
    let all = made(&path);
    let data = path.join("data");
    let whole = damage::bytes_of(&data);
    for (copy, offset) in COPY_OFFSETS.into_iter().enumerate() {
        for way in ["a flipped bit", "zeros", "junk"] {
            std::fs::write(&data, &whole).unwrap();
            damage_block(&data, way, offset / BLOCK as u64, BLOCK, 0);
            let named = format!("superblock copy {copy} at byte {offset}");
            let reader = quiet().read_only(true).open(&path).unwrap();
            assert_eq!(read_all(&reader, &all), []);
            let report = reader.verify().unwrap();
            assert!(report.findings.iter().any(|f| f.what.contains(&named)), "{way}: {:?}", report.findings);
            drop(reader);
            let (db, warnings) = Shown::warnings_of(|| quiet().open(&path).unwrap());
            assert!(warnings.contains(&named) && warnings.contains("WARN"), "{way}: {warnings:?}");
            assert_eq!(read_all(&db, &all), []);
            common::assert_clean(&db);
            drop(db);
            let (db, warnings) = Shown::warnings_of(|| quiet().open(&path).unwrap());
            assert!(!warnings.contains("superblock"), "it was mended: {warnings}");
            common::assert_clean(&db);
        }
    }
}

#[test]
fn a_slot_with_two_rotten_copies_is_refused() {
    let dir = scratch();
    let path = dir.path().join("db");
    made(&path);
    let data = path.join("data");
    let whole = damage::bytes_of(&data);
    for slot in [0, 1] {
        std::fs::write(&data, &whole).unwrap();
        damage::flip(&data, COPY_OFFSETS[slot] + 50, 2);
        damage::flip(&data, COPY_OFFSETS[slot + 2] + 51, 5);
        let before = damage::bytes_of(&data);
        for read_only in [false, true] {
            let text = message(quiet().read_only(read_only).open(&path), &["superblock", "checksum", "salvage"]);
            for copy in [slot, slot + 2] {
                assert!(text.contains(&format!("copy {copy} at byte {}: checksum", COPY_OFFSETS[copy])), "{text}");
            }
        }
        assert!(damage::bytes_of(&data) == before, "nothing was changed");
    }
    std::fs::write(&data, vec![0; 1 << 20]).unwrap();
    message(quiet().open(&path), &["superblock", "empty"]);
}

#[test]
fn a_data_file_cut_short() {
    let dir = scratch();
    let path = dir.path().join("db");
    let all = made(&path);
    let data = path.join("data");
    let whole = damage::bytes_of(&data);
    let last = damage::images(&whole, PAGE).iter().map(|i| i.block + (i.len / BLOCK) as u64).max().unwrap() * BLOCK as u64;
    let lengths = [0, 1, 100, 4095, 4096, 5000, 256 << 10, 800 << 10, 1 << 20, (1 << 20) + 4096, last / 2, last - 4096, last - 1];
    for len in lengths {
        for read_only in [true, false] {
            std::fs::write(&data, &whole[..len as usize]).unwrap();
            let db = match quiet().read_only(read_only).open(&path) {
                Ok(db) => db,
                Err(e) => {
                    message::<()>(Err(e), &["data"]);
                    continue;
                }
            };
            let errors = read_all(&db, &all);
            assert!(!errors.is_empty(), "cut to {len}: not noticed");
            assert!(errors.iter().all(|(_, text)| text.contains("data")), "cut to {len}: {errors:?}");
            assert!(!db.verify().unwrap().is_clean(), "cut to {len}: verify finds nothing");
        }
    }
}

/// A copy of the directory is a database of its own; `data` from one and the log from the other are none.
#[test]
fn data_and_log_of_different_databases() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for (path, name) in [(&a, "of a"), (&b, "of b")] {
        let db = quiet().open(path).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for i in 0..40 {
            keyspace.insert(format!("{name} {i}"), value_of(i, 500)).unwrap();
        }
        // Dropped without a checkpoint: most of it stands in the log only.
        drop(keyspace);
        drop(db);
    }
    let mixed = dir.path().join("mixed");
    copy_database(&a, &mixed);
    std::fs::copy(b.join("data"), mixed.join("data")).unwrap();
    let before = damage::bytes_of(&damage::segments(&mixed)[0]);
    for read_only in [true, false] {
        let outcome = quiet().read_only(read_only).open(&mixed);
        let Err(Error::WalCorrupted { detail }) = outcome else { panic!("opened: {:?}", outcome.map(|db| db.keyspaces())) };
        assert!(detail.contains("wal"), "{detail}");
    }
    assert!(damage::bytes_of(&damage::segments(&mixed)[0]) == before, "the log was not touched");
    for (path, name) in [(&a, "of a"), (&b, "of b")] {
        let keyspace = quiet().open(path).unwrap().keyspace("k").unwrap();
        assert_eq!(keyspace.len().unwrap(), 40);
        assert_eq!(keyspace.get(format!("{name} 7")).unwrap().unwrap(), value_of(7, 500));
    }
}

/// `data` from before, with a log that has gone on: what was confirmed since is not dropped in silence.
#[test]
fn an_older_data_file() {
    let dir = scratch();
    let path = dir.path().join("db");
    made(&path);
    let old = damage::bytes_of(&path.join("data"));
    for round in 0..3 {
        let db = quiet().open(&path).unwrap();
        let keyspace = db.keyspace("since").unwrap();
        for i in 0..200 {
            keyspace.insert(format!("{round} {i}"), value_of(i, 2000)).unwrap();
        }
        drop(keyspace);
        db.close().unwrap();
    }
    std::fs::write(path.join("data"), &old).unwrap();
    for read_only in [true, false] {
        let outcome = quiet().read_only(read_only).open(&path);
        assert!(matches!(outcome, Err(Error::WalCorrupted { .. })), "{:?}", outcome.map(|db| db.keyspaces()));
        message(outcome, &["wal", "the log is damaged", "nothing was dropped"]);
    }
}
