//! The bytes of a flush and of a record.
//!
//! A **flush** is a header of 64 bytes, then pieces of records, then zeros up to the end of the block. Little-endian:
//!
//! ```text
//!  offset size
//!       0    4  crc32c of bytes 4 to length
//!       4    4  magic
//!       8    2  format version
//!      10    2  zero
//!      12    4  incarnation
//!      16    8  uuid tag: the two halves of the database's uuid, xored
//!      24    8  LSN: the position of this header in the log
//!      32    8  durable: up to where the log was durable when this was written; never beyond the LSN
//!      40    4  length: header and pieces, without the padding
//!      44    4  offset of the first record that begins in this flush, 0 if none does
//!      48   16  zero
//! ```
//!
//! A flush is valid if and only if magic, version, uuid tag and the zeros are right, its LSN is the position it stands at, its
//! length is at least 64 and ends within its segment, the first record's offset is 0 or within 64 and its length, durable is not
//! beyond its LSN, and the crc32c is that of its bytes. Magic, uuid tag, LSN, length and crc32c are where they are in every
//! format version, so that a flush of an unknown version can be told from damage.
//!
//! A **record** is `length u32 | body | end marker u32`, cut anywhere into pieces where a flush is full; the end marker is
//! made from the record's position and length. Framing says nothing about damage (the flush's crc32c does); it says that
//! the pieces are put together as they were taken apart.

use crate::Lsn;
use ashlar_disk::checksum;

/// The version of the log's format that this program reads and writes.
pub const FORMAT_VERSION: u16 = 1;

/// The length of a flush's header in bytes.
pub(crate) const HEADER_SIZE: u64 = 64;

/// The longest flush in bytes: what a reader must be able to hold to check one.
pub(crate) const FLUSH_SIZE_MAX: u64 = 16 << 20;

/// What a record is longer than its body, in bytes.
pub(crate) const FRAME_SIZE: u64 = 8;

/// The longest body in bytes.
pub(crate) const BODY_SIZE_MAX: u64 = 1 << 30;

/// Marks the start of a flush.
const MAGIC: u32 = u32::from_le_bytes(*b"Awal");

/// What the end marker is made from, beside position and length.
const END_MAGIC: u32 = u32::from_le_bytes(*b"end.");

const _: () = assert!(HEADER_SIZE < ashlar_disk::BLOCK_SIZE_MIN as u64, "a flush of one block carries something");
const _: () = assert!(FLUSH_SIZE_MAX <= u32::MAX as u64, "a flush's length fits its field");
const _: () = assert!(BODY_SIZE_MAX + FRAME_SIZE <= u32::MAX as u64, "a record's length fits its field");

/// The fields of a flush that is valid, or about to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlushHeader {
    /// Which opening of the database wrote it.
    pub(crate) incarnation: u32,
    /// Where it begins.
    pub(crate) lsn: Lsn,
    /// Up to where the log was durable when it was written.
    pub(crate) durable: Lsn,
    /// Header and pieces in bytes, without the padding.
    pub(crate) length: u32,
    /// The offset of the first record that begins in it, 0 if none does.
    pub(crate) first_record: u32,
}

