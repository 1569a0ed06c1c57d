//! `ashlar scan`: entries in order of their keys.

use crate::bytes::HexArg;
use crate::cli::{KeyspaceArg, OpenArgs};
use crate::error::{Error, Outcome, Result};
use crate::open;
use crate::output::Output;
use ashlardb::{Keyspace, Range};
use serde_json::Map;
use std::ffi::OsString;
use std::ops::Bound;
use std::path::PathBuf;

const AFTER: &str = "Examples:
  ashlar scan orders -k users --prefix a --limit 10
  ashlar scan orders --from 2024 --to 2025 --reverse
  ashlar scan orders --json                          one object a line

An entry is a line: the key, a tab, the value; printable ASCII as it is, \\xx (hex) for any other
byte and the backslash. With --json, bytes that are no text (UTF-8) stand as hex in \"key_hex\" and
\"value_hex\".";

/// Print entries in order of their keys
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    #[command(flatten)]
    keyspace: KeyspaceArg,
    /// Only keys that begin with this
    #[arg(long, value_name = "KEY", conflicts_with_all = ["from", "to"])]
    prefix: Option<OsString>,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    from: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    to: Option<OsString>,
    /// At most this many entries
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
    /// From the last key to the first
    #[arg(short, long)]
    reverse: bool,
    /// Print no values
    #[arg(long)]
    keys_only: bool,
    #[command(flatten)]
    hex: HexArg,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let bounds = Bounds::of(args)?;
    let db = open::for_reading(&args.dir, &args.open, out)?;
    let mut range = bounds.range(&open::keyspace(&db, &args.keyspace.keyspace)?);
    for _ in 0..args.limit.unwrap_or(u64::MAX) {
        let next = if args.reverse { range.next_back() } else { range.next() };
        let Some(entry) = next else { break };
        let (key, value) = entry?;
        print(args, out, &key, &value)?;
    }
    Ok(Outcome::Done)
}

/// Which keys.
enum Bounds {
    Prefix(Vec<u8>),
    Between(Bound<Vec<u8>>, Bound<Vec<u8>>),
}

impl Bounds {
    fn of(args: &Args) -> Result<Bounds> {
        let parse = |given: &Option<OsString>| given.as_ref().map(|key| args.hex.parse("key", key)).transpose();
        if let Some(prefix) = parse(&args.prefix)? {
            return Ok(Bounds::Prefix(prefix));
        }
        let (from, to) = (parse(&args.from)?, parse(&args.to)?);
        if let (Some(from), Some(to)) = (&from, &to)
            && from > to
        {
            let (from, to) = (args.hex.show(from), args.hex.show(to));
            return Err(Error::Usage(format!("--from {from} is above --to {to}: exchange them (--reverse gives the order)")));
        }
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        Ok(Bounds::Between(from, to.map_or(Bound::Unbounded, Bound::Excluded)))
    }

    fn range(self, keyspace: &Keyspace) -> Range {
        match self {
            Bounds::Prefix(prefix) => keyspace.prefix(prefix),
            Bounds::Between(from, to) => keyspace.range((from, to)),
        }
    }
}

fn print(args: &Args, out: &mut Output, key: &[u8], value: &[u8]) -> Result<()> {
    if out.is_json() {
        let mut object = Map::new();
        args.hex.put(&mut object, "key", key);
        if !args.keys_only {
            args.hex.put(&mut object, "value", value);
        }
        return out.object(&object);
    }
    match args.keys_only {
        true => out.line(args.hex.show(key)),
        false => out.line(format_args!("{}\t{}", args.hex.show(key), args.hex.show(value))),
    }
}
