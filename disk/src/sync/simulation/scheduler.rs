//! The baton: one simulated thread runs, and at each scheduling point gives way to the one that the seed chooses.
//!
//! 1. Whoever holds the baton is the only one of its run that executes; so what lies between two scheduling points is one step,
//!    and a thread that has looked at something and then blocks on it can't miss the change.
//! 2. No lock of this crate is held at a scheduling point or while a device completes a transfer.
//! 3. When a run is over, every thread left is unwound at its next scheduling point, unless it is unwinding already: that one
//!    goes on as usual, so that destructors may lock and wait. If then nothing can move, the rest is abandoned: their threads
//!    of the operating system sleep for ever and what they own is never freed, which is safe.

use super::context::{self, Context};
use super::panics;
use super::state::{Choice, State, Status, Thread, unwind};
use super::worker::{Job, Worker};
use super::{Device, Failure, Options, Wait};
use crate::sync::Panicked;
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// A run.
pub(super) struct Scheduler {
    pub(super) state: Mutex<State>,
    /// Whether threads are being unwound (3). Written by the holder of the baton and read by it: the baton orders it.
    over: AtomicBool,
    finished: Mutex<bool>,
    finished_changed: Condvar,
}

/// Who gets the baton.
enum Next {
    Same,
    Resume(Arc<Worker>),
    Start(Arc<Worker>, Job),
    /// Nobody: all threads have ended or are abandoned.
    Nobody,
}

impl Scheduler {
    pub(super) fn new(options: &Options) -> Arc<Scheduler> {
        Arc::new(Scheduler {
            state: Mutex::new(State::new(options)),
            over: AtomicBool::new(false),
            finished: Mutex::new(false),
            finished_changed: Condvar::new(),
        })
    }

    /// Adds a thread; it runs when chosen.
    pub(super) fn add(self: &Arc<Self>, name: &str, f: Box<dyn FnOnce() + Send>) -> std::io::Result<usize> {
        let worker = Worker::take()?;
        let mut state = self.state.lock();
        let index = state.threads.len();
        let context = Context { scheduler: self.clone(), worker: worker.clone(), index };
        state.threads.push(Thread {
            name: name.to_owned(),
            status: Status::Ready,
            place: None,
            timed_out: false,
            panic: None,
            worker,
            start: Some(Box::new(move || body(context, f))),
        });
        state.alive.push(index);
        Ok(index)
    }

    /// Gives the baton to the first thread and returns when the run has ended.
    pub(super) fn run(&self) {
        let next = self.next(None);
        self.pass_on(next);
        let mut finished = self.finished.lock();
        while !*finished {
            self.finished_changed.wait(&mut finished);
        }
    }

    fn pass_on(&self, next: Next) {
        match next {
            Next::Same => {}
            Next::Resume(worker) => worker.go(),
            Next::Start(worker, job) => worker.start(job),
            Next::Nobody => {
                *self.finished.lock() = true;
                self.finished_changed.notify_all();
            }
        }
    }

    /// Lets happen what the seed chooses until it is a thread's turn. `asking` is the caller's thread, unless it has ended.
    fn next(&self, asking: Option<usize>) -> Next {
        loop {
            let mut state = self.state.lock();
            if state.is_too_long() && !self.note_too_long(&mut state) {
                return Next::Nobody;
            }
            let in_flight = state.devices.iter().map(|d| d.in_flight()).sum();
            match state.choose(asking, in_flight) {
                Choice::Thread(index) => {
                    let thread = &mut state.threads[index];
                    thread.status = Status::Running;
                    if asking == Some(index) {
                        return Next::Same;
                    }
                    let worker = thread.worker.clone();
                    return match thread.start.take() {
                        Some(job) => Next::Start(worker, job),
                        None => Next::Resume(worker),
                    };
                }
                Choice::Transfer(nth) => {
                    let devices = state.devices.clone();
                    drop(state);
                    complete_transfer(&devices, nth);
                }
                Choice::Clock(to) => state.advance_clock(to),
                Choice::Nothing if state.alive.is_empty() || self.is_over() => return Next::Nobody,
                Choice::Nothing => {
                    let report = state.report();
                    self.end_run(&mut state, Some(Failure::Deadlock(report)));
                }
            }
        }
    }

