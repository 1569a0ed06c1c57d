//! Costs that must not grow: curves of what something costs against something that should not matter to it.
//!
//! ```text
//!   cost-get      a point read       against  the number of entries
//!   cost-commit   a commit           against  the number of entries
//!   cost-open     an open            against  the number of entries
//!   cost-log      a point read       against  the length of the log, with as many entries as the smallest size
//! ```
//!
//! One database grows from size to size. Reads and commits of random entries become slower as less of what they touch is in the
//! processor's caches, and as the trees become higher: a little, at every tenfold. An open must not become slower at all.

use super::Args;
use super::measured::{Cost, Measured};
use super::place::{Contents, Place};
use super::workloads::Bench;
use crate::error::Result;
use crate::output::Output;
use ashlar_workload::{Permutation, data};
use ashlardb::{Durability, Keyspace};
use std::ops::Range;

/// Writes of a commit where the log is made long.
const LOG_BATCH: u64 = 1000;
/// What a write has in the log besides its key and value, at most, on average.
const LOG_OVERHEAD: u64 = 64;
const ORDER_SEED: u64 = 0xC057;

/// Measures all of them.
pub(super) fn run(args: &Args, out: &Output) -> Result<Vec<Measured>> {
    let mut sizes = args.sizes.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let largest = sizes.last().copied().unwrap_or_default();
    let value_len = args.value_size as usize;
    // So that the log can become as long as it is to be. A checkpoint is due at the half.
    let log_bytes = largest.saturating_mul(data::KEY_LEN as u64 + args.value_size + LOG_OVERHEAD);
    let options = args.open.options().log_limit(log_bytes.saturating_mul(4).max(64 << 20));
    let mut place = Place::for_costs(args, options)?;
    let outcome = curves(args, out, &mut place, &sizes, value_len);
    let left = place.leave(args.keep);
    outcome.and_then(|measured| left.map(|()| measured))
}

fn curves(args: &Args, out: &Output, place: &mut Place, sizes: &[u64], value_len: usize) -> Result<Vec<Measured>> {
    let (mut all, mut before) = (Vec::new(), 0);
    for &n in sizes {
        let bench = Bench { args, set: Contents { n, value_len }, out };
        bench.grow(place, before..n)?;
        if before == 0 {
            all.extend(bench.against_log(place, sizes)?);
        }
        all.extend(bench.against_size(place)?);
        before = n;
    }
    Ok(all)
}

impl Measured {
    fn of_cost(mut self, of: &'static str, against: &'static str, x: u64) -> Measured {
        self.cost = Some(Cost { of, against, x });
        self
    }
}

impl Bench<'_> {
    /// Inserts entries, durable, with nothing left of it to do.
    fn grow(&self, place: &mut Place, entries: Range<u64>) -> Result<()> {
        let (data, threads, len) = (place.data()?, u64::from(self.args.threads), entries.end - entries.start);
        self.measure(format!("loading {}", entries.end), data.database(), self.args.threads, None, |thread| {
            let share = |t: u64| entries.start + (u128::from(len) * u128::from(t) / u128::from(threads)) as u64;
            self.loader(data.clone(), share(thread)..share(thread + 1), None)
        })?;
        place.note(self.set)?;
        Ok(data.database().checkpoint()?)
    }

    fn against_size(&self, place: &mut Place) -> Result<Vec<Measured>> {
        const ENTRIES: &str = "entries";
        let n = self.set.n;
        let get = self.gets(format!("cost-get {n}"), &place.data()?)?.of_cost("get", ENTRIES, n);
        let data = place.data()?;
        let commit = self.measure(format!("cost-commit {n}"), data.database(), 1, self.limit(), |_| {
            self.on_data(&data, 0).put_random(Durability::Eventual)
        })?;
        drop(data);
        let open = self.opens(format!("cost-open {n}"), place)?;
        Ok(vec![get, commit.of_cost("commit", ENTRIES, n), open.of_cost("open", ENTRIES, n)])
    }

    /// With a log of about so many writes, or as long as the engine lets it become.
    fn against_log(&self, place: &mut Place, writes: &[u64]) -> Result<Vec<Measured>> {
        let (data, mut all, mut done) = (place.data()?, Vec::new(), 0);
        for &upto in writes {
            self.lengthen_log(&data, done..upto)?;
            done = upto;
            let used = data.database().stats().log.unwrap_or_default().used;
            all.push(self.gets(format!("cost-log {upto}"), &data)?.of_cost("get", "bytes of log", used));
        }
        drop(data);
        Ok(all)
    }

    fn gets(&self, name: String, data: &Keyspace) -> Result<Measured> {
        self.measure(name, data.database(), 1, self.limit(), |_| self.on_data(data, 0).get(None))
    }

    /// Writes entries anew, as often as there are numbers in that range.
    fn lengthen_log(&self, data: &Keyspace, writes: Range<u64>) -> Result<()> {
        let order = Permutation::new(self.set.n, ORDER_SEED);
        let (mut value, mut next) = (Vec::new(), writes.start);
        while next < writes.end {
            let mut batch = data.database().batch();
            // No entry twice in a batch: of two writes to a key only the last would be logged.
            let end = writes.end.min(next + LOG_BATCH.min(self.set.n));
            for position in next..end {
                let i = order.of(position % self.set.n);
                data::value(i, 1 + position / self.set.n, self.set.value_len, &mut value);
                batch.insert(data, data::key(i), &value)?;
            }
            next = end;
            batch.commit_with(Durability::Eventual)?;
        }
        Ok(data.database().flush()?)
    }
}
