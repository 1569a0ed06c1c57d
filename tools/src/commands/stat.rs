//! `ashlar stat`: sizes, keyspaces, use of space, the log, the cache; with `--pages`, pages by kind.

mod pages;

use super::wal;
use crate::bytes::to_hex;
use crate::cli::OpenArgs;
use crate::error::{Outcome, Result};
use crate::files::DatabaseFiles;
use crate::open;
use crate::output::{Output, remark};
use crate::units::{bytes, count, counted};
use ashlardb::{Database, Stats};
use pages::Pages;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const AFTER: &str = "Opens the database to read: beside other readers, not beside a writer. Writes nothing.

--pages reads every page of every tree, which takes its time: pages by kind (leaf, inner, overflow,
runs of large values, page map) and how full they are. Fill is bytes in use out of the pages' bytes,
headers not counted. It counts what readers see now, with the commits that only the log holds; nodes
of the page map are those of the last checkpoint.

How old the checkpoint is, is told in log: commits and bytes behind it. In hours nothing tells: it
bears no time, and the time of the file is that of the last write of any kind.";

/// Print sizes, keyspaces, use of space, and the state of log and cache
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    /// Read all trees: print pages by kind, and how full they are
    #[arg(long)]
    pages: bool,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let db = open::for_reading(&args.dir, &args.open, out)?;
    let files = DatabaseFiles::open(&args.dir, &args.open)?;
    let pages = if args.pages { Some(Pages::of(&db, out)?) } else { None };
    let state = State::of(&db, files, pages)?;
    if out.is_json() {
        out.object(&state.object(&args.dir))?;
    } else {
        state.lines(&args.dir).into_iter().try_for_each(|line| out.line(line))?;
    }
    Ok(Outcome::Done)
}

/// All that is shown.
struct State {
    files: DatabaseFiles,
    log: wal::Found,
    segments: (u64, u64),
    keyspaces: Vec<KeyspaceState>,
    pages: Option<Pages>,
    stats: Stats,
    key_len_max: usize,
    residue: Option<u64>,
}

/// A keyspace, in a line.
struct KeyspaceState {
    name: String,
    entries: u64,
    /// None where its root can't be read.
    height: Option<u32>,
}

impl KeyspaceState {
    fn of(db: &Database, name: String) -> Result<KeyspaceState> {
        let keyspace = open::keyspace(db, &name)?;
        // Damage to one tree is no reason to tell nothing of the rest.
        let height = keyspace.height().inspect_err(|e| remark(format_args!("the height of keyspace {name:?}: {e}"))).ok();
        Ok(KeyspaceState { entries: keyspace.len()?, name, height })
    }

    fn line(&self, pages: Option<&Pages>) -> String {
        let height = self.height.map_or_else(|| "unknown".into(), |height| height.to_string());
        let line = format!("{} {}, height {height}", counted(self.entries, "entry  ", "entries"), self.name);
        match pages.and_then(|pages| pages.of_keyspace(&self.name)) {
            Some(kinds) => format!("{line}: {kinds}"),
            None => line,
        }
    }

    fn object(&self, pages: Option<&Pages>) -> Value {
        let mut object = json!({ "name": self.name, "entries": self.entries, "height": self.height });
        if let Some(kinds) = pages.and_then(|pages| pages.object_of(&self.name)) {
            object["page_kinds"] = kinds;
        }
        object
    }
}

impl State {
    fn of(db: &Database, files: DatabaseFiles, pages: Option<Pages>) -> Result<State> {
        let names = db.keyspaces()?;
        Ok(State {
            log: wal::follow(&files, |_| Ok(()))?,
            segments: files.segments()?,
            keyspaces: names.into_iter().map(|name| KeyspaceState::of(db, name)).collect::<Result<_>>()?,
            pages,
            stats: db.stats(),
            key_len_max: db.key_len_max(),
            residue: db.page_cache_residue()?,
            files,
        })
    }

    fn entries(&self) -> u64 {
        self.keyspaces.iter().map(|keyspace| keyspace.entries).sum()
    }

    /// How far the log goes behind the checkpoint, in bytes.
    fn behind(&self) -> u64 {
        self.log.end.0.saturating_sub(self.files.superblock.replay_from)
    }

