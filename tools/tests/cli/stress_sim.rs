//! stress sim: it runs, says what it came to, and refuses what it can't do.

use crate::common::Dir;

#[test]
fn histories_pass_and_are_counted() {
    let dir = Dir::new();
    let told = dir.run("stress sim --runs 6 --seed 3 --threads 2 --faults io --json").done();
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&report["passed"], &report["summary"]["histories"], &report["failed"]), (&true.into(), &6.into(), &().into()));
    assert!(report["summary"]["lives"].as_u64().unwrap() >= 12, "{told}");
    let told = dir.run("stress sim --runs 2 --faults crash").done();
    assert!(told.starts_with("histories         2, ") && told.contains("faults injected   none\n"), "{told}");
}

#[test]
fn the_same_seed_is_told_the_same() {
    let dir = Dir::new();
    let summary = || {
        let told = dir.run("stress sim --runs 3 --seed 8 --faults all --json").done();
        serde_json::from_str::<serde_json::Value>(&told).unwrap()["summary"].clone()
    };
    let (mut one, mut two) = (summary(), summary());
    // Histories end in any order, and the sum of the hashes knows it.
    (one["trace"], two["trace"]) = (().into(), ().into());
    assert_eq!(one, two);
}

#[test]
fn short_sequences_are_enumerated() {
    let told = Dir::new().run("stress sim --enumerate 1 --recovery-up-to 0").done();
    assert!(told.starts_with("sequences         16 of 16\ncrashes           "), "{told}");
}

#[test]
fn what_is_not_possible_is_refused() {
    let dir = Dir::new();
    assert!(dir.run("stress sim --faults gremlins").misused().contains("misdirected-write"));
    assert!(dir.run("stress sim --crash-at 1:soon").misused().contains("LIFE:CALL"));
}
