//! salvage: a damaged database becomes a new one, and what is missing is told.

use crate::common::{Dir, objects};
use crate::inspect::{damage, filled, put};

/// Dumps of all keyspaces of two databases are alike.
fn assert_alike(dir: &Dir, one: &str, other: &str) {
    assert_eq!(dir.run(&format!("dump {one} -a")).done(), dir.run(&format!("dump {other} -a")).done());
}

#[test]
fn a_whole_database_is_brought_over_whole() {
    let dir = filled();
    // What the log alone holds, too.
    put(&dir, "log", &["a", "b", "c"]);
    let text = dir.run("salvage db --into new").done();
    assert!(text.contains("keyspace default: 5 000 entries (the checkpoint had 5 000)\n"), "{text}");
    assert!(text.ends_with("commits from the log: nothing is missing\n"), "{text}");
    assert_alike(&dir, "db", "new");
    assert!(dir.run("verify new").done().ends_with(": no damage\n"));
    let object = &dir.run("salvage db --into other --json").objects()[0];
    assert_eq!((&object["whole"], &object["findings"], &object["entries"]), (&true.into(), &0.into(), &5004.into()));
    assert_eq!((&object["evidence"], &object["superblock"]), (&"page map".into(), &"known".into()));
    assert_eq!(object["keyspaces"].as_array().unwrap().len(), 3);
    assert_alike(&dir, "db", "other");
}

#[test]
fn damage_is_told_and_the_rest_brought_over() {
    let dir = filled();
    let data = dir.path().join("db/data");
    let bytes = std::fs::read(&data).unwrap();
    // The leaf that holds this key.
    let key = b"value 2500";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() as u64;
    damage(&data, at, b"X");
    let text = dir.run("salvage db --into new").no();
    let lost = text.lines().find(|line| line.starts_with("lost range, keyspace default")).unwrap();
    assert!(lost.contains("keys from \"0000") && lost.ends_with(": the leaf that held these keys is damaged"), "{lost}");
    assert!(text.lines().any(|line| line.starts_with("page, keyspace default") && line.contains("db/data, block")), "{text}");
    assert!(text.contains(", 1 stretch of keys lost\n") && text.ends_with("2 findings\n"), "{text}");
    assert!(dir.run("get new 00000001").done().starts_with("value 1") && dir.run("get new 00002500").status == 1);
    let found = objects(&dir.run("salvage db --into other --json").no());
    assert_eq!((&found[0]["finding"], &found[1]["finding"]), (&"lost range".into(), &"page".into()));
    assert!(found[0]["keys"]["from"]["text"].as_str().unwrap() < "00002500");
    assert_eq!((found.len(), &found[2]["whole"], &found[2]["findings"]), (3, &false.into(), &2.into()));

    // Everything that says where pages stand.
    damage(&data, at, b"v");
    for copy in 0..4 {
        damage(&data, copy << 18, &[0; 4096]);
    }
    let text = dir.run("salvage db --into scanned").no();
    assert!(text.contains("\nin doubt: without a checkpoint"), "{text}");
    assert_eq!(dir.run("scan scanned").done().lines().count(), 5000);
}

#[test]
fn what_can_not_run() {
    let dir = filled();
    assert!(dir.run("salvage none --into new").refused().contains("none is no database: it does not exist"));
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(dir.run("salvage empty --into new").refused().contains("there is no file \"data\""));
    assert!(dir.run("salvage db --into db").refused().contains("db holds a database already"));
    dir.file("empty/mine", "");
    assert!(dir.run("salvage db --into empty").refused().contains("it is not empty"));
    assert!(dir.run("salvage db").misused().contains("--into"));
    assert!(dir.run("salvage db --into new --page-size 4095").misused().contains("4096, 8192"));
    let db = ashlardb::Database::open(dir.path().join("db")).unwrap();
    assert!(dir.run("salvage db --into new").refused().contains("is locked by process"));
    drop(db);
    assert!(!dir.path().join("new").exists());
    dir.file("empty/data", vec![7; 1 << 21]);
    let junk = dir.run("salvage empty --into new");
    assert!(junk.status == 2 && junk.stderr.contains("the size of a page is not known"), "{}", junk.stderr);
    assert!(!dir.path().join("new").exists());
}
