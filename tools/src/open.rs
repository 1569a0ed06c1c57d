//! Opening databases and finding keyspaces as the options say.

use crate::cli::{CreateArgs, OpenArgs};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::progress::Spinner;
use ashlardb::{Create, Database, IoMode, Keyspace, Options};
use std::path::Path;

impl OpenArgs {
    /// The options of an open.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new().allow_network_fs(self.allow_network_fs).io_mode(self.io_mode());
        if let Some(mib) = self.cache_mb {
            options = options.cache_size(mib << 20);
        }
        options
    }

    /// Direct or buffered.
    pub(crate) fn io_mode(&self) -> IoMode {
        if self.buffered { IoMode::Buffered } else { IoMode::Direct }
    }
}

impl CreateArgs {
    /// With what they say about a new database.
    pub(crate) fn apply(&self, mut options: Options) -> Options {
        if let Some(bytes) = self.page_size {
            options = options.page_size(bytes);
        }
        match &self.wal_dir {
            Some(dir) => options.wal_dir(dir),
            None => options,
        }
    }
}

/// Opens the database in `dir` to look at it: beside others who do, not beside a writer. Writes nothing.
pub(crate) fn for_reading(dir: &Path, args: &OpenArgs, out: &Output) -> Result<Database> {
    open(dir, args.options().read_only(true).create(Create::Never), out)
}

/// Opens the database in `dir` to change it.
pub(crate) fn for_writing(dir: &Path, args: &OpenArgs, out: &Output) -> Result<Database> {
    open(dir, args.options().create(Create::Never), out)
}

/// Opens the database in `dir` to change it, making it if there is none.
pub(crate) fn or_create(dir: &Path, args: &OpenArgs, create: &CreateArgs, out: &Output) -> Result<Database> {
    open(dir, create.apply(args.options()), out)
}

fn open(dir: &Path, options: Options, out: &Output) -> Result<Database> {
    let _spinner = Spinner::start(out, format!("opening {}", dir.display()))?;
    Ok(options.open(dir)?)
}

/// The keyspace of that name; an error that tells which there are.
pub(crate) fn keyspace(db: &Database, name: &str) -> Result<Keyspace> {
    db.existing_keyspace(name)?.ok_or_else(|| no_keyspace(db, name))
}

fn no_keyspace(db: &Database, name: &str) -> Error {
    const SHOWN: usize = 8;
    let names = db.keyspaces().unwrap_or_default();
    let mut there = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        there.push_str(", …");
    }
    let remedy =
        if names.is_empty() { "the database has none yet".to_owned() } else { format!("there are {there}: name one with -k") };
    Error::Usage(format!("there is no keyspace {name:?} in {}: {remedy}", db.path().display()))
}
