//! Transfers in flight by `io_uring`: one ring for all threads.
//!
//! 1. Submission has a lock, held for pushing entries, one system call, and seldom for registering memory (`slabs`). What is pushed is submitted before the lock is
//!    given back, so the submission queue is empty whenever the lock is free.
//! 2. Reaping has a seat. Who sits there (the *leader*) takes completions, runs them, and alone may wait in the kernel; the
//!    others (*followers*) sleep until a batch has run, then ask again what they wait for, and one of them may be the next leader.
//! 3. `batches` counts, under the seat's lock, what may have changed an answer. A thread reads it before it asks, and falls
//!    asleep or sits down only if it is still the same: so no completion is missed between asking and sleeping.
//! 4. What completes outside the seat (a transfer that was not admitted) also counts as a batch, and if there is a leader it
//!    is woken from the kernel by an operation that does nothing. At most one of these is in flight.
//! 5. At most `depth` transfers and one such operation are in flight; both queues of the ring are larger, so neither is ever
//!    full.
//! 6. A transfer in flight is a box whose address is its number in the ring. It is made a box again by the leader that takes
//!    its completion; a ring that is dropped with transfers in flight leaks them.
//! 7. No flag ties completions to the thread that submitted (`SINGLE_ISSUER`, `DEFER_TASKRUN`), and no kernel thread polls.

use super::inflight::{After, InFlight};
use super::slabs::Slabs;
use super::{BATCH_MAX, Batch, Sorted};
use crate::fork_guard::{Owner, with_descriptors};
use crate::sync::{Condvar, Mutex, MutexGuard, sleep};
use crate::{Error, Op, Queue, Result, Transfer};
use io_uring::{EnterFlags, IoUring, opcode};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The number of the operation that does nothing: no box is there.
const NOTHING: u64 = 0;

/// See the module.
pub(super) struct RingQueue {
    /// Never dropped in a child, where its memory isn't.
    ring: ManuallyDrop<IoUring>,
    depth: usize,
    owner: Owner,
    /// The right to push entries (1), and what the ring knows of arenas.
    submission: Mutex<Slabs>,
    seat: Mutex<Seat>,
    /// For followers: a batch has run, or the seat is free.
    told: Condvar,
    /// Admitted, and the completion has not run.
    in_flight: AtomicUsize,
    /// An operation that does nothing is in flight (4).
    waking: AtomicBool,
}

#[derive(Default)]
struct Seat {
    taken: bool,
    batches: u64,
}

/// The seat, taken. Given back, with everybody told, when dropped: after every batch, in a panic as well.
struct Leader<'a> {
    queue: &'a RingQueue,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let mut seat = self.queue.seat.lock();
        seat.taken = false;
        seat.batches += 1;
        drop(seat);
        self.queue.told.notify_all();
    }
}

/// A completion as the kernel tells it.
#[derive(Clone, Copy, Default)]
struct Answer {
    number: u64,
    result: i32,
}

impl RingQueue {
    /// A ring for `depth` transfers; an error where the kernel has or allows none.
    /// `register` says whether arenas are to be registered with it.
    pub(super) fn new(depth: u32, owner: Owner, register: bool) -> Result<RingQueue> {
        let failed = |e: io::Error| Error::from_io(Op::Ring, Path::new("io_uring"), None, &e);
        let made = with_descriptors(|listed| {
            // The kernel rounds up to a power of two, and makes the completion queue twice as large (5).
            let ring: IoUring = IoUring::builder().dontfork().build(depth + 1)?;
            listed.push(ring.as_raw_fd());
            Ok(ring)
        })?;
        let ring = ManuallyDrop::new(made.map_err(failed)?);
        let submission = Mutex::new(Slabs::new(&ring, register));
        Ok(RingQueue {
            ring,
            depth: depth as usize,
            owner,
            submission,
            seat: Mutex::new(Seat::default()),
            told: Condvar::new(),
            in_flight: AtomicUsize::new(0),
            waking: AtomicBool::new(false),
        })
    }

    /// Counts as many more transfers in flight as there is room for, up to `wanted`.
    fn reserve(&self, wanted: usize) -> usize {
        let mut got = 0;
        let more = |n: usize| {
            got = wanted.min(self.depth - n);
            Some(n + got)
        };
        // AcqRel, as all accesses: what a completion did happens before whoever sees it gone from the count.
        let _always_some = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        got
    }

    /// Hands operations in (1).
    fn start(&self, jobs: impl Iterator<Item = Box<InFlight>>) {
        let mut right = self.submission.lock();
        for job in jobs {
            let entry = job.entry(|slice| right.index_of(&self.ring, slice));
            // From here on the box belongs to the ring (6).
            let number = Box::into_raw(job) as u64;
            self.push(&right, entry.user_data(number));
        }
        self.submit_pushed(&right);
    }

    fn push(&self, _right: &MutexGuard<'_, Slabs>, entry: io_uring::squeue::Entry) {
        // SAFETY: the right to push is held, so this is the only handle of the submission queue.
        let mut queue = unsafe { self.ring.submission_shared() };
        // SAFETY: the entry's pointers lead into a box that lives until its completion is taken (6), or there are none.
        unsafe { queue.push(&entry) }.expect("the submission queue is larger than all that is in flight (5)");
    }

