//! A page built in private memory, entry by entry in key order, then put over a page as a whole.
//!
//! Splits, merges and bulk builds make pages this way: the prefix follows from the fences, cells stand without holes, and
//! nobody's latch is held while it is done.

use super::TreeId;
use super::access::Plain;
use super::edit::Entry;
use super::layout::*;
use super::node::{Fault, Node, Slot};
use ashlar_bufferpool::{PageId, PageMut};
use ashlar_disk::BlockSize;
use std::ops::Range;

/// The identity and fences of a page to be built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blank<'a> {
    pub(crate) tree: TreeId,
    /// 0 for a leaf.
    pub(crate) level: u8,
    pub(crate) lsn: u64,
    pub(crate) lower: &'a [u8],
    pub(crate) upper: Option<&'a [u8]>,
}

/// A page being built. Its memory serves for one page after the other.
pub(crate) struct Builder {
    bytes: Vec<u8>,
    count: usize,
    upper: usize,
    prefix: usize,
    key: Vec<u8>,
}

/// The length of what `a` and `b` both begin with.
pub(crate) fn common_len(a: &[u8], b: &[u8]) -> usize {
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let mut len = 0;
    for (x, y) in a_words.iter().zip(b_words) {
        let difference = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if difference != 0 {
            return len + difference.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(x, y)| x == y).count()
}

impl Builder {
    /// For pages of `page_size` bytes. Not yet a page: see [`Builder::start`].
    pub(crate) fn new(page_size: usize) -> Builder {
        Builder { bytes: vec![0; page_size], count: 0, upper: page_size, prefix: 0, key: Vec::new() }
    }

    /// Begins an empty page. False: its fences don't fit.
    pub(crate) fn start(&mut self, blank: Blank<'_>) -> bool {
        let Blank { tree, level, lsn, lower, upper } = blank;
        let fences = lower.len() + upper.map_or(0, <[u8]>::len);
        if fences > capacity(self.bytes.len()) {
            return false;
        }
        self.bytes[..SLOTS_AT].fill(0);
        self.bytes[KIND_AT] = if level == 0 { KIND_LEAF } else { KIND_INNER };
        self.bytes[LEVEL_AT] = level;
        self.put_u64(TREE_ID_AT, tree.0);
        self.put_u64(LSN_AT, lsn);
        self.prefix = upper.map_or(0, |upper| common_len(lower, upper));
        self.count = 0;
        self.put_u16(PREFIX_AT, self.prefix as u16);
        self.put_u16(LOWER_LEN_AT, lower.len() as u16);
        self.put_u16(UPPER_LEN_AT, upper.map_or(NO_FENCE, |upper| upper.len() as u16));
        self.upper = self.bytes.len();
        self.put_at_end(lower);
        self.put_at_end(upper.unwrap_or(&[]));
        true
    }

    /// Makes this a copy of `page`.
    pub(crate) fn start_from(&mut self, node: &Node<Plain<'_>>) {
        self.bytes.copy_from_slice(node.page().0);
        (self.count, self.prefix) = (node.count(), node.prefix_len());
        self.upper = node.heap_start();
    }

    /// Appends an entry whose key is `key`, above all before it. False: it doesn't fit.
    pub(crate) fn push(&mut self, key: &[u8], entry: Entry<'_>) -> Result<bool, Fault> {
        let suffix = key.get(self.prefix..).ok_or("a key is shorter than the prefix of its page")?;
        Ok(self.push_suffix(suffix, entry))
    }

    /// Begins an inner page with its first child, whose separator is the lower fence.
    pub(crate) fn push_first(&mut self, child: PageId) -> bool {
        self.push_suffix(&[], Entry::Child(child))
    }

    /// Appends the entries of `slots` of `node`. False: they don't fit, and the page is to be begun again.
    pub(crate) fn push_from(&mut self, node: &Node<Plain<'_>>, slots: Range<usize>) -> Result<bool, Fault> {
        let mut key = std::mem::take(&mut self.key);
        let fits = self.push_each(node, slots, &mut key);
        self.key = key;
        fits
    }

    fn push_each(&mut self, node: &Node<Plain<'_>>, slots: Range<usize>, key: &mut Vec<u8>) -> Result<bool, Fault> {
        for index in slots {
            let fits = if node.prefix_len() == self.prefix {
                self.push_cell(node.slot(index), node.cell(index)?)
            } else if index == 0 && !node.is_leaf() {
                self.push_first(node.child(0))
            } else {
                node.key_into(index, key)?;
                self.push(key, node.entry(index)?)?
            };
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Of the pages that it builds.
    pub(crate) fn page_size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of slots, cells and fences so far.
    pub(crate) fn used(&self) -> usize {
        capacity(self.bytes.len()) - (self.upper - SLOTS_AT - self.count * SLOT_LEN)
    }

    /// Entries of a leaf, children of an inner page, so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Length of what the fences have in common, which is stripped from keys.
    pub(crate) fn prefix_len(&self) -> usize {
        self.prefix
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.bytes[LEVEL_AT] == 0
    }

    /// Gives the free bytes between slots and heap to the heap, as dead ones, where they are so few that the page's image takes all of its
    /// blocks all the same: then it stands on disk as it does in memory, and whoever reads it has nothing to move. The first entry that
    /// comes to the page gets them back. Nothing may be pushed after this.
    pub(crate) fn close_gap(&mut self) {
        let lower = SLOTS_AT + self.count * SLOT_LEN;
        let gap = self.upper - lower;
        if gap < BlockSize::MIN.bytes() {
            self.bytes[lower..self.upper].fill(0);
            self.put_u16(DEAD_AT, gap as u16);
            self.upper = lower;
        }
    }

    /// Makes `page`, which has the builder's page size, the page that was built. Its id is `id`.
    pub(crate) fn install(&mut self, page: &mut PageMut, id: PageId) {
        let lower = self.finish(id);
        page.copy_from(KIND_AT, &self.bytes[KIND_AT..lower]);
        page.copy_from(self.upper, &self.bytes[self.upper..]);
    }

    /// The bytes of the page that was built, whose id is `id`: up to the end of the slots, and from the start of the heap on.
    pub(crate) fn parts(&mut self, id: PageId) -> (&[u8], &[u8]) {
        let lower = self.finish(id);
        (&self.bytes[..lower], &self.bytes[self.upper..])
    }

    /// The page as it would be installed.
    #[cfg(test)]
    pub(crate) fn finished(&mut self) -> &[u8] {
        self.finish(PageId(0));
        &self.bytes
    }

    /// Completes the header and returns where the slots end.
    fn finish(&mut self, id: PageId) -> usize {
        let lower = SLOTS_AT + self.count * SLOT_LEN;
        self.put_u64(PAGE_ID_AT, id.0);
        self.put_u64(LOWER_AT, lower as u64 | (self.upper as u64) << 32);
        self.put_u16(COUNT_AT, self.count as u16);
        lower
    }

    fn push_suffix(&mut self, suffix: &[u8], entry: Entry<'_>) -> bool {
        let Some(at) = self.take(entry.cell_len(suffix.len())) else { return false };
        let rest = suffix.get(HEAD_LEN..).unwrap_or(&[]);
        let cell = &mut self.bytes[at..];
        match entry {
            Entry::Value(kind, value) => {
                let (header, body) = cell.split_at_mut(LEAF_CELL_HEADER);
                header[..2].copy_from_slice(&(value.len() as u16).to_le_bytes());
                header[2] = kind;
                body[..rest.len()].copy_from_slice(rest);
                body[rest.len()..rest.len() + value.len()].copy_from_slice(value);
            }
            Entry::Child(child) => {
                cell[..INNER_CELL_HEADER].copy_from_slice(&child.0.to_le_bytes());
                cell[INNER_CELL_HEADER..INNER_CELL_HEADER + rest.len()].copy_from_slice(rest);
            }
        }
        self.push_slot(Slot::new(suffix, at));
        true
    }

    fn push_cell(&mut self, slot: Slot, cell: &[u8]) -> bool {
        let Some(at) = self.take(cell.len()) else { return false };
        self.bytes[at..at + cell.len()].copy_from_slice(cell);
        self.push_slot(slot.at(at));
        true
    }

    /// Takes room for a cell of `len` bytes and its slot.
    fn take(&mut self, len: usize) -> Option<usize> {
        let lower = SLOTS_AT + self.count * SLOT_LEN;
        if self.upper - lower < len + SLOT_LEN {
            return None;
        }
        self.upper -= len;
        Some(self.upper)
    }

    fn push_slot(&mut self, slot: Slot) {
        self.put_u64(SLOTS_AT + self.count * SLOT_LEN, slot.0);
        self.count += 1;
    }

    fn put_at_end(&mut self, fence: &[u8]) {
        self.upper -= fence.len();
        self.bytes[self.upper..self.upper + fence.len()].copy_from_slice(fence);
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}
