//! The core workloads of the YCSB benchmark (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010).
//!
//! ```text
//!   a  50 % read, 50 % update             zipf
//!   b  95 % read,  5 % update             zipf
//!   c  read                               zipf
//!   d  95 % read,  5 % insert             the latest are read most: zipf over how long ago an entry was inserted
//!   e  95 % scan of 1 to 100, 5 % insert  begin: zipf; length: evenly
//!   f  50 % read, 50 % read-modify-write  zipf; a serializable transaction
//! ```
//!
//! 1. An update writes a whole value, without reading it. Inserts are in key order, behind what is there.
//! 2. A read chooses among entries whose commits have returned: each must be there. What is inserted meanwhile a scan may meet or not.
//! 3. What d and e have inserted is removed before the next workload.

use super::choice::Choice;
use super::data;
use super::grown::Grown;
use super::on_data::OnData;
use super::run::{Amount, Worker};
use super::wrong;
use super::zipf::Zipf;
use crate::error::Result;
use ashlardb::Durability;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The longest scan.
const SCAN_LEN_MAX: u64 = 100;

/// How entries are looked at.
#[derive(Clone, Copy, Debug)]
enum Look {
    Popular,
    Latest,
    Scan,
}

/// How the data changes.
#[derive(Clone, Copy, Debug)]
enum Change {
    Update,
    Insert,
    Modify,
}

/// What a workload consists of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    looks_percent: u64,
    look: Look,
    change: Change,
}

impl Mix {
    /// That of a workload, if it is one of these.
    pub(super) fn of(choice: Choice) -> Option<Mix> {
        let (looks_percent, look, change) = match choice {
            Choice::YcsbA => (50, Look::Popular, Change::Update),
            Choice::YcsbB => (95, Look::Popular, Change::Update),
            Choice::YcsbC => (100, Look::Popular, Change::Update),
            Choice::YcsbD => (95, Look::Latest, Change::Insert),
            Choice::YcsbE => (95, Look::Scan, Change::Insert),
            Choice::YcsbF => (50, Look::Popular, Change::Modify),
            _ => return None,
        };
        Some(Mix { looks_percent, look, change })
    }
}

/// What all threads of a workload share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) mix: Mix,
    pub(super) durability: Durability,
    zipf: Zipf,
    grown: Grown,
    pub(super) retries: AtomicU64,
}

impl Common {
    /// Over `n` entries.
    pub(super) fn new(mix: Mix, n: u64, durability: Durability) -> Common {
        Common { mix, durability, zipf: Zipf::new(n), grown: Grown::from(n), retries: AtomicU64::new(0) }
    }
}

/// One thread of one.
pub(super) fn client(mut on: OnData, common: Arc<Common>) -> Worker {
    let mut value = Vec::new();
    Box::new(move || step(&mut on, &common, &mut value).map(Some))
}

fn step(on: &mut OnData, common: &Common, value: &mut Vec<u8>) -> Result<Amount> {
    let Common { mix, durability, zipf, grown, retries } = common;
    if on.random.below(100) < mix.looks_percent {
        return match mix.look {
            Look::Popular => {
                let i = zipf.next(&mut on.random);
                on.look(i, value).map(|()| on.set.amount(1))
            }
            Look::Latest => {
                // The zipf is over as many entries as there were at first.
                let i = grown.whole() - 1 - zipf.next_rank(&mut on.random);
                on.look(i, value).map(|()| on.set.amount(1))
            }
            Look::Scan => {
                let (from, len) = (zipf.next(&mut on.random), 1 + on.random.below(SCAN_LEN_MAX));
                scan(on, from, len, grown.whole()).map(|entries| on.set.amount(entries))
            }
        };
    }
    match mix.change {
        Change::Update => {
            let i = zipf.next(&mut on.random);
            on.put(i, *durability, value)?;
        }
        Change::Insert => {
            let i = grown.next();
            on.put(i, *durability, value)?;
            grown.is_there(i);
        }
        Change::Modify => {
            let i = zipf.next(&mut on.random);
            retries.fetch_add(on.modify(i, *durability, value)?, Relaxed);
        }
    }
    Ok(on.set.amount(1))
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
