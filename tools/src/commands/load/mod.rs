//! `ashlar load`: entries from a dump, or from plain text.
//!
//! A file is read twice: first all of it is checked, and nothing is applied unless all of it can be; then it is applied. A pipe can
//! be read only once: what comes before an error is applied, and stays.

mod apply;
mod check;
mod input;

use crate::cli::{CreateArgs, DEFAULT_KEYSPACE, OpenArgs};
use crate::dump_format::{Event, Parser};
use crate::error::{Error, Outcome, Result};
use crate::open;
use crate::output::Output;
use crate::progress::Progress;
use crate::units::{count, counted};
use apply::{Applied, Applier};
use ashlardb::Database;
use check::Checker;
use input::Input;
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
    let total = match input.again()? {
        Some(reader) => Some(check_all(args, reader, &input, checker.clone(), out)?),
        None => None,
    };
    let db = match db {
        Some(db) => db,
        None => open::or_create(&args.dir, &args.open, &args.create, out)?,
    };
    let applied = Load { args, input: &input, checker, db: &db }.run(total, out)?;
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

/// Reads a file whole and checks all of it; gives the number of its entries.
fn check_all(args: &Args, reader: impl BufRead, input: &Input, mut checker: Checker, out: &Output) -> Result<u64> {
    let failed = |error| Error::input(input.name(), error, "nothing was applied".into());
    let mut progress = Progress::new(out, "checking", None);
    let mut parser = args.parser(reader);
    let mut entries = 0;
    while let Some(event) = parser.next_event().map_err(failed)? {
        entries += u64::from(matches!(event, Event::Entry { .. }));
        checker.check(&event).map_err(|what| failed(checker.fault(parser.line(), what)))?;
        progress.add(1);
    }
    Ok(entries)
}

/// Applying the input.
struct Load<'a> {
    args: &'a Args,
    input: &'a Input,
    checker: Checker,
    db: &'a Database,
}

impl Load<'_> {
    fn run(mut self, total: Option<u64>, out: &Output) -> Result<Vec<Applied>> {
        let mut parser = self.args.parser(self.input.reader()?);
        let mut progress = Progress::new(out, "loading", total);
        let mut applier = Applier::new(self.db, self.args.no_overwrite);
        loop {
            let step = match parser.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => match self.checker.check(&event) {
                    Ok(()) => self.apply(&event, &mut applier),
                    Err(what) => Err(LoadError::Input(self.checker.fault(parser.line(), what))),
                },
                Err(error) => Err(LoadError::Input(error)),
            };
            match step {
                Ok(()) => progress.add(1),
                Err(error) => return Err(self.stopped(error, applier)),
            }
        }
        match applier.finish() {
            Ok(()) => Ok(applier.into_applied()),
            Err(error) => Err(self.stopped(LoadError::Engine(error), applier)),
        }
    }

    fn apply(&self, event: &Event<'_>, applier: &mut Applier<'_>) -> Result<(), LoadError> {
        match event {
            Event::Begin(header) => {
                let named = header.database.as_ref().map(|name| String::from_utf8_lossy(name));
                let name = self.args.keyspace.as_deref().or(named.as_deref()).unwrap_or(DEFAULT_KEYSPACE);
                applier.begin(name).map_err(LoadError::Engine)
            }
            Event::Entry { key, value } => applier.put(key, value).map_err(LoadError::Engine),
            Event::End => Ok(()),
        }
    }

    /// What came before the error and is sound is kept, and counted.
    fn stopped(&self, error: LoadError, mut applier: Applier<'_>) -> Error {
        let kept = match &error {
            LoadError::Input(_) => applier.finish(),
            LoadError::Engine(_) => self.db.flush(),
        };
        let applied: u64 = applier.into_applied().iter().map(|a| a.loaded).sum();
        let mut stay = match applied {
            0 => "nothing was applied".to_owned(),
            n => format!("{} applied before and stay", counted(n, "entry was", "entries were")),
        };
        if let Err(flush) = kept {
            stay = format!("{stay}, though not all may be durable ({flush})");
        }
        match error {
            LoadError::Input(error) => Error::input(self.input.name(), error, stay),
            LoadError::Engine(error) => {
                Error::Input { input: self.input.name().into(), error: Box::new(Error::from(error)), applied: stay }
            }
        }
    }
}

/// Why applying stops.
enum LoadError {
    Input(crate::dump_format::ParseError),
    Engine(ashlardb::Error),
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
