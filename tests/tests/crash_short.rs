//! Every sequence of two operations with a crash at every call. `ASHLAR_SHORT_LEN=3` runs all sequences of three.

use ashlar_tests::crash::short::{STEPS, Step, crash_at_every_call};
use ashlar_tests::number;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The `n`th sequence of `len` steps.
fn sequence(mut n: usize, len: u32) -> Vec<Step> {
    let mut digit = || {
        let step = STEPS[n % STEPS.len()];
        n /= STEPS.len();
        step
    };
    (0..len).map(|_| digit()).collect()
}

/// Sequences from `next` on, until there is none left or one fails: the number of crashes.
fn work(next: &AtomicUsize, len: u32) -> Result<u64, String> {
    let mut crashes = 0;
    loop {
        let n = next.fetch_add(1, Relaxed);
        if n >= STEPS.len().pow(len) {
            return Ok(crashes);
        }
        crashes += crash_at_every_call(&sequence(n, len))?;
    }
}

#[test]
fn every_short_sequence_survives_a_crash_at_every_call() {
    let (next, len) = (AtomicUsize::new(0), number("ASHLAR_SHORT_LEN", 2) as u32);
    let results: Vec<Result<u64, String>> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&next, len))).collect();
        handles.into_iter().map(|h| h.join().expect("no panic")).collect()
    });
    let mut crashes = 0;
    for result in results {
        crashes += result.unwrap_or_else(|failure| panic!("{failure}"));
    }
    println!("{} sequences, {crashes} crashes", STEPS.len().pow(len));
}
