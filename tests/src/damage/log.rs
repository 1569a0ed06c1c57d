//! What stands where in the log, and what damage to it may do: the rule of `docs/format.md`, by what is known of the log when it was
//! whole.

use super::layout::{Superblock, crc32c, u32_at, u64_at};
use crate::images::{BLOCK, Images};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A flush.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The segment's file.
    pub path: PathBuf,
    /// Its first block in there.
    pub block: u64,
    /// Where it stands in the log.
    pub lsn: u64,
    /// Header and payload, in bytes.
    pub length: u64,
    /// Up to where it says that the log was durable.
    pub durable: u64,
}

impl Flush {
    /// How many blocks it takes.
    pub fn blocks(&self) -> u64 {
        self.length.div_ceil(BLOCK as u64)
    }

    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.lsn + self.blocks() * BLOCK as u64
    }
}

/// The log of a whole database.
#[derive(Clone, Debug)]
pub struct Log {
    /// The flushes from C to the end, in order.
    pub flushes: Vec<Flush>,
    /// A.
    pub a: u64,
}

/// What damage to the log is to come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nobody reads what is damaged.
    Nothing,
    /// It was confirmed: the log is not followed.
    Refusal,
    /// Nothing vouches for it yet: the log ends at that position.
    EndsAt(u64),
}

impl Log {
    /// Reads the log in `dir` from C on.
    pub fn read(images: &Images, dir: &Path, superblock: &Superblock) -> Log {
        let mut flushes = Vec::new();
        let mut next = superblock.c;
        while let Some(flush) = flush_at(images, dir, next, superblock.segment_size) {
            next = flush.end();
            flushes.push(flush);
        }
        Log { flushes, a: superblock.a }
    }

    /// What damage to a block is to come to, where `differs` says whether anything in such a range of its bytes has changed.
    pub fn due(&self, path: &Path, block: u64, differs: &dyn Fn(Range<usize>) -> bool) -> Due {
        let is_hit = |flush: &Flush| {
            let within = flush.path == path && (flush.block..flush.block + flush.blocks()).contains(&block);
            // Behind its length there is padding, which nobody reads.
            within && differs(0..BLOCK.min((flush.length - (block - flush.block) * BLOCK as u64) as usize))
        };
        let Some(hit) = self.flushes.iter().find(|flush| is_hit(flush)) else { return Due::Nothing };
        // A flush that is hit itself says nothing any more.
        let vouched = self.a > hit.lsn || self.flushes.iter().any(|flush| !is_hit(flush) && flush.durable > hit.lsn);
        if vouched { Due::Refusal } else { Due::EndsAt(hit.lsn) }
    }

    /// Whether a block holds a part of a flush from C on.
    pub fn is_used(&self, path: &Path, block: u64) -> bool {
        self.flushes.iter().any(|flush| flush.path == path && (flush.block..flush.block + flush.blocks()).contains(&block))
    }
}

fn flush_at(images: &Images, dir: &Path, lsn: u64, segment_size: u64) -> Option<Flush> {
    let path = dir.join(format!("{:012}.wal", lsn / segment_size));
    if !images.paths().any(|p| *p == path) {
        return None;
    }
    let offset = lsn % segment_size;
    let block = offset / BLOCK as u64;
    let blocks = images.blocks(&path);
    let head = &blocks[block as usize][..];
    let length = u64::from(u32_at(head, 40));
    if &head[4..8] != b"Awal" || u64_at(head, 24) != lsn || length < 64 || offset + length > segment_size {
        return None;
    }
    let bytes: Vec<u8> = blocks[block as usize..].iter().take(length.div_ceil(BLOCK as u64) as usize).flat_map(|b| **b).collect();
    let whole = crc32c(&bytes[4..length as usize]) == u32_at(head, 0);
    whole.then(|| Flush { path, block, lsn, length, durable: u64_at(head, 32) })
}
