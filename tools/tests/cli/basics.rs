//! put, get, del; arguments; who may open what.

use crate::common::{Dir, Ran};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn what_was_put_is_got_until_it_is_deleted() {
    let dir = Dir::new();
    assert_eq!(dir.run("put db ada 1815").done(), "");
    assert_eq!(dir.run("put db ada 1816 -k others").done(), "");
    assert_eq!(dir.run("get db ada").done(), "1815");
    assert_eq!(dir.run("get db ada --keyspace others").done(), "1816");
    assert_eq!(dir.run("get db ada --hex").refused(), "the key \"ada\" is not an even number of hex digits, as --hex wants");
    assert_eq!(dir.run("get db 616461 --hex").done(), "31383135\n");
    assert_eq!(dir.run("del db ada").done(), "");
    let absent = dir.run("get db ada");
    assert_eq!(absent.stderr, "ashlar: there is no key ada in keyspace \"default\"\n");
    assert_eq!(absent.no(), "");
    assert_eq!(dir.run("del db ada").no(), "");
    assert_eq!(dir.run("get db ada -k others").done(), "1816");
}

#[test]
fn keys_and_values_are_any_bytes() {
    let dir = Dir::new();
    let key = OsStr::from_bytes(b"\xff\xfe -\n");
    let run = |args: &[&OsStr]| Ran::of("…", dir.command().args(args).output().unwrap());
    let words = |list: &'static str| list.split(' ').map(OsStr::new);
    let with_key: Vec<&OsStr> = words("put db").chain([key, OsStr::from_bytes(b"\x80")]).collect();
    run(&with_key).done();
    assert_eq!(run(&words("get db").chain([key]).collect::<Vec<_>>()).stdout, b"\x80");
    assert_eq!(dir.run("get db --hex fffe202d0a").done(), "80\n");
    assert_eq!(dir.run("get db --hex fffe202d0a --json").done(), "{\"key_hex\":\"fffe202d0a\",\"value_hex\":\"80\"}\n");
    dir.run("put db --json -- --json -k").done();
    assert_eq!(dir.run("get db --json -- --json").done(), "{\"key\":\"--json\",\"value\":\"-k\"}\n");
    run(&words("put db").chain([OsStr::new(""), OsStr::new("")]).collect::<Vec<_>>()).done();
    assert_eq!(run(&words("get db").chain([OsStr::new("")]).collect::<Vec<_>>()).done(), "");
}

#[test]
fn a_value_comes_from_a_file_or_a_pipe() {
    let dir = Dir::new();
    let large: Vec<u8> = (0..300_000u32).map(|i| (i * 7) as u8).collect();
    dir.file("value", &large);
    dir.run("put db large --file value").done();
    assert!(dir.run("get db large").stdout == large);
    dir.pipe("put db piped --file -", b"a\nb").done();
    assert_eq!(dir.run("get db piped").done(), "a\nb");
    assert!(dir.run("put db x --file missing").refused().starts_with("reading missing: No such file"));
    assert!(dir.run("put db x").misused().contains("VALUE"));
    assert!(dir.run("put db x y --file value").misused().contains("cannot be used with"));
}

#[test]
fn no_database_is_no_answer_and_stays_none() {
    let dir = Dir::new();
    dir.file("file", "");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    for words in ["get DIR k", "del DIR k", "scan DIR", "dump DIR", "stat DIR", "verify DIR", "compact DIR", "wal DIR"] {
        for (db, why) in [("none", "it does not exist"), ("empty", "there is no file \"data\" in it")] {
            let message = dir.run(&words.replace("DIR", db)).refused();
            assert_eq!(message, format!("{db} is no database: {why}"), "{words}");
        }
    }
    assert!(!dir.path().join("none").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("empty")).unwrap().count(), 0);
    assert!(dir.run("put . k v").refused().contains("choose an empty directory"));
}

#[test]
fn a_keyspace_that_is_not_there_is_named_with_those_that_are() {
    let dir = Dir::new();
    dir.run("put db k v -k users").done();
    for words in ["get db k", "del db k", "scan db", "dump db"] {
        assert_eq!(dir.run(words).refused(), "there is no keyspace \"default\" in db: there are \"users\": name one with -k");
    }
    let mut command = dir.command();
    let empty = command.args(["put", "db", "k", "v", "-k", ""]);
    assert_eq!(Ran::of("put -k ''", empty.output().unwrap()).refused(), "\"\" is no possible keyspace name: it is empty");
    let long = "x".repeat(3000);
    assert!(dir.run(&format!("put db {long} v")).refused().contains("the key has 3000 bytes, at most "));
}

#[test]
fn a_database_that_is_open_elsewhere_is_locked() {
    let dir = Dir::new();
    let db = ashlardb::Database::open(dir.path().join("db")).unwrap();
    let pid = std::process::id();
    for words in ["get db k", "put db k v", "verify db", "compact db", "wal db", "stat db", "load db"] {
        let message = dir.run(words).refused();
        assert!(message.starts_with(&format!("db/LOCK is locked by process {pid}")), "{words}: {message}");
    }
    drop(db);
    dir.run("put db k v").done();
    let readers = ashlardb::Options::new().read_only(true).open(dir.path().join("db")).unwrap();
    assert_eq!(dir.run("get db k").done(), "v");
    dir.run("wal db").done();
    assert!(dir.run("put db k v").refused().contains("is locked by another opener"));
    drop(readers);
}

#[test]
fn arguments_are_checked_before_anything_is_done() {
    let dir = Dir::new();
    for (words, part) in [
        ("", "Usage"),
        ("frobnicate", "unrecognized subcommand"),
        ("get db", "<KEY>"),
        ("put db k v --page-size 5000", "it must be 4096, 8192"),
        ("put db k v --cache-mb 0", "0 is not in"),
        ("scan db --prefix a --from b", "cannot be used with"),
        ("dump db -a -k x", "cannot be used with"),
        ("dump db -l -p", "cannot be used with"),
        ("bench", "--workload"),
        ("bench -w nonsense", "invalid value 'nonsense'"),
        ("bench -w get-rand --seconds 0", "a number above 0"),
        ("bench -w get-rand --value-size 15", "15 is not in"),
    ] {
        let said = dir.run(words).misused();
        assert!(said.contains(part), "{words}: {said}");
    }
    assert_eq!(
        dir.run("scan db --from b --to a").refused(),
        "--from b is above --to a: exchange them (--reverse gives the order)"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn help_is_there_for_everything() {
    let dir = Dir::new();
    assert!(dir.run("--version").done().starts_with("ashlar "));
    for command in ["probe", "get", "put", "del", "scan", "dump", "load", "stat", "compact", "verify", "wal", "bench"] {
        let help = dir.run(&format!("{command} --help")).done();
        assert!(help.contains("Usage: ashlar"), "{command}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{command}: {help}");
    }
}

#[test]
fn the_options_of_a_new_database_reach_it() {
    let dir = Dir::new();
    dir.run("put db k v --page-size 16384 --wal-dir ../log --cache-mb 8").done();
    let stat = &dir.run("stat db --json").objects()[0];
    assert_eq!(stat["page_size"], 16384);
    assert!(dir.path().join("log").is_dir() && !dir.path().join("db/wal").exists());
    dir.run("wal db").done();
    dir.run("get db k --buffered").done();
}

#[test]
fn the_log_filter_is_taken_from_the_environment() {
    let dir = Dir::new();
    dir.run("put db k v").done();
    let output = dir.command().env("ASHLAR_LOG", "info").args(["get", "db", "k"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("database opened"));
    assert_eq!(output.stdout, b"v");
}
