//! One page of the tree, read: its shape, slots, keys and values.
//!
//! 1. A [`Node`] exists only for a page whose shape is right: kind, level and tree, slots and heap apart, fences and prefix
//!    within the page. So its slots are there.
//! 2. What a slot says of its cell is not believed: every access to a cell is checked. Over a page that changes meanwhile all
//!    values may be torn; they mean something only after the latch's version has been found unchanged.
//!
//! Nothing here changes a page, and nothing here knows of other pages.

use super::TreeId;
use super::access::{Access, Plain};
use super::edit::Entry;
use super::key_buf::KeyBuf;
use super::layout::*;
use ashlar_bufferpool::PageId;
use std::cmp::Ordering;
use std::ops::Range;

/// What is wrong with a page, for people.
pub(crate) type Fault = &'static str;

/// A slot: head, length of the suffix, offset of the cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(pub(crate) u64);

impl Slot {
    pub(crate) fn new(suffix: &[u8], offset: usize) -> Slot {
        debug_assert!(suffix.len() < 1 << 16 && offset < 1 << 16, "lengths and offsets have 16 bits");
        Slot(u64::from(head(suffix)) << 32 | (suffix.len() as u64) << 16 | offset as u64)
    }

    #[inline]
    pub(crate) fn head(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn suffix_len(self) -> usize {
        (self.0 >> 16 & 0xFFFF) as usize
    }

    #[inline]
    pub(crate) fn offset(self) -> usize {
        (self.0 & 0xFFFF) as usize
    }

    /// The slot of the same key whose cell stands elsewhere.
    pub(crate) fn at(self, offset: usize) -> Slot {
        Slot(self.0 & !0xFFFF | offset as u64)
    }
}

/// The first four bytes of `suffix` as a big-endian number, padded with zeros.
#[inline]
pub(crate) fn head(suffix: &[u8]) -> u32 {
    match suffix.first_chunk() {
        Some(bytes) => u32::from_be_bytes(*bytes),
        None => suffix.iter().enumerate().fold(0, |head, (i, &b)| head | u32::from(b) << (24 - 8 * i)),
    }
}

/// What was found when a page's shape was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    level: u8,
    count: usize,
    prefix: usize,
}

/// A page of a tree whose shape has been checked.
#[derive(Clone, Copy)]
pub(crate) struct Node<A> {
    page: A,
    level: u8,
    count: usize,
    prefix: usize,
}

impl<A: Access> Node<A> {
    /// Checks the page's shape: everything that says where its parts are, in its first cache line.
    #[inline]
    pub(crate) fn open(page: A, tree: TreeId) -> Result<Node<A>, Fault> {
        let level = page.u8(LEVEL_AT);
        let count = usize::from(page.u16(COUNT_AT));
        let prefix = usize::from(page.u16(PREFIX_AT));
        let (lower, upper) = (page.u32(LOWER_AT) as usize, page.u32(UPPER_AT) as usize);
        let lower_len = usize::from(page.u16(LOWER_LEN_AT));
        let upper_len = page.u16(UPPER_LEN_AT);
        let fences = lower_len + if upper_len == NO_FENCE { 0 } else { usize::from(upper_len) };
        let kind = if level == 0 { KIND_LEAF } else { KIND_INNER };
        if page.u8(KIND_AT) != kind {
            return Err("the page's kind and level are not those of a leaf or an inner page");
        }
        if page.u64(TREE_ID_AT) != tree.0 {
            return Err("the page belongs to another tree");
        }
        if lower != SLOTS_AT + count * SLOT_LEN || lower > upper || upper + fences > page.len() {
            return Err("the page's slots, heap and fences overlap");
        }
        if prefix > lower_len || upper_len != NO_FENCE && prefix > usize::from(upper_len) {
            return Err("the page's prefix is longer than a fence");
        }
        if level > 0 && count == 0 {
            return Err("an inner page has no child");
        }
        Ok(Node { page, level, count, prefix })
    }

    /// A page that has not changed since its shape was found.
    #[inline]
    pub(crate) fn of_shape(page: A, Shape { level, count, prefix }: Shape) -> Node<A> {
        Node { page, level, count, prefix }
    }

    #[inline]
    pub(crate) fn shape(&self) -> Shape {
        Shape { level: self.level, count: self.count, prefix: self.prefix }
    }

