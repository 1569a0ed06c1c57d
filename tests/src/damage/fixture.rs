//! Small databases with one of everything that a database can hold, made in memory and left behind closed, or as a killed process leaves
//! them.

use super::layout::{self, Kind, Piece, Superblock};
use super::log::Log;
use crate::images::{Block, ImageFs, Images};
use crate::state::{Bytes, State};
use crate::workload::value;
use ashlar_disk::Fs;
use ashlardb::{Background, Database, Durability, Keyspace, Options, QueueKind, probe};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The database's directory.
pub const DIR: &str = "/db";

/// How a database was left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Form {
    /// Closed: everything is in the checkpoint.
    Closed,
    /// By a kill: commits stand in the log, which nobody has replayed; nothing vouches for its last flush.
    Crashed,
}

/// A database that is whole, and all that is known of it.
pub struct Fixture {
    /// How it was left.
    pub form: Form,
    /// Its files.
    pub images: Images,
    /// What it holds after each commit, by the commit's LSN; the last is what it holds.
    pub states: Vec<(u64, State)>,
    /// The newest superblock.
    pub superblock: Superblock,
    /// Everything in `data` that is in use.
    pub pieces: Vec<Piece>,
    /// The log from C on.
    pub log: Log,
    /// What stood in blocks of each file before they were written, oldest first.
    pub history: BTreeMap<PathBuf, Vec<(u64, Block)>>,
}

/// The file of pages.
pub fn data() -> PathBuf {
    Path::new(DIR).join("data")
}

/// The options by which these databases are opened.
pub fn options(fs: Arc<dyn Fs>) -> Options {
    Database::options()
        .page_size(4096)
        .block_size(4096)
        .cache_size(128 * 4096)
        .slots_max(6)
        .segment_size(64 << 10)
        .log_limit(160 << 10)
        .grow_step(128 << 10)
        .blob_threshold(8192)
        .queue_kind(QueueKind::Threads)
        .background(Background::Manual)
        .file_system(fs)
}

struct Maker {
    db: Database,
    state: State,
    states: Vec<(u64, State)>,
    tag: u64,
    /// Blobs that only the log names.
    logged: Vec<Bytes>,
}

type Made = Result<(), ashlardb::Error>;

impl Maker {
    fn keyspace(&mut self, name: &str) -> Result<Keyspace, ashlardb::Error> {
        let keyspace = self.db.keyspace(name)?;
        self.state.entry(name.into()).or_default();
        self.note();
        Ok(keyspace)
    }

    /// The thread's last commit has made the state what it is.
    fn note(&mut self) {
        if let Some(lsn) = probe::take_lsn() {
            self.states.push((lsn, self.state.clone()));
        }
    }

    fn put_with(&mut self, name: &str, key: &[u8], len: usize, durability: Durability) -> Result<Bytes, ashlardb::Error> {
        self.tag += 1;
        let bytes = value(self.tag, len);
        self.keyspace(name)?.insert_with(key, &bytes, durability)?;
        self.state.entry(name.into()).or_default().insert(key.to_vec(), bytes.clone());
        self.note();
        Ok(bytes)
    }

    fn put(&mut self, name: &str, key: &[u8], len: usize) -> Result<Bytes, ashlardb::Error> {
        self.put_with(name, key, len, Durability::Immediate)
    }

    fn remove(&mut self, name: &str, key: &[u8]) -> Made {
        self.keyspace(name)?.remove(key)?;
        self.state.entry(name.into()).or_default().remove(key);
        self.note();
        Ok(())
    }

    fn drop_keyspace(&mut self, name: &str) -> Made {
        self.db.drop_keyspace(name)?;
        self.state.remove(name);
        self.note();
        Ok(())
    }

