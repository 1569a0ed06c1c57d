//! A page-table slot: where a page is, in 64 bits.
//!
//! | value | meaning |
//! | --- | --- |
//! | 0 | not materialized: ask [`crate::PageStore::locate`] |
//! | tag 1 | not allocated: freed since the checkpoint, or never there |
//! | tag 2, frame | being read into that frame |
//! | tag 3, frame | resident in that frame |
//! | any other | a [`BlockPtr`]: on disk |
//!
//! The tag stands in bits 26 to 29, the frame in bits 0 to 25; a block pointer is never that small
//! ([`BlockPtr::ADDRESS_MIN`]).

use crate::block_ptr::BlockPtr;

/// The index of a frame in the pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FrameId(pub(crate) u32);

impl FrameId {
    /// Frames are numbered below this.
    pub(crate) const END: u32 = 1 << FRAME_BITS;

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

const FRAME_BITS: u32 = 26;
const FRAME_MASK: u64 = (1 << FRAME_BITS) - 1;
const TAG_NOT_ALLOCATED: u64 = 1;
const TAG_READING: u64 = 2;
const TAG_RESIDENT: u64 = 3;

const _: () = assert!(TAG_RESIDENT < BlockPtr::ADDRESS_MIN, "tags are addresses that no block pointer has");

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// Nobody has asked for it yet.
    Unknown,
    /// There is no such page.
    NotAllocated,
    /// Its image is on its way into the frame.
    Reading(FrameId),
    /// In the frame.
    Resident(FrameId),
    /// On disk, and nowhere in memory.
    OnDisk(BlockPtr),
}

impl Slot {
    pub(crate) fn to_bits(self) -> u64 {
        match self {
            Slot::Unknown => 0,
            Slot::NotAllocated => TAG_NOT_ALLOCATED << FRAME_BITS,
            Slot::Reading(frame) => TAG_READING << FRAME_BITS | u64::from(frame.0),
            Slot::Resident(frame) => TAG_RESIDENT << FRAME_BITS | u64::from(frame.0),
            Slot::OnDisk(at) => at.to_bits(),
        }
    }

    pub(crate) fn from_bits(bits: u64) -> Slot {
        if let Some(at) = BlockPtr::from_bits(bits) {
            return Slot::OnDisk(at);
        }
        let frame = FrameId((bits & FRAME_MASK) as u32);
        match bits >> FRAME_BITS {
            TAG_RESIDENT => Slot::Resident(frame),
            TAG_READING => Slot::Reading(frame),
            TAG_NOT_ALLOCATED => Slot::NotAllocated,
            _ => Slot::Unknown,
        }
    }

    /// The frame of a resident page, read with one comparison: what every hit does.
    #[inline]
    pub(crate) fn resident(bits: u64) -> Option<FrameId> {
        (bits >> FRAME_BITS == TAG_RESIDENT).then_some(FrameId((bits & FRAME_MASK) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        let pointer = BlockPtr::new(BlockPtr::ADDRESS_MIN, 1, 0).expect("in range");
        let last = FrameId(FrameId::END - 1);
        for slot in [
            Slot::Unknown,
            Slot::NotAllocated,
            Slot::Reading(FrameId(0)),
            Slot::Reading(last),
            Slot::Resident(FrameId(0)),
            Slot::Resident(last),
            Slot::OnDisk(pointer),
        ] {
            assert_eq!(Slot::from_bits(slot.to_bits()), slot);
            let resident = if let Slot::Resident(frame) = slot { Some(frame) } else { None };
            assert_eq!(Slot::resident(slot.to_bits()), resident);
        }
        assert_eq!(Slot::Unknown.to_bits(), 0, "memory that was never touched says: ask the page map");
    }
}
