//! The common header of every page, and how a page's image is packed to stand on disk.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | crc32c of the image's bytes from 4 to its end |
//! | 4 | 1 | packing: 0 = plain |
//! | 5 | 1 | kind ([`PageKind`]) |
//! | 6 | 1 | level: 0 = leaf |
//! | 7 | 1 | zero |
//! | 8 | 8 | page id (of a page-map page: its index within its level) |
//! | 16 | 8 | tree id (of a page-map page: zero) |
//! | 24 | 8 | write number: the incarnation (24 bits), then a count since open (40 bits) |
//! | 32 | 8 | LSN of the newest commit in the page |
//! | 40 | 4 | `lower`: end of the front part |
//! | 44 | 4 | `upper`: start of the back part |
//!
//! Invariants:
//! 1. A page's live bytes are `[0, lower)` and `[upper, page size)`, `48 <= lower <= upper <= page size`. The image on disk is
//!    the two joined, then zeros up to a whole block: only the blocks that are used are written.
//! 2. An image is right if and only if its crc32c fits, it names the page that was asked for, and the low 21 bits of its
//!    crc32c are those in the block pointer. Bit rot and torn blocks fail the first, misdirected transfers the second, lost
//!    writes (an old, whole image) the third; they are asked in this order.
//! 3. In a frame the crc32c and the write number are without meaning: they are set when an image is packed.

use crate::fault::Fault;
use ashlar_bufferpool::{BlockPtr, PageId, PageView};
use ashlar_disk::words::{self, Words};
use ashlar_disk::{BlockSize, checksum};
use std::sync::atomic::{Ordering::Release, fence};

/// Length of the header in bytes; what a kind of page keeps for itself starts here.
pub const PAGE_HEADER_LEN: usize = 48;

pub(crate) const CRC: usize = 0;
pub(crate) const PACKING: usize = 4;
pub(crate) const KIND: usize = 5;
pub(crate) const LEVEL: usize = 6;
pub(crate) const PAGE_ID: usize = 8;
pub(crate) const TREE_ID: usize = 16;
pub(crate) const WRITE_NUMBER: usize = 24;
pub(crate) const COMMIT_LSN: usize = 32;
pub(crate) const LOWER: usize = 40;
pub(crate) const UPPER: usize = 44;

/// The low 21 bits of a crc32c: what a block pointer keeps of it.
pub(crate) const POINTER_CRC_MASK: u32 = (1 << 21) - 1;

/// What a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// A leaf of a tree: keys and values.
    Leaf,
    /// An inner node of a tree: separators and children.
    Inner,
    /// A piece of a value too long to stand in a leaf.
    Overflow,
    /// A node of the page map.
    Map,
}

impl PageKind {
    /// The byte in the header.
    pub fn code(self) -> u8 {
        match self {
            PageKind::Leaf => 1,
            PageKind::Inner => 2,
            PageKind::Overflow => 3,
            PageKind::Map => 4,
        }
    }

    /// The kind of a header's byte.
    pub fn from_code(code: u8) -> Option<PageKind> {
        [PageKind::Leaf, PageKind::Inner, PageKind::Overflow, PageKind::Map].into_iter().find(|k| k.code() == code)
    }
}

/// How an image is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// The image's own checksum does not fit: bit rot, or a torn or partial write.
    #[error("checksum {found:#010x}, expected {expected:#010x}: the blocks have rotted or were written in part")]
    Checksum {
        /// Computed from what was read.
        found: u32,
        /// What the image says.
        expected: u32,
    },
    /// A whole image, but of another page: a misdirected write or read.
    #[error("page {found} stands there, expected page {expected}: a write or read went astray")]
    WrongPage {
        /// Which page the image says it is.
        found: u64,
        /// Which page was asked for.
        expected: u64,
    },
    /// A whole image of the right page, but not the one that was written last: a lost write.
    #[error("an image with checksum {found:#08x} stands there, expected {expected:#08x}: a later write was lost")]
    Stale {
        /// The low 21 bits of the image's checksum.
        found: u32,
        /// What the block pointer says.
        expected: u32,
    },
    /// Whole, but made by a version that packs pages in a way unknown here.
    #[error("page is packed in way {found}, this version knows 0")]
    UnknownPacking {
        /// The packing code.
        found: u8,
    },
    /// Whole, but its fields contradict each other: a fault of the program that wrote it.
    #[error("the header's fields contradict each other (lower {lower}, upper {upper}, kind {kind})")]
    Malformed {
        /// End of the front part.
        lower: u32,
        /// Start of the back part.
        upper: u32,
        /// Kind code.
        kind: u8,
    },
}

