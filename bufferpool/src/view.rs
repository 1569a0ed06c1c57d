//! The bytes of a page, as readers and writers may touch them.
//!
//! A frame is words of `AtomicU64`. [`PageView`] loads them relaxed and may read while a writer stores: what it returns is then
//! a torn value, which its holder throws away when validation fails. [`PageMut`] stores relaxed words.
//!
//! 1. No access of a view is out of bounds and none panics, whatever stands in the page: past the end it reads zero.
//! 2. `&mut PageMut` exists only while its holder alone may store to the words (the exclusive latch, or memory of one's own).
//!    Its size is not known to the compiler, so it can be neither copied nor swapped out of its guard. That is why
//!    [`PageMut::bytes`] is sound.
//! 3. Numbers are little-endian; byte `i` of the page is byte `i` of its memory.

use ashlar_disk::AlignedBuf;
use ashlar_disk::words::{self, Words};
use std::cmp::Ordering;
use std::marker::PhantomPinned;
use std::sync::atomic::Ordering::Relaxed;

/// A page's bytes while somebody may be changing them: every value may be torn until the reader has validated.
#[derive(Clone, Copy)]
pub struct PageView<'a> {
    words: &'a Words,
}

impl<'a> PageView<'a> {
    /// A view of any memory that is made of words.
    #[inline]
    pub fn over(words: &'a Words) -> PageView<'a> {
        PageView { words }
    }

    /// The page's size in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.words.len() * 8
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The memory.
    #[inline]
    pub fn words(&self) -> &'a Words {
        self.words
    }

    /// The eight bytes from `offset` on, whatever its alignment; bytes past the end are zero.
    #[inline]
    fn gather(&self, offset: usize) -> u64 {
        let index = offset / 8;
        let skip = (offset % 8) * 8;
        let low = self.word(index);
        if skip == 0 { low } else { low >> skip | self.word(index + 1) << (64 - skip) }
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Relaxed))
    }

    /// The byte at `offset`; 0 past the end.
    #[inline]
    pub fn u8(&self, offset: usize) -> u8 {
        (self.word(offset / 8) >> (offset % 8 * 8)) as u8
    }

    /// The number in the two bytes from `offset` on; 0 where they are not all there.
    #[inline]
    pub fn u16(&self, offset: usize) -> u16 {
        if !self.holds(offset, 2) {
            return 0;
        }
        if offset % 8 <= 6 { (self.word(offset / 8) >> (offset % 8 * 8)) as u16 } else { self.gather(offset) as u16 }
    }

    /// The number in the four bytes from `offset` on; 0 where they are not all there.
    #[inline]
    pub fn u32(&self, offset: usize) -> u32 {
        if !self.holds(offset, 4) {
            return 0;
        }
        if offset % 8 <= 4 { (self.word(offset / 8) >> (offset % 8 * 8)) as u32 } else { self.gather(offset) as u32 }
    }

    /// The number in the eight bytes from `offset` on; 0 where they are not all there.
    #[inline]
    pub fn u64(&self, offset: usize) -> u64 {
        if self.holds(offset, 8) { self.gather(offset) } else { 0 }
    }

    /// Whether bytes `offset..offset + len` are all inside the page.
    #[inline]
    pub fn holds(&self, offset: usize, len: usize) -> bool {
        offset <= self.len() && len <= self.len() - offset
    }

    /// Copies the `out.len()` bytes from `offset` on. False, and `out` untouched, where they are not all there.
    #[must_use]
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        let inside = self.holds(offset, out.len());
        if inside {
            words::copy_out(self.words, offset, out);
        }
        inside
    }

    /// How the bytes `offset..offset + len` compare with `other`, as unsigned bytes; where the page ends before them, those
    /// that are there are compared.
    pub fn compare(&self, offset: usize, len: usize, other: &[u8]) -> Ordering {
        let offset = offset.min(self.len());
        let len = len.min(self.len() - offset);
        let common = len.min(other.len());
        let mut at = 0;
        while at + 8 <= common {
            let mine = self.gather(offset + at).swap_bytes();
            let theirs = u64::from_be_bytes(head(&other[at..]));
            if mine != theirs {
                return mine.cmp(&theirs);
            }
            at += 8;
        }
        if at < common {
            // The tail as the high bytes of a number, the rest zero on both sides.
            let tail = common - at;
            let mask = !(u64::MAX >> (tail * 8));
            let mine = self.gather(offset + at).swap_bytes() & mask;
            let theirs = u64::from_be_bytes(head(&other[at..common]));
            if mine != theirs {
                return mine.cmp(&theirs);
            }
        }
        len.cmp(&other.len())
    }
}

/// The first eight bytes, zeros after the last.
#[inline]
fn head(bytes: &[u8]) -> [u8; 8] {
    match bytes.first_chunk::<8>() {
        Some(chunk) => *chunk,
        None => {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            padded
        }
    }
}

/// A page that its holder alone may change. Stores are relaxed words, so that optimistic readers may look on.
///
/// Offsets and lengths here are the writer's own: out of bounds is a mistake in the caller.
#[repr(transparent)]
pub struct PageMut {
    /// Readers load the words while a `&mut PageMut` exists. A type that is not `Unpin` makes no claim that its `&mut` is the
    /// only way to its memory, as the future of an `async` function makes none.
    _seen_by_readers: PhantomPinned,
    words: Words,
}

