//! Salvage: whatever can be read of a damaged database, brought over into a new one, with a report of what can't.
//!
//! 1. *What is known*: the superblock, or the sizes alone (`geometry`); the page map, as far as it can be read (`map`).
//! 2. *The log* (`log`): what its whole records say, sorted by tree and key.
//! 3. *The leaves* (`find`): through the map, or by looking at every block; sorted by tree and key as well (`leaf`, `sorter`).
//! 4. *The catalog* (`names`): which trees are keyspaces.
//! 5. *Each keyspace* (`rebuild`): for each stretch of keys the newest leaf that covers it (`sweep`), its entries, their values
//!    (`values`), and on top what the log says of those keys (`resolve`); into the new database (`writer`) in the order of keys.
//! 6. *The report* (`report`, `verdict`).
//!
//! Invariants:
//! 1. Nothing is written to the damaged database. It is locked as for a read-only open, so nobody changes it meanwhile.
//! 2. Nothing is brought over that was not whole: each page by its checksum, its id and the order of its keys, each value by all
//!    of its pages or runs, each commit by all of its flushes.
//! 3. What is brought over is the last state that was confirmed, or the report says where it may not be.
//! 4. No content of any file panics or is an error: errors are those of the new database, and of the damaged one's being no database,
//!    locked, of an unknown format, or nothing at all.
//! 5. Memory grows with the data by 24 bytes a page that the map names, or 40 bytes an overflow page that was found; what is larger is
//!    sorted in files.

mod find;
mod geometry;
mod leaf;
mod log;
mod map;
mod names;
mod pages;
mod rebuild;
mod report;
mod resolve;
mod sorter;
mod sweep;
mod values;
mod verdict;
mod writer;

pub use report::{
    Event, Evidence, FINDINGS_MAX, Finding, FindingKind, KeyspaceReport, LogReport, Progress, Report, Stage, SuperblockState,
};

use crate::btree::LonePage;
use crate::catalog::{CATALOG_TREE, FIRST_TREE};
use crate::error::{Error, Result};
use crate::options::{Create, Options};
use crate::recovery::{DATA, LOCK, file_system, wal_dir};
use crate::stranded::Pieces;
use ashlar_disk::rescue::RescueReader;
use ashlar_disk::{Access, BlockSize, Fs, IoMode, Lock, LockMode, OpenHow};
use find::{Admit, Found};
use geometry::Geometry;
use log::{Logged, Reading};
use map::FoundMap;
use names::{Fate, Names};
use pages::Blocks;
use rebuild::{Plan, Rebuild};
use report::Teller;
use resolve::is_newer;
use sorter::{Scratch, Sorted};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sweep::Sweep;
use values::Places;
use writer::Writer;

/// How to salvage a database; see [`Salvage::run`].
#[derive(Clone, Debug, Default)]
pub struct Salvage {
    options: Options,
    page_size: Option<usize>,
    damaged_wal_dir: Option<PathBuf>,
    past_gaps: bool,
    sort_memory: Option<usize>,
}

impl Salvage {
    /// With these options for the new database; I/O mode and network file systems are those of the damaged one, too. The sizes of page
    /// and block are the damaged database's.
    pub fn new(options: Options) -> Salvage {
        Salvage { options, ..Salvage::default() }
    }

    /// Bytes of the damaged database's pages, where neither a superblock nor a page is left that says so.
    pub fn page_size(mut self, bytes: usize) -> Salvage {
        self.page_size = Some(bytes);
        self
    }

    /// Where the damaged database's log is, if it is not where its superblock, or without one the default, says.
    pub fn damaged_wal_dir(mut self, dir: impl Into<PathBuf>) -> Salvage {
        self.damaged_wal_dir = Some(dir.into());
        self
    }

    /// Whether commits behind a gap in the log are applied to a checkpoint. Default: no, so that the result is a state that was there,
    /// each transaction whole. With them more, and newer, values come back; but what the commits in the gap have done is missing.
    pub fn past_gaps(mut self, apply: bool) -> Salvage {
        self.past_gaps = apply;
        self
    }

    /// Bytes in memory of what is sorted: for tests of what happens with more.
    #[doc(hidden)]
    pub fn sort_memory(mut self, bytes: usize) -> Salvage {
        self.sort_memory = Some(bytes);
        self
    }

