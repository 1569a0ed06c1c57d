//! Real input, and tools that this project did not write as judges: Debian's package index is loaded, scanned and dumped; LMDB's and
//! Berkeley DB's programs load the dump, and what they dump of it loads here again, byte for byte what it was.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Database, Options};
use common::process::there_is;
use common::{Expected, assert_clean, assert_holds, scratch, skipped};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Packages that are taken of the index: `ASHLAR_PACKAGES`, else 15,000.
fn packages_max() -> usize {
    std::env::var("ASHLAR_PACKAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(15_000)
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/debian_packages.py");

/// The first packages of Debian's index, as its tool prints it; `None`, having said why, where there is none.
fn index(test: &str) -> Option<&'static [u8]> {
    static INDEX: OnceLock<Vec<u8>> = OnceLock::new();
    let text = INDEX.get_or_init(|| {
        let output = Command::new("apt-cache").arg("dumpavail").stderr(Stdio::null()).output();
        let whole = output.map(|o| o.stdout).unwrap_or_default();
        first_stanzas(&whole, packages_max()).to_vec()
    });
    if text.is_empty() {
        skipped(test, "there is no package index (apt-cache dumpavail): run apt-get update on a Debian");
        return None;
    }
    if !there_is("python3") {
        skipped(test, "there is no python3 for the script that reads the index");
        return None;
    }
    Some(text)
}

fn first_stanzas(text: &[u8], count: usize) -> &[u8] {
    let ends = text.windows(2).enumerate().filter(|(_, w)| w == b"\n\n").map(|(at, _)| at + 2);
    &text[..ends.take(count).last().unwrap_or(0)]
}

/// The entries that stand in the index, found without the script.
fn entries(text: &[u8]) -> Expected {
    let text = std::str::from_utf8(text).unwrap();
    let mut entries = Expected::new();
    for stanza in text.split_inclusive("\n\n").map(|s| s.strip_suffix('\n').unwrap()) {
        let field = |name| stanza.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
        let key = format!("{}/{}", field("Package:"), field("Version:"));
        entries.insert(key.into_bytes(), stanza.as_bytes().to_vec());
    }
    entries
}

/// The command `ashlar` of this build.
fn ashlar() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let here = std::env::current_exe().unwrap();
        let profile_dir = here.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "ashlar-tools", "--bin", "ashlar"]);
        if profile_dir.ends_with("release") {
            build.arg("--release");
        }
        build.arg("--target-dir").arg(profile_dir.parent().unwrap());
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the command can't be built");
        profile_dir.join("ashlar")
    })
}

