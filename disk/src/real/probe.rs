//! What direct I/O can do at a path, found out by doing it.
//!
//! Leaves nothing behind: the files it tries with are nameless, or removed before it returns. Plain data; how it is shown is for
//! others.

use super::direct::{self, FoundBy};
use super::place::Filesystem;
use super::{RealFs, RealOptions, SyncCosts, SyncMethod, directory_of, queue, sys};
use crate::fork_guard::Owner;
use crate::{Alignment, BlockSize, Error, Fs, Op, QueueKind, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// See [`probe`].
#[derive(Clone, Debug)]
pub struct Probe {
    /// The path that was asked about.
    pub path: PathBuf,
    /// The running kernel's release.
    pub kernel: String,
    /// The type of the file system.
    pub filesystem: String,
    /// Whether it is one of a network, which is refused unless allowed.
    pub network: bool,
    /// How many bytes it could hold in all.
    pub capacity: u64,
    /// What direct I/O needs and how that was found, or why there is none. The error names the remedy.
    pub direct: Result<DirectIo>,
    /// Whether the kernel can count the pages in its cache (`cachestat`).
    pub cachestat: bool,
    /// Whether `io_uring` can be used, or why not; without it threads do the work.
    pub io_uring: Result<()>,
    /// How many bytes this process may lock into memory, which an arena registered with `io_uring` counts against; `None` without
    /// a limit. A process with `CAP_IPC_LOCK` has none, whatever this says.
    pub locked_memory_max: Option<u64>,
    /// What the device writes whole or not at all (`STATX_WRITE_ATOMIC`), where it says so.
    pub atomic_writes: Option<AtomicWrites>,
    /// What a durable write costs by each method; an error where no file can be made there.
    pub sync_costs: Result<SyncCosts>,
}

/// Direct I/O that works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectIo {
    /// Of what memory, offsets and lengths are multiples.
    pub alignment: Alignment,
    /// How that was found out.
    pub found_by: FoundBy,
    /// Whether a real transfer was seen to leave nothing in the page cache. False where the kernel can't tell.
    pub seen_uncached: bool,
}

/// Limits of writes that a power cut leaves whole or undone, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AtomicWrites {
    /// The smallest.
    pub min: u32,
    /// The largest.
    pub max: u32,
    /// In how many pieces of memory.
    pub pieces_max: u32,
}

impl Probe {
    /// Whether a database can be made there as it is, without options.
    pub fn is_usable(&self) -> bool {
        self.direct.is_ok() && !self.network
    }

    /// The cheaper way to make a write durable there, where it was measured.
    pub fn sync_method(&self) -> Option<SyncMethod> {
        self.sync_costs.as_ref().ok().map(SyncCosts::best)
    }
}

/// Finds out what direct I/O can do at `path`: a directory in which a database may be made, or an existing file or block device,
/// which is only read. Takes up to half a second. An error only where `path` can't be opened at all.
pub fn probe(path: &Path) -> Result<Probe> {
    let failed = |e: std::io::Error| Error::from_io(Op::Open, path, None, &e);
    let open = File::open(path).map_err(failed)?;
    let is_dir = open.metadata().map_err(failed)?.is_dir();
    let filesystem = Filesystem::of(&open, path)?;
    let fs = RealFs::new(RealOptions { allow_network_fs: true, ..RealOptions::default() })?;
    let dir = if is_dir { path } else { directory_of(path) };
    let direct = if is_dir { of_directory(path) } else { of_file(path) };
    let sync_costs = direct.clone().and_then(|_| fs.measure_sync_methods(dir));
    Ok(Probe {
        path: path.to_owned(),
        kernel: kernel_release(),
        filesystem: filesystem.name(),
        network: filesystem.is_network(),
        capacity: fs.capacity(path)?,
        direct,
        cachestat: sys::cached_pages(&open).is_ok_and(|pages| pages.is_some()),
        io_uring: queue::new(QueueKind::Uring, 1, Owner::this_process()?, false).map(drop),
        locked_memory_max: sys::locked_memory_max(),
        atomic_writes: atomic_writes(dir, path, is_dir),
        sync_costs,
    })
}

fn of_directory(dir: &Path) -> Result<DirectIo> {
    let trial = direct::try_directory(dir)?;
    Ok(DirectIo { alignment: trial.alignment, found_by: trial.found_by, seen_uncached: trial.counted })
}

fn of_file(path: &Path) -> Result<DirectIo> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let file = opened.map_err(|e| direct::open_error(path, Op::Open, &e))?;
    let (alignment, found_by) = direct::needs_of(&file, path)?;
    let block = BlockSize::new(alignment.offset).unwrap_or(BlockSize::MIN);
    let seen_uncached = direct::try_reading(&file, path, block)?;
    Ok(DirectIo { alignment, found_by, seen_uncached })
}

/// What a file says, or a new one in the directory.
fn atomic_writes(dir: &Path, path: &Path, is_dir: bool) -> Option<AtomicWrites> {
    let file = if is_dir { direct::trial_file(dir).ok()? } else { File::open(path).ok()? };
    let statx = sys::statx_of(&file, libc::STATX_WRITE_ATOMIC).ok()?;
    let told = statx.stx_mask & libc::STATX_WRITE_ATOMIC != 0 && statx.stx_atomic_write_unit_max > 0;
    told.then_some(AtomicWrites {
        min: statx.stx_atomic_write_unit_min,
        max: statx.stx_atomic_write_unit_max,
        pieces_max: statx.stx_atomic_write_segments_max,
    })
}

fn kernel_release() -> String {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    release.unwrap_or_else(|_| "unknown".into())
}
