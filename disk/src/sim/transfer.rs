//! Transfers in flight on the simulated disk, and how the answer gets to whoever waits.

use super::content::{self, Chunk};
use super::queue::Completions;
use crate::fs::{Buffer, Completed, File};
use crate::sync::simulation::{self, Wait};
use crate::words::Words;
use crate::{Durability, Op, Result, SyncKind};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

/// What a transfer does once it completes.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Read {
        first: u64,
        count: u64,
    },
    /// `chunks` is empty where the data still is in the buffers of a queue's transfer.
    Write {
        first: u64,
        chunks: Vec<Chunk>,
        durability: Durability,
    },
    /// Makes durable what had changed up to the number.
    Sync {
        kind: SyncKind,
        until: u64,
    },
}

impl Work {
    /// For errors.
    pub(super) fn op(&self) -> Op {
        match self {
            Work::Read { .. } => Op::Read,
            Work::Write { .. } => Op::Write,
            Work::Sync { .. } => Op::SyncFile,
        }
    }
}

/// The function of a queue's transfer that takes its completion.
pub(super) type Done = Box<dyn FnOnce(Completed) + Send>;

/// Who gets the answer.
pub(super) enum Reply {
    /// A thread that waits in a blocking call.
    Slot(Arc<Slot>),
    /// A queue.
    Queue { completions: Arc<Completions>, file: Arc<dyn File>, buffers: Vec<Buffer>, done: Done },
    /// Nobody: the machine crashes with it.
    Nobody,
}

/// A transfer in flight.
pub(super) struct InFlight {
    pub(super) inode: u64,
    pub(super) path: Arc<Path>,
    pub(super) work: Work,
    pub(super) reply: Reply,
    /// How many chunks have been moved: more than none after a short transfer.
    pub(super) moved: u64,
    /// Those of them that were read.
    pub(super) read: Vec<Chunk>,
}

impl InFlight {
    /// One of which nothing has been done.
    pub(super) fn new(inode: u64, path: Arc<Path>, work: Work, reply: Reply) -> InFlight {
        InFlight { inode, path, work, reply, moved: 0, read: Vec::new() }
    }

    /// The data of a write, as its memory holds it now.
    pub(super) fn data(&self) -> Vec<Chunk> {
        match (&self.work, &self.reply) {
            (Work::Write { .. }, Reply::Queue { buffers, .. }) => {
                let words: Vec<&Words> = buffers.iter().map(Buffer::words).collect();
                content::chunks_of(&words)
            }
            (Work::Write { chunks, .. }, _) => chunks.clone(),
            _ => Vec::new(),
        }
    }

    /// The chunks that are still to be moved, `first..end`; none of a sync.
    pub(super) fn rest(&self) -> Option<(u64, u64)> {
        let (first, count) = match (&self.work, &self.reply) {
            (Work::Sync { .. }, _) => return None,
            (Work::Read { first, count }, _) => (*first, *count),
            (Work::Write { first, .. }, Reply::Queue { buffers, .. }) => {
                (*first, (buffers.iter().map(|b| size_of_val(b.words())).sum::<usize>() / content::CHUNK) as u64)
            }
            (Work::Write { first, chunks, .. }, _) => (*first, chunks.len() as u64),
        };
        Some((first + self.moved, first + count))
    }
}

/// Where a blocking call finds its answer: the chunks of a read.
#[derive(Default)]
pub(super) struct Slot {
    answer: Mutex<Option<Result<Vec<Chunk>>>>,
}

impl Slot {
    /// Waits for the answer; the caller is a simulated thread.
    pub(super) fn wait(self: &Arc<Self>) -> Result<Vec<Chunk>> {
        loop {
            let answer = self.answer.lock().take();
            if let Some(answer) = answer {
                return answer;
            }
            simulation::with(|context| context.block(self.key(), None, std::panic::Location::caller()));
        }
    }

    fn key(self: &Arc<Self>) -> Wait {
        Wait::Io(Arc::as_ptr(self).addr())
    }
}

/// An answer on its way. Made under the disk's lock, delivered after it.
pub(super) struct Delivery {
    pub(super) reply: Reply,
    pub(super) answer: Result<Vec<Chunk>>,
}

impl Delivery {
    /// Gives the answer to whoever waits.
    pub(super) fn deliver(self) {
        match self.reply {
            Reply::Slot(slot) => {
                *slot.answer.lock() = Some(self.answer);
                if simulation::simulated() {
                    simulation::with(|context| context.wake_all(slot.key()));
                }
            }
            Reply::Queue { completions, file, buffers, done } => {
                let result = self.answer.map(|chunks| {
                    let words: Vec<&Words> = buffers.iter().map(Buffer::words).collect();
                    content::copy_to(&chunks, &words);
                });
                completions.push(Completed { result, buffers }, done);
                // The last handle of a removed file may go here, which asks for the disk's lock.
                drop(file);
            }
            Reply::Nobody => {}
        }
    }
}
