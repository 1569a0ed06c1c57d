//! Threads for those who don't wait themselves: they start with the first asynchronous call.
//!
//! - `ashlar-async` runs what may block (commits up to their durability, large values, what a full cache would make wait), one after the
//!   other, then makes durable what these have committed, all of it with one flush.
//! - `ashlar-reaper` completes reads that only wakers wait for.
//!
//! Invariants:
//! 1. A job owns all that it needs: whoever asked for it may be gone.
//! 2. An answer is given once, and its waker woken outside of every lock.
//! 3. The last handle may be dropped by a job, in these threads themselves: they are not waited for then, and end by themselves.

use crate::database::{Handle, Shared};
use crate::error::{Error, Result};
use ashlar_disk::sync::{self, Condvar, JoinHandle, Mutex};
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

type Job = Box<dyn FnOnce() + Send>;

/// Whoever is told how waiting has ended.
type Told = Box<dyn FnOnce(Result<()>) + Send>;

/// What callers and threads tell each other.
#[derive(Default)]
pub(crate) struct Attendant {
    state: Mutex<State>,
    jobs_ring: Condvar,
    reads_ring: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Those who wait until an LSN is visible.
    waiting: Vec<(u64, Told)>,
    /// A read that a waker waits for has begun.
    reads: bool,
    stopping: bool,
    threads: Vec<JoinHandle>,
    started: bool,
}

thread_local! {
    static IS_ATTENDANT: Cell<bool> = const { Cell::new(false) };
}

impl Attendant {
    fn ring_reads(&self) {
        self.state.lock().reads = true;
        self.reads_ring.notify_one();
    }

    /// The threads end soon. They are waited for, unless this is one of them.
    pub(crate) fn stop(&self) {
        let threads = {
            let mut state = self.state.lock();
            state.stopping = true;
            std::mem::take(&mut state.threads)
        };
        self.jobs_ring.notify_all();
        self.reads_ring.notify_all();
        if !IS_ATTENDANT.get() {
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }

    /// Jobs, and those who wait, as soon as there are any; `None`: it is time to end.
    fn next(&self) -> Option<(VecDeque<Job>, bool)> {
        let mut state = self.state.lock();
        while state.jobs.is_empty() && state.waiting.is_empty() {
            if state.stopping {
                return None;
            }
            self.jobs_ring.wait(&mut state);
        }
        Some((std::mem::take(&mut state.jobs), !state.waiting.is_empty()))
    }

    fn wait_for_reads(&self) -> bool {
        let mut state = self.state.lock();
        while !state.reads && !state.stopping {
            self.reads_ring.wait(&mut state);
        }
        state.reads = false;
        !state.stopping
    }
}

impl Shared {
    /// Runs `job` in the attendant's thread; without background threads, here and now.
    pub(crate) fn attend(self: &Arc<Shared>, job: impl FnOnce() + Send + 'static) -> Result<()> {
        if self.options.background == crate::Background::Manual {
            job();
            return Ok(());
        }
        self.start_attending()?;
        self.attendant.state.lock().jobs.push_back(Box::new(job));
        self.attendant.jobs_ring.notify_one();
        Ok(())
    }

    /// A read that only a waker waits for is under way.
    pub(crate) fn attend_reads(self: &Arc<Shared>) -> Result<()> {
        if self.options.background == crate::Background::Manual {
            while self.pool.reap() {}
            return Ok(());
        }
        self.start_attending()?;
        self.attendant.ring_reads();
        Ok(())
    }

    /// Calls `answer` when everything up to `lsn` is visible, or never will be.
    pub(crate) fn when_visible(&self, lsn: u64, answer: impl FnOnce(Result<()>) + Send + 'static) {
        if self.visible.watermark() >= lsn || self.options.background == crate::Background::Manual {
            return answer(self.wait_visible(lsn));
        }
        self.attendant.state.lock().waiting.push((lsn, Box::new(answer)));
        self.attendant.jobs_ring.notify_one();
    }

    fn start_attending(self: &Arc<Shared>) -> Result<()> {
        let mut state = self.attendant.state.lock();
        if !state.started {
            let (jobs, reads) = (self.clone(), self.clone());
            state.threads.push(sync::spawn("ashlar-async", move || run_jobs(&jobs))?);
            state.threads.push(sync::spawn("ashlar-reaper", move || reap_reads(&reads))?);
            state.started = true;
        }
        Ok(())
    }
}

fn run_jobs(shared: &Shared) {
    IS_ATTENDANT.set(true);
    while let Some((jobs, _)) = shared.attendant.next() {
        jobs.into_iter().for_each(|job| job());
        let waiting = std::mem::take(&mut shared.attendant.state.lock().waiting);
        let Some(newest) = waiting.iter().map(|(lsn, _)| *lsn).max() else { continue };
        let _ = shared.wait_visible(newest);
        for (lsn, answer) in waiting {
            answer(match shared.visible.watermark() >= lsn {
                true => Ok(()),
                false => Err(Error::OutcomeUnknown { cause: shared.health.cause() }),
            });
        }
    }
}

fn reap_reads(shared: &Shared) {
    IS_ATTENDANT.set(true);
    while shared.attendant.wait_for_reads() {
        while shared.pool.reap() {}
    }
}

impl Handle {
    /// Ends the threads, before anything that they use goes.
    pub(crate) fn stop_attending(&self) {
        self.shared.attendant.stop();
    }
}

/// An answer that is still to come.
pub(crate) struct Answer<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

struct Slot<T> {
    answer: Option<T>,
    waker: Option<Waker>,
}

/// Whoever owes an answer.
pub(crate) struct Debt<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// An answer and who owes it.
pub(crate) fn answer<T>() -> (Answer<T>, Debt<T>) {
    let slot = Arc::new(Mutex::new(Slot { answer: None, waker: None }));
    (Answer { slot: slot.clone() }, Debt { slot })
}

impl<T> Debt<T> {
    pub(crate) fn pay(self, answer: T) {
        let waker = {
            let mut slot = self.slot.lock();
            slot.answer = Some(answer);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.slot.lock();
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
