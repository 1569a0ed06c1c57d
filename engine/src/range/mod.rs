//! Iterating over a range of keys, from either end, as of one moment.
//!
//! Parts: [`scan`] moves through a range and narrows it, [`end`] is what a scan has at one of its ends, [`ahead`] asks for the leaves that
//! come next, at the beginning for as many as [`lengths`] says, [`values`] for the pages of values. The iterators of this module stand on a
//! scan.

mod ahead;
mod end;
mod lengths;
mod scan;
mod values;

pub(crate) use lengths::Lengths;
pub(crate) use scan::{Entry, Scan};

use crate::error::Result;
use crate::value::Value;
use std::ops::Bound;

/// Entries of a keyspace in a range of keys; see [`Keyspace::range`](crate::Keyspace::range).
#[derive(Debug)]
pub struct Range {
    scan: Scan,
}

/// A place in a range of keys that moves from entry to entry, from either end, and lends them; see
/// [`Keyspace::cursor`](crate::Keyspace::cursor).
#[derive(Debug)]
pub struct Cursor {
    scan: Scan,
}

impl Range {
    pub(crate) fn new(scan: Scan) -> Range {
        Range { scan }
    }
}

impl Cursor {
    pub(crate) fn new(scan: Scan) -> Cursor {
        Cursor { scan }
    }

    /// Goes to the next entry from the front, and lends its key and value. `None`: there is none left.
    ///
    /// # Errors
    /// As [`Range`]'s items.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.scan.advance()? { Ok(Some(self.scan.lent())) } else { Ok(None) }
    }

    /// Goes to the next entry from the back, and lends its key and value. `None`: there is none left.
    ///
    /// # Errors
    /// As [`Range`]'s items.
    pub fn next_back(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.scan.retreat()? { Ok(Some(self.scan.lent())) } else { Ok(None) }
    }
}

impl Iterator for Range {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.scan.step_forward().transpose()
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.scan.step_backward().transpose()
    }
}

impl std::iter::FusedIterator for Range {}

/// The bounds of the keys that begin with `prefix`.
pub(crate) fn of_prefix(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(prefix.to_vec()), end)
}

/// The smallest key above all that begin with `prefix`, if there is one.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&b| b != 0xFF)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_of_its_length_or_shorter() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xFF\xFF"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xFF"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
