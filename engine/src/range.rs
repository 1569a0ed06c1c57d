//! Iterating over a range of keys, from either end.
//!
//! Invariants:
//! 1. Between two calls an iterator holds no latch and no page, only private copies of the leaves at its two ends; whatever
//!    happens to the tree meanwhile, it goes on at the right key.
//! 2. What has been given out, from either end, narrows the bounds: no entry comes twice, and the ends never cross.
//! 3. An error is an item. After an error of a leaf the iterator is at its end from that side; it never ends as if done.

use crate::btree::{LeafCopy, Seek};
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::pages;
use crate::value::Value;
use crate::value::fetch::{self, Fetched, Stored};
use ashlar_bufferpool::PageId;
use std::ops::Bound;

/// Leaves asked for ahead of a scan, at most.
const AHEAD_MAX: usize = 32;

/// Entries of a keyspace in a range of keys; see [`Keyspace::range`].
pub struct Range {
    keyspace: Keyspace,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    front: End,
    back: End,
}

/// One end of an iterator.
#[derive(Default)]
struct End {
    leaf: LeafCopy,
    /// Entries of `leaf` that are still to be given out, by index.
    left: std::ops::Range<usize>,
    started: bool,
    done: bool,
    /// Leaves read since the start: the longer a scan runs, the further ahead it reads.
    leaves: usize,
    /// Leaves that have been asked for and not yet been reached.
    asked: usize,
}

impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Range").field("keyspace", &self.keyspace.name()).field("from", &self.from).field("to", &self.to).finish()
    }
}

impl Range {
    pub(crate) fn new(keyspace: Keyspace, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Range {
        Range { keyspace, from, to, front: End::default(), back: End::default() }
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
    fn step_forward(&mut self) -> Result<Option<(Vec<u8>, Value)>> {
        while !self.front.done {
            if let Some(index) = self.front.left.next() {
                let key = self.front.leaf.key(index);
                if !self.contains(&key) {
                    if !self.below_end(&key) {
                        self.front.done = true;
                    }
                    continue;
                }
                let value = self.value(&self.front.leaf, index, &key)?;
                self.from = Bound::Excluded(key.clone());
                match value {
                    Some(value) => return Ok(Some((key, value))),
                    None => continue,
                }
            }
            self.next_leaf()?;
        }
        Ok(None)
    }

    fn next_leaf(&mut self) -> Result<()> {
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
        read_leaf(&self.keyspace, seek, &mut self.front.leaf).inspect_err(|_| self.front.done = true)?;
        let leaf = &self.front.leaf;
        let start = match &self.from {
            Bound::Included(key) | Bound::Excluded(key) => leaf.find(key).unwrap_or_else(|at| at),
            Bound::Unbounded => 0,
        };
        self.front.left = start..leaf.len();
        self.front.started = true;
        self.read_ahead(seek_key.as_deref().unwrap_or_default(), true);
        Ok(())
    }

    /// The next entry from the back that lies in the range.
    fn step_backward(&mut self) -> Result<Option<(Vec<u8>, Value)>> {
        while !self.back.done {
            if let Some(index) = self.back.left.next_back() {
                let key = self.back.leaf.key(index);
                if !self.contains(&key) {
                    if !self.above_start(&key) {
                        self.back.done = true;
                    }
                    continue;
                }
                let value = self.value(&self.back.leaf, index, &key)?;
                self.to = Bound::Excluded(key.clone());
                match value {
                    Some(value) => return Ok(Some((key, value))),
                    None => continue,
                }
            }
            self.previous_leaf()?;
        }
        Ok(None)
    }

    fn previous_leaf(&mut self) -> Result<()> {
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
        read_leaf(&self.keyspace, seek, &mut self.back.leaf).inspect_err(|_| self.back.done = true)?;
        let leaf = &self.back.leaf;
        let end = match &self.to {
            Bound::Included(key) => leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Excluded(key) => leaf.find(key).unwrap_or_else(|at| at),
            Bound::Unbounded => leaf.len(),
        };
        self.back.left = 0..end;
        self.back.started = true;
        self.read_ahead(&lower, false);
        Ok(())
    }

    /// The value of an entry of a leaf's copy. One that stands elsewhere may have been replaced since the copy was made: what the
    /// key holds now is given then, or nothing if it was removed.
    fn value(&self, leaf: &LeafCopy, index: usize, key: &[u8]) -> Result<Option<Value>> {
        let (kind, bytes) = leaf.value(index);
        match Stored::copy(kind, bytes, Value::copy_of) {
            Stored::Inline(value) => Ok(Some(value)),
            Stored::Elsewhere { kind, bytes } => {
                let still_named = || self.keyspace.names_still(key, kind, &bytes);
                match fetch::fetch(self.keyspace.shared(), kind, &bytes, still_named)? {
                    Fetched::Value(value) => Ok(Some(value)),
                    Fetched::Gone => self.keyspace.get(key),
                }
            }
        }
    }

    /// Asks for the leaves that come next: none for a short scan, more the longer it runs.
    fn read_ahead(&mut self, key: &[u8], forward: bool) {
        let end = if forward { &mut self.front } else { &mut self.back };
        end.leaves += 1;
        end.asked = end.asked.saturating_sub(1);
        let depth = (end.leaves.saturating_sub(1) * 2).min(AHEAD_MAX);
        let pool = &self.keyspace.shared().pool;
        if depth == 0 || end.asked > depth / 2 || !pool.may_miss() {
            return;
        }
        let Ok(tree) = self.keyspace.state().tree() else { return };
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
}

/// Copies the leaf where a seek lands, once what it holds may be seen.
fn read_leaf(keyspace: &Keyspace, seek: Seek<'_>, copy: &mut LeafCopy) -> Result<()> {
    let shared = keyspace.shared();
    shared.owner.check()?;
    loop {
        let (tree, since) = keyspace.state().tree_since()?;
        if since > shared.visible.watermark() {
            shared.wait_visible(since)?;
            continue;
        }
        match pages::read_leaf(&shared.pool, tree, seek, copy) {
            Ok(()) if copy.lsn() > shared.visible.watermark() => shared.wait_visible(copy.lsn())?,
            Ok(()) => return Ok(()),
            Err(Error::Corrupt(_)) if keyspace.state().tree()?.id != tree.id => {}
            Err(e) => return Err(e),
        }
    }
}

impl Iterator for Range {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step_forward().transpose()
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step_backward().transpose()
    }
}

impl std::iter::FusedIterator for Range {}