    /// So many page ids that the map has two levels; those of the other pages lie in its second leaf, and later ones in its first.
    fn use_up_ids(&mut self) -> Made {
        let keyspace = self.keyspace("filler")?;
        for n in 0..260u32 {
            keyspace.insert_with(n.to_be_bytes(), value(u64::from(n), 8000), Durability::Eventual)?;
            self.db.maintain()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> Made {
        for n in 0..10u8 {
            self.put("gone", &[n], 60)?;
        }
        self.put("gone", b"overflow", 5000)?;
        self.put("gone", b"blob", 20_000)?;
        self.put("inline", b"", 30)?;
        for n in 0..18u32 {
            self.put("inline", format!("key {:03}", n * 7 % 100).as_bytes(), 10 * n as usize)?;
        }
        let longest = vec![b'k'; self.db.key_len_max()];
        self.put("inline", &longest, 20)?;
        for (n, len) in [1500, 5000, 8000].into_iter().enumerate() {
            self.put("overflow", &[n as u8], len)?;
        }
        // Runs of 16 blocks and of one; one run of 3.
        self.put("blobs", b"two runs", 17 * 4096 - 3)?;
        self.put("blobs", b"one run", 9000)?;
        Ok(())
    }

    /// A list of runs that does not fit beside its key: nine runs, 16 MiB less a block.
    fn fill_long(&mut self) -> Made {
        let longest = vec![b'l'; self.db.key_len_max()];
        self.put("long", &longest, 4095 * 4096 - 100)?;
        Ok(())
    }

    /// What the last checkpoint has not.
    fn log(&mut self) -> Made {
        for n in 0..6u32 {
            self.put("inline", format!("key {:03}", n * 16).as_bytes(), 40)?;
        }
        self.remove("inline", b"key 007")?;
        self.put("overflow", &[1], 7000)?;
        let blob = self.put("blobs", b"logged", 5 * 4096)?;
        self.logged.push(blob);
        self.load()?;
        self.put("new", b"first", 100)?;
        // A record of several blocks.
        let mut batch = self.db.batch();
        let keyspace = self.keyspace("new")?;
        for n in 0..4u8 {
            self.tag += 1;
            let bytes = value(self.tag, 3000);
            batch.insert(&keyspace, [n], &bytes)?;
            self.state.entry("new".into()).or_default().insert(vec![n], bytes);
        }
        batch.commit()?;
        self.note();
        // One flush for several commits, and nothing behind it.
        for n in 0..3u8 {
            self.put_with("inline", &[b'z', n], 50, Durability::Eventual)?;
        }
        self.db.flush()
    }

    fn load(&mut self) -> Made {
        let keyspace = self.keyspace("loaded")?;
        let mut entries: Vec<(Vec<u8>, Bytes)> = (0..14u8).map(|n| (vec![n], value(9000 + u64::from(n), 25))).collect();
        entries.push((vec![20], value(9020, 6000)));
        entries.push((vec![21], value(9021, 3 * 4096)));
        self.logged.push(entries[15].1.clone());
        let _loaded: u64 = keyspace.bulk_load(entries.iter().map(|(k, v)| Ok::<_, ashlardb::Error>((k, v))))?;
        self.state.entry("loaded".into()).or_default().extend(entries);
        self.note();
        Ok(())
    }
}

impl Fixture {
    /// A database left in that form; `long`: with a blob whose list of runs has pages of its own, which makes it 16 MiB larger.
    ///
    /// # Errors
    /// What the database gives.
    pub fn make(form: Form, long: bool) -> Result<Fixture, ashlardb::Error> {
        let fs = ImageFs::empty();
        let db = options(fs.clone()).open(DIR)?;
        fs.keep_history(&data());
        probe::take_lsn();
        let mut maker = Maker { db, state: State::new(), states: Vec::new(), tag: 100, logged: Vec::new() };
        maker.use_up_ids()?;
        maker.fill()?;
        if long {
            maker.fill_long()?;
        }
        maker.drop_keyspace("filler")?;
        while maker.db.maintain()? {}
        maker.db.compact()?;
        maker.drop_keyspace("gone")?;
        for path in fs.snapshot().paths().filter(|path| **path != data()) {
            fs.keep_history(path);
        }
        maker.db.checkpoint()?;
        let checkpointed = maker.states.len() - 1;
        let images = match form {
            Form::Closed => {
                maker.db.clone().close()?;
                fs.snapshot()
            }
            Form::Crashed => {
                maker.log()?;
                fs.snapshot()
            }
        };
        let Maker { states, logged, .. } = maker;
        Ok(Fixture::of(form, images, &fs, states[checkpointed..].to_vec(), &logged))
    }

    fn of(form: Form, images: Images, fs: &ImageFs, states: Vec<(u64, State)>, logged: &[Bytes]) -> Fixture {
        let blocks = images.blocks(&data());
        let superblock = layout::superblock(blocks);
        let mut pieces = layout::pieces(blocks);
        if form == Form::Crashed {
            let found = logged_pieces(blocks, &pieces, logged);
            pieces.extend(found);
        }
        let log = Log::read(&images, &Path::new(DIR).join("wal"), &superblock);
        let history = images.paths().map(|path| (path.clone(), fs.history(path))).collect();
        Fixture { form, superblock, pieces, log, history, images, states }
    }

    /// What it holds.
    pub fn state(&self) -> &State {
        &self.states[self.states.len() - 1].1
    }

    /// What it holds where its log ends at that position.
    pub fn state_at(&self, lsn: u64) -> &State {
        let newest = self.states.iter().rev().find(|(at, _)| *at <= lsn);
        &newest.unwrap_or(&self.states[0]).1
    }
}

/// Runs and pages that only the log names: by the values' bytes, and by the LSN 0 that loaded pages bear.
fn logged_pieces(data: &[Block], pieces: &[Piece], blobs: &[Bytes]) -> Vec<Piece> {
    let is_used = |block: u64| pieces.iter().any(|p| (p.block..p.block + p.blocks).contains(&block));
    let piece = |block, blocks, page| Piece { kind: Kind::Logged, block, blocks, page, keyspace: None };
    let mut found = Vec::new();
    for blob in blobs {
        let block =
            (0..data.len()).find(|&b| data[b][..] == blob[..4096]).unwrap_or_else(|| panic!("a blob's bytes stand in data"));
        found.push(piece(block as u64, blob.len().div_ceil(4096) as u64, None));
    }
    for (block, bytes) in data.iter().enumerate().skip(layout::FIRST_BLOCK as usize) {
        let Some((kind, page)) = layout::image(&bytes[..]) else { continue };
        if kind != 4 && layout::lsn_and_tree(&bytes[..]).0 == 0 && !is_used(block as u64) {
            found.push(piece(block as u64, 1, Some(page)));
        }
    }
    found
}
