//! The workloads.

use super::data::{self, Permutation, Random};
use super::place::{Contents, Place};
use super::report::{Delta, Measured};
use super::run::{Amount, Worker, run as measure};
use super::zipf::Zipf;
use super::{Args, Choice, DurabilityArg, wrong};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::progress::Spinner;
use ashlardb::{Database, Durability, Keyspace};
use std::sync::Arc;
use std::time::Duration;

const LOAD_BATCH: u32 = 1000;
const READ_BATCH: u32 = 64;
const SCAN_LEN: u64 = 100;
/// Where the random order of a load comes from.
const ORDER_SEED: u64 = 0x0DE2;

/// Runs one; several results where it has several parts.
pub(super) fn run(choice: Choice, args: &Args, place: &mut Place, out: &Output) -> Result<Vec<Measured>> {
    let set = match choice {
        Choice::Blob => Contents { n: args.blobs, value_len: args.blob_size as usize },
        _ => Contents { n: args.n, value_len: args.value_size as usize },
    };
    let bench = Bench { args, set, out };
    match choice {
        Choice::LoadBulk => Ok(vec![bench.load_bulk(place)?]),
        Choice::LoadSeq | Choice::LoadRand => Ok(vec![bench.load(choice, place)?]),
        Choice::PutSync | Choice::PutAsync => Ok(vec![bench.put(choice, place)?]),
        Choice::Blob => bench.blob(place),
        _ => {
            let data = bench.loaded(place)?;
            Ok(vec![bench.on_data(choice, &data)?])
        }
    }
}

/// One workload's settings.
struct Bench<'a> {
    args: &'a Args,
    set: Contents,
    out: &'a Output,
}

impl Bench<'_> {
    fn limit(&self) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.args.seconds))
    }

    fn durability(&self) -> Durability {
        match self.args.durability {
            Some(DurabilityArg::Immediate) => Durability::Immediate,
            Some(DurabilityArg::Eventual) | None => Durability::Eventual,
        }
    }

    /// Workers of `threads` threads, measured; what they committed is durable at the end.
    fn measure(
        &self,
        name: String,
        db: &Database,
        threads: u32,
        limit: Option<Duration>,
        worker: impl Fn(u64) -> Worker,
    ) -> Result<Measured> {
        let _spinner = Spinner::start(self.out, name.clone())?;
        let before = db.stats();
        let workers: Vec<Worker> = (0..u64::from(threads)).map(worker).collect();
        let sample = measure(workers, limit, || Ok(db.flush()?))?;
        Ok(Measured { name, threads: threads as usize, sample, engine: Delta::between(&before, &db.stats()) })
    }

    /// One operation: the whole load.
    fn load_bulk(&self, place: &mut Place) -> Result<Measured> {
        place.fresh()?;
        let data = place.data()?;
        let set = self.set;
        let measured = self.measure(Choice::LoadBulk.name(), data.database(), 1, None, |_| {
            let mut data = Some(data.clone());
            Box::new(move || {
                let Some(data) = data.take() else { return Ok(None) };
                let entries = data.bulk_load((0..set.n).map(|i| {
                    let mut value = Vec::new();
                    data::value(i, 0, set.value_len, &mut value);
                    Ok::<_, Error>((data::key(i), value))
                }))?;
                Ok(Some(set.amount(entries)))
            })
        })?;
        place.note(set)?;
        Ok(measured)
    }

    fn load(&self, choice: Choice, place: &mut Place) -> Result<Measured> {
        place.fresh()?;
        self.fill(choice, place)
    }

    fn fill(&self, choice: Choice, place: &mut Place) -> Result<Measured> {
        let data = place.data()?;
        let order = (choice == Choice::LoadRand).then(|| Permutation::new(self.set.n, ORDER_SEED));
        let threads = self.args.threads;
        let measured = self.measure(choice.name(), data.database(), threads, None, |thread| {
            let share = |t: u64| (u128::from(self.set.n) * u128::from(t) / u128::from(threads)) as u64;
            self.loader(data.clone(), share(thread)..share(thread + 1), order)
        })?;
        place.note(self.set)?;
        Ok(measured)
    }

    fn loader(&self, data: Keyspace, mut left: std::ops::Range<u64>, order: Option<Permutation>) -> Worker {
        let (set, durability) = (self.set, self.durability());
        let batch_len = u64::from(self.args.batch.unwrap_or(LOAD_BATCH));
        let mut value = Vec::new();
        Box::new(move || {
            let mut batch = data.database().batch();
            for position in left.by_ref().take(batch_len as usize) {
                let i = order.map_or(position, |order| order.of(position));
                data::value(i, 0, set.value_len, &mut value);
                batch.insert(&data, data::key(i), &value)?;
            }
            let entries = batch.len() as u64;
            batch.commit_with(durability)?;
            Ok((entries > 0).then(|| set.amount(entries)))
        })
    }

    /// The data set; loaded first, if it is not there.
    fn loaded(&self, place: &mut Place) -> Result<Keyspace> {
        if place.loaded(self.set)?.is_none() {
            self.fill(Choice::LoadRand, place)?;
        }
        // Measured without the work that a load has left over.
        place.database()?.checkpoint()?;
        place.data()
    }

    fn on_data(&self, choice: Choice, data: &Keyspace) -> Result<Measured> {
        let threads = if choice == Choice::GetMany { 1 } else { self.args.threads };
        let zipf = (choice == Choice::GetZipf).then(|| Arc::new(Zipf::new(self.set.n)));
        self.measure(choice.name(), data.database(), threads, self.limit(), |thread| {
            let worker = OnData { data: data.clone(), set: self.set, random: Random::new(1 + thread) };
            match choice {
                Choice::GetMany => worker.get_many(self.args.batch.unwrap_or(READ_BATCH)),
                Choice::ScanFull => worker.scan_full(),
                Choice::Scan100 => worker.scan_some(),
                Choice::UpdateRand => worker.update(thread, u64::from(threads), self.durability()),
                _ => worker.get(zipf.clone()),
            }
        })
    }

    /// Single-key commits: keys in random order, new ones until all N are there, then the same again, changed.
    fn put(&self, choice: Choice, place: &mut Place) -> Result<Measured> {
        let puts = place.database()?.keyspace(&choice.name())?;
        let durability = if choice == Choice::PutSync { Durability::Immediate } else { Durability::Eventual };
        let (set, threads) = (self.set, u64::from(self.args.threads));
        let order = Permutation::new(set.n, ORDER_SEED);
        self.measure(choice.name(), &puts.database().clone(), self.args.threads, self.limit(), |thread| {
            let (puts, mut position, mut value) = (puts.clone(), thread, Vec::new());
            Box::new(move || {
                let i = order.of(position % set.n);
                data::value(i, position / set.n, set.value_len, &mut value);
                puts.insert_with(data::key(i), &value, durability)?;
                position += threads;
                Ok(Some(set.amount(1)))
            })
        })
    }

    fn blob(&self, place: &mut Place) -> Result<Vec<Measured>> {
        let blobs = place.database()?.keyspace("blobs")?;
        if !blobs.is_empty()? {
            blobs.clear()?;
        }
        let (set, threads, durability) = (self.set, u64::from(self.args.threads), self.durability());
        let put = self.measure("blob put".into(), blobs.database(), self.args.threads, None, |thread| {
            let (blobs, mut value) = (blobs.clone(), Vec::new());
            let mut left = (thread..set.n).step_by(threads as usize);
            Box::new(move || {
                let Some(i) = left.next() else { return Ok(None) };
                data::value(i, 0, set.value_len, &mut value);
                blobs.insert_with(data::key(i), &value, durability)?;
                Ok(Some(set.amount(1)))
            })
        })?;
        let get = self.measure("blob get".into(), blobs.database(), self.args.threads, self.limit(), |thread| {
            OnData { data: blobs.clone(), set, random: Random::new(1 + thread) }.get(None)
        })?;
        Ok(vec![put, get])
    }
}

