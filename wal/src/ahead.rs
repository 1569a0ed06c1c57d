//! Reading a segment ahead: while one piece of it is looked at, the next ones are on their way.
//!
//! 1. Pieces lie on a grid of the segment, follow each other, and never reach beyond it.
//! 2. What a read ahead has failed to bring is read again by itself when it is needed, so that an error is that of what is needed.
//! 3. Who jumps elsewhere, or to another segment, begins anew; what was on its way is let go.

use crate::layout::Geometry;
use crate::{Lsn, Result};
use ashlar_disk::sync::Mutex;
use ashlar_disk::{AlignedBuf, Buffer, Completed, File, Queue, Transfer, TransferOp};
use std::collections::VecDeque;
use std::sync::Arc;

/// Pieces that are on their way at once, at most.
const PIECES: usize = 8;

/// Where a piece arrives: its memory, and whether it was read.
type Slot = Arc<Mutex<Option<(Option<AlignedBuf>, bool)>>>;

/// Reads of one segment, on their way.
pub(crate) struct Ahead {
    queue: Arc<dyn Queue>,
    piece: u64,
    /// Where each piece begins, in order, without a hole between them.
    pieces: VecDeque<(Lsn, Slot)>,
    /// Memory to be used again.
    spare: Vec<AlignedBuf>,
}

impl Ahead {
    /// Pieces of `piece` bytes, a power of two that divides a segment.
    pub(crate) fn new(queue: Arc<dyn Queue>, piece: u64) -> Ahead {
        Ahead { queue, piece, pieces: VecDeque::new(), spare: Vec::new() }
    }

    /// How many bytes [`read`](Ahead::read) gives at `lsn`: up to the next line of the grid.
    pub(crate) fn piece_len(&self, lsn: Lsn, end: Lsn) -> u64 {
        (self.piece - lsn.0 % self.piece).min(end.since(lsn))
    }

    /// Reads [`piece_len`](Ahead::piece_len) bytes at `lsn` of the segment that ends at `end`, and has what follows read.
    pub(crate) fn read(&mut self, file: &Arc<dyn File>, geometry: &Geometry, lsn: Lsn, end: Lsn, into: &mut [u8]) -> Result<()> {
        let first = Lsn(lsn.0 - lsn.0 % self.piece);
        while self.pieces.front().is_some_and(|(start, _)| *start < first) {
            self.pieces.pop_front();
        }
        if self.pieces.front().is_some_and(|(start, _)| *start != first) {
            self.pieces.clear();
        }
        self.start_reads(file, geometry, first, end);
        let Some((_, slot)) = self.pieces.pop_front() else { return Ok(()) };
        self.queue.wait(&|| slot.lock().is_some());
        let (memory, read) = slot.lock().take().unwrap_or_default();
        let mut memory = memory.unwrap_or_else(|| AlignedBuf::zeroed(self.piece as usize));
        if !read {
            file.read(geometry.offset_of(first), &[memory.words_mut()])?;
        }
        let from = lsn.since(first) as usize;
        into.copy_from_slice(&memory[from..from + into.len()]);
        self.spare.push(memory);
        Ok(())
    }

    /// Starts the reads from `first` on that are not under way.
    fn start_reads(&mut self, file: &Arc<dyn File>, geometry: &Geometry, first: Lsn, end: Lsn) {
        let mut next = self.pieces.back().map_or(first, |(start, _)| start.plus(self.piece));
        let mut transfers = Vec::new();
        while self.pieces.len() < PIECES && next < end {
            let slot = Slot::default();
            let told = slot.clone();
            let done = move |completed: Completed| {
                let memory = match completed.buffers.into_iter().next() {
                    Some(Buffer::Heap(memory)) => Some(memory),
                    _ => None,
                };
                let read = memory.is_some() && completed.result.is_ok();
                *told.lock() = Some((memory, read));
            };
            let memory = self.spare.pop().unwrap_or_else(|| AlignedBuf::zeroed(self.piece as usize));
            transfers.push(Transfer {
                file: file.clone(),
                op: TransferOp::Read,
                offset: geometry.offset_of(next),
                buffers: vec![Buffer::Heap(memory)],
                done: Box::new(done),
            });
            self.pieces.push_back((next, slot));
            next = next.plus(self.piece);
        }
        if !transfers.is_empty() {
            self.queue.submit(transfers);
        }
    }
}
