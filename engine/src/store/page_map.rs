//! The page map: a radix tree on disk from page id to block pointer, and its image in memory.
//!
//! A node of level 0 (a leaf) with index `i` holds the pointers of the page ids from `i * fanout` on; a node of level `l` the
//! pointers of the nodes of level `l - 1`, likewise. A node's image has the common page header (kind map, its level, its index
//! as page id, tree id 0), then one 8-byte pointer an entry, trimmed behind the last that is not zero. Zero: no such page.
//!
//! Invariants:
//! 1. The image in memory is that of the newest checkpoint written, durable or about to be: [`PageMap::apply`] changes it.
//!    Pages that have been touched since the open are found through their slot or a delta, never here.
//! 2. A node that a durable checkpoint refers to is never overwritten: a changed node goes to new blocks, up to the root.
//! 3. A map is read whole or not at all: with an unreadable part nothing is known about free space.

use super::page_header::{self, PAGE_HEADER_LEN, PageKind, get_u64, put_u32, put_u64};
use super::space::Extent;
use ashlar_bufferpool::{BlockPtr, PageId};
use std::collections::{BTreeMap, BTreeSet};

/// The map in memory: 8 bytes a page, and as much again for one in `fanout`.
#[derive(Debug)]
pub struct PageMap {
    page_size: usize,
    fanout: usize,
    /// `levels[l][i]`: the entries of node `i` of level `l`; the last level has one node, the root. Empty: an empty map.
    levels: Vec<Vec<Box<[u64]>>>,
    /// Where each node stands on disk, if it does.
    places: Vec<Vec<Option<BlockPtr>>>,
}

/// A changed node, ready to be written.
#[derive(Debug)]
pub struct ChangedNode {
    /// Its level.
    pub level: usize,
    /// Its index within the level.
    pub index: usize,
}

/// Entries of a node of a page of this size.
pub fn fanout(page_size: usize) -> usize {
    (page_size - PAGE_HEADER_LEN) / 8
}

impl PageMap {
    /// A map without pages.
    pub fn empty(page_size: usize) -> PageMap {
        PageMap { page_size, fanout: fanout(page_size), levels: Vec::new(), places: Vec::new() }
    }

    /// Reads a map whole, level by level. `read` hands over the checked images of the nodes of a level with those indices at those pointers,
    /// each with what it was asked by; one that it leaves out is missing, with what is below it.
    pub fn read<E>(
        page_size: usize,
        root: Option<BlockPtr>,
        height: u32,
        mut read: impl FnMut(usize, &[(usize, BlockPtr)], &mut dyn FnMut((usize, BlockPtr), &[u8])) -> Result<(), E>,
    ) -> Result<PageMap, E> {
        let mut map = PageMap::empty(page_size);
        let Some(root) = root else { return Ok(map) };
        map.levels = vec![Vec::new(); height as usize];
        map.places = vec![Vec::new(); height as usize];
        let mut nodes = vec![(0, root)];
        for level in (0..height as usize).rev() {
            let mut children = Vec::new();
            read(level, &nodes, &mut |(index, at), image| {
                let entries = decode(image, map.fanout);
                if level > 0 {
                    let pointers = entries.iter().enumerate();
                    children.extend(pointers.filter_map(|(i, &e)| Some((index * map.fanout + i, BlockPtr::from_bits(e)?))));
                }
                map.put_node(level, index, entries, Some(at));
            })?;
            nodes = children;
        }
        Ok(map)
    }

    fn put_node(&mut self, level: usize, index: usize, entries: Box<[u64]>, place: Option<BlockPtr>) {
        self.grow_level(level, index);
        self.levels[level][index] = entries;
        self.places[level][index] = place;
    }

    fn grow_level(&mut self, level: usize, index: usize) {
        let empty = || vec![0; self.fanout].into_boxed_slice();
        if self.levels[level].len() <= index {
            self.levels[level].resize_with(index + 1, empty);
            self.places[level].resize(index + 1, None);
        }
    }

    /// Where a page stands in this checkpoint.
    pub fn get(&self, page: PageId) -> Option<BlockPtr> {
        let (node, entry) = (page.0 as usize / self.fanout, page.0 as usize % self.fanout);
        BlockPtr::from_bits(*self.levels.first()?.get(node)?.get(entry)?)
    }

