//! Reading at an LSN: what a key holds, what a leaf holds, as of a snapshot.
//!
//! Invariants:
//! 1. A [`View`] has a slot from before its first read until it is dropped, so that nothing that it can see goes. A view that was
//!    taken away for memory says so *after* each read, by which time it has read either what it should or nothing that counts.
//! 2. Leaf and before-images are looked at under one latch of the leaf.
//! 3. What waits to be merged into the trees, or is stranded, is looked at before them, or under the latch of the leaf (see [`postponed`](crate::postponed)).
//! 4. A look-up of one key whose value stands in its leaf needs no view: before-images go only when their commits are visible to
//!    all, so that what it finds is what some LSN between the watermark at its beginning and at its end says.

use crate::btree::{Found, LeafCopy, Seek, Stop, Tree, TreeId};
use crate::catalog::KeyspaceState;
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::held::Held;
use crate::pages::{self, EnginePool};
use crate::postponed::{Write, Writes, lay_over};
use crate::value::Value;
use crate::value::cell;
use crate::value::fetch::{self, Stored};
use crate::versions::Before;
use crate::versions::slots::{Claim, Kind};
use std::borrow::Borrow;

/// A snapshot: an LSN, and what keeps what it needs.
#[derive(Debug)]
pub(crate) struct View<H: Borrow<Shared>> {
    holder: H,
    of: Of,
}

/// Of what a view is.
#[derive(Debug)]
enum Of {
    /// Of the trees as they are, with before-images in place of what is too new.
    Trees(Claim),
    /// Of the last checkpoint.
    Checkpoint(Box<Held>),
}

impl<H: Borrow<Shared>> View<H> {
    /// Of all that is visible now, and of what this process has committed and been told of.
    pub(crate) fn newest(holder: H) -> Result<View<H>> {
        let shared: &Shared = holder.borrow();
        shared.owner.check()?;
        shared.wait_own(u64::MAX)?;
        let claim = shared.versions.slots.claim(Kind::Reads, || shared.visible.watermark());
        Ok(View { holder, of: Of::Trees(claim) })
    }

    /// Of all that is applied, for a transaction that may write.
    pub(crate) fn applied(holder: H) -> Result<View<H>> {
        let shared: &Shared = holder.borrow();
        shared.owner.check()?;
        let claim = shared.versions.slots.claim(Kind::Writes, || shared.visible.newest_applied());
        Ok(View { holder, of: Of::Trees(claim) })
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.holder.borrow()
    }

    pub(crate) fn holder(&self) -> &H {
        &self.holder
    }

    /// Of the last durable checkpoint.
    pub(crate) fn checkpoint(holder: H) -> Result<View<H>> {
        let held = Held::last(holder.borrow())?;
        Ok(View { holder, of: Of::Checkpoint(Box::new(held)) })
    }

    pub(crate) fn lsn(&self) -> u64 {
        match &self.of {
            Of::Trees(claim) => claim.lsn(),
            Of::Checkpoint(held) => held.lsn,
        }
    }

    /// Through which pages are read.
    pub(crate) fn pool(&self) -> &EnginePool {
        match &self.of {
            Of::Trees(_) => &self.shared().pool,
            Of::Checkpoint(held) => &held.pool,
        }
    }

    /// The checkpoint that it is of, if it is of one.
    pub(crate) fn held(&self) -> Option<&Held> {
        match &self.of {
            Of::Trees(_) => None,
            Of::Checkpoint(held) => Some(held),
        }
    }

    fn is_gone(&self) -> bool {
        match &self.of {
            Of::Trees(claim) => self.shared().versions.slots.is_gone(claim),
            Of::Checkpoint(_) => false,
        }
    }

    /// Whether it was taken away.
    pub(crate) fn check(&self) -> Result<()> {
        let shared = self.shared();
        shared.owner.check()?;
        if self.is_gone() { Err(Error::SnapshotTooOld { lsn: self.lsn() }) } else { Ok(()) }
    }

    /// The outcome of a read, unless the view was taken away: then whatever it has met tells nothing.
    pub(crate) fn checked<T>(&self, outcome: Result<T>) -> Result<T> {
        self.check()?;
        outcome
    }

    /// The tree of a keyspace.
    pub(crate) fn tree(&self, keyspace: &KeyspaceState) -> Result<Tree> {
        let found = match &self.of {
            Of::Trees(claim) => keyspace.tree_at(claim.lsn()),
            Of::Checkpoint(held) => held.keyspace(&keyspace.name).map(|(tree, _)| tree),
        };
        self.checked(found)
    }

