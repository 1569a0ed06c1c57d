//! Opens, reads and verifies a damaged database, and says what came of it; anything that is not as it must be is an error.
//!
//! What must be:
//! - No read ever gives anything but the right value or an error; a scan that is not whole says so.
//! - Whatever is damaged in `data` is found by verification, with file, block, page and keyspace; nothing else is found.
//! - Damage to what a read needs is an error of that read that names the file and the block; other reads go on.
//! - Damage to a confirmed flush of the log keeps the database from being opened. Damage to the last flush, before anything vouches for
//!   it, ends the log there: exactly the commits before it are left. A database that is open knows better, and finds it.
//! - Damage to what is not in use changes nothing, and verification finds nothing.

use super::fixture::{DIR, Fixture, data, options};
use super::layout::Kind;
use super::log::Due;
use super::place::{Case, Damage, Place};
use crate::images::ImageFs;
use crate::state::{Entries, State, show};
use ashlardb::verify::{Finding, Report};
use ashlardb::{Create, Database, Error, Keyspace};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What came of damage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// Everything is right, and verification finds nothing: what was damaged is not in use.
    Harmless,
    /// The log ends before a flush that nothing vouches for.
    Ended,
    /// The database is not opened: an error names the place.
    AtOpen,
    /// Reads give errors that name the place.
    ByReads,
    /// All reads are right; verification names the place.
    ByVerify,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] = [Outcome::Harmless, Outcome::Ended, Outcome::AtOpen, Outcome::ByReads, Outcome::ByVerify];
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Outcome::Harmless => "harmless",
            Outcome::Ended => "unconfirmed end gone",
            Outcome::AtOpen => "open refused",
            Outcome::ByReads => "reads and verify",
            Outcome::ByVerify => "verify alone",
        })
    }
}

/// See the module.
pub struct Judge<'a> {
    fixture: &'a Fixture,
    fs: Arc<ImageFs>,
    /// Opened for reading before anything was damaged.
    watch: Database,
}

impl<'a> Judge<'a> {
    /// With files of its own.
    ///
    /// # Errors
    /// The whole database is not right.
    pub fn new(fixture: &'a Fixture) -> Result<Judge<'a>, String> {
        let fs = ImageFs::of(&fixture.images);
        let open = || options(fs.clone()).read_only(true).open(DIR).map_err(|e| e.to_string());
        let watch = open()?;
        let errors = read_all(&open()?, fixture.state())?;
        let findings = watch.verify().map_err(|e| e.to_string())?.findings;
        match (errors.first(), findings.first()) {
            (None, None) => Ok(Judge { fixture, fs, watch }),
            (error, finding) => Err(format!("{error:?} {finding:?}")),
        }
    }

    /// Does a case's damage, looks at the database by reading, and undoes the damage.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(&self, case: &Case) -> Result<Outcome, String> {
        damage(&self.fs, case);
        let outcome = unpanicked(|| {
            let report = self.watch.verify().map_err(|e| format!("verify: {e}"))?;
            let open = options(self.fs.clone()).read_only(true).open(DIR);
            self.compare(case, &report, open)
        });
        self.fs.set_block(&case.path, case.block, self.fixture.block(&case.path, case.block).clone());
        self.fs.set_unreadable(&case.path, case.block, false);
        outcome
    }

    fn compare(&self, case: &Case, report: &Report, open: Result<Database, Error>) -> Result<Outcome, String> {
        let place = self.fixture.place(case);
        self.check_findings(case, &place, report)?;
        let db = match open {
            Err(e) => return self.refused(case, &place, &e),
            Ok(db) => db,
        };
        if let (Place::Log(Due::Refusal), Damage::Becomes(_)) = (&place, &case.damage) {
            return Err("a confirmed flush is damaged, and the database was opened".into());
        }
        let expected = match (&place, &case.damage) {
            // A block that can't be read is no end.
            (Place::Log(Due::EndsAt(lsn)), Damage::Becomes(_)) => self.fixture.state_at(*lsn),
            _ => self.fixture.state(),
        };
        let errors = read_all(&db, expected)?;
        errors.iter().try_for_each(|e| self.check_named(case, &place, e))?;
        match (&place, errors.is_empty()) {
            (Place::Log(Due::EndsAt(_)), true) => Ok(Outcome::Ended),
            (Place::Log(_) | Place::Free, true) => Ok(Outcome::Harmless),
            (Place::Live(piece), true) if is_read(piece.kind) && self.fixture.form == super::fixture::Form::Closed => {
                Err("what is damaged was read, and nothing was said".into())
            }
            (Place::Live(_), true) => Ok(Outcome::ByVerify),
            (Place::Live(piece), false) if !matches!(piece.kind, Kind::Superblock { .. } | Kind::Dropped) => Ok(Outcome::ByReads),
            (_, false) => Err(format!("nothing that reads need is damaged, but: {}", errors[0])),
        }
    }

