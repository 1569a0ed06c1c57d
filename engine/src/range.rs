//! Iterating over a range of keys, from either end, as of one moment.
//!
//! Invariants:
//! 1. Between two calls an iterator holds no latch and no page, only private copies of the leaves at its two ends, with the
//!    before-images that its snapshot sees in place of what they hold; whatever happens to the tree meanwhile, it goes on at the right
//!    key.
//! 2. What has been given out, from either end, narrows the bounds: no entry comes twice, and the ends never cross.
//! 3. An error is an item. After an error of a leaf the iterator is at its end from that side; it never ends as if done.

use crate::btree::{LeafCopy, Seek, Tree};
use crate::catalog::KeyspaceState;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::read::View;
use crate::value::Value;
use crate::value::fetch::Stored;
use crate::versions::Before;
use ashlar_bufferpool::PageId;
use std::ops::Bound;
use std::sync::Arc;

/// Leaves asked for ahead of a scan, at most.
const AHEAD_MAX: usize = 32;

/// An entry: key and value.
pub(crate) type Entry = (Vec<u8>, Value);

/// Entries of a keyspace in a range of keys; see [`Keyspace::range`](crate::Keyspace::range).
#[derive(Debug)]
pub struct Range {
    scan: Scan,
}

/// The entries of a tree in a range of keys, as a view sees them.
pub(crate) struct Scan {
    /// Where to read; the error of finding that out is the only item.
    source: std::result::Result<(Arc<View<Database>>, Tree), Option<Error>>,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    front: End,
    back: End,
    /// LSN of the newest leaf read.
    newest: u64,
}

/// One end of an iterator.
#[derive(Default)]
struct End {
    leaf: LeafCopy,
    /// Entries of `leaf` that are still to be given out, by index.
    left: std::ops::Range<usize>,
    /// Keys for which the leaf is not right, and what they held.
    before: Vec<Before>,
    /// Those of `before` that are still to be given out.
    before_left: std::ops::Range<usize>,
    started: bool,
    done: bool,
    /// Leaves read since the start: the longer a scan runs, the further ahead it reads.
    leaves: usize,
    /// Leaves that have been asked for and not yet been reached.
    asked: usize,
}

/// Which of an end's entries comes next.
enum Next {
    /// One of the leaf.
    Leaf(usize),
    /// A before-image.
    Before(usize),
    /// Nothing more in this leaf.
    Exhausted,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("from", &self.from).field("to", &self.to).finish()
    }
}

impl End {
    /// The next entry upwards. Where a key stands in both, the before-image counts.
    fn next_up(&mut self) -> Next {
        let Some(before) = self.before_left.clone().next() else {
            return self.left.next().map_or(Next::Exhausted, Next::Leaf);
        };
        let leaf = self.left.clone().next();
        match leaf.map(|index| self.leaf.key(index)[..].cmp(&self.before[before].0)) {
            Some(std::cmp::Ordering::Less) => self.left.next().map_or(Next::Exhausted, Next::Leaf),
            order => {
                if order == Some(std::cmp::Ordering::Equal) {
                    self.left.next();
                }
                self.before_left.next();
                Next::Before(before)
            }
        }
    }

    /// The next entry downwards.
    fn next_down(&mut self) -> Next {
        let Some(before) = self.before_left.clone().next_back() else {
            return self.left.next_back().map_or(Next::Exhausted, Next::Leaf);
        };
        let leaf = self.left.clone().next_back();
        match leaf.map(|index| self.leaf.key(index)[..].cmp(&self.before[before].0)) {
            Some(std::cmp::Ordering::Greater) => self.left.next_back().map_or(Next::Exhausted, Next::Leaf),
            order => {
                if order == Some(std::cmp::Ordering::Equal) {
                    self.left.next_back();
                }
                self.before_left.next_back();
                Next::Before(before)
            }
        }
    }
}