    /// All pages and where they stand, in order of page id.
    pub fn pages(&self) -> impl Iterator<Item = (PageId, BlockPtr)> + '_ {
        let nodes = self.levels.first().into_iter().flatten().enumerate();
        nodes.flat_map(move |(n, entries)| {
            let pages = entries.iter().enumerate();
            pages.filter_map(move |(i, &e)| Some((PageId((n * self.fanout + i) as u64), BlockPtr::from_bits(e)?)))
        })
    }

    /// All nodes that stand on disk: level, index and where.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, usize, BlockPtr)> + '_ {
        let levels = self.places.iter().enumerate();
        levels.flat_map(|(l, places)| places.iter().enumerate().filter_map(move |(i, p)| Some((l, i, (*p)?))))
    }

    /// The root's place and the number of levels, for the superblock.
    pub fn root(&self) -> (Option<BlockPtr>, u32) {
        let root = self.places.last().and_then(|top| top.first().copied().flatten());
        (root, if root.is_some() { self.levels.len() as u32 } else { 0 })
    }

    /// How many nodes a checkpoint may have to write at most, with room for growth by `pages` new pages.
    pub fn nodes_max(&self, pages: u64) -> u64 {
        let nodes: usize = self.levels.iter().map(Vec::len).sum();
        nodes as u64 + 2 * (pages / self.fanout as u64 + 1) + 2
    }

    /// Enters a delta into the image: page id → new place, or freed. Gives the nodes of each level that are to be written, lowest
    /// first: those that have changed, and those that end behind block `behind` and are to be moved.
    pub fn apply(&mut self, delta: &BTreeMap<PageId, Option<BlockPtr>>, behind: Option<u64>) -> Vec<Vec<ChangedNode>> {
        if let Some((highest, _)) = delta.last_key_value() {
            self.grow_to(highest.0 as usize);
        }
        let mut changed: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.levels.len()];
        for (page, place) in delta {
            let (node, entry) = (page.0 as usize / self.fanout, page.0 as usize % self.fanout);
            self.grow_level(0, node);
            self.levels[0][node][entry] = place.map_or(0, BlockPtr::to_bits);
            changed[0].insert(node);
        }
        for level in 0..self.levels.len() {
            if level > 0 {
                let parents: BTreeSet<usize> = changed[level - 1].iter().map(|i| i / self.fanout).collect();
                parents.iter().for_each(|&i| self.grow_level(level, i));
                changed[level] = parents;
            }
            if let Some(behind) = behind {
                let stands_behind = |at: &Option<BlockPtr>| at.is_some_and(|at| ends_behind(at, behind));
                let moved = self.places[level].iter().enumerate().filter(|(_, at)| stands_behind(at)).map(|(index, _)| index);
                changed[level].extend(moved);
            }
        }
        let nodes = changed.into_iter().enumerate();
        nodes.map(|(level, set)| set.into_iter().map(|index| ChangedNode { level, index }).collect()).collect()
    }

    /// Adds levels until page `highest` has a place. The old root becomes node 0 of its level under a new one.
    fn grow_to(&mut self, highest: usize) {
        let mut reach = self.fanout.pow(self.levels.len() as u32);
        while self.levels.is_empty() || reach <= highest {
            let old_root = self.places.last().and_then(|p| p.first().copied().flatten());
            self.levels.push(Vec::new());
            self.places.push(Vec::new());
            let level = self.levels.len() - 1;
            self.grow_level(level, 0);
            if level > 0 {
                self.levels[level][0][0] = old_root.map_or(0, BlockPtr::to_bits);
                reach = reach.saturating_mul(self.fanout);
            } else {
                reach = self.fanout;
            }
        }
    }

    /// The image of a node, without write number and checksum, into `out` (a page long): its length before rounding up.
    pub fn encode(&self, node: &ChangedNode, out: &mut [u8]) -> usize {
        let entries = &self.levels[node.level][node.index];
        let used = entries.iter().rposition(|&e| e != 0).map_or(0, |i| i + 1);
        let end = PAGE_HEADER_LEN + used * 8;
        out.fill(0);
        page_header::format_header(&mut out[..self.page_size], PageKind::Map, node.level as u8, node.index as u64, 0);
        put_u32(out, page_header::LOWER, end as u32);
        for (i, entry) in entries[..used].iter().enumerate() {
            put_u64(out, PAGE_HEADER_LEN + i * 8, *entry);
        }
        end
    }

    /// A changed node was given new blocks: its parent's entry, and its old blocks, which nothing refers to any more.
    pub fn moved(&mut self, node: &ChangedNode, at: BlockPtr) -> Option<Extent> {
        let old = self.places[node.level][node.index].replace(at);
        if node.level + 1 < self.levels.len() {
            let (parent, entry) = (node.index / self.fanout, node.index % self.fanout);
            self.grow_level(node.level + 1, parent);
            self.levels[node.level + 1][parent][entry] = at.to_bits();
        }
        old.map(extent)
    }
}

