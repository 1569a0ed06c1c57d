//! Reading `data`: superblock, page map, pages, trees, values. Every checksum is checked, every block has one owner.

use super::bytes::{Bytes, crc32c, u16_at, u32_at, u64_at};
use std::collections::BTreeMap;
use std::path::Path;

const COPY_OFFSETS: [usize; 4] = [0, 262_144, 524_288, 786_432];
const RESERVED: usize = 1 << 20;
const SUPERBLOCK_LEN: usize = 4096;
const HEADER: usize = 48;

const LEAF: u8 = 1;
const INNER: u8 = 2;
const OVERFLOW: u8 = 3;
const MAP: u8 = 4;

/// A superblock, by the fields a reader needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Superblock {
    pub(crate) uuid: [u8; 16],
    pub(crate) block: usize,
    pub(crate) page_size: usize,
    pub(crate) segment_size: u64,
    pub(crate) number: u64,
    pub(crate) checkpoint: u64,
    pub(crate) c: u64,
    pub(crate) a: u64,
    pub(crate) incarnation: u32,
    pub(crate) incarnation_at_c: u32,
    pub(crate) map_root: u64,
    pub(crate) map_height: u32,
    pub(crate) next_page: u64,
    pub(crate) next_tree: u64,
    pub(crate) catalog_root: u64,
    pub(crate) log_dir: String,
    pub(crate) clean: bool,
}

/// One copy, if it is whole.
fn copy(data: &[u8], offset: usize) -> Option<Superblock> {
    let b = &data[offset..offset + SUPERBLOCK_LEN];
    if &b[..8] != b"ASHLARDB" || u32_at(b, 4092) != crc32c(&b[..4092]) {
        return None;
    }
    assert_eq!((u32_at(b, 8), u32_at(b, 12)), (1, 0), "format version and feature flags");
    assert!(b[1156..4092].iter().all(|&x| x == 0), "behind the fields there are zeros");
    assert!(u32_at(b, 1152) <= 1, "the clean mark is there or not");
    let dir_len = u32_at(b, 100) as usize;
    Some(Superblock {
        uuid: b[16..32].try_into().expect("sixteen bytes"),
        block: u32_at(b, 32) as usize,
        page_size: u32_at(b, 36) as usize,
        segment_size: u64_at(b, 40),
        number: u64_at(b, 48),
        checkpoint: u64_at(b, 56),
        c: u64_at(b, 64),
        a: u64_at(b, 72),
        incarnation: u32_at(b, 80),
        incarnation_at_c: u32_at(b, 84),
        map_root: u64_at(b, 88),
        map_height: u32_at(b, 96),
        next_page: u64_at(b, 104),
        next_tree: u64_at(b, 112),
        catalog_root: u64_at(b, 120),
        log_dir: String::from_utf8(b[128..128 + dir_len].to_vec()).expect("a path in UTF-8"),
        clean: u32_at(b, 1152) == 1,
    })
}

/// The superblock that counts.
pub(crate) fn choose(data: &[u8]) -> Superblock {
    let slot = |primary: usize| {
        let copies = [copy(data, COPY_OFFSETS[primary]), copy(data, COPY_OFFSETS[primary + 2])];
        copies.into_iter().flatten().max_by_key(|s| s.number).expect("a slot has a whole copy")
    };
    let (zero, one) = (slot(0), slot(1));
    if one.number > zero.number { one } else { zero }
}

/// Where something stands: offset and length in `data`, and the low 21 bits of its crc32c.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: usize,
    len: usize,
    crc: u32,
}

impl Place {
    fn of(pointer: u64, block: usize) -> Place {
        let code = pointer >> 21 & 31;
        let blocks = if code < 16 { code + 1 } else { 1 << (code - 16 + 5) } as usize;
        Place { offset: (pointer >> 26) as usize * block, len: blocks * block, crc: pointer as u32 & 0x1F_FFFF }
    }
}

/// What a leaf says that a key holds.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) cell: Vec<u8>,
}