    /// 0 for a leaf.
    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    #[inline]
    pub(crate) fn is_leaf(&self) -> bool {
        self.level == 0
    }

    /// Entries of a leaf, children of an inner page.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn prefix_len(&self) -> usize {
        self.prefix
    }

    pub(crate) fn lsn(&self) -> u64 {
        self.page.u64(LSN_AT)
    }

    /// Bytes between slots and heap.
    pub(crate) fn gap(&self) -> usize {
        (self.page.u32(UPPER_AT) as usize).saturating_sub(self.page.u32(LOWER_AT) as usize)
    }

    /// Bytes that a new entry finds, after compaction.
    pub(crate) fn free(&self) -> usize {
        self.gap() + usize::from(self.page.u16(DEAD_AT))
    }

    /// Bytes of slots, cells and fences.
    pub(crate) fn used(&self) -> usize {
        capacity(self.page.len()).saturating_sub(self.free())
    }

    /// Length of the lower fence.
    pub(crate) fn lower_len(&self) -> usize {
        usize::from(self.page.u16(LOWER_LEN_AT))
    }

    /// Length of the upper fence, 0 where there is none.
    pub(crate) fn upper_len(&self) -> usize {
        match self.page.u16(UPPER_LEN_AT) {
            NO_FENCE => 0,
            len => usize::from(len),
        }
    }

    /// Whether `key` may stand in this page.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let lower = self.page.len().saturating_sub(self.lower_len());
        let upper_len = self.upper_len();
        self.page.compare(lower, self.lower_len(), key) != Ordering::Greater
            && (self.page.u16(UPPER_LEN_AT) == NO_FENCE
                || self.page.compare(lower.saturating_sub(upper_len), upper_len, key) == Ordering::Greater)
    }

    /// Where the slots end.
    pub(crate) fn slots_end(&self) -> usize {
        SLOTS_AT + self.count * SLOT_LEN
    }

    /// Where the heap begins.
    pub(crate) fn heap_start(&self) -> usize {
        self.page.u32(UPPER_AT) as usize
    }

    /// Where the heap ends and the fences begin.
    pub(crate) fn heap_end(&self) -> usize {
        self.page.len().saturating_sub(self.lower_len() + self.upper_len())
    }

    /// Slot `index`, below [`Node::count`].
    #[inline]
    pub(crate) fn slot(&self, index: usize) -> Slot {
        Slot(self.page.u64(SLOTS_AT + index * SLOT_LEN))
    }

    /// Where the rest of the slot's key stands.
    #[inline]
    pub(crate) fn rest_at(&self, slot: Slot) -> usize {
        slot.offset() + if self.is_leaf() { LEAF_CELL_HEADER } else { INNER_CELL_HEADER }
    }

    #[inline]
    pub(crate) fn page(&self) -> A {
        self.page
    }

    /// The child of slot `index` of an inner page.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> PageId {
        PageId(self.page.u64(self.slot(index).offset()))
    }

    /// Appends the suffix of slot `index` to `out`.
    pub(crate) fn append_suffix(&self, index: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        let slot = self.slot(index);
        let len = slot.suffix_len();
        out.extend_from_slice(&slot.head().to_be_bytes()[..len.min(HEAD_LEN)]);
        if len > HEAD_LEN && !self.page.append_to(self.rest_at(slot), len - HEAD_LEN, out) {
            return Err("a key passes the page's end");
        }
        Ok(())
    }

    /// Puts the whole key of slot `index` in place of what `out` holds.
    pub(crate) fn key_into(&self, index: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.clear();
        if !self.page.append_to(self.page.len() - self.lower_len().min(self.page.len()), self.prefix, out) {
            return Err("the prefix passes the page's end");
        }
        self.append_suffix(index, out)
    }

    /// Puts the lower fence in place of what `out` holds.
    pub(crate) fn lower_fence_into(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.clear();
        let len = self.lower_len();
        let copied = self.page.append_to(self.page.len().saturating_sub(len), len, out);
        if copied { Ok(()) } else { Err("a fence passes the page's end") }
    }

    /// Puts the upper fence in place of what `out` holds. False: there is none.
    pub(crate) fn upper_fence_into(&self, out: &mut Vec<u8>) -> Result<bool, Fault> {
        out.clear();
        if self.page.u16(UPPER_LEN_AT) == NO_FENCE {
            return Ok(false);
        }
        let copied = self.page.append_to(self.heap_end(), self.upper_len(), out);
        if copied { Ok(true) } else { Err("a fence passes the page's end") }
    }
}

