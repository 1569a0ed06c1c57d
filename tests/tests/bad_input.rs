//! Opening what is no database, what was never finished, what another program made, and with options that can't be: each is told
//! apart by its message, and nothing of anybody else's is touched.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Create, Database, Error, KEYSPACE_NAME_MAX, Options};
use common::damage::{self, COPY_OFFSETS};
use common::{message, quiet, scratch, value_of};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every file below a directory with its length and checksum, to see that nothing was touched.
fn contents(dir: &Path) -> Vec<(PathBuf, usize, u32)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.push((path.clone(), 0, 0));
            out.extend(contents(&path));
        } else if path.file_name().is_none_or(|n| n != "LOCK") {
            let bytes = std::fs::read(&path).unwrap();
            out.push((path, bytes.len(), damage::crc32c(&bytes)));
        }
    }
    out.sort();
    out
}

/// A closed database with one keyspace "k" in which "a" is "1".
fn small(dir: &Path) {
    let db = quiet().open(dir).unwrap();
    db.keyspace("k").unwrap().insert("a", "1").unwrap();
    db.close().unwrap();
}

fn assert_works(db: &Database) {
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("new", "entry").unwrap();
    assert_eq!(keyspace.get("new").unwrap().unwrap(), b"entry");
    db.checkpoint().unwrap();
    common::assert_clean(db);
}

#[test]
fn a_directory_that_is_not_there() {
    let dir = scratch();
    let path = dir.path().join("db");
    message(quiet().create(Create::Never).open(&path), &["db", "no database", "does not exist"]);
    message(quiet().read_only(true).open(&path), &["db", "no database", "does not exist"]);
    assert!(!path.exists(), "nothing was made");
    let deep = dir.path().join("no/such/place");
    message(quiet().open(&deep), &["no/such/place", "No such file or directory"]);
    assert_works(&quiet().open(&path).unwrap());
}