/// A keyspace's entries.
pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The file `data` as of its checkpoint.
pub(crate) struct Data {
    bytes: Vec<u8>,
    pub(crate) superblock: Superblock,
    /// Page id to block pointer.
    map: BTreeMap<u64, u64>,
    /// How often each page id of the map was come to.
    reached: BTreeMap<u64, u32>,
    pub(crate) count: Count,
}

/// What was read.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Count {
    pub(crate) leaves: u64,
    pub(crate) inner: u64,
    pub(crate) overflow: u64,
    pub(crate) runs: u64,
    pub(crate) long_blobs: u64,
    pub(crate) packed: u64,
}

impl Data {
    /// Reads the file and the whole page map.
    pub(crate) fn open(dir: &Path) -> Data {
        let bytes = std::fs::read(dir.join("data")).expect("data is there");
        let superblock = choose(&bytes);
        assert_eq!(bytes.len() % superblock.block, 0, "whole blocks");
        let mut data = Data { bytes, superblock, map: BTreeMap::new(), reached: BTreeMap::new(), count: Count::default() };
        let mut owned = Vec::new();
        if data.superblock.map_height > 0 {
            let (root, top) = (data.superblock.map_root, data.superblock.map_height - 1);
            data.read_map(root, top, 0, &mut owned);
        }
        owned.extend(data.map.values().map(|&pointer| data.place(pointer)));
        owned.sort_by_key(|place| place.offset);
        assert!(owned.first().is_none_or(|first| first.offset >= RESERVED), "superblocks have their own place");
        assert!(owned.windows(2).all(|w| w[0].offset + w[0].len <= w[1].offset), "every block has one owner");
        assert!(data.map.keys().all(|&page| page < data.superblock.next_page));
        data
    }

    fn place(&self, pointer: u64) -> Place {
        let place = Place::of(pointer, self.superblock.block);
        assert!(place.offset + place.len <= self.bytes.len(), "within the file");
        place
    }

    /// A checked image, unpacked to a whole page.
    fn image(&self, pointer: u64, id: u64) -> Vec<u8> {
        let (place, page_size) = (self.place(pointer), self.superblock.page_size);
        let image = &self.bytes[place.offset..place.offset + place.len];
        assert!(place.len <= page_size);
        assert_eq!(u32_at(image, 0), crc32c(&image[4..]), "crc32c of the image of page {id}");
        assert_eq!(u64_at(image, 8), id, "the page that was asked for");
        assert_eq!(u32_at(image, 0) & 0x1F_FFFF, place.crc, "crc32c in the pointer");
        assert_eq!((image[4], image[7]), (0, 0), "packing");
        let (lower, upper) = (u32_at(image, 40) as usize, u32_at(image, 44) as usize);
        assert!(HEADER <= lower && lower <= upper && upper <= page_size);
        let used = lower + page_size - upper;
        assert_eq!(place.len, used.next_multiple_of(self.superblock.block), "no more blocks than are used");
        assert!(image[used..].iter().all(|&b| b == 0), "zeros behind the two parts");
        let mut page = vec![0; page_size];
        page[..lower].copy_from_slice(&image[..lower]);
        page[upper..].copy_from_slice(&image[lower..used]);
        page
    }

    fn read_map(&mut self, pointer: u64, level: u32, index: u64, owned: &mut Vec<Place>) {
        let node = self.image(pointer, index);
        owned.push(self.place(pointer));
        assert_eq!((node[5], u32::from(node[6]), u64_at(&node, 16)), (MAP, level, 0));
        let fanout = ((self.superblock.page_size - HEADER) / 8) as u64;
        for entry in 0..(u32_at(&node, 40) as u64 - HEADER as u64) / 8 {
            let pointer = u64_at(&node, HEADER + entry as usize * 8);
            let below = index * fanout + entry;
            match (pointer, level) {
                (0, _) => {}
                (_, 0) => drop(self.map.insert(below, pointer)),
                _ => self.read_map(pointer, level - 1, below, owned),
            }
        }
    }

