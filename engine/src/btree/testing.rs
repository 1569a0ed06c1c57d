//! What the tests of this module share: keys that are hard on a page, and values that tell whether they are whole.

use super::{Stop, limits};
use rand::{Rng, RngExt};

/// A key out of one of several families: short, empty, long shared prefixes, runs of 0xFF and of zeros, the longest there is.
pub(crate) fn random_key(random: &mut impl Rng, key_max: usize) -> Vec<u8> {
    let len = match random.random_range(0..20) {
        0 => 0,
        1..8 => random.random_range(0..6),
        8..18 => random.random_range(0..40),
        18 => random.random_range(0..=key_max),
        _ => key_max,
    };
    let mut key = match random.random_range(0..4) {
        0 => vec![0xFF; len],
        1 => vec![0; len],
        2 => b"a long shared prefix that many of the keys have, ".iter().copied().cycle().take(len).collect(),
        _ => vec![b'k'; len],
    };
    for _ in 0..random.random_range(0..3) {
        if let Some(at) = len.checked_sub(random.random_range(1..=4)) {
            key[at] = [0, 1, b'a', b'b', 0x7F, 0x80, 0xFE, 0xFF][random.random_range(0..8)];
        }
    }
    if random.random_range(0..3) == 0 && len > 0 {
        let at = random.random_range(0..len);
        key[at] = random.random();
    }
    key
}

/// A value that may stand beside `key`, mostly short.
pub(crate) fn random_value(random: &mut impl Rng, key: &[u8], page_size: usize) -> (u8, Vec<u8>) {
    let max = limits(page_size).inline_value_max(key.len());
    let len = match random.random_range(0..10) {
        0 => 0,
        1..9 => random.random_range(0..100.min(max + 1)),
        _ => random.random_range(0..=max),
    };
    (random.random_range(0..3), (0..len).map(|_| random.random()).collect())
}

pub(crate) type TestPool = ashlar_bufferpool::Pool<ashlar_bufferpool::FakeStore>;
pub(crate) fn small_pool(page_size: usize, frames: u32) -> TestPool {
    TestPool::fake(page_size, frames < 1000)
}
pub(crate) fn page_count(pool: &TestPool) -> usize {
    pool.count()
}

/// Looks again until all pages are there, loading one after the other.
pub(crate) fn wait_for<T>(pool: &TestPool, mut look: impl FnMut() -> Result<T, Stop>) -> T {
    let mut holds = Vec::new();
    loop {
        match look() {
            Ok(found) => return found,
            Err(Stop::Missing(page)) => holds.push(pool.load(page).unwrap()),
            Err(Stop::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    }
}
