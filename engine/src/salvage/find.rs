//! Finding the leaves: through the page map, or by looking at every block.
//!
//! 1. A leaf counts only if its checksum is right, its fences, cells and keys are in order, and it is of the page that it was looked for
//!    as. Inner pages decide nothing: a leaf below a damaged one is found like any other.
//! 2. With the page map of a checkpoint, what it names counts and nothing else. For ids of which the map says nothing any more, images
//!    from all over the file do that are not newer than the checkpoint: its pages are among them, for nothing that a checkpoint
//!    names is overwritten.
//! 3. Without, every image counts, and which of two that cover a key is newer says [`Age`]. Of one page the newer images hide the
//!    older ones; an older one is used, marked, for keys that nothing newer covers.
//! 4. An image that an incarnation wrote with an LSN beyond where a later one began to write the log is void: it holds commits which a
//!    crash has taken back.

use super::leaf::{Age, Leaf};
use super::map::FoundMap;
use super::pages::{Blocks, Missing, Place};
use super::report::{Stage, Teller};
use super::sorter::{Item, Scratch, Sorter};
use crate::btree::LonePage;
use crate::error::Result;
use crate::store::page_header::{self, KIND, PAGE_ID, PageKind, TREE_ID, get_u32, get_u64};
use crate::store::superblock::RESERVED_BYTES;
use ashlar_bufferpool::{BlockPtr, PageId};
use ashlar_disk::AlignedBuf;
use std::collections::BTreeMap;

/// Bytes that are looked at together.
const WINDOW: usize = 1 << 20;

/// Where a piece of a value was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct OverflowPlace {
    pub(super) page: u64,
    pub(super) lsn: u64,
    pub(super) write_number: u64,
    pub(super) place: Place,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) leaves: Sorter,
    /// Pages right above leaves, which say what a damaged one held; with the map alone.
    pub(super) parents: Vec<(PageId, BlockPtr)>,
    /// What the map names and is no whole page: damaged pages, and short runs of large values.
    pub(super) suspects: BTreeMap<PageId, BlockPtr>,
    /// Where overflow pages stand of which the map says nothing.
    pub(super) overflow: Vec<OverflowPlace>,
    /// Whether something else that is whole stands where the map names a page.
    pub(super) reused: bool,
}

/// Which images count that no map names.
#[derive(Clone, Debug, Default)]
pub(super) struct Admit {
    /// Not those that are newer than this LSN.
    pub(super) lsn_max: Option<u64>,
    /// Where each incarnation began to write the log, as far as it is known.
    pub(super) turns: BTreeMap<u32, u64>,
}

impl Admit {
    fn admits(&self, age: Age) -> bool {
        let void = self.turns.range(age.incarnation.saturating_add(1)..).any(|(_, &from)| age.lsn > from);
        !void && self.lsn_max.is_none_or(|max| age.lsn <= max)
    }
}

impl Found {
    pub(super) fn new(scratch: &Scratch) -> Found {
        Found {
            leaves: scratch.sorter("leaves"),
            parents: Vec::new(),
            suspects: BTreeMap::new(),
            overflow: Vec::new(),
            reused: false,
        }
    }

    /// Adds what these pointers name: those of the map, or of a bulk load in the log.
    pub(super) fn add_named(&mut self, blocks: &mut Blocks, named: &[(BlockPtr, PageId)], teller: &mut Teller<'_>) -> Result<()> {
        for (done, &(at, page)) in named.iter().enumerate() {
            if done % 64 == 0 {
                teller.progress(Stage::Looking, at.address() * blocks.block.bytes() as u64, blocks.reader.whole_len());
            }
            // What is longer than a page is a run of a large value.
            if at.blocks() as usize * blocks.block.bytes() > blocks.page_size {
                continue;
            }
            match blocks.page(page, at) {
                Ok(bytes) => self.add_page(page, at, &bytes)?,
                Err(missing) => {
                    self.reused |= matches!(missing, Missing::Reused(_));
                    self.suspects.insert(page, at);
                }
            }
        }
        Ok(())
    }

