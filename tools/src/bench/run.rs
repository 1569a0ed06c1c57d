//! Runs operations in threads against the clock, and keeps their latencies: one sample a group of threads that do the same.

use super::timeline::Timeline;
use crate::error::{Error, Result};
use ashlar_disk::sync::{Mutex, now, spawn};
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The longest latency that is told from longer ones: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// What an operation has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Amount {
    pub(super) entries: u64,
    /// Bytes of keys and values.
    pub(super) bytes: u64,
}

/// What one thread does, again and again: an operation, or none when it has done all its work.
pub(super) type Worker = Box<dyn FnMut() -> Result<Option<Amount>> + Send>;

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) ops: u64,
    pub(super) moved: Amount,
    pub(super) elapsed: Duration,
    /// In nanoseconds, an operation each.
    pub(super) latency: Histogram<u64>,
    /// When operations ended.
    pub(super) timeline: Timeline,
    threads: usize,
}

impl Sample {
    pub(super) fn empty(threads: usize) -> Result<Sample> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).map_err(|e| Error::Usage(e.to_string()))?;
        let timeline = Timeline::new();
        Ok(Sample { ops: 0, moved: Amount::default(), elapsed: Duration::ZERO, latency, timeline, threads })
    }

    /// An operation that ended so long after the beginning.
    pub(super) fn add(&mut self, amount: Amount, time: Duration, end: Duration) {
        self.timeline.add(end);
        self.ops += 1;
        self.moved.entries += amount.entries;
        self.moved.bytes += amount.bytes;
        self.latency.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn merge(&mut self, other: &Sample) -> Result<()> {
        self.ops += other.ops;
        self.moved.entries += other.moved.entries;
        self.moved.bytes += other.moved.bytes;
        self.timeline.merge(&other.timeline);
        self.latency.add(&other.latency).map_err(|e| Error::Usage(e.to_string()))
    }

    /// The longest time in which no operation of any thread ended. Of several threads' below a millisecond it may have missed longer
    /// ones.
    pub(super) fn longest_pause(&self) -> Duration {
        // The operations of one thread follow each other without a gap.
        if self.threads == 1 { Duration::from_nanos(self.latency.max()) } else { self.timeline.longest_pause() }
    }

    /// In a second.
    pub(super) fn rate(&self, amount: u64) -> f64 {
        amount as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Threads that do the same.
pub(super) struct Group {
    pub(super) workers: Vec<Worker>,
    pub(super) limit: Option<Duration>,
}

/// What threads have done so far, for others to look at while they work.
pub(super) struct Tally(Vec<Own>);

/// One thread's: (operations, entries). In a cache line pair of its own, so that threads don't slow each other down.
#[derive(Default)]
#[repr(align(128))]
struct Own(AtomicU64, AtomicU64);

impl Tally {
    pub(super) fn new(threads: usize) -> Tally {
        Tally((0..threads).map(|_| Own::default()).collect())
    }

    fn note(&self, thread: usize, sample: &Sample) {
        if let Some(Own(operations, entries)) = self.0.get(thread) {
            operations.store(sample.ops, Relaxed);
            entries.store(sample.moved.entries, Relaxed);
        }
    }

    /// (Operations, entries) of all.
    pub(super) fn sum(&self) -> (u64, u64) {
        let loaded = self.0.iter().map(|Own(operations, entries)| (operations.load(Relaxed), entries.load(Relaxed)));
        loaded.fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1))
    }
}

/// Runs each worker in a thread of its own until it has no more to do or its group's limit has passed since `start`, which is now; then
/// `end` (which counts, too). The first error ends all. A sample for each group.
pub(super) fn run(
    groups: Vec<Group>,
    start: Duration,
    tally: &Arc<Tally>,
    end: impl FnOnce() -> Result<()>,
) -> Result<Vec<Sample>> {
    let stop = Arc::new(AtomicBool::new(false));
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let mut samples = groups.iter().map(|group| Sample::empty(group.workers.len())).collect::<Result<Vec<_>>>()?;
    let mut threads = Vec::new();
    for (group, Group { workers, limit }) in groups.into_iter().enumerate() {
        for worker in workers {
            let (their_stop, their_outcomes) = (stop.clone(), outcomes.clone());
            let clock = Clock { start, limit, tally: tally.clone(), thread: threads.len() };
            let body = move || {
                let outcome = work(worker, &clock, &their_stop);
                their_outcomes.lock().push((group, outcome));
            };
            match spawn(&format!("bench-{}", threads.len()), body) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    stop.store(true, Relaxed);
                    return Err(error.into());
                }
            }
        }
    }
    threads.into_iter().try_for_each(|thread| thread.join())?;
    for (group, outcome) in outcomes.lock().drain(..) {
        samples[group].merge(&outcome?)?;
    }
    end()?;
    let elapsed = now() - start;
    samples.iter_mut().for_each(|sample| sample.elapsed = elapsed);
    Ok(samples)
}

