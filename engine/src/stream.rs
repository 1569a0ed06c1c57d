//! Large values piece by piece: read and written in bounded memory, around the pool.
//!
//! Invariants:
//! 1. A reader has a snapshot: what it reads is the value of one moment, whole, whatever is committed meanwhile.
//! 2. Nothing is given out of a run before all of it has been read and its checksum compared; so a run is what is in memory, 8 MiB at
//!    most, and, once the reader goes on within it, the next run, which is read meanwhile.
//! 3. What a writer has written is nobody's until it is finished, and free again where it is dropped before. After an error it can't
//!    be finished: a part of it is missing. In memory is what has not
//!    filled a run, 8 MiB at most, and what is being written, 2 MiB at most.

use crate::batch;
use crate::blob::{self, NewBlob, PIECE_LEN, Pins, Reading};
use crate::database::{Database, Shared};
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::pages::EnginePool;
use crate::read::View;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::value::Value;
use crate::value::cell::{self, Cell, StoredBlob};
use crate::value::fetch::{self, Stored};
use crate::value::overflow;
use ashlar_disk::AlignedBuf;
use std::borrow::Borrow;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

/// Reads a value piece by piece; see [`Keyspace::blob_reader`].
#[derive(Debug)]
pub struct BlobReader {
    view: Arc<View<Database>>,
    key: Vec<u8>,
    source: Source,
    len: u64,
    position: u64,
    /// The run that is on its way, by its number.
    ahead: Option<(usize, Reading<Kept>)>,
    /// The part of the value that is in memory, and where it begins.
    piece: Option<(u64, Value)>,
}

/// What keeps a run that is being read: the reader's view.
#[derive(Clone, Debug)]
struct Kept(Arc<View<Database>>);

impl Borrow<Store> for Kept {
    fn borrow(&self) -> &Store {
        self.0.pool().store()
    }
}

/// After so many bytes of a run its reader counts as going on, and the next run is asked for; and so often its transfers are seen to.
const AHEAD_AFTER: u64 = 1 << 18;

/// Where the value is.
#[derive(Debug)]
enum Source {
    /// In memory.
    Whole,
    /// In runs, each with the byte of the value at which it begins.
    Runs(StoredBlob, Vec<u64>),
}

/// Writes a value piece by piece; see [`Keyspace::blob_writer`].
#[derive(Debug)]
pub struct BlobWriter<'k> {
    keyspace: &'k Keyspace,
    key: Vec<u8>,
    blob: Option<NewBlob<'k>>,
    /// What has not yet filled a run, in pieces of [`PIECE_LEN`], and its length in bytes.
    pieces: Vec<AlignedBuf>,
    gathered: usize,
    /// Why a part of the value is missing.
    failed: Option<Error>,
}

impl Keyspace {
    /// A reader of the value of `key`, if it holds one: [`Read`] and [`Seek`], in bounded memory however long the value is.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn blob_reader(&self, key: impl AsRef<[u8]>) -> Result<Option<BlobReader>> {
        let view = Arc::new(View::newest(self.database().clone())?);
        BlobReader::new(view, self, key.as_ref())
    }

    /// A writer of a value for `key`: [`Write`], in bounded memory however long the value becomes. Nobody sees anything of it before
    /// [`BlobWriter::finish`], which commits it.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::ReadOnly`].
    pub fn blob_writer(&self, key: impl AsRef<[u8]>) -> Result<BlobWriter<'_>> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.shared().owner.check()?;
        self.shared().health.check()?;
        Ok(BlobWriter { keyspace: self, key: key.to_vec(), blob: None, pieces: Vec::new(), gathered: 0, failed: None })
    }
}

impl Snapshot {
    /// A reader of the value that `key` held, if it held one.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn blob_reader(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<BlobReader>> {
        BlobReader::new(self.view().clone(), keyspace, key.as_ref())
    }
}

