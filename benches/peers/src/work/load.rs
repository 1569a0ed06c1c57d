//! Inserts of the whole data set.

use super::{ORDER_SEED, Set};
use crate::clock::{self, Sample, Worker};
use crate::engine::{Engine, Key};
use crate::workload::Workload;
use anyhow::Result;
use ashlar_workload::{Permutation, data};
use std::time::{Duration, Instant};

/// Entries of a transaction.
const BATCH: usize = 1000;

/// Loads `set` as `workload` says, in `threads` threads, durable at the end; stops after `limit`.
///
/// # Errors
/// Those of the engine.
pub fn run(engine: &dyn Engine, workload: Workload, set: Set, threads: usize, limit: Duration) -> Result<Sample> {
    match workload {
        Workload::BulkLoad => bulk(engine, set),
        Workload::LoadRand => by_transactions(engine, set, Some(Permutation::new(set.n, ORDER_SEED)), threads, limit),
        _ => by_transactions(engine, set, None, threads, limit),
    }
}

fn by_transactions(engine: &dyn Engine, set: Set, order: Option<Permutation>, threads: usize, limit: Duration) -> Result<Sample> {
    let each = set.n.div_ceil(threads as u64);
    let make = |thread: u64| -> Result<Worker<'_>> {
        let mut session = engine.session()?;
        let mut left = (thread * each).min(set.n)..((thread + 1) * each).min(set.n);
        let mut batch: Vec<(Key, Vec<u8>)> = Vec::new();
        Ok(Box::new(move || {
            let entries = left.by_ref().take(BATCH).map(|position| order.map_or(position, |order| order.of(position)));
            let len = refill(&mut batch, entries, set);
            if len == 0 {
                return Ok(None);
            }
            session.put_batch(&batch[..len])?;
            Ok(Some(set.amount(len as u64)))
        }))
    };
    clock::run(threads, Some(limit), make, || engine.sync())
}

/// Puts entries into a batch whose memory is used again; how many they are.
fn refill(batch: &mut Vec<(Key, Vec<u8>)>, entries: impl Iterator<Item = u64>, set: Set) -> usize {
    let mut len = 0;
    for i in entries {
        if len == batch.len() {
            batch.push((Key::default(), Vec::new()));
        }
        batch[len].0 = data::key(i);
        data::value(i, 0, set.value_len, &mut batch[len].1);
        len += 1;
    }
    len
}

/// One operation: the whole load.
fn bulk(engine: &dyn Engine, set: Set) -> Result<Sample> {
    let start = Instant::now();
    let mut entries = (0..set.n).map(|i| {
        // Made by whoever fills it, with room for all that it writes.
        let mut value = Vec::new();
        data::value(i, 0, set.value_len, &mut value);
        (data::key(i), value)
    });
    engine.bulk_load(&mut entries)?;
    let elapsed = start.elapsed();
    let mut sample = Sample { elapsed, complete: true, ..Sample::empty()? };
    sample.add(set.amount(set.n), elapsed, elapsed);
    sample.steps.clear();
    Ok(sample)
}
