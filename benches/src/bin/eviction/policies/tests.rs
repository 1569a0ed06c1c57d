//! Small traces worked out by hand, and what holds for every policy.

use super::*;
use crate::traces::Kind;

/// Which of the accesses are hits, by their places.
fn hits(mut cache: impl Cache, accesses: &[u32]) -> Vec<usize> {
    accesses.iter().enumerate().filter(|&(_, &page)| cache.access(page)).map(|(at, _)| at).collect()
}

/// The trace of L. A. Belady and others, "An anomaly in space-time characteristics of certain programs running in a paging machine",
/// 1969. Misses of LRU and of MIN as textbooks give them.
const ANOMALY: [u32; 12] = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];

#[test]
fn lru_keeps_what_was_used_last() {
    assert_eq!(hits(lru::Lru::new(3), &[1, 2, 3, 1, 4, 2, 4, 1, 3]), [3, 6, 7], "2 leaves for 4, 3 for 2, 2 for 3");
    assert_eq!(12 - hits(lru::Lru::new(3), &ANOMALY).len(), 10);
    assert_eq!(12 - hits(lru::Lru::new(4), &ANOMALY).len(), 8);
}

#[test]
fn min_looks_ahead() {
    let misses = |frames| {
        let trace = Trace::new(6, ANOMALY.to_vec());
        12 - hits(min::Min::new(frames, &trace), &ANOMALY).len()
    };
    assert_eq!((misses(3), misses(4)), (7, 6));
}

#[test]
fn clock_gives_second_chances() {
    // 1 2 3 | 4 for 1, 1 for 2, 2 for 3 | 5 for 4 | hits of 1 and 2 | 3: both are spared, 5 goes | 4 for 1, 5 for 2.
    assert_eq!(hits(clock::Clock::new(3, 6), &ANOMALY), [7, 8]);
    // 1 is used; 4 comes for 2, and 1 is behind 3 then: 5 for 3, 6 for 1.
    assert_eq!(hits(clock::Clock::new(3, 7), &[1, 2, 3, 1, 4, 5, 6, 4, 1]), [3, 7]);
}

#[test]
fn sieve_leaves_pages_where_they_are() {
    // 1 is spared for 4, and is behind the hand from then on: 2, 3, 4, 5, 6, 3, 7 leave one after the other.
    assert_eq!(hits(sieve::Sieve::new(3, 10), &[1, 2, 3, 1, 4, 1, 5, 6, 1, 3, 7, 8, 9, 1]), [3, 5, 8, 13]);
    // When the hand has passed the newest page it begins again with the oldest: 1 is spared, then all; then 1 goes.
    assert_eq!(hits(sieve::Sieve::new(2, 10), &[1, 2, 1, 2, 3, 2, 1]), [2, 3, 5]);
}

#[test]
fn two_q_waits_for_a_page_to_come_back() {
    let accesses = [1, 2, 3, 4, 5, 1, 6, 7, 1, 2, 4, 7, 8, 7, 9, 1];
    // 1 comes back while its id is known, 2 too late. The use of 7 at place 11 does not count: 8 drives it out.
    assert_eq!(hits(two_q::TwoQ::new(4), &accesses), [8, 11]);
    // In Am are 4 and 7, new are 8 (or 9) and 1.
    let again = [&accesses[..], &[4, 7, 1]].concat();
    assert_eq!(hits(two_q::TwoQ::new(4), &again), [8, 11, 16, 17, 18]);
    // 8 comes back; then 7 leaves Am for 3, because 4 was used after it.
    let again = [&accesses[..], &[4, 8, 3, 4, 7]].concat();
    assert_eq!(hits(two_q::TwoQ::new(4), &again), [8, 11, 16, 19]);
}

#[test]
fn s3_fifo_filters_with_a_small_queue() {
    // Four frames: one is for the small queue. 1 is used twice and moves to main; 2, used once, does not, but comes back from the ghost.
    let accesses = [1, 2, 3, 4, 1, 1, 2, 5, 2, 1, 6, 7, 3, 8, 4, 7, 9, 2, 1, 7, 3];
    // At place 16 the small queue is empty: main spares 1 and lets 2 go.
    assert_eq!(hits(s3_fifo::S3Fifo::new(4, 10), &accesses), [4, 5, 6, 9, 18, 19, 20]);
    // 8, 4, 9 and 2 come back and push the others through main; of those 1, used three times, outlives two rounds.
    let again = [&accesses[..], &[1, 1, 8, 10, 4, 11, 9, 12, 2, 13, 1]].concat();
    assert_eq!(hits(s3_fifo::S3Fifo::new(4, 14), &again), [4, 5, 6, 9, 18, 19, 20, 21, 22, 31]);
}

