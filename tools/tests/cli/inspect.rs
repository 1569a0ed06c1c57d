//! probe, stat, verify, wal: they tell what is there, and change nothing.

use crate::common::{Dir, objects};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(crate) fn filled() -> Dir {
    let dir = Dir::new();
    let text: String = (0..5000).map(|i| format!("{i:08}\nvalue {i}\n")).collect();
    dir.pipe("load -T db", text).done();
    put(&dir, "other", &["more"]);
    dir
}

/// Puts a value under each key, in a commit each, and makes no checkpoint, as a background thread might at any time.
pub(crate) fn put(dir: &Dir, keyspace: &str, keys: &[&str]) {
    let db = ashlardb::Options::new().background(ashlardb::Background::Manual).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace(keyspace).unwrap();
    keys.iter().for_each(|key| keyspace.insert(key, "v").unwrap());
}

/// Overwrites bytes of a file behind the engine's back.
pub(crate) fn damage(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn probe_tells_what_a_path_can_do() {
    let dir = Dir::new();
    let found = &dir.run("probe . --json");
    let object = &objects(std::str::from_utf8(&found.stdout).unwrap())[0];
    assert_eq!(found.status, if object["usable"] == true { 0 } else { 1 });
    assert!(object["filesystem"].is_string() && object["io_uring"].is_boolean());
    let text = dir.run("probe .").stdout;
    assert!(String::from_utf8(text).unwrap().contains("verdict         a database can be made here"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(dir.run("probe none").refused().starts_with("open none: "));
}

#[test]
fn stat_counts_what_is_there() {
    let dir = filled();
    let stat = &dir.run("stat db --json").objects()[0];
    assert_eq!(stat["entries"], 5001);
    assert_eq!(
        stat["keyspaces"],
        serde_json::json!([{ "name": "default", "entries": 5000, "height": 2 }, { "name": "other", "entries": 1, "height": 1 }])
    );
    assert_eq!(stat["checkpoint"]["replayed"], 2);
    assert_eq!(stat["data_bytes"], std::fs::metadata(dir.path().join("db/data")).unwrap().len());
    assert_eq!(stat["log"]["why_ended"], "nothing was ever written behind it");
    let text = dir.run("stat db").done();
    assert!(text.contains("keyspaces   2 with 5 001 entries") && text.contains("\n            1 entry   other"), "{text}");
}

#[test]
fn wal_lists_flushes_and_commits() {
    let dir = Dir::new();
    put(&dir, "default", &["a", "b", "c"]);
    let found = dir.run("wal db --commits --json").objects();
    let with = |field: &str| found.iter().filter(|o| !o[field].is_null()).count();
    // One more for the keyspace.
    assert_eq!(with("commit"), 4);
    assert!(with("flush") >= 4);
    let last = found.last().unwrap();
    assert_eq!((&last["damage"], &last["start"]), (&serde_json::Value::Null, &0.into()));
    assert_eq!(last["end"], found.iter().rfind(|o| !o["flush"].is_null()).unwrap()["end"]);
    let text = dir.run("wal db -s").done();
    assert!(text.ends_with(": nothing was ever written behind it\n") && text.lines().count() == 4, "{text}");
}

#[test]
fn what_is_whole_verifies() {
    let dir = filled();
    let text = dir.run("verify db").done();
    assert!(
        text.starts_with("checkpoint 1: ") && text.contains(" with 5000 entries, ") && text.ends_with(": no damage\n"),
        "{text}"
    );
    let totals = &dir.run("verify db --json").objects()[0];
    assert_eq!((&totals["findings"], &totals["entries"], &totals["opened"]), (&0.into(), &5000.into(), &true.into()));
    assert_eq!(totals["entries_hidden"], false);
}

#[test]
fn damaged_pages_are_found_one_by_one() {
    let dir = filled();
    let path = dir.path().join("db/data");
    let pages = std::fs::metadata(&path).unwrap().len() / 4096;
    let (mut found, mut hidden) = (0, 0);
    let image = std::fs::read(&path).unwrap();
    for block in 256..pages {
        let at = block * 4096 + 1000;
        if image[at as usize - 1000..][..4096].iter().all(|&b| b == 0) {
            continue;
        }
        let whole = image[at as usize];
        damage(&path, at, &[whole ^ 0x40]);
        let ran = dir.run("verify db --json");
        if ran.status != 0 {
            let list = objects(&ran.no());
            let totals = list.last().unwrap();
            assert!(list[0]["finding"].is_string() && totals["findings"] != 0, "{list:?}");
            // What is behind a damaged page is not counted, and the totals say so. Some damage keeps the database shut.
            let entries = totals["entries"].as_u64().unwrap_or(5000);
            let some_hidden = totals["entries_hidden"] == true;
            assert!(entries < 5000 && some_hidden || entries == 5000, "{totals}");
            if some_hidden {
                assert!(dir.run("verify db").no().contains(&format!(" with at least {entries} entries, ")));
                hidden += 1;
            }
            found += 1;
        }
        damage(&path, at, &[whole]);
        if found == 8 {
            break;
        }
    }
    assert_eq!(found, 8, "few blocks of a full database matter");
    assert!(hidden > 0, "no leaf is among them");
    let mended = dir.run("verify db");
    // What this test wrote went through the page cache, which the engine notices.
    assert!(mended.status == 0 && mended.stderr.lines().all(|l| l.contains("page cache")), "{}", mended.stderr);
}

#[test]
fn damage_that_keeps_a_database_shut_is_a_finding() {
    let dir = filled();
    let path = dir.path().join("db/data");
    for offset in [0, 512 << 10] {
        damage(&path, offset, &[0; 4096]);
    }
    let text = dir.run("verify db").no();
    assert!(text.contains("no slot can be trusted") && text.contains("nothing else was checked"), "{text}");
    let list = objects(&dir.run("verify db --json").no());
    assert_eq!((list.len(), &list[1]["opened"]), (2, &false.into()));
    assert!(dir.run("stat db").refused().contains("no slot can be trusted"));
    assert!(dir.run("wal db").refused().contains("no slot can be trusted"));
}

#[test]
fn a_damaged_log_is_told_from_its_end() {
    let dir = Dir::new();
    put(&dir, "default", &["a", "b", "c"]);
    let segment = dir.path().join("db/wal/000000000000.wal");
    damage(&segment, 64, b"?");
    let ran = dir.run("wal db");
    assert!(ran.stderr.contains("the log is damaged at LSN 0 to "), "{}", ran.stderr);
    assert!(ran.no().ends_with("the log ends at 0: damaged\n"));
    assert!(dir.run("verify db").no().contains("the log is damaged"));
    assert!(dir.run("get db a").refused().contains("the log is damaged"));
}

#[test]
fn reading_writes_nothing() {
    let dir = filled();
    let before = files(&dir.path().join("db"));
    for words in [
        "get db more -k other",
        "scan db",
        "dump db -a",
        "dump db -l",
        "stat db",
        "stat db --pages",
        "verify db",
        "verify db --quick",
        "wal db -c",
        "del db none",
    ] {
        let ran = dir.run(words);
        let after = files(&dir.path().join("db"));
        // An open for writing, as `del` needs, notes itself.
        assert!(words.starts_with("del") || after == before, "{words} has changed a file");
        assert!(ran.status == 0 || words.starts_with("del"), "{words}: {}", ran.stderr);
    }
}

/// Length and time of change of each file.
fn files(dir: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            found.insert(path, (metadata.len(), metadata.modified().unwrap()));
        }
    }
    found
}
