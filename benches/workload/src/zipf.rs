//! Skewed choices: rank r with probability proportional to 1 / (r + 1)^0.99, as the YCSB benchmark makes them (Gray et al., "Quickly
//! generating billion-record synthetic databases", SIGMOD 1994), ranks scattered over the entries by a fixed permutation.

use crate::{Permutation, Random};

const THETA: f64 = 0.99;

/// Chooses entries.
#[derive(Clone, Debug)]
pub struct Zipf {
    n: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
    scatter: Permutation,
}

impl Zipf {
    /// Over `0..n`. Sums `n` terms.
    pub fn new(n: u64) -> Zipf {
        let zeta_of = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let zeta = zeta_of(n);
        let eta = (1.0 - (2.0 / n as f64).powf(1.0 - THETA)) / (1.0 - zeta_of(2) / zeta);
        Zipf { n, zeta, alpha: 1.0 / (1.0 - THETA), eta, scatter: Permutation::new(n, 0x5EED) }
    }

    /// An entry.
    pub fn next(&self, random: &mut Random) -> u64 {
        self.scatter.of(self.next_rank(random))
    }

    /// A rank: 0 is the most frequent.
    pub fn next_rank(&self, random: &mut Random) -> u64 {
        self.rank(random.unit())
    }

    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1.min(self.n - 1);
        }
        let rank = self.n as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ranks_get_their_share() {
        let zipf = Zipf::new(1000);
        let mut random = Random::new(9);
        let mut hits = vec![0u32; 1000];
        for _ in 0..100_000 {
            hits[zipf.rank(random.unit()) as usize] += 1;
        }
        let expected = 100_000.0 / zipf.zeta;
        assert!((f64::from(hits[0]) / expected - 1.0).abs() < 0.05, "{} of {expected}", hits[0]);
        assert!(hits[0] > hits[1] && hits[1] > hits[10] && hits[10] > hits[500]);
    }

    #[test]
    fn the_smallest_sets_work() {
        for n in 1..4 {
            let zipf = Zipf::new(n);
            let mut random = Random::new(n);
            assert!((0..100).all(|_| zipf.next(&mut random) < n));
        }
    }
}