    fn lines(&self, dir: &Path) -> Vec<String> {
        let (s, space) = (&self.files.superblock, self.stats.space);
        let used = space.file.saturating_sub(space.free + space.waiting);
        let pool = &self.stats.pool;
        let mut lines = Vec::new();
        let mut line = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
        line("database", format!("{}, uuid {}", dir.display(), to_hex(&s.uuid)));
        line("units", format!("page {}, block {}, keys up to {} bytes", s.page_size, s.block_size.bytes(), self.key_len_max));
        line(
            "data",
            format!(
                "{}: {} in use, {} free, {} free after the next checkpoint, {}",
                bytes(self.files.data_len),
                bytes(used),
                bytes(space.free),
                bytes(space.waiting),
                counted(space.pages, "page", "pages")
            ),
        );
        let (segments, segment_bytes) = self.segments;
        line(
            "log",
            format!("{} in {}, {}", counted(segments, "segment", "segments"), self.files.wal_dir.display(), bytes(segment_bytes)),
        );
        let flushes = counted(self.log.flushes, "flush", "flushes");
        line(
            "",
            format!(
                "{flushes} from {} (C) to {}, {} without padding: {}",
                s.replay_from,
                self.log.end,
                bytes(self.log.used),
                self.log.why
            ),
        );
        let replay = counted(self.stats.replayed, "commit", "commits");
        let behind = bytes(self.behind());
        line(
            "checkpoint",
            format!("{}, of all commits up to {}; {replay} to replay behind it, {behind} of log", s.checkpoint, s.last_commit),
        );
        let closed = if s.clean { "closed since" } else { "not closed since, or in use" };
        line("opens", format!("{} for writing; {closed}", s.incarnation));
        let (frames, touched) = (pool.frames as u64 * pool.page_size as u64, pool.frames_used as u64 * pool.page_size as u64);
        line(
            "cache",
            format!(
                "{}, {} touched; {} read, {} evicted since the open",
                bytes(frames),
                bytes(touched),
                counted(self.stats.pages_read, "page", "pages"),
                count(pool.evictions)
            ),
        );
        let residue = self.residue.map_or_else(|| "this kernel can't tell".into(), |n| counted(n, "page", "pages"));
        line("page cache", format!("{residue} of data in the kernel's page cache"));
        line("queue", self.stats.queue.into());
        line("keyspaces", format!("{} with {}", count(self.keyspaces.len() as u64), counted(self.entries(), "entry", "entries")));
        for keyspace in &self.keyspaces {
            line("", keyspace.line(self.pages.as_ref()));
        }
        for (i, row) in self.pages.iter().flat_map(Pages::table).enumerate() {
            line(if i == 0 { "pages" } else { "" }, row);
        }
        lines
    }

    fn object(&self, dir: &Path) -> Value {
        let (s, space, pool) = (&self.files.superblock, self.stats.space, &self.stats.pool);
        let keyspaces: Vec<Value> = self.keyspaces.iter().map(|keyspace| keyspace.object(self.pages.as_ref())).collect();
        let mut object = json!({
            "directory": dir.display().to_string(),
            "uuid": to_hex(&s.uuid),
            "page_size": s.page_size,
            "block_size": s.block_size.bytes(),
            "key_len_max": self.key_len_max,
            "data_bytes": self.files.data_len,
            "free_bytes": space.free,
            "waiting_bytes": space.waiting,
            "pages": space.pages,
            "entries": self.entries(),
            "keyspaces": keyspaces,
            "checkpoint": {
                "number": s.checkpoint,
                "last_commit": s.last_commit,
                "replayed": self.stats.replayed,
                "log_bytes_behind": self.behind(),
            },
            "opens_for_writing": s.incarnation,
            "log": {
                "directory": self.files.wal_dir.display().to_string(),
                "segment_size": s.segment_size,
                "segments": self.segments.0,
                "start": s.replay_from,
                "end": self.log.end.0,
                "flushes": self.log.flushes,
                "bytes": self.log.used,
                "why_ended": self.log.why,
            },
            "cache": {
                "frames": pool.frames,
                "frames_used": pool.frames_used,
                "loads": pool.loads,
                "prefetches": pool.prefetches,
                "evictions": pool.evictions,
            },
            "page_cache_residue_pages": self.residue,
            "queue": self.stats.queue,
        });
        if let Some(pages) = &self.pages {
            object["page_kinds"] = pages.object();
        }
        object
    }
}
