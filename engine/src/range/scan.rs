//! The entries of a tree in a range of keys, from either end.
//!
//! Invariants:
//! 1. Between two calls a scan holds no latch and no page, only private copies of the leaves at its two ends, with the before-images
//!    that its snapshot sees in place of what they hold; whatever happens to the tree meanwhile, it goes on at the right key.
//! 2. What has been given out, from either end, narrows the bounds: no entry comes twice, and the ends never cross. While a scan goes
//!    one way that need not be noted for each entry, since what is still to be given out of a leaf was found when it was copied: it is
//!    noted before the next leaf, and when the scan turns.
//! 3. A key is put together in one buffer, and values that stand in leaves are lent from the copy of the leaf: an entry costs no
//!    allocation. What is owned is copied from there.
//! 4. An error is an item. After an error of a leaf the scan is at its end from that side; it never ends as if done.

use super::ahead::{ReadAhead, Towards};
use super::end::{End, Next};
use crate::btree::{Seek, Tree};
use crate::catalog::KeyspaceState;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::read::View;
use crate::value::Value;
use crate::value::cell;
use std::ops::{Bound, Range};
use std::sync::Arc;

/// An entry: key and value.
pub(crate) type Entry = (Vec<u8>, Value);

/// See the module.
pub(crate) struct Scan {
    /// Where to read; the error of finding that out is the only item.
    source: std::result::Result<(Arc<View<Database>>, Tree), Option<Error>>,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    front: End,
    back: End,
    /// What was read ahead of the front, and of the back.
    ahead: [ReadAhead; 2],
    /// LSN of the newest leaf read.
    newest: u64,
    /// Which way the scan went last. The bound there may not exclude `reached` yet.
    side: Side,
    /// The entry that was reached last.
    reached: Reached,
}

/// An end of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Front,
    Back,
}

/// An entry, by where it stands at the end from which it was reached.
enum Reached {
    /// None, or one that the bounds exclude already.
    Nothing,
    /// In the copy of the leaf: its key is the end's, its value stands here.
    Leaf(Range<usize>),
    /// This before-image.
    Before(usize),
    /// Its value stands elsewhere and was fetched; its key is the leaf's or this before-image's.
    Fetched(Option<usize>, Value),
}

