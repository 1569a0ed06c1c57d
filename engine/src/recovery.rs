//! Opening a database: made, or found and brought back to what was committed.
//!
//! 1. The lock. `data`, every log segment and both directories are synced before they are read: what a killed process wrote may
//!    still be only in the device's cache, and is about to be built upon.
//! 2. The superblock is chosen and checked.
//! 3. The page map is read; the log's valid end is found, or told by the clean mark ([`clean`](crate::clean)).
//! 4. For writing: a superblock of our own is written, incarnation raised, before anything else.
//! 5. What valid records beyond A name (blobs) is marked used before anything is allocated. The commits beyond A are applied, from C on,
//!    in windows that fit memory, leaf by leaf, or wait to be once the database is open ([`replay`]). Writes of keys whose leaves can't be
//!    read are stranded ([`strand`](crate::commit::strand)); any other page that can't be read ends the open with that page's error, and
//!    nothing that a later open needs has been changed.
//! 6. Open for business.
//!
//! Invariant: recovery interrupted at any point, any number of times, ends in the same state. Until its first checkpoint is durable
//! it overwrites nothing that the last one or the log refers to.

mod by_leaf;
mod create;
mod handover;
mod log;
mod part;
mod replay;
mod window;

use crate::background::BackgroundState;
use crate::blob;
use crate::btree::{LeafCopy, Seek, Tree};
use crate::catalog::{self, CATALOG_TREE, Entry, FIRST_TREE};
use crate::checkpoint::{CheckpointState, log_limit, postponed_limit};
use crate::commit::apply::{Applier, Names, new_tree};
use crate::commit::strand::Stranded;
use crate::commit::visibility::Visibility;
use crate::commit::{Order, Waiting};
use crate::database::Shared;
use crate::error::{Corruption, Error, Result};
use crate::fault::Fault;
use crate::health::Health;
use crate::options::{Create, Options};
use crate::pages::{self, EnginePool};
use crate::postponed::Postponed;
use crate::store::superblock::{self, Chosen, Superblock, Superblocks};
use crate::store::{Store, StoreParts};
use crate::stranded::Pieces;
use crate::versions::{self, Versions};
use ashlar_bufferpool::{PageId, Pool, PoolError, PoolOptions};
use ashlar_disk::fork_guard::Owner;
use ashlar_disk::real::{RealFs, RealOptions};
use ashlar_disk::sync::Mutex;
use ashlar_disk::{Access, BLOCK_SIZE_MIN, BlockSize, File, Fs, LockMode, OpenHow, Queue, Spares, SyncKind, SyncOnce};
use ashlar_wal::Wal;
use log::LogFiles;
pub(crate) use log::{log_start, scan_log, wal_dir, wal_error, wal_options};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The file that makes a directory a database.
pub(crate) const DATA: &str = "data";
/// The lock file.
pub(crate) const LOCK: &str = "LOCK";

/// The files of a database that is being opened.
struct Files {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    data: Arc<dyn File>,
}

/// Opens or makes the database in `dir`.
pub(crate) fn open(dir: &Path, options: Options) -> Result<Shared> {
    let owner = Owner::this_process()?;
    let fs = file_system(&options)?;
    create::make_directory(&fs, dir, &options)?;
    let there = fs.exists(&dir.join(DATA))?;
    if !there {
        create::check_directory(&fs, dir, &options)?;
    }
    let mode = if options.read_only { LockMode::Shared } else { LockMode::Exclusive };
    let lock = fs.lock(&dir.join(LOCK), mode)?;
    // Another opener may have made it between the first look and the lock.
    match fs.exists(&dir.join(DATA))? {
        true if options.create == Create::Always => return Err(Error::AlreadyExists { path: dir.to_owned() }),
        true => {}
        false => create::create(&fs, dir, &options)?,
    }
    let data = open_data(&fs, dir, &options)?;
    let files = Files { fs, dir: dir.to_owned(), data };
    open_files(files, owner, lock, options)
}

pub(crate) fn file_system(options: &Options) -> Result<Arc<dyn Fs>> {
    match &options.file_system {
        Some(fs) => Ok(fs.clone()),
        None => {
            let real = RealOptions {
                allow_network_fs: options.allow_network_fs,
                sync_method: options.sync_method,
                ..RealOptions::default()
            };
            Ok(RealFs::new(real)?)
        }
    }
}

