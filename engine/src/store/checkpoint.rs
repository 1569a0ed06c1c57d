//! The store's part of a checkpoint: an epoch's delta becomes the page map, the page map goes to new blocks.

use super::page_map::ChangedNode;
use super::{Delta, Store, page_header};
use crate::error::{Corruption, Error, Result};
use crate::fault::Fault;
use ashlar_bufferpool::{BlockPtr, Epoch};
use ashlar_disk::{AlignedBuf, Durability, SyncKind};

/// Map nodes that are written at once.
const NODES_AT_ONCE: usize = 32;

impl Store {
    /// Enters the delta of `epoch` into the page map and writes the changed nodes, up to the root, then syncs the file: the
    /// map's root and height for the superblock. Every image of the epoch has been recorded.
    pub(crate) fn write_map(&self, epoch: Epoch) -> Result<(Option<BlockPtr>, u32)> {
        let (levels, delta) = self.enter_delta(epoch);
        for nodes in levels {
            for some in nodes.chunks(NODES_AT_ONCE) {
                self.write_nodes(epoch, some)?;
            }
        }
        self.sync(SyncKind::Data)?;
        tracing::debug!(epoch = epoch.0, pages = delta, "page map written");
        Ok(self.inner.lock().map.root())
    }

    fn enter_delta(&self, epoch: Epoch) -> (Vec<Vec<ChangedNode>>, usize) {
        let mut inner = self.inner.lock();
        let older = inner.deltas.first_key_value().map(|(&e, _)| e);
        assert!(older.is_none_or(|e| e >= epoch), "the delta of epoch {older:?} was never written");
        let mut delta = inner.deltas.remove(&epoch).unwrap_or_default();
        if self.fault.is(Fault::MapFromPageTable) {
            for (page, place) in &mut delta {
                let later = inner.deltas.values().rev().find_map(|d| d.get(page).copied());
                *place = later.unwrap_or(*place);
            }
        }
        let behind = inner.move_nodes_behind;
        (inner.map.apply(&delta, behind), delta.len())
    }

    fn write_nodes(&self, epoch: Epoch, nodes: &[ChangedNode]) -> Result<()> {
        let (mut images, lens) = self.encode_nodes(nodes);
        let block = self.block.bytes();
        let blocks: Vec<u64> = lens.iter().map(|&l| (l / block) as u64).collect();
        let extents = self.allocate_batch(&blocks)?;
        for ((image, len), at) in images.iter_mut().zip(&lens).zip(&extents) {
            page_header::put_u64(image, page_header::WRITE_NUMBER, self.next_write_number());
            page_header::seal(&mut image[..*len]);
            let words = &image.words_mut()[..len / 8];
            self.file.write(self.byte_offset(at.start), &[words], Durability::Later)?;
            self.count_write(&[(0, 0, *len)], 1);
        }
        let mut inner = self.inner.lock();
        for ((node, image), at) in nodes.iter().zip(&images).zip(extents) {
            let pointer = BlockPtr::new(at.start, at.len as u32, page_header::pointer_crc(image));
            let pointer = pointer
                .ok_or_else(|| Error::from(Corruption::page(node.index as u64, None, "no pointer can name a map node")))?;
            if let Some(old) = inner.map.moved(node, pointer) {
                inner.space.release_after(epoch, old);
            }
        }
        Ok(())
    }

    fn encode_nodes(&self, nodes: &[ChangedNode]) -> (Vec<AlignedBuf>, Vec<usize>) {
        let inner = self.inner.lock();
        let encoded = nodes.iter().map(|node| {
            let mut image = AlignedBuf::zeroed(self.page_size);
            let used = inner.map.encode(node, &mut image);
            (image, used.next_multiple_of(self.block.bytes()))
        });
        encoded.unzip()
    }

    /// The checkpoint of `epoch` is durable, superblock and mirror: what waited for it is free.
    pub(crate) fn checkpoint_durable(&self, epoch: Epoch) {
        let mut inner = self.inner.lock();
        let free_up_to = inner.held.checkpoint_durable(epoch);
        inner.space.checkpoint_durable(free_up_to);
        inner.ids.checkpoint_durable(epoch);
        inner.retired.checkpoint_durable(epoch);
        inner.loaded_in = inner.loaded_in.split_off(&Epoch(epoch.0 + 1));
    }

    /// The next page id never used, for the superblock.
    pub(crate) fn next_page_id(&self) -> u64 {
        self.inner.lock().ids.next()
    }

    /// A checkpoint that can't finish: its delta and what waits for it belong to `heir`; what the heir has is newer.
    #[expect(
        dead_code,
        reason = "a checkpoint that fails makes the database read-only; handing over comes with retrying after a full disk"
    )]
    pub(crate) fn hand_over(&self, epoch: Epoch, heir: Epoch) {
        let mut inner = self.inner.lock();
        let mut merged: Delta = inner.deltas.remove(&epoch).unwrap_or_default();
        merged.extend(inner.deltas.remove(&heir).unwrap_or_default());
        inner.deltas.insert(heir, merged);
        inner.space.hand_over(epoch, heir);
    }
}
