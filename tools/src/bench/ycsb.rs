//! One thread of a core workload of YCSB ([`ashlar_workload::ycsb`] says what they are).
//!
//! A read-modify-write is a serializable transaction. What d and e have inserted is removed before the next workload.

use super::choice::Choice;
use super::on_data::OnData;
use super::run::{Amount, Worker};
use super::wrong;
use crate::error::Result;
use ashlar_workload::data;
use ashlar_workload::ycsb::{Core, Mix, Step};
use ashlardb::Durability;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which of them a workload is, if it is one.
pub(super) fn core_of(choice: Choice) -> Option<Core> {
    match choice {
        Choice::YcsbA => Some(Core::A),
        Choice::YcsbB => Some(Core::B),
        Choice::YcsbC => Some(Core::C),
        Choice::YcsbD => Some(Core::D),
        Choice::YcsbE => Some(Core::E),
        Choice::YcsbF => Some(Core::F),
        _ => None,
    }
}

/// What all threads of a workload share.
#[derive(Debug)]
pub(super) struct Common {
    mix: Mix,
    durability: Durability,
    pub(super) retries: AtomicU64,
}

impl Common {
    /// Over `n` entries.
    pub(super) fn new(core: Core, n: u64, durability: Durability) -> Common {
        Common { mix: Mix::new(core, n), durability, retries: AtomicU64::new(0) }
    }
}

/// One thread of one.
pub(super) fn client(mut on: OnData, common: Arc<Common>) -> Worker {
    let mut value = Vec::new();
    Box::new(move || step(&mut on, &common, &mut value).map(Some))
}

fn step(on: &mut OnData, common: &Common, value: &mut Vec<u8>) -> Result<Amount> {
    let Common { mix, durability, retries } = common;
    let mut entries = 1;
    match mix.step(&mut on.random) {
        Step::Get(i) => on.look(i, value)?,
        Step::Scan { from, len, whole } => entries = scan(on, from, len, whole)?,
        Step::Update(i) => on.put(i, *durability, value)?,
        Step::Insert(i) => {
            on.put(i, *durability, value)?;
            mix.inserted(i);
        }
        Step::Modify(i) => drop(retries.fetch_add(on.modify(i, *durability, value)?, Relaxed)),
    }
    Ok(on.set.amount(entries))
}

/// Reads up to `len` entries from `from` on, and sees that none of those below `whole` is missing: how many they were.
fn scan(on: &OnData, from: u64, len: u64, whole: u64) -> Result<u64> {
    let mut range = on.data.range(data::key(from)..);
    let mut next = from;
    for read in 0..len {
        let Some(entry) = range.next() else {
            return if next < whole { Err(wrong(format!("a scan ends before entry {next}"))) } else { Ok(read) };
        };
        let (key, value) = entry?;
        // Behind `whole` there may be gaps: entries whose commits are under way.
        let found = data::entry_of(&key).filter(|&i| if next < whole { i == next } else { i >= next });
        let Some(i) = found else {
            return Err(wrong(format!("a scan gives key {} where entry {next} should be", key.escape_ascii())));
        };
        on.set.check(i, Some(&value))?;
        next = i + 1;
    }
    Ok(len)
}
