//! Values of 1 MiB: put, each a commit, durable at the end; got in random order.

use super::Set;
use super::on_data::OnData;
use crate::clock::{self, Sample, Worker};
use crate::engine::Engine;
use anyhow::Result;
use ashlar_workload::data;
use std::time::Duration;

/// Bytes of a value.
pub const LEN: usize = 1 << 20;

/// Puts all values of `set`.
///
/// # Errors
/// Those of the engine.
pub fn put(engine: &dyn Engine, set: Set, threads: usize, limit: Duration) -> Result<Sample> {
    let make = |thread: u64| -> Result<Worker<'_>> {
        let (mut session, mut value) = (engine.session()?, Vec::new());
        let mut left = (thread..set.n).step_by(threads);
        Ok(Box::new(move || {
            let Some(i) = left.next() else { return Ok(None) };
            data::value(i, 0, set.value_len, &mut value);
            session.put(&data::key(i), &value)?;
            Ok(Some(set.amount(1)))
        }))
    };
    clock::run(threads, Some(limit), make, || engine.sync())
}

/// Gets values for `limit`.
///
/// # Errors
/// Those of the engine, and wrong data.
pub fn get(engine: &dyn Engine, set: Set, threads: usize, limit: Duration) -> Result<Sample> {
    let make = |thread: u64| -> Result<Worker<'_>> {
        let mut on = OnData::new(engine, set, thread)?;
        Ok(Box::new(move || {
            let i = on.random.below(on.set.n);
            on.look(i).map(Some)
        }))
    };
    clock::run(threads, Some(limit), make, || Ok(()))
}
