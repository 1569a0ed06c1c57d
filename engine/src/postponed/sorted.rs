//! Writes that wait and were in order when they came: those that an open finds in the log.
//!
//! To put each into its place in a [`Table`](super::Table) would take longer than to read them. Nothing comes to a list, and what is merged
//! goes from its front.
//!
//! Invariants:
//! 1. Entries ascend by tree and key, each key once; all are as of one LSN.
//! 2. `gone` rises under the apply lock, when what stands before it is in the trees. Whoever sees it finds that there.

use super::table::Record;
use super::{Span, Write, Writes};
use crate::btree::TreeId;
use ashlar_disk::sync::atomic::{AtomicUsize, Ordering};
use std::cmp;
use std::sync::Arc;

/// See the module.
pub(crate) struct Sorted {
    lsn: u64,
    /// Where keys and values stand.
    records: Vec<Arc<Vec<u8>>>,
    /// What all keys begin with.
    common: Vec<u8>,
    entries: Vec<Entry>,
    /// So many entries have gone.
    gone: AtomicUsize,
}

/// A write of a list.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) tree: TreeId,
    /// [`head`] of the key, behind what all have in common: decides most comparisons.
    pub(crate) head: u64,
    /// The one of the records in which it stands.
    pub(crate) record: u32,
    pub(crate) key: Span,
    /// `None`: the key is removed.
    pub(crate) value: Option<Span>,
}

/// The first eight bytes as a number that compares as they do; zeros behind fewer.
pub(crate) fn head(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let n = key.len().min(8);
    bytes[..n].copy_from_slice(&key[..n]);
    u64::from_be_bytes(bytes)
}

impl std::fmt::Debug for Sorted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sorted({} writes at {}, {:?} gone)", self.entries.len(), self.lsn, self.gone)
    }
}

impl Sorted {
    /// Writes as of `lsn`, in order, whose keys all begin with `common`.
    pub(crate) fn new(lsn: u64, records: Vec<Vec<u8>>, common: Vec<u8>, entries: Vec<Entry>) -> Sorted {
        let records = records.into_iter().map(Arc::new).collect();
        let sorted = Sorted { lsn, records, common, entries, gone: AtomicUsize::new(0) };
        debug_assert!(sorted.entries.is_sorted_by(|a, b| (a.tree, sorted.key(a)) < (b.tree, sorted.key(b))));
        sorted
    }

    pub(crate) fn lsn(&self) -> u64 {
        self.lsn
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        entry.key.of(&self.records[entry.record as usize])
    }

    fn write(&self, entry: &Entry) -> Write {
        let record = Record::Several(self.records[entry.record as usize].clone());
        Write { tree: entry.tree, lsn: self.lsn, record, key: entry.key, value: entry.value }
    }

    /// Those that have not gone, from a key of a tree on.
    fn from(&self, tree: TreeId, key: &[u8]) -> &[Entry] {
        let entries = self.left();
        let head = key.strip_prefix(&*self.common).map(head);
        let is_before = |entry: &Entry| {
            let by_head = || head.map_or(cmp::Ordering::Equal, |head| entry.head.cmp(&head));
            entry.tree.cmp(&tree).then_with(by_head).then_with(|| self.key(entry).cmp(key)).is_lt()
        };
        &entries[entries.partition_point(is_before)..]
    }

    /// Those that have not gone.
    fn left(&self) -> &[Entry] {
        // Acquire: pairs with the Release in `remove`.
        &self.entries[self.gone.load(Ordering::Acquire)..]
    }
}

impl Writes for Sorted {
    fn newest(&self, tree: TreeId, key: &[u8], lsn: u64) -> Option<Write> {
        let found = self.from(tree, key).first().filter(|_| self.lsn <= lsn)?;
        (found.tree == tree && self.key(found) == key).then(|| self.write(found))
    }

    fn newest_of_range(&self, tree: TreeId, (from, to): (&[u8], Option<&[u8]>), lsn: u64, each: &mut dyn FnMut(&Write)) {
        if self.lsn <= lsn {
            let is_in = |entry: &&Entry| entry.tree == tree && to.is_none_or(|to| self.key(entry) < to);
            self.from(tree, from).iter().take_while(is_in).for_each(|entry| each(&self.write(entry)));
        }
    }

