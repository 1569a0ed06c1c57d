//! The B+tree: pages as sorted nodes.
//!
//! ```text
//!   level 2                [ ·  m ]                    an inner page: separators and children; the root keeps its id for life
//!                         /       \
//!   level 1       [ ·  d  h ]    [ ·  t ]
//!                 /   |   \       /    \
//!   level 0     a–c  d–g  h–l   m–s    t–z             leaves: keys and values, no pointers to their neighbours
//! ```
//!
//! 1. Every page has two *fences*: its keys are not below the lower and are below the upper one. A child's fences are the
//!    separators beside it in its parent, or the parent's own.
//! 2. One writer at a time: whoever changes a tree holds the engine's apply lock, so that it may read pages, decide, and find
//!    them as they were. Readers come and go at any time and meet the writer through page latches only.
//! 3. What the tree looks like changes in *steps* of one parent and two of its children at most, or of one parent, one of its
//!    children and new ones behind that. All pages of a step are latched exclusively, parent before child and left before right, before the first of them changes, and until all have. So
//!    a reader meets the tree before or after a step, never within one; and a tree whose writer stopped between two steps,
//!    for whatever error, is whole.
//! 4. Nobody waits for the disk or for frames with a latch held: a page that is missing is loaded with nothing latched and
//!    held until the step that needs it has been made, and a step's frames are reserved before it begins.
//!
//! Nothing here knows of transactions, snapshots or the log. A value is a kind and bytes; what the kinds mean is for others.
//!
//! Reading order: `layout` (the bytes of a page), `node` and `search` (reading one), `edit`, `build` and `divide` (changing
//! and making one), `read` and `cursor` (from the root to a leaf), `write` (a writer's tools), `apply`, `split`, `append`, `join`,
//! `root`, `remove` (the steps of a change), `ahead`, `touch`, `check`, `image`, `bulk`.

mod access;
mod ahead;
mod append;
mod apply;
mod build;
mod bulk;
mod check;
#[cfg(test)]
mod crowd_tests;
mod cursor;
mod divide;
mod edit;
mod error;
mod hints;
mod image;
mod join;
mod key_buf;
mod layout;
mod leaves;
mod node;
mod read;
mod remove;
mod root;
mod search;
mod split;
#[cfg(test)]
mod testing;
mod touch;
#[cfg(test)]
mod tree_tests;
mod upcoming;
mod write;

pub(crate) use ahead::Ahead;
pub use bulk::{Built, Bulk, BulkError, BulkOptions, PageSink, PoolSink};
pub use check::Finding;
pub use cursor::LeafCopy;
pub use error::{Corrupt, Stop, TreeError};
pub(crate) use image::LonePage;
pub use key_buf::KeyBuf;
pub use layout::{Limits, limits};
pub use touch::Picked;
pub use upcoming::Upcoming;

use ashlar_bufferpool::{PageId, PageView, WriteOrder};

/// The identity of a tree; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TreeId(pub u64);

/// A tree: where it begins. Its pages are in the pool that each function is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tree {
    /// Its identity, which each of its pages carries.
    pub id: TreeId,
    /// The page at its top, for as long as it lives.
    pub root: PageId,
    /// The most slots a page may have, at least 4; 0: as many as fit. With few, small trees are deep: for tests.
    pub slots_max: u16,
}

/// Where to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek<'k> {
    /// The leaf in which this key would stand.
    AtOrAfter(&'k [u8]),
    /// The leaf in which the keys right below this one would stand; for the empty key, the first.
    Before(&'k [u8]),
    /// The first leaf.
    First,
    /// The last leaf.
    Last,
}

/// What a look-up has found, under its leaf's latch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The leaf.
    pub page: PageId,
    /// LSN of the newest commit that changed the leaf.
    pub lsn: u64,
    /// Kind and bytes of the key's value, if the leaf holds the key.
    pub value: Option<(u8, &'a [u8])>,
}

/// A change of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeOp<'a> {
    /// The key, at most [`Limits::key_max`] long.
    pub key: &'a [u8],
    /// What becomes of it.
    pub change: Change<'a>,
}

