//! The four copies of the superblock: whole, of this database, and each where the order of writing puts it.
//!
//! Superblocks are numbered without a gap and go to the two slots in turn, so the slot that does not hold the newest one holds the one
//! before it (a new database has the first in both), and the copies of a slot are alike. Anything else is a write that was lost or went
//! astray; or, in a database that nobody has open for writing, a crash between two copies, which the next open for writing mends.

use super::Walk;
use crate::store::superblock::{COPY_OFFSETS, Copy, FORMAT_VERSION, Superblock};

impl Walk<'_> {
    /// Checks what stands in the four copies against the superblock in use.
    pub(super) fn superblocks(&mut self, copies: &[Copy; 4], current: &Superblock) {
        let is_current = |i: usize| usize::from(matches!(&copies[i], Copy::Whole(s) if **s == *current));
        // The slot in use is the one with more copies of it; both where it is the first of a new database.
        let count = |slot: usize| is_current(slot) + is_current(slot + 2);
        let newest = usize::from(count(1) > count(0));
        for (i, copy) in copies.iter().enumerate() {
            let wanted = if i % 2 == newest { current.number } else { current.number.saturating_sub(1).max(1) };
            let wrong = match copy {
                Copy::Whole(s) if s.uuid != current.uuid => Some("it belongs to another database".to_owned()),
                Copy::Whole(s) if s.number != wanted => Some(format!(
                    "superblock {} stands there, expected {wanted}: a later write was lost or went astray, or a crash came before it",
                    s.number
                )),
                Copy::Whole(s) if i % 2 == newest && **s != *current => {
                    Some(format!("superblock {wanted} stands there, but with other fields than those that are in use"))
                }
                Copy::Whole(s) if differs(s, &copies[(i + 2) % 4]) => {
                    Some(format!("superblock {wanted} stands there, but with other fields than in the slot's other copy"))
                }
                Copy::Whole(_) => None,
                Copy::Unreadable(e) => Some(format!("{e}; expected superblock {wanted}")),
                Copy::Bad(why) => Some(format!("{why}; expected superblock {wanted}")),
                Copy::Unknown { version, features } => {
                    Some(format!("format version {version} (features {features:#x}), expected {FORMAT_VERSION}"))
                }
            };
            if let Some(what) = wrong {
                self.found_copy(i, &what);
            }
        }
    }

    fn found_copy(&mut self, copy: usize, what: &str) {
        let thing = format!("superblock copy {copy} at byte {}", COPY_OFFSETS[copy]);
        self.found_at(COPY_OFFSETS[copy] / self.block, &thing, None, what);
    }
}

fn differs(one: &Superblock, other: &Copy) -> bool {
    matches!(other, Copy::Whole(other) if other.number == one.number && **other != *one)
}
