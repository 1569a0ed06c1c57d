//! The blocks of a damaged `data`: read as far as they can be, images checked and unpacked.

use super::report::{Finding, FindingKind, Teller};
use crate::fault::Fault;
use crate::store::page_header::{self, ImageFault};
use ashlar_bufferpool::{BlockPtr, PageId};
use ashlar_disk::rescue::{RescueReader, Unread};
use ashlar_disk::{AlignedBuf, BlockSize};
use std::collections::BTreeMap;

/// Where an image stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Place {
    /// Its first block.
    pub(super) address: u64,
    /// How many blocks it has.
    pub(super) blocks: u32,
}

impl From<BlockPtr> for Place {
    fn from(at: BlockPtr) -> Place {
        Place { address: at.address(), blocks: at.blocks() }
    }
}

/// Why there is no page where one should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// The blocks can't be read.
    Unreadable(String),
    /// Something whole stands there that is not what was looked for: the blocks have been used for something else.
    Reused(String),
    /// What stands there is not whole.
    Damaged(String),
}

impl Missing {
    /// In words.
    pub(super) fn text(&self) -> &str {
        match self {
            Missing::Unreadable(text) | Missing::Reused(text) | Missing::Damaged(text) => text,
        }
    }
}

/// The file `data`.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) reader: RescueReader,
    pub(super) block: BlockSize,
    pub(super) page_size: usize,
    /// Bytes that could not be read so far: start and end of each stretch, and why.
    unread: BTreeMap<u64, (u64, String)>,
}

impl Blocks {
    pub(super) fn new(reader: RescueReader, block: BlockSize, page_size: usize) -> Blocks {
        Blocks { reader, block, page_size, unread: BTreeMap::new() }
    }

    /// How many whole blocks there are.
    pub(super) fn total(&self) -> u64 {
        self.reader.whole_len() / self.block.bytes() as u64
    }

    /// Reads `len` bytes at a byte, whole blocks, as far as they can be; the rest is zero. False: something was missing.
    pub(super) fn read_bytes(&mut self, offset: u64, len: usize, into: &mut AlignedBuf) -> bool {
        let unread = self.reader.read(offset, len, into);
        let whole = unread.is_empty();
        unread.into_iter().for_each(|part| self.note(part));
        whole
    }

    fn note(&mut self, Unread { bytes, why }: Unread) {
        // Beyond the end of the file there is nothing that could be read.
        let end = bytes.end.min(self.reader.whole_len());
        if bytes.start < end {
            let known = self.unread.entry(bytes.start).or_insert((end, why));
            known.0 = known.0.max(end);
        }
    }

    /// Reads what a pointer names; the crc32c is the caller's to compare.
    pub(super) fn read(&mut self, place: Place) -> Result<AlignedBuf, Missing> {
        let block = self.block.bytes();
        if place.address.saturating_add(u64::from(place.blocks)) > self.total() {
            let what = format!("it lies beyond the file's end, which is cut to {} blocks", self.total());
            return Err(Missing::Unreadable(what));
        }
        let len = place.blocks as usize * block;
        let mut buf = AlignedBuf::zeroed(len);
        if self.read_bytes(place.address * block as u64, len, &mut buf) {
            return Ok(buf);
        }
        Err(Missing::Unreadable("the blocks can't be read".into()))
    }

    /// The image of a page that a pointer names, checked but not unpacked. `page`: its id, or a map node's index.
    pub(super) fn image(&mut self, page: u64, at: BlockPtr) -> Result<AlignedBuf, Missing> {
        if at.blocks() as usize * self.block.bytes() > self.page_size {
            return Err(Missing::Damaged(format!("{} blocks are more than a page has", at.blocks())));
        }
        let image = self.read(at.into())?;
        match page_header::check_image(&image, Some(page), at, Fault::None) {
            Ok(()) => Ok(image),
            Err(fault @ (ImageFault::WrongPage { .. } | ImageFault::Stale { .. })) => Err(Missing::Reused(fault.to_string())),
            Err(fault) if self.is_whole_image(at.address(), &image) => {
                Err(Missing::Reused(format!("an image of another length stands there ({fault})")))
            }
            Err(fault) => Err(Missing::Damaged(fault.to_string())),
        }
    }

    /// Whether an image of another length stands where one should that has this front.
    fn is_whole_image(&mut self, address: u64, front: &[u8]) -> bool {
        let Some((_, _, len)) = page_header::image_shape(front, self.page_size, self.block.bytes()) else { return false };
        let place = Place { address, blocks: (len / self.block.bytes()) as u32 };
        self.read(place).is_ok_and(|image| crc32c::crc32c(&image[4..]) == page_header::get_u32(&image, page_header::CRC))
    }

    /// A page that a pointer names, unpacked.
    pub(super) fn page(&mut self, page: PageId, at: BlockPtr) -> Result<Vec<u8>, Missing> {
        let image = self.image(page.0, at)?;
        page_header::unpack(&image, self.page_size).ok_or_else(malformed)
    }

    /// The page whose image was found at a place, if it is still whole; its id is the caller's to look at.
    pub(super) fn page_at(&mut self, place: Place) -> Result<Vec<u8>, Missing> {
        let image = self.read(place)?;
        let crc = crc32c::crc32c(&image[4..]);
        if crc != page_header::get_u32(&image, page_header::CRC) {
            return Err(Missing::Damaged("its checksum was right before, and is not any more".into()));
        }
        page_header::unpack(&image, self.page_size).ok_or_else(malformed)
    }

    /// Tells what could not be read in all, and that the file was cut within a block.
    pub(super) fn tell(&self, teller: &mut Teller<'_>) {
        let block = self.block.bytes() as u64;
        let mut stretches: Vec<(u64, u64, &str)> = Vec::new();
        for (&start, (end, why)) in &self.unread {
            match stretches.last_mut() {
                Some(last) if last.1 >= start => last.1 = last.1.max(*end),
                _ => stretches.push((start, *end, why)),
            }
        }
        for (start, end, why) in stretches {
            let count = end.div_ceil(block) - start / block;
            teller.report.blocks_unreadable += count;
            let finding = Finding::new(FindingKind::Unreadable, why);
            let file = Some(self.reader.file().path().to_owned());
            teller.find(Finding { file, blocks: Some((start / block, count)), ..finding });
        }
        let len = self.reader.whole_len() + self.reader.tail_len();
        if !len.is_multiple_of(block) {
            let what = format!("the file has {len} bytes, which is no whole number of blocks: it was cut");
            let finding = Finding::new(FindingKind::Unreadable, what);
            teller.find(Finding { file: Some(self.reader.file().path().to_owned()), ..finding });
        }
    }
}

fn malformed() -> Missing {
    Missing::Damaged("the header's fields contradict each other".into())
}
