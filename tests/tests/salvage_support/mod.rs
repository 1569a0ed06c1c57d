//! What the tests of salvage share: histories of databases, a reader of checkpoints, and ways to wreck files.

mod cases;
mod checkpoint;
mod history;
mod scratched;
mod wreck;

pub(crate) use checkpoint::Checkpoint;
pub(crate) use history::{History, State};
pub(crate) use scratched::ScratchedFs;
pub(crate) use wreck::{Sum, Wreck, corrupt_sealed};

use ashlardb::Database;
use std::collections::BTreeMap;
use std::path::Path;

/// The seeds of a test: from `ASHLAR_SEED` on, as many as `variable` says.
pub(crate) fn seeds(variable: &str, count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("ASHLAR_SEED").unwrap_or(1);
    first..first + number(variable).unwrap_or(count)
}

/// All that is in a database.
pub(crate) fn contents(db: &Database) -> State {
    try_contents(db).unwrap()
}

/// All that is in a database, if all of it can be read.
pub(crate) fn try_contents(db: &Database) -> ashlardb::Result<State> {
    let mut all = BTreeMap::new();
    for name in db.keyspaces()? {
        let keyspace = db.keyspace(&name)?;
        let entries = keyspace.iter().map(|entry| entry.map(|(key, value)| (key, value.to_vec())));
        all.insert(name, entries.collect::<ashlardb::Result<_>>()?);
    }
    Ok(all)
}

/// What stands in the files of a directory, but for the lock's.
pub(crate) fn fingerprint(dir: &Path) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(fingerprint(&entry.path()).into_iter().map(|(inner, crc)| (format!("{name}/{inner}"), crc)));
        } else if name != "LOCK" {
            all.insert(name, sum_of(&std::fs::read(entry.path()).unwrap()));
        }
    }
    all
}

/// A sum of bytes: FNV-1a over words, quick enough for whole files.
fn sum_of(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(8).map(|chunk| chunk.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte)));
    let sum = words.fold(0xCBF2_9CE4_8422_2325u64, |sum, word| (sum ^ word).wrapping_mul(0x100_0000_01B3));
    (sum >> 32) as u32 ^ sum as u32 ^ bytes.len() as u32
}
