//! Reading runs: into one buffer, a few transfers in flight, each part checked while later ones are on their way.
//!
//! 1. The runs' blocks are pinned, and whoever reads is asked whether the runs are still held back (invariant 4 of the parent).
//! 2. A buffer is taken that holds all runs, and split into parts: a transfer each.
//! 3. As many parts as may be in flight are asked for at once. In the order of the bytes: take a part that has come, ask for another in
//!    its place, add the part's bytes to its run's checksum; where a run ends, compare.
//! 4. The parts become one buffer again: it is what the caller gets, without a copy.
//!
//! Invariant: nothing of a buffer is given out before every run in it has passed its check; and whatever ends a read, no transfer of
//! it is left when its pins go.

use super::{IN_FLIGHT_MAX, run_fault, transfer_len, unknown_run};
use crate::error::{Corruption, Error, Result};
use crate::flight::Flight;
use crate::store::Store;
use crate::store::page_header::POINTER_CRC_MASK;
use crate::value::cell::{StoredBlob, StoredRun};
use ashlar_bufferpool::{BlockPtr, PageId};
use ashlar_disk::sync::Mutex;
use ashlar_disk::{AlignedBuf, BufPart, Buffer, Completed, File, checksum};
use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Blocks that are not handed out while this lives.
#[derive(Debug)]
pub(crate) struct Pins<S: Borrow<Store>> {
    store: S,
    pub(crate) places: Vec<BlockPtr>,
}

impl<S: Borrow<Store>> Pins<S> {
    /// Pins the blocks of these runs; `None` where one of them is not known (any more).
    pub(crate) fn new(store: S, pages: &[PageId]) -> Option<Pins<S>> {
        let places = store.borrow().pin_runs(pages)?;
        Some(Pins { store, places })
    }

    /// Bytes of the run at this position.
    pub(crate) fn run_len(&self, index: usize) -> usize {
        self.places[index].blocks() as usize * self.store.borrow().block().bytes()
    }
}

impl<S: Borrow<Store>> Drop for Pins<S> {
    fn drop(&mut self) {
        self.store.borrow().unpin_runs(&self.places);
    }
}

/// Runs on their way into memory.
#[derive(Debug)]
pub(crate) struct Reading<S: Borrow<Store>> {
    parts: Parts,
    // Behind the parts, whose transfers have ended when they are dropped.
    pins: Pins<S>,
    runs: Vec<StoredRun>,
    /// The run that is being checked, how many of its bytes are still to come, and the checksum of those that have.
    run: usize,
    left: usize,
    crc: u32,
    failed: Option<Error>,
}

impl<S: Borrow<Store>> Reading<S> {
    /// Starts reading a whole blob. `None`: it was freed meanwhile. `is_valid`: whether whoever reads holds it back still.
    pub(crate) fn start(store: S, blob: &StoredBlob, is_valid: impl FnOnce() -> bool) -> Result<Option<Reading<S>>> {
        let pages: Vec<PageId> = blob.pages().collect();
        let pins = Pins::new(store, &pages);
        if !is_valid() {
            return Ok(None);
        }
        let Some(pins) = pins else { return Err(unknown_run(blob)) };
        let lens: Vec<usize> = (0..pages.len()).map(|run| pins.run_len(run)).collect();
        if (lens.iter().sum::<usize>() as u64) < blob.len {
            return Err(unknown_run(blob));
        }
        let mut parts = Parts::of(pins.store.borrow(), &pins.places, &lens);
        parts.ask_for_more();
        let left = lens.first().copied().unwrap_or(0);
        Ok(Some(Reading { parts, pins, runs: blob.runs.clone(), run: 0, left, crc: 0, failed: None }))
    }

    /// Takes what has come, and asks for more; waits for nothing. What goes wrong is told at the end.
    pub(crate) fn go_on(&mut self) {
        self.parts.flight.poll();
        while self.failed.is_none() && self.run < self.runs.len() {
            let Some(part) = self.parts.next_if_here() else { break };
            self.failed = part.and_then(|part| self.check(part)).err();
        }
        if self.failed.is_none() {
            self.parts.ask_for_more();
        }
    }

    /// Waits for all of it, checked: a buffer that is longer than the blob.
    pub(crate) fn finish(mut self) -> Result<AlignedBuf> {
        while self.failed.is_none() && self.run < self.runs.len() {
            let part = self.parts.next()?;
            self.parts.ask_for_more();
            self.check(part)?;
        }
        match self.failed {
            Some(error) => Err(error),
            None => self.parts.join(),
        }
    }

    /// Adds a part to its run's checksum, and compares it where the run ends.
    fn check(&mut self, part: BufPart) -> Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &part);
        self.left = self.left.saturating_sub(part.len());
        self.parts.taken.push(part);
        if self.left > 0 {
            return Ok(());
        }
        let (run, at) = (self.runs[self.run], self.pins.places[self.run]);
        if !checksum::fits(self.crc, run.crc) {
            return Err(run_fault(self.pins.store.borrow(), run.page, at, self.crc, run.crc));
        }
        self.run += 1;
        self.crc = 0;
        self.left = if self.run < self.runs.len() { self.pins.run_len(self.run) } else { 0 };
        Ok(())
    }
}

