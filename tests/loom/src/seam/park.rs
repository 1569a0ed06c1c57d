//! Stands in for `ashlar_disk::sync::park`: one queue for all keys, so that a waker of one key wakes those of others too, for no
//! reason. Models in which that could hide a lost wake-up have one key.

use crate::mutation::{self, Mutated};
use loom::sync::{Condvar, Mutex};

#[derive(Default)]
struct Queue {
    wakeups: Mutex<u64>,
    moved: Condvar,
}

loom::lazy_static! {
    static ref QUEUE: Queue = Queue::default();
}

/// Parks the caller if `validate()` is true, which is asked with the queue locked.
pub fn park(_key: usize, validate: impl FnOnce() -> bool) {
    let mut wakeups = QUEUE.wakeups.lock().expect("loom ends at the first panic");
    if validate() {
        let seen = *wakeups;
        while *wakeups == seen {
            wakeups = QUEUE.moved.wait(wakeups).expect("loom ends at the first panic");
        }
    }
}

/// Unparks all.
#[track_caller]
pub fn unpark_all(_key: usize) {
    if mutation::here() == Mutated::No {
        *QUEUE.wakeups.lock().expect("loom ends at the first panic") += 1;
        QUEUE.moved.notify_all();
    }
}
