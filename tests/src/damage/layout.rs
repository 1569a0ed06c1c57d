//! What stands where in `data`: every block that the newest superblock leads to, read by the offsets in `docs/format.md`, with no code
//! of the engine's.
//!
//! For databases whose pages are one block of 4096 bytes, and that are whole: what is not as it should be ends the test.

use crate::images::{BLOCK, Block};
use std::collections::BTreeMap;

/// What a block, or a run of blocks, holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A copy of the superblock, of the slot in use or of the other one.
    Superblock {
        /// Whether its slot is in use.
        current: bool,
        /// Whether it is the second copy of its slot.
        mirror: bool,
    },
    /// A node of the page map.
    MapNode {
        /// Its level.
        level: u8,
    },
    /// A leaf of the catalog.
    Catalog,
    /// An inner page of a keyspace.
    Inner,
    /// A leaf of a keyspace.
    Leaf,
    /// An overflow page of a value.
    Overflow,
    /// An overflow page of a list of runs.
    RunList,
    /// A run of a blob.
    Run,
    /// A run of a blob whose list of runs has pages of its own.
    LongRun,
    /// Anything of a dropped tree.
    Dropped,
    /// Runs and pages that only the log names.
    Logged,
}

/// Blocks that belong together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What they hold.
    pub kind: Kind,
    /// The first block.
    pub block: u64,
    /// How many there are.
    pub blocks: u64,
    /// The page id, if they have one.
    pub page: Option<u64>,
    /// Keyspace or tree, as verification names it.
    pub keyspace: Option<String>,
}

/// Fields of a superblock.
#[derive(Clone, Copy, Debug)]
pub struct Superblock {
    /// Which copy it is.
    pub copy: usize,
    /// Its number.
    pub number: u64,
    /// Where replay starts.
    pub c: u64,
    /// LSN of the last commit of the checkpoint.
    pub a: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Incarnation at C.
    pub incarnation_at_c: u32,
    map_root: u64,
    map_height: u32,
    catalog_root: u64,
}

/// Where the copies stand: slot 0, slot 1, their mirrors.
pub const COPY_BLOCKS: [u64; 4] = [0, 64, 128, 192];

/// The first block behind the superblocks.
pub const FIRST_BLOCK: u64 = 256;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    (u16_at(bytes, at) | u16_at(bytes, at + 2) << 16) as u32
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// CRC-32C, by a table.
pub fn crc32c(bytes: &[u8]) -> u32 {
    static TABLE: std::sync::LazyLock<[u32; 256]> = std::sync::LazyLock::new(|| {
        std::array::from_fn(|i| (0..8).fold(i as u32, |c, _| if c & 1 == 1 { c >> 1 ^ 0x82F6_3B78 } else { c >> 1 }))
    });
    !bytes.iter().fold(!0u32, |crc, &byte| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize])
}

/// The newest superblock.
pub fn superblock(data: &[Block]) -> Superblock {
    let copies = COPY_BLOCKS.iter().enumerate().map(|(copy, &block)| {
        let b = &data[block as usize][..];
        assert!(&b[..8] == b"ASHLARDB" && crc32c(&b[..4092]) == u32_at(b, 4092), "copy {copy} is whole");
        assert_eq!((u32_at(b, 32), u32_at(b, 36)), (BLOCK as u32, BLOCK as u32), "block and page size");
        Superblock {
            copy,
            number: u64_at(b, 48),
            c: u64_at(b, 64),
            a: u64_at(b, 72),
            segment_size: u64_at(b, 40),
            incarnation_at_c: u32_at(b, 84),
            map_root: u64_at(b, 88),
            map_height: u32_at(b, 96),
            catalog_root: u64_at(b, 120),
        }
    });
    let copies: Vec<Superblock> = copies.collect();
    // The first of those with the highest number.
    let newest = copies.iter().map(|s| s.number).max().unwrap_or(0);
    copies[copies.iter().position(|s| s.number == newest).unwrap_or(0)]
}

/// The kind in a page image's header, and the page id, where one stands there whole.
pub fn image(block: &[u8]) -> Option<(u8, u64)> {
    let (lower, upper) = (u32_at(block, 40) as usize, u32_at(block, 44) as usize);
    let fits = (48..=upper).contains(&lower) && upper <= BLOCK;
    (fits && (1..=4).contains(&block[5]) && crc32c(&block[4..]) == u32_at(block, 0)).then(|| (block[5], u64_at(block, 8)))
}

/// LSN and tree id of a page image.
pub fn lsn_and_tree(block: &[u8]) -> (u64, u64) {
    (u64_at(block, 32), u64_at(block, 16))
}

struct Reader<'a> {
    data: &'a [Block],
    map: BTreeMap<u64, u64>,
    pieces: Vec<Piece>,
}

/// Everything that the newest superblock leads to.
pub fn pieces(data: &[Block]) -> Vec<Piece> {
    let newest = superblock(data);
    let mut reader = Reader { data, map: BTreeMap::new(), pieces: Vec::new() };
    for (copy, &block) in COPY_BLOCKS.iter().enumerate() {
        let kind = Kind::Superblock { current: copy % 2 == newest.copy % 2, mirror: copy > 1 };
        reader.pieces.push(Piece { kind, block, blocks: 1, page: None, keyspace: None });
    }
    if newest.map_height > 0 {
        reader.map_node(newest.map_root, newest.map_height as u8 - 1, 0);
        reader.catalog(newest.catalog_root);
    }
    let mut blocks: Vec<_> = reader.pieces.iter().map(|p| (p.block, p.block + p.blocks)).collect();
    blocks.sort_unstable();
    assert!(blocks.windows(2).all(|w| w[0].1 <= w[1].0), "each block has one owner");
    assert!(reader.map.is_empty(), "the map names what nothing leads to: {:?}", reader.map);
    reader.pieces
}

