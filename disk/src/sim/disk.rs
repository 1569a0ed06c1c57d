//! The state of a simulated machine's disk, behind one lock, and the life of a call to it.
//!
//! 1. Every call passes the gate ([`Faults::gate`]) under the lock, before it does anything.
//! 2. Under the lock nothing waits, no scheduling point is reached, no code of a caller runs and no handle is dropped.
//! 3. A transfer is in flight from its call until the scheduler (or, without one, whoever waits) completes it; its effect
//!    comes all at once then, or in part if the machine crashes first.

use super::content::{CHUNK, Chunk};
use super::faults::{Faults, Verdict};
use super::inode::Inode;
use super::kinds::FaultKind;
use super::names::{Names, Node};
use super::perform::Progress;
use super::queue::Completions;
use super::transfer::{Delivery, InFlight, Reply, Slot, Work};
use crate::sync::simulation::{self, Device, rng::Rng};
use crate::{Error, Op, Result};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A write that was in flight when the machine crashed.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    pub(super) inode: u64,
    pub(super) first: u64,
    pub(super) chunks: Vec<Chunk>,
}

/// A lock file's holders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holders {
    pub(super) exclusive: bool,
    pub(super) count: usize,
}

pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) locks: BTreeMap<PathBuf, Holders>,
    /// Bytes that the disk has room for.
    pub(super) capacity: u64,
    /// The number of the newest file.
    pub(super) newest_inode: u64,
    /// The number of the newest change: time, as far as the disk knows it.
    pub(super) newest_change: u64,
    /// The choices that no scheduler makes.
    pub(super) rng: Rng,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) landings: Vec<Landing>,
}

/// A simulated machine's disk.
pub(super) struct Disk {
    state: Mutex<State>,
    pub(super) alignment: usize,
}

impl Disk {
    pub(super) fn new(state: State, alignment: usize) -> Arc<Disk> {
        Arc::new(Disk { state: Mutex::new(state), alignment })
    }

    /// The state, for what is no call of the machine's.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A call that is done at once: passes the gate and changes the state.
    pub(super) fn call<R>(&self, op: Op, path: &Path, f: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        scheduling_point();
        let mut state = self.state.lock();
        let verdict = state.faults.gate(op, path)?;
        let result = match state.faults.refusal(op, path) {
            // After an error a file has its old length or the new one.
            Some(error) if op == Op::SetLength && state.faults.rng.chance(128) => f(&mut state).and(Err(error)),
            Some(error) => Err(error),
            None => f(&mut state),
        };
        if verdict == Verdict::CrashDuring {
            self.crash(state);
            return Err(Error::Crashed { op, path: path.to_owned() });
        }
        result
    }

    /// A transfer that the caller waits for. `work` is made when the call begins.
    pub(super) fn transfer(
        self: &Arc<Self>,
        inode: u64,
        path: &Arc<Path>,
        work: impl FnOnce(&State) -> Work,
    ) -> Result<Vec<Chunk>> {
        scheduling_point();
        let mut state = self.state.lock();
        let mut transfer = InFlight::new(inode, path.clone(), work(&state), Reply::Nobody);
        let op = transfer.work.op();
        if state.faults.gate(op, path)? == Verdict::CrashDuring {
            state.in_flight.push(transfer);
            self.crash(state);
            return Err(Error::Crashed { op, path: path.to_path_buf() });
        }
        if !simulation::simulated() {
            loop {
                if let Progress::Ended(answer) = state.perform(&mut transfer) {
                    return answer;
                }
            }
        }
        let slot = Arc::new(Slot::default());
        transfer.reply = Reply::Slot(slot.clone());
        state.in_flight.push(transfer);
        drop(state);
        simulation::with(|context| context.attach(self));
        slot.wait()
    }

    /// Puts a queue's transfer in flight.
    pub(super) fn submit(self: &Arc<Self>, transfer: InFlight) {
        let mut state = self.state.lock();
        match state.faults.gate(transfer.work.op(), &transfer.path) {
            Err(error) => {
                drop(state);
                Delivery { reply: transfer.reply, answer: Err(error) }.deliver();
            }
            Ok(verdict) => {
                state.in_flight.push(transfer);
                if verdict == Verdict::CrashDuring {
                    return self.crash(state);
                }
                drop(state);
                if simulation::simulated() {
                    simulation::with(|context| context.attach(self));
                }
            }
        }
    }

