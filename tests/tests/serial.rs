//! Histories of transactions and snapshots in many threads, checked for strict serializability at every LSN.
//!
//! `ASHLAR_SERIAL_HISTORIES` sets how many, `ASHLAR_SEED` the first seed. A failure prints the command that repeats it.

use ashlar_tests::number;
use ashlar_tests::serial::{Setup, histories, history};

#[test]
fn every_read_is_that_of_its_lsn() {
    let (first, count) = (number("ASHLAR_SEED", 0), number("ASHLAR_SERIAL_HISTORIES", 1000));
    let begun = std::time::Instant::now();
    match histories(first, count, &Setup::default()) {
        Ok(sum) => println!("{count} histories in {:?}: {sum:?}", begun.elapsed()),
        Err((seed, failure)) => panic!(
            "seed {seed}: {failure}\nagain: ASHLAR_SEED={seed} ASHLAR_SERIAL_HISTORIES=1 cargo test -p ashlar-tests --test serial every_read -- --nocapture"
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
