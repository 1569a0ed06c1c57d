//! `ashlar dump`: keyspaces as text that other programs read.

use crate::cli::{DEFAULT_KEYSPACE, OpenArgs};
use crate::dump_format::{DumpWriter, Format};
use crate::error::{Error, Outcome, Result};
use crate::open;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::units::counted;
use ashlardb::{Database, Keyspace};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const AFTER: &str = "Examples:
  ashlar dump orders -k users -f users.dump
  ashlar dump orders -a | ashlar load copy
  ashlar dump orders | db_load copy.db
  ashlar dump orders --mapsize 1073741824 | mdb_load copy

The format is that of db_dump and mdb_dump. With -k or -a each keyspace is a named database of the
dump, and LMDB and Berkeley DB load it as one; with neither, keyspace \"default\" is dumped as the
unnamed one. LMDB takes no empty keys, and keys of at most 511 bytes.";

/// Write keyspaces as text in the format of db_dump and mdb_dump
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    /// Dump this keyspace [default: "default", as the unnamed database]
    #[arg(short = 'k', long, value_name = "NAME", conflicts_with = "all")]
    keyspace: Option<String>,
    /// Dump all keyspaces, one after the other
    #[arg(short, long)]
    all: bool,
    /// Only list the keyspaces, one a line
    #[arg(short, long, conflicts_with_all = ["all", "keyspace", "print", "file", "mapsize"])]
    list: bool,
    /// Write printable ASCII as it is instead of everything as hex
    #[arg(short, long)]
    print: bool,
    /// Write to this file [default: stdout]
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Write the line mapsize=N (bytes): mdb_load stops at its default map size without it, db_load refuses it
    #[arg(long, value_name = "BYTES")]
    mapsize: Option<u64>,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    if out.is_json() && !args.list && args.file.is_none() {
        return Err(Error::Usage("a dump on stdout is no JSON: use scan --json, or dump to a file with -f".into()));
    }
    let db = open::for_reading(&args.dir, &args.open, out)?;
    if args.list {
        list(&db, out)?;
        return Ok(Outcome::Done);
    }
    let chosen = Chosen::of(args, &db)?;
    match &args.file {
        Some(path) => to_file(args, &chosen, path, out)?,
        None => {
            let progress = Progress::new(out, "dumping", Some(chosen.len()?));
            let write = DumpWriter::new(out.stream(), args.format(), args.mapsize);
            chosen.write(write, progress, &output::failed)?;
        }
    }
    Ok(Outcome::Done)
}

impl Args {
    fn format(&self) -> Format {
        if self.print { Format::Print } else { Format::ByteValue }
    }
}

fn list(db: &Database, out: &mut Output) -> Result<()> {
    for name in db.keyspaces()? {
        if out.is_json() {
            let entries = open::keyspace(db, &name)?.len()?;
            out.object(&json!({ "keyspace": name, "entries": entries }))?;
        } else {
            out.line(&name)?;
        }
    }
    Ok(())
}

fn to_file(args: &Args, chosen: &Chosen, path: &Path, out: &mut Output) -> Result<()> {
    let failed = |e| Error::file("writing", path, e);
    let file = File::create(path).map_err(failed)?;
    let progress = Progress::new(out, "dumping", Some(chosen.len()?));
    let writer = DumpWriter::new(BufWriter::with_capacity(256 << 10, file), args.format(), args.mapsize);
    let (entries, written) = chosen.write(writer, progress, &failed)?;
    let file = written.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    let keyspaces = chosen.keyspaces.len();
    if out.is_json() {
        return out.object(&json!({ "file": path.display().to_string(), "keyspaces": keyspaces, "entries": entries }));
    }
    let keyspaces = counted(keyspaces as u64, "keyspace", "keyspaces");
    out.line(format_args!("{keyspaces} with {} dumped to {}", counted(entries, "entry", "entries"), path.display()))
}

/// What is dumped.
struct Chosen {
    keyspaces: Vec<Keyspace>,
    /// Whether the dump tells their names.
    named: bool,
}

impl Chosen {
    fn of(args: &Args, db: &Database) -> Result<Chosen> {
        let names = match (&args.keyspace, args.all) {
            (_, true) => db.keyspaces()?,
            (Some(name), false) => vec![name.clone()],
            (None, false) => vec![DEFAULT_KEYSPACE.to_owned()],
        };
        let keyspaces = names.iter().map(|name| open::keyspace(db, name)).collect::<Result<Vec<_>>>()?;
        Ok(Chosen { keyspaces, named: args.all || args.keyspace.is_some() })
    }

    fn len(&self) -> Result<u64> {
        Ok(self.keyspaces.iter().map(Keyspace::len).sum::<ashlardb::Result<u64>>()?)
    }

    /// Writes them; gives the number of entries and the destination back. What an error leaves has no `DATA=END`.
    fn write<W: Write>(
        &self,
        mut writer: DumpWriter<W>,
        mut progress: Progress,
        failed: &dyn Fn(std::io::Error) -> Error,
    ) -> Result<(u64, W)> {
        let mut entries = 0;
        for keyspace in &self.keyspaces {
            writer.begin(self.named.then(|| keyspace.name())).map_err(failed)?;
            for entry in keyspace.iter() {
                let (key, value) = entry?;
                writer.entry(&key, &value).map_err(failed)?;
                entries += 1;
                progress.add(1);
            }
            writer.end().map_err(failed)?;
        }
        Ok((entries, writer.finish().map_err(failed)?))
    }
}