    fn add_page(&mut self, page: PageId, at: BlockPtr, bytes: &[u8]) -> Result<()> {
        match PageKind::from_code(bytes[KIND]) {
            Some(PageKind::Leaf | PageKind::Inner) => {}
            Some(PageKind::Overflow) => return Ok(()),
            Some(PageKind::Map) | None => {
                self.suspects.insert(page, at);
                return Ok(());
            }
        }
        match LonePage::open(bytes) {
            Ok(node) if node.level() == 0 => self.leaves.push(Leaf::of(&node, Age::of(bytes, true), at.into()).into_item()),
            Ok(node) => {
                if node.level() == 1 {
                    self.parents.push((page, at));
                }
                Ok(())
            }
            Err(_) => {
                self.suspects.insert(page, at);
                Ok(())
            }
        }
    }

    /// What is wrong with a page that the map names, asked once more.
    pub(super) fn fault(blocks: &mut Blocks, page: PageId, at: BlockPtr) -> String {
        match blocks.page(page, at) {
            Err(missing) => missing.text().to_owned(),
            Ok(bytes) => match LonePage::open(&bytes) {
                Err(what) => what.to_owned(),
                Ok(_) => "it could not be read before, and can be now".into(),
            },
        }
    }

    /// Looks at all blocks for images of pages that `map` says nothing of.
    pub(super) fn scan(
        &mut self,
        blocks: &mut Blocks,
        map: Option<&FoundMap>,
        admit: &Admit,
        scratch: &Scratch,
        teller: &mut Teller<'_>,
    ) -> Result<()> {
        let (block, total, overlap) = (blocks.block.bytes(), blocks.reader.whole_len(), blocks.page_size);
        let mut images = scratch.sorter("images");
        let mut memory = AlignedBuf::zeroed(WINDOW + overlap);
        let mut at = RESERVED_BYTES.next_multiple_of(block as u64);
        while at < total {
            teller.progress(Stage::Looking, at, total);
            let len = (WINDOW + overlap).min((total - at) as usize) / block * block;
            if len == 0 {
                break;
            }
            blocks.read_bytes(at, len, &mut memory);
            for offset in (0..WINDOW.min(len)).step_by(block) {
                let address = (at + offset as u64) / block as u64;
                let known = |page| map.is_some_and(|map| !map.is_lost(page));
                self.look_at(&memory[offset..len], blocks, address, &known, admit, &mut images)?;
            }
            at += WINDOW as u64;
        }
        self.overflow.sort_unstable();
        self.newest_first(images)
    }

    /// Takes the image that begins here, if one does.
    fn look_at(
        &mut self,
        bytes: &[u8],
        blocks: &Blocks,
        address: u64,
        known: &dyn Fn(PageId) -> bool,
        admit: &Admit,
        images: &mut Sorter,
    ) -> Result<()> {
        let Some((_, _, len)) = page_header::image_shape(bytes, blocks.page_size, blocks.block.bytes()) else { return Ok(()) };
        let Some(image) = bytes.get(..len) else { return Ok(()) };
        let page = get_u64(image, PAGE_ID);
        let kind = PageKind::from_code(image[KIND]).filter(|kind| *kind != PageKind::Map);
        let Some(kind) = kind.filter(|_| !known(PageId(page))) else { return Ok(()) };
        if crc32c::crc32c(&image[4..]) != get_u32(image, page_header::CRC) {
            return Ok(());
        }
        let age = Age::of(image, false);
        if !admit.admits(age) {
            return Ok(());
        }
        let place = Place { address, blocks: (len / blocks.block.bytes()) as u32 };
        let leaf = match kind {
            PageKind::Overflow => {
                self.overflow.push(OverflowPlace { page, lsn: age.lsn, write_number: age.write_number, place });
                None
            }
            _ => match page_header::unpack(image, blocks.page_size).as_deref().map(LonePage::open) {
                Some(Ok(node)) if node.level() == 0 => Some(Leaf::of(&node, age, place).into_item()),
                Some(Ok(_)) => None,
                _ => return Ok(()),
            },
        };
        let mut payload = get_u64(image, TREE_ID).to_le_bytes().to_vec();
        if let Some(leaf) = leaf {
            payload.extend((leaf.key.len() as u32).to_le_bytes());
            payload.extend(leaf.key);
            payload.extend(leaf.payload);
        }
        let order = [u64::from(age.incarnation), age.lsn, age.write_number];
        images.push(Item { number: page, key: Vec::new(), order, payload })
    }

