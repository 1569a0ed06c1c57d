//! Data and lengths across power cuts and kills.

use super::*;
use Durability::{Later, Now};

#[test]
fn an_unsynced_write_survives_vanishes_or_is_torn() {
    let build = |fs: &SimFs| write(&durable_file(fs, "/f", 1, 1), 0, 2, Later).expect("written");
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 0)), set(["1", "2", "1+2"]));
}

#[test]
fn a_synced_write_is_never_lost() {
    for kind in [SyncKind::Data, SyncKind::All] {
        let build = |fs: &SimFs| {
            let file = durable_file(fs, "/f", 1, 1);
            write(&file, 0, 2, Later).expect("written");
            file.sync(kind).expect("synced");
        };
        assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 0)), set(["2"]));
    }
}

#[test]
fn unsynced_writes_survive_independently_of_their_order() {
    let build = |fs: &SimFs| {
        let file = durable_file(fs, "/f", 2, 1);
        write(&file, 0, 2, Later).expect("written");
        write(&file, 1, 2, Later).expect("written");
    };
    let seen = after_power_cuts(build, |fs| found(fs, "/f", 0) + " " + &found(fs, "/f", 1));
    assert!(seen.is_superset(&set(["1 1", "1 2", "2 1", "2 2", "1+2 1", "2 1+2"])), "{seen:?}");
}

#[test]
fn of_two_unsynced_writes_to_one_place_either_may_be_found() {
    let build = |fs: &SimFs| {
        let file = durable_file(fs, "/f", 1, 1);
        write(&file, 0, 2, Later).expect("written");
        write(&file, 0, 3, Later).expect("written");
    };
    let seen = after_power_cuts(build, |fs| found(fs, "/f", 0));
    assert!(seen.is_superset(&set(["1", "2", "3", "2+3"])), "{seen:?}");
}

#[test]
fn a_durable_write_is_never_lost() {
    let build = |fs: &SimFs| write(&durable_file(fs, "/f", 1, 1), 0, 2, Now).expect("written");
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 0)), set(["2"]));
}

#[test]
fn a_durable_write_covers_itself_alone() {
    let build = |fs: &SimFs| {
        let file = durable_file(fs, "/f", 3, 1);
        write(&file, 0, 2, Later).expect("written");
        write(&file, 1, 2, Now).expect("written");
        write(&file, 2, 2, Later).expect("written");
    };
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 1)), set(["2"]));
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 0)), set(["1", "2", "1+2"]));
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 2)), set(["1", "2", "1+2"]));
}

#[test]
fn what_a_durable_write_replaced_never_comes_back() {
    let build = |later_sync: bool| {
        move |fs: &SimFs| {
            let file = durable_file(fs, "/f", 2, 1);
            write(&file, 0, 2, Later).expect("written");
            file.punch_hole(0, BLOCK as u64).expect("punched");
            write(&file, 0, 3, Now).expect("written");
            if later_sync {
                file.sync(SyncKind::Data).expect("synced");
            }
            write(&file, 0, 4, Later).expect("written");
        }
    };
    assert_eq!(after_power_cuts(build(false), |fs| found(fs, "/f", 0)), set(["3", "4", "3+4"]));
    assert_eq!(after_power_cuts(build(true), |fs| found(fs, "/f", 0)), set(["3", "4", "3+4"]));
}

#[test]
fn a_durable_write_past_the_durable_length_may_be_out_of_reach() {
    let build = |fs: &SimFs| write(&durable_file(fs, "/f", 1, 1), 1, 2, Now).expect("written");
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 1)), set(["short", "2"]));
}

/// The length that is found, in blocks.
fn blocks(fs: &SimFs) -> u64 {
    open(fs, "/f").and_then(|f| f.len()).expect("there") / BLOCK as u64
}

#[test]
fn lengths_survive_as_a_prefix_of_their_changes() {
    let build = |fs: &SimFs| {
        let file = durable_file(fs, "/f", 1, 1);
        file.set_len(4 * BLOCK as u64).expect("grown");
        file.allocate(0, 8 * BLOCK as u64).expect("grown");
        file.set_len(2 * BLOCK as u64).expect("cut");
    };
    assert_eq!(after_power_cuts(build, blocks), BTreeSet::from([1, 2, 4, 8]));
}

