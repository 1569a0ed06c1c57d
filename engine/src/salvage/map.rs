//! The page map as far as it can be read: where pages stand, and of which ids nothing is known.
//!
//! 1. An entry counts only where the node that holds it, and each above that, is whole and is the one that is pointed at.
//! 2. Of an id below a damaged node nothing is known; any other id without an entry has no page.
//!
//! It takes 8 bytes a page in memory, like that of an open database.

use super::pages::{Blocks, Missing};
use super::report::{Finding, FindingKind, Teller};
use crate::store::page_header::{KIND, LEVEL, LOWER, PAGE_HEADER_LEN, PageKind, get_u32, get_u64};
use crate::store::page_map::fanout;
use crate::store::superblock::Superblock;
use ashlar_bufferpool::{BlockPtr, PageId};
use std::collections::BTreeMap;
use std::ops::Range;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FoundMap {
    fanout: u64,
    /// The nodes of level 0 by their index: as many entries as stand in them.
    leaves: BTreeMap<u64, Box<[u64]>>,
    /// Ids of which nothing is known, in order.
    lost: Vec<Range<u64>>,
    /// Whether something else that is whole stands where a node should.
    pub(super) reused: bool,
}

impl FoundMap {
    /// Reads the map of a superblock, and tells of each damaged node.
    pub(super) fn read(blocks: &mut Blocks, superblock: &Superblock, teller: &mut Teller<'_>) -> FoundMap {
        let mut map = FoundMap { fanout: fanout(blocks.page_size) as u64, ..FoundMap::default() };
        if let Some(root) = superblock.map_root {
            map.read_node(blocks, superblock.map_height.saturating_sub(1), 0, root, teller);
        }
        map.lost.sort_unstable_by_key(|range| range.start);
        map
    }

    fn read_node(&mut self, blocks: &mut Blocks, level: u32, index: u64, at: BlockPtr, teller: &mut Teller<'_>) {
        let entries = match node(blocks, level, index, at) {
            Ok(entries) => entries,
            Err(missing) => {
                self.reused |= matches!(missing, Missing::Reused(_));
                let span = self.fanout.saturating_pow(level + 1);
                let ids = index.saturating_mul(span)..index.saturating_add(1).saturating_mul(span);
                let what = format!("{}; where the pages {} to {} stand is not known", missing.text(), ids.start, ids.end - 1);
                let finding = Finding::new(FindingKind::MapNode, what);
                let file = Some(blocks.reader.file().path().to_owned());
                let place = Some((at.address(), u64::from(at.blocks())));
                teller.find(Finding { file, blocks: place, page: Some(index), ..finding });
                return self.lost.push(ids);
            }
        };
        if level == 0 {
            self.leaves.insert(index, entries.into());
            return;
        }
        for (i, &entry) in entries.iter().enumerate() {
            let child = index.checked_mul(self.fanout).and_then(|first| first.checked_add(i as u64));
            if let (Some(at), Some(child)) = (BlockPtr::from_bits(entry), child) {
                self.read_node(blocks, level - 1, child, at, teller);
            }
        }
    }

    /// Where a page stands.
    pub(super) fn get(&self, page: PageId) -> Option<BlockPtr> {
        let node = self.leaves.get(&page.0.checked_div(self.fanout)?)?;
        BlockPtr::from_bits(*node.get((page.0 % self.fanout) as usize)?)
    }

    /// Whether nothing is known of an id.
    pub(super) fn is_lost(&self, page: PageId) -> bool {
        let after = self.lost.partition_point(|range| range.start <= page.0);
        after.checked_sub(1).is_some_and(|before| self.lost[before].contains(&page.0))
    }

    /// Whether all of it was read.
    pub(super) fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }

    /// All pages and runs that have an entry, by where they stand.
    pub(super) fn by_place(&self) -> Vec<(BlockPtr, PageId)> {
        let mut all = Vec::with_capacity(self.leaves.values().map(|entries| entries.len()).sum());
        for (index, entries) in &self.leaves {
            let pages = entries.iter().enumerate().filter_map(|(i, &entry)| {
                let page = index.checked_mul(self.fanout)?.checked_add(i as u64)?;
                Some((BlockPtr::from_bits(entry)?, PageId(page)))
            });
            all.extend(pages);
        }
        all.sort_unstable();
        all
    }
}

/// The entries of a node.
fn node(blocks: &mut Blocks, level: u32, index: u64, at: BlockPtr) -> Result<Vec<u64>, Missing> {
    let image = blocks.image(index, at)?;
    if image[KIND] != PageKind::Map.code() || u32::from(image[LEVEL]) != level {
        return Err(Missing::Reused("a page of another kind or level stands there".into()));
    }
    let end = (get_u32(&image, LOWER) as usize).clamp(PAGE_HEADER_LEN, image.len());
    let count = ((end - PAGE_HEADER_LEN) / 8).min(fanout(blocks.page_size));
    Ok((0..count).map(|i| get_u64(&image, PAGE_HEADER_LEN + 8 * i)).collect())
}