#[test]
fn clock2q_plus_does_not_count_uses_in_the_window() {
    let sizes = Sizes { small: 2, main: 2, ghost: 2, window: 1 };
    // 1 and 2 are in the small queue, 2 in the window: 1 moves to main, 2 leaves, and comes back from the ghost. So does 5.
    let accesses = [1, 2, 3, 4, 2, 1, 5, 6, 2, 5, 1, 7, 1, 2];
    assert_eq!(hits(clock2q_plus::Clock2QPlus::new(sizes, 8), &accesses), [4, 5, 10, 12]);
    // Without a window 2 stays as well, and 3 and 4 go.
    let sizes = Sizes { window: 0, ..sizes };
    assert_eq!(hits(clock2q_plus::Clock2QPlus::new(sizes, 8), &accesses)[..3], [4, 5, 8]);
}

/// Of twenty frames two are on probation, the younger of them in the window.
#[test]
fn the_pool_keeps_what_was_used_after_the_window_or_comes_back() {
    let mut cache = PoolPolicy::new(20, 1000, How { victims: 1, first_use_counts: true, uses_max: 1 });
    let mut uses = |pages: std::ops::Range<u32>| pages.filter(|&page| cache.access(page)).count();
    assert_eq!(uses(0..20), 0);
    assert_eq!(uses(0..1), 1, "used again: it will move to main");
    assert_eq!(uses(20..21), 0, "page 1 leaves for it, and is remembered");
    assert_eq!(uses(1..2), 0, "it comes back, and is hot");
    assert_eq!(uses(300..301) + uses(300..301), 1, "used twice in a row, which is one use");
    assert_eq!(uses(100..200), 0);
    assert_eq!(uses(0..2), 2, "a scan leaves main alone");
    assert_eq!(uses(300..301) + uses(3..4), 0, "and nothing else");
}

fn all() -> Vec<Policy> {
    let own = std::iter::once(ashlar());
    own.chain(others()).chain(other_constants()).collect()
}

fn count(policy: &Policy, frames: usize, trace: &Trace) -> usize {
    let mut cache = policy.cache(frames, trace);
    let hits = trace.accesses.iter().filter(|&&page| cache.access(page)).count();
    assert!(cache.resident() <= frames, "{} has {} pages in {frames} frames", policy.name, cache.resident());
    hits
}

#[test]
fn no_policy_passes_the_limit() {
    for (seed, kind) in (0..).zip(Kind::ALL) {
        for frames in [20, 64, 200] {
            let trace = kind.trace(400, 20_000, frames, seed);
            let limit = count(&optimum(), frames, &trace);
            for policy in all() {
                let hits = count(&policy, frames, &trace);
                assert!(hits <= limit, "{}: {hits} hits of {limit}, {kind:?}, {frames} frames", policy.name);
                let least = if kind == Kind::Loop || kind == Kind::Uniform { 0 } else { limit / 4 };
                assert!(hits >= least, "{}: {hits} hits of {limit}, {kind:?}, {frames} frames", policy.name);
            }
        }
    }
}

#[test]
fn where_all_pages_fit_each_is_missed_once() {
    for kind in Kind::ALL {
        let trace = kind.trace(300, 10_000, 250, 3);
        let mut pages = trace.accesses.clone();
        pages.sort_unstable();
        pages.dedup();
        for policy in std::iter::once(optimum()).chain(all()) {
            assert_eq!(count(&policy, trace.pages(), &trace), 10_000 - pages.len(), "{}, {kind:?}", policy.name);
        }
    }
}

/// The pool's rules are those of Clock2Q+ but for two things: the use for which a page was loaded counts, and pages leave in groups.
/// Without them it comes near with its constants, which is what makes it a stand-in for others.
#[test]
fn without_two_differences_the_pool_is_near_clock2q_plus() {
    for kind in Kind::ALL.into_iter().filter(|&kind| kind != Kind::Loop) {
        let trace = kind.trace(5000, 100_000, 500, 5);
        let own = Policy::new("", |frames, trace: &Trace| {
            PoolPolicy::new(frames, trace.pages(), How { victims: 1, first_use_counts: false, uses_max: 1 })
        });
        let stand_in =
            Policy::new("", |frames, trace| clock2q_plus::Clock2QPlus::new(Sizes::shares(frames, 10, 25), trace.pages()));
        let (own, other) = (count(&own, 500, &trace) as f64, count(&stand_in, 500, &trace) as f64);
        assert!((own / other - 1.0).abs() < 0.01, "{own} and {other}, {kind:?}");
    }
}