/// Opens `data` by the smallest unit its device takes; the database's own block is in the superblock.
fn open_data(fs: &Arc<dyn Fs>, dir: &Path, options: &Options) -> Result<Arc<dyn File>> {
    let access = if options.read_only { Access::Read } else { Access::ReadWrite };
    let how = |block| OpenHow { access, create: ashlar_disk::Create::Never, mode: options.io_mode, block };
    match fs.open(&dir.join(DATA), &how(BlockSize::MIN)) {
        Err(ashlar_disk::Error::Alignment { needed, .. }) if needed > BLOCK_SIZE_MIN => {
            let block = BlockSize::new(needed).unwrap_or(BlockSize::MIN);
            Ok(fs.open(&dir.join(DATA), &how(block))?)
        }
        outcome => Ok(outcome?),
    }
}

fn open_files(files: Files, owner: Owner, lock: Box<dyn ashlar_disk::Lock>, options: Options) -> Result<Shared> {
    if !options.read_only {
        files.data.sync(SyncKind::All)?;
        files.fs.sync_dir(&files.dir)?;
    }
    let chosen = superblock::choose(&superblock::read_copies(&*files.data, BlockSize::MIN))?;
    for damage in &chosen.damaged {
        tracing::warn!(%damage, "a copy of the superblock is bad; the other one of its slot is whole");
    }
    let files = reopen_by_block(files, &chosen.superblock, &options)?;
    let log = LogFiles::new(&files, &chosen.superblock, &options);
    if !options.read_only {
        log.sync(&files.fs)?;
    }
    let queue = files.fs.queue(options.queue_kind, options.queue_depth)?;
    let own = own_fields(&chosen.superblock, &options);
    let store = open_store(&files, queue.clone(), &own, &options)?;
    let pool = open_pool(&files, store, &options)?;
    let (scan, mut gathered) = log.read(&files.fs, queue, &chosen.superblock, &options, &pool)?;
    let (superblock, superblocks) = own_superblock(&files, &chosen, own, &options)?;
    pool.store().reserve_logged(&gathered.placed())?;
    let log = match &superblocks {
        Some(_) => Some(Wal::open(&files.fs, &log.dir, log.options, scan.tail(), superblock.incarnation).map_err(wal_error)?),
        None => None,
    };
    let (mut applier, names) = open_catalog(&pool, &superblock, &options)?;
    let names: Names = Mutex::new(names);
    if !options.read_only {
        applier.retry_all_stranded(&pool, STRANDED_TRIES)?;
    }
    let replayed = gathered.replay(&pool, &mut applier, &names, &scan, may_wait(&superblock, &options))?;
    let versions = start_versions(&pool, &mut applier, &options);
    tracing::info!(path = %files.dir.display(), checkpoint = superblock.checkpoint, commits = replayed, "database opened");
    let next_tree = applier.next_tree;
    let applied = applier.applied;
    let applier_unborn = applier.unborn.clone();
    let postponed = applier.waiting.postponed().clone();
    let used = pool.store().space_use();
    let log_limit = log_limit(&options, superblock.segment_size, used.file - used.free);
    postponed.set_limit(postponed_limit(&options, &pool, log_limit));
    Ok(Shared {
        owner,
        health: if options.read_only { Health::read_only() } else { Health::default() },
        path: files.dir,
        fs: files.fs,
        pool,
        log,
        log_end: scan.tail().end,
        segment_size: superblock.segment_size,
        order: Mutex::new(Order::new(options.trim_every)),
        apply: Mutex::new(applier),
        merging: Mutex::new(()),
        postponed,
        names,
        unborn: applier_unborn,
        scan_lengths: Default::default(),
        versions,
        ddl: Mutex::new(()),
        next_tree: AtomicU64::new(next_tree),
        next_transaction: AtomicU64::new(0),
        visible: Visibility::new(applied),
        checkpoint: Mutex::new(CheckpointState { current: superblock, superblocks }),
        background: BackgroundState::default(),
        attendant: Default::default(),
        closed: AtomicBool::new(false),
        counters: crate::stats::EngineCounters::replayed(replayed),
        options,
        _lock: lock,
    })
}

