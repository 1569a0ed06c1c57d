//! Time: a clock that only goes forward, and sleeping.

use super::simulation::{self, Wait};
use std::panic::Location;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Time since an arbitrary start. In a simulation its own clock, which moves only while no thread can run.
pub fn now() -> Duration {
    if simulation::simulated() {
        return simulation::with(|context| context.now());
    }
    START.get_or_init(Instant::now).elapsed()
}

/// Lets `duration` pass.
#[track_caller]
pub fn sleep(duration: Duration) {
    if simulation::simulated() {
        let place = Location::caller();
        simulation::with(|context| context.block(Wait::Sleep, Some(duration), place));
        return;
    }
    std::thread::sleep(duration);
}
