//! The Linux kernel's file systems, behind the seam of [`fs`](crate::fs).
//!
//! ```text
//!   RealFs ── open ──> file (blocking transfers) ──┐
//!     │  └─── queue ─> queue (ring or threads) ────┴─> moving (what after a short transfer), sys (system calls)
//!     │  └─── lock ──> lock
//!     └ before the first open in a directory: place (which file system), direct (does O_DIRECT do what it says)
//! ```
//!
//! 1. A file is opened with `O_DIRECT` only where direct I/O was seen to work, and opened without it only where the caller
//!    asked for [`IoMode::Buffered`]. Nothing falls back by itself.
//! 2. On opening, no page of a file stays in the page cache: what some other program left there is synced, dropped and logged.
//! 3. Network file systems are refused unless the caller opted in, in either mode.
//!
//! Not here: retrying, and any knowledge of what the files are for.

mod direct;
mod file;
mod lock;
mod moving;
mod place;
pub mod probe;
mod queue;
mod sync_method;
mod sys;

pub use direct::FoundBy;
pub use sync_method::{SyncCosts, SyncMethod};

use crate::durable::directory_of;
use crate::fork_guard::Owner;
use crate::sync::Mutex;
use crate::{
    Access, Alignment, BlockSize, Create, Error, File, Fs, IoMode, Lock, LockMode, Op, OpenHow, Queue, QueueKind, Result,
    TransferOp,
};
use file::RealFile;
use place::Filesystem;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How to use the kernel's file systems.
#[derive(Clone, Debug)]
pub struct RealOptions {
    /// Whether a network file system is taken although a server may confirm what it has not stored.
    pub allow_network_fs: bool,
    /// How a durable write is made; see [`RealFs::measure_sync_methods`].
    pub sync_method: SyncMethod,
    /// What [`QueueKind::Best`] stands for; another kind forces that one.
    pub queue: QueueKind,
    /// Whether arenas are registered with `io_uring` as transfers use them, as far as the locked-memory limit allows. Saves time
    /// at each transfer; memory that is registered is pinned, in steps of 2 MiB at first, then of 16 MiB.
    pub register_arenas: bool,
}

impl Default for RealOptions {
    fn default() -> RealOptions {
        RealOptions {
            allow_network_fs: false,
            sync_method: SyncMethod::default(),
            queue: QueueKind::default(),
            register_arenas: true,
        }
    }
}

/// The Linux kernel's file systems. Paths are used as given; a relative one is from the current directory at each call.
#[derive(Debug)]
pub struct RealFs {
    options: RealOptions,
    shared: Arc<Shared>,
    /// Directories in which direct I/O was tried, by device and inode, with what files there need. Held for a look, never
    /// while calling the kernel.
    tried: Mutex<BTreeMap<(u64, u64), Alignment>>,
}

/// What a file system shares with its files.
#[derive(Debug)]
struct Shared {
    owner: Owner,
    sync_method: AtomicU8,
}

impl Shared {
    fn sync_method(&self) -> SyncMethod {
        SyncMethod::from_u8(self.sync_method.load(Ordering::Relaxed))
    }
}

/// The error for a file that ended `reached` bytes into a transfer.
fn cut_short(path: &Path, offset: u64, wanted: u64, reached: u64) -> Error {
    Error::Short { path: path.to_owned(), offset, wanted, end: offset + reached }
}

/// The error for a transfer that can't be one.
fn refused(op: TransferOp, path: &Path, offset: u64) -> Error {
    let op = if op == TransferOp::Read { Op::Read } else { Op::Write };
    Error::Io { op, path: path.to_owned(), offset: Some(offset), errno: None, kind: io::ErrorKind::InvalidInput }
}

impl RealFs {
    /// The kernel's file systems, used as `options` say.
    pub fn new(options: RealOptions) -> Result<Arc<RealFs>> {
        let sync_method = AtomicU8::new(options.sync_method.to_u8());
        let shared = Arc::new(Shared { owner: Owner::this_process()?, sync_method });
        Ok(Arc::new(RealFs { options, shared, tried: Mutex::new(BTreeMap::new()) }))
    }

