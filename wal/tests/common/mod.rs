//! What the tests of the log share: a log with the superblock's part played by a struct, and records that tell who they are.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod faulty;

use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_disk::{Access, AlignedBuf, Create, Durability, Fs, OpenHow};
use ashlar_wal::{FlushInfo, LogRecord, LogScan, LogStart, Lsn, Result, Wal, WalOptions, inspect, read_log, sync_log};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A log in `dir`, and what its superblock would say.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) options: WalOptions,
    pub(crate) start: LogStart,
}

/// Options for small logs.
pub(crate) fn small() -> WalOptions {
    let uuid = *b"the uuid of this";
    WalOptions { segment_size: 64 << 10, flush_size_max: 16 << 10, log_limit: 1 << 20, ..WalOptions::new(uuid) }
}

impl Log {
    /// Makes a log in `dir`, which is made as well.
    pub(crate) fn create(fs: Arc<dyn Fs>, dir: &Path, options: WalOptions) -> Result<Log> {
        fs.create_dir(dir)?;
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent)?;
        }
        Wal::create_first_segment(&fs, dir, &options)?;
        let start = LogStart { c: Lsn(0), incarnation_at_c: 0, newest_incarnation: 0, durable: Lsn(0) };
        Ok(Log { fs, dir: dir.to_owned(), options, start })
    }

    /// Reads it as recovery does.
    pub(crate) fn scan(&self) -> Result<LogScan> {
        read_log(&self.fs, &self.dir, &self.options, &self.start)
    }

    /// Recovers and opens it for writing, as an engine would: the superblock's incarnation is raised before anything is written.
    pub(crate) fn open(&mut self) -> Result<(Wal, Vec<LogRecord>)> {
        sync_log(&self.fs, &self.dir, &self.options)?;
        self.start.newest_incarnation += 1;
        let scan = self.scan()?;
        let records = scan.records()?.collect::<Result<Vec<_>>>()?;
        let wal = Wal::open(&self.fs, &self.dir, self.options.clone(), scan.tail(), self.start.newest_incarnation)?;
        Ok((wal, records))
    }

    /// The records that are there.
    pub(crate) fn records(&self) -> Result<Vec<LogRecord>> {
        self.scan()?.records()?.collect()
    }

    /// The flushes that are there.
    pub(crate) fn flushes(&self) -> Result<Vec<FlushInfo>> {
        inspect(&self.fs, &self.dir, &self.options, &self.start)?.collect()
    }

    /// The names of the segments.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.fs.list(&self.dir).expect("the directory is there")
    }

    fn file_and_offset(&self, lsn: Lsn) -> (PathBuf, u64) {
        let name = format!("{:012}.wal", lsn.0 / self.options.segment_size);
        (self.dir.join(name), lsn.0 % self.options.segment_size)
    }

    /// The blocks at `lsn`.
    pub(crate) fn peek(&self, lsn: Lsn, len: usize) -> AlignedBuf {
        let (path, offset) = self.file_and_offset(lsn);
        let mut buf = AlignedBuf::zeroed(len);
        let how = OpenHow { access: Access::Read, create: Create::Never, mode: self.options.mode, block: self.options.block };
        let file = self.fs.open(&path, &how).expect("the segment is there");
        file.read(offset, &[buf.words_mut()]).expect("it can be read");
        buf
    }

    /// Overwrites the blocks at `lsn`.
    pub(crate) fn poke(&self, lsn: Lsn, bytes: &mut AlignedBuf) {
        let (path, offset) = self.file_and_offset(lsn);
        let how =
            OpenHow { access: Access::ReadWrite, create: Create::Never, mode: self.options.mode, block: self.options.block };
        let file = self.fs.open(&path, &how).expect("the segment is there");
        file.write(offset, &[bytes.words_mut()], Durability::Now).expect("it can be written");
    }

    /// Changes one byte in the file.
    pub(crate) fn flip(&self, at: Lsn, bits: u8) {
        let block = self.options.block.bytes();
        let start = Lsn(at.0 - at.0 % block as u64);
        let mut bytes = self.peek(start, block);
        bytes[at.since(start) as usize] ^= bits;
        self.poke(start, &mut bytes);
    }
}

/// A body of `len` bytes (at least 8) that says which it is.
pub(crate) fn body(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    let mut word = id;
    while bytes.len() < len {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len.max(8));
    bytes
}

/// Which record it is, if all of it is as it was made.
pub(crate) fn id_of(bytes: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (bytes == body(id, bytes.len())).then_some(id)
}

/// A disk in memory on which nothing goes wrong.
pub(crate) fn memory() -> Arc<dyn Fs> {
    Sim::new(SimOptions::new(1)).fs()
}