/// Runs a program that must end well.
fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What the script makes of the index.
fn scripted(text: &'static [u8], args: &[&str]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("python3").arg(SCRIPT).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(text).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// A database with the index in it, loaded from text by the command.
struct Loaded {
    dir: tempfile::TempDir,
    expected: Expected,
}

impl Loaded {
    fn new(text: &'static [u8]) -> Loaded {
        let dir = scratch();
        let input = dir.path().join("packages.txt");
        std::fs::write(&input, scripted(text, &[])).unwrap();
        let loaded = Loaded { dir, expected: entries(text) };
        run(
            ashlar(),
            [
                "load".as_ref(),
                "-T".as_ref(),
                "-k".as_ref(),
                "packages".as_ref(),
                "-f".as_ref(),
                input.as_os_str(),
                loaded.at("db").as_os_str(),
            ],
        );
        loaded
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// A dump of it by the command.
    fn dump(&self, options: &[&str], to: &str) {
        let (db, to) = (self.text("db"), self.text(to));
        let args = ["dump", &db, "-k", "packages", "-f", &to];
        run(ashlar(), args.iter().chain(options));
    }

    /// Loads a dump into a new database, and compares that with what was there at first.
    fn comes_back(&self, dump: &[u8], options: &[&str], what: &str) {
        let (file, db) = (self.text("back"), self.text("back.db"));
        std::fs::write(&file, dump).unwrap();
        run(ashlar(), ["load", &db, "-f", &file].iter().chain(options));
        self.assert_same(&self.at("back.db"), what);
        std::fs::remove_dir_all(&db).unwrap();
    }

    fn assert_same(&self, path: &Path, what: &str) {
        let db = Options::new().cache_size(64 << 20).read_only(true).open(path).unwrap();
        let keyspace = db.existing_keyspace("packages").unwrap().unwrap_or_else(|| panic!("{what}: {:?}", db.keyspaces()));
        assert_eq!(keyspace.len().unwrap(), self.expected.len() as u64, "{what}");
        assert_holds(&keyspace, &self.expected);
        assert_clean(&db);
    }
}

#[test]
fn the_package_index_is_loaded_scanned_and_dumped() {
    let Some(text) = index("the_package_index_is_loaded_scanned_and_dumped") else { return };
    let loaded = Loaded::new(text);
    assert!(loaded.expected.len() > 1000, "{} packages", loaded.expected.len());
    loaded.assert_same(&loaded.at("db"), "loaded from text");
    let db = loaded.text("db");
    run(ashlar(), ["verify", &db]);
    let keys = run(ashlar(), ["scan", &db, "-k", "packages", "--keys-only"]).stdout;
    let keys: Vec<Vec<u8>> = keys.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect();
    assert!(keys.iter().eq(loaded.expected.keys()), "scan gives {} keys", keys.len());
    let backward = run(ashlar(), ["scan", &db, "-k", "packages", "--keys-only", "--reverse"]).stdout;
    assert!(backward.split(|b| *b == b'\n').filter(|l| !l.is_empty()).eq(keys.iter().rev().map(|k| &k[..])));
    for (options, what) in [(&[][..], "a dump in hex"), (&["-p"], "a dump in print")] {
        loaded.dump(options, "dump");
        loaded.comes_back(&std::fs::read(loaded.at("dump")).unwrap(), &[], what);
    }
    // The script's own dump, whose entries ascend, as the command's own is: the same bytes behind the header, by two writers.
    let other = scripted(text, &["--dump", "packages"]);
    loaded.dump(&[], "dump");
    let own = std::fs::read(loaded.at("dump")).unwrap();
    let body = |dump: &[u8]| dump.windows(11).position(|w| w == b"HEADER=END\n").map(|at| dump[at..].to_vec()).unwrap();
    assert!(body(&other) == body(&own), "the dumps differ");
    loaded.comes_back(&other, &[], "the script's dump");
}

/// Random access to real entries, with a cache that holds a small part of them.
#[test]
fn the_package_index_is_changed_and_read_in_any_order() {
    let Some(text) = index("the_package_index_is_changed_and_read_in_any_order") else { return };
    let mut loaded = Loaded::new(text);
    let db: Database = Options::new().cache_size(1 << 20).open(loaded.at("db")).unwrap();
    let keyspace = db.keyspace("packages").unwrap();
    let keys: Vec<Vec<u8>> = loaded.expected.keys().cloned().collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|i| common::damage::crc32c(&keys[*i]));
    for (n, &i) in order.iter().enumerate() {
        let key = &keys[i];
        assert!(*keyspace.get(key).unwrap().unwrap() == loaded.expected[key][..]);
        match n % 5 {
            0 => {
                let doubled = loaded.expected[key].repeat(2);
                keyspace.insert_with(key, &doubled, ashlardb::Durability::Eventual).unwrap();
                loaded.expected.insert(key.clone(), doubled);
            }
            1 => {
                keyspace.remove_with(key, ashlardb::Durability::Eventual).unwrap();
                loaded.expected.remove(key);
            }
            _ => {}
        }
    }
    let names: BTreeSet<Vec<u8>> = keys.iter().map(|k| k.split(|b| *b == b'-').next().unwrap().to_vec()).collect();
    for name in names.iter().step_by(50) {
        let found: Vec<Vec<u8>> = keyspace.prefix(name).map(|e| e.unwrap().0).collect();
        let wanted: Vec<Vec<u8>> = loaded.expected.keys().filter(|k| k.starts_with(name)).cloned().collect();
        assert_eq!(found, wanted);
    }
    drop(keyspace);
    db.close().unwrap();
    loaded.assert_same(&loaded.at("db"), "changed");
}

#[test]
fn lmdb_takes_the_dump_and_gives_it_back() {
    let name = "lmdb_takes_the_dump_and_gives_it_back";
    if !there_is("mdb_load") || !there_is("mdb_dump") {
        return skipped(name, "there is no mdb_load (package lmdb-utils)");
    }
    let Some(text) = index(name) else { return };
    let loaded = Loaded::new(text);
    for (n, options) in [&["--mapsize", "1073741824"][..], &["--mapsize", "1073741824", "-p"]].into_iter().enumerate() {
        loaded.dump(options, "dump");
        let lmdb = loaded.text(&format!("lmdb {n}"));
        std::fs::create_dir(&lmdb).unwrap();
        run("mdb_load", ["-f", &loaded.text("dump"), &lmdb]);
        let stat = String::from_utf8(run("mdb_stat", ["-s", "packages", &lmdb]).stdout).unwrap();
        assert!(stat.contains(&format!("Entries: {}\n", loaded.expected.len())), "{stat}");
        loaded.comes_back(&run("mdb_dump", ["-a", &lmdb]).stdout, &[], "mdb_dump -a");
        loaded.comes_back(&run("mdb_dump", ["-s", "packages", &lmdb]).stdout, &[], "mdb_dump -s");
    }
}

#[test]
fn berkeley_db_takes_the_dump_and_gives_it_back() {
    let name = "berkeley_db_takes_the_dump_and_gives_it_back";
    if !there_is("db5.3_load") || !there_is("db5.3_dump") {
        return skipped(name, "there is no db5.3_load (package db5.3-util)");
    }
    let Some(text) = index(name) else { return };
    let loaded = Loaded::new(text);
    for (n, options) in [&[][..], &["-p"]].into_iter().enumerate() {
        loaded.dump(options, "dump");
        let file = loaded.text(&format!("berkeley {n}"));
        run("db5.3_load", ["-f", &loaded.text("dump"), &file]);
        run("db5.3_verify", [&file]);
        // Its dump of one database has no name.
        let named = &["-k", "packages"];
        loaded.comes_back(&run("db5.3_dump", ["-s", "packages", &file]).stdout, named, "db5.3_dump -s");
        loaded.comes_back(&run("db5.3_dump", ["-p", "-s", "packages", &file]).stdout, named, "db5.3_dump -p -s");
    }
}