    /// Ends a run that takes too long; false if it was being unwound already.
    fn note_too_long(&self, state: &mut State) -> bool {
        if self.is_over() {
            return false;
        }
        let report = state.report();
        state.extend();
        self.end_run(state, Some(Failure::TooManySteps(report)));
        true
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// From here on every thread is unwound (3).
    fn end_run(&self, state: &mut State, failure: Option<Failure>) {
        if let Some(failure) = failure {
            state.failure.get_or_insert(failure);
        }
        self.over.store(true, Relaxed);
        state.wake_everybody();
    }

    /// A thread has ended. The caller then has no part in the run but to pass the baton on.
    fn end_thread(&self, index: usize, panic: Option<Panicked>) -> Next {
        let mut state = self.state.lock();
        state.end(index, panic);
        if index == 0 && !self.is_over() {
            state.left = state.alive.iter().map(|&i| state.threads[i].name.clone()).collect();
            self.end_run(&mut state, None);
        }
        drop(state);
        self.next(None)
    }

    /// How the thread `index` ended, if it has.
    pub(super) fn ended(&self, index: usize) -> Option<Result<(), Panicked>> {
        let state = self.state.lock();
        let thread = &state.threads[index];
        (thread.status == Status::Ended).then(|| thread.panic.clone().map_or(Ok(()), Err))
    }

    /// The name of the thread `index`.
    pub(super) fn name(&self, index: usize) -> String {
        self.state.lock().threads[index].name.clone()
    }
}

/// What a worker does for one simulated thread.
fn body(context: Context, f: Box<dyn FnOnce() + Send>) {
    let (scheduler, index) = (context.scheduler.clone(), context.index);
    context::enter(context);
    panics::forget();
    let result = catch_unwind(AssertUnwindSafe(|| if scheduler.is_over() { drop_unwinding(f) } else { f() }));
    let message = result.err().and_then(|payload| panics::message(&*payload));
    let panic = message.map(|message| Panicked { thread: scheduler.name(index), message });
    let next = scheduler.end_thread(index, panic);
    if let Some(context) = context::leave() {
        context.worker.give_back();
    }
    scheduler.pass_on(next);
}

/// Drops what a thread would have run as if it had been unwound at its start (3).
fn drop_unwinding(f: Box<dyn FnOnce() + Send>) {
    let _dropped_by_unwinding = f;
    unwind()
}

fn complete_transfer(devices: &[Arc<dyn Device>], mut nth: usize) {
    for device in devices {
        let count = device.in_flight();
        if nth < count {
            return device.complete(nth);
        }
        nth -= count;
    }
}

impl Context {
    /// A scheduling point: any thread may run now, this one as well.
    pub(crate) fn switch(&self, place: &'static Location<'static>) {
        self.switch_quietly(place);
        self.unwind_if_over();
    }

    /// The same without unwinding.
    pub(crate) fn switch_quietly(&self, place: &'static Location<'static>) {
        self.leave(Status::Ready, place);
    }

    /// Waits until woken by `on`, until `timeout` has passed (then it gives true), or until the run is over.
    pub(crate) fn block(&self, on: Wait, timeout: Option<Duration>, place: &'static Location<'static>) -> bool {
        self.unwind_if_over();
        let timed_out = self.block_quietly(on, timeout, place);
        self.unwind_if_over();
        timed_out
    }

    /// The same without unwinding, for a caller that must put something right first.
    pub(crate) fn block_quietly(&self, on: Wait, timeout: Option<Duration>, place: &'static Location<'static>) -> bool {
        let until = timeout.map(|t| self.now().saturating_add(t));
        self.leave(Status::Waiting { on, until }, place);
        self.scheduler.state.lock().threads[self.index].timed_out
    }

    fn leave(&self, status: Status, place: &'static Location<'static>) {
        {
            let mut state = self.scheduler.state.lock();
            let thread = &mut state.threads[self.index];
            thread.status = status;
            thread.place = Some(place);
            thread.timed_out = false;
        }
        match self.scheduler.next(Some(self.index)) {
            Next::Same => {}
            next @ (Next::Resume(_) | Next::Start(..)) => {
                self.scheduler.pass_on(next);
                self.worker.wait();
            }
            // This thread can't go on and the run is over: it is abandoned with the others (3).
            Next::Nobody => {
                self.scheduler.pass_on(Next::Nobody);
                loop {
                    self.worker.wait();
                }
            }
        }
    }

    /// Unwinds the thread if its run is over and it is not unwinding already.
    pub(crate) fn unwind_if_over(&self) {
        if self.scheduler.is_over() && !std::thread::panicking() {
            unwind();
        }
    }

    /// Wakes all threads that wait on `on`.
    pub(crate) fn wake_all(&self, on: Wait) {
        self.scheduler.state.lock().wake_all(on);
    }

    /// Wakes one thread that waits on `on`.
    pub(crate) fn wake_one(&self, on: Wait) {
        self.scheduler.state.lock().wake_one(on);
    }

    /// Takes note that this thread holds the mutex `key`.
    pub(crate) fn took_mutex(&self, key: usize) {
        self.scheduler.state.lock().held.push((key, self.index));
    }

    /// Wakes one thread that waits for the mutex `key`, which this thread has given back or is about to.
    pub(crate) fn released_mutex(&self, key: usize) {
        let mut state = self.scheduler.state.lock();
        state.held.retain(|&(k, _)| k != key);
        // The one woken may be unwound instead of taking the mutex; then nobody would wake the next.
        if self.scheduler.is_over() {
            state.wake_all(Wait::Mutex(key));
        } else {
            state.wake_one(Wait::Mutex(key));
        }
    }

    /// Whether a wait that may end for no reason does.
    pub(crate) fn ends_for_no_reason(&self) -> bool {
        self.scheduler.state.lock().ends_for_no_reason()
    }

    /// The simulated clock.
    pub(crate) fn now(&self) -> Duration {
        self.scheduler.state.lock().clock
    }

    /// A number from the seed.
    pub(crate) fn random_u64(&self) -> u64 {
        self.scheduler.state.lock().values.next()
    }

    /// Lets the scheduler complete the transfers of `device`. Once is enough; more does nothing.
    pub(crate) fn attach(&self, device: &Arc<impl Device + 'static>) {
        let mut state = self.scheduler.state.lock();
        if !state.devices.iter().any(|d| std::ptr::addr_eq(Arc::as_ptr(d), Arc::as_ptr(device))) {
            state.devices.push(device.clone());
        }
    }
}
