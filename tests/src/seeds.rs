//! Many runs by consecutive seeds, on several threads.

use ashlar_disk::sync::simulation::bind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// How many threads the machine runs at once.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Which seeds are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first one.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// When no more are begun.
    pub until: Option<Instant>,
    /// On how many threads.
    pub threads: usize,
}

impl Seeds {
    /// `count` seeds from `first` on, on as many threads as there are processors.
    pub fn new(first: u64, count: u64) -> Seeds {
        Seeds { first, count, until: None, threads: processors() }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Calls `run` for each seed; `add` gathers what the runs came to.
///
/// # Errors
/// The failure of the smallest seed that failed, with that seed, before all later ones have been run.
///
/// # Panics
/// Where a run panics outside of its simulation.
pub fn run<S: Default + Send, E: Send>(
    seeds: &Seeds,
    run: impl Fn(u64) -> Result<S, E> + Sync,
    add: impl Fn(&mut S, &S) + Sync,
) -> Result<S, (u64, E)> {
    let (next, stop) = (AtomicU64::new(seeds.first), AtomicBool::new(false));
    let work = &|nth: usize| {
        bind(nth);
        let mut sum = S::default();
        while !stop.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed.wrapping_sub(seeds.first) >= seeds.count || seeds.is_over() {
                break;
            }
            match run(seed) {
                Ok(summary) => add(&mut sum, &summary),
                Err(failure) => {
                    stop.store(true, Relaxed);
                    return Err((seed, failure));
                }
            }
        }
        Ok(sum)
    };
    let results: Vec<Result<S, (u64, E)>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..seeds.threads.max(1)).map(|nth| scope.spawn(move || work(nth))).collect();
        handles.into_iter().map(|h| h.join().expect("a worker's panic is a bug of the harness")).collect()
    });
    let mut sum = S::default();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(summary) => add(&mut sum, &summary),
            Err(failure) => failures.push(failure),
        }
    }
    failures.into_iter().min_by_key(|(seed, _)| *seed).map_or(Ok(sum), Err)
}
