//! A page of a tree by itself, without the tree around it: for whoever has found one and does not know what names it.
//!
//! 1. A [`LonePage`] exists only for a page in which everything is right that can be told from the page alone: shape, cells, the order
//!    of its keys and their place between its fences. Whether it belongs where it was found, nobody can tell here.
//! 2. Nothing in it panics, whatever the bytes.

use super::TreeId;
use super::access::{Access, Plain};
use super::check::check_alone;
use super::layout::{PAGE_ID_AT, TREE_ID_AT};
use super::node::{Fault, Node};
use ashlar_bufferpool::PageId;

/// See the module.
pub(crate) struct LonePage<'a>(Node<Plain<'a>>);

impl<'a> LonePage<'a> {
    /// A page in memory, unpacked; an error says what is wrong with it.
    pub(crate) fn open(page: &'a [u8]) -> Result<LonePage<'a>, Fault> {
        let tree = TreeId(Plain(page).u64(TREE_ID_AT));
        let node = Node::open(Plain(page), tree)?;
        check_alone(&node)?;
        Ok(LonePage(node))
    }

    /// Its id.
    pub(crate) fn page(&self) -> PageId {
        PageId(self.0.page().u64(PAGE_ID_AT))
    }

    /// The tree that it says it is of.
    pub(crate) fn tree(&self) -> TreeId {
        TreeId(self.0.page().u64(TREE_ID_AT))
    }

    /// 0 for a leaf.
    pub(crate) fn level(&self) -> u8 {
        self.0.level()
    }

    /// The smallest key that may stand in it.
    pub(crate) fn lower(&self) -> &'a [u8] {
        self.0.lower_fence()
    }

    /// All its keys are below; `None`: no bound.
    pub(crate) fn upper(&self) -> Option<&'a [u8]> {
        self.0.upper_fence()
    }

    /// Entries of a leaf, children of an inner page.
    pub(crate) fn count(&self) -> usize {
        self.0.count()
    }

    /// Puts the key of slot `index` in place of what `key` holds. Of an inner page: the lower fence of that child.
    pub(crate) fn key_into(&self, index: usize, key: &mut Vec<u8>) -> Result<(), Fault> {
        if index == 0 && !self.0.is_leaf() {
            key.clear();
            key.extend_from_slice(self.lower());
            return Ok(());
        }
        self.0.key_into(index, key)
    }

    /// Kind and bytes of the value of slot `index` of a leaf.
    pub(crate) fn value(&self, index: usize) -> Result<(u8, &'a [u8]), Fault> {
        self.0.value(index)
    }

    /// The child of slot `index` of an inner page.
    pub(crate) fn child(&self, index: usize) -> PageId {
        self.0.child(index)
    }
}
