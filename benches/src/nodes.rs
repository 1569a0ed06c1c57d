//! One page of a tree: made, searched and changed by the engine's own code, without a pool around it.
//!
//! What stands here is what the engine does in each page on the way down: look whether the page's shape is right, then search it. An
//! inner page is read word by word, because a writer may be changing it; a leaf under its latch, as a slice.

/// As in `lib.rs`.
macro_rules! included {
    ($($path:literal $name:ident;)*) => {
        $(#[path = $path] #[allow(dead_code, unreachable_pub, clippy::all)] mod $name;)*
    };
}

included! {
    "../../engine/src/btree/access.rs" access;
    "../../engine/src/btree/build.rs" build;
    "../../engine/src/btree/edit.rs" edit;
    "../../engine/src/btree/key_buf.rs" key_buf;
    "../../engine/src/btree/layout.rs" layout;
    "../../engine/src/btree/node.rs" node;
    "../../engine/src/btree/search.rs" search;
}

// By the name that the included files know.
use ashlardb::btree::TreeId;

use access::Plain;
use ashlar_bufferpool::{PageId, PageMut};
use ashlar_disk::AlignedBuf;
use build::{Blank, Builder};
use edit::Entry;
use node::Node;
use search::Place;

const TREE: TreeId = TreeId(7);

/// A page in memory of its own.
pub struct Page {
    buf: AlignedBuf,
}

impl Clone for Page {
    fn clone(&self) -> Page {
        Page { buf: AlignedBuf::from_bytes(&self.buf) }
    }
}

impl Page {
    /// A leaf of a page of `page_size` bytes, with `keys` (sorted, different) between the fences `lower` and `upper`, and values of
    /// `value_len` bytes. `None`: they don't fit.
    pub fn leaf(page_size: usize, lower: &[u8], upper: Option<&[u8]>, keys: &[Vec<u8>], value_len: usize) -> Option<Page> {
        let value = vec![7; value_len];
        Page::build(page_size, 0, lower, upper, |builder| {
            keys.iter().all(|key| builder.push(key, Entry::Value(0, &value)) == Ok(true))
        })
    }

    /// An inner page: the child of slot 0 is page 0, then one for each of `separators`. `None`: they don't fit.
    pub fn inner(page_size: usize, lower: &[u8], upper: Option<&[u8]>, separators: &[Vec<u8>]) -> Option<Page> {
        Page::build(page_size, 1, lower, upper, |builder| {
            let children = separators.iter().zip(1..);
            builder.push_first(PageId(0))
                && children.into_iter().all(|(key, child)| builder.push(key, Entry::Child(PageId(child))) == Ok(true))
        })
    }

    fn build(
        page_size: usize,
        level: u8,
        lower: &[u8],
        upper: Option<&[u8]>,
        push_all: impl FnOnce(&mut Builder) -> bool,
    ) -> Option<Page> {
        let mut builder = Builder::new(page_size);
        if !builder.start(Blank { tree: TREE, level, lsn: 1, lower, upper }) || !push_all(&mut builder) {
            return None;
        }
        let mut buf = AlignedBuf::zeroed(page_size);
        builder.install(PageMut::over(&mut buf), PageId(3));
        Some(Page { buf })
    }

    /// How many of the page's bytes are in use, from 0 to 1.
    pub fn fill(&self) -> f64 {
        let used = Node::open(Plain(&self.buf), TREE).map_or(0, |node| node.used());
        used as f64 / layout::capacity(self.buf.len()) as f64
    }

    /// Entries of a leaf, children of an inner page.
    pub fn count(&self) -> usize {
        Node::open(Plain(&self.buf), TREE).map_or(0, |node| node.count())
    }

    /// The slot of `key` in a leaf, and its value's length.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<(usize, usize)> {
        let node = Node::open(Plain(&self.buf), TREE).ok()?;
        match node.find(key).ok()? {
            Place::At(index) => Some((index, node.value(index).ok()?.1.len())),
            Place::Before(_) => None,
        }
    }

    /// A page to be read as on the way down.
    pub fn inner_view(&mut self) -> InnerView<'_> {
        InnerView { page: PageMut::over(&mut self.buf) }
    }

    /// Puts `key`, which is not there, into a leaf. False: it doesn't fit.
    #[inline]
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Ok(node) = Node::open(Plain(&self.buf), TREE) else { return false };
        let (Ok(Place::Before(index)), prefix) = (node.find(key), node.prefix_len()) else { return false };
        let Some(suffix) = key.get(prefix..) else { return false };
        edit::insert(PageMut::over(&mut self.buf), TREE, index, suffix, Entry::Value(0, value)) == Ok(true)
    }

    /// Takes slot `index` of a leaf away. False: it is not there.
    pub fn remove(&mut self, index: usize) -> bool {
        edit::remove(PageMut::over(&mut self.buf), TREE, index..index + 1) == Ok(())
    }
}

/// An inner page, read word by word.
pub struct InnerView<'a> {
    page: &'a mut PageMut,
}

impl InnerView<'_> {
    /// The child in which `key` lies.
    #[inline]
    pub fn child(&self, key: &[u8]) -> Option<u64> {
        let node = Node::open(self.page.view(), TREE).ok()?;
        Some(node.child(node.child_at(key).ok()?).0)
    }
}
