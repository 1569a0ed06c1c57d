//! The core workloads of the YCSB benchmark (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010).
//!
//! ```text
//!   a  50 % read, 50 % update             zipf
//!   b  95 % read,  5 % update             zipf
//!   c  read                               zipf
//!   d  95 % read,  5 % insert             the latest are read most: zipf over how long ago an entry was inserted
//!   e  95 % scan of 1 to 100, 5 % insert  begin: zipf; length: evenly
//!   f  50 % read, 50 % read-modify-write  zipf
//! ```
//!
//! 1. An update writes a whole value, without reading it. Inserts are in key order, behind what is there.
//! 2. A read chooses among entries whose commits have returned: each must be there. What is inserted meanwhile a scan may meet or not.

use super::Set;
use super::on_data::OnData;
use crate::clock::{self, Amount, Sample, Worker};
use crate::engine::Engine;
use crate::grown::Grown;
use crate::workload::Workload;
use crate::zipf::Zipf;
use anyhow::Result;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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
struct Mix {
    looks_percent: u64,
    look: Look,
    change: Change,
}

impl Mix {
    fn of(workload: Workload) -> Option<Mix> {
        let (looks_percent, look, change) = match workload {
            Workload::YcsbA => (50, Look::Popular, Change::Update),
            Workload::YcsbB => (95, Look::Popular, Change::Update),
            Workload::YcsbC => (100, Look::Popular, Change::Update),
            Workload::YcsbD => (95, Look::Latest, Change::Insert),
            Workload::YcsbE => (95, Look::Scan, Change::Insert),
            Workload::YcsbF => (50, Look::Popular, Change::Modify),
            _ => return None,
        };
        Some(Mix { looks_percent, look, change })
    }
}

/// What all threads of a row share.
struct Common {
    mix: Mix,
    zipf: Zipf,
    grown: Grown,
    retries: AtomicU64,
}

/// Whether a workload is one of these.
pub fn is_one(workload: Workload) -> bool {
    Mix::of(workload).is_some()
}

/// Runs one of them for `limit`; gives how many transactions began again, too.
///
/// # Errors
/// Those of the engine, and wrong data.
pub fn run(engine: &dyn Engine, workload: Workload, set: Set, threads: usize, limit: Duration) -> Result<(Sample, u64)> {
    let Some(mix) = Mix::of(workload) else { anyhow::bail!("{} is no mix", workload.name()) };
    let common = Common { mix, zipf: Zipf::new(set.n), grown: Grown::from(set.n), retries: AtomicU64::new(0) };
    let make = |thread: u64| -> Result<Worker<'_>> {
        let (mut on, common) = (OnData::new(engine, set, thread)?, &common);
        Ok(Box::new(move || step(&mut on, common).map(Some)))
    };
    let end = || if workload.writes() { engine.sync() } else { Ok(()) };
    let sample = clock::run(threads, Some(limit), make, end)?;
    Ok((sample, common.retries.load(Relaxed)))
}

fn step(on: &mut OnData<'_>, common: &Common) -> Result<Amount> {
    let Common { mix, zipf, grown, retries } = common;
    if on.random.below(100) < mix.looks_percent {
        return match mix.look {
            Look::Popular => {
                let i = zipf.next(&mut on.random);
                on.look(i)
            }
            // The zipf is over as many entries as there were at first.
            Look::Latest => {
                let i = grown.whole() - 1 - zipf.next_rank(&mut on.random);
                on.look(i)
            }
            Look::Scan => {
                let (from, len) = (zipf.next(&mut on.random), 1 + on.random.below(SCAN_LEN_MAX));
                on.scan_growing(from, len, grown.whole())
            }
        };
    }
    match mix.change {
        Change::Update => {
            let i = zipf.next(&mut on.random);
            on.put(i)
        }
        Change::Insert => {
            let i = grown.next();
            let amount = on.put(i)?;
            grown.is_there(i);
            Ok(amount)
        }
        Change::Modify => {
            let i = zipf.next(&mut on.random);
            retries.fetch_add(on.modify(i)?, Relaxed);
            Ok(on.set.amount(1))
        }
    }
}
