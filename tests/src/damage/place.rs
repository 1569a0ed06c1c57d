//! A block that is damaged, and what is due then.

use super::fixture::{Fixture, data};
use super::layout::{Kind, Piece};
use super::log::Due;
use crate::images::{BLOCK, Block};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What becomes of a block.
#[derive(Clone, Debug)]
pub enum Damage {
    /// It holds these bytes.
    Becomes(Block),
    /// It can't be read.
    Unreadable,
}

/// A damaged block of a fixture.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file.
    pub path: PathBuf,
    /// The block.
    pub block: u64,
    /// What is done to it.
    pub damage: Damage,
}

/// What stands in a damaged block.
#[derive(Clone, Debug)]
pub enum Place<'a> {
    /// Something of `data` that is in use.
    Live(&'a Piece),
    /// Something of the log.
    Log(Due),
    /// Nothing.
    Free,
}

impl Place<'_> {
    /// For tables.
    pub fn name(&self) -> String {
        match self {
            Place::Live(piece) => match piece.kind {
                Kind::Superblock { current: true, mirror: false } => "superblock in use, first copy".into(),
                Kind::Superblock { current: true, mirror: true } => "superblock in use, mirror".into(),
                Kind::Superblock { current: false, mirror: false } => "older superblock, first copy".into(),
                Kind::Superblock { current: false, mirror: true } => "older superblock, mirror".into(),
                Kind::MapNode { level } => format!("page-map node of level {level}"),
                Kind::Catalog => "leaf of the catalog".into(),
                Kind::Inner => "inner page".into(),
                Kind::Leaf => "leaf".into(),
                Kind::Overflow => "overflow page".into(),
                Kind::RunList => "page of a list of runs".into(),
                Kind::Run => "run of a blob".into(),
                Kind::LongRun => "run of a blob with a long list".into(),
                Kind::Dropped => "page of a dropped tree".into(),
                Kind::Logged => "page or run that only the log names".into(),
            },
            Place::Log(Due::Nothing) => "log: not in use, or padding".into(),
            Place::Log(Due::Refusal) => "log: confirmed flush".into(),
            Place::Log(Due::EndsAt(_)) => "log: last flush, nothing vouches".into(),
            Place::Free => "free block".into(),
        }
    }
}

impl Fixture {
    /// The piece of `data` that a block is of.
    pub fn piece(&self, block: u64) -> Option<&Piece> {
        self.pieces.iter().find(|p| (p.block..p.block + p.blocks).contains(&block))
    }

    /// What a case damages; a case that changes nothing damages nothing.
    pub fn place(&self, case: &Case) -> Place<'_> {
        let old = &self.images.blocks(&case.path)[case.block as usize];
        let differs = |bytes: Range<usize>| match &case.damage {
            Damage::Becomes(new) => new[bytes.clone()] != old[bytes],
            Damage::Unreadable => true,
        };
        if case.path != data() {
            return Place::Log(self.log.due(&case.path, case.block, &differs));
        }
        self.piece(case.block).filter(|_| differs(0..BLOCK)).map_or(Place::Free, Place::Live)
    }

    /// A block as it is.
    pub fn block(&self, path: &Path, block: u64) -> &Block {
        &self.images.blocks(path)[block as usize]
    }
}
