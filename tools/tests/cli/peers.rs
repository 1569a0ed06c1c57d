//! Round trips through the programs whose format it is: judges that we have not written.

use crate::common::Dir;
use std::fmt::Write as _;
use std::fs::File;
use std::process::Command;

/// Whether a program is there; says which package has it if not.
fn have(program: &str, package: &str) -> bool {
    // Whatever it answers to the question for its version, it is there.
    let there = Command::new(program).arg("-V").output().is_ok();
    if !there {
        eprintln!("skipped: there is no {program}; it is in the package {package}");
    }
    there
}

/// Runs one of them in `dir`; its stdout.
#[track_caller]
fn peer(dir: &Dir, words: &str) -> String {
    let mut split = words.split_whitespace();
    let output = Command::new(split.next().unwrap()).args(split).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Entries with all bytes, empty values, and what escapes could get wrong.
fn awkward() -> String {
    let mut dump = String::from("VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n");
    for byte in 0..=255u8 {
        writeln!(dump, " {byte:02x}\n 5c{byte:02x}5c").unwrap();
        writeln!(dump, " {byte:02x}5c3431\n ").unwrap();
    }
    writeln!(dump, " 7a7a7a\n {}", "ab".repeat(3000)).unwrap();
    dump.push_str("DATA=END\n");
    dump
}

/// The entries of a dump, without its header.
fn entries(dump: &str) -> &str {
    dump.split_once("HEADER=END\n").unwrap().1
}

fn filled() -> Dir {
    let dir = Dir::new();
    dir.pipe("load db", awkward()).done();
    dir
}

#[test]
fn lmdb_takes_dumps_and_gives_them_back() {
    if !have("mdb_load", "lmdb-utils") || !have("mdb_dump", "lmdb-utils") {
        return;
    }
    let dir = filled();
    let original = dir.run("dump db").done();
    for print in ["", "-p"] {
        let name = format!("lmdb{print}");
        std::fs::create_dir(dir.path().join(&name)).unwrap();
        dir.run(&format!("dump db {print} --mapsize 16777216 -f out")).done();
        peer(&dir, &format!("mdb_load -f out {name}"));
        let back = peer(&dir, &format!("mdb_dump {name}"));
        assert!(entries(&back) == entries(&original), "{back}");
        assert!(back.contains("mapsize=16777216\n"));
        dir.pipe(&format!("load back{print}"), &back).done();
        assert!(dir.run(&format!("dump back{print}")).done() == original);
    }
}

#[test]
fn lmdb_needs_the_map_size_that_mapsize_writes() {
    if !have("mdb_load", "lmdb-utils") {
        return;
    }
    let dir = Dir::new();
    let large: String = (0..40).map(|i| format!("{i:03}\n{}\n", "x".repeat(100_000))).collect();
    dir.pipe("load db -T", large).done();
    for (option, fits) in [("", false), ("--mapsize 67108864", true)] {
        let lmdb = dir.path().join(format!("lmdb-{fits}"));
        std::fs::create_dir(&lmdb).unwrap();
        dir.run(&format!("dump db {option} -f out")).done();
        let loaded = Command::new("mdb_load").args(["-f", "out"]).arg(lmdb).current_dir(dir.path()).output().unwrap();
        assert_eq!(loaded.status.success(), fits, "{}", String::from_utf8_lossy(&loaded.stderr));
    }
}

#[test]
fn lmdb_keeps_several_databases_apart() {
    if !have("mdb_load", "lmdb-utils") || !have("mdb_dump", "lmdb-utils") {
        return;
    }
    let dir = filled();
    dir.run("put db ada 1815 -k users").done();
    dir.run("put db --hex ff 00 -k größe").done();
    std::fs::create_dir(dir.path().join("lmdb")).unwrap();
    dir.run("dump db -a --mapsize 16777216 -f out").done();
    peer(&dir, "mdb_load -f out lmdb");
    // Not -p: this version or another may leave backslashes alone.
    dir.pipe("load back", peer(&dir, "mdb_dump -a lmdb")).done();
    assert!(dir.run("dump back -a").done() == dir.run("dump db -a").done());
}

#[test]
fn berkeley_db_takes_dumps_and_gives_them_back() {
    if !have("db5.3_load", "db5.3-util") || !have("db5.3_dump", "db5.3-util") {
        return;
    }
    let dir = filled();
    // Here empty keys are possible.
    let mut command = dir.command();
    assert!(command.args(["put", "db", "", "empty"]).status().unwrap().success());
    let original = dir.run("dump db").done();
    for print in ["", "-p"] {
        let name = format!("bdb{print}");
        dir.run(&format!("dump db {print} -f out")).done();
        peer(&dir, &format!("db5.3_load -f out {name}"));
        for print_back in ["", "-p"] {
            let back = peer(&dir, &format!("db5.3_dump {print_back} {name}"));
            dir.pipe(&format!("load back{print}{print_back}"), &back).done();
            assert!(dir.run(&format!("dump back{print}{print_back}")).done() == original, "{back}");
        }
    }
}

#[test]
fn berkeley_db_keeps_several_databases_apart() {
    if !have("db5.3_load", "db5.3-util") || !have("db5.3_dump", "db5.3-util") {
        return;
    }
    let dir = filled();
    dir.run("put db ada 1815 -k users").done();
    dir.run("put db --hex ff 00 -k größe").done();
    dir.run("put db k v -k a\\b").done();
    dir.run("dump db -a -f out").done();
    peer(&dir, "db5.3_load -f out bdb");
    assert_eq!(peer(&dir, "db5.3_dump -l bdb"), "a\\\\b\ndefault\ngr\\c3\\b6\\c3\\9fe\nusers\n");
    for print in ["", "-p"] {
        let back = peer(&dir, &format!("db5.3_dump {print} bdb"));
        dir.pipe(&format!("load back{print}"), back).done();
        assert!(dir.run(&format!("dump back{print} -a")).done() == dir.run("dump db -a").done());
    }
}

#[test]
fn duplicates_are_refused_and_hashes_taken() {
    if !have("db5.3_load", "db5.3-util") || !have("db5.3_dump", "db5.3-util") {
        return;
    }
    let dir = Dir::new();
    dir.file("dup", "VERSION=3\nformat=print\ntype=btree\nduplicates=1\nHEADER=END\n a\n 1\n a\n 2\nDATA=END\n");
    peer(&dir, "db5.3_load -f dup dup.db");
    let dumped = peer(&dir, "db5.3_dump dup.db");
    assert!(dir.pipe("load db", dumped).refused().contains("duplicates=1: that database has several values under one key"));
    dir.file("pairs", "b\n2\na\n1\n\\\\\n\\00\n");
    peer(&dir, "db5.3_load -T -t hash -f pairs hash.db");
    let dumped = peer(&dir, "db5.3_dump -p hash.db");
    assert!(dumped.contains("type=hash"));
    dir.pipe("load hashed", dumped).done();
    dir.pipe("load plain -T", std::fs::read(dir.path().join("pairs")).unwrap()).done();
    assert_eq!(dir.run("dump hashed").done(), dir.run("dump plain").done());
    // Records by number have their numbers for keys, if they are dumped with them.
    let mut numbered = Command::new("db5.3_load");
    numbered
        .args(["-T", "-t", "recno", "numbered.db"])
        .current_dir(dir.path())
        .stdin(File::open(dir.path().join("pairs")).unwrap());
    assert!(numbered.status().unwrap().success());
    assert!(dir.pipe("load db", peer(&dir, "db5.3_dump numbered.db")).refused().contains("dump it with db_dump -k"));
    dir.pipe("load numbered", peer(&dir, "db5.3_dump -k numbered.db")).done();
    assert_eq!(dir.run("get numbered 3").done(), "a");
}
