//! Aligned memory of its own for transfers, and the block size that all offsets and lengths are multiples of.

use crate::Spares;
use crate::words::Words;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// The smallest block: 4096 bytes. Also the alignment of every buffer's memory at least.
pub const BLOCK_SIZE_MIN: usize = 4096;

/// The largest block: 64 KiB, the largest page.
pub const BLOCK_SIZE_MAX: usize = 65536;

/// The unit of all offsets and lengths of a database's files, in bytes: a power of two, 4096 to 65536.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct BlockSize(u32);

impl BlockSize {
    /// 4096 bytes.
    pub const MIN: BlockSize = BlockSize(BLOCK_SIZE_MIN as u32);

    /// A block of `bytes`, if that is a power of two from 4096 to 65536.
    pub fn new(bytes: usize) -> Option<BlockSize> {
        let ok = bytes.is_power_of_two() && (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&bytes);
        ok.then_some(BlockSize(bytes as u32))
    }

    /// In bytes.
    pub fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The number of blocks that hold `bytes`.
    pub fn blocks_for(self, bytes: usize) -> usize {
        bytes.div_ceil(self.bytes())
    }
}

/// Memory of its own, aligned to [`BLOCK_SIZE_MAX`] or its length's block, whichever is smaller: what a transfer may carry. Its length
/// is a multiple of [`BLOCK_SIZE_MIN`]. Dropped, it goes back to where it was taken from: the allocator, or a set of
/// [`Spares`].
pub struct AlignedBuf {
    memory: ManuallyDrop<Memory>,
    home: Option<Arc<Spares>>,
}

/// The memory of a buffer, for whoever owns it. Goes back to the allocator when dropped.
pub(crate) struct Memory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its memory alone, like a `Box<[u8]>`.
unsafe impl Send for Memory {}
// SAFETY: `&AlignedBuf` gives `&[u8]`, or `&Words` whose stores are atomic; see `words` for why the two never meet.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed memory of `len` bytes rounded up to a multiple of 4096, at least 4096.
    pub(crate) fn zeroed(len: usize) -> Memory {
        let len = len.max(1).next_multiple_of(BLOCK_SIZE_MIN);
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Memory { start, len }
    }

    fn layout(len: usize) -> Layout {
        let align = len.next_power_of_two().min(BLOCK_SIZE_MAX);
        // The length comes from memory that exists or is about to be asked for; `Layout` refuses only what no allocator gives.
        Layout::from_size_align(len, align).unwrap_or_else(|_| handle_alloc_error(Layout::new::<[u8; BLOCK_SIZE_MIN]>()))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is initialized, `len` long, owned alone, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes)", self.len)
    }
}

impl AlignedBuf {
    /// Zeroed memory of `len` bytes rounded up to a multiple of 4096, at least 4096.
    pub fn zeroed(len: usize) -> AlignedBuf {
        AlignedBuf { memory: ManuallyDrop::new(Memory::zeroed(len)), home: None }
    }

    /// A buffer of this memory, which goes to `home` when it is dropped.
    pub(crate) fn at_home(memory: Memory, home: Arc<Spares>) -> AlignedBuf {
        AlignedBuf { memory: ManuallyDrop::new(memory), home: Some(home) }
    }

    /// A buffer that holds `bytes`, then zeros up to a multiple of 4096.
    pub fn from_bytes(bytes: &[u8]) -> AlignedBuf {
        let mut buf = Self::zeroed(bytes.len());
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    /// Where the memory begins.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.memory.start
    }

    /// The memory as words, for a transfer. Exclusive access: nobody holds the bytes as a slice meanwhile.
    pub fn words_mut(&mut self) -> &Words {
        self.words()
    }

    /// The memory as words for a transfer that *reads* it (a write to a file), or for one that owns the buffer.
    ///
    /// Storing through the words while somebody holds the bytes as `&[u8]` would be a race. Only code that owns the buffer (a
    /// transfer in flight does) stores; this is why the function is not public.
    pub(crate) fn words(&self) -> &Words {
        // SAFETY: the memory is aligned to at least 4096, its length is a multiple of 8, it lives as long as `self`, and
        // `AtomicU64` has the layout of `u64`. Stores happen only through exclusive owners (see above).
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr().cast(), self.memory.len / 8) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is initialized, `len` long, and only exclusive owners store to it.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr(), self.memory.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr(), self.memory.len) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: `drop` runs once, and the field isn't used after it.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        if let Some(home) = self.home.take() {
            home.give_back(memory);
        }
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.memory.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zeroed_and_rounded_up() {
        for len in [0, 1, 4096, 4097, 8192, 12288, 65536, 1 << 20] {
            let buf = AlignedBuf::zeroed(len);
            assert!(buf.len() >= len.max(1) && buf.len().is_multiple_of(4096));
            assert_eq!(buf.as_ptr() as usize % buf.len().next_power_of_two().min(BLOCK_SIZE_MAX), 0);
            assert!(buf.iter().all(|&b| b == 0));
        }
    }

    #[test]
    fn block_sizes_are_powers_of_two_in_range() {
        for bad in [0, 1, 512, 4095, 4097, 12288, 131072] {
            assert_eq!(BlockSize::new(bad), None);
        }
        assert_eq!(BlockSize::new(8192).map(|b| b.blocks_for(8193)), Some(2));
    }
}
