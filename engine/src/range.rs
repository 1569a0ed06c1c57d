//! Iterating over a range of keys, from either end, as of one moment.
//!
//! Invariants:
//! 1. Between two calls an iterator holds no latch and no page, only private copies of the leaves at its two ends, with the
//!    before-images that its snapshot sees in place of what they hold; whatever happens to the tree meanwhile, it goes on at the right
//!    key.
//! 2. What has been given out, from either end, narrows the bounds: no entry comes twice, and the ends never cross. While a scan goes
//!    one way that need not be noted for each entry, since what is still to be given out of a leaf was found when it was copied: it is
//!    noted before the next leaf, and when the scan turns.
//! 3. Keys are copied into one buffer, and values that stand in leaves are lent from the copy of the leaf: a cursor allocates nothing
//!    for an entry. Iterators of owned entries stand on it.
//! 4. An error is an item. After an error of a leaf the iterator is at its end from that side; it never ends as if done.

use crate::btree::{LeafCopy, Seek, Tree};
use crate::catalog::KeyspaceState;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::read::View;
use crate::value::Value;
use crate::value::cell;
use crate::versions::Before;
use ashlar_bufferpool::PageId;
use std::ops::Bound;
use std::sync::Arc;

/// Leaves asked for ahead of a scan, at most.
const AHEAD_MAX: usize = 64;

/// An entry: key and value.
pub(crate) type Entry = (Vec<u8>, Value);

/// Entries of a keyspace in a range of keys; see [`Keyspace::range`](crate::Keyspace::range).
#[derive(Debug)]
pub struct Range {
    scan: Scan,
}

/// A place in a range of keys that moves from entry to entry, from either end, and lends them; see
/// [`Keyspace::cursor`](crate::Keyspace::cursor).
#[derive(Debug)]
pub struct Cursor {
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
    /// The key of the entry that was reached last.
    key: Vec<u8>,
    /// From which end it was reached. The bound there may not exclude it yet.
    reached: Option<Side>,
    /// Where its value is.
    value: Lent,
}

/// An end of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Front,
    Back,
}

