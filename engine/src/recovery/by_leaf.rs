//! The points of one tree by the leaves that they belong in, in the order in which those stand in the file.
//!
//! Leaves of neighbouring keys stand anywhere; in the order of the file those that a window changes are read side by side, many with one
//! transfer, while others are changed. Leaves that are in memory come first, in the order of their keys.
//!
//! In which order leaves are changed makes no difference: each point stands in one of them, and all of a window bear the same LSN. That
//! a point belongs in a leaf is a guess, which is looked at again when it is applied: a leaf before may have been split or joined.

use super::part::{Part, Point, PointsAhead};
use crate::btree::{Change, Tree, TreeOp};
use crate::error::Result;
use crate::pages::EnginePool;
use ashlar_bufferpool::PageId;
use std::ops::Range;

/// Points that are handed to a tree at once, whosever leaves they belong in: as few as keep what is made for each of them, and their bytes,
/// in the processor's caches; as many as keep reads of leaves in flight.
const AT_ONCE: usize = 1024;

/// Bytes of leaves that are asked for before their turn, at most; and one frame in so many is for them.
const BYTES: usize = 8 << 20;
const SHARE: usize = 8;

/// Runs ahead of the one that is applied, of whose leaf the processor is asked for what a change touches first.
const FETCHED: usize = 2;

/// Points that follow each other and are applied together.
pub(super) struct Run {
    /// Where their leaf stands; `None`: it is in memory, or unknown.
    address: Option<u64>,
    /// The leaf that all of them belong in; `None`: they belong in several, or it is unknown.
    pub(super) leaf: Option<PageId>,
    pub(super) points: Range<usize>,
}

/// The points of `tree`, in the order of their keys, as runs in the order in which they are to be applied: by leaves, unless all of these
/// are in memory.
pub(super) fn runs(pool: &EnginePool, tree: Tree, parts: &[Part], points: &[Point]) -> Vec<Run> {
    let by_leaf = if pool.may_miss() { leaves(pool, tree, parts, points) } else { Vec::new() };
    if by_leaf.iter().all(|run| run.address.is_none()) {
        let starts = (0..points.len()).step_by(AT_ONCE);
        return starts.map(|at| Run { address: None, leaf: None, points: at..points.len().min(at + AT_ONCE) }).collect();
    }
    let mut runs = by_leaf;
    runs.sort_by_key(|run| run.address);
    runs
}

/// The points as runs by their leaves, in the order of the keys.
fn leaves(pool: &EnginePool, tree: Tree, parts: &[Part], points: &[Point]) -> Vec<Run> {
    let (mut runs, mut from): (Vec<Run>, usize) = (Vec::new(), 0);
    let mut ahead = PointsAhead::of(parts, points, 0..points.len());
    for some in points.chunks(AT_ONCE) {
        let ops: Vec<TreeOp<'_>> = some
            .iter()
            .map(|point| {
                ahead.step();
                TreeOp { key: parts[point.part as usize].key(point), change: Change::Delete }
            })
            .collect();
        let mut start = 0;
        for (leaf, end) in tree.leaves(pool, &ops) {
            match runs.last_mut() {
                Some(run) if run.leaf == Some(leaf) => run.points.end = from + end,
                _ => runs.push(Run { address: pool.address(leaf), leaf: Some(leaf), points: from + start..from + end }),
            }
            start = end;
        }
        if start < some.len() {
            runs.push(Run { address: None, leaf: None, points: from + start..from + some.len() });
        }
        from += some.len();
    }
    debug_assert_eq!(runs.iter().map(|run| run.points.len()).sum::<usize>(), points.len(), "each point is in one run");
    runs
}

/// Calls `apply` for each run, while the leaves of later ones are being read.
pub(super) fn each(pool: &EnginePool, runs: &[Run], mut apply: impl FnMut(&Run) -> Result<()>) -> Result<()> {
    let window = (BYTES / pool.page_size()).min(pool.frames() as usize / SHARE).max(1);
    let (mut asked, mut pages) = (0, Vec::new());
    for (i, run) in runs.iter().enumerate() {
        if asked < runs.len() && asked.saturating_sub(i) <= window / 2 {
            let until = (i + window).min(runs.len());
            pages.clear();
            pages.extend(runs[asked..until].iter().filter_map(|run| run.leaf));
            pool.bring(&pages);
            asked = until;
        }
        runs.get(i + FETCHED).and_then(|soon| soon.leaf).into_iter().for_each(|leaf| pool.fetch(leaf));
        apply(run)?;
    }
    Ok(())
}