impl Scan {
    pub(crate) fn new(view: Arc<View<Database>>, tree: Tree, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Scan {
        Scan { source: Ok((view, tree)), from, to, front: End::default(), back: End::default(), newest: 0 }
    }

    fn failed(error: Error) -> Scan {
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        Scan { source: Err(Some(error)), from, to, front: End::default(), back: End::default(), newest: 0 }
    }

    /// LSN of the newest leaf read.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Where to read; `None`: the error of that was told.
    fn source(&mut self) -> Result<Option<(Arc<View<Database>>, Tree)>> {
        match &mut self.source {
            Ok((view, tree)) => Ok(Some((view.clone(), *tree))),
            Err(error) => error.take().map_or(Ok(None), Err),
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let above = match &self.from {
            Bound::Included(from) => key >= &from[..],
            Bound::Excluded(from) => key > &from[..],
            Bound::Unbounded => true,
        };
        above && self.below_end(key)
    }

    fn below_end(&self, key: &[u8]) -> bool {
        match &self.to {
            Bound::Included(to) => key <= &to[..],
            Bound::Excluded(to) => key < &to[..],
            Bound::Unbounded => true,
        }
    }

    fn above_start(&self, key: &[u8]) -> bool {
        match &self.from {
            Bound::Included(from) | Bound::Excluded(from) => key > &from[..],
            Bound::Unbounded => true,
        }
    }

    /// The next entry from the front that lies in the range.
    pub(crate) fn step_forward(&mut self) -> Result<Option<Entry>> {
        let Some((view, tree)) = self.source()? else { return Ok(None) };
        while !self.front.done {
            let next = self.front.next_up();
            let Some(key) = self.front.key(&next) else {
                self.next_leaf(&view, tree)?;
                continue;
            };
            if !self.contains(&key) {
                if !self.below_end(&key) {
                    self.front.done = true;
                }
                continue;
            }
            self.from = Bound::Excluded(key.clone());
            if let Some(value) = self.front.value(&view, &next, &key)? {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    fn next_leaf(&mut self, view: &View<Database>, tree: Tree) -> Result<()> {
        let seek_key = match (self.front.started, self.front.leaf.upper()) {
            (true, None) => {
                self.front.done = true;
                return Ok(());
            }
            (true, Some(upper)) if !self.below_end(upper) => {
                self.front.done = true;
                return Ok(());
            }
            (true, Some(upper)) => Some(upper.to_vec()),
            (false, _) => match &self.from {
                Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
                Bound::Unbounded => None,
            },
        };
        let seek = seek_key.as_deref().map_or(Seek::First, Seek::AtOrAfter);
        let End { leaf, before, .. } = &mut self.front;
        view.leaf(tree, seek, leaf, before).inspect_err(|_| self.front.done = true)?;
        self.newest = self.newest.max(self.front.leaf.lsn());
        let start = match &self.from {
            Bound::Included(key) | Bound::Excluded(key) => self.front.leaf.find(key).unwrap_or_else(|at| at),
            Bound::Unbounded => 0,
        };
        self.front.left = start..self.front.leaf.len();
        self.front.before_left = 0..self.front.before.len();
        self.front.started = true;
        read_ahead(view, tree, &mut self.front, seek_key.as_deref().unwrap_or_default(), true);
        Ok(())
    }

    /// The next entry from the back that lies in the range.
    pub(crate) fn step_backward(&mut self) -> Result<Option<Entry>> {
        let Some((view, tree)) = self.source()? else { return Ok(None) };
        while !self.back.done {
            let next = self.back.next_down();
            let Some(key) = self.back.key(&next) else {
                self.previous_leaf(&view, tree)?;
                continue;
            };
            if !self.contains(&key) {
                if !self.above_start(&key) {
                    self.back.done = true;
                }
                continue;
            }
            self.to = Bound::Excluded(key.clone());
            if let Some(value) = self.back.value(&view, &next, &key)? {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    fn previous_leaf(&mut self, view: &View<Database>, tree: Tree) -> Result<()> {
        let lower = self.back.leaf.lower().to_vec();
        if self.back.started && (lower.is_empty() || !self.above_start(&lower)) {
            self.back.done = true;
            return Ok(());
        }
        let seek = match (self.back.started, &self.to) {
            (true, _) => Seek::Before(&lower),
            (false, Bound::Included(key)) => Seek::AtOrAfter(key),
            (false, Bound::Excluded(key)) => Seek::Before(key),
            (false, Bound::Unbounded) => Seek::Last,
        };
        let End { leaf, before, .. } = &mut self.back;
        view.leaf(tree, seek, leaf, before).inspect_err(|_| self.back.done = true)?;
        self.newest = self.newest.max(self.back.leaf.lsn());
        let end = match &self.to {
            Bound::Included(key) => self.back.leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Excluded(key) => self.back.leaf.find(key).unwrap_or_else(|at| at),
            Bound::Unbounded => self.back.leaf.len(),
        };
        self.back.left = 0..end;
        self.back.before_left = 0..self.back.before.len();
        self.back.started = true;
        read_ahead(view, tree, &mut self.back, &lower, false);
        Ok(())
    }
}

impl End {
    /// The key of an entry; `None`: there is none left.
    fn key(&self, next: &Next) -> Option<Vec<u8>> {
        match next {
            Next::Leaf(index) => Some(self.leaf.key(*index)),
            Next::Before(index) => Some(self.before[*index].0.to_vec()),
            Next::Exhausted => None,
        }
    }

    /// The value of an entry; `None`: the key was absent.
    fn value(&self, view: &View<Database>, next: &Next, key: &[u8]) -> Result<Option<Value>> {
        let cell = match next {
            Next::Leaf(index) => Some(self.leaf.value(*index)),
            Next::Before(index) => self.before[*index].1.as_ref().map(|(kind, bytes)| (*kind, &**bytes)),
            Next::Exhausted => None,
        };
        cell.map(|(kind, bytes)| match Stored::copy(kind, bytes, Value::copy_of) {
            Stored::Inline(value) => Ok(value),
            Stored::Elsewhere { kind, bytes } => view.fetch(kind, &bytes, key),
        })
        .transpose()
    }
}

/// Asks for the leaves that come next: none for a short scan, more the longer it runs.
fn read_ahead(view: &View<Database>, tree: Tree, end: &mut End, key: &[u8], forward: bool) {
    end.leaves += 1;
    end.asked = end.asked.saturating_sub(1);
    let depth = (end.leaves.saturating_sub(1) * 2).min(AHEAD_MAX);
    let pool = view.pool();
    if depth == 0 || end.asked > depth / 2 || !pool.may_miss() {
        return;
    }
    let mut pages: Vec<PageId> = Vec::new();
    let listed = match forward {
        true => tree.children_from(pool, key, depth + 1, &mut pages),
        false => tree.children_before(pool, key, depth + 1, &mut pages),
    };
    if listed.is_ok() && pages.len() > 1 {
        pool.prefetch(&pages[1..]);
        end.asked = pages.len() - 1;
    }
}

impl Range {
    /// What `keyspace` holds between the bounds, as `view` sees it.
    pub(crate) fn new(
        view: Result<Arc<View<Database>>>,
        keyspace: &KeyspaceState,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> Range {
        let source = view.and_then(|view| {
            let tree = view.tree(keyspace)?;
            Ok((view, tree))
        });
        match source {
            Ok((view, tree)) => Range { scan: Scan::new(view, tree, from, to) },
            Err(error) => Range { scan: Scan::failed(error) },
        }
    }
}

impl Iterator for Range {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.scan.step_forward().transpose()
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.scan.step_backward().transpose()
    }
}

impl std::iter::FusedIterator for Range {}

/// The bounds of the keys that begin with `prefix`.
pub(crate) fn of_prefix(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(prefix.to_vec()), end)
}

/// The smallest key above all that begin with `prefix`, if there is one.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&b| b != 0xFF)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_of_its_length_or_shorter() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xFF\xFF"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xFF"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