/// Writes the fields of a fresh page's header except those that packing sets.
pub(crate) fn format_header(bytes: &mut [u8], kind: PageKind, level: u8, page: u64, tree: u64) {
    bytes[..PAGE_HEADER_LEN].fill(0);
    bytes[KIND] = kind.code();
    bytes[LEVEL] = level;
    put_u64(bytes, PAGE_ID, page);
    put_u64(bytes, TREE_ID, tree);
    put_u32(bytes, LOWER, PAGE_HEADER_LEN as u32);
    put_u32(bytes, UPPER, bytes.len() as u32);
}

/// Packs a frame's page into `out` (at least a page long), sets write number and checksum, and gives the image's length in
/// bytes, a whole number of blocks.
pub(crate) fn pack(view: PageView<'_>, block: BlockSize, write_number: u64, out: &mut [u8]) -> usize {
    let page_size = view.len();
    let (lower, upper) = (view.u32(LOWER) as usize, view.u32(UPPER) as usize);
    assert!(PAGE_HEADER_LEN <= lower && lower <= upper && upper <= page_size, "page with lower {lower}, upper {upper}");
    let used = lower + (page_size - upper);
    let len = used.next_multiple_of(block.bytes());
    assert!(view.copy_to(0, &mut out[..lower]) && view.copy_to(upper, &mut out[lower..used]));
    out[used..len].fill(0);
    put_u64(out, WRITE_NUMBER, write_number);
    seal(&mut out[..len]);
    len
}

/// Sets the checksum of an image whose other bytes are final.
pub(crate) fn seal(image: &mut [u8]) {
    let crc = crc32c::crc32c(&image[4..]);
    put_u32(image, CRC, crc);
}

/// The part of a sealed image's checksum that its block pointer keeps.
pub(crate) fn pointer_crc(image: &[u8]) -> u32 {
    get_u32(image, CRC) & POINTER_CRC_MASK
}

/// Checks an image (invariant 2). `None` for `page`: any page.
pub(crate) fn check_image(image: &[u8], page: Option<u64>, pointer: BlockPtr, mistake: Fault) -> Result<(), ImageFault> {
    let (found, expected) = (crc32c::crc32c(&image[4..]), get_u32(image, CRC));
    if !checksum::fits(found, expected) && !mistake.is(Fault::IgnoreChecksum) {
        return Err(ImageFault::Checksum { found, expected });
    }
    let id = get_u64(image, PAGE_ID);
    if let Some(expected) = page.filter(|&p| p != id && !mistake.is(Fault::IgnorePageId)) {
        return Err(ImageFault::WrongPage { found: id, expected });
    }
    let any_pointer = mistake.is(Fault::IgnorePointer) || mistake.is(Fault::IgnorePageId);
    if !checksum::fits(expected & POINTER_CRC_MASK, pointer.crc()) && !any_pointer {
        return Err(ImageFault::Stale { found: expected & POINTER_CRC_MASK, expected: pointer.crc() });
    }
    if image[PACKING] != 0 {
        return Err(ImageFault::UnknownPacking { found: image[PACKING] });
    }
    Ok(())
}

/// Checks the image in the first `image_len` bytes of `frame`, then moves its back part to the end of the frame, where it
/// belongs.
///
/// # Safety
/// Nobody else stores to the frame meanwhile.
pub(crate) unsafe fn check_and_unpack(
    frame: &Words,
    image_len: usize,
    page: PageId,
    pointer: BlockPtr,
    mistake: Fault,
) -> Result<(), ImageFault> {
    let (lower, upper, kind) = {
        // SAFETY: nobody else stores to the frame, and nothing is stored to it within this block.
        let image = &unsafe { words::at_rest(frame) }[..image_len];
        check_image(image, Some(page.0), pointer, mistake)?;
        (get_u32(image, LOWER) as usize, get_u32(image, UPPER) as usize, image[KIND])
    };
    let page_size = size_of_val(frame);
    let fits = PAGE_HEADER_LEN <= lower && lower <= upper && upper <= page_size && lower + (page_size - upper) <= image_len;
    if !fits || PageKind::from_code(kind).is_none_or(|k| k == PageKind::Map) {
        return Err(ImageFault::Malformed { lower: lower as u32, upper: upper as u32, kind });
    }
    // Pairs with the acquire fence by which an optimistic reader of the frame's previous page validates: who sees one of the
    // stores below sees that the page has left.
    fence(Release);
    // SAFETY: as promised by the caller.
    unsafe { words::move_up(frame, lower, upper, page_size - upper) };
    Ok(())
}

