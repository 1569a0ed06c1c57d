//! The core workloads of YCSB ([`ashlar_workload::ycsb`] says what they are) on an engine.

use super::Set;
use super::on_data::OnData;
use crate::clock::{self, Amount, Sample, Worker};
use crate::engine::Engine;
use crate::workload::Workload;
use anyhow::Result;
use ashlar_workload::ycsb::{Core, Mix, Step};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What all threads of a row share.
struct Common {
    mix: Mix,
    retries: AtomicU64,
}

fn core_of(workload: Workload) -> Option<Core> {
    match workload {
        Workload::YcsbA => Some(Core::A),
        Workload::YcsbB => Some(Core::B),
        Workload::YcsbC => Some(Core::C),
        Workload::YcsbD => Some(Core::D),
        Workload::YcsbE => Some(Core::E),
        Workload::YcsbF => Some(Core::F),
        _ => None,
    }
}

/// Whether a workload is one of these.
pub fn is_one(workload: Workload) -> bool {
    core_of(workload).is_some()
}

/// Runs one of them for `limit`; gives how many transactions began again, too.
///
/// # Errors
/// Those of the engine, and wrong data.
pub fn run(engine: &dyn Engine, workload: Workload, set: Set, threads: usize, limit: Duration) -> Result<(Sample, u64)> {
    let Some(core) = core_of(workload) else { anyhow::bail!("{} is no mix", workload.name()) };
    let common = Common { mix: Mix::new(core, set.n), retries: AtomicU64::new(0) };
    let make = |thread: u64| -> Result<Worker<'_>> {
        let (mut on, common) = (OnData::new(engine, set, thread)?, &common);
        Ok(Box::new(move || step(&mut on, common).map(Some)))
    };
    let end = || if workload.writes() { engine.sync() } else { Ok(()) };
    let sample = clock::run(threads, Some(limit), make, end)?;
    Ok((sample, common.retries.load(Relaxed)))
}

fn step(on: &mut OnData<'_>, common: &Common) -> Result<Amount> {
    let Common { mix, retries } = common;
    match mix.step(&mut on.random) {
        Step::Get(i) => on.look(i),
        Step::Scan { from, len, whole } => on.scan_growing(from, len, whole),
        Step::Update(i) => on.put(i),
        Step::Insert(i) => {
            let amount = on.put(i)?;
            mix.inserted(i);
            Ok(amount)
        }
        Step::Modify(i) => {
            retries.fetch_add(on.modify(i)?, Relaxed);
            Ok(on.set.amount(1))
        }
    }
}
