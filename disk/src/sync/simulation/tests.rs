use super::*;
use crate::sync::{self, Condvar, Mutex, park, spawn};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

const SECOND: Duration = Duration::from_secs(1);

/// Runs `f` once for each of `seeds` seeds.
fn runs<T: Send + 'static>(seeds: u64, f: impl Fn() -> T + Clone + Send + 'static) -> Vec<Outcome<T>> {
    (0..seeds).map(|seed| simulate(&Options::new(seed), f.clone())).collect()
}

fn start(name: &str, f: impl FnOnce() + Send + 'static) -> sync::JoinHandle {
    spawn(name, f).expect("a thread")
}

/// Three threads add to one counter, reading and writing it in two steps.
fn count(lock: bool) -> u64 {
    let counter = Arc::new((Mutex::new(()), AtomicU64::new(0)));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let counter = counter.clone();
            start("adder", move || {
                for _ in 0..3 {
                    let guard = lock.then(|| counter.0.lock());
                    let seen = counter.1.load(Relaxed);
                    sync::yield_point();
                    counter.1.store(seen + 1, Relaxed);
                    drop(guard);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    counter.1.load(Relaxed)
}

#[test]
fn a_racy_counter_loses_updates_and_a_locked_one_does_not() {
    let racy: BTreeSet<u64> = runs(200, || count(false)).into_iter().map(|o| o.expect("racy")).collect();
    assert!(racy.len() > 4 && racy.first() < Some(&5), "interleavings found: {racy:?}");
    assert!(runs(200, || count(true)).into_iter().all(|o| o.expect("locked") == 9));
}

#[test]
fn another_thread_may_run_right_after_an_unlock() {
    let seen: BTreeSet<(u64, u64)> = runs(200, || {
        let shared = Arc::new((Mutex::new(0), AtomicU64::new(0)));
        let other = shared.clone();
        let thread = start("writer", move || {
            *other.0.lock() = 1;
            other.1.store(1, Relaxed);
        });
        let seen = (*shared.0.lock(), shared.1.load(Relaxed));
        thread.join().expect("no panic");
        seen
    })
    .into_iter()
    .map(|o| o.expect("two steps"))
    .collect();
    assert!(seen.contains(&(1, 0)), "{seen:?}");
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let run = |seed| {
        let o = simulate(&Options::new(seed), || (count(false), sync::random_u64(), sync::now()));
        (o.trace, o.steps, o.clock, o.expect("run"))
    };
    let first: Vec<_> = (0..50).map(run).collect();
    let second: Vec<_> = (0..50).map(run).collect();
    assert_eq!(first, second);
    let traces: BTreeSet<u64> = first.iter().map(|o| o.0).collect();
    assert!(traces.len() > 40, "different seeds choose differently: {}", traces.len());
}

#[test]
fn runs_at_the_same_time_do_not_meet() {
    let threads: Vec<_> =
        (0..4).map(|_| std::thread::spawn(|| runs(50, || count(false)).iter().map(|o| o.trace).collect::<Vec<_>>())).collect();
    let traces: BTreeSet<Vec<u64>> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
    assert_eq!(traces.len(), 1);
}

#[test]
fn a_condition_variable_hands_over_every_item() {
    let outcomes = runs(200, || {
        let queue = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let producer = queue.clone();
        let thread = start("producer", move || {
            for i in 0..5 {
                producer.0.lock().push(i);
                producer.1.notify_one();
            }
        });
        let mut got = Vec::new();
        let mut items = queue.0.lock();
        while got.len() < 5 {
            while items.is_empty() {
                queue.1.wait(&mut items);
            }
            got.append(&mut items);
        }
        drop(items);
        thread.join().expect("no panic");
        got
    });
    assert!(outcomes.into_iter().all(|o| o.expect("hand-over") == [0, 1, 2, 3, 4]));
}

#[test]
fn a_notification_before_the_wait_is_lost_and_found_as_a_deadlock() {
    let outcomes = runs(100, || {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let other = pair.clone();
        start("notifier", move || other.1.notify_one());
        let mut guard = pair.0.lock();
        pair.1.wait(&mut guard);
    });
    let stuck = outcomes.iter().filter(|o| matches!(o.failure, Some(Failure::Deadlock(_)))).count();
    assert!((5..100).contains(&stuck), "{stuck} of 100 runs stuck");
    assert!(outcomes.iter().all(|o| o.abandoned == 0));
}

/// A one-word lock over `park`: 0 free, 1 taken, 2 taken and somebody may be parked.
struct WordLock(AtomicUsize);

impl WordLock {
    fn lock(&self, validate_again: bool) {
        sync::yield_point();
        if self.0.compare_exchange(0, 1, Relaxed, Relaxed).is_ok() {
            return;
        }
        loop {
            sync::yield_point();
            if self.0.swap(2, Relaxed) == 0 {
                return;
            }
            park::park(self.key(), || !validate_again || self.0.load(Relaxed) == 2);
        }
    }

    fn unlock(&self) {
        sync::yield_point();
        if self.0.swap(0, Relaxed) == 2 {
            park::unpark_one(self.key());
        }
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

fn use_word_lock(validate: bool) -> u64 {
    let shared = Arc::new((WordLock(AtomicUsize::new(0)), AtomicU64::new(0)));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let shared = shared.clone();
            start("locker", move || {
                for _ in 0..3 {
                    shared.0.lock(validate);
                    let seen = shared.1.load(Relaxed);
                    sync::yield_point();
                    shared.1.store(seen + 1, Relaxed);
                    shared.0.unlock();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    shared.1.load(Relaxed)
}

#[test]
fn parking_with_validation_misses_no_wake_up() {
    assert!(runs(300, || use_word_lock(true)).into_iter().all(|o| o.expect("validated") == 9));
}

#[test]
fn parking_without_validation_is_caught() {
    let outcomes = runs(300, || use_word_lock(false));
    assert!(outcomes.iter().any(|o| matches!(&o.failure, Some(Failure::Deadlock(r)) if r.contains("being unparked"))));
}

#[test]
fn unpark_all_wakes_all() {
    let outcomes = runs(100, || {
        let open = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let open = open.clone();
                start("waiter", move || {
                    while !open.load(Relaxed) {
                        park::park(64, || !open.load(Relaxed));
                    }
                })
            })
            .collect();
        sync::yield_point();
        open.store(true, Relaxed);
        park::unpark_all(64);
        threads.into_iter().for_each(|t| t.join().expect("no panic"));
    });
    outcomes.into_iter().for_each(|o| o.expect("gate"));
}

#[test]
fn a_deadlock_is_reported_with_names_and_places() {
    let outcomes = runs(100, || {
        let locks = Arc::new((Mutex::new(()), Mutex::new(())));
        let other = locks.clone();
        let thread = start("reverse", move || {
            let _second = other.1.lock();
            let _first = other.0.lock();
        });
        {
            let _first = locks.0.lock();
            let _second = locks.1.lock();
        }
        thread.join().expect("no panic");
    });
    let reports: Vec<_> = outcomes.iter().filter_map(|o| o.failure.as_ref()).map(ToString::to_string).collect();
    assert!(reports.len() > 5 && reports.len() < 100, "{} deadlocks", reports.len());
    let report = &reports[0];
    for part in [
        "thread 0 \"main\" waits for a mutex held by thread 1",
        "thread 1 \"reverse\" waits for a mutex held by thread 0",
        "tests.rs",
    ] {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn time_passes_only_while_nothing_can_run() {
    let outcome = simulate(&Options::new(3), || {
        let start_time = sync::now();
        let sleeper = start("sleeper", || sync::sleep(3600 * SECOND));
        for _ in 0..100 {
            sync::yield_point();
        }
        let while_busy = sync::now() - start_time;
        sleeper.join().expect("no panic");
        (while_busy, sync::now() - start_time)
    });
    assert_eq!(outcome.clock, 3600 * SECOND);
    assert_eq!(outcome.expect("sleep"), (Duration::ZERO, 3600 * SECOND));
}

#[test]
fn a_wait_times_out_or_is_notified() {
    let wait = |notified_after: Duration| {
        move || {
            let pair = Arc::new((Mutex::new(false), Condvar::new()));
            let other = pair.clone();
            start("notifier", move || {
                sync::sleep(notified_after);
                *other.0.lock() = true;
                other.1.notify_all();
            });
            let mut flag = pair.0.lock();
            let mut timed_out = false;
            while !*flag && !timed_out {
                timed_out = pair.1.wait_for(&mut flag, 2 * SECOND);
            }
            (*flag, timed_out)
        }
    };
    for outcome in runs(50, wait(SECOND)) {
        assert_eq!(outcome.expect("notified"), (true, false));
    }
    for outcome in runs(50, wait(60 * SECOND)) {
        assert_eq!(outcome.clock.max(2 * SECOND), outcome.clock);
        assert_eq!(outcome.expect("timed out"), (false, true));
    }
}

#[test]
fn a_panic_is_reported_and_given_to_who_joins() {
    let outcome = simulate(&Options::new(1), || start("faulty", || panic!("broken {}", 7)).join().expect_err("it panicked"));
    let Some(Failure::Panicked(panicked)) = &outcome.failure else { panic!("{:?}", outcome.failure) };
    assert_eq!(panicked.thread, "faulty");
    assert!(panicked.message.contains("broken 7") && panicked.message.contains("tests.rs"), "{panicked}");
    assert_eq!(outcome.value.as_ref(), Some(panicked));
}

#[test]
fn threads_left_are_unwound_and_give_back_what_they_hold() {
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>, Arc<Mutex<()>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            let _guard = self.1.lock();
            sync::yield_point();
            self.0.fetch_add(1, Relaxed);
        }
    }
    for seed in 0..50 {
        let counter = dropped.clone();
        let outcome = simulate(&Options::new(seed), move || {
            let lock = Arc::new(Mutex::new(()));
            for _ in 0..3 {
                let counted = Counted(counter.clone(), lock.clone());
                start("endless", move || {
                    let _counted = counted;
                    let pair = (Mutex::new(()), Condvar::new());
                    let mut guard = pair.0.lock();
                    loop {
                        pair.1.wait(&mut guard);
                    }
                });
            }
        });
        assert_eq!((outcome.left.len(), outcome.abandoned), (3, 0));
        assert!(outcome.failure.is_none());
    }
    assert_eq!(dropped.load(Relaxed), 150);
}

#[test]
fn a_destructor_that_waits_for_ever_is_abandoned() {
    struct Stuck;
    impl Drop for Stuck {
        fn drop(&mut self) {
            loop {
                park::park(1, || true);
            }
        }
    }
    let outcome = simulate(&Options::new(1), || {
        start("stuck", || {
            let _stuck = Stuck;
            sync::sleep(SECOND);
        });
        sync::yield_point();
        sync::yield_point();
    });
    assert!(outcome.failure.is_none());
    assert!(outcome.abandoned <= 1);
    // The pool is whole: other runs go on.
    assert_eq!(simulate(&Options::new(2), || count(true)).expect("after"), 9);
}

#[test]
fn a_loop_without_end_is_stopped() {
    let options = Options { steps_max: 1000, ..Options::new(1) };
    let outcome = simulate(&options, || {
        start("other", || sync::sleep(SECOND));
        loop {
            sync::yield_point();
        }
    });
    let Some(Failure::TooManySteps(report)) = outcome.failure else { panic!("{:?}", outcome.failure) };
    assert!(report.contains("\"main\" can run") && report.contains("\"other\" waits for its time"), "{report}");
    assert_eq!(outcome.abandoned, 0);
}

#[test]
fn try_lock_is_refused_while_another_thread_has_the_lock() {
    let seen: BTreeSet<bool> = runs(50, || {
        let lock = Arc::new(Mutex::new(()));
        let other = lock.clone();
        let thread = start("holder", move || {
            let _guard = other.lock();
            sync::yield_point();
        });
        let got = lock.try_lock().is_some();
        thread.join().expect("no panic");
        got
    })
    .into_iter()
    .map(|o| o.expect("try"))
    .collect();
    assert_eq!(seen.len(), 2);
}

#[test]
#[ignore = "a measurement: prints how long a run takes"]
fn rate_of_runs() {
    let work = || {
        let lock = Arc::new(Mutex::new(0u64));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                start("worker", move || (0..50).for_each(|_| *lock.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().expect("no panic"));
    };
    let begin = std::time::Instant::now();
    let outcomes = runs(1000, work);
    let steps: u64 = outcomes.iter().map(|o| o.steps).sum();
    println!("{:?} a run of {} steps", begin.elapsed() / 1000, steps / 1000);
}
