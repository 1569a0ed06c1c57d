//! What one thread does on the data set, again and again.

use super::place::Contents;
use super::run::Worker;
use super::wrong;
use crate::error::{Error, Result};
use ashlar_workload::Zipf;
use ashlar_workload::{Random, data};
use ashlardb::{Durability, Isolation, Keyspace, Transaction, TransactionOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SCAN_LEN: u64 = 100;

/// What a worker on the data set works with.
pub(super) struct OnData {
    pub(super) data: Keyspace,
    pub(super) set: Contents,
    pub(super) random: Random,
}

impl OnData {
    pub(super) fn get(mut self, zipf: Option<Arc<Zipf>>) -> Worker {
        let mut value = Vec::new();
        Box::new(move || {
            let i = match &zipf {
                Some(zipf) => zipf.next(&mut self.random),
                None => self.random.below(self.set.n),
            };
            self.look(i, &mut value)?;
            Ok(Some(self.set.amount(1)))
        })
    }

    pub(super) fn get_many(mut self, batch: u32) -> Worker {
        let mut chosen = Vec::new();
        Box::new(move || {
            chosen.clear();
            chosen.extend((0..batch).map(|_| self.random.below(self.set.n)));
            let values = self.data.get_many(chosen.iter().map(|&i| data::key(i)))?;
            for (&i, value) in chosen.iter().zip(&values) {
                self.set.check(i, value.as_deref())?;
            }
            Ok(Some(self.set.amount(u64::from(batch))))
        })
    }

    pub(super) fn scan_full(self) -> Worker {
        Box::new(move || {
            self.scan(0, self.set.n)?;
            Ok(Some(self.set.amount(self.set.n)))
        })
    }

    pub(super) fn scan_some(mut self) -> Worker {
        Box::new(move || {
            let from = self.random.below(self.set.n);
            let to = from.saturating_add(SCAN_LEN).min(self.set.n);
            self.scan(from, to)?;
            Ok(Some(self.set.amount(to - from)))
        })
    }

    /// Reads the entries `from..to`, and sees that there are no others between.
    fn scan(&self, from: u64, to: u64) -> Result<()> {
        // No end is given: a scan of 100 entries is one that stops after as many.
        let mut cursor = self.data.cursor(data::key(from)..);
        for i in from..to {
            let Some((key, value)) = cursor.next()? else { return Err(wrong(format!("a scan ends before entry {i}"))) };
            if data::entry_of(key) != Some(i) {
                return Err(wrong(format!("a scan gives key {} where entry {i} should be", key.escape_ascii())));
            }
            self.set.check(i, Some(value))?;
        }
        match to == self.set.n && cursor.next()?.is_some() {
            true => Err(wrong("a scan goes on behind the last entry".into())),
            false => Ok(()),
        }
    }

    /// Reads a random entry and writes it changed, in one transaction. `retries` counts those that began again.
    pub(super) fn update(mut self, durability: Durability, retries: Arc<AtomicU64>) -> Worker {
        let mut value = Vec::new();
        Box::new(move || {
            let i = self.random.below(self.set.n);
            retries.fetch_add(self.modify(i, durability, &mut value)?, Relaxed);
            Ok(Some(self.set.amount(1)))
        })
    }

    /// Reads entry `i` and writes it changed, as a serializable transaction: how often it had to begin again.
    pub(super) fn modify(&self, i: u64, durability: Durability, value: &mut Vec<u8>) -> Result<u64> {
        let mut tries = 0;
        let options = TransactionOptions { isolation: Isolation::Serializable, durability: Some(durability) };
        self.data.database().transact_with(options, |transaction: &mut Transaction| {
            tries += 1;
            let generation = self.set.check(i, transaction.get(&self.data, data::key(i))?)?;
            data::value(i, generation.wrapping_add(1), self.set.value_len, value);
            Ok::<_, Error>(transaction.insert(&self.data, data::key(i), &value)?)
        })?;
        Ok(tries - 1)
    }

    /// Writes random entries anew.
    pub(super) fn put_random(mut self, durability: Durability) -> Worker {
        let mut value = Vec::new();
        Box::new(move || {
            let i = self.random.below(self.set.n);
            self.put(i, durability, &mut value)?;
            Ok(Some(self.set.amount(1)))
        })
    }

    /// Writes entry `i` anew, whatever it holds.
    pub(super) fn put(&mut self, i: u64, durability: Durability, value: &mut Vec<u8>) -> Result<()> {
        data::value(i, self.random.word(), self.set.value_len, value);
        Ok(self.data.insert_with(data::key(i), value, durability)?)
    }

    /// Reads entry `i`.
    pub(super) fn look(&self, i: u64, value: &mut Vec<u8>) -> Result<()> {
        let found = self.data.get_into(data::key(i), value)?;
        self.set.check(i, found.then_some(value)).map(drop)
    }
}