impl FlushHeader {
    /// Writes the header to the front of `flush`, whose first `length` bytes hold the rest already, and seals it.
    pub(crate) fn encode(&self, uuid_tag: u64, flush: &mut [u8]) {
        debug_assert!(self.durable <= self.lsn, "nothing is durable beyond a flush that is being written");
        let flush = &mut flush[..self.length as usize];
        flush[4..8].copy_from_slice(&MAGIC.to_le_bytes());
        flush[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        flush[10..12].fill(0);
        flush[12..16].copy_from_slice(&self.incarnation.to_le_bytes());
        flush[16..24].copy_from_slice(&uuid_tag.to_le_bytes());
        flush[24..32].copy_from_slice(&self.lsn.0.to_le_bytes());
        flush[32..40].copy_from_slice(&self.durable.0.to_le_bytes());
        flush[40..44].copy_from_slice(&self.length.to_le_bytes());
        flush[44..48].copy_from_slice(&self.first_record.to_le_bytes());
        flush[48..64].fill(0);
        let crc = crc32c::crc32c(&flush[4..]);
        flush[..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Where the next flush begins.
    pub(crate) fn end(&self, block: u64) -> Lsn {
        self.lsn.plus(u64::from(self.length).next_multiple_of(block))
    }

    /// Where the first record that begins in it begins.
    pub(crate) fn first_record_at(&self) -> Option<Lsn> {
        (self.first_record != 0).then(|| self.lsn.plus(u64::from(self.first_record)))
    }
}

/// Why no valid flush of this log stands at a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    /// Zeros: never written.
    Blank,
    /// Something else than a flush: the inside of an old one, or junk.
    NotAFlush,
    /// A flush of another database.
    Foreign,
    /// A flush that belongs to another position: the segment was recycled.
    Elsewhere,
    /// It begins like a flush of this position, but its fields or its checksum are wrong.
    Broken,
    /// A whole flush of a format version that this program doesn't know.
    Version(u16),
}

/// A header whose checksum has not been looked at: all that may be done with it is to read the rest and verify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimedFlush {
    header: FlushHeader,
    crc: u32,
    version: u16,
}

impl ClaimedFlush {
    /// Reads the header at the front of `bytes`, which stand at `at`; `room` bytes are left there in the segment.
    pub(crate) fn read(bytes: &[u8], uuid_tag: u64, at: Lsn, room: u64) -> Result<ClaimedFlush, Unfit> {
        let claimed = Self::read_anywhere(bytes)?;
        let header = &claimed.header;
        if u64_at(bytes, 16) != uuid_tag {
            return Err(Unfit::Foreign);
        }
        if header.lsn != at {
            return Err(Unfit::Elsewhere);
        }
        if u64::from(header.length) > room {
            return Err(Unfit::Broken);
        }
        Ok(claimed)
    }

    /// Reads a header of whichever database and position.
    pub(crate) fn read_anywhere(bytes: &[u8]) -> Result<ClaimedFlush, Unfit> {
        let Some(head) = bytes.get(..HEADER_SIZE as usize) else { return Err(Unfit::NotAFlush) };
        if u32_at(head, 4) != MAGIC {
            return Err(if head.iter().all(|&byte| byte == 0) { Unfit::Blank } else { Unfit::NotAFlush });
        }
        let header = FlushHeader {
            incarnation: u32_at(head, 12),
            lsn: Lsn(u64_at(head, 24)),
            durable: Lsn(u64_at(head, 32)),
            length: u32_at(head, 40),
            first_record: u32_at(head, 44),
        };
        if !(HEADER_SIZE..=FLUSH_SIZE_MAX).contains(&u64::from(header.length)) {
            return Err(Unfit::Broken);
        }
        Ok(ClaimedFlush { header, crc: u32_at(head, 0), version: u16_at(head, 8) })
    }

    /// How many bytes `verify` needs.
    pub(crate) fn length(&self) -> usize {
        self.header.length as usize
    }

    /// Its fields, unchecked.
    pub(crate) fn header(&self) -> FlushHeader {
        self.header
    }

