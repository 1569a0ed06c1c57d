//! Copies of a simulated disk, so that several things can be tried on the same one, and a number by which equal disks are known.

use super::content::{CHUNK, Chunk};
use super::disk::State;
use super::{Sim, SimOptions};

impl Sim {
    /// Another machine whose disk is as this one's is now; what is in flight has not been done, and nobody has a file open.
    pub fn copy(&self, options: SimOptions) -> Sim {
        let old = self.disk.lock();
        let newest = (old.newest_inode, old.newest_change);
        let mut state = State::new(old.names.clone(), old.inodes.clone(), newest, options.seed, options.capacity);
        drop(old);
        state.inodes.values_mut().for_each(|inode| inode.handles = 0);
        state.forget_unreachable();
        Sim::start(state, options)
    }

    /// A number that is the same for disks that hold the same, durable and not; others have another, but for one in 2^64.
    pub fn fingerprint(&self) -> u64 {
        let state = self.disk.lock();
        let mut hash = Hash(0);
        state.names.hash_into(&mut |word| hash.add(word));
        for (&id, inode) in &state.inodes {
            hash.add(id);
            inode.hash_into(&mut |word| hash.add(word));
        }
        hash.0
    }
}

struct Hash(u64);

impl Hash {
    /// The step of SplitMix64, over what came before and the word.
    fn add(&mut self, word: u64) {
        let mut z = (self.0 ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        self.0 = z ^ (z >> 27);
    }
}

/// Gives a chunk's number and bytes, as words.
pub(super) fn hash_chunk(number: u64, chunk: &Chunk, add: &mut impl FnMut(u64)) {
    add(number);
    let Some(bytes) = chunk else { return add(0) };
    for word in bytes.as_chunks::<8>().0 {
        add(u64::from_le_bytes(*word));
    }
    debug_assert!(CHUNK.is_multiple_of(8));
}
