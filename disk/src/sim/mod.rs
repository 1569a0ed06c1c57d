//! A simulated machine that can lose power: a disk behind the traits of [`fs`](crate::fs), and runs under the deterministic
//! scheduler.
//!
//! What it promises is what [`fs`](crate::fs) promises, and no more; where a real disk would usually keep something it
//! need not, this one loses it in some runs:
//! 1. A completed write is lost, kept or torn at 512-byte sectors by a power cut until a sync *that began after it* has
//!    succeeded; a [`Durability::Now`](crate::Durability::Now) write is durable once complete, but not the length it needs.
//! 2. A file's length and room survive as a prefix of their changes; `sync(Data)` makes durable no more of the length than it
//!    takes to read the data.
//! 3. Names survive per directory sync, each change whole or not at all (`names`).
//! 4. A transfer in flight has its effect at some moment between its call and its completion, in no order; a crash leaves all,
//!    some sectors or nothing of it. A read beside a write of the same place finds any mixture of sectors.
//! 5. The memory of a queue's write is looked at when it completes, so that changing it meanwhile shows.
//! 6. A process kill keeps what has completed readable, but not more durable than it was: a power cut later still takes it.
//!
//! Works under the scheduler ([`Sim::run`]), in one thread, and in plain threads; there, blocking calls are done at once and
//! transfers of queues complete when somebody waits or polls, in an order that the seed decides.
//!
//! Beside crashes there are *faults* ([`FaultKind`]), each with a rate of its own: errors of reads, writes and syncs, a full disk, short
//! transfers, flipped bits, blocks that can't be read, writes that are lost or go astray. What a failed sync drops is gone for readers at
//! once, since they read around any cache. Not simulated: a sync that fails, keeps what was written readable, and loses it later.

mod content;
mod copy;
mod disk;
mod faults;
mod file;
mod fs;
mod inode;
mod kinds;
mod names;
mod perform;
mod queue;
mod ranges;
mod restart;
mod survival;
#[cfg(test)]
mod tests;
mod transfer;

use crate::sync::simulation::{Options, Outcome, simulate};
use disk::{Disk, State};
use names::Names;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use fs::SimFs;
pub use kinds::{FaultKind, FaultRates, InjectedFault};
pub use restart::Restart;

/// How to build a machine.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Decides every choice: of the scheduler, of the disk, and of what a restart finds.
    pub seed: u64,
    /// The number of the call to the disk (from 1) during which the machine crashes.
    pub crash_at: Option<u64>,
    /// How many bytes of files the disk has room for.
    pub capacity: u64,
    /// What direct I/O needs, in bytes: a power of two.
    pub alignment: usize,
    /// How many choices a run may take.
    pub steps_max: u64,
    /// How often what else goes wrong.
    pub faults: FaultRates,
    /// How many faults may come.
    pub faults_max: u64,
}

impl SimOptions {
    /// A machine that does not crash by itself, with a disk of 16 GiB whose sectors are 512 bytes.
    pub fn new(seed: u64) -> SimOptions {
        let steps_max = Options::new(seed).steps_max;
        SimOptions {
            seed,
            crash_at: None,
            capacity: 16 << 30,
            alignment: content::SECTOR,
            steps_max,
            faults: FaultRates::none(),
            faults_max: u64::MAX,
        }
    }

    /// The same, crashing during the `n`th call.
    pub fn crash_at(self, n: u64) -> SimOptions {
        SimOptions { crash_at: Some(n), ..self }
    }

    /// The same with faults at these rates.
    pub fn faults(self, rates: FaultRates) -> SimOptions {
        SimOptions { faults: rates, ..self }
    }

    /// The same with room for so many bytes.
    pub fn capacity(self, bytes: u64) -> SimOptions {
        SimOptions { capacity: bytes, ..self }
    }
}

/// A simulated machine, from one start to the next.
pub struct Sim {
    disk: Arc<Disk>,
    options: SimOptions,
}

impl Sim {
    /// A machine with an empty disk.
    pub fn new(options: SimOptions) -> Sim {
        let state = State::new(Names::new(), BTreeMap::new(), (0, 0), options.seed, options.capacity);
        Sim::start(state, options)
    }

    fn start(mut state: State, options: SimOptions) -> Sim {
        state.faults.crash_at = options.crash_at;
        (state.faults.rates, state.faults.limit) = (options.faults, options.faults_max);
        Sim { disk: Disk::new(state, options.alignment), options }
    }

    /// Its file system, the same disk each time.
    pub fn fs(&self) -> Arc<SimFs> {
        Arc::new(SimFs { disk: self.disk.clone() })
    }

    /// Runs `f` as the first thread of a simulation; see [`simulate`].
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
        let options = Options { seed: self.options.seed, steps_max: self.options.steps_max };
        simulate(&options, f)
    }

    /// How many calls to the disk there have been: every open, transfer, sync, rename and so on.
    pub fn calls(&self) -> u64 {
        self.disk.lock().faults.calls
    }

    /// Whether it has crashed.
    pub fn has_crashed(&self) -> bool {
        self.disk.lock().faults.crashed
    }

    /// Crashes it during the `n`th call from its start, or the next one if that is past; `None`: not any more.
    pub fn set_crash_at(&self, n: Option<u64>) {
        self.disk.lock().faults.crash_at = n;
    }

    /// Crashes it now.
    pub fn crash(&self) {
        self.disk.crash(self.disk.lock());
    }

    /// How often what goes wrong, from now on.
    pub fn set_faults(&self, rates: FaultRates) {
        self.disk.lock().faults.rates = rates;
    }

    /// The faults that have come since its start, in their order. A disk that is full counts as one each time it refuses something.
    pub fn injected(&self) -> Vec<InjectedFault> {
        self.disk.lock().faults.injected.clone()
    }

    /// How many there have been.
    pub fn injected_count(&self) -> u64 {
        self.disk.lock().faults.injected.len() as u64
    }

    /// How many bytes of files there are, room that was only set apart included.
    pub fn used(&self) -> u64 {
        self.disk.lock().used()
    }

    /// How many bytes of files the disk has room for, from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.lock().capacity = bytes;
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sim({:?}, after {} calls)", self.options, self.calls())
    }
}
