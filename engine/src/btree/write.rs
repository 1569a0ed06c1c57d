//! A writer's tools: its frames, its holds, its way down; and the loop around each step.
//!
//! A *step* is a function that latches what it needs, or finds a page missing and changes nothing. [`Writer::run`] loads what
//! is missing, with nothing latched, and lets the step start over while it holds that page; so each start over needs one
//! missing page less.

use super::access::Plain;
use super::divide::Drafts;
use super::error::{Corrupt, Stop, TreeError};
use super::node::{Fault, Node};
use super::read::{child_miss, root_miss};
use super::{Seek, Tree};
use ashlar_bufferpool::{ExclusiveGuard, Hold, LoadError, PageId, PageStore, Pool, Reservation, SharedGuard};
use smallvec::SmallVec;
use std::cell::Cell;

/// Frames that one step takes at most: copies of a parent and two children whose frames are frozen, and one new page.
const FRAMES: usize = 4;

/// Inner pages of a path that takes no memory of its own.
const PATH: usize = 6;

/// Frames that are reserved for loading at once.
const FRAMES_MORE: usize = 4;

thread_local! {
    /// The memory in which this thread last divided pages: a commit that divides one has a writer of its own.
    static DRAFTS: Cell<Option<Box<Drafts>>> = const { Cell::new(None) };
}

/// An inner page on the way down, and the slot taken there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bend {
    pub(super) page: PageId,
    pub(super) index: usize,
}

/// Two neighbours under one parent.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) parent: PageId,
    /// The left one's slot.
    pub(super) index: usize,
    pub(super) left: PageId,
    pub(super) right: PageId,
}

/// Which neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

/// Whoever changes a tree.
pub(super) struct Writer<'a, S: PageStore> {
    pub(super) tree: &'a Tree,
    pub(super) pool: &'a Pool<S>,
    frames: Option<Reservation<'a, S>>,
    holds: Vec<Hold<'a, S>>,
    /// The inner pages from the root to above the leaf where the last descent ended.
    pub(super) path: SmallVec<[Bend; PATH]>,
}

