//! The queue of transfers of the simulated disk.
//!
//! With a scheduler, its choices complete the transfers. Without one, whoever waits, polls or finds the queue full does, any
//! transfer first. Either way a completion runs in the thread that reaps it, with nothing locked.

use super::content::CHUNK;
use super::disk::{Disk, scheduling_point};
use super::file::SimFile;
use super::transfer::{Done, InFlight, Reply, Work};
use crate::fs::{Buffer, Completed, Queue, Transfer, TransferOp, check_transfer};
use crate::sync::simulation::{self, Wait};
use crate::words::Words;
use crate::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

/// What has completed and waits to be reaped.
#[derive(Default)]
pub(super) struct Completions {
    state: Mutex<CompletionState>,
    changed: Condvar,
}

#[derive(Default)]
struct CompletionState {
    completed: VecDeque<(Completed, Done)>,
    /// Transfers submitted whose completion has not run to its end.
    unfinished: usize,
    /// Counts whatever may let a waiting thread go on.
    events: u64,
}

impl Completions {
    /// A transfer has completed.
    pub(super) fn push(self: &Arc<Self>, completed: Completed, done: Done) {
        self.note(|state| state.completed.push_back((completed, done)));
    }

    /// Changes the state and wakes all who wait for a change.
    fn note(self: &Arc<Self>, f: impl FnOnce(&mut CompletionState)) {
        let mut state = self.state.lock();
        f(&mut state);
        state.events += 1;
        drop(state);
        self.changed.notify_all();
        if simulation::simulated() {
            simulation::with(|context| context.wake_all(self.key()));
        }
    }

    fn events(&self) -> u64 {
        self.state.lock().events
    }

    /// Waits for an event after the `seen`th.
    fn wait_after(self: &Arc<Self>, seen: u64) {
        let mut state = self.state.lock();
        if state.events != seen {
            return;
        }
        if simulation::simulated() {
            // No other thread runs before this one waits, so that no event is missed.
            drop(state);
            simulation::with(|context| context.block(self.key(), None, std::panic::Location::caller()));
        } else {
            self.changed.wait(&mut state);
        }
    }

    fn key(self: &Arc<Self>) -> Wait {
        Wait::Io(Arc::as_ptr(self).addr())
    }

    /// Runs the completions that are there and gives their number.
    fn reap(self: &Arc<Self>) -> usize {
        let mut count = 0;
        // One by one, so that a panic of one leaves the others to whoever reaps next.
        while let Some((completed, done)) = self.next() {
            let _finished = Finished(self);
            done(completed);
            count += 1;
        }
        count
    }

    fn next(&self) -> Option<(Completed, Done)> {
        self.state.lock().completed.pop_front()
    }
}

/// Counts a completion as run, also if it panics.
struct Finished<'a>(&'a Arc<Completions>);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.note(|state| state.unfinished -= 1);
    }
}

/// A queue of transfers.
pub(super) struct SimQueue {
    disk: Arc<Disk>,
    completions: Arc<Completions>,
    depth: usize,
}

impl SimQueue {
    pub(super) fn new(disk: Arc<Disk>, depth: u32) -> SimQueue {
        SimQueue { disk, completions: Arc::default(), depth: depth.max(1) as usize }
    }

    fn submit_one(&self, transfer: Transfer) {
        scheduling_point();
        self.wait_for_room();
        self.completions.note(|state| state.unfinished += 1);
        match self.check(&transfer) {
            Ok((inode, path, work)) => {
                let Transfer { file, buffers, done, .. } = transfer;
                let reply = Reply::Queue { completions: self.completions.clone(), file, buffers, done };
                self.disk.submit(InFlight::new(inode, path, work, reply));
            }
            Err(error) => {
                let completed = Completed { result: Err(error), buffers: transfer.buffers };
                self.completions.push(completed, transfer.done);
            }
        }
    }

    fn check(&self, transfer: &Transfer) -> Result<(u64, Arc<std::path::Path>, Work)> {
        let path = transfer.file.path();
        let invalid =
            |op| Error::Io { op, path: path.into(), offset: None, errno: Some(libc::EINVAL), kind: ErrorKind::InvalidInput };
        let file = transfer.file.as_any().downcast_ref::<SimFile>().filter(|f| f.is_on(&self.disk));
        let words: Vec<&Words> = transfer.buffers.iter().map(Buffer::words).collect();
        let first = transfer.offset / CHUNK as u64;
        match (file, transfer.op) {
            (None, _) => Err(invalid(crate::Op::Ring)),
            (Some(_), TransferOp::Read) if transfer.buffers.iter().any(|b| matches!(b, Buffer::Shared(..))) => {
                Err(invalid(crate::Op::Read))
            }
            (Some(file), TransferOp::Read) => {
                let len = check_transfer(path, file.block(), transfer.offset, &words)?;
                Ok((file.inode(), file.shared_path(), Work::Read { first, count: len / CHUNK as u64 }))
            }
            (Some(file), TransferOp::Write(durability)) => {
                file.check_writable(crate::Op::Write)?;
                check_transfer(path, file.block(), transfer.offset, &words)?;
                Ok((file.inode(), file.shared_path(), Work::Write { first, chunks: Vec::new(), durability }))
            }
        }
    }

    /// Reaps until fewer than `depth` are in flight.
    fn wait_for_room(&self) {
        self.wait(&|| self.in_flight() < self.depth);
    }
}

impl Queue for SimQueue {
    fn submit(&self, transfers: Vec<Transfer>) {
        for transfer in transfers {
            self.submit_one(transfer);
        }
    }

    fn poll(&self) -> usize {
        scheduling_point();
        if !simulation::simulated() {
            self.disk.complete_one_of(&self.completions);
        }
        self.completions.reap()
    }

    fn wait(&self, until: &dyn Fn() -> bool) {
        if simulation::simulated() {
            simulation::with(|context| context.attach(&self.disk));
        }
        loop {
            let seen = self.completions.events();
            if until() {
                return;
            }
            if self.completions.reap() > 0 {
                continue;
            }
            // A simulation's scheduler completes transfers by itself.
            if simulation::simulated() || !self.disk.complete_one_of(&self.completions) {
                self.completions.wait_after(seen);
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.completions.state.lock().unfinished
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }
}

impl Drop for SimQueue {
    /// Completes what is in flight, so that every completion has run before the buffers' owners go.
    fn drop(&mut self) {
        while self.disk.complete_one_of(&self.completions) || self.completions.reap() > 0 {}
    }
}

impl std::fmt::Debug for SimQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimQueue({} in flight)", self.in_flight())
    }
}