/// The LSNs of the commits that changes belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lsns<'a> {
    /// All to one.
    All(u64),
    /// Each to its own: as many as there are changes.
    Each(&'a [u64]),
}

impl<'a> Lsns<'a> {
    /// That of change `index`.
    pub fn of(self, index: usize) -> u64 {
        match self {
            Lsns::All(lsn) => lsn,
            Lsns::Each(lsns) => lsns[index],
        }
    }

    /// Those of these changes.
    pub fn within(self, indices: std::ops::Range<usize>) -> Lsns<'a> {
        match self {
            Lsns::All(lsn) => Lsns::All(lsn),
            Lsns::Each(lsns) => Lsns::Each(&lsns[indices]),
        }
    }

    /// Those of the changes from `index` on.
    pub fn starting_at(self, index: usize) -> Lsns<'a> {
        match self {
            Lsns::All(lsn) => Lsns::All(lsn),
            Lsns::Each(lsns) => Lsns::Each(&lsns[index..]),
        }
    }
}

/// What becomes of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// It holds this value, whatever it held before.
    Put {
        /// The kind of the value, opaque here.
        kind: u8,
        /// At most [`Limits::inline_value_max`] bytes.
        bytes: &'a [u8],
    },
    /// It holds none, whether or not it held one before.
    Delete,
}

/// Who is told, under the exclusive latches of the pages concerned, what a writer does. Functions must be short, must not wait,
/// and must not use the pool.
///
/// A closure `FnMut(&[u8], Option<(u8, &[u8])>)` is an observer of [`Observer::replaced`] alone.
pub trait Observer {
    /// What belongs in leaf `page` may change next.
    fn upcoming(&mut self, page: PageId) {
        let _ = page;
    }

    /// `key`, which stands or would stand in leaf `page`, held `old`, and now changes. Told once for each key of a commit.
    fn replaced(&mut self, page: PageId, key: &[u8], old: Option<(u8, &[u8])>);

    /// All keys from `lower` on and below `upper` (`None`: all above) now belong to leaf `target` and no longer to `source`,
    /// whether they are there or not.
    fn moved(&mut self, source: PageId, target: PageId, lower: &[u8], upper: Option<&[u8]>) {
        let _ = (source, target, lower, upper);
    }

    /// Whether leaf `page` may be freed, its keys having moved to another leaf.
    fn may_free(&mut self, page: PageId) -> bool {
        let _ = page;
        true
    }

    /// The leaf in which `key` lies would have been joined with a neighbour but for [`Observer::may_free`]: try
    /// [`Tree::settle`] later.
    fn left_sparse(&mut self, key: &[u8]) {
        let _ = key;
    }
}

impl<F: FnMut(&[u8], Option<(u8, &[u8])>) + ?Sized> Observer for F {
    fn replaced(&mut self, _page: PageId, key: &[u8], old: Option<(u8, &[u8])>) {
        self(key, old);
    }
}

/// A sort key for writing pages side by side that will be read side by side: pages of a tree in the order of their keys, leaves
/// before the pages above them. The view may be torn: a wrong answer costs a worse place.
pub fn write_order(page: PageView<'_>) -> WriteOrder {
    let mut fence = [0; 15];
    let len = usize::from(page.u16(layout::LOWER_LEN_AT));
    let shown = len.min(fence.len());
    // Past the page's end nothing is copied, and the fence is taken as empty.
    let _copied = page.copy_to(page.len().saturating_sub(len), &mut fence[..shown]);
    let mut key = [0; 16];
    key[0] = page.u8(layout::LEVEL_AT);
    key[1..].copy_from_slice(&fence);
    (page.u64(layout::TREE_ID_AT), u128::from_be_bytes(key))
}