impl<'a, S: PageStore> Writer<'a, S> {
    pub(super) fn new(tree: &'a Tree, pool: &'a Pool<S>) -> Writer<'a, S> {
        Writer { tree, pool, frames: None, holds: Vec::new(), path: SmallVec::new() }
    }

    /// Makes one step, loading what it needs.
    pub(super) fn run<T>(&mut self, mut step: impl FnMut(&mut Self) -> Result<T, Stop>) -> Result<T, TreeError<S::Error>> {
        self.reserve()?;
        let done = loop {
            match step(self) {
                Ok(done) => break Ok(done),
                Err(Stop::Corrupt(corrupt)) => break Err(TreeError::Corrupt(corrupt)),
                Err(Stop::Missing(page)) => self.load(page)?,
            }
            if self.frames_left() < FRAMES {
                // A page was copied before another was found missing. It will not be copied again.
                self.reserve()?;
            }
        };
        self.holds.clear();
        done
    }

    /// Loads a page for a step to start over with, into a reserved frame: nobody waits for a frame while holding a page that
    /// somebody else may be waiting for the frame of. Nothing is latched.
    fn load(&mut self, page: PageId) -> Result<(), TreeError<S::Error>> {
        if self.frames_left() <= FRAMES {
            let least = FRAMES + self.holds.len() + 1;
            self.reserve_frames((least + FRAMES_MORE).min(self.pool.reservation_max()).max(least))?;
        }
        let frames = self.frames.as_mut().expect("`run` reserves before each step");
        match self.pool.load_from(page, frames) {
            Ok(hold) => self.holds.push(hold),
            Err(LoadError::NotAllocated(page)) => {
                return Err(Corrupt { page, what: "a page of the tree is not allocated" }.into());
            }
            Err(error) => return Err(TreeError::Load(error)),
        }
        Ok(())
    }

    /// Sees to it that a step finds its frames. Nothing is held while it waits for them.
    fn reserve(&mut self) -> Result<(), TreeError<S::Error>> {
        self.reserve_frames(FRAMES)
    }

    pub(super) fn reserve_frames(&mut self, n: usize) -> Result<(), TreeError<S::Error>> {
        self.holds.clear();
        match &mut self.frames {
            Some(frames) => self.pool.refill(frames, n)?,
            None => self.frames = Some(self.pool.reserve(n)?),
        }
        Ok(())
    }

    /// Keeps no frames that others may be waiting for: before a wait that is not a step.
    pub(super) fn give_back_frames(&mut self) {
        self.frames = None;
    }

    pub(super) fn frames_left(&self) -> usize {
        self.frames.as_ref().map_or(0, Reservation::len)
    }

    /// Goes down to the leaf where the seek lands, and notes the path. Only a writer may: it knows that no page changes.
    pub(super) fn descend(&mut self, seek: Seek<'_>) -> Result<PageId, Stop> {
        self.path.clear();
        let (mut page, mut level) = (self.tree.root, None);
        loop {
            let node = self.pool.optimistic(page).map_err(if level.is_none() { root_miss } else { child_miss })?;
            let turn = self.tree.turn(node.view(), page, seek, level);
            if !node.validate() {
                // The page was evicted or has come back meanwhile.
                continue;
            }
            let turn = turn.map_err(|what| Corrupt { page, what })?;
            if turn.level == 0 {
                return Ok(page);
            }
            self.path.push(Bend { page, index: turn.index });
            if turn.level == 1 {
                return Ok(turn.child);
            }
            (page, level) = (turn.child, Some(turn.level - 1));
        }
    }

    pub(super) fn shared(&self, page: PageId) -> Result<SharedGuard<'a>, Stop> {
        self.pool.shared(page).map_err(child_miss)
    }

    pub(super) fn exclusive(&mut self, page: PageId) -> Result<ExclusiveGuard<'a, S>, Stop> {
        let frames = self.frames.as_mut().expect("`run` reserves before each step");
        self.pool.exclusive(page, frames).map_err(child_miss)
    }

    pub(super) fn create(&mut self) -> ExclusiveGuard<'a, S> {
        let frames = self.frames.as_mut().expect("`run` reserves before each step");
        self.pool.create(frames)
    }

    /// The page in `bytes`, which has been latched, as a node.
    pub(super) fn open<'b>(&self, page: PageId, bytes: &'b [u8]) -> Result<Node<Plain<'b>>, Stop> {
        Node::open(Plain(bytes), self.tree.id).map_err(|what| corrupt(page, what))
    }

    /// `page`, the child at `bend`, with its neighbour on one side, if it has one.
    pub(super) fn pair(&self, bend: Bend, page: PageId, side: Side) -> Result<Option<Pair>, Stop> {
        let Bend { page: parent, index } = bend;
        let guard = self.shared(parent)?;
        let node = self.open(parent, guard.bytes())?;
        if node.is_leaf() || index >= node.count() || node.child(index) != page {
            return Err(corrupt(parent, "the page's children are not those found on the way down"));
        }
        let left = match side {
            Side::Left => index.checked_sub(1),
            Side::Right => Some(index).filter(|index| index + 1 < node.count()),
        };
        Ok(left.map(|index| Pair { parent, index, left: node.child(index), right: node.child(index + 1) }))
    }

    /// Takes the drafts; give them back with [`Writer::give_drafts`], so that their memory serves again.
    pub(super) fn take_drafts(&self) -> Box<Drafts> {
        let page_size = self.pool.page_size();
        let kept = DRAFTS.take().filter(|drafts| drafts.page_size() == page_size);
        kept.unwrap_or_else(|| Box::new(Drafts::new(page_size)))
    }

    pub(super) fn give_drafts(&self, drafts: Box<Drafts>) {
        DRAFTS.set(Some(drafts));
    }

    /// Whether a page with `count` slots may have one more.
    pub(super) fn slot_allowed(&self, count: usize) -> bool {
        self.tree.slot_allowed(count)
    }
}

impl Tree {
    /// Whether a page with `count` slots may have one more.
    pub(super) fn slot_allowed(&self, count: usize) -> bool {
        // Counts have 16 bits, and with the smallest entries a page of 64 KiB stays far below.
        self.slots_max == 0 || count < usize::from(self.slots_max)
    }
}

pub(super) fn corrupt(page: PageId, what: Fault) -> Stop {
    Stop::Corrupt(Corrupt { page, what })
}
