//! Every model, and the mistakes that each must notice (`-- --nocapture` prints how many interleavings that took).

use ashlar_loom::models::{Model, horizon, latch, list, pool, recent, visibility};
use ashlar_loom::mutation::{
    LATCH, LIST,
    Mutated::{self, LeftOut, To},
    SLOTS, STORE, Source, VISIBILITY,
};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// A test for each model.
macro_rules! hold {
    ($($name:ident $model:path;)*) => {
        $(
            #[test]
            fn $name() {
                $model.holds();
            }
        )*
    };
}

hold! {
    latch_optimistic latch::OPTIMISTIC;
    latch_exclusion latch::EXCLUSION;
    latch_sharers latch::SHARERS;
    latch_parked latch::PARKED;
    latch_unchanged latch::UNCHANGED;
    horizon_snapshot horizon::SNAPSHOT;
    horizon_taken_away horizon::TAKEN_AWAY;
    writers_horizon_trimmed recent::TRIMMED;
    writers_horizon_taken_away recent::TAKEN_AWAY;
    list_alone list::LIST;
    list_and_mark list::MARK;
    pool_reused pool::REUSED;
    pool_held pool::HELD;
    pool_loaded pool::LOADED;
    pool_copied pool::COPIED;
    pool_detached pool::DETACHED;
    pool_freed pool::FREED;
    watermark visibility::WATERMARK;
    watermark_wait visibility::WAIT;
    watermark_stop visibility::STOP;
}

/// Each operation weakened alone must show.
fn each_shows(model: Model, source: Source, mistakes: &[(&str, Mutated)]) {
    for &(text, to) in mistakes {
        model.fails_with(&[(source, text, to)]);
    }
}

#[test]
fn mistakes_in_the_optimistic_protocol_show() {
    let mistakes = [
        ("fence(Release);", LeftOut),
        ("fence(Acquire);", LeftOut),
        ("swap(next, Release)", To(Relaxed)),
        ("is seen.\n        let word = self.0.load(Acquire);", To(Relaxed)),
    ];
    each_shows(latch::OPTIMISTIC, LATCH, &mistakes);
}

#[test]
fn mistakes_in_exclusion_show() {
    let mistakes = [
        ("word | EXCLUSIVE, Acquire, Relaxed", To(Relaxed)),
        ("word + SHARER, Acquire, Relaxed", To(Relaxed)),
        ("fetch_sub(SHARER, Release)", To(Relaxed)),
    ];
    each_shows(latch::EXCLUSION, LATCH, &mistakes);
    each_shows(latch::UNCHANGED, LATCH, &[("fetch_and(!(EXCLUSIVE | WAITERS), Release)", To(Relaxed))]);
}

/// These end with nobody able to move.
#[test]
fn mistakes_in_parking_show() {
    let after_change = "swap(next, Release);\n        debug_assert!(before & EXCLUSIVE != 0, \"unlocking what is not exclusive\");\n        if before & WAITERS != 0 {\n            park::unpark_all(self.key());";
    let after_none = "fetch_and(!(EXCLUSIVE | WAITERS), Release);\n        debug_assert!(before & EXCLUSIVE != 0, \"unlocking what is not exclusive\");\n        if before & WAITERS != 0 {\n            park::unpark_all(self.key());";
    each_shows(latch::PARKED, LATCH, &[(after_change, LeftOut), (after_none, LeftOut)]);
    let mistakes = [
        ("self.0.fetch_and(!WAITERS, Relaxed);\n            park::unpark_all(self.key());", LeftOut),
        ("word | WAITERS, Relaxed, Relaxed", LeftOut),
    ];
    each_shows(latch::SHARERS, LATCH, &mistakes);
}

