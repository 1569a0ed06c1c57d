//! A small file system in user space with two files: `image`, on which a loop device stands, and `journal`, into which the process at
//! work tells what it does.
//!
//! 1. One thread serves all requests, one after the other: their order is the recording's.
//! 2. `image` is opened for direct I/O, so nothing is kept in the page cache above it: what the loop device writes comes here as it is
//!    written, and what it flushes (`REQ_OP_FLUSH`, which the loop driver makes an `fsync` of its file; it offers no FUA, so that the
//!    block layer makes a flush of that as well) comes here as `FSYNC`.
//! 3. A record of the journal is a step of the recording: whatever it confirms was written before.

use super::super::journal::{Event, RECORD};
use super::image::Image;
use super::recording::{Recording, Step};
use ashlar_disk::sync::Mutex;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
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
}

/// The mounted file system; unmounted with the guard.
pub(super) struct Server {
    disk: Arc<Mutex<Disk>>,
    at: PathBuf,
    _session: fuser::BackgroundSession,
}

impl Server {
    /// Mounts it in the directory `at`, with an empty disk.
    pub(super) fn start(at: &Path) -> std::io::Result<Server> {
        let disk = Arc::new(Mutex::new(Disk { image: Image::new(0), recording: None, journal_len: 0 }));
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

    /// Another disk, recorded from now on.
    pub(super) fn record(&self, image: Image) {
        let mut disk = self.disk.lock();
        *disk = Disk { recording: Some(Recording { base: image.clone(), steps: Vec::new() }), image, journal_len: 0 };
    }

    /// Adds to what was told.
    pub(super) fn tell(&self, event: Event) {
        self.disk.lock().step(Step::Told(event));
    }

    /// How many steps there are so far.
    pub(super) fn position(&self) -> usize {
        self.disk.lock().recording.as_ref().map_or(0, |r| r.steps.len())
    }

    /// What was told so far.
    pub(super) fn told(&self) -> Vec<Event> {
        self.disk.lock().recording.as_ref().map_or_else(Vec::new, |r| r.told_before(r.steps.len()).collect())
    }

    /// Ends the recording.
    pub(super) fn finish(&self) -> Option<Recording> {
        self.disk.lock().recording.take()
    }
}

impl Disk {
    fn step(&mut self, step: Step) {
        if let Some(recording) = &mut self.recording {
            recording.steps.push(step);
        }
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

    /// Takes what was written; how many bytes, if it can be.
    fn write(&mut self, file: INodeNo, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        if file == IMAGE {
            if offset + bytes.len() as u64 > self.image.len() {
                return Err(Errno::ENOSPC);
            }
            self.image.write(offset, bytes);
            self.step(Step::Write { offset, bytes: bytes.into() });
            return Ok(());
        }
        let (records, rest) = bytes.as_chunks::<RECORD>();
        if file != JOURNAL || !rest.is_empty() {
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

struct Files(Arc<Mutex<Disk>>);

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
        match self.0.lock().attributes(file) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.lock().attributes(ino) {
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
        let bytes = self.0.lock().image.read(offset, size as usize);
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
        match self.0.lock().write(ino, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        if ino == IMAGE {
            self.0.lock().step(Step::Flush);
        }
        reply.ok();
    }
}