    /// Completes one of a queue's transfers in flight, any one; false if there is none.
    pub(super) fn complete_one_of(&self, queue: &Arc<Completions>) -> bool {
        let mut state = self.state.lock();
        let of_queue = |t: &InFlight| matches!(&t.reply, Reply::Queue { completions, .. } if Arc::ptr_eq(completions, queue));
        let mine: Vec<usize> = (0..state.in_flight.len()).filter(|&i| of_queue(&state.in_flight[i])).collect();
        if mine.is_empty() {
            return false;
        }
        let nth = state.rng.pick(&mine);
        Self::complete_locked(state, nth);
        true
    }

    fn complete_locked(mut state: MutexGuard<'_, State>, nth: usize) {
        let mut transfer = state.in_flight.swap_remove(nth);
        let Progress::Ended(answer) = state.perform(&mut transfer) else {
            state.in_flight.push(transfer);
            return;
        };
        drop(state);
        Delivery { reply: transfer.reply, answer }.deliver();
    }

    /// The machine loses power: what is in flight may land or not, everything from here on fails. Nothing if it has already.
    pub(super) fn crash(&self, mut state: MutexGuard<'_, State>) {
        state.faults.crashed = true;
        let in_flight = std::mem::take(&mut state.in_flight);
        for transfer in &in_flight {
            if let (Work::Write { .. }, Some((first, _))) = (&transfer.work, transfer.rest()) {
                let chunks = transfer.data().split_off(transfer.moved as usize);
                state.landings.push(Landing { inode: transfer.inode, first, chunks });
            }
        }
        drop(state);
        for transfer in in_flight {
            let error = Error::Crashed { op: transfer.work.op(), path: transfer.path.to_path_buf() };
            Delivery { reply: transfer.reply, answer: Err(error) }.deliver();
        }
    }
}

impl Device for Disk {
    fn in_flight(&self) -> usize {
        self.state.lock().in_flight.len()
    }

    fn complete(&self, nth: usize) {
        Self::complete_locked(self.state.lock(), nth);
    }
}

impl State {
    /// A disk that holds `inodes` by `names`.
    pub(super) fn new(names: Names, inodes: BTreeMap<u64, Inode>, newest: (u64, u64), seed: u64, capacity: u64) -> State {
        State {
            faults: Faults::new(seed),
            names,
            inodes,
            locks: BTreeMap::new(),
            capacity,
            newest_inode: newest.0,
            newest_change: newest.1,
            rng: Rng::new(seed, 4),
            in_flight: Vec::new(),
            landings: Vec::new(),
        }
    }

    /// The number of the next change.
    pub(super) fn next_change(&mut self) -> u64 {
        self.newest_change += 1;
        self.newest_change
    }

    /// The file that a handle keeps.
    pub(super) fn inode(&mut self, id: u64) -> &mut Inode {
        self.inodes.entry(id).or_default()
    }

    /// Makes an empty file by that name and gives its number.
    pub(super) fn create(&mut self, path: &Path) -> u64 {
        self.newest_inode += 1;
        let (id, number) = (self.newest_inode, self.next_change());
        self.inodes.insert(id, Inode::default());
        self.names.change(number, None, Some((path, Node::File(id))));
        id
    }

    /// Forgets the files that have neither a name nor an open handle.
    pub(super) fn forget_unreachable(&mut self) {
        let named = self.names.files();
        self.inodes.retain(|id, inode| inode.handles > 0 || named.contains(id));
    }

    /// Bytes that files have room of.
    pub(super) fn used(&self) -> u64 {
        self.inodes.values().map(|i| i.live.allocated.total()).sum::<u64>() * CHUNK as u64
    }

    /// An error unless the chunks `first..end` of a file have room or can get it.
    pub(super) fn check_room(&mut self, op: Op, path: &Path, inode: u64, first: u64, end: u64) -> Result<()> {
        let has = self.inodes.get(&inode).map_or(0, |i| i.live.allocated.covered(first, end));
        if self.used() + (end - first - has) * CHUNK as u64 > self.capacity {
            self.faults.note(FaultKind::NoSpace, op, path, None);
            return Err(Error::NoSpace { op, path: path.to_owned() });
        }
        Ok(())
    }
}

/// Lets the scheduler switch threads, if there is one.
#[track_caller]
pub(super) fn scheduling_point() {
    if simulation::simulated() {
        let place = Location::caller();
        simulation::with(|context| context.switch(place));
    }
}