    /// Reads the damaged database in directory `from` and makes a new one in directory `into`, which must not be there or be empty.
    ///
    /// # Errors
    /// [`Error::NotADatabase`]: `from` has no file `data`, or nothing in it tells the size of a page; [`Error::Locked`];
    /// [`Error::UnknownFormat`]; [`Error::AlreadyExists`]: something is in `into`; errors of writing there, after which the new
    /// database is not finished (a keyspace "salvage is not finished" says so) and should be removed. Damage is no error.
    pub fn run(&self, from: impl AsRef<Path>, into: impl AsRef<Path>) -> Result<Report> {
        self.run_with(from, into, |_| {})
    }

    /// As [`Salvage::run`], and tells `told` how far it is, and each finding when it is made.
    ///
    /// # Errors
    /// As [`Salvage::run`].
    pub fn run_with(&self, from: impl AsRef<Path>, into: impl AsRef<Path>, mut told: impl FnMut(Event<'_>)) -> Result<Report> {
        let (from, into) = (from.as_ref(), into.as_ref());
        let fs = file_system(&self.options)?;
        check_free(&*fs, into)?;
        let (reader, _lock) = self.open(&*fs, from)?;
        let mut teller = Teller::new(&mut told);
        let geometry = Geometry::of(&reader, self.page_size, &mut teller)?;
        teller.report.superblock = geometry.state;
        teller.report.page_size = geometry.page_size;
        teller.report.block_size = geometry.block.bytes();
        teller.report.data_bytes = reader.whole_len() + reader.tail_len();
        let blocks = Blocks::new(reader, geometry.block, geometry.page_size);
        let options = self.new_options(&geometry);
        let db = options.clone().open(into)?;
        let block = db.block_size();
        let scratch = Scratch::new(&fs, into, options.io_mode, block).memory(self.sort_memory);
        let mut run = Run { salvage: self, fs: &fs, from, geometry, blocks, scratch, teller };
        let evidence = run.gather()?;
        run.build(evidence, db)?;
        Ok(run.teller.report)
    }

    fn new_options(&self, geometry: &Geometry) -> Options {
        let options = self.options.clone().read_only(false).create(Create::Always);
        let options = options.page_size(geometry.page_size).block_size(geometry.block.bytes());
        match &geometry.superblock {
            Some(superblock) if self.options.log_limit.is_none() => options.segment_size(superblock.segment_size),
            _ => options,
        }
    }

    /// Opens the damaged database's `data`, under the lock of a reader.
    fn open(&self, fs: &dyn Fs, from: &Path) -> Result<(RescueReader, Box<dyn Lock>)> {
        let path = from.join(DATA);
        if !fs.exists(&path)? {
            let reason = if fs.exists(from)? { "there is no file \"data\" in it" } else { "it does not exist" };
            return Err(Error::NotADatabase { path: from.to_owned(), reason: reason.into() });
        }
        let lock = fs.lock(&from.join(LOCK), LockMode::Shared)?;
        let how = |mode| OpenHow { access: Access::Read, create: ashlar_disk::Create::Never, mode, block: BlockSize::MIN };
        // Direct I/O is tried with the first block, which may be one that can't be read; and the device may be another one than the
        // database was made on, with larger blocks.
        let opened = match fs.open(&path, &how(self.options.io_mode)) {
            Err(error @ (ashlar_disk::Error::Io { .. } | ashlar_disk::Error::Alignment { .. })) => {
                tracing::warn!(%error, "the data file is read through the page cache");
                fs.open(&path, &how(IoMode::Buffered))
            }
            opened => opened,
        };
        Ok((RescueReader::new(opened?, BlockSize::MIN.bytes())?, lock))
    }
}

/// Whether the new database may be made there.
fn check_free(fs: &dyn Fs, into: &Path) -> Result<()> {
    if !fs.exists(into)? || fs.list(into)?.is_empty() {
        return Ok(());
    }
    if fs.exists(&into.join(DATA))? {
        return Err(Error::AlreadyExists { path: into.to_owned() });
    }
    Err(Error::NotADatabase {
        path: into.to_owned(),
        reason: "it is not empty: the new database needs a directory of its own".into(),
    })
}

/// What was found of the damaged database.
struct Gathered {
    found: Found,
    logged: Logged,
    places: Places,
    over_checkpoint: bool,
}

/// One salvage.
struct Run<'a, 't> {
    salvage: &'a Salvage,
    fs: &'a Arc<dyn Fs>,
    from: &'a Path,
    geometry: Geometry,
    blocks: Blocks,
    scratch: Scratch,
    teller: Teller<'t>,
}

impl Run<'_, '_> {
    /// Steps 1 to 3.
    fn gather(&mut self) -> Result<Gathered> {
        let mut found = Found::new(&self.scratch);
        let map = self.geometry.superblock.as_ref().map(|s| FoundMap::read(&mut self.blocks, s, &mut self.teller));
        let mut over_checkpoint = self.geometry.state != SuperblockState::Lost;
        if let Some(map) = &map {
            found.add_named(&mut self.blocks, &map.by_place(), &mut self.teller)?;
            // Whether the superblock is the newest is not certain: it is as good if all that it names is still its own, and the log leads
            // on from it.
            if self.geometry.state == SuperblockState::MaybeOlder {
                over_checkpoint = map.is_whole() && !map.reused && !found.reused && self.read_log(true).is_sound(&self.geometry);
            }
        }
        let logged = self.read_log(over_checkpoint).read(&self.geometry, &self.blocks, &self.scratch, &mut self.teller)?;
        let admit = Admit { lsn_max: None, turns: logged.turns.clone() };
        let superblock = self.geometry.superblock.as_ref();
        match (&map, superblock) {
            (Some(map), Some(superblock)) if over_checkpoint => {
                let loaded: Vec<_> = logged.loaded.iter().map(|&(page, at)| (at, page)).collect();
                found.add_named(&mut self.blocks, &loaded, &mut self.teller)?;
                self.teller.report.checkpoint = Some(superblock.checkpoint);
                self.teller.report.checkpoint_lsn = Some(superblock.last_commit);
                if !map.is_whole() {
                    let admit = Admit { lsn_max: Some(superblock.last_commit), ..admit };
                    found.scan(&mut self.blocks, Some(map), &admit, &self.scratch, &mut self.teller)?;
                    self.teller.report.evidence = Evidence::MapInPart;
                }
            }
            _ => {
                found = Found::new(&self.scratch);
                found.scan(&mut self.blocks, None, &admit, &self.scratch, &mut self.teller)?;
                self.teller.report.evidence = Evidence::Scan;
            }
        }
        let places = Places { map, logged: logged.placed.clone(), overflow: std::mem::take(&mut found.overflow) };
        Ok(Gathered { found, logged, places, over_checkpoint })
    }