    /// Submits until nothing is left pushed. The kernel refuses only for lack of memory, which passes.
    fn submit_pushed(&self, _right: &MutexGuard<'_, Slabs>) {
        let mut told = false;
        loop {
            let submitted = self.ring.submitter().submit();
            // SAFETY: the right to push is held, so this is the only handle of the submission queue.
            if unsafe { self.ring.submission_shared() }.is_empty() {
                return;
            }
            if let Err(error) = submitted.as_ref()
                && error.kind() != io::ErrorKind::Interrupted
            {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "the kernel takes no transfers just now");
                }
                sleep(Duration::from_millis(1));
            }
        }
    }

    /// After something has completed outside the seat (4).
    fn tell(&self) {
        let mut seat = self.seat.lock();
        seat.batches += 1;
        let led = seat.taken;
        drop(seat);
        self.told.notify_all();
        // AcqRel: whoever takes the operation's completion sees what is being told of.
        if led && !self.waking.swap(true, Ordering::AcqRel) {
            let right = self.submission.lock();
            self.push(&right, opcode::Nop::new().build().user_data(NOTHING));
            self.submit_pushed(&right);
        }
    }

    /// Takes completions that are there. Only the leader calls it.
    fn take(&self, _leader: &Leader<'_>, answers: &mut [Answer; BATCH_MAX]) -> usize {
        // SAFETY: there is one leader, so this is the only handle of the completion queue.
        let queue = unsafe { self.ring.completion_shared() };
        let mut count = 0;
        for (slot, entry) in answers.iter_mut().zip(queue) {
            *slot = Answer { number: entry.user_data(), result: entry.result() };
            count += 1;
        }
        count
    }

    /// Waits in the kernel until a completion is there, or for no reason.
    fn sleep_in_kernel(&self, _leader: &Leader<'_>) {
        // SAFETY: submits nothing, and passes no memory.
        let woken = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 1, EnterFlags::GETEVENTS.bits(), None) };
        if let Err(error) = woken
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "waiting for transfers failed");
            sleep(Duration::from_millis(1));
        }
    }

    /// Takes and runs one batch of completions that are there.
    fn run_batch(&self, leader: &Leader<'_>) -> Batch {
        let mut answers = [Answer::default(); BATCH_MAX];
        let count = self.take(leader, &mut answers);
        let mut batch = Batch::default();
        let mut again = Vec::new();
        for answer in &answers[..count] {
            if answer.number == NOTHING {
                self.waking.store(false, Ordering::Release);
                continue;
            }
            // SAFETY: the number is of a box that `start` gave to the ring; the kernel answers once for each entry, and the
            // leader alone takes answers, so this is the box's only owner (6).
            let mut job = unsafe { Box::from_raw(answer.number as *mut InFlight) };
            match job.answer(answer.result) {
                After::Again => again.push(job),
                After::Ended(result) => {
                    batch.complete(job.into_transfer(), result);
                    self.in_flight.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
        if !again.is_empty() {
            self.start(again.into_iter());
        }
        batch
    }

    /// Takes the seat if it is free and nothing has happened since `seen`; else waits for the next batch.
    fn lead_or_follow(&self, seen: u64) -> Option<Leader<'_>> {
        let mut seat = self.seat.lock();
        if seat.batches != seen {
            return None;
        }
        if seat.taken {
            self.told.wait(&mut seat);
            return None;
        }
        seat.taken = true;
        Some(Leader { queue: self })
    }
}

impl Queue for RingQueue {
    fn submit(&self, transfers: Vec<Transfer>) {
        let Sorted { admitted, rejected } = Sorted::by_gate(transfers);
        let mut batch = Batch::default();
        for (transfer, error) in rejected {
            batch.complete(transfer, Err(error));
        }
        if batch.count > 0 && !self.owner.is_forked_child() {
            self.tell();
        }
        // Made before the lock is taken.
        let jobs: Vec<_> = admitted.into_iter().map(|(transfer, len)| InFlight::new(transfer, len)).collect();
        let mut jobs = jobs.into_iter();
        while jobs.len() > 0 {
            let room = self.reserve(jobs.len());
            if room == 0 {
                self.wait(&|| self.in_flight() < self.depth);
                continue;
            }
            self.start(jobs.by_ref().take(room));
        }
        batch.end();
    }

    fn poll(&self) -> usize {
        if self.owner.is_forked_child() {
            return 0;
        }
        let leader = {
            let mut seat = self.seat.lock();
            if seat.taken {
                // The leader takes what is there.
                return 0;
            }
            seat.taken = true;
            Leader { queue: self }
        };
        let batch = self.run_batch(&leader);
        drop(leader);
        batch.end()
    }

    fn wait(&self, until: &dyn Fn() -> bool) {
        while !self.owner.is_forked_child() {
            let seen = self.seat.lock().batches;
            if until() {
                return;
            }
            let Some(leader) = self.lead_or_follow(seen) else { continue };
            let mut batch = self.run_batch(&leader);
            if batch.count == 0 {
                self.sleep_in_kernel(&leader);
                batch = self.run_batch(&leader);
            }
            drop(leader);
            batch.end();
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    fn kind(&self) -> &'static str {
        "io_uring"
    }

    fn registered_bytes(&self) -> Option<u64> {
        if self.owner.is_forked_child() { None } else { self.submission.lock().bytes() }
    }
}

impl Drop for RingQueue {
    fn drop(&mut self) {
        if self.owner.is_forked_child() {
            return;
        }
        self.drain();
        let closed = with_descriptors(|listed| {
            listed.retain(|fd| *fd != self.ring.as_raw_fd());
            // SAFETY: `drop` runs once, and the ring isn't used after it. Nothing is in flight, or it is leaked (6).
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        });
        debug_assert!(closed.is_ok(), "the handlers were installed when the ring was made");
    }
}

impl std::fmt::Debug for RingQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RingQueue({} of {} in flight)", self.in_flight(), self.depth)
    }
}
