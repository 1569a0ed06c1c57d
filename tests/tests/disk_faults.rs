//! Histories of many threads on a simulated machine whose disk has faults, beside crashes.
//!
//! `ASHLAR_FAULT_HISTORIES` sets how many of each class, `ASHLAR_SEED` the first seed; `ashlar stress sim` runs the same for hours.

use ashlar_tests::crash::{Faults, Setup, Summary, histories, history};
use ashlar_tests::number;

fn run(faults: Faults) -> Summary {
    let (first, count) = (number("ASHLAR_SEED", 0), number("ASHLAR_FAULT_HISTORIES", 300));
    let setup = Setup { faults: faults.clone(), ..Setup::default() };
    let begun = std::time::Instant::now();
    match histories(first, count, &setup) {
        Ok(sum) => {
            println!("{count} histories with {faults} in {:?}: {sum:?}", begun.elapsed());
            sum
        }
        Err((seed, failure)) => {
            panic!("seed {seed}: {failure}\nagain: ashlar stress sim --seed {seed} --runs 1 --faults {faults}")
        }
    }
}

#[test]
fn faults_that_are_told_lose_nothing_confirmed() {
    let sum = run(Faults::io());
    assert!(sum.injected.len() == 5 && sum.recovered > 50 && sum.refused > 10, "{sum:?}");
}

#[test]
fn faults_that_corrupt_never_give_a_wrong_value() {
    let sum = run(Faults::corrupting());
    assert!(sum.injected.len() == 4 && sum.told.contains_key("corrupt"), "{sum:?}");
}

#[test]
fn the_same_seed_is_the_same_history_with_faults() {
    let setup = Setup { faults: Faults::all(), ..Setup::default() };
    for seed in 0..10 {
        assert_eq!(history(seed, &setup), history(seed, &setup), "seed {seed}");
    }
}