    fn first(&self, keys: usize) -> Vec<Write> {
        self.left().iter().take(keys).map(|entry| self.write(entry)).collect()
    }

    fn remove(&self, writes: &[Write]) {
        let is_same = |(write, entry): (&Write, &Entry)| (write.tree, write.key()) == (entry.tree, self.key(entry));
        debug_assert!(writes.len() <= self.left().len() && writes.iter().zip(self.left()).all(is_same), "they go from the front");
        // Release: they are in the trees.
        self.gone.fetch_add(writes.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;
    use crate::commit::record::{self, Operation};
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    type Told = (u64, Vec<u8>, u64, Option<Vec<u8>>);

    fn told(write: &Write) -> Told {
        (write.tree.0, write.key().to_vec(), write.lsn, write.value().map(<[u8]>::to_vec))
    }

    fn range(writes: &dyn Writes, tree: TreeId, range: (&[u8], Option<&[u8]>), lsn: u64) -> Vec<Told> {
        let mut out = Vec::new();
        writes.newest_of_range(tree, range, lsn, &mut |write| out.push(told(write)));
        out
    }

    /// Whatever is asked of a list, a table with the same writes says the same, while both become less and less.
    #[test]
    fn a_list_holds_what_a_table_holds() {
        for seed in 0..300 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let common = vec![b'x'; rng.random_range(0..12)];
            let some_key = |rng: &mut rand_chacha::ChaCha8Rng| {
                // Now and then one that does not begin as all others do.
                let mut key = common[..if rng.random_bool(0.1) { common.len() / 2 } else { common.len() }].to_vec();
                key.extend((0..rng.random_range(0..12)).map(|_| rng.random_range(0..3u8)));
                key
            };
            let mut model = BTreeMap::new();
            for _ in 0..rng.random_range(1..60) {
                let key =
                    [&common[..], &(0..rng.random_range(0..12)).map(|_| rng.random_range(0..3u8)).collect::<Vec<_>>()].concat();
                model.insert(
                    (TreeId(rng.random_range(2..5)), key),
                    rng.random_bool(0.7).then(|| vec![7u8; rng.random_range(0..20)]),
                );
            }
            let (table, mut records, mut entries) = (Table::default(), vec![Vec::new(); 3], Vec::new());
            for ((tree, key), value) in &model {
                let (tree, number) = (*tree, rng.random_range(0..3));
                let operation = match value {
                    Some(value) => Operation::Put { tree, key, value },
                    None => Operation::Delete { tree, key },
                };
                table.add(9, &record::single(&operation).into()).unwrap();
                let record = &mut records[number];
                let mut stands = |bytes: &[u8]| {
                    record.extend_from_slice(bytes);
                    Span { at: (record.len() - bytes.len()) as u32, len: bytes.len() as u32 }
                };
                let (at, value) = (stands(key), value.as_deref().map(stands));
                entries.push(Entry { tree, head: head(&key[common.len()..]), record: number as u32, key: at, value });
            }
            let sorted = Sorted::new(9, records, common.clone(), entries);
            loop {
                for _ in 0..40 {
                    let (tree, key, to) = (TreeId(rng.random_range(1..6)), some_key(&mut rng), some_key(&mut rng));
                    for lsn in [8, 9, u64::MAX] {
                        let newest = |writes: &dyn Writes| writes.newest(tree, &key, lsn).as_ref().map(told);
                        assert_eq!(newest(&sorted), newest(&table), "seed {seed}");
                        for to in [None, Some(&to[..])] {
                            let of = |writes: &dyn Writes| range(writes, tree, (&key, to), lsn);
                            assert_eq!(of(&sorted), of(&table), "seed {seed}");
                        }
                    }
                }
                let lot = sorted.first(rng.random_range(1..20));
                assert!(lot.iter().map(told).eq(table.first(lot.len()).iter().map(told)), "seed {seed}");
                if lot.is_empty() {
                    break;
                }
                sorted.remove(&lot);
                table.remove(&lot);
            }
        }
    }
}
