//! Entries of a bulk load that are handed to another thread together.
//!
//! Each entry is the lengths of its key and of what it brings (4 bytes each), a byte that says what that is, and both.

use ashlar_disk::FarBuf;

/// Bytes of an entry before its key.
const HEAD: usize = 9;

/// What an entry brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Brings {
    /// A value that stands in the tree's pages.
    Value,
    /// The name of a blob that was written.
    Blob,
}

/// Entries that follow each other.
pub(super) struct Lot(FarBuf);

impl Lot {
    /// An empty one for so many bytes, about.
    pub(super) fn new(bytes: usize) -> Lot {
        Lot(FarBuf::new(bytes))
    }

    /// How much it holds, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds an entry. Key and value are shorter than 4 GiB.
    pub(super) fn add(&mut self, key: &[u8], brings: Brings, bytes: &[u8]) {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        head[8] = brings as u8;
        [&head, key, bytes].iter().for_each(|part| self.0.push(part));
    }

    /// No entry follows.
    pub(super) fn close(&mut self) {
        self.0.close();
    }

    /// The entries, once it is closed.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], Brings, &[u8])> {
        let mut rest = self.0.bytes();
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_first_chunk::<HEAD>()?;
            let len = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
            let (key, behind) = behind.split_at(len(0));
            let (bytes, behind) = behind.split_at(len(4));
            rest = behind;
            Some((key, if head[8] == Brings::Blob as u8 { Brings::Blob } else { Brings::Value }, bytes))
        })
    }

    /// Takes all entries away.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// Entries of all sizes, in lots that are used again, some of them longer than they were made for.
    #[test]
    fn what_was_added_comes_in_its_order() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut lot = Lot::new(10_000);
        for round in 0..300 {
            let mut added = Vec::new();
            for _ in 0..rng.random_range(0..40) {
                let longest = [20, 300, 9000][rng.random_range(0..3)];
                let key: Vec<u8> = (0..rng.random_range(0..40)).map(|_| rng.random()).collect();
                let bytes: Vec<u8> = (0..rng.random_range(0..longest)).map(|_| rng.random()).collect();
                let brings = if rng.random_bool(0.3) { Brings::Blob } else { Brings::Value };
                lot.add(&key, brings, &bytes);
                added.push((key, brings, bytes));
                let len: usize = added.iter().map(|(key, _, bytes)| HEAD + key.len() + bytes.len()).sum();
                assert_eq!(lot.len(), len);
            }
            lot.close();
            let entries = lot.entries().map(|(key, brings, bytes)| (key.to_vec(), brings, bytes.to_vec()));
            assert!(entries.eq(added), "round {round}");
            lot.clear();
            assert_eq!((lot.len(), lot.entries().count()), (0, 0));
        }
    }
}
