//! Threads of the operating system, lent to simulated threads and kept for the next run: a run costs no thread start.
//!
//! 1. A worker runs only after somebody has called [`Worker::go`], and then until it waits for the next one. So of all workers
//!    of a run one moves at a time: whoever holds the baton gives it to exactly one other and waits.
//! 2. A worker is in the pool only while no simulated thread uses it.

use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

pub(super) type Job = Box<dyn FnOnce() + Send>;

static POOL: Mutex<Vec<Arc<Worker>>> = Mutex::new(Vec::new());

/// One thread of the operating system and the place where it waits.
pub(super) struct Worker {
    /// Set by the thread before it first waits.
    thread: OnceLock<Thread>,
    go: AtomicBool,
    job: Mutex<Option<Job>>,
}

impl Worker {
    /// One from the pool, or a new one.
    pub(super) fn take() -> io::Result<Arc<Worker>> {
        if let Some(worker) = POOL.lock().pop() {
            return Ok(worker);
        }
        let worker = Arc::new(Worker { thread: OnceLock::new(), go: AtomicBool::new(false), job: Mutex::new(None) });
        let of_thread = worker.clone();
        let handle = thread::Builder::new().name("simulated".into()).spawn(move || of_thread.work())?;
        // The thread itself may come first or second; both set the same value.
        let _ = worker.thread.set(handle.thread().clone());
        Ok(worker)
    }

    /// Puts the worker back (2).
    pub(super) fn give_back(self: Arc<Self>) {
        POOL.lock().push(self);
    }

    /// Lets it run `job`.
    pub(super) fn start(&self, job: Job) {
        *self.job.lock() = Some(job);
        self.go();
    }

    /// Lets it run on from where it waits.
    pub(super) fn go(&self) {
        // Release; pairs with the Acquire in `wait`: what the giver of the baton did is seen by its next holder.
        self.go.store(true, Release);
        self.thread.get().expect("set before `take` returned").unpark();
    }

    /// Waits for `go`; only the worker's own thread calls this.
    pub(super) fn wait(&self) {
        while !self.go.swap(false, Acquire) {
            thread::park();
        }
    }

    fn work(&self) {
        loop {
            self.wait();
            let job = self.job.lock().take();
            if let Some(job) = job {
                job();
            }
        }
    }
}
