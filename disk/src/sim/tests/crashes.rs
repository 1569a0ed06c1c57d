//! Crashes at every call.

use super::*;
use Durability::{Later, Now};

/// Writes 1 to block 0 durably, then 2 to block 1 of another file by way of a rename.
fn script(fs: &SimFs) -> Result<u32> {
    let path = Path::new;
    fs.create_dir(path("/d"))?;
    fs.sync_dir(path("/"))?;
    let file = fs.open(path("/d/tmp"), &how(Create::New))?;
    file.allocate(0, 2 * BLOCK as u64)?;
    write(&file, 0, 1, Later)?;
    file.sync(SyncKind::All)?;
    fs.rename(path("/d/tmp"), path("/d/f"))?;
    fs.sync_dir(path("/d"))?;
    write(&file, 1, 2, Now)?;
    Ok(1)
}

#[test]
fn a_copy_goes_its_own_way_and_equal_disks_have_equal_numbers() {
    let sim = Sim::new(SimOptions::new(1));
    let file = durable_file(&sim.fs(), "/f", 2, 1);
    write(&file, 1, 2, Later).expect("written");
    let copy = sim.copy(SimOptions::new(9));
    assert_eq!(copy.fingerprint(), sim.fingerprint());
    let theirs = open(&copy.fs(), "/f").expect("there");
    write(&theirs, 0, 3, Later).expect("written");
    assert_ne!(copy.fingerprint(), sim.fingerprint());
    assert_eq!([0, 1].map(|n| found(&copy.fs(), "/f", n)), ["3", "2"]);
    assert_eq!([0, 1].map(|n| found(&sim.fs(), "/f", n)), ["1", "2"]);
    let mut numbers = BTreeSet::new();
    for seed in 0..40 {
        numbers.insert(sim.copy(SimOptions::new(seed)).restart(Restart::PowerCut, SimOptions::new(seed)).fingerprint());
    }
    assert!(numbers.len() > 2, "lost, torn in several ways, kept: {numbers:?}");
    file.sync(SyncKind::Data).expect("synced");
    write(&file, 1, 2, Later).expect("written");
    let undone = sim.fingerprint();
    file.sync(SyncKind::Data).expect("synced");
    assert_ne!(sim.fingerprint(), undone, "what is durable counts");
}

#[test]
fn a_crash_comes_during_every_call_and_then_every_call_fails() {
    let sim = Sim::new(SimOptions::new(0));
    script(&sim.fs()).expect("no crash");
    let calls = sim.calls();
    assert_eq!(calls, 9);
    for n in 1..=calls {
        let sim = Sim::new(SimOptions::new(n).crash_at(n));
        let fs = sim.fs();
        assert!(matches!(script(&fs), Err(Error::Crashed { .. })), "call {n}");
        assert!(sim.has_crashed() && sim.calls() == n);
        assert!(matches!(fs.exists(Path::new("/")), Err(Error::Crashed { .. })));
        assert!(matches!(script(&fs), Err(Error::Crashed { .. })));
        assert_eq!(sim.calls(), n, "calls after the crash do not count");
    }
}

#[test]
fn after_a_crash_at_any_call_the_script_is_found_done_up_to_there() {
    let mut seen = BTreeSet::new();
    for seed in 0..600 {
        let n = seed % 9 + 1;
        let sim = Sim::new(SimOptions::new(seed).crash_at(n));
        script(&sim.fs()).expect_err("it crashes");
        let fs = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        let state = found(&fs, "/d/f", 0) + " " + &found(&fs, "/d/f", 1);
        if n > 8 {
            assert!(["1 0", "1 2", "1 0+2"].contains(&state.as_str()), "call {n}: {state}");
        } else {
            assert!(["1 0", "gone gone"].contains(&state.as_str()), "call {n}: {state}");
        }
        seen.insert((n, state));
    }
    let expected = [(7, "1 0"), (7, "gone gone"), (8, "1 0"), (8, "gone gone"), (9, "1 0"), (9, "1 2"), (9, "1 0+2")];
    for (n, state) in expected {
        assert!(seen.contains(&(n, state.to_owned())), "call {n}: {state} never seen of {seen:?}");
    }
}

#[test]
fn a_write_cut_off_by_a_kill_lands_in_whole_in_part_or_not() {
    let seen: BTreeSet<String> = (0..200)
        .map(|seed| {
            let sim = Sim::new(SimOptions::new(seed));
            let file = durable_file(&sim.fs(), "/f", 1, 1);
            sim.set_crash_at(Some(0));
            write(&file, 0, 2, Now).expect_err("it crashes");
            let sim = sim.restart(Restart::Kill, SimOptions::new(seed));
            let readable = found(&sim.fs(), "/f", 0);
            let sim = sim.restart(Restart::PowerCut, SimOptions::new(seed));
            readable + " then " + &found(&sim.fs(), "/f", 0)
        })
        .collect();
    assert!(seen.is_superset(&set(["1 then 1", "2 then 2", "2 then 1", "2 then 1+2", "1+2 then 1+2", "1+2 then 1"])), "{seen:?}");
    assert!(!seen.contains("1 then 2"));
}

#[test]
fn the_same_seeds_find_the_same_disk() {
    let run = |seed| {
        let sim = Sim::new(SimOptions::new(seed));
        let file = create(&sim.fs(), "/f");
        (0..20).for_each(|n| write(&file, n, n as u8 + 1, Later).expect("written"));
        let sim = sim.restart(Restart::PowerCut, SimOptions::new(seed));
        (0..20).map(|n| found(&sim.fs(), "/f", n)).collect::<Vec<_>>()
    };
    let disks: BTreeSet<_> = (0..50).map(|seed| (run(seed) == run(seed), run(seed))).collect();
    assert!(disks.len() > 20 && disks.iter().all(|(same, _)| *same));
}
