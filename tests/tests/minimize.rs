//! A failing history, made so by a deliberate mistake, becomes small and stays repeatable.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ashlar_tests::crash::minimize::minimize;
use ashlar_tests::crash::{Faults, Setup, histories, history};
use ashlardb::fault::Fault;

/// The first failure of a setup, made small: it fails again, exactly so.
fn smallest(setup: &Setup) -> (Setup, String) {
    let (seed, failure) = histories(0, 3000, setup).expect_err("the mistake is noticed");
    let smallest = minimize(seed, setup, failure);
    println!("seed {seed}, {} histories: {}\n{}", smallest.runs, smallest.options(), smallest.failure);
    assert_eq!(history(smallest.seed, &smallest.setup), Err(smallest.failure.clone()));
    assert!(smallest.runs > 5);
    let options = smallest.options();
    (smallest.setup, options)
}

#[test]
fn a_mistake_that_needs_a_crash_keeps_it_and_little_else() {
    let setup = Setup { fault: Fault::ConfirmEarly, faults: Faults::all(), ..Setup::default() };
    let (small, options) = smallest(&setup);
    // A commit that was confirmed too early needs a writer or two and one crash, and no fault of the disk.
    assert!(small.faults.kinds.is_empty() && small.caps.writers.unwrap() <= 2, "{small:?}");
    assert!(small.caps.commits.unwrap() <= 8 && small.caps.lives.unwrap() <= 3, "{small:?}");
    assert_eq!(small.caps.crashes.values().flatten().count(), 1, "{small:?}");
    assert!(options.contains("--faults crash --max-lives ") && options.contains(" --crash-at "), "{options}");
}

#[test]
fn a_mistake_of_a_checkpoint_keeps_what_makes_checkpoints() {
    let setup = Setup { fault: Fault::FreeBeforeSuperblock, ..Setup::default() };
    let (small, _) = smallest(&setup);
    assert!(small.caps.commits.unwrap() <= 20 && small.caps.writers.unwrap() <= 3, "{small:?}");
}
