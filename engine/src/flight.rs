//! The transfers of one operation: a few in flight at a time, and none left when it ends.
//!
//! Invariants:
//! 1. A transfer is counted until its completion has run. Dropping a [`Flight`] waits for all of them: what is given back after it,
//!    blocks or pins, is on the way to no device any more.
//! 2. Only its own transfers are waited for: others may keep the queue busy for ever.
//! 3. The first error of a write stays until it is asked for. A read's outcome goes to whoever asked for it.

use crate::error::{Error, Result};
use ashlar_disk::sync::Mutex;
use ashlar_disk::{Buffer, Completed, Durability, File, Queue, Transfer, TransferOp};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Flight {
    queue: Arc<dyn Queue>,
    file: Arc<dyn File>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: AtomicUsize,
    failed: Mutex<Option<Error>>,
}

impl Flight {
    /// Without transfers so far, to be on `file`.
    pub(crate) fn new(queue: Arc<dyn Queue>, file: Arc<dyn File>) -> Flight {
        Flight { queue, file, state: Arc::default() }
    }

    /// Starts a write, that a later sync is to make durable.
    pub(crate) fn write(&self, offset: u64, buffer: Buffer) {
        self.write_all([(offset, buffer)]);
    }

    /// Starts several.
    pub(crate) fn write_all(&self, writes: impl IntoIterator<Item = (u64, Buffer)>) {
        let write = TransferOp::Write(Durability::Later);
        let transfers = writes.into_iter().map(|(offset, buffer)| {
            let state = self.state.clone();
            self.transfer(write, offset, buffer, move |completed| {
                if let Err(e) = completed.result {
                    state.failed.lock().get_or_insert(e.into());
                }
            })
        });
        self.queue.submit(transfers.collect());
    }

    /// Starts reads; `done` is told of each one's end, by its number.
    pub(crate) fn read_all(
        &self,
        reads: impl IntoIterator<Item = (usize, u64, Buffer)>,
        done: &(impl Fn(usize, Completed) + Clone + Send + 'static),
    ) {
        let transfers = reads.into_iter().map(|(number, offset, buffer)| {
            let done = done.clone();
            self.transfer(TransferOp::Read, offset, buffer, move |completed| done(number, completed))
        });
        self.queue.submit(transfers.collect());
    }

    fn transfer(&self, op: TransferOp, offset: u64, buffer: Buffer, done: impl FnOnce(Completed) + Send + 'static) -> Transfer {
        let counted = Counted::new(&self.state);
        let done = Box::new(move |completed| {
            // The buffer is gone, or handed on, before the transfer is no more.
            done(completed);
            drop(counted);
        });
        Transfer { file: self.file.clone(), op, offset, buffers: vec![buffer], done }
    }

    /// Waits until at most `count` are in flight.
    pub(crate) fn wait_until_few(&self, count: usize) {
        self.wait(&|| self.in_flight() <= count);
    }

    /// Waits for a completion of this flight to make `until` true.
    pub(crate) fn wait(&self, until: &dyn Fn() -> bool) {
        if !until() {
            self.queue.wait(until);
        }
    }

    /// Runs completions that are there, of anybody's transfers.
    pub(crate) fn poll(&self) {
        self.queue.poll();
    }

    /// How many have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Acquire)
    }

    /// The first error of a write so far.
    pub(crate) fn check(&self) -> Result<()> {
        self.state.failed.lock().clone().map_or(Ok(()), Err)
    }

    /// Waits for all, and gives the first error of a write.
    pub(crate) fn finish(&self) -> Result<()> {
        self.wait_until_few(0);
        self.check()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.wait_until_few(0);
    }
}

/// One transfer in flight, until this is dropped: also where it is dropped with its transfer, or its completion panics.
struct Counted(Arc<State>);

impl Counted {
    fn new(state: &Arc<State>) -> Counted {
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        Counted(state.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Pairs with the acquire in `in_flight`: what a completion did happens before whoever sees it gone from the count.
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}