    /// Of each page the newest image, and older ones, marked, as far as they cover keys that it does not.
    fn newest_first(&mut self, images: Sorter) -> Result<()> {
        let mut images = images.sorted()?;
        let mut group: Vec<Option<Leaf>> = Vec::new();
        while let Some(item) = images.next()? {
            let page = item.number;
            group.push(leaf_of(item));
            if images.peek().is_some_and(|next| next.number == page) {
                continue;
            }
            self.add_group(std::mem::take(&mut group))?;
        }
        Ok(())
    }

    /// The images of one page, oldest first; `None` where it was no leaf.
    fn add_group(&mut self, group: Vec<Option<Leaf>>) -> Result<()> {
        let mut kept: Vec<Leaf> = Vec::new();
        for (index, leaf) in group.into_iter().rev().enumerate() {
            let Some(mut leaf) = leaf else { continue };
            leaf.superseded = index > 0;
            if kept.iter().any(|newer| leaf.is_covered_by(newer)) {
                continue;
            }
            kept.push(leaf);
        }
        kept.into_iter().try_for_each(|leaf| self.leaves.push(leaf.into_item()))
    }
}

/// The leaf in an item of the images, if it was one.
fn leaf_of(item: Item) -> Option<Leaf> {
    let rest = item.payload.get(12..)?;
    let (key, payload) = rest.split_at_checked(get_u32(&item.payload, 8) as usize)?;
    let item = Item { number: get_u64(&item.payload, 0), key: key.to_vec(), order: [0; 3], payload: payload.to_vec() };
    Some(Leaf::from_item(item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::sim::{Sim, SimOptions};
    use ashlar_disk::{BlockSize, Fs, IoMode};
    use std::path::Path;
    use std::sync::Arc;

    fn leaf(lower: &[u8], upper: &[u8], lsn: u64) -> Leaf {
        let age = Age { named: false, incarnation: 1, lsn, write_number: 1 << 40 | lsn };
        let place = Place { address: lsn, blocks: 1 };
        Leaf { tree: 2, page: 5, lower: lower.to_vec(), upper: Some(upper.to_vec()), age, place, superseded: false }
    }

    /// What is kept of a page's images: LSN, and whether it is marked.
    fn kept(group: Vec<Option<Leaf>>) -> Vec<(u64, bool)> {
        let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(1)).fs();
        let mut found = Found::new(&Scratch::new(&fs, Path::new("/"), IoMode::Direct, BlockSize::MIN));
        found.add_group(group).unwrap();
        let mut sorted = found.leaves.sorted().unwrap();
        let mut kept = Vec::new();
        while let Some(item) = sorted.next().unwrap() {
            let leaf = Leaf::from_item(item);
            kept.push((leaf.age.lsn, leaf.superseded));
        }
        kept.sort_unstable();
        kept
    }

    #[test]
    fn of_a_page_older_images_are_kept_for_keys_that_the_newest_has_not() {
        let (old, half, new) = (leaf(b"a", b"z", 10), leaf(b"a", b"m", 20), leaf(b"a", b"m", 30));
        assert_eq!(kept(vec![Some(old.clone())]), [(10, false)]);
        // The page was split, and its right half is elsewhere, or nowhere.
        assert_eq!(kept(vec![Some(old.clone()), Some(half.clone()), Some(new)]), [(10, true), (30, false)]);
        // It was joined again: nothing older is needed.
        assert_eq!(kept(vec![Some(old.clone()), Some(half), Some(leaf(b"a", b"z", 40))]), [(40, false)]);
        // It is something else by now.
        assert_eq!(kept(vec![Some(old), None]), [(10, true)]);
    }

    #[test]
    fn what_is_void_or_newer_than_the_checkpoint_is_not_admitted() {
        let age = |incarnation, lsn| Age { named: false, incarnation, lsn, write_number: 0 };
        let admit = Admit { lsn_max: Some(2000), turns: [(2, 1000), (3, 1500)].into() };
        let admitted = |incarnation, lsn| admit.admits(age(incarnation, lsn));
        assert!(admitted(1, 1000) && admitted(2, 1500) && admitted(3, 2000));
        assert!(!admitted(1, 1001) && !admitted(2, 1501) && !admitted(1, 1501) && !admitted(3, 2001));
    }
}