    /// How durable writes are made.
    pub fn sync_method(&self) -> SyncMethod {
        self.shared.sync_method()
    }

    /// Changes how durable writes are made, on files that are already open, too.
    pub fn set_sync_method(&self, method: SyncMethod) {
        self.shared.sync_method.store(method.to_u8(), Ordering::Relaxed);
    }

    /// Measures what a durable write costs in `dir` by either method, with a file that is removed again; takes some tens of
    /// milliseconds, more on slow disks.
    pub fn measure_sync_methods(&self, dir: &Path) -> Result<SyncCosts> {
        let own = RealFs::new(self.options.clone())?;
        let needs = own.tried(dir)?.map_or(0, |alignment| alignment.offset);
        let block = BlockSize::new(needs).unwrap_or(BlockSize::MIN);
        sync_method::measure(&own, dir, block)
    }

    /// Refuses a network file system that the caller did not opt in to (3).
    fn check_network(&self, filesystem: Filesystem, path: &Path) -> Result<()> {
        if filesystem.is_network() && !self.options.allow_network_fs {
            return Err(Error::NetworkFilesystem { path: path.to_owned(), filesystem: filesystem.name() });
        }
        Ok(())
    }

    /// Tries direct I/O in a directory, once. `None` where no file can be made there: then opening a file shows what it does.
    fn tried(&self, dir: &Path) -> Result<Option<Alignment>> {
        let metadata = std::fs::metadata(dir).map_err(|e| Error::from_io(Op::Stat, dir, None, &e))?;
        let key = (metadata.dev(), metadata.ino());
        if let Some(known) = self.tried.lock().get(&key) {
            return Ok(Some(*known));
        }
        match direct::try_directory(dir) {
            Ok(trial) => {
                if !trial.counted {
                    tracing::info!(?dir, "this kernel can't tell whether direct I/O leaves pages in its cache; it is trusted");
                }
                self.tried.lock().insert(key, trial.alignment);
                Ok(Some(trial.alignment))
            }
            Err(error) if can_not_try(&error) => {
                tracing::warn!(?dir, %error, "direct I/O could not be tried with a new file");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Before a file is made in `dir`, so that a refusal leaves none behind.
    fn check_directory(&self, dir: &Path, mode: IoMode) -> Result<()> {
        let open = std::fs::File::open(dir).map_err(|e| Error::from_io(Op::Open, dir, None, &e))?;
        self.check_network(Filesystem::of(&open, dir)?, dir)?;
        if mode == IoMode::Direct {
            self.tried(dir)?;
        }
        Ok(())
    }

    fn open_file(&self, path: &Path, how: &OpenHow) -> Result<std::fs::File> {
        let op = if how.create == Create::New { Op::Create } else { Op::Open };
        let mut options = OpenOptions::new();
        options.read(true).write(how.access == Access::ReadWrite || how.create == Create::New).mode(0o644);
        options.create_new(how.create == Create::New);
        if how.mode == IoMode::Buffered {
            return options.open(path).map_err(|e| Error::from_io(op, path, None, &e));
        }
        let opened = options.custom_flags(libc::O_DIRECT).open(path);
        opened.map_err(|e| {
            if how.create == Create::New && e.raw_os_error() == Some(libc::EINVAL) {
                // The kernel makes the file before it refuses O_DIRECT.
                let _ = std::fs::remove_file(path);
            }
            direct::open_error(path, op, &e)
        })
    }

    /// What a file that was opened with `O_DIRECT` needs, after making sure that direct I/O on it is what it says.
    fn verify_direct(&self, file: &std::fs::File, path: &Path, how: &OpenHow, filesystem: Filesystem) -> Result<Alignment> {
        drop_residue(file, path)?;
        let metadata = file.metadata().map_err(|e| Error::from_io(Op::Stat, path, None, &e))?;
        let writes = how.access == Access::ReadWrite && !metadata.file_type().is_block_device();
        let around = if writes { self.tried(directory_of(path))? } else { None };
        if writes {
            direct::check_btrfs(file, path, filesystem)?;
        }
        let needs = match direct::needs_of(file, path)? {
            // Too short to try: it needs what its neighbours need.
            (assumed, FoundBy::Assumed) => around.unwrap_or(assumed),
            (needs, _) => needs,
        };
        direct::check_block(path, how.block, needs)?;
        if around.is_none() {
            direct::try_reading(file, path, how.block)?;
        }
        Ok(needs)
    }
}

/// Whether a trial failed for a reason that says nothing about direct I/O: no room, no right to write there.
fn can_not_try(error: &Error) -> bool {
    let denied = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
    error.is_no_space() || matches!(error, Error::Io { kind, .. } if denied.contains(kind))
}

/// Drops what another program has left of a file in the page cache (2).
fn drop_residue(file: &std::fs::File, path: &Path) -> Result<()> {
    let failed = |op| move |e: io::Error| Error::from_io(op, path, None, &e);
    let cached = || sys::cached_pages(file).map_err(failed(Op::Stat));
    let pages = cached()?;
    if pages == Some(0) {
        return Ok(());
    }
    // Where nobody can tell, there may be some.
    file.sync_data().map_err(failed(Op::SyncFile))?;
    sys::drop_clean_pages(file).map_err(failed(Op::Stat))?;
    let Some(pages) = pages else { return Ok(()) };
    let left = cached()?.unwrap_or(0);
    tracing::warn!(?path, pages, left, "another program has read or written this file through the page cache");
    Ok(())
}

impl Fs for RealFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn File>> {
        self.shared.owner.check()?;
        if how.create == Create::New {
            self.check_directory(directory_of(path), how.mode)?;
        }
        let file = self.open_file(path, how)?;
        let filesystem = Filesystem::of(&file, path)?;
        let checked = self.check_network(filesystem, path).and_then(|()| match how.mode {
            IoMode::Direct => self.verify_direct(&file, path, how, filesystem),
            IoMode::Buffered => Ok(Alignment { memory: 1, offset: 1 }),
        });
        if checked.is_err() && how.create == Create::New {
            let _ = std::fs::remove_file(path);
        }
        Ok(Arc::new(RealFile::new(file, path, how.mode, how.block, checked?, Arc::clone(&self.shared))))
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.shared.owner.check()?;
        std::fs::create_dir(path).map_err(|e| Error::from_io(Op::CreateDir, path, None, &e))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let failed = |e: io::Error| Error::from_io(Op::List, dir, None, &e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            // A name that is no UTF-8 is none of ours; it is shown as well as it can be.
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(|e| Error::from_io(Op::Stat, path, None, &e))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.shared.owner.check()?;
        std::fs::rename(from, to).map_err(|e| Error::from_io(Op::Rename, from, None, &e))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.shared.owner.check()?;
        std::fs::remove_file(path).map_err(|e| Error::from_io(Op::Remove, path, None, &e))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.shared.owner.check()?;
        let synced = std::fs::File::open(dir).and_then(|open| open.sync_all());
        synced.map_err(|e| Error::from_io(Op::SyncDir, dir, None, &e))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn Lock>> {
        self.shared.owner.check()?;
        Ok(Box::new(lock::FileLock::take(path, mode, self.shared.owner)?))
    }

    fn queue(&self, kind: QueueKind, depth: u32) -> Result<Arc<dyn Queue>> {
        self.shared.owner.check()?;
        let kind = if kind == QueueKind::Best { self.options.queue } else { kind };
        queue::new(kind, depth, self.shared.owner, self.options.register_arenas)
    }

    fn capacity(&self, path: &Path) -> Result<u64> {
        let answer = nix::sys::statvfs::statvfs(path).map_err(|e| Error::from_io(Op::Stat, path, None, &e.into()))?;
        Ok((answer.blocks() as u64).saturating_mul(answer.fragment_size() as u64))
    }
}
