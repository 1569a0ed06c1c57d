//! One buffer that several transfers fill: parts of it that each belong to one owner.
//!
//! 1. The parts of a buffer don't overlap, and each has one owner: a transfer that may store to it, or somebody who reads its bytes
//!    while the other parts are still in flight.
//! 2. The memory lives as long as any of its parts. It is one buffer again when all others are gone.

use crate::AlignedBuf;
use crate::words::Words;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A part of a buffer, alone in its range.
pub struct BufPart {
    whole: Arc<AlignedBuf>,
    range: Range<usize>,
}

impl AlignedBuf {
    /// The buffer as parts of these lengths, from its beginning on. What lies behind them is nobody's until the parts are joined.
    ///
    /// # Panics
    /// Where the parts are longer than the buffer, or one's length is no multiple of 8.
    pub fn split(self, lens: impl IntoIterator<Item = usize>) -> Vec<BufPart> {
        let whole = Arc::new(self);
        let mut at = 0;
        let part = |len: usize| {
            assert!(len <= whole.len() - at && len.is_multiple_of(8), "no part of {len} bytes at {at} of {}", whole.len());
            at += len;
            BufPart { whole: whole.clone(), range: at - len..at }
        };
        lens.into_iter().map(part).collect()
    }
}

impl BufPart {
    /// The buffer that the parts are of; `None` if another part of it is still somewhere.
    pub fn join(parts: Vec<BufPart>) -> Option<AlignedBuf> {
        let whole = parts.into_iter().map(|part| part.whole).reduce(|_, last| last)?;
        Arc::try_unwrap(whole).ok()
    }

    /// The memory as words, for a transfer. Exclusive access: nobody holds the bytes as a slice meanwhile.
    pub fn words_mut(&mut self) -> &Words {
        self.words()
    }

    /// The memory as words, for the transfer that owns the part.
    pub(crate) fn words(&self) -> &Words {
        // Words of the whole are borrowed only for a moment, and words may be stored to by others meanwhile.
        &self.whole.words()[self.range.start / 8..self.range.end / 8]
    }
}

impl Deref for BufPart {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the buffer, whose memory is initialized and lives as long as `self.whole`. Only the owner of a
        // part stores to its range (1); that is whoever lends `self` here, so nobody does while the slice lives. The slice covers
        // this range alone, never bytes that belong to another part.
        unsafe { std::slice::from_raw_parts(self.whole.start().as_ptr().add(self.range.start), self.range.len()) }
    }
}

impl std::fmt::Debug for BufPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufPart({:?} of {} bytes)", self.range, self.whole.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;

    #[test]
    fn parts_are_written_apart_and_become_one_again() {
        let parts = AlignedBuf::zeroed(5 * 4096).split([8192, 8192, 8]);
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8192, 8192, 8]);
        let filled: Vec<BufPart> = std::thread::scope(|scope| {
            let threads: Vec<_> = parts
                .into_iter()
                .zip(1u8..)
                .map(|(part, byte)| {
                    scope.spawn(move || {
                        words::copy_in(part.words(), 0, &vec![byte; part.len()]);
                        assert!(part.iter().all(|&b| b == byte));
                        part
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let whole = BufPart::join(filled).unwrap();
        assert!(whole[..8192].iter().all(|&b| b == 1) && whole[8192..16384].iter().all(|&b| b == 2));
        assert!(whole[16384..16392].iter().all(|&b| b == 3) && whole[16392..].iter().all(|&b| b == 0));
        assert_eq!(whole.len(), 5 * 4096);
    }

    #[test]
    fn a_buffer_is_not_whole_while_a_part_is_elsewhere() {
        let mut parts = AlignedBuf::zeroed(8192).split([4096, 4096]);
        let elsewhere = parts.pop().unwrap();
        assert!(BufPart::join(parts).is_none());
        assert!(BufPart::join(vec![elsewhere]).is_some(), "the last one is all that is left");
        assert!(BufPart::join(Vec::new()).is_none());
    }

    #[test]
    #[should_panic(expected = "no part of")]
    fn there_are_no_parts_behind_the_end() {
        AlignedBuf::zeroed(4096).split([4088, 16]);
    }
}
