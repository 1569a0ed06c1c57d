//! Threads of the operating system, lent to simulated threads and kept for the next run: a run costs no thread start.
//!
//! 1. A worker runs only after somebody has called [`Worker::go`], and then until it waits for the next one. So of all workers
//!    of a run one moves at a time: whoever holds the baton gives it to exactly one other and waits.
//! 2. A worker is in the pool only while no simulated thread uses it.
//! 3. Threads that were bound to a processor ([`bind`]) have a pool of their own for it: threads inherit what they are bound to.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// By processor; of those that are bound to none under `None`.
static POOL: Mutex<BTreeMap<Option<usize>, Vec<Arc<Worker>>>> = Mutex::new(BTreeMap::new());

thread_local! {
    static PROCESSOR: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Binds the calling thread to the `nth` of the processors that it may run on, counted around, and with it the runs that it starts. A run
/// hands on from thread to thread all the time, and on one processor that is several times cheaper than between two. Where the
/// operating system refuses, nothing changes.
pub fn bind(nth: usize) {
    let me = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(me) else { return };
    let possible: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let Some(&cpu) = possible.get(nth % possible.len().max(1)) else { return };
    let mut only = CpuSet::new();
    if only.set(cpu).and_then(|()| sched_setaffinity(me, &only)).is_ok() {
        PROCESSOR.set(Some(cpu));
    }
}

/// One thread of the operating system and the place where it waits.
pub(super) struct Worker {
    /// Set by the thread before it first waits.
    thread: OnceLock<Thread>,
    go: AtomicBool,
    job: Mutex<Option<Job>>,
    processor: Option<usize>,
}

impl Worker {
    /// One from the pool, or a new one.
    pub(super) fn take() -> io::Result<Arc<Worker>> {
        let processor = PROCESSOR.get();
        if let Some(worker) = POOL.lock().entry(processor).or_default().pop() {
            return Ok(worker);
        }
        let (thread, go) = (OnceLock::new(), AtomicBool::new(false));
        let worker = Arc::new(Worker { thread, go, job: Mutex::new(None), processor });
        let of_thread = worker.clone();
        let handle = thread::Builder::new().name("simulated".into()).spawn(move || of_thread.work())?;
        // The thread itself may come first or second; both set the same value.
        let _ = worker.thread.set(handle.thread().clone());
        Ok(worker)
    }

    /// Puts the worker back (2).
    pub(super) fn give_back(self: Arc<Self>) {
        POOL.lock().entry(self.processor).or_default().push(self);
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
        PROCESSOR.set(self.processor);
        loop {
            self.wait();
            let job = self.job.lock().take();
            if let Some(job) = job {
                job();
            }
        }
    }
}
