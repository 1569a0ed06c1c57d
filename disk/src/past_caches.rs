//! Copying past the processor's caches.

use crate::AlignedBuf;

/// Copies `from` to `into`, past this processor's caches where it can: for memory that another processor has read last and will read next. Its
/// lines are not asked back from that one's caches first, to be overwritten.
///
/// On x86-64 these are non-temporal stores (Intel's manual for optimization, "Cacheability Control Instructions"); elsewhere it is an ordinary
/// copy.
///
/// # Panics
/// Where the lengths differ.
fn copy_past_caches(into: &mut [u8], from: &[u8]) {
    assert_eq!(into.len(), from.len(), "a copy of another length");
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        // SAFETY: any sixteen bytes are a `__m128i`, and the other way round.
        let (head, parts, _) = unsafe { into.align_to_mut::<__m128i>() };
        let (before, sources) = from.split_at(head.len());
        head.copy_from_slice(before);
        let (sources, _) = sources.as_chunks::<16>();
        for (part, source) in parts.iter_mut().zip(sources) {
            // SAFETY: `part` is aligned and this function's alone, `source` is sixteen bytes; the instructions are there on every such
            // processor (SSE2).
            unsafe { _mm_stream_si128(part, _mm_loadu_si128(source.as_ptr().cast())) };
        }
        // SAFETY: the instruction is there on every such processor. These stores are ordered with none that follow but by it: only then may
        // others be told of them.
        unsafe { _mm_sfence() };
        let copied = before.len() + 16 * parts.len();
        into[copied..].copy_from_slice(&from[copied..]);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    into.copy_from_slice(from);
}

/// Bytes that gather before they go.
const NEAR: usize = 4096;

/// What they go in multiples of: a line of the processor's caches.
const LINE: usize = 64;

/// Bytes for another thread to read, all at once. Its memory is used again: were it written as any other, each line would first be asked back
/// from the caches of the processor that has read it last. So bytes gather in a little memory of the writer's own, and go from there past the
/// caches.
pub struct FarBuf {
    /// What comes behind `far`.
    near: Vec<u8>,
    far: AlignedBuf,
    /// Bytes of `far` that are taken: whole lines, until it is closed.
    taken: usize,
}

impl FarBuf {
    /// An empty one with memory for so many bytes at least.
    pub fn new(bytes: usize) -> FarBuf {
        let far = AlignedBuf::zeroed(bytes.saturating_add(NEAR).next_multiple_of(NEAR));
        FarBuf { near: Vec::with_capacity(2 * NEAR), far, taken: 0 }
    }

    /// How much it holds, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.taken + self.near.len()
    }

    /// How much more it has memory for, in bytes.
    pub fn room(&self) -> usize {
        self.far.len().saturating_sub(self.len())
    }

    /// Appends bytes; where it has no memory for them it grows, and is copied.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.near.extend_from_slice(bytes);
        if self.near.len() >= NEAR {
            self.send(self.near.len() / LINE * LINE);
        }
    }

    /// Before it is read: nothing is appended until it has been cleared.
    pub fn close(&mut self) {
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

    /// All that was appended, once it is closed.
    pub fn bytes(&self) -> &[u8] {
        debug_assert!(self.near.is_empty(), "what is read is closed");
        &self.far[..self.taken]
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        self.taken = 0;
        self.near.clear();
    }
}

impl std::fmt::Debug for FarBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FarBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_and_length_copies_like_a_slice() {
        let source: Vec<u8> = (0..400).map(|i| (i * 7) as u8).collect();
        for (at, skip) in (0..32).flat_map(|at| (0..17).map(move |skip| (at, skip))) {
            for len in (0..70).chain([127, 128, 129, 300]) {
                let (mut copied, mut model) = ([0xEE; 400], [0xEE; 400]);
                copy_past_caches(&mut copied[at..at + len], &source[skip..skip + len]);
                model[at..at + len].copy_from_slice(&source[skip..skip + len]);
                assert!(copied == model, "{len} bytes from {skip} to {at}");
            }
        }
    }

    #[test]
    fn what_was_pushed_is_read_when_it_is_closed() {
        let mut far = FarBuf::new(5000);
        assert!(far.room() >= 5000);
        for round in 0..50usize {
            let mut all = Vec::new();
            for nth in 0..round {
                let bytes = vec![nth as u8; [0, 1, 63, 64, 65, 900, 5000][(nth * 7 + round) % 7]];
                far.push(&bytes);
                all.extend(bytes);
                assert_eq!(far.len(), all.len());
            }
            far.close();
            assert!(far.bytes() == all, "round {round}");
            far.clear();
            assert_eq!((far.len(), far.bytes().len()), (0, 0));
        }
    }

    #[test]
    #[should_panic(expected = "another length")]
    fn lengths_that_differ_are_refused() {
        copy_past_caches(&mut [0; 4], &[0; 5]);
    }
}
