//! `ashlar stat`: sizes, keyspaces, use of space, the log, the cache.

use super::wal;
use crate::bytes::to_hex;
use crate::cli::OpenArgs;
use crate::error::{Outcome, Result};
use crate::files::DatabaseFiles;
use crate::open;
use crate::output::Output;
use crate::units::{bytes, count, counted};
use ashlardb::{Database, Stats};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Print sizes, keyspaces, use of space, and the state of log and cache
#[derive(clap::Args, Debug)]
#[command(after_help = "Opens the database to read: beside other readers, not beside a writer. Writes nothing.")]
pub(crate) struct Args {
    /// The database's directory
    dir: PathBuf,
    #[command(flatten)]
    open: OpenArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let db = open::for_reading(&args.dir, &args.open, out)?;
    let files = DatabaseFiles::open(&args.dir, &args.open)?;
    let state = State::of(&db, files)?;
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
    keyspaces: Vec<(String, u64)>,
    stats: Stats,
    key_len_max: usize,
    residue: Option<u64>,
}

impl State {
    fn of(db: &Database, files: DatabaseFiles) -> Result<State> {
        let names = db.keyspaces()?;
        let with_len = |name: String| open::keyspace(db, &name).and_then(|keyspace| Ok((name, keyspace.len()?)));
        Ok(State {
            log: wal::follow(&files, |_| Ok(()))?,
            segments: files.segments()?,
            keyspaces: names.into_iter().map(with_len).collect::<Result<_>>()?,
            stats: db.stats(),
            key_len_max: db.key_len_max(),
            residue: db.page_cache_residue()?,
            files,
        })
    }

    fn entries(&self) -> u64 {
        self.keyspaces.iter().map(|(_, entries)| entries).sum()
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
                "{}: {} in use, {} free, {} pages",
                bytes(self.files.data_len),
                bytes(used),
                bytes(space.free),
                count(space.pages)
            ),
        );
        let (segments, segment_bytes) = self.segments;
        line(
            "log",
            format!("{} in {}, {}", counted(segments, "segment", "segments"), self.files.wal_dir.display(), bytes(segment_bytes)),
        );
        line("", format!("from {} (C) to {}: {}", s.replay_from, self.log.end, self.log.why));
        let replay = counted(self.stats.replayed, "commit", "commits");
        line("checkpoint", format!("{}, of all commits up to {}; {replay} to replay behind it", s.checkpoint, s.last_commit));
        line("opens", format!("{} for writing", s.incarnation));
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
        for (name, entries) in &self.keyspaces {
            line("", format!("{} {name}", counted(*entries, "entry  ", "entries")));
        }
        lines
    }

    fn object(&self, dir: &Path) -> Value {
        let (s, space, pool) = (&self.files.superblock, self.stats.space, &self.stats.pool);
        let keyspaces: Vec<Value> =
            self.keyspaces.iter().map(|(name, entries)| json!({ "name": name, "entries": entries })).collect();
        json!({
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
            "checkpoint": { "number": s.checkpoint, "last_commit": s.last_commit, "replayed": self.stats.replayed },
            "opens_for_writing": s.incarnation,
            "log": {
                "directory": self.files.wal_dir.display().to_string(),
                "segment_size": s.segment_size,
                "segments": self.segments.0,
                "start": s.replay_from,
                "end": self.log.end.0,
                "flushes": self.log.flushes,
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
        })
    }
}
