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

/// Moves `len` bytes from byte `from` to byte `to`, which is not below it; they may overlap.
///
/// # Safety
/// Nobody else stores to the words meanwhile.
///
/// # Panics
/// Where `to` is below `from`, or `to + len` passes the end of `words`.
pub unsafe fn move_up(words: &Words, from: usize, to: usize, len: usize) {
    assert!(from <= to && to <= words.len() * 8 && len <= words.len() * 8 - to, "move_up past the end, or down");
    let (distance, end) = (to - from, to + len);
    if distance == 0 {
        return;
    }
    // From the end down: each step reads before it stores, and what is read later stands below all that was stored.
    let read = |at: usize, n: usize, into: &mut [u8; 8]| {
        // SAFETY: nobody else stores, and nothing is stored while this is borrowed.
        into[..n].copy_from_slice(&unsafe { at_rest(words) }[at - distance..at - distance + n]);
    };
    let mut bytes = [0; 8];
    let mut at = end;
    let tail = (end % 8).min(len);
    if tail > 0 {
        at -= tail;
        read(at, tail, &mut bytes);
        copy_in(words, at, &bytes[..tail]);
    }
    // A loop of single words would spend more time on itself than on them.
    while at - to >= 8 * LINE {
        at -= 8 * LINE;
        // SAFETY: as above.
        let source = unsafe { at_rest(words) }[at - distance..].first_chunk::<{ 8 * LINE }>();
        let Some((source, target)) = source.zip(words[at / 8..].first_chunk::<LINE>()) else { unreachable!("both are within") };
        let line: [u64; LINE] = std::array::from_fn(|i| u64::from_le_bytes(source.as_chunks::<8>().0[i]));
        target.iter().zip(line).for_each(|(word, value)| word.store(value, Relaxed));
    }
    while at > to {
        let n = (at - to).min(8);
        at -= n;
        read(at, n, &mut bytes);
        copy_in(words, at, &bytes[..n]);
    }
}

/// Words that are moved at once.
const LINE: usize = 8;

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
    fn every_move_up_is_that_of_a_slice() {
        let bytes: Vec<u8> = (0..256).map(|i| (i * 7) as u8).collect();
        let words: Vec<AtomicU64> = (0..32).map(|_| AtomicU64::new(0)).collect();
        for (from, to) in (0..20).flat_map(|from| (from..100).map(move |to| (from, to))) {
            for len in (0..40).chain((40..=256 - to).step_by(if cfg!(miri) { 31 } else { 5 })).chain([256 - to]) {
                copy_in(&words, 0, &bytes);
                // SAFETY: the words are this test's alone.
                unsafe { move_up(&words, from, to, len) };
                let mut model = bytes.clone();
                model.copy_within(from..from + len, to);
                let mut all = [0; 256];
                copy_out(&words, 0, &mut all);
                assert_eq!(all[..], model[..], "{len} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn a_move_past_the_end_is_refused() {
        // SAFETY: nobody else has the word.
        unsafe { move_up(&[AtomicU64::new(0)], 0, 4, 5) };
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn a_copy_past_the_end_is_refused() {
        copy_in(&[AtomicU64::new(0)], 4, &[0; 5]);
    }
}
