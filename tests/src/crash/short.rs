//! Every short sequence of operations with a crash at every call to the disk, and in the recovery from that, and in the recovery from
//! that: a few operations are enough for most mistakes, if none is left out.
//!
//! One thread, no scheduler. Each sequence works on the same small database (`bench`). A crash in an earlier operation of a sequence is
//! one in a shorter sequence, so only the calls of the last operation are crashed in. What is found afterwards is judged as a
//! [`History`](crate::history::History); then the database goes on working.
//!
//! A crash in recovery that leaves a disk which has been looked at already, after the same crash before, shows nothing new: such disks are
//! counted and not looked at again.

mod bench;

use ashlar_disk::sim::{Restart, Sim, SimOptions};
use bench::Bench;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A short value.
    Inline,
    /// The same, without waiting until it is durable.
    Eventual,
    /// A value in pages of its own.
    Overflow,
    /// A value in blocks of its own.
    Blob,
    /// A value in blocks of its own goes.
    RemoveBlob,
    /// Some keys go.
    RemoveRange,
    /// Writes to two keyspaces.
    Batch,
    /// A keyspace is emptied.
    Clear,
    /// A keyspace goes.
    Drop,
    /// A keyspace is made, if it is not there.
    Create,
    /// A checkpoint.
    Checkpoint,
    /// What stands at the file's end moves, and the end goes.
    Compact,
    /// Background work.
    Maintain,
    /// The log is made durable.
    Flush,
    /// The database is dropped and opened again.
    Reopen,
    /// It is closed and opened again.
    Close,
}

/// Every operation.
pub const STEPS: [Step; 16] = [
    Step::Inline,
    Step::Eventual,
    Step::Overflow,
    Step::Blob,
    Step::RemoveBlob,
    Step::RemoveRange,
    Step::Batch,
    Step::Clear,
    Step::Drop,
    Step::Create,
    Step::Checkpoint,
    Step::Compact,
    Step::Maintain,
    Step::Flush,
    Step::Reopen,
    Step::Close,
];

/// What is enumerated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enumeration {
    /// The longest sequence.
    pub len: u32,
    /// How often recovery crashes before it is left in peace: 0 to 2.
    pub levels: u32,
    /// Of sequences longer than this only one of [`Enumeration::sample`] has crashes in recovery.
    pub whole_up_to: u32,
    /// See `whole_up_to`.
    pub sample: u64,
    /// Threads.
    pub threads: usize,
}

impl Enumeration {
    /// Sequences of at most `len` operations; recovery crashes twice after all of up to two operations, and after one of 64 longer ones.
    pub fn up_to(len: u32) -> Enumeration {
        Enumeration { len, levels: 2, whole_up_to: 2, sample: 64, threads: crate::seeds::processors() }
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> u64 {
        (1..=self.len).map(|len| (STEPS.len() as u64).pow(len)).sum()
    }

    /// The `n`th sequence: shorter ones first.
    fn sequence(&self, mut n: u64) -> Vec<Step> {
        let (mut len, alphabet) = (1, STEPS.len() as u64);
        while n >= alphabet.pow(len) {
            n -= alphabet.pow(len);
            len += 1;
        }
        (0..len).map(|place| STEPS[(n / alphabet.pow(len - 1 - place) % alphabet) as usize]).collect()
    }

    fn levels_of(&self, n: u64, steps: &[Step]) -> u32 {
        let is_whole = steps.len() as u32 <= self.whole_up_to || n.is_multiple_of(self.sample.max(1));
        if is_whole { self.levels.min(2) } else { 0 }
    }
}

/// What was enumerated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Sequences.
    pub sequences: u64,
    /// Crashes in their last operations.
    pub crashes: u64,
    /// Crashes in the recovery from these, and in the one after that.
    pub crashes_in_recovery: [u64; 2],
    /// Crashes in recovery that left a disk like one before.
    pub alike: u64,
    /// Databases that were opened, compared, verified and worked on.
    pub looks: u64,
}

impl Counts {
    /// Adds others.
    pub fn add(&mut self, other: &Counts) {
        self.sequences += other.sequences;
        self.crashes += other.crashes;
        self.crashes_in_recovery[0] += other.crashes_in_recovery[0];
        self.crashes_in_recovery[1] += other.crashes_in_recovery[1];
        self.alike += other.alike;
        self.looks += other.looks;
    }

    /// All crashes.
    pub fn all_crashes(&self) -> u64 {
        self.crashes + self.crashes_in_recovery.iter().sum::<u64>()
    }
}

