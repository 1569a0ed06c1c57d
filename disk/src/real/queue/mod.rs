//! Many transfers in flight, by `io_uring` or by threads: one contract ([`Queue`]), one set of tests.
//!
//! 1. A transfer is admitted (checked) at the door. One that isn't completes there and then, in the submitting thread.
//! 2. From then on its buffers belong to the queue until its completion has run, whatever becomes of who asked for it. If a
//!    queue can't be drained they are leaked, never freed under a device.
//! 3. Completions run in whichever thread reaps: in `wait`, `poll`, a full `submit`, or `drop`. There is no thread of the
//!    queue's own that runs them.
//! 4. A completion is counted as in flight until it has run. One that panics counts as run; the panic goes on in the reaping
//!    thread once the batch is accounted for.
//! 5. Whoever waits sees every completion that ran before it fell asleep, and is woken by every batch after that.
//! 6. In a child made by `fork` nothing is in flight: submitting fails, waiting returns at once, dropping touches nothing.
//!
//! Not here: which transfers belong together, and how many are worth having in flight.

mod inflight;
mod ring;
mod slabs;
mod threads;

use super::file::RealFile;
use super::refused;
use crate::fork_guard::Owner;
use crate::fs::Buffer;
use crate::words::Words;
use crate::{Completed, Error, Queue, QueueKind, Result, Transfer, TransferOp};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// The most transfers that one queue keeps in flight.
pub(super) const DEPTH_MAX: u32 = 4096;

/// The most completions that run before those who wait are asked again.
const BATCH_MAX: usize = 32;

/// A queue of the kind asked for, with room for `depth` transfers (1 to [`DEPTH_MAX`]; other numbers are taken as the nearest).
/// `register` says whether arenas are to be registered with a ring.
pub(super) fn new(kind: QueueKind, depth: u32, owner: Owner, register: bool) -> Result<Arc<dyn Queue>> {
    let depth = depth.clamp(1, DEPTH_MAX);
    match kind {
        QueueKind::Threads => Ok(Arc::new(threads::ThreadQueue::new(depth, owner))),
        QueueKind::Uring => Ok(Arc::new(ring::RingQueue::new(depth, owner, register)?)),
        QueueKind::Best => match ring::RingQueue::new(depth, owner, register) {
            Ok(queue) => Ok(Arc::new(queue)),
            Err(error) => {
                tracing::info!(%error, "io_uring is not available here; threads are used instead");
                new(QueueKind::Threads, depth, owner, false)
            }
        },
    }
}

/// The memory of a transfer.
fn memory(buffers: &[Buffer]) -> impl Iterator<Item = &Words> {
    buffers.iter().map(Buffer::words)
}

/// The file of a transfer, if it is one of the kernel's.
fn file_of(transfer: &Transfer) -> Option<&RealFile> {
    transfer.file.as_any().downcast_ref()
}

/// The gate of a queue (1): the transfer's length in bytes.
fn admit(transfer: &Transfer) -> Result<u64> {
    let refuse = || refused(transfer.op, transfer.file.path(), transfer.offset);
    let file = file_of(transfer).ok_or_else(refuse)?;
    if transfer.op == TransferOp::Read && transfer.buffers.iter().any(|b| matches!(b, Buffer::Shared(..))) {
        // Others may be reading it as plain bytes.
        return Err(refuse());
    }
    let words: Vec<&Words> = memory(&transfer.buffers).collect();
    file.admit(transfer.op, transfer.offset, &words)
}

/// What was submitted, by what the gate said (1).
struct Sorted {
    /// May start; with its length in bytes.
    admitted: Vec<(Transfer, u64)>,
    /// Completes with an error at once.
    rejected: Vec<(Transfer, Error)>,
}

impl Sorted {
    fn by_gate(transfers: Vec<Transfer>) -> Sorted {
        let mut sorted = Sorted { admitted: Vec::with_capacity(transfers.len()), rejected: Vec::new() };
        for transfer in transfers {
            match admit(&transfer) {
                Ok(len) => sorted.admitted.push((transfer, len)),
                Err(error) => sorted.rejected.push((transfer, error)),
            }
        }
        sorted
    }
}

/// Runs completions, and keeps the first panic for the end (4).
#[derive(Default)]
struct Batch {
    count: usize,
    panic: Option<Box<dyn Any + Send>>,
}

impl Batch {
    /// Runs one completion.
    fn complete(&mut self, transfer: Transfer, result: Result<()>) {
        self.count += 1;
        let Transfer { buffers, done, file, .. } = transfer;
        // The file first: closing it is nothing that whoever is told should wait for, or meet half-way.
        drop(file);
        let told = catch_unwind(AssertUnwindSafe(|| done(Completed { result, buffers })));
        if let Err(payload) = told {
            self.panic.get_or_insert(payload);
        }
    }

    /// After the batch is accounted for: passes on a panic, unless one is under way already.
    fn end(self) -> usize {
        match self.panic {
            Some(payload) if !std::thread::panicking() => resume_unwind(payload),
            _ => self.count,
        }
    }
}
