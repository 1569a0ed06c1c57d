//! Reading in order: a private copy of one leaf, and the way to the next.
//!
//! Leaves have no pointers to their neighbours. A scan copies a leaf, lets go of it, and seeks the leaf's upper fence for the
//! next one, or what is before its lower fence for the one before. So a scan holds nothing between two leaves, and whatever
//! happens to the tree meanwhile, it goes on at the right key.

use super::TreeId;
use super::access::Plain;
use super::error::{Corrupt, Stop};
use super::key_buf::KeyBuf;
use super::layout::LSN_AT;
use super::node::{Fault, Node, Shape};
use super::search::Place;
use super::{Seek, Tree};
use ashlar_bufferpool::{PageId, PageStore, Pool};
use std::ops::Range;

/// A private copy of a leaf. Its memory is used again for the next one.
#[derive(Clone, Debug, Default)]
pub struct LeafCopy {
    bytes: Vec<u8>,
    /// The shape of what stands in `bytes`, as it was found when the copy was made. `None`: no leaf.
    shape: Option<Shape>,
    page: PageId,
}

impl LeafCopy {
    /// Without a leaf: no entries, and no bounds.
    pub fn new() -> LeafCopy {
        LeafCopy::default()
    }

    /// The page that was copied.
    pub fn page(&self) -> PageId {
        self.page
    }

    /// LSN of the newest commit that had changed the leaf.
    pub fn lsn(&self) -> u64 {
        self.node().map_or(0, |node| node.lsn())
    }

    /// Number of entries; may be 0.
    pub fn len(&self) -> usize {
        self.node().map_or(0, |node| node.count())
    }

    /// Whether the leaf has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The smallest key that may stand in this leaf. Empty: there is no leaf before it. Otherwise `Seek::Before(lower)` is it.
    pub fn lower(&self) -> &[u8] {
        self.node().map_or(&[], |node| node.lower_fence())
    }

    /// All keys of this leaf are below it, and `Seek::AtOrAfter(upper)` is the next leaf. `None`: this is the last.
    pub fn upper(&self) -> Option<&[u8]> {
        self.node().and_then(|node| node.upper_fence())
    }

    /// Puts the key of entry `index` (below [`LeafCopy::len`]) in place of what `key` holds.
    pub fn key_into(&self, index: usize, key: &mut Vec<u8>) {
        let copied = self.node().is_some_and(|node| index < node.count() && node.key_into(index, key).is_ok());
        assert!(copied, "entry {index} of a leaf with {}", self.len());
    }

    /// The key of entry `index`, in memory of its own.
    pub fn key(&self, index: usize) -> Vec<u8> {
        let mut key = Vec::new();
        self.key_into(index, &mut key);
        key
    }

    /// Makes `key` ready for the keys of this leaf.
    pub fn begin_keys(&self, key: &mut KeyBuf) {
        // The lower fence begins with it.
        key.begin(self.node().and_then(|node| node.lower_fence().get(..node.prefix_len())).unwrap_or_default());
    }

    /// Puts the key of entry `index` (below [`LeafCopy::len`]) into `key`, which has been made ready for this leaf, and gives the kind of
    /// its value, and where that stands: see [`LeafCopy::bytes_at`].
    #[inline]
    pub fn entry(&self, index: usize, key: &mut KeyBuf) -> (u8, Range<usize>) {
        let entry = self.node().filter(|node| index < node.count()).and_then(|node| node.entry_into(index, key));
        assert!(entry.is_some(), "entry {index} of a leaf with {}", self.len());
        entry.unwrap_or_default()
    }

    /// The bytes of a value.
    #[inline]
    pub fn bytes_at(&self, value: &Range<usize>) -> &[u8] {
        &self.bytes[value.start..value.end]
    }

    /// Kind and bytes of the value of entry `index` (below [`LeafCopy::len`]).
    pub fn value(&self, index: usize) -> (u8, &[u8]) {
        let value = self.node().filter(|node| index < node.count()).and_then(|node| node.value(index).ok());
        assert!(value.is_some(), "entry {index} of a leaf with {}", self.len());
        value.unwrap_or_default()
    }

    /// The entry that holds `key`, or else the first one above it (which may be [`LeafCopy::len`]).
    pub fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(node) = self.node() else { return Err(0) };
        if key < node.lower_fence() {
            return Err(0);
        }
        if node.upper_fence().is_some_and(|upper| key >= upper) {
            return Err(node.count());
        }
        match node.find(key) {
            Ok(Place::At(index)) => Ok(index),
            Ok(Place::Before(index)) => Err(index),
            Err(_) => Err(0),
        }
    }

    #[inline]
    fn node(&self) -> Option<Node<Plain<'_>>> {
        self.shape.map(|shape| Node::of_shape(Plain(&self.bytes), shape))
    }

    /// Makes this a copy of the leaf in `bytes`.
    fn set(&mut self, bytes: &[u8], tree: TreeId, page: PageId) -> Result<(), Fault> {
        let node = Node::open(Plain(bytes), tree)?;
        let (slots_end, heap) = (node.slots_end(), node.heap_start());
        self.bytes.resize(bytes.len(), 0);
        self.bytes[..slots_end].copy_from_slice(&bytes[..slots_end]);
        self.bytes[heap..].copy_from_slice(&bytes[heap..]);
        (self.shape, self.page) = (Some(node.shape()), page);
        Ok(())
    }

    /// Whether the leaf is where the seek lands, so that a scan moves on, and all entries are within the page, so that reading
    /// them can't fail.
    fn check(&self, seek: Seek<'_>) -> Result<(), Fault> {
        let Some(node) = self.node() else { return Err("there is no leaf") };
        let (lower, upper) = (node.lower_fence(), node.upper_fence());
        let lands = match seek {
            Seek::AtOrAfter(key) => node.covers(key),
            Seek::Before(key) => lower < key && upper.is_none_or(|upper| key <= upper) || key.is_empty() && lower.is_empty(),
            Seek::First => lower.is_empty(),
            Seek::Last => upper.is_none(),
        };
        if !lands {
            return Err("the page's fences are not those that its parent promises");
        }
        node.check_cells()
    }
}

impl Tree {
    /// Copies the leaf where the seek lands into `copy`. `beside` is given the leaf and its LSN under the latch under which it is
    /// copied: it must be short, must not wait, and must not use this pool.
    ///
    /// # Errors
    /// As [`Tree::get`]; `copy` then holds no leaf, or the one before.
    pub fn read_leaf<S: PageStore>(
        &self,
        pool: &Pool<S>,
        seek: Seek<'_>,
        copy: &mut LeafCopy,
        beside: impl FnOnce(&LeafCopy, PageId, u64),
    ) -> Result<(), Stop> {
        let leaf = self.leaf(pool, seek)?;
        let page = leaf.page();
        let copied = copy.set(leaf.bytes(), self.id, page).and_then(|()| copy.check(seek));
        if copied.is_ok() {
            beside(copy, page, leaf.view().u64(LSN_AT));
        }
        drop(leaf);
        copied.map_err(|what| {
            *copy = LeafCopy::new();
            Stop::Corrupt(Corrupt { page, what })
        })
    }
}
