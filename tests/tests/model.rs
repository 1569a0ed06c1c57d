//! Random operations of every kind against ordered maps, every read compared.
//!
//! `ASHLAR_MODEL_RUNS` sets how many runs, `ASHLAR_MODEL_STEPS` how many operations each, `ASHLAR_SEED` the first seed.

use ashlar_disk::Fs;
use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_tests::model::Machine;
use ashlar_tests::number;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

fn run(seed: u64, steps: u64, fs: Option<Arc<dyn Fs>>, path: PathBuf) -> Result<(), String> {
    let again =
        format!("ASHLAR_SEED={seed} ASHLAR_MODEL_RUNS=1 ASHLAR_MODEL_STEPS={steps} cargo test -p ashlar-tests --test model");
    let machine = Machine::new(seed, fs, path).map_err(|e| format!("seed {seed}: {e}\nagain: {again}"))?;
    machine.run(steps).map_err(|failure| format!("seed {seed}: {failure}\nagain: {again}"))
}

/// Seeds from `next` on, until `end` or a failure.
fn work(next: &AtomicU64, end: u64, steps: u64) -> Result<(), String> {
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end {
            return Ok(());
        }
        let fs = Sim::new(SimOptions::new(seed)).fs();
        run(seed, steps, Some(fs), "/model".into())?;
    }
}

#[test]
fn a_database_answers_as_ordered_maps_do() {
    let (first, runs, steps) = (number("ASHLAR_SEED", 0), number("ASHLAR_MODEL_RUNS", 150), number("ASHLAR_MODEL_STEPS", 800));
    let next = AtomicU64::new(first);
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&next, first + runs, steps))).collect();
        handles.into_iter().map(|h| h.join().expect("no panic")).collect()
    });
    if let Some(failure) = results.into_iter().find_map(Result::err) {
        panic!("{failure}");
    }
}

#[test]
fn a_database_on_real_files_answers_as_ordered_maps_do() {
    let parent = ashlar_tests::test_dir();
    for seed in 0..2 {
        let dir = tempfile::tempdir_in(&parent).expect("a directory");
        if let Err(failure) = run(seed, 300, None, dir.path().join("model")) {
            panic!("{failure}");
        }
    }
}
