//! The core workloads of the YCSB benchmark (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010).
//!
//! ```text
//!   a  50 % read, 50 % update             zipf
//!   b  95 % read,  5 % update             zipf
//!   c  read                               zipf
//!   d  95 % read,  5 % insert             the latest are read most: zipf over how long ago an entry was inserted
//!   e  95 % scan of 1 to 100, 5 % insert  begin: zipf; length: evenly
//!   f  50 % read, 50 % read-modify-write  zipf
//! ```
//!
//! 1. An update writes a whole value, without reading it. Inserts are in key order, behind what is there.
//! 2. A read chooses among entries whose commits have returned: each must be there. What is inserted meanwhile a scan may meet or not.

use crate::{Grown, Random, Zipf};

/// The longest scan.
const SCAN_LEN_MAX: u64 = 100;

/// Which workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Core {
    /// Update heavy.
    A,
    /// Read mostly.
    B,
    /// Read only.
    C,
    /// Read latest.
    D,
    /// Short ranges.
    E,
    /// Read-modify-write.
    F,
}

/// What a thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read entry `i`, which is there.
    Get(u64),
    /// Read up to `len` entries from entry `from` on; all of those below `whole` are there.
    Scan {
        /// Which is the first.
        from: u64,
        /// How many, at most.
        len: u64,
        /// Every entry below this is there.
        whole: u64,
    },
    /// Write a new value to entry `i`.
    Update(u64),
    /// Insert entry `i`; tell [`Mix::inserted`] when it is there.
    Insert(u64),
    /// Read entry `i`, and write it changed.
    Modify(u64),
}

/// A workload over a data set, shared by its threads.
#[derive(Debug)]
pub struct Mix {
    core: Core,
    zipf: Zipf,
    grown: Grown,
}

impl Mix {
    /// Over `n` entries.
    pub fn new(core: Core, n: u64) -> Mix {
        Mix { core, zipf: Zipf::new(n), grown: Grown::from(n) }
    }

    /// What comes next.
    pub fn step(&self, random: &mut Random) -> Step {
        let looks = random.below(100) < self.looks_percent();
        match (self.core, looks) {
            (Core::D | Core::E, false) => Step::Insert(self.grown.next()),
            // The zipf is over as many entries as there were at first.
            (Core::D, true) => Step::Get(self.grown.whole() - 1 - self.zipf.next_rank(random)),
            (Core::E, true) => {
                let (from, len) = (self.zipf.next(random), 1 + random.below(SCAN_LEN_MAX));
                Step::Scan { from, len, whole: self.grown.whole() }
            }
            (_, true) => Step::Get(self.zipf.next(random)),
            (Core::F, false) => Step::Modify(self.zipf.next(random)),
            (_, false) => Step::Update(self.zipf.next(random)),
        }
    }

    fn looks_percent(&self) -> u64 {
        match self.core {
            Core::A | Core::F => 50,
            Core::B | Core::D | Core::E => 95,
            Core::C => 100,
        }
    }

    /// Entry `i` has been inserted.
    pub fn inserted(&self, i: u64) {
        self.grown.is_there(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_is_mixed_as_it_should_be() {
        for (core, looks_least, looks_most) in [
            (Core::A, 4_800, 5_200),
            (Core::B, 9_400, 9_600),
            (Core::C, 10_000, 10_000),
            (Core::D, 9_400, 9_600),
            (Core::E, 9_400, 9_600),
            (Core::F, 4_800, 5_200),
        ] {
            let (mix, mut random) = (Mix::new(core, 1000), Random::new(7));
            let mut looks = 0;
            for _ in 0..10_000 {
                match mix.step(&mut random) {
                    Step::Get(i) => {
                        assert!(i < mix.grown.whole() && core != Core::E);
                        looks += 1;
                    }
                    Step::Scan { from, len, whole } => {
                        assert!(from < 1000 && (1..=SCAN_LEN_MAX).contains(&len) && whole >= 1000 && core == Core::E);
                        looks += 1;
                    }
                    Step::Update(i) => assert!(i < 1000 && matches!(core, Core::A | Core::B)),
                    Step::Modify(i) => assert!(i < 1000 && core == Core::F),
                    Step::Insert(i) => {
                        assert!(i == mix.grown.whole() && matches!(core, Core::D | Core::E));
                        mix.inserted(i);
                    }
                }
            }
            assert!((looks_least..=looks_most).contains(&looks), "{core:?}: {looks} of 10,000");
        }
    }
}
