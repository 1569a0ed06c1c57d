//! Which page is used when. Made from a seed, the same in every run.
//!
//! Ranks of a skewed choice are scattered over the pages by a shuffle, so that nothing follows from a page's number.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

/// Accesses to pages.
pub(crate) struct Trace {
    /// Page ids are below this.
    pages: u32,
    pub(crate) accesses: Vec<u32>,
}

/// A kind of trace.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// Every page as often as the others.
    Uniform,
    /// The page of rank r with probability proportional to 1 / r^s.
    Zipf(f64),
    /// Zipf 0.99; every so often, beside it, a scan of all pages: of three accesses one belongs to a scan, two are skewed.
    ScanAndZipf,
    /// Skewed to what is new: zipf 0.99 over how long ago a page was made, and every so often one is made, which is then the most used.
    Latest,
    /// Evenly from a working set that would fit, four fifths of the cache, and is another after ten times as many accesses as there are
    /// frames.
    Shifting,
    /// Pages one after the other, in a circle that is a tenth larger than the cache.
    Loop,
    /// Point reads of keys, zipf 0.99: the root, an inner page, a leaf.
    BTree,
    /// The same, zipf 0.8, and each key is changed a few operations after it was read, as transactions do: the same pages again.
    ReadModifyWrite,
}

/// Accesses for each page that is made, of a skew to what is new.
const MADE_EVERY: usize = 20;
/// Keys of a leaf.
const KEYS_PER_LEAF: u32 = 50;
/// Leaves below an inner page.
const FANOUT: u32 = 200;
/// A key is changed so many operations after it was read.
const CHANGED_AFTER: usize = 10;

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Uniform,
        Kind::Zipf(0.99),
        Kind::Zipf(0.8),
        Kind::ScanAndZipf,
        Kind::Latest,
        Kind::Shifting,
        Kind::Loop,
        Kind::BTree,
        Kind::ReadModifyWrite,
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Kind::Uniform => "uniform".into(),
            Kind::Zipf(s) => format!("zipf {s}"),
            Kind::ScanAndZipf => "scan and zipf".into(),
            Kind::Latest => "latest".into(),
            Kind::Shifting => "shifting".into(),
            Kind::Loop => "loop".into(),
            Kind::BTree => "tree, reads".into(),
            Kind::ReadModifyWrite => "tree, read and write".into(),
        }
    }

    /// `len` accesses to about `pages` pages (a tree has some more), for a cache of `frames` frames.
    pub(crate) fn trace(self, pages: u32, len: usize, frames: usize, seed: u64) -> Trace {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let random = &mut random;
        let mut accesses = Vec::with_capacity(len + 2);
        match self {
            Kind::Uniform => accesses.extend((0..len).map(|_| random.random_range(0..pages))),
            Kind::Zipf(s) => {
                let skewed = Skewed::new(pages, s, random);
                accesses.extend((0..len).map(|_| skewed.next(random)));
            }
            Kind::ScanAndZipf => scan_and_zipf(pages, len, random, &mut accesses),
            Kind::Latest => latest(pages, len, random, &mut accesses),
            Kind::Shifting => {
                let (set, stay) = ((frames as u64 * 4 / 5).max(1), 10 * frames.max(1));
                accesses.extend((0..len).map(|n| {
                    let first = (n / stay) as u64 * set;
                    ((first + random.random_range(0..set)) % u64::from(pages)) as u32
                }));
            }
            Kind::Loop => {
                let around = (frames + (frames / 10).max(1)).min(pages as usize);
                accesses.extend((0..len).map(|n| (n % around) as u32));
            }
            Kind::BTree => return tree(pages, len, 0.99, None, random),
            Kind::ReadModifyWrite => return tree(pages, len, 0.8, Some(CHANGED_AFTER), random),
        }
        Trace { pages, accesses }
    }
}

impl Trace {
    #[cfg(test)]
    pub(crate) fn new(pages: u32, accesses: Vec<u32>) -> Trace {
        Trace { pages, accesses }
    }

    /// Page ids are below this.
    pub(crate) fn pages(&self) -> usize {
        self.pages as usize
    }
}

/// A skewed choice of a number.
struct Skewed {
    zipf: Zipf<f64>,
    of_rank: Vec<u32>,
}

impl Skewed {
    fn new(n: u32, s: f64, random: &mut ChaCha8Rng) -> Skewed {
        let mut of_rank: Vec<u32> = (0..n).collect();
        of_rank.shuffle(random);
        let zipf = Zipf::new(f64::from(n), s).expect("there is something to choose from");
        Skewed { zipf, of_rank }
    }

    fn next(&self, random: &mut ChaCha8Rng) -> u32 {
        // Ranks are whole numbers from 1 to n.
        self.of_rank[self.zipf.sample(random) as usize - 1]
    }
}

/// A scan begins whenever as many skewed accesses have been made alone as there are pages.
fn scan_and_zipf(pages: u32, len: usize, random: &mut ChaCha8Rng, accesses: &mut Vec<u32>) {
    let skewed = Skewed::new(pages, 0.99, random);
    while accesses.len() < len {
        accesses.extend((0..pages).map(|_| skewed.next(random)));
        for page in 0..pages {
            accesses.extend([page, skewed.next(random)]);
        }
    }
    accesses.truncate(len);
}

/// Pages are made in the order of their numbers, and over again: the oldest is the next that is made.
fn latest(pages: u32, len: usize, random: &mut ChaCha8Rng, accesses: &mut Vec<u32>) {
    let zipf = Zipf::new(f64::from(pages), 0.99).expect("there is something to choose from");
    accesses.extend((0..len).map(|n| {
        let newest = (n / MADE_EVERY) as u64;
        let rank = zipf.sample(random) as u64 - 1;
        ((newest + u64::from(pages) - rank) % u64::from(pages)) as u32
    }));
}