    fn read_log(&self, over_checkpoint: bool) -> Reading {
        let named = self.geometry.superblock.as_ref().map_or("", |superblock| &superblock.wal_dir);
        let dir = self.salvage.damaged_wal_dir.clone().unwrap_or_else(|| wal_dir(self.from, named));
        let Options { io_mode, .. } = self.salvage.options;
        Reading { fs: self.fs.clone(), dir, mode: io_mode, over_checkpoint, past_gaps: self.salvage.past_gaps }
    }

    /// Steps 4 and 5.
    fn build(&mut self, gathered: Gathered, db: crate::Database) -> Result<()> {
        let Gathered { mut found, mut logged, places, over_checkpoint } = gathered;
        self.doubts(&logged, over_checkpoint);
        let leaves = std::mem::replace(&mut found.leaves, self.scratch.sorter("none"));
        let mut leaves = leaves.sorted()?;
        let mut names = self.names(&mut leaves, &logged, over_checkpoint)?;
        self.stranded(std::mem::take(&mut names.stranded), &mut logged)?;
        let mut points = logged.points.sorted()?;
        let mut writer = Writer::new(db, |name| names.has(name))?;
        let mut rebuild = Rebuild {
            blocks: &mut self.blocks,
            places: &places,
            found: &mut found,
            leaves: &mut leaves,
            points: &mut points,
            writer: &mut writer,
            teller: &mut self.teller,
            over_checkpoint,
        };
        let mut named = names.trees();
        while let Some(tree) = next_tree(&rebuild, &named) {
            named.remove(&tree);
            let (name, made_up, len) = match names.fate(tree, over_checkpoint) {
                Fate::Keyspace(name, len) => (name, false, len),
                Fate::Unknown if tree >= FIRST_TREE => (made_up_name(tree, &names), true, None),
                Fate::Unknown | Fate::Gone => {
                    rebuild.pass_over(tree)?;
                    continue;
                }
            };
            let ranges = logged.ranges.get(&tree).map_or(&[][..], Vec::as_slice);
            let is_made = names.is_made(tree) && (over_checkpoint || rebuild.teller.report.log.gaps == 0);
            rebuild.keyspace(&Plan { name: &name, made_up, tree, len, is_made, ranges })?;
        }
        self.suspects(&found, &names, over_checkpoint);
        self.blocks.tell(&mut self.teller);
        writer.finish()
    }

