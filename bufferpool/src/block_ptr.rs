//! A block pointer: where an image stands on disk, how long it is, and what its checksum must be.
//!
//! ```text
//!  63                          26 25      21 20                     0
//! ┌──────────────────────────────┬──────────┬────────────────────────┐
//! │ address in blocks (38)       │ code (5) │ low bits of crc32c (21)│
//! └──────────────────────────────┴──────────┴────────────────────────┘
//! ```
//!
//! 1. The address is at least [`BlockPtr::ADDRESS_MIN`]: the blocks before it hold the superblocks. So every value below
//!    `ADDRESS_MIN << 26` is free to mean something else in a page-table slot ([`crate::slot`]).
//! 2. Length codes 0 to 15 mean 1 to 16 blocks, codes 16 to 31 mean 32, 64, … 2^20 blocks.

use std::fmt;

/// Address, length and checksum of an image on disk, in 64 bits: the value that the page map stores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockPtr(u64);

const ADDRESS_SHIFT: u32 = 26;
const CODE_SHIFT: u32 = 21;
const ADDRESS_BITS: u32 = 38;
const CRC_MASK: u64 = (1 << CODE_SHIFT) - 1;
const CODE_MASK: u64 = (1 << (ADDRESS_SHIFT - CODE_SHIFT)) - 1;
/// Up to so many blocks each count has a code of its own.
const EXACT_MAX: u32 = 16;

const _: () = assert!(ADDRESS_BITS + ADDRESS_SHIFT == 64, "address, code and crc fill the word");

impl BlockPtr {
    /// The lowest address, in blocks, that anything but a superblock has.
    pub const ADDRESS_MIN: u64 = 16;
    /// The lowest value of all, for questions whose answer is the same for every pointer.
    pub(crate) const LOWEST: BlockPtr = BlockPtr(Self::ADDRESS_MIN << ADDRESS_SHIFT);
    /// The address after the highest, in blocks.
    pub const ADDRESS_END: u64 = 1 << ADDRESS_BITS;
    /// The low bits of a crc32c that a pointer holds.
    pub const CRC_MASK: u32 = CRC_MASK as u32;

    /// A pointer to `blocks` blocks from block `address` on, whose crc32c has these low 21 bits (higher bits are ignored).
    /// `None` where the address is out of range, or no code means that many blocks (see [`Self::round_up_blocks`]).
    pub fn new(address: u64, blocks: u32, crc: u32) -> Option<BlockPtr> {
        let code = length_code(blocks)?;
        let in_range = (Self::ADDRESS_MIN..Self::ADDRESS_END).contains(&address);
        in_range.then_some(BlockPtr(address << ADDRESS_SHIFT | u64::from(code) << CODE_SHIFT | u64::from(crc) & CRC_MASK))
    }

    /// The pointer with this value on disk, or `None` where its address is below [`Self::ADDRESS_MIN`].
    pub fn from_bits(bits: u64) -> Option<BlockPtr> {
        (bits >> ADDRESS_SHIFT >= Self::ADDRESS_MIN).then_some(BlockPtr(bits))
    }

    /// The value on disk.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The first block.
    pub fn address(self) -> u64 {
        self.0 >> ADDRESS_SHIFT
    }

    /// How many adjacent blocks.
    pub fn blocks(self) -> u32 {
        let code = (self.0 >> CODE_SHIFT & CODE_MASK) as u32;
        if code < EXACT_MAX { code + 1 } else { 1 << (code - EXACT_MAX + 5) }
    }

    /// The low 21 bits of the crc32c of what must stand there.
    pub fn crc(self) -> u32 {
        (self.0 & CRC_MASK) as u32
    }

    /// The smallest length in blocks, not below `blocks`, that a pointer can have; `None` past the largest.
    pub fn round_up_blocks(blocks: u32) -> Option<u32> {
        let rounded = if blocks <= EXACT_MAX { blocks.max(1) } else { blocks.checked_next_power_of_two()? };
        length_code(rounded).map(|_| rounded)
    }
}

fn length_code(blocks: u32) -> Option<u32> {
    match blocks {
        1..=EXACT_MAX => Some(blocks - 1),
        32.. if blocks.is_power_of_two() => {
            Some(EXACT_MAX + blocks.trailing_zeros() - 5).filter(|&code| u64::from(code) <= CODE_MASK)
        }
        _ => None,
    }
}

impl fmt::Debug for BlockPtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{} (crc ..{:06x})", self.address(), self.blocks(), self.crc())
    }
}

impl fmt::Display for BlockPtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}, {} long", self.address(), self.blocks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_code_reads_back() {
        let lengths = (1..=16).chain((5..=20).map(|power| 1 << power));
        for (code, blocks) in lengths.enumerate() {
            let pointer = BlockPtr::new(BlockPtr::ADDRESS_END - 1, blocks, 0xFFFF_FFFF).expect("a length with a code");
            assert_eq!(
                (pointer.address(), pointer.blocks(), pointer.crc()),
                (BlockPtr::ADDRESS_END - 1, blocks, BlockPtr::CRC_MASK)
            );
            assert_eq!(pointer.to_bits() >> CODE_SHIFT & CODE_MASK, code as u64);
            assert_eq!(BlockPtr::from_bits(pointer.to_bits()), Some(pointer));
        }
    }

    #[test]
    fn what_has_no_pointer_is_refused() {
        for blocks in [0, 17, 31, 33, 48, 1 << 21, u32::MAX] {
            assert_eq!(BlockPtr::new(16, blocks, 0), None, "{blocks} blocks");
        }
        assert_eq!(BlockPtr::new(15, 1, 0), None);
        assert_eq!(BlockPtr::new(BlockPtr::ADDRESS_END, 1, 0), None);
        assert_eq!(BlockPtr::from_bits((16 << ADDRESS_SHIFT) - 1), None);
    }

    #[test]
    fn lengths_round_up_to_one_with_a_code() {
        for (blocks, rounded) in
            [(0, Some(1)), (16, Some(16)), (17, Some(32)), (33, Some(64)), (1 << 20, Some(1 << 20)), ((1 << 20) + 1, None)]
        {
            assert_eq!(BlockPtr::round_up_blocks(blocks), rounded, "{blocks} blocks");
        }
        assert_eq!(BlockPtr::round_up_blocks(u32::MAX), None);
    }
}
