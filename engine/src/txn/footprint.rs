//! What a transaction relies on: keys, ranges, whole keyspaces and names that no commit since may have changed.
//!
//! Ranges stand as they were read, not as they were asked for: a scan that was given up after ten entries relies on what lies up to
//! the tenth. A key that was absent counts as any other, so that what is inserted into a range that was read (a *phantom*: Eswaran
//! et al., 1976) is noticed.

use crate::btree::TreeId;
use crate::commit::record::{self, Operation};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A range of keys that owns its bounds.
pub(crate) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Footprint {
    trees: BTreeMap<TreeId, Touched>,
    names: BTreeSet<String>,
}

/// What it relies on in one tree.
#[derive(Debug, Default)]
struct Touched {
    keys: BTreeSet<Vec<u8>>,
    ranges: Vec<KeyRange>,
    whole: bool,
}

impl Footprint {
    pub(crate) fn is_empty(&self) -> bool {
        self.trees.is_empty() && self.names.is_empty()
    }

    pub(crate) fn key(&mut self, tree: TreeId, key: &[u8]) {
        let touched = self.trees.entry(tree).or_default();
        if !touched.whole && !touched.keys.contains(key) {
            touched.keys.insert(key.to_vec());
        }
    }

    /// A range; the number by which it can be widened.
    pub(crate) fn range(&mut self, tree: TreeId, range: KeyRange) -> usize {
        let ranges = &mut self.trees.entry(tree).or_default().ranges;
        ranges.push(range);
        ranges.len() - 1
    }

    /// Another range in place of one that was entered before.
    pub(crate) fn set_range(&mut self, tree: TreeId, number: usize, range: KeyRange) {
        if let Some(there) = self.trees.get_mut(&tree).and_then(|touched| touched.ranges.get_mut(number)) {
            *there = range;
        }
    }

    /// All keys.
    pub(crate) fn whole(&mut self, tree: TreeId) {
        self.trees.entry(tree).or_default().whole = true;
    }

    /// Which keyspace has that name, if any.
    pub(crate) fn name(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    /// Whether the commit with this record, at `lsn`, has changed something of it.
    pub(crate) fn is_changed_by(&self, record: &[u8], lsn: u64) -> Result<bool> {
        Ok(record::read(record, lsn)?.iter().any(|operation| self.is_touched_by(operation)))
    }

    fn is_touched_by(&self, operation: &Operation<'_>) -> bool {
        let touched = self.trees.get(&operation.tree());
        match operation {
            Operation::Put { key, .. } | Operation::PutBlob { key, .. } | Operation::Delete { key, .. } => {
                touched.is_some_and(|t| t.has_key(key))
            }
            Operation::DeleteRange { from, to, .. } => touched.is_some_and(|t| t.meets(*from, *to)),
            Operation::CreateKeyspace { name, .. } => self.names.contains(*name),
            Operation::DropKeyspace { name, .. } => touched.is_some() || self.names.contains(*name),
            Operation::ClearKeyspace { .. } | Operation::BulkLoad { .. } => touched.is_some(),
        }
    }
}

impl Touched {
    fn has_key(&self, key: &[u8]) -> bool {
        self.whole || self.keys.contains(key) || self.ranges.iter().any(|range| contains(range, key))
    }

    /// Whether any key that may lie between the bounds counts.
    fn meets(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
        if self.whole {
            return true;
        }
        let apart = |end: Bound<&[u8]>, start: Bound<&[u8]>| match (end, start) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(end), Bound::Included(start)) => end < start,
            (Bound::Included(end) | Bound::Excluded(end), Bound::Included(start) | Bound::Excluded(start)) => end <= start,
        };
        let meets = |range: &KeyRange| !apart(as_slice(&range.1), from) && !apart(to, as_slice(&range.0));
        self.ranges.iter().any(meets) || self.keys.iter().any(|key| within(from, to, key))
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// Whether a range holds a key.
pub(crate) fn contains(range: &KeyRange, key: &[u8]) -> bool {
    within(as_slice(&range.0), as_slice(&range.1), key)
}

fn within(from: Bound<&[u8]>, to: Bound<&[u8]>, key: &[u8]) -> bool {
    let above = match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    };
    above
        && match to {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: TreeId = TreeId(2);

    fn changed(footprint: &Footprint, operation: &Operation<'_>) -> bool {
        footprint.is_changed_by(&record::single(operation), 1).unwrap()
    }

    fn put(key: &[u8]) -> Operation<'_> {
        Operation::Put { tree: TREE, key, value: b"v" }
    }

    #[test]
    fn keys_ranges_and_whole_keyspaces_count_and_others_do_not() {
        let mut footprint = Footprint::default();
        footprint.key(TREE, b"k");
        footprint.range(TREE, (Bound::Excluded(b"p".to_vec()), Bound::Included(b"r".to_vec())));
        for (key, expected) in [("k", true), ("ka", false), ("p", false), ("pa", true), ("r", true), ("ra", false)] {
            assert_eq!(changed(&footprint, &put(key.as_bytes())), expected, "{key}");
        }
        assert!(!changed(&footprint, &Operation::Put { tree: TreeId(3), key: b"k", value: b"v" }));
        assert!(changed(&footprint, &Operation::Delete { tree: TREE, key: b"q" }));
        assert!(changed(&footprint, &Operation::DropKeyspace { tree: TREE, name: "n" }));
        footprint.whole(TREE);
        assert!(changed(&footprint, &put(b"zz")));
    }

    #[test]
    fn ranges_that_only_touch_do_not_meet() {
        let mut footprint = Footprint::default();
        footprint.range(TREE, (Bound::Included(b"d".to_vec()), Bound::Excluded(b"g".to_vec())));
        footprint.key(TREE, b"m");
        let (i, e) = (|k: &'static str| Bound::Included(k.as_bytes()), |k: &'static str| Bound::Excluded(k.as_bytes()));
        for (from, to, expected) in [
            (i("a"), e("d"), false),
            (i("a"), i("d"), true),
            (i("g"), i("h"), false),
            (e("f"), i("h"), true),
            (i("e"), i("f"), true),
            (i("a"), Bound::Unbounded, true),
            (i("h"), e("m"), false),
            (i("h"), i("m"), true),
            (e("m"), Bound::Unbounded, false),
        ] {
            assert_eq!(changed(&footprint, &Operation::DeleteRange { tree: TREE, from, to }), expected, "{from:?}..{to:?}");
        }
    }

    #[test]
    fn names_count_when_a_keyspace_of_that_name_comes_or_goes() {
        let mut footprint = Footprint::default();
        footprint.name("users");
        assert!(changed(&footprint, &Operation::CreateKeyspace { tree: TREE, name: "users" }));
        assert!(changed(&footprint, &Operation::DropKeyspace { tree: TREE, name: "users" }));
        assert!(!changed(&footprint, &Operation::CreateKeyspace { tree: TREE, name: "others" }));
    }
}
