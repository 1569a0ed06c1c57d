//! Which pages are changed: batches as checkpoints find them, made from a seed, the same in every run.
//!
//! A batch is so many different pages that have become dirty: one that is changed again before the checkpoint is written once. It is
//! sorted by page, and pages are numbered in key order: so write-back sorts them.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

/// A page, and the blocks of its new image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Update {
    pub(crate) page: u32,
    pub(crate) len: u64,
}

/// How pages are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Skew {
    /// Each as often as the others.
    Uniform,
    /// The page of rank r with probability proportional to 1 / r^0.99; ranks are scattered over the pages.
    Zipf,
}

impl Skew {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Skew::Uniform => "uniform",
            Skew::Zipf => "zipf 0.99",
        }
    }
}

/// Makes batches.
pub(crate) struct Updates {
    random: ChaCha8Rng,
    zipf: Option<Zipf<f64>>,
    of_rank: Vec<u32>,
    /// Whether a page is in the batch that is being made.
    taken: Vec<bool>,
    lens: Lens,
}

/// How long images are: those of pages that are from so many percent to all full, evenly, trimmed to blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lens {
    pub(crate) unit: u64,
    pub(crate) fill_from: u32,
}

impl Lens {
    fn next(self, random: &mut ChaCha8Rng) -> u64 {
        let percent = random.random_range(f64::from(self.fill_from)..=100.0);
        ((percent / 100.0 * self.unit as f64).ceil() as u64).clamp(1, self.unit)
    }
}

impl Updates {
    pub(crate) fn new(pages: u32, skew: Skew, lens: Lens, seed: u64) -> Updates {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut of_rank: Vec<u32> = (0..pages).collect();
        of_rank.shuffle(&mut random);
        let zipf = (skew == Skew::Zipf).then(|| Zipf::new(f64::from(pages), 0.99).expect("there are pages"));
        Updates { random, zipf, of_rank, taken: vec![false; pages as usize], lens }
    }

    /// The first image of every page.
    pub(crate) fn first_lens(&mut self) -> Vec<u64> {
        (0..self.taken.len()).map(|_| self.lens.next(&mut self.random)).collect()
    }

    /// The next `n` pages that become dirty: sorted, different. At most half of all pages, so that there are others to be drawn.
    pub(crate) fn batch(&mut self, n: usize) -> Vec<Update> {
        let n = n.min(self.taken.len() / 2);
        let mut batch = Vec::with_capacity(n);
        while batch.len() < n {
            let page = self.draw();
            if !std::mem::replace(&mut self.taken[page as usize], true) {
                batch.push(Update { page, len: self.lens.next(&mut self.random) });
            }
        }
        batch.iter().for_each(|update| self.taken[update.page as usize] = false);
        batch.sort_unstable();
        batch
    }

    fn draw(&mut self) -> u32 {
        match &self.zipf {
            // Ranks are whole numbers from 1 to n.
            Some(zipf) => self.of_rank[zipf.sample(&mut self.random) as usize - 1],
            None => self.random.random_range(0..self.of_rank.len() as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: Lens = Lens { unit: 2, fill_from: 45 };

    #[test]
    fn a_batch_is_sorted_and_has_no_page_twice() {
        for skew in [Skew::Uniform, Skew::Zipf] {
            let mut updates = Updates::new(1000, skew, LENS, 1);
            for _ in 0..20 {
                let batch = updates.batch(300);
                assert_eq!(batch.len(), 300);
                assert!(batch.windows(2).all(|two| two[0].page < two[1].page));
            }
            assert_eq!(updates.batch(900).len(), 500);
        }
    }

    #[test]
    fn skewed_batches_have_the_same_pages_again() {
        let again = |skew| {
            let mut updates = Updates::new(10_000, skew, LENS, 2);
            let first = updates.batch(500);
            let second = updates.batch(500);
            first.iter().filter(|a| second.iter().any(|b| a.page == b.page)).count()
        };
        let (uniform, zipf) = (again(Skew::Uniform), again(Skew::Zipf));
        assert!((5..60).contains(&uniform), "{uniform}: a twentieth of 500 is 25");
        assert!(zipf > 100, "{zipf}");
    }

    #[test]
    fn images_are_as_full_as_asked_for() {
        let short = |lens| {
            let first = Updates::new(100_000, Skew::Uniform, lens, 3).first_lens();
            first.iter().filter(|&&len| len < lens.unit).count() as f64 / 100_000.0
        };
        assert!((short(LENS) - 5.0 / 55.0).abs() < 0.01);
        assert!((short(Lens { unit: 4, fill_from: 50 }) - 0.5).abs() < 0.01);
        assert_eq!(short(Lens { unit: 2, fill_from: 100 }), 0.0);
    }

    #[test]
    fn the_same_seed_makes_the_same_batches() {
        let batches = |seed| Updates::new(1000, Skew::Zipf, LENS, seed).batch(100);
        assert_eq!(batches(1), batches(1));
        assert_ne!(batches(1), batches(2));
    }
}
