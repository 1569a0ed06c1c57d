//! `ashlar del`: removes a key.

use crate::bytes::HexArg;
use crate::cli::{KeyspaceArg, OpenArgs};
use crate::error::{Outcome, Result};
use crate::open;
use crate::output::{Output, remark};
use ashlardb::Durability;
use std::ffi::OsString;
use std::path::PathBuf;

/// Remove a key and its value
#[derive(clap::Args, Debug)]
#[command(after_help = "The removal is durable when the command ends with status 0.\n\nExit status 1: there was no such key.")]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    /// The key
    key: OsString,
    #[command(flatten)]
    keyspace: KeyspaceArg,
    #[command(flatten)]
    hex: HexArg,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let key = args.hex.parse("key", &args.key)?;
    let db = open::for_writing(&args.dir, &args.open, out)?;
    let keyspace = open::keyspace(&db, &args.keyspace.keyspace)?;
    let is_there = keyspace.contains_key(&key)?;
    if is_there {
        keyspace.remove_with(&key, Durability::Immediate)?;
    } else {
        remark(format_args!("there is no key {} in keyspace {:?}", args.hex.show(&key), keyspace.name()));
    }
    db.close()?;
    Ok(if is_there { Outcome::Done } else { Outcome::No })
}
