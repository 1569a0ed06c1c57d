//! Making room for an entry that doesn't fit in its page.
//!
//! A leaf that is full gives entries to a neighbour under the same parent, if that is in memory and has room; otherwise it is
//! split. Either moves entries and makes none: the change that needs room is made afterwards, in the half where it belongs. One
//! step splits one page, below a parent that has room for one more child; where it has not, the step splits the parent instead,
//! and the writer comes back. A root that must be split first gets a single child with all that it held (see `root`).
//!
//! What the pages will hold is built in private memory before any latch is taken exclusively: see `divide`.

use super::divide::{self, Drafts, Pending};
use super::edit::{self, Entry};
use super::error::{Stop, TreeError};
use super::layout::inner_entry_len;
use super::write::{Bend, Pair, Side, Writer, corrupt};
use super::{Change, Lsns, Observer, Seek, TreeOp, append};
use ashlar_bufferpool::{PageId, PageStore};

impl<S: PageStore> Writer<'_, S> {
    /// Makes room for the first of `ops` in its leaf, or goes one step towards it; or makes it, and some behind it, in new leaves. Gives how many
    /// were made.
    pub(super) fn make_room<O: Observer + ?Sized>(
        &mut self,
        lsns: Lsns<'_>,
        ops: &[TreeOp<'_>],
        observer: &mut O,
    ) -> Result<usize, TreeError<S::Error>> {
        let Some((op, Change::Put { bytes, .. })) = ops.first().map(|op| (op, op.change)) else { return Ok(0) };
        let pending = Pending { key: op.key, value_len: Some(bytes.len()) };
        let may_append = ops.len() > 1;
        if may_append {
            self.reserve_frames((append::COPIES + append::PAGES).min(self.pool.reservation_max()))?;
        }
        self.run(|writer| {
            let leaf = writer.descend(Seek::AtOrAfter(op.key))?;
            let made = if may_append { writer.append(leaf, (lsns, ops), observer)? } else { 0 };
            if made > 0 {
                return Ok(made);
            }
            for side in [Side::Left, Side::Right] {
                if writer.spread(leaf, side, pending, observer)? {
                    return Ok(0);
                }
            }
            writer.split(writer.path.len(), leaf, pending, observer).map(|()| 0)
        })
    }

    /// Spreads the entries of `leaf`, where the last descent ended, over it and a neighbour. False: there is none with room.
    fn spread<O: Observer + ?Sized>(
        &mut self,
        leaf: PageId,
        side: Side,
        pending: Pending<'_>,
        observer: &mut O,
    ) -> Result<bool, Stop> {
        let Some(&above) = self.path.last() else { return Ok(false) };
        let Some(pair) = self.pair(above, leaf, side)? else { return Ok(false) };
        let mut drafts = self.take_drafts();
        let outcome = match self.plan_spread(pair, leaf, pending, &mut drafts) {
            Ok(true) => self.spread_pair(pair, &mut drafts, observer),
            // A neighbour that is not in memory is not worth a read.
            Ok(false) | Err(Stop::Missing(_)) => Ok(false),
            Err(stop) => Err(stop),
        };
        self.give_drafts(drafts);
        outcome
    }

    /// Builds both leaves anew. False: they have no room, or the parent has none for the new separator.
    fn plan_spread(&self, pair: Pair, leaf: PageId, pending: Pending<'_>, drafts: &mut Drafts) -> Result<bool, Stop> {
        let (left_guard, right_guard) = (self.shared(pair.left)?, self.shared(pair.right)?);
        let left = self.open(pair.left, left_guard.bytes())?;
        let right = self.open(pair.right, right_guard.bytes())?;
        if !left.is_leaf() || !right.is_leaf() || left.upper_fence() != Some(right.lower_fence()) {
            return Err(corrupt(pair.right, "the page's level or lower fence is not what its neighbour asks for"));
        }
        let holder = usize::from(leaf == pair.right);
        let built = divide::spread([left, right], holder, self.tree.id, pending, drafts);
        if !built.map_err(|what| corrupt(leaf, what))? {
            return Ok(false);
        }
        let old_len = right.lower_len();
        drop((left_guard, right_guard));
        let slots = drafts.left.count().max(drafts.right.count());
        let parent_guard = self.shared(pair.parent)?;
        let parent = self.open(pair.parent, parent_guard.bytes())?;
        if parent.prefix_len() > drafts.separator.len().min(old_len) {
            return Err(corrupt(pair.parent, "the page's separators do not fit those of its child"));
        }
        let entry_len = |separator: usize| inner_entry_len(separator - parent.prefix_len());
        let room = parent.free() + entry_len(old_len);
        Ok(self.slot_allowed(slots) && room >= entry_len(drafts.separator.len()))
    }

    /// Puts the leaves that were built, and the separator between them, in place of what is there.
    fn spread_pair<O: Observer + ?Sized>(&mut self, pair: Pair, drafts: &mut Drafts, observer: &mut O) -> Result<bool, Stop> {
        let mut parent_guard = self.exclusive(pair.parent)?;
        let mut left_guard = self.exclusive(pair.left)?;
        let mut right_guard = self.exclusive(pair.right)?;
        let fault = |what| corrupt(pair.parent, what);
        let (tree, slot) = (self.tree.id, pair.index + 1);
        let prefix = self.open(pair.parent, parent_guard.bytes())?.prefix_len();
        let old = self.open(pair.right, right_guard.bytes())?.lower_fence().to_vec();
        if !edit::replace_key(&mut parent_guard, tree, slot, &drafts.separator[prefix..]).map_err(fault)? {
            return Err(fault("the page's room is not what its header says"));
        }
        if drafts.separator < old {
            observer.moved(pair.left, pair.right, &drafts.separator, Some(&old));
        } else {
            observer.moved(pair.right, pair.left, &old, Some(&drafts.separator));
        }
        drafts.left.install(&mut left_guard, pair.left);
        drafts.right.install(&mut right_guard, pair.right);
        Ok(true)
    }

    /// Splits `page`, which stands at `depth` of the path, or else the page above it that must be split first.
    fn split<O: Observer + ?Sized>(
        &mut self,
        depth: usize,
        page: PageId,
        pending: Pending<'_>,
        observer: &mut O,
    ) -> Result<(), Stop> {
        let Some(above) = depth.checked_sub(1) else { return self.grow_root(observer) };
        let mut drafts = self.take_drafts();
        let outcome = self.split_below(above, page, pending, &mut drafts, observer);
        let separator = std::mem::take(&mut drafts.separator);
        self.give_drafts(drafts);
        match outcome? {
            true => Ok(()),
            false => self.split(above, self.path[above].page, Pending { key: &separator, value_len: None }, observer),
        }
    }

    /// Splits `page` below its parent, which stands at `above` of the path. False: the parent is full, nothing has changed.
    fn split_below<O: Observer + ?Sized>(
        &mut self,
        above: usize,
        page: PageId,
        pending: Pending<'_>,
        drafts: &mut Drafts,
        observer: &mut O,
    ) -> Result<bool, Stop> {
        let Bend { page: parent, index } = self.path[above];
        self.plan_split(page, pending, drafts)?;
        if !self.parent_has_room(parent, index, page, &drafts.separator)? {
            return Ok(false);
        }
        let mut parent_guard = self.exclusive(parent)?;
        let mut left_guard = self.exclusive(page)?;
        let mut right_guard = self.create();
        let right = right_guard.page();
        let prefix = self.open(parent, parent_guard.bytes())?.prefix_len();
        let suffix = &drafts.separator[prefix..];
        let node = self.open(page, left_guard.bytes())?;
        match edit::insert(&mut parent_guard, self.tree.id, index + 1, suffix, Entry::Child(right)) {
            Ok(true) => {}
            failed => {
                self.pool.free(right_guard);
                return Err(corrupt(parent, failed.err().unwrap_or("a page's room is not what its header says")));
            }
        }
        if node.is_leaf() {
            observer.moved(page, right, &drafts.separator, node.upper_fence());
        }
        drafts.right.install(&mut right_guard, right);
        drafts.left.install(&mut left_guard, page);
        Ok(true)
    }

    /// Whether `parent`, whose slot `index` has `child`, has room for a separator behind that slot.
    fn parent_has_room(&self, parent: PageId, index: usize, child: PageId, separator: &[u8]) -> Result<bool, Stop> {
        let guard = self.shared(parent)?;
        let node = self.open(parent, guard.bytes())?;
        if index >= node.count() || node.child(index) != child || node.prefix_len() > separator.len() {
            return Err(corrupt(parent, "the page's separators do not fit those of its child"));
        }
        Ok(node.free() >= inner_entry_len(separator.len() - node.prefix_len()) && self.slot_allowed(node.count()))
    }

    /// Builds both halves of `page`, and the separator between them.
    fn plan_split(&mut self, page: PageId, pending: Pending<'_>, drafts: &mut Drafts) -> Result<(), Stop> {
        let guard = self.shared(page)?;
        let node = self.open(page, guard.bytes())?;
        divide::split(node, self.tree.id, pending, drafts).map_err(|what| corrupt(page, what))
    }
}
