//! Copying past the processor's caches.

/// Copies `from` to `into`, past this processor's caches where it can: for memory that another processor has read last and will read next. Its
/// lines are not asked back from that one's caches first, to be overwritten.
///
/// On x86-64 these are non-temporal stores (Intel's manual for optimization, "Cacheability Control Instructions"); elsewhere it is an ordinary
/// copy.
///
/// # Panics
/// Where the lengths differ.
pub fn copy_past_caches(into: &mut [u8], from: &[u8]) {
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
    #[should_panic(expected = "another length")]
    fn lengths_that_differ_are_refused() {
        copy_past_caches(&mut [0; 4], &[0; 5]);
    }
}