    /// Writes that the catalog has beside their trees: as if the log had them, before all that it has beyond the checkpoint.
    fn stranded(&mut self, pieces: Pieces, logged: &mut Logged) -> Result<()> {
        for write in pieces.writes() {
            match write {
                Ok(write) => logged.add_stranded(&write)?,
                Err(e) => {
                    let finding = Finding::new(FindingKind::Value, e.to_string());
                    self.teller.find(Finding { tree: Some(CATALOG_TREE.0), ..finding });
                }
            }
        }
        Ok(())
    }

    /// The catalog, from its leaves, and what the log says on top.
    fn names(&mut self, leaves: &mut Sorted, logged: &Logged, over_checkpoint: bool) -> Result<Names> {
        let mut names = Names::new(crate::btree::limits(self.geometry.page_size).key_max);
        while leaves.peek().is_some_and(|item| item.number < CATALOG_TREE.0) {
            leaves.next()?;
        }
        let is_new = self.geometry.superblock.as_ref().is_some_and(|superblock| superblock.map_root.is_none());
        let mut sweep = Sweep::over(CATALOG_TREE.0);
        while let Some(stretch) = sweep.next(leaves)? {
            let page = stretch.leaf.as_ref().and_then(|leaf| Some((leaf.age, self.blocks.page_at(leaf.place).ok()?)));
            let node = page.as_ref().and_then(|(age, page)| Some((*age, LonePage::open(page).ok()?)));
            match (node, &stretch.leaf) {
                (Some((age, node)), _) => {
                    // An image that no map names may not be the catalog's newest.
                    names.is_incomplete |= !age.named;
                    names.add(&node, &stretch.from, stretch.to.as_deref(), age);
                }
                (None, Some(_)) => sweep.without(stretch),
                // Before its first checkpoint a database has no catalog.
                (None, None) if is_new && self.teller.report.evidence == Evidence::Map => {}
                (None, None) => {
                    names.is_incomplete = true;
                    let what = "no whole leaf of the catalog covers these entries: names of keyspaces are lost";
                    let finding = Finding::new(FindingKind::Range, what);
                    let range = Some((stretch.from, stretch.to));
                    self.teller.find(Finding { tree: Some(CATALOG_TREE.0), range, ..finding });
                }
            }
        }
        names.apply(&logged.whole, |age, moment| is_newer(over_checkpoint, age, moment));
        for fault in std::mem::take(&mut names.faults) {
            names.is_incomplete = true;
            self.teller.find(Finding { tree: Some(CATALOG_TREE.0), ..Finding::new(FindingKind::Keyspace, fault) });
        }
        Ok(names)
    }
}

/// The tree that comes next: of the leaves, of the log, or of the keyspaces.
fn next_tree(rebuild: &Rebuild<'_, '_>, named: &std::collections::BTreeSet<u64>) -> Option<u64> {
    let leaf = rebuild.leaves.peek().map(|item| item.number);
    let logged = rebuild.points.peek().map(|item| item.number);
    [leaf, logged, named.first().copied()].into_iter().flatten().min()
}

/// A name for a tree that has none.
fn made_up_name(tree: u64, names: &Names) -> String {
    let mut name = format!("lost+found-tree-{tree}");
    while names.has(&name) {
        name.push('!');
    }
    name
}