/// The blocks of a pointer.
pub fn extent(at: BlockPtr) -> Extent {
    Extent { start: at.address(), len: u64::from(at.blocks()) }
}

/// Whether any of a pointer's blocks lies at or behind `block`.
pub(super) fn ends_behind(at: BlockPtr, block: u64) -> bool {
    at.address() + u64::from(at.blocks()) > block
}

fn decode(image: &[u8], fanout: usize) -> Box<[u64]> {
    let mut entries = vec![0; fanout].into_boxed_slice();
    let lower = page_header::get_u32(image, page_header::LOWER) as usize;
    let end = lower.min(image.len()).max(PAGE_HEADER_LEN);
    for (i, entry) in entries.iter_mut().enumerate().take((end - PAGE_HEADER_LEN) / 8) {
        *entry = get_u64(image, PAGE_HEADER_LEN + i * 8);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use std::convert::Infallible;

    /// Applies deltas, "writes" the nodes to a table, reads the map back from the table alone.
    #[test]
    fn a_map_read_back_is_the_map_that_was_written() {
        for seed in 0..60 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut map = PageMap::empty(4096);
            let mut disk: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            let mut model: BTreeMap<PageId, BlockPtr> = BTreeMap::new();
            let mut next = 100;
            let span = [10, 600, 300_000][seed as usize % 3];
            for _ in 0..6 {
                let mut delta = BTreeMap::new();
                for _ in 0..rng.random_range(0..40) {
                    let page = PageId(rng.random_range(0..span));
                    let place = rng.random_bool(0.7).then(|| BlockPtr::new(rng.random_range(20..1 << 30), 2, 7).unwrap());
                    delta.insert(page, place);
                    match place {
                        Some(p) => model.insert(page, p),
                        None => model.remove(&page),
                    };
                }
                let before = next;
                let behind = rng.random_bool(0.3).then(|| rng.random_range(100..next + 1));
                for nodes in map.apply(&delta, behind) {
                    for node in nodes {
                        let mut image = vec![0; 4096];
                        let len = map.encode(&node, &mut image);
                        assert!(len <= 4096);
                        let old = map.moved(&node, BlockPtr::new(next, 1, 0).unwrap());
                        disk.insert(next, image);
                        next += 1;
                        if let Some(old) = old {
                            disk.remove(&old.start);
                        }
                    }
                }
                if let Some(behind) = behind {
                    assert!(map.nodes().all(|(_, _, at)| at.address() < behind || at.address() >= before), "all were moved");
                }
                let (root, height) = map.root();
                let read = PageMap::read(4096, root, height, |_, nodes, found| {
                    nodes.iter().for_each(|&node| found(node, &disk[&node.1.address()]));
                    Ok::<_, Infallible>(())
                });
                let read = read.unwrap();
                let pages: Vec<_> = read.pages().collect();
                assert_eq!(pages, model.iter().map(|(&p, &b)| (p, b)).collect::<Vec<_>>(), "seed {seed}");
                assert_eq!(read.nodes().count(), disk.len(), "every node written is reached");
                assert!(read.pages().all(|(p, b)| map.get(p) == Some(b)));
            }
        }
    }
}
