//! Where everything stands in a tree page, and how large keys and cells may be.
//!
//! ```text
//! offset  size  field
//!      0    48  the common page header; of it the tree reads and writes:
//!        5   1    kind: 1 leaf, 2 inner
//!        6   1    level: 0 for a leaf, one more than its children's for an inner page
//!       16   8    tree id
//!       32   8    LSN of the newest commit that changed the page
//!       40   4    lower: end of the slots, 64 + 8 * count
//!       44   4    upper: start of the heap
//!     48     2  count: number of slots
//!     50     2  prefix: length of what all keys of the page begin with; that is a prefix of the lower fence
//!     52     2  length of the lower fence
//!     54     2  length of the upper fence; 0xFFFF: there is none, the page is its level's last
//!     56     2  dead: bytes of the heap that no cell uses
//!     58     6  zero
//!     64   8*n  slots, in key order
//!  lower     ?  free
//!  upper     ?  heap: cells, in any order
//!      ?     ?  the upper fence, then, at the page's end, the lower fence; both in full
//! ```
//!
//! A slot is a number of 64 bits: bits 32..64 the *head*, the first four bytes of the key's *suffix* (the key without the
//! prefix) as a big-endian number, padded with zeros; bits 16..32 the suffix's length; bits 0..16 the cell's offset. So the
//! order of slots as numbers is the order of keys but where two heads are equal.
//!
//! A leaf's cell: length of the value (2), kind of the value (1), the suffix from its fifth byte on, the value. An inner cell:
//! page id of a child (8), the suffix from its fifth byte on. The first four bytes of a suffix stand in the slot alone.
//!
//! An inner page has as many slots as children. Slot `i` holds child `i` and the separator that is the child's lower fence;
//! slot 0's key is empty and stands for the page's own lower fence, so that there is one separator less than children.
//!
//! An offset of 16 bits suffices for a page of 65536 bytes: a cell has at least three bytes, so it begins before the last.
//! Lengths suffice as well: keys and values are at most a quarter of a page and a little.

/// Length of the common page header.
pub(crate) const HEADER_LEN: usize = 48;

pub(crate) const KIND_AT: usize = 5;
pub(crate) const LEVEL_AT: usize = 6;
pub(crate) const PAGE_ID_AT: usize = 8;
pub(crate) const TREE_ID_AT: usize = 16;
pub(crate) const LSN_AT: usize = 32;
pub(crate) const LOWER_AT: usize = 40;
pub(crate) const UPPER_AT: usize = 44;
pub(crate) const COUNT_AT: usize = 48;
pub(crate) const PREFIX_AT: usize = 50;
pub(crate) const LOWER_LEN_AT: usize = 52;
pub(crate) const UPPER_LEN_AT: usize = 54;
pub(crate) const DEAD_AT: usize = 56;
/// Where the slots begin.
pub(crate) const SLOTS_AT: usize = 64;

pub(crate) const KIND_LEAF: u8 = 1;
pub(crate) const KIND_INNER: u8 = 2;
/// The length of an upper fence that is not there.
pub(crate) const NO_FENCE: u16 = 0xFFFF;

/// Bytes of a slot.
pub(crate) const SLOT_LEN: usize = 8;
/// Bytes of a suffix that stand in its slot.
pub(crate) const HEAD_LEN: usize = 4;
/// Bytes of a leaf cell before the key's rest.
pub(crate) const LEAF_CELL_HEADER: usize = 3;
/// Bytes of an inner cell before the key's rest.
pub(crate) const INNER_CELL_HEADER: usize = 8;

const _: () = assert!(COUNT_AT == HEADER_LEN && SLOTS_AT.is_multiple_of(8), "slots are read as whole words");

/// The part of a suffix that stands in the cell: what the slot's head doesn't hold.
pub(crate) const fn rest_len(suffix_len: usize) -> usize {
    suffix_len.saturating_sub(HEAD_LEN)
}

/// Slot and cell of a leaf's entry.
pub(crate) const fn leaf_entry_len(suffix_len: usize, value_len: usize) -> usize {
    SLOT_LEN + LEAF_CELL_HEADER + rest_len(suffix_len) + value_len
}

