//! How large blocks and pages are, and which superblock there is: from the copies, else from the pages themselves.
//!
//! 1. A database of a format that is unknown here is refused, as by an open.
//! 2. Which superblock is the newest is certain only where each slot has a whole copy. A lost slot may have held a newer one.
//! 3. Sizes without any superblock come from the images of pages: a header that fits and a checksum that is right over the length that
//!    the sizes give it. One image settles the size of a page; the block is the smallest that fits the most images.

use super::report::{Finding, FindingKind, SuperblockState, Teller};
use crate::error::{Error, Result};
use crate::store::page_header::{self, PAGE_HEADER_LEN, get_u32};
use crate::store::superblock::{self, COPY_OFFSETS, Copy, RESERVED_BYTES, Superblock};
use ashlar_disk::rescue::RescueReader;
use ashlar_disk::{AlignedBuf, BlockSize};
use std::collections::BTreeMap;

/// Sizes of pages and blocks that there can be.
const SIZES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];

/// Bytes that are looked at together.
const WINDOW: usize = 1 << 20;

/// So many images that agree are enough.
const ENOUGH: u64 = 64;

/// What is known of the database.
#[derive(Debug)]
pub(super) struct Geometry {
    /// The newest whole superblock.
    pub(super) superblock: Option<Superblock>,
    pub(super) state: SuperblockState,
    pub(super) page_size: usize,
    pub(super) block: BlockSize,
}

impl Geometry {
    /// Of the database in this file. `asked`: the page size that the caller knows.
    pub(super) fn of(reader: &RescueReader, asked: Option<usize>, teller: &mut Teller<'_>) -> Result<Geometry> {
        let copies = superblock::read_copies(&**reader.file(), BlockSize::MIN);
        for (copy, offset) in copies.iter().zip(COPY_OFFSETS) {
            let why = match copy {
                Copy::Bad(why) => Some(why.clone()),
                Copy::Unreadable(e) => Some(e.to_string()),
                _ => None,
            };
            if let Some(why) = why {
                let finding = Finding::new(FindingKind::Superblock, format!("the copy at byte {offset}: {why}"));
                teller.find(Finding { file: Some(reader.file().path().to_owned()), ..finding });
            }
        }
        let (superblock, state) = match superblock::choose(&copies) {
            Ok(chosen) => (Some(chosen.superblock), SuperblockState::Known),
            Err(e @ Error::UnknownFormat { .. }) => return Err(e),
            Err(_) => {
                let whole = copies.into_iter().filter_map(|copy| match copy {
                    Copy::Whole(superblock) => Some(*superblock),
                    _ => None,
                });
                match whole.max_by_key(|superblock| superblock.number) {
                    Some(superblock) => (Some(superblock), SuperblockState::MaybeOlder),
                    None => (None, SuperblockState::Lost),
                }
            }
        };
        let (page_size, block) = match &superblock {
            Some(superblock) if asked.is_some_and(|asked| asked != superblock.page_size) => {
                let reason = format!("the superblock says that pages have {} bytes", superblock.page_size);
                return Err(Error::InvalidOption { option: "page_size", reason });
            }
            Some(superblock) => (superblock.page_size, superblock.block_size),
            None => match (sizes_of(reader, asked), asked) {
                (Some(found), _) => found,
                (None, Some(asked)) => (asked, BlockSize::MIN),
                (None, None) => {
                    let reason = "no copy of the superblock and no page is whole, so the size of a page is not known: if you know \
                                  it, and the log may be readable, give it";
                    return Err(Error::NotADatabase { path: reader.file().path().to_owned(), reason: reason.into() });
                }
            },
        };
        Ok(Geometry { superblock, state, page_size, block })
    }
}

/// The sizes that fit the most images in the file.
fn sizes_of(reader: &RescueReader, asked: Option<usize>) -> Option<(usize, BlockSize)> {
    let mut votes: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    let overlap = SIZES[SIZES.len() - 1];
    let mut memory = AlignedBuf::zeroed(WINDOW + overlap);
    let mut at = RESERVED_BYTES;
    while at < reader.whole_len() && votes.values().all(|&count| count < ENOUGH) {
        let len = (WINDOW + overlap).min((reader.whole_len() - at) as usize);
        reader.read(at, len, &mut memory);
        for offset in (0..WINDOW.min(len)).step_by(BlockSize::MIN.bytes()) {
            vote(&memory[offset..len], asked, &mut votes);
        }
        at += WINDOW as u64;
    }
    // Of as many votes the smallest block.
    let best = votes.iter().max_by_key(|((page, block), count)| (**count, usize::MAX - block, *page))?;
    let (page, block) = *best.0;
    Some((page, BlockSize::new(block)?))
}

/// A vote for each pair of sizes with which an image begins here.
fn vote(bytes: &[u8], asked: Option<usize>, votes: &mut BTreeMap<(usize, usize), u64>) {
    if bytes.len() < PAGE_HEADER_LEN || bytes[..PAGE_HEADER_LEN].iter().all(|&byte| byte == 0) {
        return;
    }
    let mut whole: BTreeMap<usize, bool> = BTreeMap::new();
    for page in SIZES.into_iter().filter(|&page| asked.is_none_or(|asked| asked == page)) {
        for block in SIZES.into_iter().filter(|&block| block <= page) {
            let Some((_, _, len)) = page_header::image_shape(bytes, page, block) else { continue };
            let Some(image) = bytes.get(..len) else { continue };
            if *whole.entry(len).or_insert_with(|| crc32c::crc32c(&image[4..]) == get_u32(image, 0)) {
                *votes.entry((page, block)).or_default() += 1;
            }
        }
    }
}
