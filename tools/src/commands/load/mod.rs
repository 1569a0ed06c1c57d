//! `ashlar load`: entries from a dump, or from plain text.
//!
//! A file is read twice: first all of it is checked, and nothing is applied unless all of it can be; then it is applied. A database
//! in it whose entries ascend goes into an empty keyspace as one bulk load, anything else in transactions. A pipe can be read only
//! once: what comes before an error is applied, and stays.

mod apply;
mod ascending;
mod check;
mod input;
mod run;

use crate::cli::{CreateArgs, OpenArgs};
use crate::dump_format::Parser;
use crate::error::{Outcome, Result};
use crate::open;
use crate::output::Output;
use crate::units::{count, counted};
use apply::Applied;
use check::Checker;
use input::Input;
use run::Load;
use serde_json::json;
use std::io::BufRead;
use std::path::PathBuf;

const AFTER: &str = "Examples:
  ashlar dump orders -a | ashlar load copy
  mdb_dump -a lmdb | ashlar load copy     (not -p: it doesn't escape backslashes)
  db_dump -p users.db | ashlar load copy -k users
  printf 'ada\\n1815\\n' | ashlar load -T copy

Each named database of the dump goes to the keyspace of its name, the unnamed one to
\"default\"; -k sends what there is to NAME. A file (-f, or stdin redirected from one) is checked
whole before anything is applied. From a pipe, entries are applied as they come; an error says
how many were, and these stay. What was loaded is durable when the command ends with status 0.
The database and keyspaces are made if missing. Of several values for a key, the last counts
(with -n the first).";

/// Load entries from a dump of this program, db_dump or mdb_dump, or from plain text
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory, made if it is missing
    dir: PathBuf,
    /// Load into this keyspace, whatever name the dump has; the dump must hold one database
    #[arg(short = 'k', long, value_name = "NAME")]
    keyspace: Option<String>,
    /// Read this file [default: stdin]
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Plain text: a line a key, a line its value; \\ for a backslash, \xx for any byte in hex
    #[arg(short = 'T', long)]
    text: bool,
    /// Leave keys that are there already as they are
    #[arg(short, long)]
    no_overwrite: bool,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    create: CreateArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let input = Input::open(args.file.as_deref())?;
    // Opened before the check if it is there: whether it is locked should not take that long to learn.
    let there = args.dir.join("data").exists();
    let db = if there { Some(open::for_writing(&args.dir, &args.open, out)?) } else { None };
    let key_len_max = match &db {
        Some(db) => db.key_len_max(),
        None => ashlardb::btree::limits(args.create.page_size.unwrap_or(DEFAULT_PAGE_SIZE)).key_max,
    };
    let checker = Checker::new(key_len_max, args.keyspace.is_some());
    let contents = match input.again()? {
        Some(reader) => Some(check::whole(args.parser(reader), &input, checker.clone(), out)?),
        None => None,
    };
    let db = match db {
        Some(db) => db,
        None => open::or_create(&args.dir, &args.open, &args.create, out)?,
    };
    let applied = Load::new(args, &input, checker, &db).run(contents.as_deref(), out)?;
    db.close()?;
    report(&applied, out)?;
    Ok(Outcome::Done)
}

/// The page size of a database that is made without one being named.
const DEFAULT_PAGE_SIZE: usize = 8192;

impl Args {
    fn parser<R: BufRead>(&self, reader: R) -> Parser<R> {
        if self.text { Parser::plain(reader) } else { Parser::dump(reader) }
    }
}

fn report(applied: &[Applied], out: &mut Output) -> Result<()> {
    if out.is_json() {
        let list: Vec<_> =
            applied.iter().map(|a| json!({ "keyspace": a.keyspace, "loaded": a.loaded, "skipped": a.skipped })).collect();
        return out.object(&json!({ "keyspaces": list }));
    }
    for Applied { keyspace, loaded, skipped } in applied {
        let skipped =
            if *skipped == 0 { String::new() } else { format!(", {} there already and left as they are", count(*skipped)) };
        out.line(format_args!("{keyspace}: {} loaded{skipped}", counted(*loaded, "entry", "entries")))?;
    }
    Ok(())
}
