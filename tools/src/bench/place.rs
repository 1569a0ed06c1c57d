//! The database that workloads run on: where it is, what is in it, and what becomes of it.
//!
//! 1. Only `ashlar-bench` and, for the curves of costs, `ashlar-bench-costs` in the directory that was named are ever made or removed;
//!    they are removed only if this run has made them.
//! 2. Keyspace `bench` says what is in a database once it is loaded whole: (entries, value size). What a killed run left has none,
//!    and is not used.

use super::choice::Choice;
use super::{Args, pause};
use crate::error::{Error, Result};
use ashlar_workload::data;
use ashlardb::{Create, Database, Keyspace, Options};
use std::path::PathBuf;

const NAME: &str = "ashlar-bench";
const NAME_OF_COSTS: &str = "ashlar-bench-costs";
const ABOUT: &str = "bench";
/// The keyspace of the data set.
const DATA: &str = "data";

/// What is in the data set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Contents {
    pub(super) n: u64,
    pub(super) value_len: usize,
}

/// The database, and how it came to be.
pub(super) struct Place {
    path: PathBuf,
    options: Options,
    /// It was there before this run.
    found: bool,
    /// This run has made it, as it now is.
    made: bool,
    db: Option<Database>,
}

impl Place {
    /// Finds out whether there is one.
    pub(super) fn find(args: &Args) -> Result<Place> {
        let options = args.open.options();
        let options = if args.runs(Choice::Pause) { pause::raise_limits(args, options) } else { options };
        Place::at(args, NAME, options)
    }

    /// A new one for the curves of costs; an error if there is one.
    pub(super) fn for_costs(args: &Args, options: Options) -> Result<Place> {
        let mut place = Place::at(args, NAME_OF_COSTS, options)?;
        place.fresh()?;
        Ok(place)
    }

    fn at(args: &Args, name: &str, mut options: Options) -> Result<Place> {
        if !args.dir.is_dir() {
            return Err(Error::Usage(format!("{} is no directory: make it, or name another with --dir", args.dir.display())));
        }
        let path = args.dir.join(name);
        if let Some(bytes) = args.page_size {
            options = options.page_size(bytes);
        }
        let there = path.try_exists().map_err(|e| Error::file("looking for", &path, e))?;
        let mut place = Place { path, options, found: there, made: false, db: None };
        if there {
            place.open(Create::Never)?;
            place.check_page_size(args)?;
        }
        Ok(place)
    }

    fn open(&mut self, create: Create) -> Result<&Database> {
        let db = self.options.clone().create(create).open(&self.path)?;
        self.made |= create == Create::Always;
        Ok(self.db.insert(db))
    }

    fn check_page_size(&self, args: &Args) -> Result<()> {
        match (&self.db, args.page_size) {
            (Some(db), Some(wanted)) if db.page_size() != wanted => {
                let (path, has) = (self.path.display(), db.page_size());
                Err(Error::Usage(format!("{path} has pages of {has} bytes, not of {wanted}: remove it, or name another --dir")))
            }
            _ => Ok(()),
        }
    }

    /// The database, as it is; made if there is none.
    pub(super) fn database(&mut self) -> Result<Database> {
        match &self.db {
            Some(db) => Ok(db.clone()),
            None => self.open(if self.found || self.made { Create::Never } else { Create::Always }).cloned(),
        }
    }

    /// A database with nothing in it.
    pub(super) fn fresh(&mut self) -> Result<Database> {
        if self.found {
            let path = self.path.display();
            return Err(Error::Usage(format!(
                "{path} is there already, but a load needs a new database: remove it, or name another --dir"
            )));
        }
        self.remove()?;
        self.open(Create::Always).cloned()
    }

    /// Closes it, so that the next call opens it again. Nothing else may have it open.
    pub(super) fn close(&mut self) -> Result<()> {
        self.db.take().map_or(Ok(()), |db| Ok(db.close()?))
    }

    /// The keyspace of the data set.
    pub(super) fn data(&mut self) -> Result<Keyspace> {
        Ok(self.database()?.keyspace(DATA)?)
    }

    /// The data set, if it is there; an error if it is another one than is wanted.
    pub(super) fn loaded(&mut self, wanted: Contents) -> Result<Option<Keyspace>> {
        let db = self.database()?;
        let found = match db.existing_keyspace(ABOUT)? {
            Some(about) => about.get(DATA)?.and_then(|value| Contents::decode(&value)),
            None => None,
        };
        let path = self.path.display();
        match found {
            Some(found) if found == wanted => Ok(Some(db.keyspace(DATA)?)),
            Some(Contents { n, value_len }) => {
                let remedy = format!("pass --n {n} --value-size {value_len}, remove it, or name another --dir");
                Err(Error::Usage(format!("{path} holds {n} entries with values of {value_len} bytes: {remedy}")))
            }
            None if db.existing_keyspace(DATA)?.is_some() => Err(Error::Usage(format!(
                "{path} holds a data set that was not loaded to its end: remove it, or name another --dir"
            ))),
            None => Ok(None),
        }
    }

    /// Notes that the data set is whole.
    pub(super) fn note(&mut self, contents: Contents) -> Result<()> {
        Ok(self.database()?.keyspace(ABOUT)?.insert(DATA, contents.encode())?)
    }

    /// Closes the database; removes it, if this run has made it and it is not to be kept.
    pub(super) fn leave(mut self, keep: bool) -> Result<()> {
        if keep || self.found {
            return self.close();
        }
        self.remove()
    }

    /// Removes it, if this run has made one.
    fn remove(&mut self) -> Result<()> {
        // It may be closed, between two opens.
        drop(self.db.take());
        match std::mem::take(&mut self.made) {
            true => std::fs::remove_dir_all(&self.path).map_err(|e| Error::file("removing", &self.path, e)),
            false => Ok(()),
        }
    }
}

impl Contents {
    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.n.to_le_bytes());
        bytes[8..].copy_from_slice(&(self.value_len as u64).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Contents> {
        let (n, len) = bytes.split_first_chunk()?;
        let value_len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
        Some(Contents { n: u64::from_le_bytes(*n), value_len })
    }

    /// Bytes of an entry.
    pub(super) fn entry_len(self) -> u64 {
        (data::KEY_LEN + self.value_len) as u64
    }
}