/// Slot and cell of an inner page's entry.
pub(crate) const fn inner_entry_len(suffix_len: usize) -> usize {
    SLOT_LEN + INNER_CELL_HEADER + rest_len(suffix_len)
}

/// Bytes of a page for slots, cells and fences.
pub(crate) const fn capacity(page_size: usize) -> usize {
    page_size - SLOTS_AT
}

/// What fits in a tree of pages of one size.
///
/// # Every page can always be split
///
/// Let C be the page's bytes for slots, cells and fences, K the longest key, M the largest entry (slot and cell) of a leaf;
/// a, b the lengths of the page's fences, q ≤ a, b that of its prefix. A split happens when the entries, the new one among
/// them, have T bytes with C - a - b < T ≤ C - a - b + M. L(j) is the length of the first j entries, n their number. The halves'
/// prefixes are at least q, so that no entry grows.
///
/// *A leaf* splits before any of its entries but the first, at a separator of at most K bytes. The left half fits if
/// L(j) ≤ C - a - K =: hi, the right one if L(j) ≥ T + K + b - C, for which L(j) ≥ M + K - a =: lo is enough. L rises by at most
/// M, so some j falls between if hi - lo ≥ M, which is **2M + 2K ≤ C**. (The ends: L(1) ≤ M ≤ hi; if even L(n-1) ≤ hi then
/// j = n-1 leaves one entry to the right, and M + 2K ≤ C.)
///
/// *An inner page* splits at an entry j whose key goes to the parent, any but the first and the new one (whose child doesn't
/// exist yet); so two neighbouring values of j must do. Let o = 16 be an entry without its key's rest: an entry is at most
/// m = o + K - q - 4, and j's key is at most q + 4 longer than its rest. Left fits if L(j+1) - o + q + 4 + a ≤ C, so
/// hi = C + o - q - 4 - a; right fits if L(j) ≥ T + q + 4 + b - C, so lo = o + K - a is enough, and m bounds the step. The largest
/// two j with L(j+1) ≤ hi have L(j) > hi - 3m, so hi - 3m ≥ lo is enough: **4K + 3o - 8 ≤ C** at q = 0, and more q only helps.
/// (The ends: n ≤ 3 entries fit without a split, as 4K + 3o ≤ C; where even L(n) ≤ hi, j = n-1 and n-2 do, as 2m + K ≤ C.)
///
/// K = page / 4 - 48 and M = C / 2 - K satisfy both, for C = page - 64, and leave at least 53 bytes for the value beside the
/// longest key: room for a reference to a value that stands elsewhere. A test walks the extremes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest key, in bytes. Every length from 0 on is a key.
    pub key_max: usize,
    /// The largest entry: key, value and [`Limits::ENTRY_OVERHEAD`], in bytes.
    pub cell_max: usize,
}

impl Limits {
    /// Bytes of an entry beside its key and value.
    pub const ENTRY_OVERHEAD: usize = SLOT_LEN + LEAF_CELL_HEADER;

    /// The longest value that may stand in a leaf beside a key of `key_len` bytes, at most [`Limits::key_max`].
    pub fn inline_value_max(&self, key_len: usize) -> usize {
        self.cell_max.saturating_sub(Self::ENTRY_OVERHEAD + key_len)
    }
}

/// The limits of a tree whose pages have `page_size` bytes, 4096 to 65536.
pub const fn limits(page_size: usize) -> Limits {
    let key_max = page_size / 4 - 48;
    Limits { key_max, cell_max: capacity(page_size) / 2 - key_max }
}

const _: () = {
    let mut page_size = 4096;
    while page_size <= 65536 {
        let Limits { key_max, cell_max } = limits(page_size);
        let (room, o) = (capacity(page_size), inner_entry_len(0));
        assert!(2 * cell_max + 2 * key_max <= room, "a leaf can always be split");
        assert!(4 * key_max + 3 * o <= room, "an inner page can always be split");
        assert!(cell_max >= Limits::ENTRY_OVERHEAD + key_max + 53, "a reference fits beside the longest key");
        page_size *= 2;
    }
};
