//! Keys, by number. The same in every run.

/// Spreads consecutive numbers evenly over 64 bits.
pub fn spread(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The key of entry `n`: 16 bytes, their order has nothing to do with that of the numbers.
pub fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&spread(n).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Numbers below `n`, each as often as the others, in an order that no prefetcher guesses.
#[derive(Clone, Debug)]
pub struct Walk {
    at: u64,
    n: u64,
}

impl Walk {
    /// Numbers below `n`, which is not 0.
    pub fn below(n: u64) -> Walk {
        assert!(n > 0, "a walk needs a place to go to");
        Walk { at: 0, n }
    }

    /// The next one.
    #[inline]
    pub fn step(&mut self) -> u64 {
        self.at = self.at.wrapping_add(1);
        // The upper half of a product of 128 bits: `spread(at) / 2^64`, times n.
        ((u128::from(spread(self.at)) * u128::from(self.n)) >> 64) as u64
    }
}