#[test]
fn a_data_sync_covers_the_length_that_reading_needs_and_no_more() {
    let build = |kind| {
        move |fs: &SimFs| {
            let file = durable_file(fs, "/f", 1, 1);
            file.allocate(0, 8 * BLOCK as u64).expect("grown");
            write(&file, 2, 2, Later).expect("written");
            file.sync(kind).expect("synced");
        }
    };
    assert_eq!(after_power_cuts(build(SyncKind::Data), blocks), BTreeSet::from([3, 8]));
    assert_eq!(after_power_cuts(build(SyncKind::Data), |fs| found(fs, "/f", 2)), set(["2"]));
    assert_eq!(after_power_cuts(build(SyncKind::All), blocks), BTreeSet::from([8]));
}

#[test]
fn what_lay_past_the_length_does_not_come_back() {
    let build = |fs: &SimFs| write(&durable_file(fs, "/f", 1, 1), 1, 2, Now).expect("written");
    let look = |fs: &SimFs| {
        let short = found(fs, "/f", 1) == "short";
        open(fs, "/f").and_then(|file| file.set_len(2 * BLOCK as u64)).expect("grown");
        format!("{short}: {}", found(fs, "/f", 1))
    };
    assert_eq!(after_power_cuts(build, look), set(["true: 0", "false: 2"]));
}

#[test]
fn the_file_systems_changes_survive_in_their_order() {
    let build = |fs: &SimFs| {
        let file = durable_file(fs, "/f", 2, 1);
        file.punch_hole(0, BLOCK as u64).expect("punched");
        file.punch_hole(BLOCK as u64, BLOCK as u64).expect("punched");
    };
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 0) + " " + &found(fs, "/f", 1)), set(["1 1", "0 1", "0 0"]));
}

#[test]
fn a_hole_and_a_cut_may_be_undone_until_synced() {
    let punch = |fs: &SimFs| durable_file(fs, "/f", 2, 1).punch_hole(0, BLOCK as u64).expect("punched");
    assert_eq!(after_power_cuts(punch, |fs| found(fs, "/f", 0)), set(["0", "1"]));
    let cut = |fs: &SimFs| {
        let file = durable_file(fs, "/f", 2, 1);
        file.set_len(BLOCK as u64).expect("cut");
        file.set_len(2 * BLOCK as u64).expect("grown");
    };
    assert_eq!(after_power_cuts(cut, |fs| found(fs, "/f", 1)), set(["0", "1", "short"]));
}

#[test]
fn a_kill_keeps_what_completed_and_a_later_power_cut_may_take_it() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let sim = Sim::new(SimOptions::new(seed));
        let file = durable_file(&sim.fs(), "/f", 1, 1);
        write(&file, 0, 2, Later).expect("written");
        let sim = sim.restart(Restart::Kill, SimOptions::new(seed));
        assert_eq!(found(&sim.fs(), "/f", 0), "2");
        let sim = sim.restart(Restart::PowerCut, SimOptions::new(seed));
        let after = found(&sim.fs(), "/f", 0);
        let sim = sim.restart(Restart::PowerCut, SimOptions::new(seed + 1));
        assert_eq!(found(&sim.fs(), "/f", 0), after, "what was found after a power cut is durable");
        seen.insert(after);
    }
    assert_eq!(seen, set(["1", "2", "1+2"]));
}

#[test]
fn a_sync_after_a_kill_covers_what_was_written_before() {
    for seed in 0..100 {
        let sim = Sim::new(SimOptions::new(seed));
        write(&durable_file(&sim.fs(), "/f", 1, 1), 0, 2, Later).expect("written");
        let sim = sim.restart(Restart::Kill, SimOptions::new(seed));
        open(&sim.fs(), "/f").and_then(|f| f.sync(SyncKind::Data)).expect("synced");
        let sim = sim.restart(Restart::PowerCut, SimOptions::new(seed));
        assert_eq!(found(&sim.fs(), "/f", 0), "2");
    }
}
