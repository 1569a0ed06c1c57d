//! The list of recent commits: those that are not yet applied, and those that a live transaction may have missed.
//!
//! ```text
//!   oldest                                            newest
//!   [ kept for validation | ······ | to be applied ······ ]
//!                                  ^ `applied`
//! ```
//!
//! Invariants:
//! 1. In LSN order; what is applied stands before what is not.
//! 2. An applied commit leaves when every live transaction that may write reads at its LSN or above. Those that begin later do: they
//!    read at the applied LSN, and [`Slots`] makes one that began just now start over where the list was trimmed past it.

use super::Refused;
use crate::btree::TreeId;
use crate::options::Durability;
use crate::txn::Footprint;
use crate::versions::slots::{Kind, Slots};
use ashlar_bufferpool::PageId;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Commits that validation outside the commit lock takes at once.
const AT_ONCE: usize = 256;

/// The list is trimmed when at least so many commits in it are applied, or they take that many bytes.
const TRIM_EVERY: usize = 64;
const TRIM_BYTES: u64 = 1 << 20;

/// What the commit lock guards.
#[derive(Debug, Default)]
pub(crate) struct Order {
    commits: VecDeque<Pending>,
    /// How many of them are applied.
    applied: usize,
    /// Bytes of these.
    applied_bytes: u64,
    /// How many may be applied, and bytes of these, before the list is trimmed again.
    trim_at: (usize, u64),
    /// How many may be applied before it is worth trimming at all.
    trim_every: usize,
    /// Trees that a commit in the list, or applied since the open, drops or replaces: nothing may be written to them any more.
    gone: BTreeSet<TreeId>,
}

/// A commit that has its LSN.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) lsn: u64,
    /// The log flush in which its record begins.
    pub(crate) flush_start: u64,
    pub(crate) record: Arc<[u8]>,
    pub(crate) manner: Manner,
    /// Where its first write may go.
    pub(crate) hint: Option<PageId>,
    pub(crate) durability: Durability,
}

/// How a commit is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// More than puts and removals of keys, or very many: to the trees, when nothing waits.
    Whole,
    /// Puts and removals of keys: to the trees, if nothing waits.
    Points,
    /// Puts and removals of keys, of which the leaves are not all in memory: they wait.
    Postponed,
}

/// How far the list may be trimmed.
pub(super) enum TrimAt {
    /// As far as no live transaction needs it, and so that it does not take more bytes than that: for these, transactions are taken
    /// away.
    Needed { applied: u64, bytes_max: u64 },
    /// To that LSN, whoever needs it: a deliberate mistake.
    Exactly(u64),
}

impl Order {
    /// An empty list, trimmed when so many commits are applied; `None`: as many as is good.
    pub(crate) fn new(trim_every: Option<usize>) -> Order {
        Order { trim_every: trim_every.unwrap_or(TRIM_EVERY), ..Order::default() }
    }

    /// The oldest commit that is not yet applied.
    pub(crate) fn first(&self) -> Option<&Pending> {
        self.commits.get(self.applied)
    }

    /// LSN of the newest commit that is not yet applied.
    pub(super) fn last_unapplied(&self) -> Option<u64> {
        self.first().and(self.commits.back()).map(|p| p.lsn)
    }

    /// Whether nothing may be written any more to one of these trees.
    pub(crate) fn is_any_gone(&self, trees: &[TreeId]) -> bool {
        !self.gone.is_empty() && trees.iter().any(|tree| self.gone.contains(tree))
    }

    /// A commit has taken its LSN; it drops or replaces these trees.
    pub(super) fn enter(&mut self, commit: Pending, drops: &[TreeId]) {
        debug_assert!(self.commits.back().is_none_or(|last| last.lsn < commit.lsn));
        self.commits.push_back(commit);
        self.gone.extend(drops);
    }

    /// The first commits above `lsn`, with their records.
    pub(super) fn after(&self, lsn: u64) -> Vec<(u64, Arc<[u8]>)> {
        let from = self.commits.partition_point(|p| p.lsn <= lsn);
        self.commits.range(from..).take(AT_ONCE).map(|p| (p.lsn, p.record.clone())).collect()
    }

    /// Whether the commits above `lsn` leave alone what had to stay.
    pub(super) fn validate(&self, footprint: &Footprint, lsn: u64) -> Result<(), Refused> {
        let from = self.commits.partition_point(|p| p.lsn <= lsn);
        for commit in self.commits.range(from..) {
            if footprint.is_changed_by(&commit.record, commit.lsn)? {
                return Err(Refused::Conflict(commit.lsn));
            }
        }
        Ok(())
    }

    /// The oldest commit that was not yet applied, at `lsn`, is.
    pub(super) fn applied(&mut self, slots: &Slots, lsn: u64, trim_at: TrimAt) {
        debug_assert_eq!(self.first().map(|p| p.lsn), Some(lsn));
        self.applied_bytes += self.first().map_or(0, |p| p.record.len() as u64);
        self.applied += 1;
        match trim_at {
            TrimAt::Exactly(to) => self.trim_to(to),
            TrimAt::Needed { applied, bytes_max } if self.applied >= self.trim_at.0 || self.applied_bytes >= self.trim_at.1 => {
                self.trim_to(slots.raise_writers_horizon(applied));
                while self.applied_bytes > bytes_max && slots.take_oldest_away(applied, Some(Kind::Writes)) {
                    self.trim_to(slots.raise_writers_horizon(applied));
                }
                self.trim_at = ((2 * self.applied).max(self.trim_every), (2 * self.applied_bytes).max(TRIM_BYTES));
            }
            TrimAt::Needed { .. } => {}
        }
    }

    fn trim_to(&mut self, lsn: u64) {
        while self.applied > 0
            && let Some(oldest) = self.commits.pop_front_if(|oldest| oldest.lsn <= lsn)
        {
            self.applied -= 1;
            self.applied_bytes -= oldest.record.len() as u64;
        }
    }
}