impl<'a> Node<Plain<'a>> {
    /// The smallest key that may stand in this page.
    pub(crate) fn lower_fence(&self) -> &'a [u8] {
        let bytes = self.page.0;
        &bytes[bytes.len().saturating_sub(self.lower_len())..]
    }

    /// All keys of this page are below it; `None`: no bound.
    pub(crate) fn upper_fence(&self) -> Option<&'a [u8]> {
        if self.page.u16(UPPER_LEN_AT) == NO_FENCE {
            return None;
        }
        let (bytes, len) = (self.page.0, self.upper_len());
        let end = bytes.len().saturating_sub(self.lower_len());
        Some(&bytes[end.saturating_sub(len)..end])
    }

    /// The whole cell of slot `index`.
    pub(crate) fn cell(&self, index: usize) -> Result<&'a [u8], Fault> {
        let slot = self.slot(index);
        let rest = rest_len(slot.suffix_len());
        let len = match self.is_leaf() {
            true => LEAF_CELL_HEADER + rest + usize::from(self.page.u16(slot.offset())),
            false => INNER_CELL_HEADER + rest,
        };
        if slot.offset() < self.heap_start() || slot.offset() + len > self.heap_end() {
            return Err("a cell stands outside of the heap");
        }
        self.page.bytes(slot.offset(), len).ok_or("a cell passes the page's end")
    }

    /// Kind and bytes of the value of slot `index` of a leaf.
    #[inline]
    pub(crate) fn value(&self, index: usize) -> Result<(u8, &'a [u8]), Fault> {
        let slot = self.slot(index);
        let len = usize::from(self.page.u16(slot.offset()));
        let at = self.rest_at(slot) + rest_len(slot.suffix_len());
        let value = self.page.bytes(at, len).ok_or("a value passes the page's end")?;
        Ok((self.page.u8(slot.offset() + 2), value))
    }

    /// Puts the key of slot `index` of a leaf into `key`, which begins with the page's prefix, and gives the kind of its value and where
    /// that stands. `None`: it passes the page's end.
    #[inline]
    pub(crate) fn entry_into(&self, index: usize, key: &mut KeyBuf) -> Option<(u8, Range<usize>)> {
        let (slot, bytes) = (self.slot(index), self.page.0);
        let cell = bytes.get(slot.offset()..)?.first_chunk::<LEAF_CELL_HEADER>()?;
        let rest_at = slot.offset() + LEAF_CELL_HEADER;
        let start = rest_at + rest_len(slot.suffix_len());
        let end = start + usize::from(u16::from_le_bytes([cell[0], cell[1]]));
        (key.put(slot.suffix_len(), slot.head(), bytes, rest_at) && end <= bytes.len()).then_some((cell[2], start..end))
    }

    /// Whether the cells of all slots of a leaf are within its heap, so that reading them can't fail.
    pub(crate) fn check_cells(&self) -> Result<(), Fault> {
        let (start, end) = (self.heap_start(), self.heap_end());
        for index in 0..self.count() {
            let slot = self.slot(index);
            let len = LEAF_CELL_HEADER + rest_len(slot.suffix_len()) + usize::from(self.page.u16(slot.offset()));
            if slot.offset() < start || slot.offset() + len > end {
                return Err("a cell stands outside of the heap");
            }
        }
        Ok(())
    }

    /// What stands beside the key of slot `index`.
    pub(crate) fn entry(&self, index: usize) -> Result<Entry<'a>, Fault> {
        if self.is_leaf() {
            return self.value(index).map(|(kind, bytes)| Entry::Value(kind, bytes));
        }
        Ok(Entry::Child(self.child(index)))
    }

    /// Length of the value of slot `index` of a leaf.
    pub(crate) fn value_len(&self, index: usize) -> usize {
        usize::from(self.page.u16(self.slot(index).offset()))
    }

    /// Bytes that slot and cell of `index` take.
    pub(crate) fn entry_len(&self, index: usize) -> usize {
        let suffix = self.slot(index).suffix_len();
        if self.is_leaf() { leaf_entry_len(suffix, self.value_len(index)) } else { inner_entry_len(suffix) }
    }
}
