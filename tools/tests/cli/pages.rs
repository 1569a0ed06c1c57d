//! `verify --quick`, which reads no pages of trees, and `stat --pages`, which reads them all.

use crate::common::{Dir, objects};
use crate::inspect::{damage, filled, put};
use serde_json::{Value, json};

/// With values of every kind: in leaves, in overflow pages, in runs of their own.
fn of_all_kinds() -> Dir {
    let dir = filled();
    dir.file("long", vec![b'l'; 20_000]);
    dir.file("large", vec![b'L'; 300_000]);
    dir.run("put db long -k long --file long").done();
    dir.run("put db large -k large --file large").done();
    dir
}

/// Where these bytes stand in the data file.
fn find(dir: &Dir, bytes: &[u8]) -> u64 {
    let data = std::fs::read(dir.path().join("db/data")).unwrap();
    data.windows(bytes.len()).rposition(|window| window == bytes).unwrap() as u64
}

fn flip(dir: &Dir, file: &str, offset: u64) {
    let path = dir.path().join("db").join(file);
    let byte = std::fs::read(&path).unwrap()[offset as usize];
    damage(&path, offset, &[byte ^ 0x40]);
}

#[test]
fn a_quick_verification_says_what_it_has_not_read() {
    let dir = filled();
    let full = &dir.run("verify db --json").objects()[0];
    let pages = &full["tree_pages"];
    assert_eq!((&full["quick"], &full["mapped_pages"], pages.as_u64() > Some(10)), (&json!(false), pages, true));
    assert_eq!(
        dir.run("verify db --quick").done(),
        format!(
            "checkpoint 1: {pages} pages in 1 page-map nodes, 2 commits in the log: no damage; trees and values were not read\n"
        )
    );
    let totals = &dir.run("verify db --quick --json").objects()[0];
    for (field, value) in [
        ("quick", json!(true)),
        ("findings", json!(0)),
        ("mapped_pages", pages.clone()),
        ("map_nodes", json!(1)),
        ("tree_pages", Value::Null),
        ("entries", Value::Null),
        ("log_commits", json!(2)),
        ("bytes_read", json!(4096)),
    ] {
        assert_eq!(totals[field], value, "{field}: {totals}");
    }
    assert!(dir.run("verify --help").done().contains("no page of a tree"));
}

#[test]
fn a_quick_verification_reads_no_trees() {
    let dir = filled();
    flip(&dir, "data", find(&dir, b"value 2500"));
    let quick = dir.run("verify db --quick");
    assert!(quick.status == 0 && quick.stdout.ends_with(b": no damage; trees and values were not read\n"), "{}", quick.stderr);
    let full = dir.run("verify db").no();
    assert!(full.contains("checksum") && full.ends_with(" findings\n"), "{full}");
}

#[test]
fn a_quick_verification_finds_damage_elsewhere() {
    let dir = filled();
    let start = dir.run("wal db --json --summary").objects()[0]["start"].as_u64().unwrap();
    assert!(start < 1 << 20, "in the first segment");
    let finds = |file: &str, offset: u64, what: &str| {
        flip(&dir, file, offset);
        let text = dir.run("verify db --quick").no();
        assert!(text.lines().next().unwrap().contains(what), "{text}");
        let list = objects(&dir.run("verify db --quick --json").no());
        assert!(list[0]["finding"].as_str().unwrap().contains(what), "{list:?}");
        assert_eq!((&list.last().unwrap()["findings"], &list.last().unwrap()["quick"]), (&json!(1), &json!(true)));
        flip(&dir, file, offset);
    };
    finds("data", (512 << 10) + 60, "superblock copy 2 at byte 524288");
    // Its header: plain, a node of the page map, level 0, node 0 of no tree.
    let data = std::fs::read(dir.path().join("db/data")).unwrap();
    let map = data.chunks(4096).rposition(|block| block[4..8] == [0, 4, 0, 0] && block[8..24] == [0; 16]).unwrap();
    finds("data", map as u64 * 4096 + 60, "page-map node 0");
    finds("wal/000000000000.wal", start + 24, "the log is damaged");
    assert!(dir.run("verify db").status == 0);
}

#[test]
fn stat_tells_heights_and_how_far_the_log_goes() {
    let dir = filled();
    let stat = &dir.run("stat db --json").objects()[0];
    assert_eq!((&stat["keyspaces"][0]["height"], &stat["keyspaces"][1]["height"]), (&json!(2), &json!(1)));
    let log = &stat["log"];
    let behind = log["end"].as_u64().unwrap() - log["start"].as_u64().unwrap();
    assert!(behind >= 8192 && stat["checkpoint"]["log_bytes_behind"] == behind, "{stat}");
    assert!(log["flushes"].as_u64().unwrap() >= 2 && log["bytes"].as_u64().unwrap() < behind, "{stat}");
    assert!(stat["page_kinds"].is_null() && stat["keyspaces"][0]["page_kinds"].is_null());
    let text = dir.run("stat db").done();
    assert!(text.contains("entries default, height 2\n") && text.ends_with("entry   other, height 1\n"), "{text}");
    assert!(text.contains("; 2 commits to replay behind it, ") && text.contains(" free after the next checkpoint, "), "{text}");
    assert!(dir.run("stat --help").done().contains("bears no time"));
}

