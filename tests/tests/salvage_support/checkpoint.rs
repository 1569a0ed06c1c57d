//! A reader of the last checkpoint in a database's `data`, with nothing of the engine's own code: each entry's value, and the blocks that
//! it stands in.

use crate::common::damage::{BLOCK, COPY_OFFSETS, u32_at, u64_at};
use std::collections::BTreeMap;
use std::ops::Range;

/// An entry, and the blocks that hold it.
pub(crate) struct Entry {
    pub(crate) value: Vec<u8>,
    pub(crate) leaf: Range<u64>,
    pub(crate) blocks: Vec<Range<u64>>,
    pub(crate) is_blob: bool,
    pub(crate) tree: u64,
}

/// See the module.
pub(crate) struct Checkpoint {
    pub(crate) entries: BTreeMap<(String, Vec<u8>), Entry>,
    /// Nodes of the page map.
    pub(crate) map: Vec<Range<u64>>,
    /// The leaves of the catalog.
    pub(crate) catalog: Vec<Range<u64>>,
    /// The slot of the superblock it is of.
    pub(crate) slot: usize,
}

/// Told of each entry: the leaf's blocks, the key, kind and bytes of the value.
type Each<'a> = dyn FnMut(Range<u64>, &[u8], u8, &[u8]) + 'a;

struct Reader<'a> {
    data: &'a [u8],
    page_size: usize,
    places: BTreeMap<u64, (u64, u64)>,
    map: Vec<Range<u64>>,
}

impl Checkpoint {
    /// Reads it; the file is whole.
    pub(crate) fn read(data: &[u8]) -> Checkpoint {
        let newest = (0..2).max_by_key(|&slot| u64_at(data, COPY_OFFSETS[slot] as usize + 48)).unwrap();
        let superblock = &data[COPY_OFFSETS[newest] as usize..][..BLOCK];
        let page_size = u32_at(superblock, 36) as usize;
        let mut reader = Reader { data, page_size, places: BTreeMap::new(), map: Vec::new() };
        let height = u32_at(superblock, 96);
        if height > 0 {
            reader.read_map(u64_at(superblock, 88), height - 1, 0);
        }
        let mut out = Checkpoint { entries: BTreeMap::new(), map: Vec::new(), catalog: Vec::new(), slot: newest };
        if height > 0 {
            let mut trees = Vec::new();
            reader.tree(u64_at(superblock, 120), &mut |leaf, key, _, bytes| {
                out.catalog.push(leaf);
                if key.first() == Some(&b'k') {
                    trees.push((String::from_utf8(key[1..].to_vec()).unwrap(), u64_at(bytes, 0), u64_at(bytes, 8)));
                }
            });
            for (name, tree, root) in trees {
                reader.tree(root, &mut |leaf, key, kind, bytes| {
                    let (value, blocks) = reader.value(kind, bytes);
                    let entry = Entry { value, leaf, blocks, is_blob: kind >= 2, tree };
                    out.entries.insert((name.clone(), key.to_vec()), entry);
                });
            }
        }
        out.map = reader.map;
        out
    }
}

fn place(pointer: u64) -> (u64, u64) {
    let code = pointer >> 21 & 31;
    (pointer >> 26, if code < 16 { code + 1 } else { 1 << (5 + code - 16) })
}

impl Reader<'_> {
    fn bytes(&self, (address, blocks): (u64, u64)) -> &[u8] {
        &self.data[address as usize * BLOCK..][..blocks as usize * BLOCK]
    }

    fn read_map(&mut self, pointer: u64, level: u32, index: u64) {
        let at = place(pointer);
        self.map.push(at.0..at.0 + at.1);
        let image = self.bytes(at).to_vec();
        let fanout = (self.page_size as u64 - 48) / 8;
        for i in 0..(u32_at(&image, 40) as u64 - 48) / 8 {
            let entry = u64_at(&image, 48 + 8 * i as usize);
            match entry {
                0 => {}
                _ if level > 0 => self.read_map(entry, level - 1, index * fanout + i),
                _ => drop(self.places.insert(index * fanout + i, place(entry))),
            }
        }
    }

    fn page(&self, page: u64) -> (Range<u64>, Vec<u8>) {
        let at = self.places[&page];
        let image = self.bytes(at);
        let (lower, upper) = (u32_at(image, 40) as usize, u32_at(image, 44) as usize);
        let mut out = vec![0; self.page_size];
        out[..lower].copy_from_slice(&image[..lower]);
        out[upper..].copy_from_slice(&image[lower..lower + self.page_size - upper]);
        (at.0..at.0 + at.1, out)
    }

    fn tree(&self, root: u64, entry: &mut Each<'_>) {
        let (blocks, page) = self.page(root);
        let u16_at = |at: usize| usize::from(page[at]) | usize::from(page[at + 1]) << 8;
        let prefix = &page[self.page_size - u16_at(52)..][..u16_at(50)];
        for i in 0..u16_at(48) {
            let slot = u64_at(&page, 64 + 8 * i);
            let (len, cell) = ((slot >> 16 & 0xFFFF) as usize, (slot & 0xFFFF) as usize);
            if page[5] == 2 {
                self.tree(u64_at(&page, cell), entry);
                continue;
            }
            let head = &((slot >> 32) as u32).to_be_bytes()[..len.min(4)];
            let rest = len.saturating_sub(4);
            let key = [prefix, head, &page[cell + 3..][..rest]].concat();
            entry(blocks.clone(), &key, page[cell + 2], &page[cell + 3 + rest..][..u16_at(cell)]);
        }
    }

    fn value(&self, kind: u8, bytes: &[u8]) -> (Vec<u8>, Vec<Range<u64>>) {
        if kind == 0 {
            return (bytes.to_vec(), Vec::new());
        }
        let mut rest = bytes;
        let len = varint(&mut rest) as usize;
        let (mut value, mut blocks) = (Vec::new(), Vec::new());
        if kind == 2 {
            for _ in 0..varint(&mut rest) {
                let at = self.places[&varint(&mut rest)];
                rest = &rest[4..];
                value.extend_from_slice(self.bytes(at));
                blocks.push(at.0..at.0 + at.1);
            }
        } else {
            rest = &rest[8..];
            while !rest.is_empty() {
                let (at, page) = self.page(varint(&mut rest));
                value.extend_from_slice(&page[56..][..u32_at(&page, 52) as usize]);
                blocks.push(at);
            }
        }
        value.truncate(len);
        if kind == 3 {
            let (inner, runs) = self.value(2, &value);
            blocks.extend(runs);
            value = inner;
        }
        (value, blocks)
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
