//! The workloads.

use super::choice::Choice;
use super::measured::{Delta, Extra, Measured};
use super::on_data::OnData;
use super::place::{Contents, Place};
use super::run::{Amount, Group, Tally, Worker, run as measure};
use super::watch::{Goal, Live, Watch};
use super::{Args, DurabilityArg, costs, pause, wrong, ycsb};
use crate::error::{Error, Result};
use crate::output::Output;
use ashlar_disk::sync::now;
use ashlar_workload::Zipf;
use ashlar_workload::ycsb::Core;
use ashlar_workload::{Permutation, Random, data};
use ashlardb::{Database, Durability, Keyspace};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const LOAD_BATCH: u32 = 1000;
const READ_BATCH: u32 = 64;
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
        Choice::Reopen => Ok(vec![bench.reopen(place)?]),
        Choice::Recover => Ok(vec![bench.recover(place)?]),
        Choice::Costs => costs::run(args, out),
        _ => {
            let data = bench.loaded(place)?;
            match (choice, ycsb::core_of(choice)) {
                (Choice::GetRandWriters, _) => bench.get_beside_writer(&data),
                (Choice::UpdateRand, _) => Ok(vec![bench.update(&data)?]),
                (Choice::Pause, _) => bench.pause(&data),
                (_, Some(core)) => Ok(vec![bench.ycsb(choice, core, &data)?]),
                (_, None) => Ok(vec![bench.read(choice, &data)?]),
            }
        }
    }
}

/// Threads that do the same, measured by themselves.
struct Part {
    name: String,
    limit: Option<Duration>,
    workers: Vec<Worker>,
}

/// One workload's settings.
pub(super) struct Bench<'a> {
    pub(super) args: &'a Args,
    pub(super) set: Contents,
    pub(super) out: &'a Output,
}