    /// The number of entries of a keyspace. Numbers are known of what is in the trees: what waits is merged first.
    pub(crate) fn len(&self, keyspace: &KeyspaceState) -> Result<u64> {
        // Before anything is merged: not in a child made by `fork`.
        self.check()?;
        let found = match &self.of {
            Of::Trees(claim) => keyspace.tree_at(claim.lsn()).and_then(|tree| match self.merge_for_len(claim.lsn()) {
                // What is stranded is not counted yet.
                Ok(()) if self.shared().postponed.is_stranded_in(tree.id) => self.count(tree),
                Ok(()) => Ok(keyspace.len_at(claim.lsn())),
                // Nothing is merged any more.
                Err(_) if self.shared().health.failed() => self.count(tree),
                Err(e) => Err(e),
            }),
            Of::Checkpoint(held) => match held.keyspace(&keyspace.name) {
                Ok((tree, _)) if held.stranded.has(tree.id) => self.count(tree),
                found => found.map(|(_, len)| len),
            },
        };
        self.checked(found)
    }

    fn merge_for_len(&self, lsn: u64) -> Result<()> {
        if self.shared().options.fault.is(Fault::LenNotMerged) { Ok(()) } else { self.shared().merge_up_to(lsn) }
    }

    /// The number of entries of a tree, counted one by one.
    fn count(&self, tree: Tree) -> Result<u64> {
        let (mut leaf, mut before, mut count) = (LeafCopy::new(), Vec::new(), 0);
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            self.leaf(tree, Seek::AtOrAfter(&key), &mut leaf, &mut before)?;
            let is_right = |key: &[u8]| before.binary_search_by(|(changed, _)| (**changed).cmp(key)).is_err();
            count += (0..leaf.len()).filter(|&index| is_right(&leaf.key(index))).count();
            count += before.iter().filter(|(_, value)| value.is_some()).count();
            from = leaf.upper().map(<[u8]>::to_vec);
        }
        Ok(count as u64)
    }

    /// What `key` holds in `tree`; `inline` makes the value of one that stands in the leaf. And the LSN of the leaf.
    pub(crate) fn get(&self, tree: Tree, key: &[u8], inline: impl FnMut(&[u8]) -> Value) -> Result<(Option<Value>, u64)> {
        let found = self.stored(tree, key, inline);
        let (stored, leaf_lsn) = self.checked(found)?;
        Ok((self.value_of(stored, key)?, leaf_lsn))
    }

    /// The value that was found to stand for `key`, fetched if it stands elsewhere.
    pub(crate) fn value_of(&self, stored: Option<Stored>, key: &[u8]) -> Result<Option<Value>> {
        Ok(match stored {
            None => None,
            Some(Stored::Inline(value)) => Some(value),
            Some(Stored::Elsewhere { kind, bytes }) => Some(self.fetch(kind, &bytes, key)?),
        })
    }

    /// What stands for `key` in `tree`.
    pub(crate) fn stored_cell(&self, tree: Tree, key: &[u8]) -> Result<Option<Stored>> {
        let found = self.stored(tree, key, Value::copy_of);
        Ok(self.checked(found)?.0)
    }

    /// Whether `key` holds something in `tree`, and the LSN of its leaf.
    pub(crate) fn contains(&self, tree: Tree, key: &[u8]) -> Result<(bool, u64)> {
        let found = self.stored(tree, key, |_| Value::copy_of(b""));
        let (stored, leaf_lsn) = self.checked(found)?;
        Ok((stored.is_some(), leaf_lsn))
    }

    /// What stands for `key`, and the LSN of its leaf, looked up without waiting.
    pub(crate) fn look(
        &self,
        tree: Tree,
        key: &[u8],
        mut inline: impl FnMut(&[u8]) -> Value,
    ) -> std::result::Result<(Option<Stored>, u64), Stop> {
        if let Some(found) = self.postponed(tree, key, &mut inline) {
            return Ok(found);
        }
        tree.get(self.pool(), key, |found| (self.use_found(key, found, &mut inline), found.lsn))
    }

    /// What stands for `key`, and the LSN of its leaf.
    fn stored(&self, tree: Tree, key: &[u8], mut inline: impl FnMut(&[u8]) -> Value) -> Result<(Option<Stored>, u64)> {
        if let Some(found) = self.postponed(tree, key, &mut inline) {
            return Ok(found);
        }
        pages::find(self.pool(), tree, key, |found| (self.use_found(key, found, &mut inline), found.lsn))
    }

    /// What the view sees for `key` of what waits, and the LSN of that. `None`: what the tree says.
    fn postponed(&self, tree: Tree, key: &[u8], inline: &mut impl FnMut(&[u8]) -> Value) -> Option<(Option<Stored>, u64)> {
        let found = match &self.of {
            Of::Trees(claim) => self.shared().postponed.newest(tree.id, key, claim.lsn()),
            Of::Checkpoint(held) => held.stranded.newest(tree.id, key, held.lsn),
        };
        pause();
        found.map(|write| (write.value().map(|value| Stored::Inline(inline(value))), write.lsn))
    }

    /// What the view sees for `key`. Under the latch of its leaf.
    fn use_found(&self, key: &[u8], found: Found<'_>, inline: &mut impl FnMut(&[u8]) -> Value) -> Option<Stored> {
        let mut copy = |value: Option<(u8, &[u8])>| value.map(|(kind, bytes)| Stored::copy(kind, bytes, &mut *inline));
        match found.lsn <= self.lsn() {
            true => copy(found.value),
            false => {
                let before = |before: Option<Option<(u8, &[u8])>>| copy(before.unwrap_or(found.value));
                self.shared().versions.before(found.page, key, self.lsn(), before)
            }
        }
    }

    /// The value that a cell of `key` names.
    pub(crate) fn fetch(&self, kind: u8, bytes: &[u8], key: &[u8]) -> Result<Value> {
        let fetched = fetch::fetch(self.pool(), kind, bytes, || !self.is_gone());
        self.checked(fetched)?.ok_or_else(|| fetch::lost(key))
    }

    /// Copies the leaf where a seek lands, and puts into `before` each key for which it is not right, with what that held. Sorted, and
    /// all of them between the leaf's fences. Gives the LSN of the newest commit that may have been met.
    pub(crate) fn leaf(&self, tree: Tree, seek: Seek<'_>, copy: &mut LeafCopy, before: &mut Vec<Before>) -> Result<u64> {
        let read = pages::until_found(self.pool(), tree, || self.look_at_leaf(tree, seek, copy, before));
        self.checked(read)
    }

    /// The same, without waiting. Whether the view is still there has not been looked at.
    pub(crate) fn look_at_leaf(
        &self,
        tree: Tree,
        seek: Seek<'_>,
        copy: &mut LeafCopy,
        before: &mut Vec<Before>,
    ) -> std::result::Result<u64, Stop> {
        let (lsn, mut newest) = (self.lsn(), 0);
        before.clear();
        tree.read_leaf(self.pool(), seek, copy, |copy, page, leaf_lsn| {
            if leaf_lsn > lsn {
                self.shared().versions.all_before(page, lsn, before);
                // What has moved to a neighbour leaves its entries here, too, until they are old.
                let (lower, upper) = (copy.lower(), copy.upper());
                before.retain(|(key, _)| **key >= *lower && upper.is_none_or(|upper| **key < *upper));
            }
            let fences = (copy.lower(), copy.upper());
            match &self.of {
                Of::Trees(_) if self.shared().options.fault.is(Fault::ScansMissWaiting) => {}
                Of::Trees(_) => newest = self.shared().postponed.lay_over(tree.id, fences, lsn, before),
                Of::Checkpoint(held) => {
                    newest = lay_over([&held.stranded as &dyn Writes].into_iter(), tree.id, fences, lsn, before)
                }
            }
        })?;
        Ok(newest.max(copy.lsn()))
    }
}

