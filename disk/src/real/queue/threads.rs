//! Transfers in flight by threads that block: where `io_uring` is not to be had, and as a second opinion in tests.
//!
//! 1. Threads start as work comes, up to a bound, and end when the queue is dropped.
//! 2. A thread only moves bytes; completions wait in a list for who reaps (see the module above, 3).
//! 3. A finished transfer wakes one of those who wait. That one may leave instead of reaping, if what it waits for has come
//!    true by a completion; but then that completion's batch wakes all, so nothing is left lying while somebody sleeps.

use super::{BATCH_MAX, Batch, Sorted, file_of, memory};
use crate::fork_guard::Owner;
use crate::sync::{Condvar, JoinHandle, Mutex, spawn};
use crate::words::Words;
use crate::{Error, Queue, Result, Transfer, TransferOp};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this have not been seen to help any device.
const THREADS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct ThreadQueue {
    shared: ManuallyDrop<Arc<Shared>>,
    depth: usize,
    owner: Owner,
}

struct Shared {
    state: Mutex<State>,
    /// For threads: there is work, or the end.
    work: Condvar,
    /// For those who wait: something was put on the list, or a batch has run.
    finished: Condvar,
    /// Admitted, and the completion has not run.
    in_flight: AtomicUsize,
}

#[derive(Default)]
struct State {
    todo: VecDeque<Transfer>,
    finished: VecDeque<(Transfer, Result<()>)>,
    /// Batches of completions that have run.
    batches: u64,
    threads: Vec<JoinHandle>,
    idle: usize,
    closed: bool,
}

impl ThreadQueue {
    pub(super) fn new(depth: u32, owner: Owner) -> ThreadQueue {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            finished: Condvar::new(),
            in_flight: AtomicUsize::new(0),
        });
        ThreadQueue { shared: ManuallyDrop::new(shared), depth: depth as usize, owner }
    }

    /// Starts one transfer, after waiting for room.
    fn start(&self, transfer: Transfer) {
        let room = || self.reserve();
        self.wait(&room);
        let mut state = self.shared.state.lock();
        state.todo.push_back(transfer);
        if state.todo.len() > state.idle && state.threads.len() < THREADS_MAX.min(self.depth) {
            self.add_thread(&mut state);
        }
        self.shared.work.notify_one();
    }

    /// Counts one more transfer in flight, if there is room.
    fn reserve(&self) -> bool {
        let more = |n| (n < self.depth).then_some(n + 1);
        // AcqRel, as all accesses: what a completion did happens before whoever sees it gone from the count.
        self.shared.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Starts a thread. Where none can be started the others go on, or, if there are none, the work fails.
    fn add_thread(&self, state: &mut State) {
        let shared = Arc::clone(&self.shared);
        match spawn("ashlar-io", move || shared.run()) {
            Ok(thread) => state.threads.push(thread),
            Err(error) if state.threads.is_empty() => {
                let failed = state.todo.drain(..).map(|transfer| (transfer, Err(error.clone())));
                state.finished.extend(failed);
                self.shared.finished.notify_one();
            }
            Err(error) => tracing::warn!(%error, threads = state.threads.len(), "no more threads for transfers"),
        }
    }

    /// Runs the completions of transfers that were not admitted.
    fn reject(&self, rejected: Vec<(Transfer, Error)>) {
        let mut batch = Batch::default();
        for (transfer, error) in rejected {
            batch.complete(transfer, Err(error));
        }
        if batch.count > 0 {
            self.shared.tell();
        }
        batch.end();
    }
}

impl Shared {
    /// A thread's life.
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(transfer) = state.todo.pop_front() {
                drop(state);
                let result = perform(&transfer);
                state = self.state.lock();
                state.finished.push_back((transfer, result));
                self.finished.notify_one();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
            }
        }
    }

    /// After a batch: those who wait are to ask again.
    fn tell(&self) {
        self.state.lock().batches += 1;
        self.finished.notify_all();
    }
}

/// Moves the bytes, blocking.
fn perform(transfer: &Transfer) -> Result<()> {
    debug_assert!(file_of(transfer).is_some(), "admitted");
    let words: Vec<&Words> = memory(&transfer.buffers).collect();
    match transfer.op {
        TransferOp::Read => transfer.file.read(transfer.offset, &words),
        TransferOp::Write(durability) => transfer.file.write(transfer.offset, &words, durability),
    }
}

impl Queue for ThreadQueue {
    fn submit(&self, transfers: Vec<Transfer>) {
        let Sorted { admitted, rejected } = Sorted::by_gate(transfers);
        for (transfer, _) in admitted {
            self.start(transfer);
        }
        self.reject(rejected);
    }

    fn poll(&self) -> usize {
        if self.owner.is_forked_child() {
            return 0;
        }
        let mut state = self.shared.state.lock();
        let count = state.finished.len().min(BATCH_MAX);
        let finished: Vec<_> = state.finished.drain(..count).collect();
        drop(state);
        if finished.is_empty() {
            return 0;
        }
        let mut batch = Batch::default();
        for (transfer, result) in finished {
            batch.complete(transfer, result);
            self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
        self.shared.tell();
        batch.end()
    }

    fn wait(&self, until: &dyn Fn() -> bool) {
        while !self.owner.is_forked_child() {
            let seen = self.shared.state.lock().batches;
            if until() {
                return;
            }
            if self.poll() > 0 {
                continue;
            }
            let mut state = self.shared.state.lock();
            if state.finished.is_empty() && state.batches == seen {
                self.shared.finished.wait(&mut state);
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    fn kind(&self) -> &'static str {
        "threads"
    }
}

impl Drop for ThreadQueue {
    fn drop(&mut self) {
        if self.owner.is_forked_child() {
            // The threads and their locks are the parent's.
            return;
        }
        self.drain();
        let mut state = self.shared.state.lock();
        state.closed = true;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.shared.work.notify_all();
        for thread in threads {
            // A thread that panicked was in no completion, and has been reported by the panic hook.
            let _ = thread.join();
        }
        // SAFETY: `drop` runs once, and the field isn't used after it.
        unsafe { ManuallyDrop::drop(&mut self.shared) };
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in flight", self.in_flight.load(Ordering::Relaxed))
    }
}
