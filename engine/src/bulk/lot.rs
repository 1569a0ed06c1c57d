//! Entries of a bulk load that are handed to another thread together.
//!
//! Its memory is used again: were it written as any other, each line would first be asked back from the caches of the processor that has read
//! it last. So entries gather in a little memory of the writer's own, and go from there past the caches.
//!
//! Each entry is the lengths of its key and of what it brings (4 bytes each), a byte that says what that is, and both.

use ashlar_disk::{AlignedBuf, copy_past_caches};

/// Bytes that gather before they go.
const NEAR: usize = 4096;

/// What they go in multiples of: a line of the processor's caches.
const LINE: usize = 64;

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
pub(super) struct Lot {
    /// What comes behind `far`.
    near: Vec<u8>,
    far: AlignedBuf,
    /// Bytes of `far` that are taken: whole lines, until it is closed.
    taken: usize,
}

impl Lot {
    /// An empty one for so many bytes, about.
    pub(super) fn new(bytes: usize) -> Lot {
        let far = AlignedBuf::zeroed(bytes.saturating_add(NEAR).next_multiple_of(NEAR));
        Lot { near: Vec::with_capacity(2 * NEAR), far, taken: 0 }
    }

    /// How much it holds, in bytes.
    pub(super) fn len(&self) -> usize {
        self.taken + self.near.len()
    }

    /// Adds an entry. Key and value are shorter than 4 GiB.
    pub(super) fn add(&mut self, key: &[u8], brings: Brings, bytes: &[u8]) {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        head[8] = brings as u8;
        self.near.extend_from_slice(&head);
        self.near.extend_from_slice(key);
        self.near.extend_from_slice(bytes);
        if self.near.len() >= NEAR {
            self.send(self.near.len() / LINE * LINE);
        }
    }

    /// No entry follows.
    pub(super) fn close(&mut self) {
        self.send(self.near.len());
    }

    fn send(&mut self, count: usize) {
        let end = self.taken + count;
        if end > self.far.len() {
            let mut larger = AlignedBuf::zeroed((2 * end).next_multiple_of(NEAR));
            larger[..self.taken].copy_from_slice(&self.far[..self.taken]);
            self.far = larger;
        }
        copy_past_caches(&mut self.far[self.taken..end], &self.near[..count]);
        self.near.drain(..count);
        self.taken = end;
    }

    /// The entries, once it is closed.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], Brings, &[u8])> {
        debug_assert!(self.near.is_empty(), "a lot that is read is closed");
        let mut rest = &self.far[..self.taken];
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
        self.taken = 0;
        self.near.clear();
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