    fn refused(&self, case: &Case, place: &Place<'_>, e: &Error) -> Result<Outcome, String> {
        let text = e.to_string();
        let right = match (place, &case.damage) {
            (Place::Live(piece), _) => !matches!(piece.kind, Kind::Superblock { .. }),
            (Place::Log(_), Damage::Unreadable) => matches!(e, Error::Io(_)),
            (Place::Log(Due::Refusal), _) => matches!(e, Error::WalCorrupted { .. }),
            _ => false,
        };
        if !right {
            return Err(format!("{} is damaged, and the database can't be opened: {text}", place.name()));
        }
        self.check_named(case, place, &text).map(|()| Outcome::AtOpen)
    }

    /// An error names the file, and the block or byte.
    fn check_named(&self, case: &Case, place: &Place<'_>, text: &str) -> Result<(), String> {
        let block = match place {
            Place::Live(piece) => piece.block,
            _ => case.block,
        };
        let file = match (place, &case.damage) {
            // A segment that is recycled takes its blocks along under another name.
            (Place::Log(_), Damage::Unreadable) => ".wal".into(),
            _ => case.path.to_string_lossy(),
        };
        let at = [format!("block {block}"), format!("byte {}", block * 4096), format!("byte {}", case.block * 4096)];
        let located = at.iter().any(|at| text.contains(at)) || matches!(place, Place::Log(_)) && text.contains("LSN");
        if text.contains(&*file) && located { Ok(()) } else { Err(format!("the error does not say where: {text}")) }
    }

    fn check_findings(&self, case: &Case, place: &Place<'_>, report: &Report) -> Result<(), String> {
        let is_it = |finding: &&Finding| match place {
            Place::Live(piece) => {
                let same_page = piece.page.is_none_or(|page| finding.page == Some(page));
                let same_keyspace = piece.keyspace.is_none() || finding.keyspace == piece.keyspace;
                finding.file == data() && finding.block == Some(piece.block) && same_page && same_keyspace
            }
            Place::Log(_) => finding.file == case.path && finding.block.is_some(),
            Place::Free => false,
        };
        let due = match (place, &case.damage) {
            (Place::Live(_) | Place::Log(Due::Refusal | Due::EndsAt(_)), _) => true,
            // Blocks behind the end, or before C, are read with others.
            (Place::Log(Due::Nothing), Damage::Unreadable) => return Ok(()),
            _ => false,
        };
        let listed = || report.findings.iter().map(|f| format!("\n  {f:?}")).collect::<String>();
        match (due, report.findings.iter().find(is_it)) {
            (true, None) => Err(format!("verify does not name {}: {}", place.name(), listed())),
            (true, Some(finding)) => self.check_named(case, place, &finding.what),
            (false, _) if report.is_clean() => Ok(()),
            (false, _) => Err(format!("{} is damaged, but verify finds:{}", place.name(), listed())),
        }
    }

    /// Does a case's damage to a copy, opens that for writing, writes, makes a checkpoint, and looks whether all else is right then.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge_writing(&self, case: &Case) -> Result<(), String> {
        let fs = ImageFs::of(&self.fixture.images);
        damage(&fs, case);
        unpanicked(|| self.write_and_look(case, &fs))
    }

    fn write_and_look(&self, case: &Case, fs: &Arc<ImageFs>) -> Result<(), String> {
        let place = self.fixture.place(case);
        let mut expected = match (&place, &case.damage) {
            (Place::Log(Due::EndsAt(lsn)), Damage::Becomes(_)) => self.fixture.state_at(*lsn).clone(),
            _ => self.fixture.state().clone(),
        };
        let db = match options(fs.clone()).create(Create::Never).open(DIR) {
            Ok(db) => db,
            Err(e) => return self.refused(case, &place, &e).map(drop),
        };
        if let (Place::Log(Due::Refusal), Damage::Becomes(_)) = (&place, &case.damage) {
            return Err("a confirmed flush is damaged, and the database was opened".into());
        }
        read_all(&db, &expected)?;
        let written = db.keyspace("written").and_then(|keyspace| keyspace.insert(b"key", b"value"));
        written.map_err(|e| format!("a keyspace of its own can't be written: {e}"))?;
        expected.entry("written".into()).or_default().insert(b"key".to_vec(), b"value"[..].into());
        // What deletes have left sparse may stand on a damaged page: then the checkpoint says so.
        if let Err(e) = db.checkpoint() {
            self.check_named(case, &place, &e.to_string())?;
        }
        drop(db);
        let db = match options(fs.clone()).read_only(true).open(DIR) {
            Ok(db) => db,
            Err(e) => return self.refused(case, &place, &e).map(drop),
        };
        let errors = read_all(&db, &expected)?;
        let report = db.verify().map_err(|e| format!("verify: {e}"))?;
        let spreads = |finding: &&Finding| match &place {
            Place::Live(piece) => finding.block != Some(piece.block) && !finding.what.contains("nothing refers to it"),
            _ => true,
        };
        match (&place, report.findings.iter().find(spreads), errors.first()) {
            // It was read with others, and has not gone.
            (Place::Log(_), Some(_), None) if matches!(case.damage, Damage::Unreadable) => Ok(()),
            (_, Some(finding), _) => Err(format!("after a checkpoint: {finding}")),
            (Place::Live(_), None, _) | (_, None, None) => Ok(()),
            (_, None, Some(error)) => Err(format!("after a checkpoint: {error}")),
        }
    }
}

