//! Reading a page's bytes, however they are held: as a plain slice under a latch, or word by word while a writer may change
//! them.
//!
//! An offset may come from a torn or corrupt page, so every access is checked, and past the end there are zeros or nothing.

use ashlar_bufferpool::PageView;
use std::cmp::Ordering;

/// Bytes of one page.
pub(crate) trait Access: Copy {
    /// Length of the page.
    fn len(self) -> usize;
    /// One byte; 0 past the end, as with the others.
    fn u8(self, at: usize) -> u8;
    /// Two bytes as a little-endian number.
    fn u16(self, at: usize) -> u16;
    /// Four bytes.
    fn u32(self, at: usize) -> u32;
    /// Eight bytes.
    fn u64(self, at: usize) -> u64;
    /// Compares the page's `len` bytes at `at`, as many as there are, with `other`.
    fn compare(self, at: usize, len: usize, other: &[u8]) -> Ordering;
    /// Appends `len` bytes at `at` to `out`; false, and nothing appended, where they pass the end.
    fn append_to(self, at: usize, len: usize, out: &mut Vec<u8>) -> bool;
}

/// A page whose bytes cannot change: latched, or a private copy.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a>(pub(crate) &'a [u8]);

impl<'a> Plain<'a> {
    /// `len` bytes at `at`, if the page has them.
    pub(crate) fn bytes(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..)?.get(..len)
    }

    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
}

impl Access for Plain<'_> {
    #[inline]
    fn len(self) -> usize {
        self.0.len()
    }

    #[inline]
    fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    #[inline]
    fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    #[inline]
    fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    #[inline]
    fn compare(self, at: usize, len: usize, other: &[u8]) -> Ordering {
        let from = at.min(self.0.len());
        let to = at.saturating_add(len).min(self.0.len());
        self.0[from..to].cmp(other)
    }

    fn append_to(self, at: usize, len: usize, out: &mut Vec<u8>) -> bool {
        let Some(bytes) = self.bytes(at, len) else { return false };
        out.extend_from_slice(bytes);
        true
    }
}

impl Access for PageView<'_> {
    #[inline]
    fn len(self) -> usize {
        PageView::len(&self)
    }

    #[inline]
    fn u8(self, at: usize) -> u8 {
        PageView::u8(&self, at)
    }

    #[inline]
    fn u16(self, at: usize) -> u16 {
        PageView::u16(&self, at)
    }

    #[inline]
    fn u32(self, at: usize) -> u32 {
        PageView::u32(&self, at)
    }

    #[inline]
    fn u64(self, at: usize) -> u64 {
        PageView::u64(&self, at)
    }

    #[inline]
    fn compare(self, at: usize, len: usize, other: &[u8]) -> Ordering {
        PageView::compare(&self, at, len, other)
    }

    fn append_to(self, at: usize, len: usize, out: &mut Vec<u8>) -> bool {
        if at.checked_add(len).is_none_or(|end| end > Access::len(self)) {
            return false;
        }
        let start = out.len();
        out.resize(start + len, 0);
        PageView::copy_to(&self, at, &mut out[start..])
    }
}