#[test]
fn stat_counts_pages_by_kind() {
    let dir = of_all_kinds();
    let stat = &dir.run("stat db --pages --json").objects()[0];
    let kinds = &stat["page_kinds"];
    let number = |kind: &str| kinds[kind][if kind == "blob_run" { "runs" } else { "pages" }].as_u64().unwrap();
    assert_eq!((number("inner"), number("overflow"), number("blob_run"), number("map")), (1, 3, 2, 1));
    assert_eq!(kinds["blob_run"]["value_bytes"], 300_000);
    assert_eq!(kinds["overflow"], json!({ "pages": 3, "used_bytes": 20_000, "fill": 0.814 }));
    // One for each keyspace but the first, and the catalog's.
    let leaves = stat["keyspaces"][0]["page_kinds"]["leaf"]["pages"].as_u64().unwrap();
    assert_eq!(number("leaf"), leaves + 4);
    assert_eq!(stat["pages"], number("leaf") + 1 + 3 + 2);
    assert_eq!(kinds["catalog"]["leaf"]["pages"], 1);
    let fill = stat["keyspaces"][0]["page_kinds"]["leaf"]["fill"].as_f64().unwrap();
    let used = stat["keyspaces"][0]["page_kinds"]["leaf"]["used_bytes"].as_u64().unwrap();
    assert!((fill - used as f64 / (leaves * 8192) as f64).abs() < 0.001 && (0.5..1.0).contains(&fill), "{fill}");

    let text = dir.run("stat db --pages").done();
    let percent = |fill: f64| format!("{:.0} %", fill * 100.0);
    let inner = percent(stat["keyspaces"][0]["page_kinds"]["inner"]["fill"].as_f64().unwrap());
    let percent = percent(fill);
    for line in [
        format!("            5 000 entries default, height 2: {leaves} leaves {percent} full, 1 inner page {inner} full"),
        "            1 entry   large, height 1: 1 leaf 0 % full, 2 blob runs with 293.0 KiB".into(),
        "            1 entry   long, height 1: 1 leaf 0 % full, 3 overflow pages 81 % full".into(),
        "pages       kind           number       in use    fill".into(),
        "            overflow            3     19.5 KiB    81 %".into(),
        "            blob run            2    293.0 KiB".into(),
        "            map                 1".into(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
    }
}

#[test]
fn stat_of_a_database_without_a_checkpoint() {
    let dir = Dir::new();
    put(&dir, "default", &["a", "b", "c"]);
    let stat = &dir.run("stat db --pages --json").objects()[0];
    assert_eq!((&stat["checkpoint"]["number"], &stat["page_kinds"]["map"]["pages"]), (&json!(0), &json!(0)));
    assert_eq!((&stat["keyspaces"][0]["height"], &stat["keyspaces"][0]["page_kinds"]["leaf"]["pages"]), (&json!(1), &json!(1)));
}

#[test]
fn stat_meets_damage() {
    let dir = filled();
    flip(&dir, "data", find(&dir, b"value 2500"));
    let plain = dir.run("stat db");
    assert!(
        plain.status == 0 && plain.stdout.ends_with(b"entry   other, height 1\n"),
        "a leaf is not looked at: {}",
        plain.stderr
    );
    let pages = dir.run("stat db --pages");
    assert!(pages.status == 2 && pages.stdout.is_empty(), "{}", pages.stderr);
    assert!(pages.stderr.contains("data, block ") && pages.stderr.contains("checksum"), "{}", pages.stderr);
}

/// The root of a keyspace can't be read: the rest is told.
#[test]
fn stat_meets_a_damaged_root() {
    let dir = of_all_kinds();
    let data = std::fs::read(dir.path().join("db/data")).unwrap();
    let root = data.chunks(4096).rposition(|block| block[4..7] == [0, 2, 1]).unwrap();
    flip(&dir, "data", root as u64 * 4096 + 60);
    let ran = dir.run("stat db --json");
    assert!(ran.stderr.contains("the height of keyspace \"default\": ") && ran.stderr.contains("checksum"), "{}", ran.stderr);
    let stat = &objects(std::str::from_utf8(&ran.stdout).unwrap())[0];
    assert_eq!((ran.status, &stat["keyspaces"][0]["height"], &stat["keyspaces"][1]["height"]), (0, &Value::Null, &json!(1)));
    let ran = dir.run("stat db");
    assert!(std::str::from_utf8(&ran.stdout).unwrap().contains("5 000 entries default, height unknown\n"));
}
