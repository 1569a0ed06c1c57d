//! Random numbers.

use super::simulation;
use rand::TryRng;
use rand::rngs::SysRng;
use std::hash::{BuildHasher, RandomState};

/// A random number: the kernel's in production, from the seed in a simulation. For identities, not for secrets.
pub fn random_u64() -> u64 {
    if simulation::simulated() {
        return simulation::with(|context| context.random_u64());
    }
    // A kernel without random numbers (none that this crate runs on) leaves the standard library's hash keys and the time.
    SysRng.try_next_u64().unwrap_or_else(|_| RandomState::new().hash_one(super::now()))
}