    /// Checks the flush's first `length` bytes; from here on its fields can be believed.
    pub(crate) fn verify(self, bytes: &[u8]) -> Result<FlushHeader, Unfit> {
        let Some(flush) = bytes.get(..self.length()) else { return Err(Unfit::Broken) };
        if !checksum::fits(crc32c::crc32c(&flush[4..]), self.crc) {
            return Err(Unfit::Broken);
        }
        if self.version != FORMAT_VERSION {
            return Err(Unfit::Version(self.version));
        }
        let header = self.header;
        let first_in =
            header.first_record == 0 || (u64::from(header.first_record) >= HEADER_SIZE && header.first_record < header.length);
        let zeros = flush[10..12].iter().chain(&flush[48..64]).all(|&byte| byte == 0);
        if !first_in || !zeros || header.durable > header.lsn {
            return Err(Unfit::Broken);
        }
        Ok(header)
    }
}

/// The two words around a body of `len` bytes whose record begins at `start`.
pub(crate) fn frame(start: Lsn, len: u32) -> ([u8; 4], [u8; 4]) {
    (len.to_le_bytes(), end_marker(start, len).to_le_bytes())
}

/// The word after the body of a record.
pub(crate) fn end_marker(start: Lsn, len: u32) -> u32 {
    END_MAGIC ^ len.rotate_left(16) ^ start.0 as u32 ^ (start.0 >> 32) as u32
}

/// The uuid tag of the flush whose header is at the front of `bytes`; its length was looked at when the header was read.
pub(crate) fn uuid_tag_of(bytes: &[u8]) -> u64 {
    u64_at(bytes, 16)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The little-endian word at `at`. The caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: u64 = 0x1122_3344_5566_7788;
    const AT: Lsn = Lsn(0x12_3456_7000);

    fn sealed(header: &FlushHeader) -> Vec<u8> {
        let mut bytes = vec![0xa5; 4096];
        header.encode(TAG, &mut bytes);
        bytes
    }

    fn header() -> FlushHeader {
        FlushHeader { incarnation: 7, lsn: AT, durable: Lsn(0x12_3456_6000), length: 1000, first_record: 64 }
    }

    fn read(bytes: &[u8]) -> Result<FlushHeader, Unfit> {
        ClaimedFlush::read(bytes, TAG, AT, 65536)?.verify(bytes)
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        for length in [64, 65, 1000, 4096] {
            for first_record in [0, 63, 64, 999] {
                let wanted = FlushHeader { length, first_record, ..header() };
                let good = first_record == 0 || (64..length).contains(&first_record);
                assert_eq!(read(&sealed(&wanted)), if good { Ok(wanted) } else { Err(Unfit::Broken) });
            }
        }
    }

    #[test]
    fn fields_stand_at_the_documented_offsets() {
        let bytes = sealed(&header());
        assert_eq!(&bytes[4..8], b"Awal");
        assert_eq!((u16_at(&bytes, 8), u32_at(&bytes, 12), u64_at(&bytes, 16)), (1, 7, TAG));
        assert_eq!((u64_at(&bytes, 24), u64_at(&bytes, 32)), (AT.0, 0x12_3456_6000));
        assert_eq!((u32_at(&bytes, 40), u32_at(&bytes, 44)), (1000, 64));
        assert_eq!(u32_at(&bytes, 0), crc32c::crc32c(&bytes[4..1000]));
    }

    #[test]
    fn any_flipped_bit_makes_it_unfit_and_none_in_the_padding() {
        let bytes = sealed(&header());
        for bit in 0..1008 * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&damaged).is_ok(), bit >= 8000, "bit {bit}");
        }
    }

    #[test]
    fn each_reason_has_its_name() {
        let bytes = sealed(&header());
        assert_eq!(read(&[0; 4096]), Err(Unfit::Blank));
        assert_eq!(read(&[1; 4096]), Err(Unfit::NotAFlush));
        assert_eq!(read(&bytes[..63]), Err(Unfit::NotAFlush));
        assert_eq!(ClaimedFlush::read(&bytes, 1, AT, 65536).err(), Some(Unfit::Foreign));
        assert_eq!(ClaimedFlush::read(&bytes, TAG, Lsn(4096), 65536).err(), Some(Unfit::Elsewhere));
        assert_eq!(ClaimedFlush::read(&bytes, TAG, AT, 999).err(), Some(Unfit::Broken));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert_eq!(read(&newer), Err(Unfit::Broken), "a version that the checksum doesn't cover is damage");
        let crc = crc32c::crc32c(&newer[4..1000]);
        newer[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&newer), Err(Unfit::Version(2)));
    }

    #[test]
    fn a_flush_that_claims_the_future_is_not_valid() {
        let mut bytes = vec![0; 4096];
        FlushHeader { durable: AT, ..header() }.encode(TAG, &mut bytes);
        assert!(read(&bytes).is_ok());
        bytes[32..40].copy_from_slice(&(AT.0 + 1).to_le_bytes());
        let crc = crc32c::crc32c(&bytes[4..1000]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&bytes), Err(Unfit::Broken));
    }

    #[test]
    fn end_markers_tell_positions_and_lengths_apart() {
        let one = end_marker(Lsn(4160), 100);
        assert_ne!(one, end_marker(Lsn(4161), 100));
        assert_ne!(one, end_marker(Lsn(4160), 101));
        assert_ne!(one, end_marker(Lsn(4160 + (1 << 32)), 100));
    }
}
