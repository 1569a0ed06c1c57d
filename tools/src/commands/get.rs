//! `ashlar get`: the value of a key.

use crate::bytes::{HexArg, to_hex};
use crate::cli::{KeyspaceArg, OpenArgs};
use crate::error::{Outcome, Result};
use crate::open;
use crate::output::{Output, remark};
use serde_json::Map;
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER: &str = "Examples:
  ashlar get orders ada                 the value, exactly its bytes (and a line end on a terminal)
  ashlar get orders -k users --hex 6164
  ashlar get orders -- -k               a key that begins with a dash

Exit status 1: there is no such key.";

/// Print the value of a key
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
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
    let db = open::for_reading(&args.dir, &args.open, out)?;
    let keyspace = open::keyspace(&db, &args.keyspace.keyspace)?;
    let Some(value) = keyspace.get(&key)? else {
        remark(format_args!("there is no key {} in keyspace {:?}", args.hex.show(&key), keyspace.name()));
        return Ok(Outcome::No);
    };
    if out.is_json() {
        let mut object = Map::new();
        args.hex.put(&mut object, "key", &key);
        args.hex.put(&mut object, "value", &value);
        out.object(&object)?;
    } else if args.hex.hex {
        out.line(to_hex(&value))?;
    } else {
        out.bytes(&value)?;
        if out.is_terminal() {
            out.bytes(b"\n")?;
        }
    }
    Ok(Outcome::Done)
}
