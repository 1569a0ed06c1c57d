//! A database read back whole, in several ways that must agree.

use crate::state::{Bytes, Entries, State, difference, difference_of_entries};
use ashlardb::{Database, Error, Keyspace, Range};

/// Everything in it, by scans from the front.
pub fn dump(db: &Database) -> Result<State, Error> {
    let mut state = State::new();
    for name in db.keyspaces()? {
        if let Some(keyspace) = db.existing_keyspace(&name)? {
            state.insert(name, entries(keyspace.iter(), false)?);
        }
    }
    Ok(state)
}

/// All entries that an iterator gives, from its front or from its back.
///
/// # Panics
/// Where a key comes twice, or out of order.
pub fn entries(range: Range, from_back: bool) -> Result<Entries, Error> {
    let mut entries = Entries::new();
    let mut last: Option<Vec<u8>> = None;
    let mut add = |item: Result<(Vec<u8>, ashlardb::Value), Error>| {
        let (key, value) = item?;
        let in_order = last.as_ref().is_none_or(|last| if from_back { key < *last } else { key > *last });
        assert!(in_order, "an iterator gave {:?} after {last:?} (from the back: {from_back})", key.escape_ascii().to_string());
        last = Some(key.clone());
        entries.insert(key, Bytes::from(&value[..]));
        Ok::<(), Error>(())
    };
    let mut range = range;
    if from_back {
        range.rev().try_for_each(&mut add)?
    } else {
        range.try_for_each(&mut add)?
    }
    Ok(entries)
}

/// Compares everything in a database with what is expected, each way to read it: scans from both ends, point reads, numbers of
/// entries.
///
/// # Errors
/// What differs, or the error of a read.
pub fn check(db: &Database, expected: &State) -> Result<(), Mismatch> {
    if let Some(text) = difference(expected, &dump(db)?) {
        return Err(Mismatch::Wrong(text));
    }
    for (name, entries) in expected {
        let keyspace = db.existing_keyspace(name)?.ok_or_else(|| Mismatch::Wrong(format!("no handle on keyspace {name}")))?;
        check_keyspace(&keyspace, entries).map_err(|e| e.within(name))?;
    }
    Ok(())
}

/// Why a check failed.
#[derive(Debug)]
pub enum Mismatch {
    /// The database gave an error.
    Error(Error),
    /// It gave something else than was expected.
    Wrong(String),
}

impl Mismatch {
    fn within(self, keyspace: &str) -> Mismatch {
        match self {
            Mismatch::Wrong(text) => Mismatch::Wrong(format!("keyspace {keyspace}: {text}")),
            error => error,
        }
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mismatch::Error(e) => write!(f, "{e} ({e:?})"),
            Mismatch::Wrong(text) => f.write_str(text),
        }
    }
}

impl From<Error> for Mismatch {
    fn from(e: Error) -> Mismatch {
        Mismatch::Error(e)
    }
}

fn check_keyspace(keyspace: &Keyspace, expected: &Entries) -> Result<(), Mismatch> {
    if let Some(text) = difference_of_entries(expected, &entries(keyspace.iter(), true)?) {
        return Err(Mismatch::Wrong(format!("from the back: {text}")));
    }
    let len = keyspace.len()?;
    if len != expected.len() as u64 {
        return Err(Mismatch::Wrong(format!("len is {len}, there are {} entries", expected.len())));
    }
    let values = keyspace.get_many(expected.keys())?;
    let found: Entries = expected.keys().cloned().zip(values).filter_map(|(k, v)| Some((k, Bytes::from(&v?[..])))).collect();
    if let Some(text) = difference_of_entries(expected, &found) {
        return Err(Mismatch::Wrong(format!("get_many: {text}")));
    }
    Ok(())
}

/// Verifies a database.
///
/// # Errors
/// What it finds.
pub fn verify(db: &Database) -> Result<(), Mismatch> {
    let report = db.verify()?;
    if report.is_clean() {
        return Ok(());
    }
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    Err(Mismatch::Wrong(format!("verify: {report}:\n  {}", findings.join("\n  "))))
}
