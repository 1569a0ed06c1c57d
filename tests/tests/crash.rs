//! Histories of many threads on a simulated machine that crashes at any call to its disk.
//!
//! `ASHLAR_HISTORIES` sets how many, `ASHLAR_SEED` the first seed. A failure prints the command that repeats it.

use ashlar_tests::crash::{Setup, histories, history};
use ashlar_tests::number;

#[test]
fn nothing_confirmed_is_lost_and_what_survives_is_a_prefix() {
    let (first, count) = (number("ASHLAR_SEED", 0), number("ASHLAR_HISTORIES", 500));
    let begun = std::time::Instant::now();
    match histories(first, count, &Setup::default()) {
        Ok(sum) => println!("{count} histories in {:?}: {sum:?}", begun.elapsed()),
        Err((seed, failure)) => panic!(
            "seed {seed}: {failure}\nagain: ASHLAR_SEED={seed} ASHLAR_HISTORIES=1 cargo test -p ashlar-tests --test crash nothing_confirmed -- --nocapture"
        ),
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let first = number("ASHLAR_SEED", 0);
    for seed in first..first + 10 {
        let (one, two) = (history(seed, &Setup::default()), history(seed, &Setup::default()));
        assert_eq!(one, two, "seed {seed}");
    }
}