/// Pages: the root, then inner pages, then leaves.
fn tree(leaves: u32, len: usize, s: f64, changed_after: Option<usize>, random: &mut ChaCha8Rng) -> Trace {
    let inner = leaves.div_ceil(FANOUT);
    let skewed = Skewed::new(leaves * KEYS_PER_LEAF, s, random);
    let mut accesses = Vec::with_capacity(len + 3);
    let mut descend = |key: u32| {
        let leaf = key / KEYS_PER_LEAF;
        accesses.extend([0, 1 + leaf / FANOUT, 1 + inner + leaf]);
        accesses.len()
    };
    let mut keys = Vec::new();
    loop {
        let key = skewed.next(random);
        let mut made = descend(key);
        if let Some(after) = changed_after {
            keys.push(key);
            if let Some(now) = keys.len().checked_sub(after + 1) {
                made = descend(keys[now]);
            }
        }
        if made >= len {
            accesses.truncate(len);
            return Trace { pages: 1 + inner + leaves, accesses };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u32 = 1000;

    fn counts(kind: Kind) -> (Trace, Vec<usize>) {
        let trace = kind.trace(PAGES, 100_000, 100, 7);
        assert_eq!(trace.accesses.len(), 100_000, "{kind:?}");
        let mut counts = vec![0; trace.pages()];
        trace.accesses.iter().for_each(|&page| counts[page as usize] += 1);
        (trace, counts)
    }

    #[test]
    fn the_same_seed_makes_the_same_trace() {
        for kind in Kind::ALL {
            assert_eq!(kind.trace(PAGES, 5000, 100, 1).accesses, kind.trace(PAGES, 5000, 100, 1).accesses, "{kind:?}");
        }
        assert_ne!(Kind::Uniform.trace(PAGES, 5000, 100, 1).accesses, Kind::Uniform.trace(PAGES, 5000, 100, 2).accesses);
    }

    #[test]
    fn frequencies_are_those_of_the_distribution() {
        let (_, even) = counts(Kind::Uniform);
        assert!(even.iter().all(|count| (50..170).contains(count)), "100 each");
        for s in [0.99, 0.8] {
            let (_, mut skewed) = counts(Kind::Zipf(s));
            assert!(skewed[0] < skewed.iter().copied().max().unwrap(), "ranks are scattered");
            skewed.sort_by_key(|&count| std::cmp::Reverse(count));
            let all: f64 = (1..=PAGES).map(|rank| f64::from(rank).powf(-s)).sum();
            for rank in [1, 2, 10] {
                let expected = 100_000.0 * f64::from(rank).powf(-s) / all;
                let found = skewed[rank as usize - 1] as f64;
                assert!((found / expected - 1.0).abs() < 0.15, "rank {rank} of zipf {s}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn scans_touch_every_page_among_skewed_accesses() {
        let (trace, counts) = counts(Kind::ScanAndZipf);
        assert!(counts.iter().all(|&count| count >= 33), "33 whole scans");
        let scan: Vec<u32> = trace.accesses[PAGES as usize..][..2 * PAGES as usize].iter().copied().step_by(2).collect();
        assert_eq!(scan, (0..PAGES).collect::<Vec<_>>());
    }

    #[test]
    fn the_newest_page_is_used_most() {
        let (trace, _) = counts(Kind::Latest);
        let newest = (0..100_000).filter(|&n| trace.accesses[n] as usize == n / MADE_EVERY % PAGES as usize).count();
        let next = (0..100_000).filter(|&n| trace.accesses[n] as usize + 1 == n / MADE_EVERY % PAGES as usize).count();
        let all: f64 = (1..=PAGES).map(|rank| f64::from(rank).powf(-0.99)).sum();
        assert!((newest as f64 * all / 100_000.0 - 1.0).abs() < 0.1, "{newest}");
        assert!((next as f64 * all / 100_000.0 * 2f64.powf(0.99) - 1.0).abs() < 0.1, "{next}");
    }

    #[test]
    fn a_working_set_fits_and_is_left_for_another() {
        let (trace, _) = counts(Kind::Shifting);
        for (n, stay) in trace.accesses.chunks_exact(1000).enumerate() {
            let first = (n * 80 % PAGES as usize) as u32;
            assert!(stay.iter().all(|&page| (page + PAGES - first) % PAGES < 80), "{n}");
            assert!(stay.iter().collect::<std::collections::HashSet<_>>().len() > 70, "{n}");
        }
    }

    #[test]
    fn a_loop_is_a_tenth_larger_than_the_cache() {
        let (trace, counts) = counts(Kind::Loop);
        assert_eq!(counts.iter().filter(|&&count| count > 0).count(), 110);
        assert_eq!(trace.accesses[109..112], [109, 0, 1]);
    }

    #[test]
    fn descents_go_from_the_root_to_the_leaf() {
        let (trace, _) = counts(Kind::BTree);
        assert_eq!(trace.pages(), 1 + 5 + 1000);
        for descent in trace.accesses.chunks_exact(3) {
            let leaf = descent[2] - 6;
            assert_eq!((descent[0], descent[1]), (0, 1 + leaf / 200));
        }
        let (trace, _) = counts(Kind::ReadModifyWrite);
        let leaves: Vec<u32> = trace.accesses.chunks_exact(3).map(|descent| descent[2]).collect();
        // Ten reads, then a read and a change in turns: the change is of the key that was read ten operations before.
        let (first, rest) = leaves.split_at(10);
        assert_eq!((first[0], first[1]), (rest[1], rest[3]));
        assert_eq!(rest[0], rest[21]);
    }
}