    /// Where the map says that a page or run stands. Each is named once.
    fn named(&mut self, page: u64) -> u64 {
        *self.reached.entry(page).or_default() += 1;
        *self.map.get(&page).expect("what is named stands in the map")
    }

    fn page(&mut self, id: u64, tree: u64) -> Vec<u8> {
        let pointer = self.named(id);
        let page = self.image(pointer, id);
        assert_eq!(u64_at(&page, 16), tree, "tree id of page {id}");
        self.count.packed += u64::from(self.place(pointer).len < self.superblock.page_size);
        page
    }

    /// All entries of a tree, in order.
    pub(crate) fn tree(&mut self, tree: u64, root: u64) -> Vec<Entry> {
        let mut out = Vec::new();
        self.walk(tree, root, None, (&[], None), &mut out);
        assert!(out.windows(2).all(|w| w[0].key < w[1].key), "keys ascend");
        out
    }

    fn walk(&mut self, tree: u64, id: u64, level: Option<u8>, fences: (&[u8], Option<&[u8]>), out: &mut Vec<Entry>) {
        let page = self.page(id, tree);
        assert!(level.is_none_or(|l| l == page[6]), "level of page {id}");
        assert_eq!(page[5], if page[6] == 0 { LEAF } else { INNER }, "kind of page {id}");
        assert!(u64_at(&page, 32) <= self.superblock.a, "no commit beyond A");
        let count = u16_at(&page, 48);
        assert_eq!(u32_at(&page, 40) as usize, 64 + 8 * count, "lower");
        assert!(page[58..64].iter().all(|&b| b == 0));
        let (lower_len, upper_len) = (u16_at(&page, 52), u16_at(&page, 54));
        let lower = page[page.len() - lower_len..].to_vec();
        let upper = (upper_len != 0xFFFF).then(|| page[page.len() - lower_len - upper_len..page.len() - lower_len].to_vec());
        assert_eq!((&lower[..], upper.as_deref()), fences, "fences of page {id}");
        let prefix = &lower[..u16_at(&page, 50)];
        let slots: Vec<u64> = (0..count).map(|i| u64_at(&page, 64 + 8 * i)).collect();
        if page[6] == 0 {
            self.count.leaves += 1;
            for slot in slots {
                let cell = (slot & 0xFFFF) as usize;
                let (key, at) = key_of(&page, prefix, slot, 3);
                assert!(key >= lower && upper.as_ref().is_none_or(|upper| key < *upper), "key between the fences");
                out.push(Entry { key, kind: page[cell + 2], cell: page[at..at + u16_at(&page, cell)].to_vec() });
            }
            return;
        }
        self.count.inner += 1;
        assert!(count > 0, "an inner page has a child");
        assert_eq!(slots[0] >> 16 & 0xFFFF, 0, "slot 0 has no key");
        let mut bounds: Vec<Option<Vec<u8>>> = vec![Some(lower.clone())];
        bounds.extend(slots[1..].iter().map(|&slot| Some(key_of(&page, prefix, slot, 8).0)));
        bounds.push(upper);
        for (i, slot) in slots.iter().enumerate() {
            let child = u64_at(&page, (slot & 0xFFFF) as usize);
            let from = bounds[i].as_deref().expect("only the last bound is open");
            self.walk(tree, child, Some(page[6] - 1), (from, bounds[i + 1].as_deref()), out);
        }
    }

    /// All keys of a tree, with their values.
    pub(crate) fn entries(&mut self, tree: u64, root: u64) -> Entries {
        let found = self.tree(tree, root);
        found.into_iter().map(|e| (e.key, self.value(tree, e.kind, &e.cell))).collect()
    }

    /// An entry of the next checkpoint's map, which a record names.
    pub(crate) fn add_to_map(&mut self, page: u64, pointer: u64) {
        assert!(self.map.insert(page, pointer).is_none(), "page {page} has a place already");
    }

