//! What one thread does on the data set, again and again.

use super::{Set, wrong};
use crate::clock::{self, Amount, Sample, Worker};
use crate::engine::{Engine, Key, Session};
use crate::workload::Workload;
use anyhow::{Result, ensure};
use ashlar_workload::Zipf;
use ashlar_workload::{Random, data};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Reads of a batch of get-many.
const READ_BATCH: usize = 64;
/// Entries of scan-100.
const SCAN_LEN: u64 = 100;

/// A session on the data set.
pub struct OnData<'a> {
    session: Box<dyn Session + 'a>,
    /// The data set.
    pub set: Set,
    /// Choices of this thread.
    pub random: Random,
    value: Vec<u8>,
}

/// Runs a read or write workload for `limit`; gives how many transactions began again, too.
///
/// # Errors
/// Those of the engine, and wrong data.
pub fn run(engine: &dyn Engine, workload: Workload, set: Set, threads: usize, limit: Duration) -> Result<(Sample, u64)> {
    let zipf = Zipf::new(set.n);
    let retries = AtomicU64::new(0);
    let make = |thread: u64| -> Result<Worker<'_>> {
        let on = OnData::new(engine, set, thread)?;
        let (zipf, retries) = (&zipf, &retries);
        Ok(match workload {
            Workload::GetZipf => on.each(move |on| {
                let i = zipf.next(&mut on.random);
                on.look(i)
            }),
            Workload::GetMany => on.get_many(),
            Workload::ScanFull => on.each(|on| on.scan(0, on.set.n)),
            Workload::Scan100 => on.each(|on| {
                let from = on.random.below(on.set.n);
                on.scan(from, from.saturating_add(SCAN_LEN).min(on.set.n))
            }),
            Workload::PutSync | Workload::PutAsync => on.each(|on| {
                let i = on.random.below(on.set.n);
                on.put(i)
            }),
            Workload::UpdateRand | Workload::Recover => on.each(move |on| {
                let i = on.random.below(on.set.n);
                retries.fetch_add(on.modify(i)?, Relaxed);
                Ok(on.set.amount(1))
            }),
            _ => on.each(|on| {
                let i = on.random.below(on.set.n);
                on.look(i)
            }),
        })
    };
    let end = || if workload.writes() { engine.sync() } else { Ok(()) };
    let sample = clock::run(threads, Some(limit), make, end)?;
    Ok((sample, retries.load(Relaxed)))
}

impl<'a> OnData<'a> {
    /// That of a thread.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn new(engine: &'a dyn Engine, set: Set, thread: u64) -> Result<OnData<'a>> {
        Ok(OnData { session: engine.session()?, set, random: Random::new(1 + thread), value: Vec::new() })
    }

    fn each(mut self, mut step: impl FnMut(&mut OnData<'a>) -> Result<Amount> + 'a) -> Worker<'a> {
        Box::new(move || step(&mut self).map(Some))
    }

    fn get_many(self) -> Worker<'a> {
        let (mut chosen, mut keys): (Vec<u64>, Vec<Key>) = (Vec::new(), Vec::new());
        self.each(move |on| {
            chosen.clear();
            chosen.extend((0..READ_BATCH).map(|_| on.random.below(on.set.n)));
            keys.clear();
            keys.extend(chosen.iter().map(|&i| data::key(i)));
            let (set, mut told) = (on.set, 0);
            on.session.get_many(&keys, &mut |at, value| {
                told += 1;
                set.check(chosen[at], value).map(drop)
            })?;
            ensure!(told == keys.len(), wrong(format!("of {} keys {told} were told of", keys.len())));
            Ok(set.amount(told as u64))
        })
    }

    /// Reads entry `i`.
    ///
    /// # Errors
    /// Those of the engine, and wrong data.
    pub fn look(&mut self, i: u64) -> Result<Amount> {
        let set = self.set;
        self.session.get(&data::key(i), &mut |value| set.check(i, value).map(drop))?;
        Ok(set.amount(1))
    }

    /// Reads the entries `from..to`, and sees that there are no others between.
    ///
    /// # Errors
    /// Those of the engine, and wrong data.
    pub fn scan(&mut self, from: u64, to: u64) -> Result<Amount> {
        let (set, mut next) = (self.set, from);
        // No end is given: a scan of 100 entries is one that stops after as many. One of all sees that nothing is behind the last.
        self.session.scan(&data::key(from), &mut |key, value| {
            ensure!(next < to, wrong("a scan goes on behind the last entry".into()));
            set.check_entry(next, key, value)?;
            next += 1;
            Ok(next < to || to == set.n)
        })?;
        ensure!(next == to, wrong(format!("a scan ends before entry {next}")));
        Ok(set.amount(to - from))
    }

    /// Reads up to `len` entries from `from` on while others are inserted, and sees that none of those below `whole` is missing.
    ///
    /// # Errors
    /// Those of the engine, and wrong data.
    pub fn scan_growing(&mut self, from: u64, len: u64, whole: u64) -> Result<Amount> {
        let (set, mut next, mut read) = (self.set, from, 0);
        self.session.scan(&data::key(from), &mut |key, value| {
            // Behind `whole` there may be gaps: entries whose commits are under way.
            let found = data::entry_of(key).filter(|&i| if next < whole { i == next } else { i >= next });
            let i = found.ok_or_else(|| wrong(format!("a scan gives key {} for entry {next}", key.escape_ascii())))?;
            set.check(i, Some(value))?;
            (next, read) = (i + 1, read + 1);
            Ok(read < len)
        })?;
        ensure!(read == len || next >= whole, wrong(format!("a scan ends before entry {next}")));
        Ok(set.amount(read))
    }

    /// Writes entry `i` anew, whatever it holds.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn put(&mut self, i: u64) -> Result<Amount> {
        data::value(i, self.random.word(), self.set.value_len, &mut self.value);
        self.session.put(&data::key(i), &self.value)?;
        Ok(self.set.amount(1))
    }

    /// Reads entry `i` and writes it changed, as one step; how often it had to begin again.
    ///
    /// # Errors
    /// Those of the engine, and wrong data.
    pub fn modify(&mut self, i: u64) -> Result<u64> {
        let set = self.set;
        self.session.update(&data::key(i), &mut |found, value| {
            let generation = set.check(i, found)?;
            data::value(i, generation.wrapping_add(1), set.value_len, value);
            Ok(())
        })
    }
}