impl BlobReader {
    fn new(view: Arc<View<Database>>, keyspace: &Keyspace, key: &[u8]) -> Result<Option<BlobReader>> {
        let tree = view.tree(keyspace.state())?;
        let Some(stored) = view.stored_cell(tree, key)? else { return Ok(None) };
        let (source, value) = match stored {
            Stored::Inline(value) => (Source::Whole, Some(value)),
            Stored::Elsewhere { kind, bytes } => match runs(view.pool(), kind, &bytes)? {
                Some(blob) => match view.pool().store().blob_cache().get(&blob) {
                    Some(kept) => (Source::Whole, Some(Value::from_aligned(kept, blob.len as usize))),
                    None => {
                        let starts = starts(&view, &blob)?;
                        (Source::Runs(blob, starts), None)
                    }
                },
                None => (Source::Whole, Some(view.fetch(kind, &bytes, key)?)),
            },
        };
        view.check()?;
        let len = match (&source, &value) {
            (Source::Runs(blob, _), _) => blob.len,
            (Source::Whole, value) => value.as_ref().map_or(0, |v| v.len() as u64),
        };
        let piece = value.map(|value| (0, value));
        Ok(Some(BlobReader { view, key: key.to_vec(), source, len, position: 0, ahead: None, piece }))
    }

    /// Length of the value in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes from the position on that are in memory, read first if there are none. Empty at the end alone.
    fn available(&mut self) -> Result<&[u8]> {
        if self.position >= self.len {
            return Ok(&[]);
        }
        let position = self.position;
        let has = |(start, value): &(u64, Value)| (*start..*start + value.len() as u64).contains(&position);
        if !self.piece.as_ref().is_some_and(has) {
            self.piece = Some(self.read_piece()?);
        }
        let (start, value) = self.piece.as_ref().ok_or_else(|| fetch::lost(&self.key))?;
        Ok(value.get((position - start) as usize..).unwrap_or_default())
    }

    /// The run in which the position lies.
    fn read_piece(&mut self) -> Result<(u64, Value)> {
        let Source::Runs(_, starts) = &self.source else { return Err(fetch::lost(&self.key)) };
        let index = starts.partition_point(|&start| start <= self.position) - 1;
        let (start, end) = (starts[index], starts.get(index + 1).map_or(self.len, |&next| next.min(self.len)));
        // Its memory serves for what comes next.
        self.piece = None;
        let reading = match self.ahead.take() {
            Some((number, reading)) if number == index => Ok(Some(reading)),
            _ => self.start_run(index),
        };
        let read = reading.and_then(|reading| reading.map(Reading::finish).transpose());
        let bytes = self.view.checked(read)?.ok_or_else(|| fetch::lost(&self.key))?;
        Ok((start, Value::from_aligned(Arc::new(bytes), (end - start) as usize)))
    }

    fn start_run(&self, index: usize) -> Result<Option<Reading<Kept>>> {
        let Source::Runs(blob, starts) = &self.source else { return Ok(None) };
        let end = starts.get(index + 1).map_or(self.len, |&next| next.min(self.len));
        let run = StoredBlob { len: end - starts[index], runs: vec![blob.runs[index]] };
        Reading::start(Kept(self.view.clone()), &run, || self.view.check().is_ok())
    }

    /// The position has moved on within what is in memory: the next run is asked for, or its transfers are seen to.
    fn look_ahead(&mut self, before: u64) {
        let (Source::Runs(_, starts), Some((start, _))) = (&self.source, &self.piece) else { return };
        let steps = |position: u64| position.saturating_sub(*start) / AHEAD_AFTER;
        if steps(before) == steps(self.position) {
            return;
        }
        if let Some((_, reading)) = &mut self.ahead {
            return reading.go_on();
        }
        let next = starts.partition_point(|&s| s <= *start);
        if next < starts.len() {
            // What is wrong with it is told when it is needed, by a read of its own.
            self.ahead = self.start_run(next).ok().flatten().map(|reading| (next, reading));
        }
    }
}

/// The runs that a cell names; `None`: its value is in overflow pages.
fn runs(pool: &EnginePool, kind: u8, bytes: &[u8]) -> Result<Option<StoredBlob>> {
    match Cell::decode(kind, bytes, overflow::piece_len_max(pool.page_size())) {
        Some(Cell::Blob(blob)) => Ok(Some(blob)),
        Some(Cell::LongBlob(list)) => Ok(overflow::read(pool, &list)?.as_deref().and_then(cell::decode_blob)),
        _ => Ok(None),
    }
}