impl Reached {
    #[inline]
    fn key<'a>(&self, end: &'a End) -> &'a [u8] {
        match self {
            Reached::Leaf(_) | Reached::Fetched(None, _) | Reached::Nothing => end.key.key(),
            Reached::Before(index) | Reached::Fetched(Some(index), _) => &end.before[*index].0,
        }
    }

    /// Its value, or the cell that says where that is.
    #[inline]
    fn value<'a>(&'a self, end: &'a End) -> &'a [u8] {
        match self {
            Reached::Leaf(value) => end.leaf.bytes_at(value),
            Reached::Before(index) => end.before[*index].1.as_ref().map_or(&[], |(_, bytes)| bytes),
            Reached::Fetched(_, value) => value,
            Reached::Nothing => &[],
        }
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("from", &self.from).field("to", &self.to).finish()
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
        let (front, back, ahead) = Default::default();
        Scan { source, from, to, front, back, ahead, newest: 0, side: Side::Front, reached: Reached::Nothing }
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

    /// Where to read; `None`: the error of that was told.
    fn source(&mut self) -> Result<Option<(Arc<View<Database>>, Tree)>> {
        match &mut self.source {
            Ok((view, tree)) => Ok(Some((view.clone(), *tree))),
            Err(error) => error.take().map_or(Ok(None), Err),
        }
    }

    /// The next entry from the front that lies in the range, as its owner's.
    pub(crate) fn step_forward(&mut self) -> Result<Option<Entry>> {
        Ok(if self.advance()? { Some(self.owned()) } else { None })
    }

    /// The next entry from the back that lies in the range, as its owner's.
    pub(crate) fn step_backward(&mut self) -> Result<Option<Entry>> {
        Ok(if self.retreat()? { Some(self.owned()) } else { None })
    }

    fn owned(&mut self) -> Entry {
        let key = self.key().to_vec();
        if let Reached::Fetched(_, value) = &mut self.reached {
            return (key, std::mem::replace(value, Value::copy_of(b"")));
        }
        (key, Value::copy_of(self.lent().1))
    }

    /// The entry that was reached last.
    #[inline]
    pub(super) fn lent(&self) -> (&[u8], &[u8]) {
        let end = self.end();
        (self.reached.key(end), self.reached.value(end))
    }

    /// The key of the entry that was reached last.
    fn key(&self) -> &[u8] {
        self.reached.key(self.end())
    }

    /// The end from which the scan went last.
    #[inline]
    fn end(&self) -> &End {
        if self.side == Side::Front { &self.front } else { &self.back }
    }

    /// Notes in the bounds what was given out last. Its leaf may go then.
    fn note_reached(&mut self) {
        if matches!(self.reached, Reached::Nothing) {
            return;
        }
        let end = if self.side == Side::Front { &mut self.from } else { &mut self.to };
        let mut bound = std::mem::replace(end, Bound::Unbounded);
        exclude(&mut bound, self.key());
        match self.side {
            Side::Front => self.from = bound,
            Side::Back => self.to = bound,
        }
        self.reached = Reached::Nothing;
    }

    /// Notes what was given out from the other side, before the scan goes on from this one.
    #[cold]
    fn turn_to(&mut self, side: Side) {
        self.note_reached();
        self.side = side;
        match side {
            Side::Front => self.front.narrow(&self.from, &self.to),
            Side::Back => self.back.narrow(&self.from, &self.to),
        }
    }

    /// Goes to the next entry from the front that lies in the range. False: there is none.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool> {
        if self.side != Side::Front {
            self.turn_to(Side::Front);
        }
        loop {
            match self.front.next_up() {
                Next::Leaf(index) => {
                    let (kind, value) = self.front.leaf.entry(index, &mut self.front.key);
                    self.reached = Reached::Leaf(value);
                    if kind != cell::INLINE {
                        self.fetch(kind)?;
                    }
                    return Ok(true);
                }
                Next::Before(index) => {
                    if self.reach_before(index)? {
                        return Ok(true);
                    }
                }
                Next::Exhausted => {
                    if !self.next_leaf()? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Goes to the next entry from the back that lies in the range. False: there is none.
    #[inline]
    pub(super) fn retreat(&mut self) -> Result<bool> {
        if self.side != Side::Back {
            self.turn_to(Side::Back);
        }
        loop {
            match self.back.next_down() {
                Next::Leaf(index) => {
                    let (kind, value) = self.back.leaf.entry(index, &mut self.back.key);
                    self.reached = Reached::Leaf(value);
                    if kind != cell::INLINE {
                        self.fetch(kind)?;
                    }
                    return Ok(true);
                }
                Next::Before(index) => {
                    if self.reach_before(index)? {
                        return Ok(true);
                    }
                }
                Next::Exhausted => {
                    if !self.previous_leaf()? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Reaches a before-image. False: the key was absent.
    #[cold]
    fn reach_before(&mut self, index: usize) -> Result<bool> {
        self.reached = Reached::Before(index);
        match self.end().before[index].1.as_ref().map(|(kind, _)| *kind) {
            None => return Ok(false),
            Some(cell::INLINE) => {}
            Some(kind) => self.fetch(kind)?,
        }
        Ok(true)
    }

    /// Fetches the value of the entry that was reached, whose cell says where it stands.
    #[cold]
    fn fetch(&mut self, kind: u8) -> Result<()> {
        let Ok((view, tree)) = &self.source else { return Ok(()) };
        let [ahead_of_front, ahead_of_back] = &mut self.ahead;
        let (end, ahead, towards) = match self.side {
            Side::Front => (&self.front, ahead_of_front, Towards::Up(&self.to)),
            Side::Back => (&self.back, ahead_of_back, Towards::Down(&self.from)),
        };
        let cell = self.reached.value(end);
        ahead.value_reached(view, *tree, end, (kind, cell), towards);
        let value = view.fetch(kind, cell, self.reached.key(end))?;
        let before = if let Reached::Before(index) = self.reached { Some(index) } else { None };
        self.reached = Reached::Fetched(before, value);
        Ok(())
    }

    /// Goes to the next leaf from the front. False: there is none.
    #[inline(never)]
    fn next_leaf(&mut self) -> Result<bool> {
        if self.front.done {
            return Ok(false);
        }
        let Some((view, tree)) = self.source()? else { return Ok(false) };
        self.note_reached();
        let towards = Towards::Up(&self.to);
        let seek_key = match (self.front.started, towards.behind(&self.front.leaf), &self.from) {
            (true, Some(behind), _) => Some(behind.to_vec()),
            (true, None, _) => {
                self.front.done = true;
                return Ok(false);
            }
            (false, _, Bound::Included(key) | Bound::Excluded(key)) => Some(key.clone()),
            (false, _, Bound::Unbounded) => None,
        };
        if !self.front.started {
            self.ahead[0].begin(&view, tree, seek_key.as_deref().unwrap_or_default(), towards);
        }
        let seek = seek_key.as_deref().map_or(Seek::First, Seek::AtOrAfter);
        let End { leaf, before, .. } = &mut self.front;
        let newest = view.leaf(tree, seek, leaf, before).inspect_err(|_| self.front.done = true)?;
        self.newest = self.newest.max(newest);
        self.front.begin(&self.from, &self.to);
        self.ahead[0].leaf_reached(&view, tree, &self.front.leaf, towards);
        Ok(true)
    }

    /// Goes to the next leaf from the back. False: there is none.
    #[inline(never)]
    fn previous_leaf(&mut self) -> Result<bool> {
        if self.back.done {
            return Ok(false);
        }
        let Some((view, tree)) = self.source()? else { return Ok(false) };
        self.note_reached();
        let towards = Towards::Down(&self.from);
        if let (false, Bound::Included(key) | Bound::Excluded(key)) = (self.back.started, &self.to) {
            self.ahead[1].begin(&view, tree, key, towards);
        }
        let behind = towards.behind(&self.back.leaf).map(<[u8]>::to_vec);
        let seek = match (self.back.started, &behind, &self.to) {
            (true, Some(behind), _) => Seek::Before(behind),
            (true, None, _) => {
                self.back.done = true;
                return Ok(false);
            }
            (false, _, Bound::Included(key)) => Seek::AtOrAfter(key),
            (false, _, Bound::Excluded(key)) => Seek::Before(key),
            (false, _, Bound::Unbounded) => Seek::Last,
        };
        let End { leaf, before, .. } = &mut self.back;
        let newest = view.leaf(tree, seek, leaf, before).inspect_err(|_| self.back.done = true)?;
        self.newest = self.newest.max(newest);
        self.back.begin(&self.from, &self.to);
        self.ahead[1].leaf_reached(&view, tree, &self.back.leaf, towards);
        Ok(true)
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        if let Ok((view, tree)) = &self.source {
            self.ahead.iter().for_each(|ahead| ahead.end(view, *tree));
        }
    }
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
