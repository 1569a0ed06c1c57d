//! Moving what stands at the end of the file to lower places, so that the file can become shorter: what, and how runs move.
//!
//! A page of a tree moves by being made dirty ([`crate::compact`]); a node of the page map by being written with the next
//! checkpoint though it has not changed. A run of a blob is copied here: the leaf names it by its page id, and where that stands
//! only the page map says.
//!
//! 1. A run is moved only while it is known to be one: a leaf names it, seen under the apply lock, where [`Store::begin_move`] is
//!    called. Its old blocks are pinned until the end, so that no other run or page can come to stand where it stood.
//! 2. The copy is entered under the apply lock, so in the epoch of the next cut, and only if the run still stands where it was
//!    copied from; it has been written by then, and the checkpoint's sync makes it durable before the superblock names it.
//! 3. The old blocks are free when that epoch's checkpoint is durable, like those of anything that is superseded. The log may name
//!    them until then: the record that brought the run has been applied, and so is not beyond that checkpoint.

use super::Store;
use super::page_map::{ends_behind, extent};
use super::space::boundary;
use crate::error::Result;
use crate::fault::Fault;
use ashlar_bufferpool::{BlockPtr, Epoch, PageId};
use ashlar_disk::{AlignedBuf, Durability};
use std::collections::BTreeMap;

/// Bytes that are copied at once.
const COPY_LEN: usize = 1 << 20;

/// What is written while this lives goes to the lowest places there are.
#[derive(Debug)]
pub(crate) struct LowFirst<'a> {
    store: &'a Store,
}

impl Drop for LowFirst<'_> {
    fn drop(&mut self) {
        let mut inner = self.store.inner.lock();
        inner.space.set_low_first(false);
        inner.move_nodes_behind = None;
    }
}

/// A run that is being moved. When this is dropped its old blocks are pinned no more, and new ones that nothing names are free.
#[derive(Debug)]
pub(crate) struct Moving<'a> {
    store: &'a Store,
    page: PageId,
    from: BlockPtr,
    to: BlockPtr,
    entered: bool,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let mut inner = self.store.inner.lock();
        if !self.entered {
            inner.space.release(extent(self.to));
        }
        inner.space.unpin(self.from.address());
    }
}

/// What could move, and from where on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Evacuation {
    /// What ends behind this block is to be moved.
    pub(crate) behind: u64,
    /// So many pages and runs do.
    pub(crate) images: u64,
}

impl Store {
    /// From now on, while what this gives lives, everything is written to the lowest places there are.
    pub(crate) fn low_first(&self) -> LowFirst<'_> {
        self.inner.lock().space.set_low_first(true);
        LowFirst { store: self }
    }

    /// Where the part of the file ends that is in use.
    pub(crate) fn used_end(&self) -> u64 {
        self.inner.lock().space.tail()
    }

    /// What is to be moved so that the file gets as short as it can in one go: all behind the lowest block for which there is room
    /// for that below it. From here on nodes of the page map that stand there move with the next checkpoint.
    ///
    /// Looks through the page map in memory, with the store's lock held: some milliseconds for a million pages.
    pub(crate) fn plan_evacuation(&self) -> Evacuation {
        let mut inner = self.inner.lock();
        // Low places that were passed over as too short may be right for what comes now.
        inner.space.set_low_first(true);
        let nodes = inner.map.nodes().map(|(_, _, at)| at);
        let (granule, unit) = (inner.space.granule(), inner.space.unit());
        let free = inner.space.free_units_of_granules();
        let mut needed = vec![0; free.len()];
        for at in inner.newest_places().chain(nodes) {
            let last = (at.address() + u64::from(at.blocks()) - 1) / granule;
            if let Some(needed) = needed.get_mut(last as usize) {
                *needed += u64::from(at.blocks()).div_ceil(unit);
            }
        }
        let behind = boundary(&needed, &free) as u64 * granule;
        inner.move_nodes_behind = Some(behind);
        let images = inner.newest_places().filter(|&at| ends_behind(at, behind)).count() as u64;
        Evacuation { behind, images }
    }

    /// Whether a page, or a run, ends behind this block.
    pub(crate) fn ends_behind(&self, page: PageId, block: u64) -> bool {
        self.inner.lock().newest(page).is_some_and(|at| ends_behind(at, block))
    }

    /// Begins to move a run, which a leaf names, to a lower place; `None` where there is none, or it does not end behind `block`.
    /// Under the apply lock.
    pub(crate) fn begin_move(&self, page: PageId, block: u64, dirty: impl Fn() -> usize) -> Option<Moving<'_>> {
        let from = self.inner.lock().newest(page).filter(|&at| ends_behind(at, block))?;
        let blocks = u64::from(from.blocks());
        let unit = (self.page_size / self.block.bytes()) as u64;
        let _promise = self.promise_within(blocks.div_ceil(unit), dirty)?;
        let mut inner = self.inner.lock();
        let new = inner.space.allocate_run(blocks)?;
        // The pointer's checksum is of the bytes, which are the same.
        let to = BlockPtr::new(new.start, from.blocks(), from.crc()).filter(|_| new.start < from.address());
        let Some(to) = to else {
            inner.space.release(new);
            return None;
        };
        inner.space.pin(from.address());
        Some(Moving { store: self, page, from, to, entered: false })
    }

    /// Copies a run's bytes to where it goes. False: they are not what was written; it stays where it is.
    pub(crate) fn copy_run(&self, moving: &Moving<'_>) -> Result<bool> {
        let block = self.block.bytes();
        let bytes = moving.from.blocks() as usize * block;
        let mut buf = AlignedBuf::zeroed(COPY_LEN.min(bytes));
        let mut crc = 0;
        for at in (0..bytes).step_by(COPY_LEN) {
            let len = COPY_LEN.min(bytes - at);
            let offset = |address: u64| self.byte_offset(address) + at as u64;
            self.file.read(offset(moving.from.address()), &[&buf.words_mut()[..len / 8]])?;
            crc = crc32c::crc32c_append(crc, &buf[..len]);
            self.file.write(offset(moving.to.address()), &[&buf.words_mut()[..len / 8]], Durability::Later)?;
        }
        self.count_write(&[(0, 0, bytes)], 0);
        Ok(crc & BlockPtr::CRC_MASK == moving.from.crc())
    }

    /// The run stands in its new place from `epoch` on, the current one, unless it has gone meanwhile. Under the apply lock.
    pub(crate) fn finish_move(&self, mut moving: Moving<'_>, epoch: Epoch) -> bool {
        let mut inner = self.inner.lock();
        if inner.newest(moving.page) == Some(moving.from) {
            inner.enter(epoch, moving.page, Some(moving.to));
            if self.fault.is(Fault::MoveEarly) {
                inner.space.release(extent(moving.from));
            } else {
                inner.space.release_after(epoch, extent(moving.from));
            }
            moving.entered = true;
        }
        drop(inner);
        moving.entered
    }
}

impl super::Inner {
    /// Where every page and run stands as of its newest image on disk.
    fn newest_places(&self) -> impl Iterator<Item = BlockPtr> + '_ {
        let mut changed: BTreeMap<PageId, Option<BlockPtr>> = BTreeMap::new();
        for delta in self.deltas.values() {
            changed.extend(delta);
        }
        let new: Vec<BlockPtr> = changed.values().copied().flatten().collect();
        let unchanged = self.map.pages().filter(move |(page, _)| !changed.contains_key(page)).map(|(_, at)| at);
        unchanged.chain(new)
    }
}
