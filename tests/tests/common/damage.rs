//! Finding and changing what stands in a database's files, with nothing of the engine's own code: offsets as `docs/format.md`
//! gives them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a block of the databases that are damaged here.
pub(crate) const BLOCK: usize = 4096;

/// Where the four copies of the superblock stand: slot 0, slot 1, and their mirrors.
pub(crate) const COPY_OFFSETS: [u64; 4] = [0, 256 << 10, 512 << 10, 768 << 10];

/// CRC-32C, bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82F6_3B78 } else { c >> 1 })
    })
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// What stands in a page image's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Leaf = 1,
    Inner = 2,
    Overflow = 3,
    Map = 4,
}

/// A whole page image in `data`.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) block: u64,
    pub(crate) len: usize,
    pub(crate) kind: Kind,
    pub(crate) level: u8,
    pub(crate) page: u64,
    pub(crate) tree: u64,
}

/// Every whole page image in `data`, old ones as well.
pub(crate) fn images(data: &[u8], page_size: usize) -> Vec<Image> {
    let from = 1 << 20;
    (from..data.len() / BLOCK * BLOCK).step_by(BLOCK).filter_map(|at| image(data, at, page_size)).collect()
}

fn image(data: &[u8], at: usize, page_size: usize) -> Option<Image> {
    let head = &data[at..at + 48];
    let kind = match head[5] {
        1 => Kind::Leaf,
        2 => Kind::Inner,
        3 => Kind::Overflow,
        4 => Kind::Map,
        _ => return None,
    };
    let (lower, upper) = (u32_at(head, 40) as usize, u32_at(head, 44) as usize);
    if !(48..=upper).contains(&lower) || upper > page_size {
        return None;
    }
    let len = (lower + page_size - upper).next_multiple_of(BLOCK);
    let bytes = data.get(at..at + len)?;
    let whole = crc32c(&bytes[4..]) == u32_at(bytes, 0);
    whole.then(|| Image { block: (at / BLOCK) as u64, len, kind, level: head[6], page: u64_at(head, 8), tree: u64_at(head, 16) })
}

/// Where a run of blocks begins with these bytes.
pub(crate) fn find_run(data: &[u8], begins: &[u8]) -> u64 {
    let at = (0..data.len() / BLOCK).find(|b| data[b * BLOCK..].starts_with(begins));
    at.expect("the value's bytes stand in data") as u64
}

/// A file's bytes.
pub(crate) fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn writable(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Writes bytes into a file as some other program would, and leaves nothing of it in the page cache.
pub(crate) fn put(path: &Path, offset: u64, bytes: &[u8]) {
    let file = writable(path);
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

/// Flips one bit.
pub(crate) fn flip(path: &Path, offset: u64, bit: u8) {
    let mut byte = [0];
    writable(path).read_exact_at(&mut byte, offset).unwrap();
    put(path, offset, &[byte[0] ^ 1 << bit]);
}

/// Cuts a file to this length, or makes it longer.
pub(crate) fn cut(path: &Path, len: u64) {
    let file = writable(path);
    file.set_len(len).unwrap();
    file.sync_all().unwrap();
}

/// Changes 4 bytes in a copy of the superblock and makes its checksum right again.
pub(crate) fn edit_superblock(data: &Path, copy: usize, at: usize, value: u32) {
    let mut block = vec![0; 4096];
    writable(data).read_exact_at(&mut block, COPY_OFFSETS[copy]).unwrap();
    block[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let crc = crc32c(&block[..4092]);
    block[4092..].copy_from_slice(&crc.to_le_bytes());
    put(data, COPY_OFFSETS[copy], &block);
}

/// A flush of the log, as its header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flush {
    /// Where it stands in its segment's file.
    pub(crate) offset: u64,
    pub(crate) lsn: u64,
    pub(crate) durable: u64,
    pub(crate) length: u64,
    pub(crate) incarnation: u32,
}

/// The flushes in a segment's bytes, by magic and checksum, in the order of the file.
pub(crate) fn flushes(segment: &[u8]) -> Vec<Flush> {
    let mut out = Vec::new();
    let mut at = 0;
    while at + 64 <= segment.len() {
        let length = u32_at(segment, at + 40) as usize;
        let fits = &segment[at + 4..at + 8] == b"Awal" && length >= 64 && at + length <= segment.len();
        if !fits || crc32c(&segment[at + 4..at + length]) != u32_at(segment, at) {
            at += BLOCK;
            continue;
        }
        out.push(Flush {
            offset: at as u64,
            lsn: u64_at(segment, at + 24),
            durable: u64_at(segment, at + 32),
            length: length as u64,
            incarnation: u32_at(segment, at + 12),
        });
        at += length.next_multiple_of(BLOCK);
    }
    out
}

/// The log's segments, in order.
pub(crate) fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut names: Vec<_> = std::fs::read_dir(dir.join("wal"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "wal"))
        .collect();
    names.sort();
    names
}