/// The byte of the value at which each run begins.
fn starts(view: &View<Database>, blob: &StoredBlob) -> Result<Vec<u64>> {
    let store = view.pool().store();
    let pages: Vec<_> = blob.pages().collect();
    let pins = Pins::new(store, &pages);
    view.check()?;
    let pins = pins.ok_or_else(|| blob::unknown_run(blob))?;
    let mut at = 0;
    let starts = pins.places.iter().map(|place| {
        let start = at;
        at += u64::from(place.blocks()) * store.block().bytes() as u64;
        start
    });
    let starts: Vec<u64> = starts.collect();
    if at < blob.len { Err(blob::unknown_run(blob)) } else { Ok(starts) }
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.available().map_err(io_error)?;
        let len = available.len().min(out.len());
        out[..len].copy_from_slice(&available[..len]);
        let before = self.position;
        self.position += len as u64;
        self.look_ahead(before);
        Ok(len)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the beginning of the value, or beyond all")
        })?;
        Ok(self.position)
    }
}

fn io_error(e: Error) -> io::Error {
    let kind = match &e {
        Error::NoSpace { .. } => io::ErrorKind::StorageFull,
        Error::Corrupt(_) => io::ErrorKind::InvalidData,
        Error::ReadOnly { .. } => io::ErrorKind::ReadOnlyFilesystem,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, e)
}

impl<'k> BlobWriter<'k> {
    fn shared(&self) -> &'k Shared {
        self.keyspace.shared()
    }

    /// Starts writing what is gathered: a run, or the last ones of the value.
    fn write_gathered(&mut self) -> Result<()> {
        let shared = self.shared();
        let blob = self.blob.get_or_insert_with(|| NewBlob::empty(shared.store()));
        let (pieces, len) = (std::mem::take(&mut self.pieces), std::mem::take(&mut self.gathered));
        let outcome = blob.append_pieces(shared, pieces, len).map_err(|e| match e {
            Error::NoSpace { detail } => Error::NoSpace { detail: format!("{detail}, while a large value was being written") },
            other => other,
        });
        self.failed = outcome.clone().err();
        outcome
    }

    /// A value that may be too short for runs.
    fn insert_gathered(&self, durability: Durability) -> Result<()> {
        let mut value = Vec::with_capacity(self.gathered);
        for piece in &self.pieces {
            value.extend_from_slice(&piece[..PIECE_LEN.min(self.gathered - value.len())]);
        }
        self.keyspace.insert_with(&self.key, &value, durability)
    }

    /// Commits the value, with the database's default durability.
    ///
    /// # Errors
    /// As [`Keyspace::insert`].
    pub fn finish(self) -> Result<()> {
        let durability = self.shared().options.durability;
        self.finish_with(durability)
    }

    /// Commits the value, with this durability.
    ///
    /// # Errors
    /// As [`Keyspace::insert`].
    pub fn finish_with(mut self, durability: Durability) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.blob.is_none() && self.gathered <= self.shared().options.blob_threshold {
            return self.insert_gathered(durability);
        }
        if self.gathered > 0 {
            self.write_gathered()?;
        }
        match self.blob.take() {
            Some(blob) => batch::commit_blob(self.shared(), self.keyspace.state(), &self.key, blob, durability),
            None => Ok(()),
        }
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(io_error(error.clone()));
        }
        let at = self.gathered % PIECE_LEN;
        if at == 0 && !bytes.is_empty() {
            self.pieces.push(self.shared().store().spares().take(PIECE_LEN));
        }
        let Some(piece) = self.pieces.last_mut() else { return Ok(0) };
        let len = bytes.len().min(PIECE_LEN - at);
        piece[at..at + len].copy_from_slice(&bytes[..len]);
        self.gathered += len;
        if self.gathered == blob::RUN_LEN_MAX {
            self.write_gathered().map_err(io_error)?;
        }
        Ok(len)
    }

    /// Nothing: only [`BlobWriter::finish`] makes anything of it seen or durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