fn place(pointer: u64) -> (u64, u64) {
    let code = pointer >> 21 & 31;
    (pointer >> 26, if code < 16 { code + 1 } else { 1 << (code - 16 + 5) })
}

impl Reader<'_> {
    fn map_node(&mut self, pointer: u64, level: u8, index: u64) {
        let block = place(pointer).0;
        let node = self.data[block as usize].clone();
        assert_eq!((image(&node[..]), node[6]), (Some((4, index)), level), "a page-map node");
        self.pieces.push(Piece { kind: Kind::MapNode { level }, block, blocks: 1, page: None, keyspace: None });
        let fanout = (BLOCK as u64 - 48) / 8;
        for entry in 0..(u64::from(u32_at(&node[..], 40)) - 48) / 8 {
            let pointer = u64_at(&node[..], 48 + entry as usize * 8);
            let below = index * fanout + entry;
            match (pointer, level) {
                (0, _) => {}
                (_, 0) => drop(self.map.insert(below, pointer)),
                _ => self.map_node(pointer, level - 1, below),
            }
        }
    }

    /// Enters a page or run.
    fn enter(&mut self, page: u64, kind: Kind, owner: &str) -> u64 {
        let pointer = self.map.remove(&page);
        let (block, blocks) = place(pointer.unwrap_or_else(|| panic!("page {page} of {owner} stands in the map, once")));
        self.pieces.push(Piece { kind, block, blocks, page: Some(page), keyspace: Some(owner.to_owned()) });
        block
    }

    fn catalog(&mut self, root: u64) {
        let mut entries = Vec::new();
        self.tree(root, "the catalog", &|_| Kind::Catalog, &mut |key, _, value| entries.push((key, value)));
        for (key, value) in entries {
            if key[0] == b'k' {
                let name = String::from_utf8(key[1..].to_vec()).unwrap_or_else(|e| panic!("a name: {e}"));
                self.keyspace(u64_at(&value, 8), &name, None);
            } else if key[0] == b'd' {
                let tree = key[1..].iter().fold(0u64, |id, &byte| id << 8 | u64::from(byte));
                self.keyspace(u64_at(&value, 0), &format!("dropped tree {tree}"), Some(Kind::Dropped));
            }
        }
    }

    fn keyspace(&mut self, root: u64, name: &str, all: Option<Kind>) {
        let mut values = Vec::new();
        let kind = |is_leaf| all.unwrap_or(if is_leaf { Kind::Leaf } else { Kind::Inner });
        self.tree(root, name, &kind, &mut |_, kind, value| values.push((kind, value)));
        for (kind, value) in values {
            match kind {
                1 => drop(self.overflow(&value, all.unwrap_or(Kind::Overflow), name)),
                2 => self.runs(&value, all.unwrap_or(Kind::Run), name),
                3 => {
                    let list = self.overflow(&value, all.unwrap_or(Kind::RunList), name);
                    self.runs(&list, all.unwrap_or(Kind::LongRun), name);
                }
                _ => {}
            }
        }
    }

    fn tree(&mut self, page: u64, owner: &str, kind: &dyn Fn(bool) -> Kind, entry: &mut dyn FnMut(Vec<u8>, u8, Vec<u8>)) {
        let is_leaf = self.data[place(self.map[&page]).0 as usize][5] == 1;
        let block = self.enter(page, kind(is_leaf), owner);
        let bytes = self.data[block as usize].clone();
        let b = unpacked(&bytes[..]);
        let (count, prefix, lower) = (u16_at(&b, 48), u16_at(&b, 50), u16_at(&b, 52));
        for slot in (0..count).map(|i| u64_at(&b, 64 + 8 * i)) {
            let (len, cell) = ((slot >> 16 & 0xFFFF) as usize, (slot & 0xFFFF) as usize);
            if !is_leaf {
                self.tree(u64_at(&b, cell), owner, kind, entry);
                continue;
            }
            let rest = len.saturating_sub(4);
            let head = ((slot >> 32) as u32).to_be_bytes();
            let key = [&b[BLOCK - lower..][..prefix], &head[..len.min(4)], &b[cell + 3..][..rest]].concat();
            let value = b[cell + 3 + rest..][..u16_at(&b, cell)].to_vec();
            entry(key, b[cell + 2], value);
        }
    }

    /// The bytes of an overflow list's value.
    fn overflow(&mut self, list: &[u8], kind: Kind, owner: &str) -> Vec<u8> {
        let mut list = list;
        let len = varint(&mut list) as usize;
        list = &list[8..];
        let mut out = Vec::new();
        while out.len() < len {
            let block = self.enter(varint(&mut list), kind, owner);
            let bytes = &self.data[block as usize];
            out.extend_from_slice(&bytes[56..][..u32_at(&bytes[..], 52) as usize]);
        }
        out
    }

    fn runs(&mut self, list: &[u8], kind: Kind, owner: &str) {
        let mut list = list;
        let _len = varint(&mut list);
        for _ in 0..varint(&mut list) {
            self.enter(varint(&mut list), kind, owner);
            list = &list[4..];
        }
    }
}

/// A page with its back part where it belongs.
fn unpacked(image: &[u8]) -> Vec<u8> {
    let (lower, upper) = (u32_at(image, 40) as usize, u32_at(image, 44) as usize);
    let mut page = vec![0; BLOCK];
    page[..lower].copy_from_slice(&image[..lower]);
    page[upper..].copy_from_slice(&image[lower..lower + BLOCK - upper]);
    page
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut out, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        out |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            return out;
        }
    }
}