    /// The value that a leaf's cell of `tree` stands for.
    pub(crate) fn value(&mut self, tree: u64, kind: u8, cell: &[u8]) -> Vec<u8> {
        match kind {
            0 => cell.to_vec(),
            1 => self.overflow(tree, cell),
            2 => self.blob(cell),
            3 => {
                self.count.long_blobs += 1;
                let list = self.overflow(tree, cell);
                self.blob(&list)
            }
            _ => unreachable!("kind {kind} of a value"),
        }
    }

    fn overflow(&mut self, tree: u64, list: &[u8]) -> Vec<u8> {
        let mut list = Bytes(list);
        let (len, lsn) = (list.varint() as usize, list.u64());
        let piece_max = self.superblock.page_size - 56;
        let mut value = Vec::new();
        for number in 0..len.div_ceil(piece_max) {
            let page = self.page(list.varint(), tree);
            let piece = u32_at(&page, 52) as usize;
            assert_eq!((page[5], u64_at(&page, 32), u32_at(&page, 48) as usize), (OVERFLOW, lsn, number));
            assert_eq!(piece, (len - value.len()).min(piece_max), "full but the last");
            assert_eq!((u32_at(&page, 40) as usize, u32_at(&page, 44) as usize), (56 + piece, page.len()));
            value.extend_from_slice(&page[56..56 + piece]);
            self.count.overflow += 1;
        }
        assert!(list.0.is_empty() && value.len() == len);
        value
    }

    fn blob(&mut self, list: &[u8]) -> Vec<u8> {
        let mut list = Bytes(list);
        let (len, runs) = (list.varint() as usize, list.varint());
        let mut value = Vec::new();
        for _ in 0..runs {
            let pointer = self.named(list.varint());
            value.extend_from_slice(self.run(pointer, list.u32()));
        }
        assert!(list.0.is_empty());
        cut(value, len, self.superblock.block)
    }

    /// A run's bytes, checked.
    fn run(&mut self, pointer: u64, crc: u32) -> &[u8] {
        self.count.runs += 1;
        let place = self.place(pointer);
        let run = &self.bytes[place.offset..place.offset + place.len];
        assert_eq!(crc32c(run), crc, "crc32c of a run");
        assert_eq!(crc & 0x1F_FFFF, place.crc, "crc32c in the run's pointer");
        run
    }

    /// A blob as a record names it: its pointers are in the record, not in the map.
    pub(crate) fn logged_blob(&mut self, len: usize, runs: &[(u64, u32)]) -> Vec<u8> {
        let mut value = Vec::new();
        for &(pointer, crc) in runs {
            value.extend_from_slice(self.run(pointer, crc));
        }
        cut(value, len, self.superblock.block)
    }

    /// Whatever the map names was come to, once.
    pub(crate) fn check_all_reached(&self) {
        for page in self.map.keys() {
            assert_eq!(self.reached.get(page), Some(&1), "page {page} of the map");
        }
    }
}

/// A blob without its padding, which is less than a block of zeros.
fn cut(mut value: Vec<u8>, len: usize, block: usize) -> Vec<u8> {
    assert_eq!(value.len(), len.next_multiple_of(block));
    assert!(value[len..].iter().all(|&b| b == 0), "the padding is zeros");
    value.truncate(len);
    value
}

/// The key of a slot, and where in its cell, behind a head of `cell_head` bytes, the key's rest ends.
fn key_of(page: &[u8], prefix: &[u8], slot: u64, cell_head: usize) -> (Vec<u8>, usize) {
    let (head, len, cell) = ((slot >> 32) as u32, (slot >> 16 & 0xFFFF) as usize, (slot & 0xFFFF) as usize);
    let rest = cell + cell_head..cell + cell_head + len.saturating_sub(4);
    let end = rest.end;
    (([prefix, &head.to_be_bytes()[..len.min(4)], &page[rest]].concat()), end)
}
