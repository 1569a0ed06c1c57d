//! Many runs by consecutive seeds, on as many threads as there are processors.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Calls `run` for `count` seeds from `first` on; `add` gathers what the runs came to.
///
/// # Errors
/// The failure of the smallest seed that failed, with that seed, before all later ones have been run.
///
/// # Panics
/// Where a run panics outside of its simulation.
pub fn run<S: Default + Send, E: Send>(
    first: u64,
    count: u64,
    run: impl Fn(u64) -> Result<S, E> + Sync,
    add: impl Fn(&mut S, &S) + Sync,
) -> Result<S, (u64, E)> {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let work = || {
        let mut sum = S::default();
        while !stop.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + count {
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
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let results: Vec<Result<S, (u64, E)>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
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
