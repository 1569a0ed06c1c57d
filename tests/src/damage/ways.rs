//! The ways in which a block is damaged, each with several cases.

use super::fixture::{Fixture, data};
use super::layout;
use super::place::{Case, Damage};
use crate::images::{BLOCK, Block};
use crate::workload::value;
use std::path::Path;
use std::sync::Arc;

/// A way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// Zeros, the whole block or some sectors.
    Zeroed,
    /// Junk, likewise.
    Junk,
    /// One bit.
    Flipped,
    /// What stood there before the last write: that one was lost.
    Lost,
    /// An older image of the same page, whole and with its checksum.
    Older,
    /// What another block holds: a write that went astray.
    Misdirected,
    /// It can't be read.
    Unreadable,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 7] = [Way::Zeroed, Way::Junk, Way::Flipped, Way::Lost, Way::Older, Way::Misdirected, Way::Unreadable];
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Way::Zeroed => "zeroed",
            Way::Junk => "junk",
            Way::Flipped => "one bit",
            Way::Lost => "lost write",
            Way::Older => "older image",
            Way::Misdirected => "another block's content",
            Way::Unreadable => "unreadable",
        })
    }
}

/// A block with bytes `from..to` replaced by others.
fn with(old: &Block, from: usize, to: usize, new: &[u8]) -> Block {
    let mut bytes = **old;
    bytes[from..to].copy_from_slice(&new[from..to]);
    Arc::new(bytes)
}

/// The cases of one way for one block; those that would change nothing are left out.
pub fn cases(fixture: &Fixture, way: Way, path: &Path, block: u64) -> Vec<Case> {
    let old = fixture.block(path, block);
    let damages: Vec<Damage> = match way {
        Way::Zeroed => {
            let zeros = [0; BLOCK];
            spans().map(|(from, to)| Damage::Becomes(with(old, from, to, &zeros))).collect()
        }
        Way::Junk => {
            let junk = value(0x6A75_6E6B ^ block, BLOCK);
            spans().map(|(from, to)| Damage::Becomes(with(old, from, to, &junk))).collect()
        }
        Way::Flipped => {
            [0, 4, 9, 20, 41, 70, 700, 4095].into_iter().map(|at| Damage::Becomes(flipped(old, at, 1 << (at % 8)))).collect()
        }
        Way::Lost => before(fixture, path, block).map(Damage::Becomes).into_iter().collect(),
        Way::Older => older(fixture, path, block).into_iter().map(Damage::Becomes).collect(),
        Way::Misdirected => others(fixture, path, block).into_iter().map(Damage::Becomes).collect(),
        Way::Unreadable => vec![Damage::Unreadable],
    };
    let changes = |damage: &Damage| match damage {
        Damage::Becomes(new) => new[..] != old[..],
        Damage::Unreadable => true,
    };
    damages.into_iter().filter(changes).map(|damage| Case { path: path.to_owned(), block, damage }).collect()
}

/// The whole block, its first and last sector, its second half.
fn spans() -> impl Iterator<Item = (usize, usize)> {
    [(0, BLOCK), (0, 512), (BLOCK - 512, BLOCK), (BLOCK / 2, BLOCK)].into_iter()
}

/// A block with some bits of one byte flipped.
pub fn flipped(old: &Block, at: usize, bits: u8) -> Block {
    let mut bytes = **old;
    bytes[at] ^= bits;
    Arc::new(bytes)
}

/// What stood in a block before it was last written.
fn before(fixture: &Fixture, path: &Path, block: u64) -> Option<Block> {
    fixture.history[path].iter().rev().find(|(at, _)| *at == block).map(|(_, old)| old.clone())
}

/// Older images of the page, or older superblocks, that stands in a block: the newest few that differ.
fn older(fixture: &Fixture, path: &Path, block: u64) -> Vec<Block> {
    const MOST: usize = 4;
    if *path != data() {
        return Vec::new();
    }
    let now = fixture.block(path, block);
    let page = layout::image(&now[..]);
    let same_page = |old: &Block| page.is_some() && layout::image(&old[..]) == page;
    let is_copy = layout::COPY_BLOCKS.contains(&block);
    let mut found: Vec<Block> = Vec::new();
    for (at, old) in fixture.history[path].iter().rev() {
        let is_older = if is_copy { *at == block && old[..8] == now[..8] } else { same_page(old) };
        if is_older && old[..] != now[..] && found.iter().all(|f| f[..] != old[..]) {
            found.push(old.clone());
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}

/// What other blocks hold: one of each kind in `data`, and of the log.
fn others(fixture: &Fixture, path: &Path, block: u64) -> Vec<Block> {
    let mut kinds = std::collections::BTreeSet::new();
    let pieces = fixture.pieces.iter().filter(|p| p.block != block || *path != data());
    let mut found: Vec<Block> =
        pieces.filter(|p| kinds.insert(p.kind)).map(|p| fixture.block(&data(), p.block).clone()).collect();
    // The block beside it: the commonest of stray writes.
    let blocks = fixture.images.blocks(path);
    found.extend(blocks.get(block as usize + 1).cloned());
    found.extend(fixture.log.flushes.iter().rev().take(2).map(|flush| fixture.block(&flush.path, flush.block).clone()));
    found
}