/// Whether reading everything comes by it.
fn is_read(kind: Kind) -> bool {
    !matches!(kind, Kind::Superblock { .. } | Kind::Dropped)
}

fn damage(fs: &ImageFs, case: &Case) {
    match &case.damage {
        Damage::Becomes(bytes) => fs.set_block(&case.path, case.block, bytes.clone()),
        Damage::Unreadable => fs.set_unreadable(&case.path, case.block, true),
    }
}

fn unpanicked<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("it panicked: {}", text.unwrap_or("?")))
    })
}

/// Reads everything in every way. The errors that came; whatever came without an error must be right.
///
/// # Errors
/// What is wrong.
pub fn read_all(db: &Database, expected: &State) -> Result<Vec<String>, String> {
    let names = db.keyspaces().map_err(|e| e.to_string())?;
    if !names.iter().eq(expected.keys()) {
        return Err(format!("the keyspaces are {names:?}"));
    }
    let mut errors = Vec::new();
    for (name, entries) in expected {
        let keyspace = match db.existing_keyspace(name) {
            Ok(Some(keyspace)) => keyspace,
            Ok(None) => return Err(format!("keyspace {name} is gone without a word")),
            Err(e) => {
                errors.push(e.to_string());
                continue;
            }
        };
        read_keyspace(&keyspace, entries, &mut errors).map_err(|what| format!("keyspace {name}: {what}"))?;
    }
    Ok(errors)
}

fn read_keyspace(keyspace: &Keyspace, expected: &Entries, errors: &mut Vec<String>) -> Result<(), String> {
    match keyspace.len() {
        Ok(len) if len != expected.len() as u64 => return Err(format!("its len is {len}, expected {}", expected.len())),
        Ok(_) => {}
        Err(e) => errors.push(e.to_string()),
    }
    for (key, value) in expected {
        match keyspace.get(key) {
            Ok(Some(found)) if found[..] == value[..] => {}
            Ok(found) => return Err(format!("{} holds {:?}", show(key), found.as_deref().map(show))),
            Err(e) => errors.push(e.to_string()),
        }
        let beside = [key.as_slice(), b"\0"].concat();
        match keyspace.get(&beside) {
            Err(e) => errors.push(e.to_string()),
            Ok(Some(_)) if !expected.contains_key(&beside) => return Err(format!("{} was never there", show(&beside))),
            Ok(_) => {}
        }
    }
    scan(keyspace, expected, false, errors)?;
    scan(keyspace, expected, true, errors)
}

/// A scan gives right entries only, in order, and all of them or an error.
fn scan(keyspace: &Keyspace, expected: &Entries, from_back: bool, errors: &mut Vec<String>) -> Result<(), String> {
    let mut range = keyspace.iter();
    let (mut right, mut failed) = (0, 0);
    let mut last: Option<Vec<u8>> = None;
    while let Some(item) = if from_back { range.next_back() } else { range.next() } {
        match item {
            Ok((key, value)) => {
                let in_order = last.as_ref().is_none_or(|last| if from_back { key < *last } else { key > *last });
                if !in_order || expected.get(&key).is_none_or(|e| e[..] != value[..]) {
                    return Err(format!("a scan (from the back: {from_back}) gives {} = {}", show(&key), show(&value)));
                }
                right += 1;
                last = Some(key);
            }
            Err(e) => {
                failed += 1;
                errors.push(e.to_string());
            }
        }
        if failed > expected.len() {
            return Err(format!("a scan (from the back: {from_back}) does not end after its error"));
        }
    }
    if failed == 0 && right != expected.len() {
        return Err(format!("a scan (from the back: {from_back}) gives {right} of {} entries, and no error", expected.len()));
    }
    Ok(())
}
