//! Memory that a device, an optimistic reader and a writer may touch at the same time: slices of [`AtomicU64`].
//!
//! All memory that takes part in a transfer is a `&[AtomicU64]`, so that reading it while somebody else writes is a stale or
//! torn *value*, never undefined behaviour. Every access here is relaxed: what orders them is the latch (or the completion) of
//! whoever owns the memory. Bytes are numbered in little-endian order within a word, so byte `i` of the slice is byte `i` of
//! the memory on every supported machine.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg(target_endian = "big")]
compile_error!(
    "Ashlar's on-disk format is little-endian and its page access relies on that; big-endian machines are not supported"
);

/// Memory of a transfer. Byte length is `8 * words.len()`.
pub type Words = [AtomicU64];

/// The bytes of `words` as a plain slice.
///
/// # Safety
/// Nobody stores to the words while the slice lives. (That others load from them meanwhile is no race.)
#[inline]
pub unsafe fn at_rest(words: &Words) -> &[u8] {
    const { assert!(size_of::<std::sync::atomic::AtomicU64>() == 8) };
    // SAFETY: the words are initialized memory, `AtomicU64` has the layout of `u64`, the lifetime is that of `words`, and the
    // caller promises that nobody stores.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 8) }
}

/// Asks the processor for the cache line in which `value` begins, and waits for nothing. Where it can't be asked
/// this does nothing.
#[inline]
pub fn fetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction changes nothing that a program can see, and does not fail for any address; this one may be read.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Copies `out.len()` bytes that start at byte `offset` of `words`.
///
/// # Panics
/// Where `offset + out.len()` passes the end of `words`.
pub fn copy_out(words: &Words, offset: usize, out: &mut [u8]) {
    assert!(offset <= words.len() * 8 && out.len() <= words.len() * 8 - offset, "copy_out past the end");
    let mut index = offset / 8;
    let skip = offset % 8;
    let mut rest = out;
    if skip != 0 && !rest.is_empty() {
        let bytes = words[index].load(Relaxed).to_le_bytes();
        let n = rest.len().min(8 - skip);
        let (head, tail) = rest.split_at_mut(n);
        head.copy_from_slice(&bytes[skip..skip + n]);
        rest = tail;
        index += 1;
    }
    let mut chunks = rest.chunks_exact_mut(8);
    for (chunk, word) in (&mut chunks).zip(&words[index..]) {
        chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        index += 1;
    }
    let last = chunks.into_remainder();
    if !last.is_empty() {
        let bytes = words[index].load(Relaxed).to_le_bytes();
        last.copy_from_slice(&bytes[..last.len()]);
    }
}

/// Copies `from` to the bytes of `words` that start at byte `offset`. The caller is the only writer: a word that is changed
/// in part is loaded, changed and stored.
///
/// # Panics
/// Where `offset + from.len()` passes the end of `words`.
pub fn copy_in(words: &Words, offset: usize, from: &[u8]) {
    assert!(offset <= words.len() * 8 && from.len() <= words.len() * 8 - offset, "copy_in past the end");
    let mut index = offset / 8;
    let skip = offset % 8;
    let mut rest = from;
    if skip != 0 && !rest.is_empty() {
        let n = rest.len().min(8 - skip);
        let (head, tail) = rest.split_at(n);
        let mut bytes = words[index].load(Relaxed).to_le_bytes();
        bytes[skip..skip + n].copy_from_slice(head);
        words[index].store(u64::from_le_bytes(bytes), Relaxed);
        rest = tail;
        index += 1;
    }
    let mut chunks = rest.chunks_exact(8);
    for (chunk, word) in (&mut chunks).zip(&words[index..]) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Relaxed);
        index += 1;
    }
    let last = chunks.remainder();
    if !last.is_empty() {
        let mut bytes = words[index].load(Relaxed).to_le_bytes();
        bytes[..last.len()].copy_from_slice(last);
        words[index].store(u64::from_le_bytes(bytes), Relaxed);
    }
}

/// Copies all of `from` over the start of `to`, word by word.
///
/// # Panics
/// Where `to` is shorter than `from`.
pub fn copy(from: &Words, to: &Words) {
    assert!(from.len() <= to.len(), "copy past the end");
    for (source, target) in from.iter().zip(to) {
        target.store(source.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_and_length_copies_like_a_slice() {
        let words: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        for offset in 0..=32 {
            for len in 0..=32 - offset {
                let mut model = [0xEEu8; 32];
                copy_in(&words, 0, &model);
                let data: Vec<u8> = (0..len).map(|i| (i * 7 + offset) as u8).collect();
                copy_in(&words, offset, &data);
                model[offset..offset + len].copy_from_slice(&data);
                let mut all = [0; 32];
                copy_out(&words, 0, &mut all);
                assert_eq!(all, model, "offset {offset}, length {len}");
                let mut part = vec![0; len];
                copy_out(&words, offset, &mut part);
                assert_eq!(part, data);
            }
        }
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn a_copy_past_the_end_is_refused() {
        copy_in(&[AtomicU64::new(0)], 4, &[0; 5]);
    }
}