/// Reads a whole blob, into a buffer that is longer. `None`: it was freed meanwhile. `is_valid`: whether whoever reads holds it back
/// still.
pub(crate) fn read(store: &Store, blob: &StoredBlob, is_valid: impl FnOnce() -> bool) -> Result<Option<AlignedBuf>> {
    Reading::start(store, blob, is_valid)?.map(Reading::finish).transpose()
}

/// Reads a run and checks it, and what its block pointer says of it: its length in bytes. For runs of a checkpoint that is held.
pub(crate) fn check_run(store: &Store, run: &StoredRun) -> Result<u64> {
    let Some(pins) = Pins::new(store, &[run.page]) else {
        let what = "a leaf names this run, but the page map has no place for it";
        return Err(Corruption::page(run.page.0, None, what).into());
    };
    let (at, len) = (pins.places[0], pins.run_len(0) as u64);
    read(store, &StoredBlob { len, runs: vec![*run] }, || true)?;
    if !checksum::fits(run.crc & POINTER_CRC_MASK, at.crc()) {
        let what = format!("checksum {:#08x} in the block pointer, expected {:#08x}", at.crc(), run.crc & POINTER_CRC_MASK);
        return Err(Corruption::page(run.page.0, None, what).into());
    }
    Ok(len)
}

/// The parts of a buffer that runs are read into.
#[derive(Debug)]
struct Parts {
    file: Arc<dyn File>,
    flight: Flight,
    /// Not yet asked for, and where each stands in the file.
    rest: VecDeque<(u64, BufPart)>,
    /// What has come and was not yet taken, or why it has not, by its number.
    arrived: Arc<Mutex<BTreeMap<usize, Result<BufPart>>>>,
    /// How many have been asked for, and how many of these have been given out.
    asked: usize,
    given: usize,
    /// Those that have been checked.
    taken: Vec<BufPart>,
}

impl Parts {
    /// A buffer for all of these runs; nothing is on its way yet.
    fn of(store: &Store, places: &[BlockPtr], run_lens: &[usize]) -> Parts {
        let total = run_lens.iter().sum();
        let transfer_len = transfer_len(total);
        let (mut offsets, mut lens) = (Vec::new(), Vec::new());
        for (at, &len) in places.iter().zip(run_lens) {
            for from in (0..len).step_by(transfer_len) {
                offsets.push(at.address() * store.block().bytes() as u64 + from as u64);
                lens.push(transfer_len.min(len - from));
            }
        }
        let parts = store.spares().take(total).split(lens);
        Parts {
            file: store.file().clone(),
            flight: store.flight(),
            rest: offsets.into_iter().zip(parts).collect(),
            arrived: Arc::default(),
            asked: 0,
            given: 0,
            taken: Vec::new(),
        }
    }

    /// Starts as many reads as may be in flight. A part that is alone is read when it is taken, by whoever takes it: a single transfer
    /// is quickest without the queue.
    fn ask_for_more(&mut self) {
        let is_alone = self.asked == 0 && self.rest.len() == 1;
        let in_flight = self.asked - self.given - self.arrived.lock().len();
        let room = if is_alone { 0 } else { IN_FLIGHT_MAX.saturating_sub(in_flight) };
        let reads: Vec<_> = self.rest.drain(..room.min(self.rest.len())).collect();
        if reads.is_empty() {
            return;
        }
        let numbers = self.asked..;
        self.asked += reads.len();
        let reads = numbers.zip(reads).map(|(number, (offset, part))| (number, offset, Buffer::Part(part)));
        let arrived = self.arrived.clone();
        self.flight.read_all(reads, &move |number, completed| {
            arrived.lock().insert(number, outcome(completed));
        });
    }

    /// The next part, if it has come.
    fn next_if_here(&mut self) -> Option<Result<BufPart>> {
        let part = self.arrived.lock().remove(&self.given)?;
        self.given += 1;
        Some(part)
    }

    /// Waits for the next part.
    fn next(&mut self) -> Result<BufPart> {
        if self.given == self.asked
            && let Some((offset, mut part)) = self.rest.pop_front()
        {
            self.asked += 1;
            self.given += 1;
            self.file.read(offset, &[part.words_mut()])?;
            return Ok(part);
        }
        let (arrived, number) = (&self.arrived, self.given);
        self.flight.wait(&|| arrived.lock().contains_key(&number));
        // In a child made by `fork` nothing comes.
        self.next_if_here().unwrap_or(Err(Error::ForkedChild))
    }

    fn join(self) -> Result<AlignedBuf> {
        // Every part has been taken; only in a child made by `fork` one may be with a transfer.
        BufPart::join(self.taken).ok_or(Error::ForkedChild)
    }
}

fn outcome(mut completed: Completed) -> Result<BufPart> {
    completed.result?;
    match completed.buffers.pop() {
        Some(Buffer::Part(part)) => Ok(part),
        // A queue gives the buffers back that it was given.
        _ => Err(Error::ForkedChild),
    }
}