#[test]
fn a_file_in_place_of_a_directory() {
    let dir = scratch();
    let path = dir.path().join("file");
    std::fs::write(&path, "not a database").unwrap();
    for options in [quiet(), quiet().create(Create::Never), quiet().create(Create::Always), quiet().read_only(true)] {
        let text = message(options.open(&path), &["file"]);
        assert!(text.contains("directory") || text.contains("no database"), "{text}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
}

#[test]
fn an_empty_directory() {
    let dir = scratch();
    message(quiet().create(Create::Never).open(dir.path()), &["no database", "no file \"data\""]);
    message(quiet().read_only(true).open(dir.path()), &["no database", "no file \"data\""]);
    assert!(contents(dir.path()).is_empty(), "nothing was made");
    assert_works(&quiet().create(Create::Always).open(dir.path()).unwrap());
}

#[test]
fn a_directory_with_files_of_others() {
    let dir = scratch();
    std::fs::write(dir.path().join("thesis.txt"), "all of it").unwrap();
    let before = contents(dir.path());
    for options in [quiet(), quiet().create(Create::Always), quiet().create(Create::Never), quiet().read_only(true)] {
        message(options.open(dir.path()), &["no database", "data"]);
    }
    message(quiet().open(dir.path()), &["\"thesis.txt\"", "choose an empty directory"]);
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn another_programs_data_file() {
    for bytes in [&b""[..], b"SQLite format 3\0", &value_of(1, 2 << 20), &vec![0; 2 << 20]] {
        let dir = scratch();
        std::fs::write(dir.path().join("data"), bytes).unwrap();
        for options in [quiet(), quiet().create(Create::Never), quiet().read_only(true)] {
            message(options.open(dir.path()), &["superblock", "data"]);
        }
        assert!(matches!(quiet().create(Create::Always).open(dir.path()), Err(Error::AlreadyExists { .. })));
        assert!(std::fs::read(dir.path().join("data")).unwrap() == bytes, "nothing was touched");
    }
}

#[test]
fn a_database_that_is_there_already() {
    let dir = scratch();
    small(dir.path());
    message(quiet().create(Create::Always).open(dir.path()), &["holds a database already"]);
    let db = quiet().create(Create::Never).open(dir.path()).unwrap();
    assert_eq!(db.keyspace("k").unwrap().get("a").unwrap().unwrap(), b"1");
}

/// What a creation that was cut short may have left, in its order.
#[test]
#[expect(clippy::type_complexity, reason = "a table")]
fn a_creation_that_was_cut_short() {
    let stages: [(&str, &dyn Fn(&Path)); 9] = [
        ("the lock alone", &|d| std::fs::write(d.join("LOCK"), "").unwrap()),
        ("an empty log directory", &|d| std::fs::create_dir(d.join("wal")).unwrap()),
        ("the beginning of a segment", &|d| leave(d, "wal/next.tmp", &[0; 5000])),
        ("a segment that was not named yet", &|d| leave(d, "wal/next.tmp", &[0; 1 << 20])),
        ("a segment", &|d| leave(d, "wal/000000000000.wal", &[0; 1 << 20])),
        ("a segment of another size", &|d| leave(d, "wal/000000000000.wal", &[0; 64 << 10])),
        ("an empty data.tmp", &|d| leave(d, "data.tmp", b"")),
        ("a data.tmp of zeros", &|d| leave(d, "data.tmp", &[0; 1 << 20])),
        ("a whole data.tmp", &|d| {
            let other = scratch();
            small(other.path());
            std::fs::copy(other.path().join("data"), d.join("data.tmp")).unwrap();
            leave(d, "wal/000000000000.wal", &[0; 1 << 20]);
        }),
    ];
    for (stage, leave_it) in stages {
        let dir = scratch();
        leave_it(dir.path());
        let before = contents(dir.path());
        message(quiet().create(Create::Never).open(dir.path()), &["no database", "no file \"data\""]);
        message(quiet().read_only(true).open(dir.path()), &["no database", "no file \"data\""]);
        assert_eq!(contents(dir.path()), before, "after {stage}");
        let db = quiet().open(dir.path()).unwrap_or_else(|e| panic!("after {stage}: {e}"));
        assert!(db.keyspaces().unwrap().is_empty(), "after {stage}");
        assert_works(&db);
        drop(db);
        assert!(!dir.path().join("data.tmp").exists(), "after {stage}");
        let db = quiet().create(Create::Never).open(dir.path()).unwrap();
        assert_eq!(db.keyspace("k").unwrap().get("new").unwrap().unwrap(), b"entry", "after {stage}");
    }
}

fn leave(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_without_its_data_is_not_thrown_away() {
    let dir = scratch();
    small(dir.path());
    for leftover in [false, true] {
        let data = dir.path().join("data");
        if leftover {
            std::fs::write(dir.path().join("data.tmp"), vec![0; 1 << 20]).unwrap();
        } else {
            std::fs::remove_file(&data).unwrap();
        }
        let before = contents(dir.path());
        for options in [quiet(), quiet().create(Create::Always)] {
            message(options.open(dir.path()), &["no database", "wal", "holds a log", "restore it"]);
        }
        assert_eq!(contents(dir.path()), before);
    }
}

#[test]
fn a_format_version_of_the_future() {
    let dir = scratch();
    small(dir.path());
    let data = dir.path().join("data");
    let whole = std::fs::read(&data).unwrap();
    for copies in [&[0, 1, 2, 3][..], &[0], &[1], &[2], &[3]] {
        std::fs::write(&data, &whole).unwrap();
        copies.iter().for_each(|&c| damage::edit_superblock(&data, c, 8, 7));
        for options in [quiet(), quiet().read_only(true)] {
            message(options.open(dir.path()), &["format version 7", "knows version 1", "use the program that made it"]);
        }
    }
    std::fs::write(&data, &whole).unwrap();
    assert_works(&quiet().open(dir.path()).unwrap());
}

#[test]
fn a_feature_flag_of_the_future() {
    let dir = scratch();
    small(dir.path());
    let data = dir.path().join("data");
    (0..4).for_each(|c| damage::edit_superblock(&data, c, 12, 0x20));
    message(quiet().open(dir.path()), &["format version 1", "features 0x20", "knows version 1"]);
    (0..4).for_each(|c| damage::edit_superblock(&data, c, 12, 0));
    assert_works(&quiet().open(dir.path()).unwrap());
}

/// Superblocks with a right checksum and fields that can't be: no crash, no guess.
#[test]
fn superblock_fields_that_can_not_be() {
    let dir = scratch();
    small(dir.path());
    let data = dir.path().join("data");
    let whole = std::fs::read(&data).unwrap();
    let fields = [
        ("block size", 32, 0),
        ("block size", 32, 4095),
        ("block size", 32, 1 << 30),
        ("page size", 36, 0),
        ("page size", 36, 2048),
        ("page size", 36, 1 << 30),
        ("segment size", 40, 3),
        ("segment size", 40, 1 << 12),
        ("map root", 88, 0),
        ("map root", 88, u32::MAX),
        ("map root's address", 92, u32::MAX),
        ("map height", 96, 0),
        ("map height", 96, 9),
        ("map height", 96, u32::MAX),
        ("log directory", 100, 5000),
        ("log directory", 100, u32::MAX),
        ("next page id", 104, 0),
        ("next page id", 108, u32::MAX),
        ("next tree id", 116, u32::MAX),
        ("catalog root", 120, 77),
        ("catalog root", 124, u32::MAX),
        ("C", 64, 12345),
        ("C", 68, u32::MAX),
        ("A", 76, u32::MAX),
        ("incarnation", 80, 0),
        ("incarnation", 80, u32::MAX),
        ("incarnation at C", 84, u32::MAX),
        ("number", 52, u32::MAX),
    ];
    for (field, at, value) in fields {
        std::fs::write(&data, &whole).unwrap();
        (0..4).for_each(|c| damage::edit_superblock(&data, c, at, value));
        for options in [quiet().read_only(true), quiet()] {
            // Some of these can't be told from a right one, or only by what follows: then what is read must be right.
            let Ok(db) = options.open(dir.path()) else { continue };
            if let Ok(Some(keyspace)) = db.existing_keyspace("k")
                && let Ok(found) = keyspace.get("a")
            {
                assert_eq!(found.as_deref(), Some(&b"1"[..]), "{field} = {value:#x}");
            }
        }
    }
}

#[test]
fn options_out_of_range() {
    let dir = scratch();
    let cases: [(&str, Options); 15] = [
        ("page_size: 3000", quiet().page_size(3000)),
        ("page_size: 2048", quiet().page_size(2048)),
        ("page_size: 0", quiet().page_size(0)),
        ("page_size: 131072", quiet().page_size(128 << 10)),
        ("block_size: 512", quiet().block_size(512)),
        ("block_size: 6000", quiet().block_size(6000)),
        ("block_size: 16384", quiet().page_size(8192).block_size(16384)),
        ("segment_size: 32768", quiet().segment_size(32 << 10)),
        ("segment_size: 65537", quiet().segment_size(65537)),
        ("segment_size: 0", quiet().segment_size(0)),
        ("segment_size: 2147483648", quiet().segment_size(2 << 30)),
        ("log_limit: less than two segments", quiet().log_limit(1 << 20)),
        ("blob_threshold: 100", quiet().blob_threshold(100)),
        ("blob_threshold: 1048577", quiet().blob_threshold((1 << 20) + 1)),
        ("wal_dir: longer than 1024", quiet().wal_dir("x".repeat(1025))),
    ];
    for (text, options) in cases {
        message(options.open(dir.path().join("db")), &["option ", text]);
        assert!(!dir.path().join("db").exists(), "{text}: nothing was made");
    }
}

/// Numbers at the ends of their types: an error, or a database that works; never a panic.
#[test]
fn options_at_the_ends_of_their_types() {
    let cases: [(&str, Options); 11] = [
        ("cache of nothing", quiet().cache_size(0)),
        ("cache of one byte", quiet().cache_size(1)),
        ("endless cache", quiet().cache_size(u64::MAX)),
        ("no growth", quiet().grow_step(0)),
        ("growth by a byte", quiet().grow_step(1)),
        ("endless growth", quiet().grow_step(u64::MAX)),
        ("endless log", quiet().log_limit(u64::MAX)),
        ("no window", quiet().recovery_window(0)),
        ("endless window", quiet().recovery_window(usize::MAX)),
        ("no bound", Options::new().cache_size(1 << 20).eventual_bound(Duration::ZERO)),
        ("endless bound", Options::new().cache_size(1 << 20).eventual_bound(Duration::MAX)),
    ];
    for (name, options) in cases {
        let dir = scratch();
        let db = match options.clone().open(dir.path().join("db")) {
            Ok(db) => db,
            Err(e) => {
                eprintln!("{name}: {e}");
                continue;
            }
        };
        let write = |db: &Database| {
            let keyspace = db.keyspace("k")?;
            for i in 0..300 {
                keyspace.insert_with(format!("{i:05}"), value_of(i, 300), ashlardb::Durability::Eventual)?;
            }
            db.flush()
        };
        if let Err(e) = write(&db) {
            eprintln!("{name}: {e}");
            assert!(
                matches!(e, Error::CacheTooSmall { .. } | Error::NoSpace { .. } | Error::InvalidOption { .. }),
                "{name}: {e}"
            );
            continue;
        }
        drop(db);
        let db = options.open(dir.path().join("db")).unwrap_or_else(|e| panic!("{name}: reopening: {e}"));
        let keyspace = db.keyspace("k").unwrap();
        for i in 0..300 {
            assert_eq!(keyspace.get(format!("{i:05}")).unwrap().unwrap(), value_of(i, 300), "{name}: {i}");
        }
        drop(keyspace);
        db.close().unwrap_or_else(|e| panic!("{name}: closing: {e}"));
    }
}

/// What a database was made with stays, whatever a later open says.
#[test]
fn other_sizes_at_a_later_open() {
    let dir = scratch();
    small(dir.path());
    let db = quiet().page_size(65536).block_size(65536).segment_size(64 << 10).open(dir.path()).unwrap();
    assert_eq!(db.page_size(), 8192);
    assert_works(&db);
    drop(db);
    let data = std::fs::read(dir.path().join("data")).unwrap();
    for copy in COPY_OFFSETS {
        let copy = copy as usize;
        assert_eq!((damage::u32_at(&data, copy + 32), damage::u32_at(&data, copy + 36)), (4096, 8192));
        assert_eq!(damage::u64_at(&data, copy + 40), 1 << 20);
    }
}

/// Blocks of any size, on a device that needs no such large ones.
#[test]
fn blocks_larger_than_the_device_needs() {
    for block in [8192, 65536] {
        let dir = scratch();
        for _ in 0..2 {
            let db = quiet().page_size(65536).block_size(block).segment_size(256 << 10).open(dir.path()).unwrap();
            assert_works(&db);
            assert!(db.verify_quick().unwrap().is_clean());
            db.close().unwrap();
        }
        assert_works(&quiet().open(dir.path()).unwrap());
    }
}

#[test]
fn keyspace_names() {
    let dir = scratch();
    let db = quiet().open(dir.path()).unwrap();
    let longest = "n".repeat(KEYSPACE_NAME_MAX);
    for name in ["", &format!("{longest}x")] {
        message(db.keyspace(name), &["no possible keyspace name"]);
        assert!(matches!(db.keyspace(name), Err(Error::KeyspaceName { .. })));
        assert!(db.existing_keyspace(name).unwrap().is_none());
        assert!(!db.drop_keyspace(name).unwrap());
    }
    let names = [longest.as_str(), "ä ö/ü", "../../etc/passwd", "a\nb", " ", "K", "k", "日本語", "\u{1F980}"];
    let mut made = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match db.keyspace(name) {
            Ok(keyspace) => {
                keyspace.insert("which", name).unwrap();
                made.push(*name);
            }
            Err(e) => {
                assert!(matches!(e, Error::KeyspaceName { .. }), "{i}: {e}");
            }
        }
    }
    made.sort_unstable();
    assert_eq!(db.keyspaces().unwrap(), made);
    drop(db);
    let db = quiet().open(dir.path()).unwrap();
    assert_eq!(db.keyspaces().unwrap(), made);
    for name in made {
        assert_eq!(db.keyspace(name).unwrap().get("which").unwrap().unwrap(), name.as_bytes());
    }
    drop(db);
    let reader = quiet().read_only(true).open(dir.path()).unwrap();
    message(reader.keyspace("missing"), &["no keyspace \"missing\""]);
}

/// A keyspace that was dropped while a handle on it is held.
#[test]
fn a_handle_on_a_keyspace_that_is_gone() {
    let dir = scratch();
    let db = quiet().open(dir.path()).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("a", "1").unwrap();
    assert!(db.drop_keyspace("k").unwrap());
    message(keyspace.get("a"), &["no keyspace \"k\""]);
    message(keyspace.insert("a", "2"), &["no keyspace \"k\""]);
    message(keyspace.remove("a"), &["no keyspace \"k\""]);
    message(keyspace.clear(), &["no keyspace \"k\""]);
    message(keyspace.len(), &["no keyspace \"k\""]);
    message(keyspace.iter().next().transpose(), &["no keyspace \"k\""]);
    message(keyspace.get_many(["a"]), &["no keyspace \"k\""]);
    let mut batch = db.batch();
    let outcome = batch.insert(&keyspace, "a", "3").and_then(|_| batch.commit());
    message(outcome, &["no keyspace \"k\""]);
    let again = db.keyspace("k").unwrap();
    assert_eq!(again.get("a").unwrap(), None);
    message(keyspace.get("a"), &["no keyspace \"k\""]);
}

#[test]
fn a_read_only_database_takes_no_writes() {
    let dir = scratch();
    small(dir.path());
    let before = contents(dir.path());
    let db = quiet().read_only(true).open(dir.path()).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for outcome in [
        keyspace.insert("b", "2"),
        keyspace.remove("a"),
        keyspace.clear(),
        keyspace.remove_range(..=&b"z"[..]),
        db.checkpoint(),
        db.drop_keyspace("k").map(|_| ()),
    ] {
        message(outcome, &["read-only", "it was opened read-only"]);
    }
    assert_eq!(keyspace.get("a").unwrap().unwrap(), b"1");
    db.flush().unwrap();
    assert!(!db.maintain().unwrap());
    assert!(db.verify().unwrap().is_clean());
    drop(keyspace);
    db.close().unwrap();
    assert_eq!(contents(dir.path()), before, "nothing was written");
}
