//! The disk under the scheduler.

use super::queue::{queue, write_transfer};
use super::*;
use crate::sync::simulation::{Device, Failure};
use crate::sync::{self, Condvar, Mutex, spawn};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What `f` returns and what is found of block 0 and 1 of `/f` after a power cut, for many seeds.
fn outcomes<T: Ord + Send + 'static>(f: impl Fn(&SimFs) -> T + Clone + Send + 'static) -> BTreeSet<(T, String)> {
    (0..600)
        .map(|seed| {
            let sim = Sim::new(SimOptions::new(seed));
            let (fs, f) = (sim.fs(), f.clone());
            let value = sim.run(move || f(&fs)).expect("run");
            let fs = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
            (value, found(&fs, "/f", 0) + " " + &found(&fs, "/f", 1))
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Written {
    BeforeTheSync,
    DuringTheSync,
    Unknown,
}

#[test]
fn a_sync_covers_only_what_completed_before_it_began() {
    let seen = outcomes(|fs| {
        let file = durable_file(fs, "/f", 2, 1);
        let (writer, disk) = (file.clone(), fs.disk.clone());
        let [before, during] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let flags = [before.clone(), during.clone()];
        let write_and_look = move || {
            write(&writer, 0, 2, Durability::Later).expect("written");
            flags[0].store(true, Relaxed);
            // Nothing but the sync can be in flight.
            flags[1].store(disk.in_flight() == 1, Relaxed);
        };
        let thread = spawn("writer", write_and_look).expect("a thread");
        let written_before = before.load(Relaxed);
        file.sync(SyncKind::Data).expect("synced");
        thread.join().expect("no panic");
        match (written_before, during.load(Relaxed)) {
            (true, _) => Written::BeforeTheSync,
            (false, true) => Written::DuringTheSync,
            (false, false) => Written::Unknown,
        }
    });
    let of = |when| seen.iter().filter(|s| s.0 == when).map(|s| s.1.clone()).collect::<BTreeSet<_>>();
    assert_eq!(of(Written::BeforeTheSync), set(["2 1"]));
    assert_eq!(of(Written::DuringTheSync), set(["1 1", "2 1", "1+2 1"]));
}

#[test]
fn writes_in_flight_complete_in_any_order() {
    let seen = outcomes(|fs| {
        let (file, queue) = (durable_file(fs, "/f", 1, 0), queue(fs, 8));
        let order = Arc::new(Mutex::new(Vec::new()));
        let transfers = (1..4u8).map(|byte| {
            let order = order.clone();
            write_transfer(&file, 0, byte, move |_| order.lock().push(byte))
        });
        queue.submit(transfers.collect());
        queue.drain();
        file.sync(SyncKind::Data).expect("synced");
        Arc::into_inner(order).expect("all completions have run").into_inner()
    });
    assert!(seen.len() == 6, "all orders, and the last to complete stays: {seen:?}");
    assert!(seen.iter().all(|(order, disk)| *disk == format!("{} short", order[2])), "{seen:?}");
}

#[test]
fn whoever_waits_reaps_for_everybody() {
    for seed in 0..200 {
        let sim = Sim::new(SimOptions::new(seed));
        let fs = sim.fs();
        let outcome = sim.run(move || {
            let (file, queue) = (create(&fs, "/f"), queue(&fs, 2));
            let threads: Vec<_> = (0..3)
                .map(|t| {
                    let (file, queue) = (file.clone(), queue.clone());
                    let work = move || {
                        for n in 0..4 {
                            let done = Arc::new(AtomicBool::new(false));
                            let flag = done.clone();
                            let transfer = write_transfer(&file, t * 4 + n, 1, move |_| flag.store(true, Relaxed));
                            queue.submit(vec![transfer]);
                            queue.wait(&|| {
                                let seen = done.load(Relaxed);
                                sync::yield_point();
                                seen
                            });
                        }
                    };
                    spawn("writer", work).expect("a thread")
                })
                .collect();
            threads.into_iter().for_each(|t| t.join().expect("no panic"));
            (0..12).all(|n| sectors(&file, n).expect("read") == [1; 8])
        });
        assert!(outcome.expect("queue"));
    }
}

#[test]
fn a_wait_that_no_completion_ends_is_a_deadlock() {
    let sim = Sim::new(SimOptions::new(1));
    let fs = sim.fs();
    let outcome = sim.run(move || queue(&fs, 1).wait(&|| false));
    assert!(matches!(&outcome.failure, Some(Failure::Deadlock(report)) if report.contains("waits for a transfer")));
}

/// A log of one-block records with group commit: whoever finds no sync under way syncs for all that have written. With `early`
/// it makes the mistake to take a write that completed while the sync was under way for covered.
fn group_commit(fs: &SimFs, early: bool) -> u64 {
    struct Log {
        file: Arc<dyn File>,
        state: Mutex<(u64, u64, bool)>,
        changed: Condvar,
    }
    let log = Arc::new(Log { file: durable_file(fs, "/f", 2, 9), state: Mutex::new((0, 0, false)), changed: Condvar::new() });
    let commit = move |log: &Log, block: u64| -> Result<()> {
        write(&log.file, block, 1, Durability::Later)?;
        let mut state = log.state.lock();
        state.0 |= 1 << block;
        while state.1 >> block & 1 == 0 {
            if state.2 {
                log.changed.wait(&mut state);
                continue;
            }
            state.2 = true;
            let covered = state.0;
            drop(state);
            let result = log.file.sync(SyncKind::Data);
            state = log.state.lock();
            state.2 = false;
            log.changed.notify_all();
            result?;
            state.1 |= if early { state.0 } else { covered };
        }
        Ok(())
    };
    let threads: Vec<_> = (0..2)
        .map(|block| {
            let log = log.clone();
            spawn("committer", move || drop(commit(&log, block))).expect("a thread")
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
    Arc::into_inner(log).expect("all threads have ended").state.into_inner().1
}

/// How many of `seeds` crashes lose something that was confirmed.
fn losses(seeds: u64, early: bool) -> usize {
    let lost = |seed| {
        let sim = Sim::new(SimOptions::new(seed));
        let fs = sim.fs();
        // The file is made in the first five calls.
        sim.set_crash_at(Some(6 + seed % 6));
        let confirmed = sim.run(move || group_commit(&fs, early)).expect("run");
        let fs = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        (0..2).any(|n| confirmed >> n & 1 == 1 && found(&fs, "/f", n) != "1")
    };
    (0..seeds).filter(|&seed| lost(seed)).count()
}

#[test]
fn a_group_commit_keeps_what_it_confirmed_and_a_hasty_one_is_caught() {
    assert_eq!(losses(500, false), 0);
    assert!(losses(500, true) > 0);
}

#[test]
fn the_same_seed_repeats_run_and_crash() {
    let run = |seed| {
        let sim = Sim::new(SimOptions::new(seed).crash_at(8));
        let fs = sim.fs();
        let outcome = sim.run(move || group_commit(&fs, false));
        let after = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        (outcome.trace, outcome.steps, found(&after, "/f", 0), found(&after, "/f", 1))
    };
    let runs: Vec<_> = (0..50).map(run).collect();
    assert_eq!(runs, (0..50).map(run).collect::<Vec<_>>());
    assert!(runs.iter().map(|r| r.0).collect::<BTreeSet<_>>().len() > 25);
}

#[test]
fn threads_left_in_a_transfer_are_unwound() {
    for seed in 0..50 {
        let sim = Sim::new(SimOptions::new(seed));
        let fs = sim.fs();
        let outcome = sim.run(move || {
            let file = create(&fs, "/f");
            let thread = move || {
                loop {
                    write(&file, 0, 1, Durability::Later).expect("written");
                }
            };
            spawn("endless", thread).expect("a thread");
            sync::sleep(std::time::Duration::ZERO);
        });
        assert!(outcome.failure.is_none() && outcome.abandoned == 0);
    }
}

#[test]
#[ignore = "a measurement: prints how long a run with a crash and a restart takes"]
fn rate_of_crashes() {
    let begin = std::time::Instant::now();
    assert_eq!(losses(1000, false), 0);
    println!("{:?} a small run, crash and restart", begin.elapsed() / 1000);
}
