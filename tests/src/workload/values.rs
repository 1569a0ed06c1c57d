//! Values that say who wrote them, of lengths around every limit.

use crate::geometry::{Geometry, PAGE_SIZE};
use crate::state::Bytes;
use ashlardb::btree::limits;
use rand::{Rng, RngExt};

/// Bytes that a value begins with when it is long enough to say who wrote it.
const TAG_LEN: usize = 8;

/// A value of `len` bytes that nothing else writes: `tag` tells the write.
pub fn value(tag: u64, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len + TAG_LEN);
    bytes.extend_from_slice(&tag.to_le_bytes());
    let mut word = tag | 1;
    while bytes.len() < len {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(word ^ word >> 29).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// The tag of a value, if it is long enough to have one.
pub fn tag_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.get(..TAG_LEN)?.try_into().ok()?))
}

/// A length for the value of a key: mostly short, sometimes at a limit or one beside it, sometimes long.
pub fn value_len(rng: &mut impl Rng, geometry: &Geometry, key_len: usize) -> usize {
    let inline_max = limits(PAGE_SIZE).inline_value_max(key_len);
    match rng.random_range(0..40) {
        0 => 0,
        1 => rng.random_range(0..TAG_LEN),
        2 => around(rng, inline_max),
        3 => rng.random_range(0..=inline_max),
        4 => around(rng, 110),
        // A piece of an overflow value fills a page but for its header.
        5 => around(rng, PAGE_SIZE - 48),
        6 => rng.random_range(inline_max..geometry.blob_threshold),
        7 => around(rng, geometry.blob_threshold),
        8 => around(rng, 4096 * (geometry.blob_threshold / 4096 + 1)),
        9 => rng.random_range(geometry.blob_threshold..60_000),
        10 => around(rng, 65_536),
        _ => rng.random_range(TAG_LEN..120),
    }
}

fn around(rng: &mut impl Rng, len: usize) -> usize {
    len + rng.random_range(0..3) - 1
}