/// What a worker on the data set works with.
struct OnData {
    data: Keyspace,
    set: Contents,
    random: Random,
}

impl OnData {
    fn get(mut self, zipf: Option<Arc<Zipf>>) -> Worker {
        let mut value = Vec::new();
        Box::new(move || {
            let i = match &zipf {
                Some(zipf) => zipf.next(&mut self.random),
                None => self.random.below(self.set.n),
            };
            let found = self.data.get_into(data::key(i), &mut value)?;
            self.set.check(i, found.then_some(&value))?;
            Ok(Some(self.set.amount(1)))
        })
    }

    fn get_many(mut self, batch: u32) -> Worker {
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

    fn scan_full(self) -> Worker {
        Box::new(move || {
            self.scan(0, self.set.n)?;
            Ok(Some(self.set.amount(self.set.n)))
        })
    }

    fn scan_some(mut self) -> Worker {
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
        let mut range = self.data.range(data::key(from)..);
        for i in from..to {
            let Some(entry) = range.next() else { return Err(wrong(format!("a scan ends before entry {i}"))) };
            let (key, value) = entry?;
            if data::entry_of(&key) != Some(i) {
                return Err(wrong(format!("a scan gives key {} where entry {i} should be", key.escape_ascii())));
            }
            self.set.check(i, Some(&value))?;
        }
        match to == self.set.n && range.next().is_some() {
            true => Err(wrong("a scan goes on behind the last entry".into())),
            false => Ok(()),
        }
    }

    /// Entries are divided among the threads, so that no change is lost between a read and its write.
    fn update(mut self, thread: u64, threads: u64, durability: Durability) -> Worker {
        let mine = (self.set.n / threads).max(1);
        let mut value = Vec::new();
        Box::new(move || {
            let i = (self.random.below(mine) * threads + thread) % self.set.n;
            let found = self.data.get_into(data::key(i), &mut value)?;
            let generation = self.set.check(i, found.then_some(&value))?;
            data::value(i, generation + 1, self.set.value_len, &mut value);
            self.data.insert_with(data::key(i), &value, durability)?;
            Ok(Some(self.set.amount(1)))
        })
    }
}

impl Contents {
    fn amount(self, entries: u64) -> Amount {
        Amount { entries, bytes: entries * self.entry_len() }
    }

    /// The generation of what was read for entry `i`; an error if it is not what was written.
    fn check(self, i: u64, found: Option<impl AsRef<[u8]>>) -> Result<u64> {
        let Some(value) = found else { return Err(wrong(format!("entry {i} is missing"))) };
        let bytes = value.as_ref();
        data::generation_of(i, bytes, self.value_len)
            .ok_or_else(|| wrong(format!("entry {i} has a value of {} bytes that was never written there", bytes.len())))
    }
}
