//! dump and load: what goes out comes back; what can't come in is refused with its place.

use crate::common::{Dir, Ran};
use std::fs::File;

const HEAD: &str = "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n";

#[test]
fn all_keyspaces_come_back() {
    let dir = Dir::new();
    dir.run("put db k v").done();
    dir.run("put db --hex 00ff5c0a 0d -k a\\b").done();
    dir.run("put db --hex 01 -k größe --file big").refused();
    dir.file("big", vec![0xC3; 200_000]);
    dir.run("put db --file big large -k größe").done();
    for print in ["", "-p"] {
        let _ = std::fs::remove_dir_all(dir.path().join("copy"));
        let dump = dir.run(&format!("dump db -a {print}")).done();
        let loaded = dir.pipe("load copy", &dump).done();
        assert_eq!(loaded, "a\\b: 1 entry loaded\ndefault: 1 entry loaded\ngröße: 1 entry loaded\n");
        assert_eq!(dir.run(&format!("dump copy -a {print}")).done(), dump);
    }
    assert_eq!(dir.run("dump copy -l").done(), "a\\b\ndefault\ngröße\n");
    let listed = dir.run("dump copy -l --json").objects();
    assert_eq!(listed[0], serde_json::json!({ "keyspace": "a\\b", "entries": 1 }));
    dir.run("verify copy").done();
}