impl<H: Borrow<Shared>> Drop for View<H> {
    fn drop(&mut self) {
        match &self.of {
            Of::Trees(claim) => self.shared().versions.slots.release(claim),
            Of::Checkpoint(held) => self.shared().store().release_checkpoint(held.epoch),
        }
    }
}

/// What `key` holds for somebody without a view; `inline` makes the value of one that stands in the leaf.
pub(crate) fn newest(
    shared: &Shared,
    keyspace: &KeyspaceState,
    key: &[u8],
    mut inline: impl FnMut(&[u8]) -> Value,
) -> Result<Option<Value>> {
    // Filled in place: a value has 112 bytes, too many to be handed up from function to function.
    let mut value = None;
    let is_elsewhere = newest_in_leaf(shared, keyspace, key, |cell| match cell {
        Some((cell::INLINE, bytes)) => {
            value = Some(inline(bytes));
            false
        }
        other => other.is_some(),
    })?;
    if !is_elsewhere {
        return Ok(value);
    }
    // By the time it is fetched it may have been replaced, and its pages be others': under a view it stays.
    at_newest(shared, |view| {
        let tree = view.tree(keyspace)?;
        Ok(view.get(tree, key, &mut inline)?.0)
    })
}

/// Reads under a view of its own; where that is taken away meanwhile, under another.
pub(crate) fn at_newest<T>(shared: &Shared, mut read: impl FnMut(&View<&Shared>) -> Result<T>) -> Result<T> {
    loop {
        match read(&View::newest(shared)?) {
            Err(Error::SnapshotTooOld { .. }) => {}
            outcome => return outcome,
        }
    }
}

