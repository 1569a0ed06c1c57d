//! Keys: a limited number of them, so that they are met again, with long common prefixes, the empty key and the longest.

use crate::state::{KeyRange, in_range};
use rand::{Rng, RngExt};
use std::ops::Bound;

/// The keys of a test.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Vec<Vec<u8>>,
    len_max: usize,
}

impl Keys {
    /// `count` keys of at most `len_max` bytes.
    pub fn draw(rng: &mut impl Rng, count: usize, len_max: usize) -> Keys {
        let mut keys: Vec<Vec<u8>> = (0..count).map(|_| key(rng, len_max)).collect();
        keys.sort();
        keys.dedup();
        Keys { keys, len_max }
    }

    /// All of them, ascending.
    pub fn all(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// One of them.
    pub fn pick(&self, rng: &mut impl Rng) -> Vec<u8> {
        self.keys[rng.random_range(0..self.keys.len())].clone()
    }

    /// One of them, or one beside it, or any other: for reads.
    pub fn near(&self, rng: &mut impl Rng) -> Vec<u8> {
        let mut key = self.pick(rng);
        match rng.random_range(0..8) {
            0 if key.len() < self.len_max => key.push(rng.random()),
            0 | 1 => drop(key.pop()),
            2 => key.clear(),
            _ => {}
        }
        key
    }

    /// A range with a bound of any kind at either end: short, long, all, empty, or crossed.
    pub fn range(&self, rng: &mut impl Rng) -> KeyRange {
        let (from, mut to) = (self.near(rng), self.near(rng));
        match rng.random_range(0..10) {
            0 => {}
            1..4 => to = self.after(&from, rng.random_range(0..6)),
            _ if from > to => return (self.bound(rng, to), self.bound(rng, from)),
            _ => {}
        }
        (self.bound(rng, from), self.bound(rng, to))
    }

    /// A range of a few keys.
    pub fn short_range(&self, rng: &mut impl Rng) -> KeyRange {
        let from = self.pick(rng);
        let to = self.after(&from, rng.random_range(0..6));
        (Bound::Included(from), if rng.random() { Bound::Included(to) } else { Bound::Excluded(to) })
    }

    /// Those in a range, ascending.
    pub fn within(&self, range: &KeyRange) -> impl Iterator<Item = Vec<u8>> {
        self.keys.iter().filter(|k| in_range(range, k)).cloned()
    }

    fn after(&self, key: &[u8], steps: usize) -> Vec<u8> {
        let at = self.keys.partition_point(|k| &k[..] < key);
        self.keys[(at + steps).min(self.keys.len() - 1)].clone()
    }

    fn bound(&self, rng: &mut impl Rng, key: Vec<u8>) -> Bound<Vec<u8>> {
        match rng.random_range(0..8) {
            0 => Bound::Unbounded,
            1..4 => Bound::Excluded(key),
            _ => Bound::Included(key),
        }
    }
}

fn key(rng: &mut impl Rng, len_max: usize) -> Vec<u8> {
    match rng.random_range(0..16) {
        0 => Vec::new(),
        1 => vec![rng.random(); rng.random_range(1..=len_max)],
        2 => long_key(rng, len_max),
        3 => long_key(rng, len_max - 1),
        // Four bytes of a key stand in its slot: keys that differ before, at and after them.
        4..7 => (0..rng.random_range(1..6)).map(|_| rng.random_range(0..3)).collect(),
        7..10 => {
            let mut key = b"common prefix/".to_vec();
            key.extend((0..rng.random_range(0..7)).map(|_| rng.random_range(b'a'..b'd')));
            key
        }
        10 => (0..rng.random_range(1..10)).map(|_| if rng.random() { 0xFF } else { 0 }).collect(),
        _ => format!("{:04}", rng.random_range(0..10_000)).into_bytes(),
    }
}

/// A key of `len` bytes that differs from others like it near its end.
fn long_key(rng: &mut impl Rng, len: usize) -> Vec<u8> {
    let mut key = vec![b'k'; len];
    let at = len - 1 - rng.random_range(0..4);
    key[at] = rng.random();
    key
}
