//! Many threads under the deterministic scheduler: every interleaving is drawn from a seed, and a hang is a failure.

mod common;

use ashlar_disk::sync::simulate;
use ashlar_disk::sync::simulation::Options;
use common::crowd::{Crowd, run};

#[test]
fn a_small_pool_serves_everybody() {
    let first = std::env::var("POOL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..80, |seed: u64| seed..seed + 1);
    let mut all = [0; 5];
    for seed in seeds.clone() {
        let crowd = Crowd {
            seed,
            frames: 16,
            pages: 40,
            readers: 1 + seed as usize % 3,
            writes: 250,
            deferred: seed % 4 != 0,
            reaper: seed % 3 == 0,
            simulated: true,
        };
        let stats = simulate(&Options::new(seed), move || run(crowd)).expect("POOL_SEED repeats it");
        let seen = [stats.evictions, stats.copies, stats.waits_for_frames, stats.prefetches, stats.images_written];
        all.iter_mut().zip(seen).for_each(|(sum, count)| *sum += count);
    }
    let runs = seeds.end - seeds.start;
    assert!(all.iter().all(|&sum| sum >= runs), "too little happens in {runs} runs for this test to mean anything: {all:?}");
}