/// Where the value of an entry is.
enum Lent {
    /// In the copy of the leaf at the front, or among the before-images there.
    Front(Next),
    /// Likewise at the back.
    Back(Next),
    /// It stands elsewhere and was fetched.
    Fetched(Value),
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
#[derive(Clone, Copy)]
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
        Scan::over(Ok((view, tree)), from, to)
    }

    fn over(
        source: std::result::Result<(Arc<View<Database>>, Tree), Option<Error>>,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> Scan {
        let (front, back, key) = Default::default();
        Scan { source, from, to, front, back, newest: 0, key, reached: None, value: Lent::Front(Next::Exhausted) }
    }

    /// What `keyspace` holds between the bounds, as `view` sees it.
    pub(crate) fn of(
        view: Result<Arc<View<Database>>>,
        keyspace: &KeyspaceState,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> Scan {
        let source = view.and_then(|view| {
            let tree = view.tree(keyspace)?;
            Ok((view, tree))
        });
        Scan::over(source.map_err(Some), from, to)
    }

    /// LSN of the newest leaf read.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether there is somewhere to read; false: the error of that was told.
    fn has_source(&mut self) -> Result<bool> {
        match &mut self.source {
            Ok(_) => Ok(true),
            Err(error) => error.take().map_or(Ok(false), Err),
        }
    }

    /// Where to read, in a scan that has it.
    fn source(&self) -> Option<(Arc<View<Database>>, Tree)> {
        self.source.as_ref().ok().map(|(view, tree)| (view.clone(), *tree))
    }

    /// Notes in the bounds what was given out last.
    fn note_reached(&mut self) {
        match self.reached {
            Some(Side::Front) => exclude(&mut self.from, &self.key),
            Some(Side::Back) => exclude(&mut self.to, &self.key),
            None => {}
        }
    }

    /// Notes what was given out from the other side, before the scan goes on from this one.
    fn turn_to(&mut self, side: Side) {
        if self.reached.is_none_or(|reached| reached == side) {
            return;
        }
        self.note_reached();
        self.reached = None;
        match side {
            Side::Front => self.front.narrow(&self.from, &self.to),
            Side::Back => self.back.narrow(&self.from, &self.to),
        }
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

    /// The next entry from the front that lies in the range, as its owner's.
    pub(crate) fn step_forward(&mut self) -> Result<Option<Entry>> {
        Ok(self.advance()?.then(|| self.owned()))
    }

    /// The next entry from the back that lies in the range, as its owner's.
    pub(crate) fn step_backward(&mut self) -> Result<Option<Entry>> {
        Ok(self.retreat()?.then(|| self.owned()))
    }

    fn owned(&mut self) -> Entry {
        let key = self.key.clone();
        match std::mem::replace(&mut self.value, Lent::Front(Next::Exhausted)) {
            Lent::Fetched(value) => (key, value),
            lent => {
                self.value = lent;
                (key, Value::copy_of(self.lent().1))
            }
        }
    }

    /// The entry that was reached last.
    fn lent(&self) -> (&[u8], &[u8]) {
        let value = match &self.value {
            Lent::Front(next) => self.front.cell(*next).map(|(_, bytes)| bytes),
            Lent::Back(next) => self.back.cell(*next).map(|(_, bytes)| bytes),
            Lent::Fetched(value) => Some(&**value),
        };
        (&self.key, value.unwrap_or_default())
    }

    /// Goes to the next entry from the front that lies in the range. False: there is none.
    fn advance(&mut self) -> Result<bool> {
        if !self.has_source()? {
            return Ok(false);
        }
        self.turn_to(Side::Front);
        while !self.front.done {
            let next = self.front.next_up();
            if !self.front.key_into(next, &mut self.key) {
                self.next_leaf()?;
                continue;
            }
            self.reached = Some(Side::Front);
            let value = match self.front.cell(next) {
                // The key was absent.
                None => continue,
                Some((cell::INLINE, _)) => Lent::Front(next),
                Some((kind, bytes)) => {
                    let Ok((view, _)) = &self.source else { return Ok(false) };
                    Lent::Fetched(view.fetch(kind, bytes, &self.key)?)
                }
            };
            self.value = value;
            return Ok(true);
        }
        Ok(false)
    }

    fn next_leaf(&mut self) -> Result<()> {
        let Some((view, tree)) = self.source() else { return Ok(()) };
        self.note_reached();
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
        self.front.begin(&self.from, &self.to);
        read_ahead(&view, tree, &mut self.front, seek_key.as_deref().unwrap_or_default(), true);
        Ok(())
    }

    /// Goes to the next entry from the back that lies in the range. False: there is none.
    fn retreat(&mut self) -> Result<bool> {
        if !self.has_source()? {
            return Ok(false);
        }
        self.turn_to(Side::Back);
        while !self.back.done {
            let next = self.back.next_down();
            if !self.back.key_into(next, &mut self.key) {
                self.previous_leaf()?;
                continue;
            }
            self.reached = Some(Side::Back);
            let value = match self.back.cell(next) {
                None => continue,
                Some((cell::INLINE, _)) => Lent::Back(next),
                Some((kind, bytes)) => {
                    let Ok((view, _)) = &self.source else { return Ok(false) };
                    Lent::Fetched(view.fetch(kind, bytes, &self.key)?)
                }
            };
            self.value = value;
            return Ok(true);
        }
        Ok(false)
    }

    fn previous_leaf(&mut self) -> Result<()> {
        let Some((view, tree)) = self.source() else { return Ok(()) };
        self.note_reached();
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
        self.back.begin(&self.from, &self.to);
        read_ahead(&view, tree, &mut self.back, &lower, false);
        Ok(())
    }
}

impl End {
    /// A leaf has been copied: what lies between the bounds is still to be given out.
    fn begin(&mut self, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) {
        self.left = 0..self.leaf.len();
        self.before_left = 0..self.before.len();
        self.started = true;
        self.narrow(from, to);
    }

    /// Leaves out what does not lie between the bounds.
    fn narrow(&mut self, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) {
        let start = match from {
            Bound::Included(key) => self.leaf.find(key).unwrap_or_else(|at| at),
            Bound::Excluded(key) => self.leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Unbounded => 0,
        };
        let end = match to {
            Bound::Included(key) => self.leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Excluded(key) => self.leaf.find(key).unwrap_or_else(|at| at),
            Bound::Unbounded => self.leaf.len(),
        };
        self.left = within(&self.left, start, end);
        let start = match from {
            Bound::Included(from) => self.before.partition_point(|(key, _)| **key < **from),
            Bound::Excluded(from) => self.before.partition_point(|(key, _)| **key <= **from),
            Bound::Unbounded => 0,
        };
        let end = match to {
            Bound::Included(to) => self.before.partition_point(|(key, _)| **key <= **to),
            Bound::Excluded(to) => self.before.partition_point(|(key, _)| **key < **to),
            Bound::Unbounded => self.before.len(),
        };
        self.before_left = within(&self.before_left, start, end);
    }

    /// Puts the key of an entry in place of what `key` holds. False: there is none left.
    fn key_into(&self, next: Next, key: &mut Vec<u8>) -> bool {
        match next {
            Next::Leaf(index) => self.leaf.key_into(index, key),
            Next::Before(index) => {
                key.clear();
                key.extend_from_slice(&self.before[index].0);
            }
            Next::Exhausted => return false,
        }
        true
    }

    /// Kind and bytes of the value of an entry; `None`: the key was absent.
    fn cell(&self, next: Next) -> Option<(u8, &[u8])> {
        match next {
            Next::Leaf(index) => Some(self.leaf.value(index)),
            Next::Before(index) => self.before[index].1.as_ref().map(|(kind, bytes)| (*kind, &**bytes)),
            Next::Exhausted => None,
        }
    }
}

/// What of `left` lies in `start..end`.
fn within(left: &std::ops::Range<usize>, start: usize, end: usize) -> std::ops::Range<usize> {
    let (start, end) = (left.start.max(start), left.end.min(end));
    start..end.max(start)
}

/// Makes `key` the excluded end, in the memory of the end before.
fn exclude(bound: &mut Bound<Vec<u8>>, key: &[u8]) {
    let mut memory = match std::mem::replace(bound, Bound::Unbounded) {
        Bound::Included(memory) | Bound::Excluded(memory) => memory,
        Bound::Unbounded => Vec::new(),
    };
    memory.clear();
    memory.extend_from_slice(key);
    *bound = Bound::Excluded(memory);
}

/// Asks for the leaves that come next: none for a short scan, more the longer it runs.
fn read_ahead(view: &View<Database>, tree: Tree, end: &mut End, key: &[u8], forward: bool) {
    end.leaves += 1;
    end.asked = end.asked.saturating_sub(1);
    let depth = (end.leaves.saturating_sub(1) * 2).min(AHEAD_MAX);
    let pool = view.pool();
    if depth == 0 || end.asked > depth / 4 * 3 || !pool.may_miss() {
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
    pub(crate) fn new(scan: Scan) -> Range {
        Range { scan }
    }
}

impl Cursor {
    pub(crate) fn new(scan: Scan) -> Cursor {
        Cursor { scan }
    }

    /// Goes to the next entry from the front, and lends its key and value. `None`: there is none left.
    ///
    /// # Errors
    /// As [`Range`]'s items.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        Ok(self.scan.advance()?.then(|| self.scan.lent()))
    }

    /// Goes to the next entry from the back, and lends its key and value. `None`: there is none left.
    ///
    /// # Errors
    /// As [`Range`]'s items.
    pub fn next_back(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        Ok(self.scan.retreat()?.then(|| self.scan.lent()))
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
