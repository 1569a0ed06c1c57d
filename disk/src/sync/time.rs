//! Time: a clock that only goes forward, and sleeping.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Time since an arbitrary start. In a simulation its own clock, which moves only while no thread can run.
pub fn now() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// Lets `duration` pass.
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
