//! Room in the log: how much of it may lie between where replay would start and the end.
//!
//! Invariants:
//! 1. `used + reserved <= limit` whenever room is given, counted at worst: a record moves the log's end by at most what was
//!    reserved for it.
//! 2. First come, first served: nobody is given room while somebody waits, so a large record is not starved by small ones.

use crate::Lsn;
use crate::log::Core;
use std::collections::VecDeque;
use std::sync::Arc;

/// The accounts, kept under the queue's lock.
#[derive(Debug)]
pub(crate) struct Budget {
    recycled: Lsn,
    limit: u64,
    reserved: u64,
    line: VecDeque<u64>,
    next_ticket: u64,
}

impl Budget {
    /// Replay would start at `recycled`.
    pub(crate) fn new(recycled: Lsn, limit: u64) -> Budget {
        Budget { recycled, limit, reserved: 0, line: VecDeque::new(), next_ticket: 0 }
    }

    /// Reserves `cost` bytes behind `end` if they are there and nobody waits.
    pub(crate) fn try_reserve(&mut self, end: Lsn, cost: u64) -> bool {
        self.line.is_empty() && self.take(end, cost)
    }

    /// Joins the line.
    pub(crate) fn join(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.line.push_back(ticket);
        ticket
    }

    /// Reserves for the holder of `ticket` if it is first in the line and the room is there; it has then left the line.
    pub(crate) fn try_reserve_in_line(&mut self, ticket: u64, end: Lsn, cost: u64) -> bool {
        let served = self.line.front() == Some(&ticket) && self.take(end, cost);
        if served {
            self.line.pop_front();
        }
        served
    }

    /// Leaves the line without room.
    pub(crate) fn leave(&mut self, ticket: u64) {
        self.line.retain(|&waiting| waiting != ticket);
    }

    /// Gives reserved room back, used or not. Tells whether somebody waits for some.
    pub(crate) fn release(&mut self, cost: u64) -> bool {
        debug_assert!(cost <= self.reserved, "(1) room is given back once");
        self.reserved = self.reserved.saturating_sub(cost);
        !self.line.is_empty()
    }

    /// Replay would start at `c` from now on. Never goes back.
    pub(crate) fn recycle(&mut self, c: Lsn) {
        self.recycled = self.recycled.max(c);
    }

    /// Sets the limit.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The limit in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What is reserved in bytes.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// How things stand.
    pub(crate) fn pressure(&self, end: Lsn) -> Pressure {
        Pressure { used: end.since(self.recycled), reserved: self.reserved, limit: self.limit, waiting: self.line.len() }
    }

    fn take(&mut self, end: Lsn, cost: u64) -> bool {
        let fits = end.since(self.recycled).saturating_add(self.reserved).saturating_add(cost) <= self.limit;
        if fits {
            self.reserved += cost;
        }
        fits
    }
}

/// How full the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pressure {
    /// Bytes between where replay would start and the log's end.
    pub used: u64,
    /// Bytes reserved for records that are not appended yet.
    pub reserved: u64,
    /// The limit of both together, in bytes.
    pub limit: u64,
    /// How many callers wait for room: only a checkpoint can help them.
    pub waiting: usize,
}

/// Room for one record, given by [`Wal::reserve`](crate::Wal::reserve), used up by [`Wal::append_with`](crate::Wal::append_with),
/// given back when dropped.
#[must_use = "room that is dropped is given back"]
pub struct Room {
    core: Arc<Core>,
    cost: u64,
}

impl Room {
    /// Owns `cost` bytes that were reserved in the budget of `core`.
    pub(crate) fn new(core: Arc<Core>, cost: u64) -> Room {
        Room { core, cost }
    }

    /// The bytes of log it stands for.
    pub fn bytes(&self) -> u64 {
        self.cost
    }

    /// Whether it is room in this log.
    pub(crate) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }

    /// The record was appended, and the room released under the same lock.
    pub(crate) fn used_up(mut self) {
        self.cost = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.cost > 0 {
            self.core.release(self.cost);
        }
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({} bytes)", self.cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_up_to_the_limit_and_comes_back_with_recycling() {
        let mut budget = Budget::new(Lsn(1000), 10_000);
        assert!(budget.try_reserve(Lsn(5000), 6000));
        assert!(!budget.try_reserve(Lsn(5000), 1));
        budget.release(6000);
        assert!(!budget.try_reserve(Lsn(11_000), 1));
        budget.recycle(Lsn(11_000));
        budget.recycle(Lsn(2000));
        assert!(budget.try_reserve(Lsn(11_000), 10_000));
    }

    #[test]
    fn a_large_record_is_not_overtaken() {
        let mut budget = Budget::new(Lsn(0), 100);
        assert!(budget.try_reserve(Lsn(0), 60));
        let (large, small) = (budget.join(), budget.join());
        assert!(!budget.try_reserve(Lsn(0), 1), "(2)");
        assert!(!budget.try_reserve_in_line(large, Lsn(0), 50));
        assert!(!budget.try_reserve_in_line(small, Lsn(0), 1), "(2)");
        assert!(budget.release(60));
        assert!(budget.try_reserve_in_line(large, Lsn(0), 50));
        assert!(budget.try_reserve_in_line(small, Lsn(0), 50));
        assert_eq!(budget.pressure(Lsn(0)), Pressure { used: 0, reserved: 100, limit: 100, waiting: 0 });
    }
}