impl Bench<'_> {
    pub(super) fn limit(&self) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.args.seconds))
    }

    fn durability(&self) -> Durability {
        match self.args.durability {
            Some(DurabilityArg::Immediate) => Durability::Immediate,
            Some(DurabilityArg::Eventual) | None => Durability::Eventual,
        }
    }

    /// Workers of `threads` threads, measured; what they committed is durable at the end.
    pub(super) fn measure(
        &self,
        name: String,
        db: &Database,
        threads: u32,
        limit: Option<Duration>,
        worker: impl Fn(u64) -> Worker,
    ) -> Result<Measured> {
        let workers = (0..u64::from(threads)).map(worker).collect();
        let mut measured = self.measure_parts(db, vec![Part { name, limit, workers }])?;
        Ok(measured.remove(0))
    }

    /// Several kinds of work beside each other, a result each.
    fn measure_parts(&self, db: &Database, parts: Vec<Part>) -> Result<Vec<Measured>> {
        let names: Vec<(String, usize)> = parts.iter().map(|part| (part.name.clone(), part.workers.len())).collect();
        let label = names.first().map(|(name, _)| name.clone()).unwrap_or_default();
        let live = Live::new(self.out, &label, self.goal(&parts));
        let tally = Arc::new(Tally::new(names.iter().map(|(_, threads)| threads).sum()));
        let before = db.stats();
        let groups = parts.into_iter().map(|Part { limit, workers, .. }| Group { workers, limit }).collect();
        let start = now();
        let watch = Watch::start(db, start, tally.clone(), live)?;
        let samples = measure(groups, start, &tally, || Ok(db.flush()?))?;
        let checkpoints = watch.finish()?;
        let engine = Delta::between(&before, &db.stats());
        let last = names.len() - 1;
        let measured = names.into_iter().zip(samples).enumerate();
        let measured = measured.map(|(part, ((name, threads), sample))| Measured {
            name,
            threads,
            sample,
            checkpoints: checkpoints.clone(),
            extra: Vec::new(),
            cost: None,
            engine,
            is_last: part == last,
        });
        Ok(measured.collect())
    }

    /// When they will be done. What has no limit of time works through the data set, except for large transactions beside small ones.
    fn goal(&self, parts: &[Part]) -> Goal {
        match parts {
            [Part { limit: Some(limit), .. }, ..] => Goal::Time(*limit),
            [_] => Goal::Entries(self.set.n),
            _ => Goal::Unknown,
        }
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

    pub(super) fn loader(&self, data: Keyspace, mut left: std::ops::Range<u64>, order: Option<Permutation>) -> Worker {
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
    pub(super) fn loaded(&self, place: &mut Place) -> Result<Keyspace> {
        if place.loaded(self.set)?.is_none() {
            self.fill(Choice::LoadRand, place)?;
        }
        let data = place.data()?;
        // A workload before, also one that was killed, may have inserted more.
        if data.len()? > self.set.n {
            data.remove_range(data::key(self.set.n)..)?;
        }
        // Measured without the work that a load has left over.
        place.database()?.checkpoint()?;
        if !self.args.cold {
            return Ok(data);
        }
        // The cache is the database's own, and empty after an open.
        drop(data);
        place.close()?;
        place.data()
    }

    pub(super) fn on_data(&self, data: &Keyspace, thread: u64) -> OnData {
        OnData { data: data.clone(), set: self.set, random: Random::new(1 + thread) }
    }

    fn read(&self, choice: Choice, data: &Keyspace) -> Result<Measured> {
        let threads = if choice == Choice::GetMany { 1 } else { self.args.threads };
        let zipf = (choice == Choice::GetZipf).then(|| Arc::new(Zipf::new(self.set.n)));
        self.measure(choice.name(), data.database(), threads, self.limit(), |thread| {
            let worker = self.on_data(data, thread);
            match choice {
                Choice::GetMany => worker.get_many(self.args.batch.unwrap_or(READ_BATCH)),
                Choice::ScanFull => worker.scan_full(),
                Choice::Scan100 => worker.scan_some(),
                _ => worker.get(zipf.clone()),
            }
        })
    }

    fn update(&self, data: &Keyspace) -> Result<Measured> {
        let retries = Arc::new(AtomicU64::new(0));
        let mut measured =
            self.measure(Choice::UpdateRand.name(), data.database(), self.args.threads, self.limit(), |thread| {
                self.on_data(data, thread).update(self.durability(), retries.clone())
            })?;
        measured.extra.push(("retries", Extra::Count(retries.load(Relaxed))));
        Ok(measured)
    }

    fn ycsb(&self, choice: Choice, core: Core, data: &Keyspace) -> Result<Measured> {
        let common = Arc::new(ycsb::Common::new(core, self.set.n, self.durability()));
        let mut measured = self.measure(choice.name(), data.database(), self.args.threads, self.limit(), |thread| {
            ycsb::client(self.on_data(data, thread), common.clone())
        })?;
        if choice == Choice::YcsbF {
            measured.extra.push(("retries", Extra::Count(common.retries.load(Relaxed))));
        }
        Ok(measured)
    }

    /// Point reads while one thread more commits single keys.
    fn get_beside_writer(&self, data: &Keyspace) -> Result<Vec<Measured>> {
        let (name, limit, threads) = (Choice::GetRandWriters.name(), self.limit(), u64::from(self.args.threads));
        let readers = (0..threads).map(|thread| self.on_data(data, thread).get(None)).collect();
        let writer = self.on_data(data, threads).put_random(self.durability());
        self.measure_parts(
            data.database(),
            vec![
                Part { name: format!("{name} get"), limit, workers: readers },
                Part { name: format!("{name} put"), limit, workers: vec![writer] },
            ],
        )
    }

    /// Single-key commits while another thread commits large transactions.
    fn pause(&self, data: &Keyspace) -> Result<Vec<Measured>> {
        let notes = Arc::new(pause::Notes::default());
        let small = pause::small(self.on_data(data, 0), notes.clone());
        let (writes, order) = (self.args.pause_writes, Permutation::new(self.set.n, ORDER_SEED));
        let limit = Duration::from_secs_f64(self.args.seconds);
        let large = pause::large(self.on_data(data, 1), writes, limit, order, notes.clone());
        let mut measured = self.measure_parts(
            data.database(),
            vec![
                Part { name: "pause small".into(), limit: None, workers: vec![small] },
                Part { name: "pause large".into(), limit: None, workers: vec![large] },
            ],
        )?;
        if let Some(large) = measured.last_mut() {
            large.extra = notes.of_large();
        }
        Ok(measured)
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
            self.on_data(&blobs, thread).get(None)
        })?;
        Ok(vec![put, get])
    }
}

impl Contents {
    pub(super) fn amount(self, entries: u64) -> Amount {
        Amount { entries, bytes: entries * self.entry_len() }
    }

    /// The generation of what was read for entry `i`; an error if it is not what was written.
    pub(super) fn check(self, i: u64, found: Option<impl AsRef<[u8]>>) -> Result<u64> {
        let Some(value) = found else { return Err(wrong(format!("entry {i} is missing"))) };
        let bytes = value.as_ref();
        data::generation_of(i, bytes, self.value_len)
            .ok_or_else(|| wrong(format!("entry {i} has a value of {} bytes that was never written there", bytes.len())))
    }
}