/// One byte of the cache in so many is for writes of the log that wait to be merged after an open.
const REPLAYED_SHARE: u64 = 4;

/// Whether what the log holds beyond the checkpoint may wait to be merged into the trees until the database is open: reads of leaves that
/// nobody has asked for yet.
fn may_wait(superblock: &Superblock, options: &Options) -> Option<replay::MayWait> {
    let may = !options.read_only && options.postponed_limit != Some(0);
    may.then(|| replay::MayWait { from: superblock.replay_from, bytes_max: cache_size(options) / REPLAYED_SHARE })
}

/// From here on what keys held before a commit is kept for those who read at an older LSN; nobody has read yet.
fn start_versions(pool: &EnginePool, applier: &mut Applier, options: &Options) -> Arc<Versions> {
    let cache = u64::from(pool.frames()) * pool.page_size() as u64;
    let limit = options.versions_limit.unwrap_or((16 << 20) + cache / 8);
    let writer =
        versions::Writer::new(pool.frames() as usize, limit, applier.applied, options.fault).pruned_every(options.prune_every);
    let versions = writer.versions().clone();
    for keyspace in applier.pasts.drain(..) {
        keyspace.forget(applier.applied);
    }
    applier.versions = Some(writer);
    versions
}

/// A database's block may be larger than the unit by which its superblock was read.
fn reopen_by_block(files: Files, superblock: &Superblock, options: &Options) -> Result<Files> {
    let access = if options.read_only { Access::Read } else { Access::ReadWrite };
    let how = OpenHow { access, create: ashlar_disk::Create::Never, mode: options.io_mode, block: superblock.block_size };
    // From here on everybody writes and syncs through this one.
    let data = SyncOnce::over(files.fs.open(&files.dir.join(DATA), &how)?);
    Ok(Files { data, ..files })
}

/// What a superblock of our own says: the checkpoint that was chosen, number and incarnation raised. For reading only, that one itself.
fn own_fields(chosen: &Superblock, options: &Options) -> Superblock {
    if options.read_only {
        return chosen.clone();
    }
    Superblock {
        number: chosen.number + 1,
        incarnation: chosen.incarnation + 1,
        // Before anything is appended (see `clean`).
        clean: chosen.clean && options.fault.is(Fault::CleanMarkStays),
        ..chosen.clone()
    }
}

/// Step 4: for writing, a superblock of our own, incarnation raised, to the slot that was not chosen. So no half-written slot
/// outlives the open that finds it, and no flush of an earlier open is taken for one of ours.
fn own_superblock(
    files: &Files,
    chosen: &Chosen,
    own: Superblock,
    options: &Options,
) -> Result<(Superblock, Option<Superblocks>)> {
    if options.read_only {
        return Ok((own, None));
    }
    let mut superblocks = Superblocks::mend(files.data.clone(), chosen)?.making(options.fault);
    superblocks.write(&own)?;
    Ok((own, Some(superblocks)))
}

/// Reads that may fail before the rest of what is stranded is left as it is.
const STRANDED_TRIES: usize = 256;

/// Bytes of writes that may be stranded, unless more may wait.
const STRANDED_MAX: u64 = 64 << 20;

/// Memory for large transfers that is kept idle: at most this part of the cache's size, which is in addition to it.
const SPARES_SHARE: u64 = 16;

/// And at most so many bytes.
const SPARES_MAX: u64 = 16 << 20;

/// A window of replay, where it is not set: at least so many bytes of log, whatever the cache.
const WINDOW_MIN: u64 = 32 << 20;

/// And at most so many.
const WINDOW_MAX: u64 = 256 << 20;

fn cache_size(options: &Options) -> u64 {
    options.cache_size.unwrap_or_else(|| ashlar_disk::memory::limit() / 4)
}

impl Options {
    /// Bytes of writes that may be stranded: all that may wait, and as much again.
    fn stranded_limit_bytes(&self) -> u64 {
        let waits = self.postponed_limit.unwrap_or(0);
        self.stranded_limit.unwrap_or_else(|| STRANDED_MAX.max(waits.saturating_mul(2)))
    }