impl PageMut {
    /// A page in memory of one's own.
    pub fn over(buf: &mut AlignedBuf) -> &mut PageMut {
        let words: *const Words = buf.words_mut();
        // SAFETY: the borrow of `buf` is exclusive and lasts as long as the result, so nobody else reaches the words.
        unsafe { PageMut::from_words(words) }
    }

    /// A page over `words`.
    ///
    /// # Safety
    /// While the result lives the words are there, nobody else stores to them, and the result is the only `PageMut` over them.
    #[inline]
    pub(crate) unsafe fn from_words<'a>(words: *const Words) -> &'a mut PageMut {
        // SAFETY: `PageMut` is a transparent wrapper of `Words`; see its first field for why views over the same words may
        // exist beside the `&mut`; the rest is the caller's promise.
        unsafe { &mut *(words as *mut Words as *mut PageMut) }
    }

    /// A page over `words`, for looking.
    ///
    /// # Safety
    /// While the result lives the words are there, and nobody stores to them.
    #[inline]
    pub(crate) unsafe fn from_words_ref<'a>(words: *const Words) -> &'a PageMut {
        // SAFETY: as in `from_words`; all of it is atomics, which shared references may look at together.
        unsafe { &*(words as *const PageMut) }
    }

    /// The page as readers see it.
    #[inline]
    pub fn view(&self) -> PageView<'_> {
        PageView::over(&self.words)
    }

    /// The page's size in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The bytes. They can't change while they are borrowed: changing takes `&mut self`.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: (2): only the holder of this `PageMut` stores, and it needs `&mut self`, which this borrow excludes. Loads
        // by optimistic readers beside it are no race.
        unsafe { words::at_rest(&self.words) }
    }

    /// The byte at `offset`; 0 past the end.
    #[inline]
    pub fn u8(&self, offset: usize) -> u8 {
        self.view().u8(offset)
    }

    /// The number in the two bytes from `offset` on; 0 where they are not all there.
    #[inline]
    pub fn u16(&self, offset: usize) -> u16 {
        self.view().u16(offset)
    }

    /// The number in the four bytes from `offset` on; 0 where they are not all there.
    #[inline]
    pub fn u32(&self, offset: usize) -> u32 {
        self.view().u32(offset)
    }

    /// The number in the eight bytes from `offset` on; 0 where they are not all there.
    #[inline]
    pub fn u64(&self, offset: usize) -> u64 {
        self.view().u64(offset)
    }

    /// Copies bytes out; see [`PageView::copy_to`].
    #[must_use]
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        self.view().copy_to(offset, out)
    }

    /// Compares; see [`PageView::compare`].
    pub fn compare(&self, offset: usize, len: usize, other: &[u8]) -> Ordering {
        self.view().compare(offset, len, other)
    }

    /// Changes the byte at `offset`.
    ///
    /// # Panics
    /// Past the end, as everything below.
    pub fn put_u8(&mut self, offset: usize, value: u8) {
        words::copy_in(&self.words, offset, &[value]);
    }

    /// Changes the two bytes from `offset` on.
    pub fn put_u16(&mut self, offset: usize, value: u16) {
        words::copy_in(&self.words, offset, &value.to_le_bytes());
    }

    /// Changes the four bytes from `offset` on.
    pub fn put_u32(&mut self, offset: usize, value: u32) {
        words::copy_in(&self.words, offset, &value.to_le_bytes());
    }

    /// Changes the eight bytes from `offset` on.
    pub fn put_u64(&mut self, offset: usize, value: u64) {
        words::copy_in(&self.words, offset, &value.to_le_bytes());
    }

    /// Changes the bytes from `offset` on to those of `from`.
    pub fn copy_from(&mut self, offset: usize, from: &[u8]) {
        words::copy_in(&self.words, offset, from);
    }

    /// Makes the `len` bytes from `offset` on all `value`.
    pub fn fill(&mut self, offset: usize, len: usize, value: u8) {
        assert!(self.view().holds(offset, len), "fill past the end of the page");
        let end = offset + len;
        let aligned_from = offset.next_multiple_of(8).min(end);
        let aligned_to = (end & !7).max(aligned_from);
        for at in (offset..aligned_from).chain(aligned_to..end) {
            self.put_u8(at, value);
        }
        let word = u64::from_le_bytes([value; 8]);
        for target in &self.words[aligned_from / 8..aligned_to / 8] {
            target.store(word, Relaxed);
        }
    }

    /// Moves the `len` bytes from `from` on to `to`; the two may overlap.
    pub fn move_within(&mut self, from: usize, to: usize, len: usize) {
        assert!(self.view().holds(from, len) && self.view().holds(to, len), "move past the end of the page");
        if from == to || len == 0 {
            return;
        }
        // Word by word of the target, in the direction that reads each source byte before it is overwritten. The words at the
        // two ends of the target are changed in part.
        if to < from { self.move_down(from, to, len) } else { self.move_up(from, to, len) }
    }

    fn move_down(&mut self, from: usize, to: usize, len: usize) {
        let head = (to.next_multiple_of(8) - to).min(len);
        self.move_part(from, to, head);
        let body = (len - head) / 8;
        let (source, target) = (from + head, (to + head) / 8);
        for i in 0..body {
            let value = self.view().gather(source + i * 8);
            self.words[target + i].store(value, Relaxed);
        }
        let done = head + body * 8;
        self.move_part(from + done, to + done, len - done);
    }

    fn move_up(&mut self, from: usize, to: usize, len: usize) {
        let tail = ((to + len) % 8).min(len);
        let rest = len - tail;
        self.move_part(from + rest, to + rest, tail);
        let body = rest / 8;
        let head = rest - body * 8;
        for i in (0..body).rev() {
            let value = self.view().gather(from + head + i * 8);
            self.words[(to + head) / 8 + i].store(value, Relaxed);
        }
        self.move_part(from, to, head);
    }

    /// Up to seven bytes that lie in one word of the target.
    fn move_part(&mut self, from: usize, to: usize, len: usize) {
        debug_assert!(len < 8);
        let value = self.view().gather(from).to_le_bytes();
        words::copy_in(&self.words, to, &value[..len]);
    }

    /// Makes this page's bytes those of `from`.
    pub(crate) fn copy_page(&mut self, from: PageView<'_>) {
        words::copy(from.words, &self.words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of 4096 bytes and the same as a vector.
    fn page_and_model() -> (AlignedBuf, Vec<u8>) {
        let model: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        (AlignedBuf::from_bytes(&model), model)
    }

    #[test]
    fn numbers_read_as_from_a_slice_and_zero_past_the_end() {
        let (mut buf, model) = page_and_model();
        let view = PageMut::over(&mut buf).view();
        let number = |offset: usize, n: usize| -> u64 {
            let mut bytes = [0; 8];
            let Some(slice) = model.get(offset..offset + n) else { return 0 };
            bytes[..n].copy_from_slice(slice);
            u64::from_le_bytes(bytes)
        };
        for offset in (0..64).chain(4070..4110) {
            assert_eq!(u64::from(view.u8(offset)), number(offset, 1), "u8 at {offset}");
            assert_eq!(u64::from(view.u16(offset)), number(offset, 2), "u16 at {offset}");
            assert_eq!(u64::from(view.u32(offset)), number(offset, 4), "u32 at {offset}");
            assert_eq!(view.u64(offset), number(offset, 8), "u64 at {offset}");
        }
        for far in [usize::MAX, usize::MAX - 7, usize::MAX / 2] {
            assert_eq!((view.u8(far), view.u16(far), view.u32(far), view.u64(far)), (0, 0, 0, 0));
            assert!(!view.copy_to(far, &mut [0; 3]));
        }
    }

    #[test]
    fn comparing_is_comparing_slices() {
        let (mut buf, model) = page_and_model();
        let view = PageMut::over(&mut buf).view();
        for offset in 0..20 {
            for len in 0..40 {
                let mine = &model[offset..offset + len];
                assert_eq!(view.compare(offset, len, mine), Ordering::Equal);
                for change in 0..len {
                    for delta in [1, 255] {
                        let mut other = mine.to_vec();
                        other[change] = other[change].wrapping_add(delta);
                        assert_eq!(view.compare(offset, len, &other), mine.cmp(&other));
                    }
                }
                for other_len in 0..len {
                    assert_eq!(view.compare(offset, len, &mine[..other_len]), Ordering::Greater);
                    assert_eq!(view.compare(offset, other_len, mine), Ordering::Less);
                }
            }
        }
        assert_eq!(view.compare(4090, 100, &model[4090..]), Ordering::Equal, "what is past the end is not compared");
        assert_eq!(view.compare(usize::MAX, usize::MAX, b"x"), Ordering::Less);
    }

    #[test]
    fn moves_and_fills_are_those_of_a_slice() {
        let (mut buf, mut model) = page_and_model();
        let page = PageMut::over(&mut buf);
        for from in 0..24 {
            for to in 0..24 {
                for len in 0..34 {
                    page.move_within(from, to, len);
                    model.copy_within(from..from + len, to);
                    assert_eq!(page.bytes()[..96], model[..96], "{len} bytes from {from} to {to}");
                }
                // New content for the next round.
                page.fill(from, to + 3, (from * to) as u8);
                model[from..from + to + 3].fill((from * to) as u8);
                page.put_u64(40 + to % 3, (from * 1_000_003 + to) as u64);
                model[40 + to % 3..48 + to % 3].copy_from_slice(&((from * 1_000_003 + to) as u64).to_le_bytes());
                assert_eq!(page.bytes()[..96], model[..96]);
            }
        }
        page.move_within(4096 - 9, 0, 9);
        page.fill(4096, 0, 1);
        assert_eq!(page.bytes()[..9], model[4096 - 9..]);
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn a_store_past_the_end_is_refused() {
        PageMut::over(&mut AlignedBuf::zeroed(4096)).put_u16(4095, 1);
    }
}