/// What a thread measures itself by.
struct Clock {
    start: Duration,
    limit: Option<Duration>,
    tally: Arc<Tally>,
    thread: usize,
}

fn work(mut worker: Worker, clock: &Clock, stop: &AtomicBool) -> Result<Sample> {
    let mut sample = Sample::empty(1)?;
    let mut before = now();
    sample.timeline.begin(before - clock.start);
    // On a busy machine a thread may begin when the time is over: one operation it does all the same.
    while !stop.load(Relaxed) && (sample.ops == 0 || clock.limit.is_none_or(|limit| before - clock.start < limit)) {
        match worker() {
            Ok(Some(amount)) => {
                // One look at the clock an operation: it ends where the next begins.
                let after = now();
                sample.add(amount, after - before, after - clock.start);
                clock.tally.note(clock.thread, &sample);
                before = after;
            }
            Ok(None) => break,
            Err(error) => {
                stop.store(true, Relaxed);
                return Err(error);
            }
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_one(workers: Vec<Worker>, limit: Option<Duration>) -> Result<Sample> {
        run_all(vec![Group { workers, limit }]).map(|mut samples| samples.remove(0))
    }

    fn run_all(groups: Vec<Group>) -> Result<Vec<Sample>> {
        let tally = Arc::new(Tally::new(groups.iter().map(|group| group.workers.len()).sum()));
        let samples = run(groups, now(), &tally, || Ok(()))?;
        let sums = samples.iter().fold((0, 0), |sum, sample| (sum.0 + sample.ops, sum.1 + sample.moved.entries));
        assert_eq!(tally.sum(), sums);
        Ok(samples)
    }

    fn counting(n: u64) -> Worker {
        let mut left = n;
        Box::new(move || {
            left = left.saturating_sub(1);
            Ok((left > 0).then_some(Amount { entries: 2, bytes: 10 }))
        })
    }

    #[test]
    fn all_that_workers_do_is_counted() {
        let sample = run_one(vec![counting(5), counting(3)], None).unwrap();
        assert_eq!((sample.ops, sample.moved, sample.latency.len()), (6, Amount { entries: 12, bytes: 60 }, 6));
    }

    #[test]
    fn groups_are_told_apart() {
        let group = |n| Group { workers: vec![counting(n), counting(n)], limit: None };
        let ops: Vec<u64> = run_all(vec![group(5), group(3)]).unwrap().iter().map(|sample| sample.ops).collect();
        assert_eq!(ops, [8, 4]);
    }

    #[test]
    fn latencies_are_what_they_were() {
        let mut times = [2, 30, 2, 2, 2].into_iter().map(Duration::from_millis);
        let slow: Worker = Box::new(move || {
            Ok(times.next().map(|time| {
                ashlar_disk::sync::sleep(time);
                Amount::default()
            }))
        });
        let sample = run_one(vec![slow], None).unwrap();
        let latency = &sample.latency;
        assert!(latency.max() >= 30_000_000 && latency.value_at_quantile(0.5) >= 2_000_000 && latency.min() < 30_000_000);
        assert_eq!((sample.longest_pause().as_nanos(), sample.timeline.counts().iter().sum()), (latency.max().into(), 5));
    }

    #[test]
    fn a_pause_of_one_thread_is_none_while_another_works() {
        let sleepy = |ms: u64, times: u64| -> Worker {
            let mut left = times;
            Box::new(move || {
                ashlar_disk::sync::sleep(Duration::from_millis(ms));
                left = left.saturating_sub(1);
                Ok((left > 0).then_some(Amount::default()))
            })
        };
        // One operation of 400 ms, beside many of 4 ms.
        let sample = run_one(vec![sleepy(400, 2), sleepy(4, 110)], None).unwrap();
        let (longest, pause) = (Duration::from_nanos(sample.latency.max()), sample.longest_pause());
        assert!(longest >= Duration::from_millis(400));
        assert!(pause >= Duration::from_millis(4) && pause < longest, "{pause:?}");
    }

    #[test]
    fn time_and_errors_end_it() {
        let endless = || -> Worker { Box::new(|| Ok(Some(Amount::default()))) };
        let sample = run_one(vec![endless()], Some(Duration::from_millis(20))).unwrap();
        assert!(sample.ops > 0 && sample.elapsed >= Duration::from_millis(20));
        assert_eq!(run_one(vec![endless()], Some(Duration::ZERO)).unwrap().ops, 1);
        let failing: Worker = Box::new(|| Err(Error::Wrong("as intended".into())));
        assert!(run_one(vec![endless(), failing], None).unwrap_err().to_string().contains("as intended"));
    }
}
