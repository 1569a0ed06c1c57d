//! Runs operations in threads against the clock: latencies, and how much was done in each tenth of a second.

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The step of throughput over time.
pub const STEP: Duration = Duration::from_millis(100);
/// The longest latency that is told from longer ones: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// What an operation has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Entries.
    pub entries: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// What one thread does, again and again: an operation, or none when it has done all its work.
pub type Worker<'a> = Box<dyn FnMut() -> Result<Option<Amount>> + 'a>;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Operations.
    pub ops: u64,
    /// What they moved.
    pub moved: Amount,
    /// From the first thread's start to the end of what follows the last.
    pub elapsed: Duration,
    /// In nanoseconds, an operation each.
    pub latency: Histogram<u64>,
    /// Entries in each [`STEP`].
    pub steps: Vec<u64>,
    /// Whether all workers did all their work; false where time ended it.
    pub complete: bool,
}

impl Sample {
    /// Nothing yet.
    ///
    /// # Errors
    /// None that can happen.
    pub fn empty() -> Result<Sample> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).context("making a histogram")?;
        Ok(Sample { ops: 0, moved: Amount::default(), elapsed: Duration::ZERO, latency, steps: Vec::new(), complete: false })
    }

    /// An operation that ended `at` after the start and took `time`.
    pub fn add(&mut self, amount: Amount, at: Duration, time: Duration) {
        self.ops += 1;
        self.moved.entries += amount.entries;
        self.moved.bytes += amount.bytes;
        self.latency.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let step = (at.as_nanos() / STEP.as_nanos()) as usize;
        if step >= self.steps.len() {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += amount.entries;
    }

    fn merge(&mut self, other: &Sample) -> Result<()> {
        self.ops += other.ops;
        self.moved.entries += other.moved.entries;
        self.moved.bytes += other.moved.bytes;
        if self.steps.len() < other.steps.len() {
            self.steps.resize(other.steps.len(), 0);
        }
        self.steps.iter_mut().zip(&other.steps).for_each(|(sum, part)| *sum += part);
        self.latency.add(&other.latency).context("adding histograms")
    }
}

/// Makes a worker in each of `threads` threads, runs each until it has no more to do or `limit` has passed, then `end` (which counts,
/// too). The first error ends all.
///
/// # Errors
/// Those of the workers and of `end`.
pub fn run<'a>(
    threads: usize,
    limit: Option<Duration>,
    make: impl Fn(u64) -> Result<Worker<'a>> + Sync,
    end: impl FnOnce() -> Result<()>,
) -> Result<Sample> {
    let (stop, barrier) = (AtomicBool::new(false), Barrier::new(threads));
    let run_one = |thread: u64| {
        let worker = make(thread);
        stop.fetch_or(worker.is_err(), Relaxed);
        barrier.wait();
        work(worker?, limit, &stop)
    };
    let outcomes: Vec<Result<(Instant, Sample)>> = std::thread::scope(|scope| {
        let run_one = &run_one;
        let spawned: Vec<_> = (0..threads as u64).map(|thread| scope.spawn(move || run_one(thread))).collect();
        spawned.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))).collect()
    });
    let mut sum = Sample { complete: true, ..Sample::empty()? };
    let mut start: Option<Instant> = None;
    for outcome in outcomes {
        let (began, sample) = outcome?;
        start = Some(start.map_or(began, |start| start.min(began)));
        sum.complete &= sample.complete;
        sum.merge(&sample)?;
    }
    end()?;
    sum.elapsed = start.map_or(Duration::ZERO, |start| start.elapsed());
    Ok(sum)
}

fn work(mut worker: Worker<'_>, limit: Option<Duration>, stop: &AtomicBool) -> Result<(Instant, Sample)> {
    let mut sample = Sample::empty()?;
    let start = Instant::now();
    let mut before = Duration::ZERO;
    // On a busy machine a thread may begin when the time is over: one operation it does all the same.
    while !stop.load(Relaxed) && (sample.ops == 0 || limit.is_none_or(|limit| before < limit)) {
        match worker() {
            Ok(Some(amount)) => {
                // One look at the clock an operation: it ends where the next begins.
                let after = start.elapsed();
                sample.add(amount, after, after - before);
                before = after;
            }
            Ok(None) => {
                sample.complete = true;
                break;
            }
            Err(error) => {
                stop.store(true, Relaxed);
                return Err(error);
            }
        }
    }
    Ok((start, sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(n: u64) -> Worker<'static> {
        let mut left = n;
        Box::new(move || {
            left = left.saturating_sub(1);
            Ok((left > 0).then_some(Amount { entries: 2, bytes: 10 }))
        })
    }

    #[test]
    fn all_that_workers_do_is_counted() {
        let sample = run(2, None, |thread| Ok(counting(3 + 2 * thread)), || Ok(())).unwrap();
        assert_eq!((sample.ops, sample.moved, sample.latency.len()), (6, Amount { entries: 12, bytes: 60 }, 6));
        assert_eq!((sample.steps.iter().sum::<u64>(), sample.complete), (12, true));
    }

    #[test]
    fn time_ends_it() {
        let endless = |_| -> Result<Worker<'static>> { Ok(Box::new(|| Ok(Some(Amount { entries: 1, bytes: 1 })))) };
        let sample = run(2, Some(Duration::from_millis(250)), endless, || Ok(())).unwrap();
        assert!(sample.ops > 2 && !sample.complete && sample.elapsed >= Duration::from_millis(250));
        assert!(sample.steps.len() >= 3 && sample.steps[0] > 0 && sample.steps.iter().sum::<u64>() == sample.ops);
        assert_eq!(run(1, Some(Duration::ZERO), endless, || Ok(())).unwrap().ops, 1);
    }

    #[test]
    fn latencies_and_the_end_count() {
        let mut pauses = [2, 30, 2].into_iter().map(Duration::from_millis);
        let mut slow = move || {
            Ok(pauses.next().map(|pause| {
                std::thread::sleep(pause);
                Amount::default()
            }))
        };
        let slow = std::sync::Mutex::new(&mut slow);
        let make = |_| -> Result<Worker<'_>> { Ok(Box::new(|| slow.lock().unwrap()())) };
        let end = || {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        };
        let sample = run(1, None, make, end).unwrap();
        assert!(sample.latency.max() >= 30_000_000 && sample.latency.value_at_quantile(0.5) >= 2_000_000);
        assert!(sample.elapsed >= Duration::from_millis(54));
    }

    #[test]
    fn the_first_error_ends_all() {
        let make = |thread| -> Result<Worker<'static>> {
            let mut left = 100;
            Ok(Box::new(move || match (thread, left) {
                (1, 0) => Err(anyhow!("as intended")),
                _ => {
                    left = (left - 1).max(0);
                    Ok(Some(Amount::default()))
                }
            }))
        };
        assert!(run(2, None, make, || Ok(())).unwrap_err().to_string().contains("as intended"));
        let broken = |thread| if thread == 0 { Ok(counting(u64::MAX)) } else { Err(anyhow!("not made")) };
        assert!(run(2, None, broken, || Ok(())).unwrap_err().to_string().contains("not made"));
    }
}