    /// Bytes of log that are gathered before they are applied.
    fn recovery_window_size(&self) -> usize {
        self.recovery_window.unwrap_or_else(|| (cache_size(self) / 4).clamp(WINDOW_MIN, WINDOW_MAX) as usize)
    }
}

fn open_store(files: &Files, queue: Arc<dyn Queue>, superblock: &Superblock, options: &Options) -> Result<Store> {
    let parts = StoreParts {
        file: files.data.clone(),
        queue,
        block: superblock.block_size,
        page_size: superblock.page_size,
        incarnation: superblock.incarnation,
        grow_step: options.grow_step,
        read_only: options.read_only,
        fault: options.fault,
        spares: Spares::new((cache_size(options) / SPARES_SHARE).min(SPARES_MAX) as usize),
        blob_cache: blob::Cache::new(options.blob_cache_size),
    };
    Store::open(parts, superblock)
}

fn open_pool(files: &Files, store: Store, options: &Options) -> Result<EnginePool> {
    let page_size = store.page_size();
    let frames = (cache_size(options) / page_size as u64).clamp(16, 1 << 26) as u32;
    let pages_max = files.fs.capacity(&files.dir)? / page_size as u64 + 1;
    let page_ids = store.next_page_id();
    let pool_options = PoolOptions { page_size, frames, pages_max: pages_max.max(page_ids), page_ids };
    Pool::new(pool_options, store).map_err(pool_error)
}

/// A pool of so many frames over a store that is only read.
pub(crate) fn pool_over(store: Store, frames: u32) -> Result<EnginePool> {
    let page_ids = store.next_page_id();
    let options = PoolOptions { page_size: store.page_size(), frames, pages_max: page_ids.max(1), page_ids };
    Pool::new(options, store).map_err(pool_error)
}

fn pool_error(e: PoolError) -> Error {
    match e {
        PoolError::Memory(e) => e.into(),
        other => Error::InvalidOption { option: "cache_size or page_size", reason: other.to_string() },
    }
}

/// The catalog's tree (made if this database has never had a checkpoint), and every keyspace in it.
fn open_catalog(pool: &EnginePool, superblock: &Superblock, options: &Options) -> Result<(Applier, catalog::Names)> {
    let catalog = match superblock.map_root {
        Some(_) => Tree { id: CATALOG_TREE, root: PageId(superblock.catalog_root), slots_max: options.slots_max },
        None => new_tree(pool, CATALOG_TREE, options.slots_max)?,
    };
    if catalog.root.0 != superblock.catalog_root {
        let what = format!(
            "the superblock has no page map, and page {} as the catalog's root: it must be {}",
            superblock.catalog_root, catalog.root.0
        );
        return Err(Corruption::page(superblock.catalog_root, Some(CATALOG_TREE.0), what).into());
    }
    let mut applier = Applier {
        applied: superblock.last_commit,
        waiting: Waiting::new(Arc::new(Postponed::new(0))),
        stranded: Stranded::new(options.stranded_limit_bytes()),
        catalog,
        trees: Default::default(),
        dropped: Default::default(),
        next_tree: superblock.next_tree_id.max(FIRST_TREE),
        slots_max: options.slots_max,
        unborn: Arc::default(),
        versions: None,
        pasts: Vec::new(),
        fault: options.fault,
    };
    let (mut names, mut pieces) = (catalog::Names::default(), Pieces::default());
    let mut leaf = LeafCopy::new();
    let mut seek_key: Option<Vec<u8>> = None;
    loop {
        let seek = seek_key.as_deref().map_or(Seek::First, Seek::AtOrAfter);
        pages::read_leaf(pool, catalog, seek, &mut leaf)?;
        for index in 0..leaf.len() {
            match catalog::decode(&leaf.key(index), leaf.value(index).1, options.slots_max)? {
                Entry::Keyspace(state) => {
                    applier.trees.insert(state.tree()?.id, state.clone());
                    names.now.insert(state.name.clone(), state);
                }
                Entry::Dropped(tree) => applier.dropped.push_back((tree, 0)),
                Entry::Setting => {}
                Entry::Stranded(piece) => pieces.add(piece),
            }
        }
        match leaf.upper() {
            Some(upper) => seek_key = Some(upper.to_vec()),
            None => break,
        }
    }
    applier.load_stranded(pieces)?;
    Ok((applier, names))
}