/// What is not in its tree of a key.
enum Beside {
    Nothing,
    Write(Write),
    /// Something that the watermark has passed since.
    TooNew,
}

/// What somebody without a view finds of a key beside its tree, at a watermark.
#[cold]
#[inline(never)]
fn not_in_tree(shared: &Shared, tree: TreeId, key: &[u8], watermark: u64) -> Result<Beside> {
    let postponed = &shared.postponed;
    let own = shared.visible.own() > watermark && !shared.health.failed();
    let newest = own.then(|| postponed.newest(tree, key, u64::MAX)).flatten();
    if let Some(write) = newest.filter(|write| write.lsn > watermark) {
        shared.wait_own(write.lsn)?;
        return Ok(Beside::TooNew);
    }
    if let Some(write) = postponed.newest(tree, key, watermark) {
        return Ok(Beside::Write(write));
    }
    // Before the leaf: by its time the watermark may have passed what it should have met.
    let newest = postponed.newest_stranded(tree, key).filter(|lsn| *lsn > watermark);
    let is_passed = newest.is_some_and(|lsn| lsn <= shared.visible.watermark());
    pause();
    Ok(if is_passed { Beside::TooNew } else { Beside::Nothing })
}

/// Gives `use_cell` the cell that stands for `key`, for somebody without a view. Once, under the latch of its leaf.
#[inline]
pub(crate) fn newest_in_leaf<R>(
    shared: &Shared,
    keyspace: &KeyspaceState,
    key: &[u8],
    mut use_cell: impl FnMut(Option<(u8, &[u8])>) -> R,
) -> Result<R> {
    shared.owner.check()?;
    let mut last_tree = None;
    loop {
        let watermark = shared.visible.watermark();
        let tree = match keyspace.tree_since(watermark) {
            Some(tree) => tree,
            None => match other_tree(shared, keyspace, watermark)? {
                Some(tree) => tree,
                None => continue,
            },
        };
        if shared.postponed.holds_any() {
            match not_in_tree(shared, tree.id, key, watermark)? {
                Beside::Nothing => {}
                Beside::Write(write) => return Ok(use_cell(write.value().map(|value| (cell::INLINE, value)))),
                Beside::TooNew => continue,
            }
        }
        let found = pages::find(&shared.pool, tree, key, |found| {
            // Asked for under the latch, where nothing can come between.
            let watermark = shared.visible.watermark();
            if found.lsn <= watermark {
                return Ok(use_cell(found.value));
            }
            if shared.visible.own() > watermark && !shared.health.failed() {
                return Err(found.lsn);
            }
            Ok(shared.versions.before(found.page, key, watermark, |before| use_cell(before.unwrap_or(found.value))))
        });
        match found {
            Ok(Ok(used)) => return Ok(used),
            Ok(Err(leaf_lsn)) => shared.wait_own(leaf_lsn)?,
            // Dropped or cleared meanwhile, and visible to all: the tree's pages are being freed.
            Err(Error::Corrupt(_)) if last_tree != Some(tree.id) => last_tree = Some(tree.id),
            Err(e) => return Err(e),
        }
    }
}

/// Lets the deterministic scheduler of debug builds get between what waits and the trees.
#[inline]
fn pause() {
    if cfg!(debug_assertions) {
        ashlar_disk::sync::stall_point();
    }
}

/// The tree of a keyspace that was made, exchanged or dropped, perhaps above the watermark. `None`: look again.
#[cold]
fn other_tree(shared: &Shared, keyspace: &KeyspaceState, watermark: u64) -> Result<Option<Tree>> {
    if shared.visible.own() > watermark && keyspace.is_changed_above(watermark) && !shared.health.failed() {
        // What this process has written since stands in another tree than the one that can be seen.
        shared.wait_own(u64::MAX)?;
        return Ok(None);
    }
    match keyspace.tree_at(watermark) {
        Ok(tree) => Ok(Some(tree)),
        Err(gone) => match keyspace.waits_for(watermark) {
            Some(since) => shared.wait_visible(since).map(|()| None),
            None if shared.visible.watermark() == watermark => Err(gone),
            None => Ok(None),
        },
    }
}
