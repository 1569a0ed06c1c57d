//! Arenas registered with a ring, slab by slab, so that the kernel looks up and pins their pages once and not at each transfer.
//!
//! 1. A slab is registered when a transfer first uses it: registering touches and pins all of its memory (6 to 16 ms for 16 MiB that were
//!    not touched before).
//! 2. The first refusal ends it: the locked-memory limit or an old kernel forbids more. What is registered stays in use; all
//!    else goes on unregistered, which is slower and otherwise the same.
//! 3. A slab is known by its arena's number, which is never given out again. The kernel keeps the memory of a registered slab
//!    until the ring is closed, even where the arena goes before; nobody can name it any more.

use crate::ArenaSlice;
use io_uring::IoUring;
use std::collections::BTreeMap;

/// Registered at a time, in bytes: a multiple of the largest page, so that no page crosses from one to the next, and of huge pages.
const SLAB_SIZE: usize = 16 << 20;

/// The same in an arena's first bytes, as many as a slab has: what needs few frames does not wait for the memory of many.
const FIRST_SIZE: usize = 2 << 20;

/// The most slabs; the kernel's bound is 16384. Together 128 GiB.
const SLABS_MAX: u32 = 8192;

/// The slabs that one ring knows.
#[derive(Debug, Default)]
pub(super) struct Slabs {
    /// By arena and first byte: the index in the ring's table.
    known: BTreeMap<(u64, usize), u16>,
    bytes: u64,
    /// Whether more may be registered (2).
    open: bool,
}

impl Slabs {
    /// An empty table in `ring`. Where the kernel has none (before 5.19), nothing is ever registered.
    pub(super) fn new(ring: &IoUring, wanted: bool) -> Slabs {
        let open = wanted && ring.submitter().register_buffers_sparse(SLABS_MAX).is_ok();
        Slabs { open, ..Slabs::default() }
    }

    /// In bytes, all that is registered; `None` where the kernel or the limit allowed nothing.
    pub(super) fn bytes(&self) -> Option<u64> {
        (self.open || self.bytes > 0).then_some(self.bytes)
    }

    /// The index of the slab that a slice lies in, registered now if it isn't yet. `None` where it can't be.
    pub(super) fn index_of(&mut self, ring: &IoUring, slice: &ArenaSlice) -> Option<u16> {
        let (start, len) = slab_of(slice.offset());
        if slice.is_empty() || slice.offset() + slice.len() > start + len {
            return None;
        }
        let key = (slice.arena().id(), start);
        match self.known.get(&key) {
            Some(index) => Some(*index),
            None if self.open => self.register(ring, slice, key, len),
            None => None,
        }
    }

    fn register(&mut self, ring: &IoUring, slice: &ArenaSlice, key: (u64, usize), len: usize) -> Option<u16> {
        let index = u16::try_from(self.known.len()).ok().filter(|index| u32::from(*index) < SLABS_MAX)?;
        let start = key.1;
        let words = slice.arena().words(start, len.min(slice.arena().len() - start));
        let iovec = libc::iovec { iov_base: words.as_ptr().cast_mut().cast(), iov_len: size_of_val(words) };
        // SAFETY: the memory is an arena's, readable and writable, and nobody but the owners of transfers is handed the index.
        // The kernel holds the pages by itself; a transfer that names them holds the arena as well (3).
        let registered = unsafe { ring.submitter().register_buffers_update(index.into(), &[iovec], None) };
        if let Err(error) = registered {
            self.open = false;
            tracing::info!(%error, bytes = self.bytes, "no more of the arena can be registered with io_uring; see the locked-memory limit");
            return None;
        }
        self.bytes += iovec.iov_len as u64;
        self.known.insert(key, index);
        Some(index)
    }
}

/// Where the slab begins that the byte at `offset` is in, and its length.
fn slab_of(offset: usize) -> (usize, usize) {
    let size = if offset < SLAB_SIZE { FIRST_SIZE } else { SLAB_SIZE };
    (offset / size * size, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_follow_each_other_without_a_gap() {
        let (mut at, mut sizes) = (0, Vec::new());
        while at < 4 * SLAB_SIZE {
            let (start, len) = slab_of(at);
            assert_eq!(start, at);
            assert!([1, len / 2, len - 1].into_iter().all(|within| slab_of(start + within) == (start, len)));
            sizes.push(len);
            at += len;
        }
        assert_eq!(sizes, [[FIRST_SIZE; 8].as_slice(), &[SLAB_SIZE; 3]].concat());
    }
}