/// Where the parts of an image are, by its header alone: `lower`, `upper`, and how long the image is in whole blocks. `None`: no image of
/// a page of this size has such a header. Its checksum says whether it is one.
pub(crate) fn image_shape(head: &[u8], page_size: usize, block: usize) -> Option<(usize, usize, usize)> {
    let head = head.get(..PAGE_HEADER_LEN)?;
    let (lower, upper) = (get_u32(head, LOWER) as usize, get_u32(head, UPPER) as usize);
    let known = PageKind::from_code(head[KIND]).is_some() && head[PACKING] == 0 && head[7] == 0;
    let fits = PAGE_HEADER_LEN <= lower && lower <= upper && upper <= page_size;
    (known && fits).then(|| (lower, upper, (lower + (page_size - upper)).next_multiple_of(block)))
}

/// The page that an image is of, in memory of its own; `None` where its header is none of a page of this size. Its checksum is not
/// looked at.
pub(crate) fn unpack(image: &[u8], page_size: usize) -> Option<Vec<u8>> {
    let (lower, upper, _) = image_shape(image, page_size, 1)?;
    let back = image.get(lower..lower + (page_size - upper))?;
    let mut page = vec![0; page_size];
    page[..lower].copy_from_slice(&image[..lower]);
    page[upper..].copy_from_slice(back);
    Some(page)
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut b = [0; 4];
    b.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(b)
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::AlignedBuf;

    const BLOCK: BlockSize = BlockSize::MIN;

    fn page(front: usize, back: usize) -> AlignedBuf {
        let mut buf = AlignedBuf::zeroed(8192);
        for (i, b) in buf.iter_mut().enumerate() {
            *b = (i % 251) as u8;
        }
        format_header(&mut buf, PageKind::Leaf, 0, 77, 5);
        put_u32(&mut buf, LOWER, front as u32);
        put_u32(&mut buf, UPPER, (8192 - back) as u32);
        buf
    }

    fn image_of(source: &mut AlignedBuf) -> (Vec<u8>, BlockPtr) {
        let mut out = vec![0xAA; 8192];
        let len = pack(PageView::over(source.words_mut()), BLOCK, 9, &mut out);
        out.truncate(len);
        let ptr = BlockPtr::new(100, (len / 4096) as u32, pointer_crc(&out)).unwrap();
        (out, ptr)
    }

    #[test]
    fn a_page_comes_back_as_it_was_and_uses_only_the_blocks_it_needs() {
        for (front, back) in [(48, 0), (48, 1), (100, 3000), (100, 4096), (4000, 4100), (4096, 4096), (48, 8144)] {
            let mut source = page(front, back);
            let (image, ptr) = image_of(&mut source);
            assert_eq!(image.len(), (front + back).next_multiple_of(4096));
            check_image(&image, Some(77), ptr, Fault::None).unwrap();
            let mut frame = AlignedBuf::zeroed(8192);
            frame[..image.len()].copy_from_slice(&image);
            // SAFETY: nobody else has the frame.
            unsafe { check_and_unpack(frame.words_mut(), image.len(), PageId(77), ptr, Fault::None) }.unwrap();
            assert_eq!(frame[32..front], source[32..front], "front of {front}+{back}");
            assert_eq!(frame[8192 - back..], source[8192 - back..], "back of {front}+{back}");
            assert_eq!(image_shape(&image, 8192, 4096), Some((front, 8192 - back, image.len())));
            let page = unpack(&image, 8192).unwrap();
            assert_eq!((&page[32..front], &page[8192 - back..]), (&source[32..front], &source[8192 - back..]));
        }
    }

    #[test]
    fn every_kind_of_fault_is_told_apart() {
        let (image, ptr) = image_of(&mut page(100, 3000));
        let fault = |image: &[u8], id: u64, ptr: BlockPtr| {
            let mut frame = AlignedBuf::zeroed(8192);
            frame[..image.len()].copy_from_slice(image);
            // SAFETY: nobody else has the frame.
            unsafe { check_and_unpack(frame.words_mut(), image.len(), PageId(id), ptr, Fault::None) }.unwrap_err()
        };
        for at in [0, 3, 4, 47, 48, 500, 3100, 4095] {
            let mut bad = image.clone();
            bad[at] ^= 1;
            assert!(matches!(fault(&bad, 77, ptr), ImageFault::Checksum { .. }), "byte {at}");
        }
        assert_eq!(fault(&image, 78, ptr), ImageFault::WrongPage { found: 77, expected: 78 });
        let other = BlockPtr::new(100, 1, ptr.crc() ^ 1).unwrap();
        assert!(matches!(fault(&image, 77, other), ImageFault::Stale { .. }));
        let mut odd = image.clone();
        put_u32(&mut odd, LOWER, 8000);
        seal(&mut odd);
        let odd_ptr = BlockPtr::new(100, 1, pointer_crc(&odd)).unwrap();
        assert!(matches!(fault(&odd, 77, odd_ptr), ImageFault::Malformed { .. }));
    }
}