#[test]
fn mistakes_in_the_horizon_show() {
    let mistakes = [
        ("self.horizon.fetch_max(lsn, SeqCst);", To(AcqRel)),
        ("self.horizon.fetch_max(lsn, SeqCst);", LeftOut),
        ("self.horizon.load(SeqCst) > lsn", To(Acquire)),
        ("self.end.fetch_max(index + 1, SeqCst);", To(AcqRel)),
        ("self.end.fetch_max(index + 1, SeqCst);", LeftOut),
        ("(0..self.end.load(SeqCst))", To(Acquire)),
    ];
    each_shows(horizon::SNAPSHOT, SLOTS, &mistakes);
    each_shows(horizon::TAKEN_AWAY, SLOTS, &[("bits | GONE, SeqCst", LeftOut)]);
}

#[test]
fn mistakes_in_the_writers_horizon_show() {
    let mistakes = [
        ("self.writers_horizon.fetch_max(lsn, SeqCst);", To(AcqRel)),
        ("self.writers_horizon.fetch_max(lsn, SeqCst);", LeftOut),
        ("self.writers_horizon.load(SeqCst) > lsn", To(Acquire)),
    ];
    each_shows(recent::TRIMMED, SLOTS, &mistakes);
    each_shows(recent::TAKEN_AWAY, SLOTS, &[("bits | GONE, SeqCst", LeftOut)]);
}

#[test]
fn mistakes_in_the_list_show() {
    let head = "Iter { next: self.head.load(Acquire, guard), guard }";
    let mistakes = [
        (head, To(Relaxed)),
        ("self.next = entry.next.load(Acquire, self.guard);", To(Relaxed)),
        ("link.store(Owned::new(entry), Release);", To(Relaxed)),
        ("guard.defer_unchecked(", LeftOut),
    ];
    each_shows(list::LIST, LIST, &mistakes);
    each_shows(list::MARK, LIST, &[("link.store(Shared::null(), Release);", To(Relaxed))]);
    // Either of these orders reading before looking at the mark.
    list::MARK.fails_with(&[(LIST, head, To(Relaxed)), (SLOTS, "fence(Acquire);", LeftOut)]);
}

#[test]
fn mistakes_in_what_the_pool_relies_on_show() {
    each_shows(pool::REUSED, LATCH, &[("fence(Acquire);", LeftOut)]);
    // Either of these orders that the page leaves before what is stored in its frame.
    pool::REUSED.fails_with(&[(LATCH, "fence(Release);", LeftOut), (STORE, "fence(Release);", LeftOut)]);
    each_shows(pool::COPIED, LATCH, &[("is seen.\n        let word = self.0.load(Acquire);", To(Relaxed))]);
    each_shows(pool::HELD, LATCH, &[("word | EXCLUSIVE, Acquire, Relaxed", LeftOut)]);
}

#[test]
fn mistakes_in_the_watermark_show() {
    let mistakes = [
        ("self.watermark.load(Ordering::Acquire)", To(Relaxed)),
        ("self.watermark.store(lsn, Ordering::Release);", To(Relaxed)),
        ("self.applied.load(Ordering::Acquire)", To(Relaxed)),
        ("self.applied.store(lsn, Ordering::Release);", To(Relaxed)),
    ];
    each_shows(visibility::WATERMARK, VISIBILITY, &mistakes);
    let unwoken = "if queue.waiters > 0 {\n                self.raised.notify_all();";
    each_shows(visibility::WAIT, VISIBILITY, &[(unwoken, LeftOut)]);
    let unstopped = "self.queue.lock().stopped = true;\n        self.raised.notify_all();";
    each_shows(visibility::STOP, VISIBILITY, &[(unstopped, LeftOut)]);
}

/// Order between steps, which no weakening of one step stands for: mistakes that the engine itself can be asked for.
#[test]
#[should_panic(expected = "has lost what it needs")]
fn a_snapshot_that_does_not_read_the_horizon_again_shows() {
    horizon::NOT_REREAD.holds();
}

#[test]
#[should_panic(expected = "has not met the commit")]
fn a_transaction_that_does_not_read_the_horizon_again_shows() {
    recent::NOT_REREAD.holds();
}

#[test]
#[should_panic(expected = "has not met the commit")]
fn a_list_trimmed_at_the_watermark_shows() {
    recent::TRIMMED_AT_WATERMARK.holds();
}
