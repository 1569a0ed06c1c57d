//! A small file system in user space with two files: `image`, on which a loop device stands, and `journal`, into which the process at
//! work tells what it does.
//!
//! 1. All that comes, and every confirmation before it is sent, is a step of the recording, in one order. Writes and flushes are confirmed
//!    by a thread of their own, now and then after a while, and in any order: as a disk does that has many requests in its queue.
//! 2. `image` is opened for direct I/O, so nothing is kept in the page cache above it: what the loop device writes comes here as it is
//!    written, and what it flushes (`REQ_OP_FLUSH`, which the loop driver makes an `fsync` of its file; it offers no FUA, so that the
//!    block layer makes a flush of that as well) comes here as `FSYNC`.
//! 3. A record of the journal is a step of the recording: whatever it confirms was written before.

use super::super::journal::{Event, RECORD};
use super::image::Image;
use super::recording::{Recording, Step};
use ashlar_disk::sync::{Condvar, Mutex};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const IMAGE: INodeNo = INodeNo(2);
const JOURNAL: INodeNo = INodeNo(3);

/// The disk, and what is being recorded of it.
struct Disk {
    image: Image,
    recording: Option<Recording>,
    journal_len: u64,
    /// What is to be confirmed.
    queue: Vec<Waiting>,
    ended: bool,
}

/// A request to be confirmed, with the number of its step.
enum Waiting {
    Write(usize, u32, ReplyWrite),
    Flush(usize, ReplyEmpty),
}

type Shared = Arc<(Mutex<Disk>, Condvar)>;

/// The mounted file system; unmounted with the guard.
pub(super) struct Server {
    disk: Shared,
    at: PathBuf,
    _session: fuser::BackgroundSession,
}

impl Server {
    /// Mounts it in the directory `at`, with an empty disk.
    pub(super) fn start(at: &Path) -> std::io::Result<Server> {
        let disk = Disk { image: Image::new(0), recording: None, journal_len: 0, queue: Vec::new(), ended: false };
        let disk: Shared = Arc::new((Mutex::new(disk), Condvar::new()));
        let theirs = disk.clone();
        std::thread::Builder::new().name("disk".into()).spawn(move || confirm(&theirs))?;
        let mut config = fuser::Config::default();
        config.mount_options = vec![fuser::MountOption::FSName("ashlar-stress".into())];
        let session = fuser::spawn_mount(Files(disk.clone()), at, &config)?;
        Ok(Server { disk, at: at.to_owned(), _session: session })
    }

    /// The file of the disk.
    pub(super) fn image(&self) -> PathBuf {
        self.at.join("image")
    }

    /// The file of the journal.
    pub(super) fn journal(&self) -> PathBuf {
        self.at.join("journal")
    }

    /// Another disk, recorded from now on; `before` is what was told of the database on it.
    pub(super) fn record(&self, image: Image, before: Vec<Event>) {
        let recording = Recording { base: image.clone(), before, steps: Vec::new() };
        let mut disk = self.disk.0.lock();
        (disk.recording, disk.image, disk.journal_len) = (Some(recording), image, 0);
    }

    /// Adds to what was told.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.disk.0.lock().step(Step::Told(event));
    }

    /// How many steps there are so far.
    pub(super) fn position(&self) -> usize {
        self.disk.0.lock().recording.as_ref().map_or(0, |r| r.steps.len())
    }

    /// What was told so far.
    pub(super) fn told(&self) -> Vec<Event> {
        self.disk.0.lock().recording.as_ref().map_or_else(Vec::new, |r| r.told_before(r.steps.len()))
    }

    /// Ends the recording.
    pub(super) fn finish(&self) -> Option<Recording> {
        self.disk.0.lock().recording.take()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.disk.0.lock().ended = true;
        self.disk.1.notify_all();
    }
}

/// Confirms what waits, one after the other, until the server ends.
fn confirm((disk, came): &(Mutex<Disk>, Condvar)) {
    let mut rng = ChaCha8Rng::seed_from_u64(0xD15C);
    let mut disk = disk.lock();
    while !disk.ended {
        if disk.queue.is_empty() {
            came.wait_for(&mut disk, Duration::from_secs(1));
            continue;
        }
        // Sometimes more is waited for, so that there is something to choose from.
        if rng.random_range(0..4) == 0 {
            came.wait_for(&mut disk, Duration::from_micros(rng.random_range(50..500)));
        }
        let chosen = rng.random_range(0..disk.queue.len());
        // The step comes before whoever waits can know of it.
        match disk.queue.swap_remove(chosen) {
            Waiting::Write(step, len, reply) => {
                disk.step(Step::Written(step));
                reply.written(len);
            }
            Waiting::Flush(step, reply) => {
                disk.step(Step::Flushed(step));
                reply.ok();
            }
        }
    }
}

impl Disk {
    /// Adds a step; its number.
    fn step(&mut self, step: Step) -> usize {
        let Some(recording) = &mut self.recording else { return 0 };
        recording.steps.push(step);
        recording.steps.len() - 1
    }

    fn attributes(&self, file: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match file {
            INodeNo::ROOT => (FileType::Directory, 0),
            IMAGE => (FileType::RegularFile, self.image.len()),
            JOURNAL => (FileType::RegularFile, self.journal_len),
            _ => return None,
        };
        let time = UNIX_EPOCH;
        Some(FileAttr {
            ino: file,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: if kind == FileType::Directory { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// Takes what is to be written to the disk.
    fn write(&mut self, offset: u64, bytes: &[u8], reply: ReplyWrite) {
        if offset + bytes.len() as u64 > self.image.len() {
            return reply.error(Errno::ENOSPC);
        }
        self.image.write(offset, bytes);
        let step = self.step(Step::Write { offset, bytes: bytes.into() });
        self.queue.push(Waiting::Write(step, bytes.len() as u32, reply));
    }

    /// Takes what is told.
    fn hear(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let (records, rest) = bytes.as_chunks::<RECORD>();
        if !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        for record in records {
            let event = Event::from_bytes(record).ok_or(Errno::EINVAL)?;
            self.step(Step::Told(event));
        }
        self.journal_len += bytes.len() as u64;
        Ok(())
    }
}

/// Attributes change with every record: nothing is remembered of them.
const TTL: Duration = Duration::ZERO;

struct Files(Shared);

impl Filesystem for Files {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Several transfers of the loop device in flight; where the kernel can't, one by one is slower and as right.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let file = match name.to_str() {
            Some("image") if parent == INodeNo::ROOT => IMAGE,
            Some("journal") if parent == INodeNo::ROOT => JOURNAL,
            _ => return reply.error(Errno::ENOENT),
        };
        match self.0.0.lock().attributes(file) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.0.lock().attributes(ino) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if ino != IMAGE {
            return reply.error(Errno::EINVAL);
        }
        let bytes = self.0.0.lock().image.read(offset, size as usize);
        reply.data(&bytes);
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.0.0.lock();
        match ino {
            IMAGE => {
                disk.write(offset, data, reply);
                self.0.1.notify_all();
            }
            JOURNAL => match disk.hear(data) {
                Ok(()) => reply.written(data.len() as u32),
                Err(errno) => reply.error(errno),
            },
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        if ino != IMAGE {
            return reply.ok();
        }
        let mut disk = self.0.0.lock();
        let step = disk.step(Step::Flush);
        disk.queue.push(Waiting::Flush(step, reply));
        self.0.1.notify_all();
    }
}
