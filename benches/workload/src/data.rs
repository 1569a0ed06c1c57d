//! The data set: keys and values as functions of numbers.
//!
//! Entry `i` has the key (`i`, hash of `i`), eight bytes each, so that keys ascend with `i`; its value is (generation, `i`, a stream of
//! pseudo-random words made of both), cut to the value size. A changed value has another generation.

/// Bytes of a key.
pub const KEY_LEN: usize = 16;
/// Bytes of a value, at least.
const VALUE_LEN_MIN: usize = 16;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A good mix of a word's bits (the finalizer of SplitMix64).
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Pseudo-random words from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(mix(seed.wrapping_add(GOLDEN)))
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Evenly from `0..n`, to within what nobody can measure.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(n)) >> 64) as u64
    }

    /// Evenly from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The key of entry `i`.
pub fn key(i: u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&i.to_be_bytes());
    key[8..].copy_from_slice(&mix(i ^ GOLDEN).to_be_bytes());
    key
}

/// The entry that a key belongs to, if it is one of the data set's.
pub fn entry_of(bytes: &[u8]) -> Option<u64> {
    let i = u64::from_be_bytes(*bytes.first_chunk()?);
    (bytes == key(i)).then_some(i)
}

/// The words of a value behind its first two, in pairs: two by one product, so that checking a value costs little beside reading it, and
/// still no compressor finds anything in them.
#[derive(Clone, Debug)]
struct Stream(u64);

/// Bytes of a pair.
const PAIR: usize = 16;

impl Stream {
    fn new(i: u64, generation: u64) -> Stream {
        Stream(mix(i.rotate_left(32) ^ generation))
    }

    #[inline]
    fn pair(&mut self) -> u128 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let product = u128::from(self.0) * 0xE703_7ED1_A0B4_28DB;
        // The product's ends are mixed badly, its middle well: each of them meets the other end of something else.
        let (low, high) = (product as u64, (product >> 64) as u64);
        u128::from(low ^ high.rotate_left(32)) | u128::from(high ^ self.0.rotate_left(32)) << 64
    }
}

/// The value of entry `i` in a generation, `len` bytes long.
pub fn value(i: u64, generation: u64, len: usize, out: &mut Vec<u8>) {
    debug_assert!(len >= VALUE_LEN_MIN);
    out.clear();
    let calls = len.saturating_sub(VALUE_LEN_MIN).div_ceil(2 * PAIR);
    out.reserve(VALUE_LEN_MIN + calls * 2 * PAIR);
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&i.to_le_bytes());
    let mut stream = Stream::new(i, generation);
    // Two pairs at a time: a call for each would cost more than the pair.
    for _ in 0..calls {
        let pairs: [[u8; PAIR]; 2] = std::array::from_fn(|_| stream.pair().to_le_bytes());
        out.extend_from_slice(pairs.as_flattened());
    }
    out.truncate(len);
}

/// The generation of a value, if it is one of entry `i`.
#[inline]
pub fn generation_of(i: u64, bytes: &[u8], len: usize) -> Option<u64> {
    let generation = u64::from_le_bytes(*bytes.first_chunk()?);
    if bytes.len() != len {
        return None;
    }
    let (pairs, rest) = bytes.as_chunks::<PAIR>();
    let mut difference = u128::from_le_bytes(*pairs.first()?) ^ (u128::from(generation) | u128::from(i) << 64);
    let mut stream = Stream::new(i, generation);
    for pair in &pairs[1..] {
        difference |= u128::from_le_bytes(*pair) ^ stream.pair();
    }
    if !rest.is_empty() {
        // What is left of a pair that was cut, as the upper bytes of the value's last ones.
        let cut = 128 - 8 * rest.len() as u32;
        difference |= (u128::from_le_bytes(*bytes.last_chunk()?) >> cut) ^ (stream.pair() << cut >> cut);
    }
    (difference == 0).then_some(generation)
}

/// A fixed permutation of `0..n`: a Feistel network over the smallest even number of bits, walked until it lands below `n`.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    half: u32,
    seed: u64,
}

impl Permutation {
    /// That of a seed.
    pub fn new(n: u64, seed: u64) -> Permutation {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Permutation { n, half: bits.div_ceil(2).max(1), seed }
    }

    /// Where `i`, below `n`, is sent.
    pub fn of(&self, i: u64) -> u64 {
        let mut x = i;
        loop {
            x = self.scramble(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn scramble(&self, x: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half, x & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (mix(right ^ self.seed ^ round << 56) & mask));
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_and_are_known_again() {
        let keys: Vec<_> = (0..1000).map(key).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(entry_of(&keys[77]), Some(77));
        assert_eq!(entry_of(&keys[77][..15]), None);
        assert_eq!(entry_of(&[0; 16]), None);
        assert_eq!(entry_of(b""), None);
    }

    #[test]
    fn values_have_no_pattern() {
        let (mut value_of, mut counts, mut words) = (Vec::new(), [0u32; 64], std::collections::BTreeSet::new());
        for i in 0..10_000 {
            value(i, 1, 96, &mut value_of);
            for word in value_of.as_chunks::<8>().0.iter().skip(2).map(|word| u64::from_le_bytes(*word)) {
                words.insert(word);
                counts.iter_mut().enumerate().for_each(|(bit, count)| *count += (word >> bit & 1) as u32);
            }
        }
        assert_eq!(words.len(), 100_000, "none comes twice");
        // Each bit is set in half of the words, to within six standard deviations.
        assert!(counts.iter().all(|count| count.abs_diff(50_000) < 950), "{counts:?}");
    }

    #[test]
    fn values_are_known_again_and_any_change_is_seen() {
        for len in (16..=40).chain([100, 4096]) {
            let mut bytes = Vec::new();
            value(5, 7, len, &mut bytes);
            assert_eq!((bytes.len(), generation_of(5, &bytes, len)), (len, Some(7)));
            assert_eq!(generation_of(6, &bytes, len), None);
            assert_eq!(generation_of(5, &bytes, len + 1), None);
            assert_eq!(generation_of(5, &bytes[..len - 1], len), None);
            for at in 0..len {
                bytes[at] ^= 1;
                // A changed generation asks for another stream, of which two words have to be there to tell.
                assert!(generation_of(5, &bytes, len).is_none() || (len == 16 && at < 8), "byte {at} of {len}");
                bytes[at] ^= 1;
            }
        }
    }

    #[test]
    fn a_permutation_meets_each_number_once() {
        for n in [1, 2, 3, 100, 4096, 5000] {
            let permutation = Permutation::new(n, 3);
            let mut images: Vec<u64> = (0..n).map(|i| permutation.of(i)).collect();
            if n == 5000 {
                assert!(!images.is_sorted());
            }
            images.sort_unstable();
            assert!(images.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn random_numbers_stay_in_their_range() {
        let mut random = Random::new(1);
        for _ in 0..1000 {
            assert!(random.below(7) < 7);
            assert!((0.0..1.0).contains(&random.unit()));
        }
    }
}
