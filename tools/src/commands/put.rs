//! `ashlar put`: a value under a key.

use crate::bytes::HexArg;
use crate::cli::{CreateArgs, KeyspaceArg, OpenArgs};
use crate::error::{Error, Outcome, Result};
use crate::open;
use crate::output::Output;
use ashlardb::Durability;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

const AFTER: &str = "Examples:
  ashlar put orders ada 1815
  ashlar put orders -k photos ada --file ada.jpeg
  date | ashlar put orders today --file -
  ashlar put orders --hex 6164 00ff

The value is durable when the command ends with status 0. The database and the keyspace are made
if missing.";

/// Put a value under a key, replacing what was there
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory, made if it is missing
    dir: PathBuf,
    /// The key
    key: OsString,
    /// The value
    #[arg(required_unless_present = "file")]
    value: Option<OsString>,
    /// Take the value from this file, exactly its bytes; "-" is stdin
    #[arg(short, long, value_name = "PATH", conflicts_with = "value")]
    file: Option<PathBuf>,
    #[command(flatten)]
    keyspace: KeyspaceArg,
    #[command(flatten)]
    hex: HexArg,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    create: CreateArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let key = args.hex.parse("key", &args.key)?;
    let value = match (&args.file, &args.value) {
        (Some(path), _) => read(path)?,
        (None, Some(value)) => args.hex.parse("value", value)?,
        (None, None) => Vec::new(),
    };
    let db = open::or_create(&args.dir, &args.open, &args.create, out)?;
    db.keyspace(&args.keyspace.keyspace)?.insert_with(&key, &value, Durability::Immediate)?;
    db.close()?;
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut value)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut value))
    };
    read.map_err(|e| Error::file("reading", path, e))?;
    Ok(value)
}