#[test]
fn a_dump_has_the_form_that_other_programs_read() {
    let dir = Dir::new();
    dir.run("put db --hex 61 5c00").done();
    assert_eq!(dir.run("dump db").done(), format!("{HEAD} 61\n 5c00\nDATA=END\n"));
    assert_eq!(
        dir.run("dump db -p -k default --mapsize 4096").done(),
        "VERSION=3\nformat=print\ndatabase=default\ntype=btree\nmapsize=4096\nHEADER=END\n a\n \\5c\\00\nDATA=END\n"
    );
    assert_eq!(dir.run("dump db -f out").done(), "1 keyspace with 1 entry dumped to out\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("out")).unwrap(), format!("{HEAD} 61\n 5c00\nDATA=END\n"));
    assert_eq!(dir.run("dump db -f out --json").objects()[0]["entries"], 1);
    assert!(dir.run("dump db -f none/out").refused().starts_with("writing none/out: No such file"));
    assert!(dir.run("dump db --json").refused().contains("use scan --json"));
}

#[test]
fn where_entries_go() {
    let dir = Dir::new();
    let named = format!("VERSION=3\nformat=print\ndatabase=users\nHEADER=END\n ada\n 1815\nDATA=END\n{HEAD} 62\n 32\nDATA=END\n");
    assert_eq!(dir.pipe("load db", &named).done(), "users: 1 entry loaded\ndefault: 1 entry loaded\n");
    assert_eq!(dir.run("get db ada -k users").done(), "1815");
    let one = format!("{HEAD} 63\n 33\nDATA=END\n");
    assert_eq!(
        dir.pipe("load db -k users --json", one).done(),
        "{\"keyspaces\":[{\"keyspace\":\"users\",\"loaded\":1,\"skipped\":0}]}\n"
    );
    assert_eq!(dir.run("get db c -k users").done(), "3");
    let message = dir.pipe("load db -k users", &named).refused();
    assert_eq!(
        message,
        "stdin: line 11, column 1: the dump holds more than one database, but -k names one keyspace: leave -k out; \
         1 entry was applied before and stay"
    );
}

#[test]
fn of_several_values_the_last_counts_or_with_n_the_first() {
    let dir = Dir::new();
    dir.pipe("load db -T", "a\n1\nb\n1\na\n2\n").done();
    assert_eq!(dir.run("scan db").done(), "a\t2\nb\t1\n");
    let skipped = dir.pipe("load db -T -n", "a\n3\nc\n1\nc\n2\n").done();
    assert_eq!(skipped, "default: 1 entry loaded, 2 there already and left as they are\n");
    assert_eq!(dir.run("scan db").done(), "a\t2\nb\t1\nc\t1\n");
}

#[test]
fn a_file_that_can_not_be_loaded_changes_nothing() {
    let dir = Dir::new();
    let many: String = (0..3000).map(|i| format!(" {i:08x}\n 00\n")).collect();
    for (bad, part) in [
        (format!("{HEAD}{many} 61\n"), "line 6005, column 1: the input ends after a key"),
        (format!("{HEAD}{many}"), "line 6004, column 1: the input ends without DATA=END"),
        (format!("{HEAD}{many} 6\n 00\nDATA=END\n"), "line 6005, column 2: an odd number of hex digits"),
        (format!("{HEAD}{many} {}\n 00\nDATA=END\n", "61".repeat(5000)), "line 6005, column 1: the key has 5000 bytes"),
        ("VERSION=4\n".into(), "line 1, column 9: version 4 of the dump format"),
        ("\u{1}junk".into(), "line 1, column 1: \"\\x01junk\" stands where VERSION=3"),
        ("VERSION=3\nformat=print\ndupsort=1\nHEADER=END\n".into(), "line 3, column 1: dupsort=1: that database has several"),
        ("VERSION=3\nformat=print\ndatabase=\nHEADER=END\n".into(), "line 4, column 1: database \"\" has no possible name"),
        (String::new(), "line 1, column 1: the input is empty"),
    ] {
        let path = dir.file("bad", bad);
        let from_file = dir.run("load db -f bad").refused();
        assert!(from_file.starts_with(&format!("bad: {part}")), "{from_file}");
        assert!(from_file.ends_with("; nothing was applied"), "{from_file}");
        // Stdin redirected from a file is a file, too.
        let mut command = dir.command();
        let redirected = command.args(["load", "db"]).stdin(File::open(path).unwrap()).output().unwrap();
        let redirected = Ran::of("load db < bad", redirected).refused();
        assert_eq!(redirected.replacen("stdin", "bad", 1), from_file);
    }
    assert!(!dir.path().join("db").exists());
    assert!(dir.run("load db -f missing").refused().starts_with("reading missing: "));
    assert!(dir.run("load db -f .").refused().starts_with("reading .: "));
}

#[test]
fn from_a_pipe_what_came_before_the_error_stays_and_is_counted() {
    let dir = Dir::new();
    let many: String = (0..2500).map(|i| format!(" {i:08x}\n 00\n")).collect();
    let message = dir.pipe("load db", format!("{HEAD}{many} zz\n 00\nDATA=END\n")).refused();
    assert_eq!(message, "stdin: line 5005, column 2: 'z' is no hex digit; 2 500 entries were applied before and stay");
    let stat = &dir.run("stat db --json").objects()[0];
    assert_eq!(stat["entries"], 2500);
    dir.run("verify db").done();
}

#[test]
fn what_an_existing_database_can_take_is_asked_of_it() {
    let dir = Dir::new();
    dir.run("put db k v --page-size 65536").done();
    let long = "61".repeat(5000);
    dir.file("long", format!("{HEAD} {long}\n 00\nDATA=END\n"));
    dir.run("load db -f long").done();
    assert!(dir.run("load small -f long").refused().contains("the key has 5000 bytes, at most "));
    dir.run("load new -f long --page-size 65536").done();
}

#[test]
fn ascending_entries_go_into_an_empty_keyspace_around_the_log() {
    let dir = Dir::new();
    let pairs =
        |order: &mut dyn Iterator<Item = u32>| order.map(|i| format!("{i:08}\n{}\n", "v".repeat(100))).collect::<String>();
    dir.file("up", pairs(&mut (0..5000)));
    dir.file("down", pairs(&mut (0..5000).rev()));
    dir.file("more", pairs(&mut (5000..6000)));
    let log_end = |db: &str| dir.run(&format!("wal {db} --json")).objects().last().unwrap()["end"].as_u64().unwrap();
    for (db, option, bulk) in [("a", "-f up", true), ("b", "-f up -n", true), ("c", "-f down", false)] {
        assert_eq!(dir.run(&format!("load -T {db} {option}")).done(), "default: 5 000 entries loaded\n");
        assert_eq!(log_end(db) < 100_000, bulk, "{db}: the log ends at {}", log_end(db));
        dir.run(&format!("verify {db}")).done();
    }
    // Not empty any more.
    let before = log_end("a");
    dir.run("load -T a -f more").done();
    assert!(log_end("a") > before + 100_000);
    assert_eq!(dir.run("dump a -k default").done().lines().count(), 6 + 2 * 6000);
    assert_eq!(dir.run("dump b").done(), dir.run("dump c").done());
}