/// Runs an enumeration. `told` is called after each sequence with what it came to, by any thread.
///
/// # Errors
/// The sequence, the crashes and what was wrong after them.
///
/// # Panics
/// Where the database does.
pub fn enumerate(enumeration: &Enumeration, told: &(dyn Fn(&Counts) + Sync)) -> Result<Counts, String> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut sum = Counts::default();
        while !failed.load(Relaxed) {
            let n = next.fetch_add(1, Relaxed);
            if n >= enumeration.sequences() {
                break;
            }
            let steps = enumeration.sequence(n);
            let counts = sequence(&steps, enumeration.levels_of(n, &steps)).inspect_err(|_| failed.store(true, Relaxed))?;
            told(&counts);
            sum.add(&counts);
        }
        Ok(sum)
    };
    let results: Vec<Result<Counts, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..enumeration.threads.max(1)).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().expect("a panic is a failure of the database")).collect()
    });
    let mut sum = Counts::default();
    for result in results {
        sum.add(&result?);
    }
    Ok(sum)
}

/// How the machine comes back after the `n`th crash.
fn how(n: u64) -> Restart {
    if n.is_multiple_of(2) { Restart::Kill } else { Restart::PowerCut }
}

/// One sequence with a crash at each call of its last operation.
fn sequence(steps: &[Step], levels: u32) -> Result<Counts, String> {
    let mut counts = Counts { sequences: 1, ..Counts::default() };
    for call in 1.. {
        let told = |text: String| format!("{steps:?}, {:?} during call {call} of the last: {text}", how(call));
        let Some(mut after) = crash_at(steps, call).map_err(told)? else { break };
        counts.crashes += 1;
        let disk = after.sim.copy(SimOptions::new(call));
        let mut seen = BTreeSet::from([disk.fingerprint()]);
        in_recovery(&after, &disk, (0, levels), &mut seen, &mut counts).map_err(told)?;
        counts.looks += 1;
        after.look().map_err(told)?;
    }
    Ok(counts)
}

/// The machine after a crash during a call of the last operation; none where it has no such call. What does not crash is looked at.
fn crash_at(steps: &[Step], call: u64) -> Result<Option<Bench>, String> {
    let mut bench = Bench::new(call).map_err(|e| format!("making the database: {e}"))?;
    let (last, before) = steps.split_last().ok_or("an empty sequence")?;
    before.iter().try_for_each(|step| bench.step(*step)).map_err(|e| format!("before the crash: {e}"))?;
    bench.sim.set_crash_at(Some(bench.sim.calls() + call));
    let outcome = bench.step(*last);
    let crashed = bench.sim.has_crashed();
    if let (Err(e), false) = (&outcome, crashed) {
        return Err(format!("without a crash: {e}"));
    }
    drop(bench.db.take());
    let crashed = crashed || bench.sim.has_crashed();
    bench.sim = bench.sim.restart(how(call), SimOptions::new(call));
    if crashed {
        return Ok(Some(bench));
    }
    bench.look().map_err(|e| format!("not even crashed: {e}"))?;
    Ok(None)
}

/// Runs a sequence with a crash during that call of its last operation, and looks at what is left; false: there is no such call.
///
/// # Errors
/// What was wrong.
pub fn crash_in_last(steps: &[Step], call: u64) -> Result<bool, String> {
    match crash_at(steps, call)? {
        Some(mut after) => after.look().map(|()| true),
        None => Ok(false),
    }
}

/// Crashes at each call of opening `disk`, and, as far as `levels` say, of the open after that. This is the open after `depth` others.
fn in_recovery(
    after: &Bench,
    disk: &Sim,
    (depth, levels): (u32, u32),
    seen: &mut BTreeSet<u64>,
    counts: &mut Counts,
) -> Result<(), String> {
    if depth == levels {
        return Ok(());
    }
    for call in 1.. {
        let told = |text: String| format!("then {:?} during call {call} of the open: {text}", how(call));
        let mut open = after.beside(disk.copy(SimOptions::new(call).crash_at(call)));
        let opened = open.open();
        drop(open.db.take());
        match opened {
            _ if open.sim.has_crashed() => {}
            Ok(()) => return Ok(()),
            Err(e) => return Err(told(format!("without a crash: {e}"))),
        }
        counts.crashes_in_recovery[depth as usize] += 1;
        let left = open.sim.restart(how(call), SimOptions::new(call));
        if !seen.insert(left.fingerprint()) {
            counts.alike += 1;
            continue;
        }
        in_recovery(after, &left, (depth + 1, levels), seen, counts).map_err(told)?;
        counts.looks += 1;
        after.beside(left).look().map_err(told)?;
    }
    Ok(())
}
