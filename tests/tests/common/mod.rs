//! What the tests on real files share: directories, values that can be recomputed, copies of databases, other processes.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod damage;
pub(crate) mod process;

use ashlardb::{Background, Database, Keyspace, Options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Entries as a test expects them.
pub(crate) type Expected = BTreeMap<Vec<u8>, Vec<u8>>;

/// A directory that is removed with the guard: under `ASHLAR_TEST_DIR`, else in the build's directory, since a test of direct
/// I/O needs a file system on a disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    let base = std::env::var_os("ASHLAR_TEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::tempdir_in(base).unwrap()
}

/// Options for a small database that does nothing by itself.
pub(crate) fn quiet() -> Options {
    Options::new().cache_size(16 << 20).background(Background::Manual).segment_size(1 << 20)
}

/// A value of this length that no other seed has, and no shift of it.
pub(crate) fn value_of(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ len as u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        // splitmix64
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Copies a database's files as another program would, while it is open or not: what a kill at this moment would leave.
pub(crate) fn copy_database(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_database(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Checks that a keyspace holds exactly `expected`: by key, by scans in both directions, by number.
pub(crate) fn assert_holds(keyspace: &Keyspace, expected: &Expected) {
    assert_eq!(keyspace.len().unwrap(), expected.len() as u64, "len of {}", keyspace.name());
    for (key, value) in expected {
        let found = keyspace.get(key).unwrap().unwrap_or_else(|| panic!("key {} is gone", shown(key)));
        assert!(found == *value, "key {}: {} bytes found, {} expected", shown(key), found.len(), value.len());
    }
    let mut scanned = keyspace.iter();
    for (key, value) in expected {
        let (k, v) = scanned.next().unwrap_or_else(|| panic!("the scan ends before {}", shown(key))).unwrap();
        assert!(k == *key && v == *value, "the scan gives {} at {}", shown(&k), shown(key));
    }
    assert!(scanned.next().is_none(), "the scan goes on");
    let mut backward = keyspace.iter().rev();
    for (key, value) in expected.iter().rev() {
        let (k, v) = backward.next().unwrap_or_else(|| panic!("the reverse scan ends before {}", shown(key))).unwrap();
        assert!(k == *key && v == *value, "the reverse scan gives {} at {}", shown(&k), shown(key));
    }
    assert!(backward.next().is_none(), "the reverse scan goes on");
}

/// Checks that a database verifies without a finding.
pub(crate) fn assert_clean(db: &Database) {
    let report = db.verify().unwrap();
    assert!(report.is_clean(), "{report}: {}", report.findings.iter().map(|f| format!("\n  {f}")).collect::<String>());
}

/// A key for messages.
pub(crate) fn shown(key: &[u8]) -> String {
    let head = key[..key.len().min(24)].escape_ascii();
    if key.len() > 24 { format!("\"{head}…\" ({} bytes)", key.len()) } else { format!("\"{head}\"") }
}

/// Says why a test does nothing here. The text goes past the harness's capture, so that it is seen.
pub(crate) fn skipped(test: &str, reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// The error's text, having checked that each of `parts` stands in it.
pub(crate) fn message<T>(outcome: Result<T, ashlardb::Error>, parts: &[&str]) -> String {
    let Err(error) = outcome else { panic!("no error, where one with {parts:?} was expected") };
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    text
}
