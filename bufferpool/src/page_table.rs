//! The page table: for each page id a latch and a slot, in an array that translation indexes.
//!
//! 1. An entry never moves. The array is opened in steps; an entry that is not open reads as *unknown*.
//! 2. A slot changes only while its page's latch is held exclusively.
//! 3. A slot leaves *resident in frame f* only while, besides, the body of frame f is locked ([`crate::frame`]).

use crate::latch::Latch;
use crate::page_id::PageId;
use crate::slot::{FrameId, Slot};
use ashlar_disk::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use ashlar_disk::{Reserved, Result};

const ENTRY_WORDS: usize = 2;
const ENTRY_BYTES: usize = ENTRY_WORDS * 8;

/// All entries.
#[derive(Debug)]
pub(crate) struct PageTable {
    array: Reserved,
    pages_max: u64,
}

/// One page's latch and slot.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) latch: Latch<'a>,
    slot: &'a AtomicU64,
}

impl PageTable {
    /// A table with room for ids below `pages_max`, all unknown.
    pub(crate) fn new(pages_max: u64) -> Result<PageTable> {
        let bytes = usize::try_from(pages_max).unwrap_or(usize::MAX).saturating_mul(ENTRY_BYTES);
        Ok(PageTable { array: Reserved::new(bytes)?, pages_max })
    }

    /// The entry of `page`, where it is open.
    #[inline]
    pub(crate) fn entry(&self, page: PageId) -> Option<Entry<'_>> {
        let words = self.array.words();
        if page.0 >= (words.len() / ENTRY_WORDS) as u64 {
            return None;
        }
        let index = page.0 as usize * ENTRY_WORDS;
        Some(Entry { latch: Latch::over(&words[index]), slot: &words[index + 1] })
    }

    /// The entry of `page`, opened if need be. `None` for an id that the table has no room for: there is no such page.
    pub(crate) fn open(&self, page: PageId) -> Result<Option<Entry<'_>>> {
        if page.0 >= self.pages_max {
            return Ok(None);
        }
        self.open_below(page.0 + 1)?;
        Ok(self.entry(page))
    }

    /// Opens the entries of all ids below `end`, as far as the table has room for them.
    pub(crate) fn open_below(&self, end: u64) -> Result<()> {
        self.array.open_to(end.min(self.pages_max) as usize * ENTRY_BYTES)
    }

    /// Ids are below this.
    pub(crate) fn pages_max(&self) -> u64 {
        self.pages_max
    }

    /// How many bytes are open; the kernel backs those that were touched.
    pub(crate) fn open_bytes(&self) -> usize {
        size_of_val(self.array.words())
    }
}

impl Entry<'_> {
    /// Where the page is. Without the latch it is a hint.
    pub(crate) fn slot(self) -> Slot {
        // Acquire: pairs with the Release of `set`; what was prepared before the slot said so is seen.
        Slot::from_bits(self.slot.load(Acquire))
    }

    /// The slot's bits, where the latch orders the load: held, or noted by an Acquire before and validated after.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.slot.load(Relaxed)
    }

    /// Changes the slot (2).
    pub(crate) fn set(self, slot: Slot) {
        debug_assert!(self.latch.is_exclusive(), "a slot changes under the exclusive latch");
        self.slot.store(slot.to_bits(), Release);
    }

    /// Whether the page is resident in `frame`.
    pub(crate) fn is_resident_in(self, frame: FrameId) -> bool {
        self.slot() == Slot::Resident(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_open_on_demand_and_stay_in_place() {
        let table = PageTable::new(1 << 20).unwrap();
        assert!(table.entry(PageId(0)).is_none());
        let entry = table.open(PageId(3)).unwrap().expect("room for it");
        assert_eq!(entry.slot(), Slot::Unknown);
        entry.latch.lock_exclusive();
        entry.set(Slot::Resident(FrameId(9)));
        entry.latch.unlock_changed();
        table.open(PageId((1 << 20) - 1)).unwrap().expect("the last one");
        assert!(table.entry(PageId(3)).expect("open").is_resident_in(FrameId(9)));
        assert!(entry.is_resident_in(FrameId(9)));
    }

    #[test]
    fn ids_past_the_end_have_no_entry() {
        let table = PageTable::new(1000).unwrap();
        for page in [1000, u64::MAX, u64::MAX / 2 + 1] {
            assert!(table.open(PageId(page)).unwrap().is_none());
            assert!(table.entry(PageId(page)).is_none());
        }
    }
}
