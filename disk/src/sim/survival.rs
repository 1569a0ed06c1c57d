//! What a power cut leaves of what was not durable: drawn once a restart, so that whole families of outcomes come up, not only
//! the average one.

use super::content::{CHUNK, Chunk, SECTOR, mix};
use crate::sync::simulation::rng::Rng;

/// Which changes survive, by their number in time.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// Each one by itself, so many of 256.
    Each(u32),
    /// All up to a moment and none after it: a machine without a cache that reorders.
    Until(u64),
}

/// How a change fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Whole,
    /// Data only: some of its sectors.
    Torn,
    Lost,
}

/// Decides what survives.
pub(super) struct Survival {
    pub(super) rng: Rng,
    which: Which,
    /// How many writes that would be lost or whole are torn instead, of 256.
    torn: u32,
}

impl Survival {
    /// Draws what kind of power cut it is. `newest` is the number of the newest change.
    pub(super) fn draw(seed: u64, newest: u64) -> Survival {
        let mut rng = Rng::new(seed, 3);
        let which = match rng.below(8) {
            0 => Which::Each(0),
            1 => Which::Each(256),
            2 | 3 => Which::Until(rng.below(newest as usize + 1) as u64),
            4 => Which::Each(32),
            5 => Which::Each(224),
            _ => Which::Each(128),
        };
        let torn = rng.pick(&[0, 32, 128]);
        Survival { rng, which, torn }
    }

    /// Whether the file system's change of that number in time has reached the disk.
    pub(super) fn survives(&mut self, number: u64) -> bool {
        match self.which {
            Which::Each(chance) => self.rng.chance(chance),
            Which::Until(last) => number <= last,
        }
    }

    /// How the write of that number fares.
    pub(super) fn fate(&mut self, number: u64) -> Fate {
        let whole = self.survives(number);
        match (self.rng.chance(self.torn), whole) {
            (true, _) => Fate::Torn,
            (false, true) => Fate::Whole,
            (false, false) => Fate::Lost,
        }
    }

    /// How a write fares that had not completed.
    pub(super) fn fate_in_flight(&mut self) -> Fate {
        self.rng.pick(&[Fate::Whole, Fate::Torn, Fate::Lost])
    }

    /// A torn write: some sectors of `new` over `old`.
    pub(super) fn tear(&mut self, old: &[Chunk], new: &[Chunk]) -> Vec<Chunk> {
        let sectors = new.len() * CHUNK / SECTOR;
        let edge = self.rng.below(sectors + 1);
        match self.rng.below(3) {
            0 => mix(old, new, |s| s < edge),
            1 => mix(old, new, |s| s >= edge),
            _ => mix(old, new, |_| self.rng.chance(128)),
        }
    }
}
