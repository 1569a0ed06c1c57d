//! A transaction sees its own writes, on top of what stood at its beginning.

use super::common::{Expected, value_of};
use super::{One, assert_sees};
use ashlardb::{Error, Isolation, Transaction};

/// Lengths of values in a leaf, in overflow pages, in runs.
const LENS: [usize; 4] = [0, 50, 9000, 100_000];

fn key(n: u64) -> Vec<u8> {
    format!("key {n:03}").into_bytes()
}

/// Twelve entries with values of every kind, every second number.
fn filled() -> (One, Expected) {
    let one = One::new();
    let mut expected = Expected::new();
    for n in (0..24).step_by(2) {
        let value = value_of(n, LENS[n as usize / 2 % 4]);
        one.k.insert(key(n), &value).unwrap();
        expected.insert(key(n), value);
    }
    (one, expected)
}

/// Makes a change to both and compares everything.
struct Both {
    one: One,
    tx: Transaction,
    expected: Expected,
}

impl Both {
    fn new(isolation: Isolation) -> Both {
        let (one, expected) = filled();
        let tx = one.db.begin_with(isolation).unwrap();
        Both { one, tx, expected }
    }

    fn insert(&mut self, n: u64, len: usize) {
        let value = value_of(1000 + n, len);
        self.tx.insert(&self.one.k, key(n), &value).unwrap();
        self.expected.insert(key(n), value);
    }

    fn remove(&mut self, n: u64) {
        self.tx.remove(&self.one.k, key(n)).unwrap();
        self.expected.remove(&key(n));
    }

    fn remove_range(&mut self, from: u64, to: u64) {
        self.tx.remove_range(&self.one.k, key(from)..key(to)).unwrap();
        self.expected.retain(|k, _| !(key(from)..key(to)).contains(k));
    }

    fn check(&self) {
        assert_sees(&self.tx, &self.one.k, &self.expected);
    }

    /// Nobody else sees anything until the commit, and everybody everything afterwards, also after a reopen.
    fn commit(self, before: &Expected) {
        super::common::assert_holds(&self.one.k, before);
        self.check();
        self.tx.commit().unwrap();
        super::common::assert_holds(&self.one.k, &self.expected);
        super::common::assert_clean(&self.one.db);
        let path = self.one.db.path().to_owned();
        let One { db, k, _dir } = self.one;
        drop((db, k));
        let db = super::quiet().open(path).unwrap();
        super::common::assert_holds(&db.keyspace("k").unwrap(), &self.expected);
        db.checkpoint().unwrap();
        super::common::assert_clean(&db);
    }
}

#[test]
fn points_and_ranges_of_every_kind_of_value() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let mut both = Both::new(isolation);
        let before = both.expected.clone();
        both.check();
        for (at, n) in [0, 1, 5, 8, 13, 22, 23, 30].into_iter().enumerate() {
            both.insert(n, LENS[(at + 1) % 4]);
        }
        both.check();
        for n in [0, 4, 5, 22, 40] {
            both.remove(n);
        }
        both.check();
        both.insert(4, 9000);
        both.insert(22, 7);
        both.check();
        both.commit(&before);
    }
}

#[test]
fn what_is_put_into_a_removed_range() {
    let mut both = Both::new(Isolation::Serializable);
    let before = both.expected.clone();
    both.insert(7, 100_000);
    both.remove_range(6, 15);
    both.check();
    both.insert(8, 9000);
    both.insert(11, 30);
    both.check();
    both.remove(8);
    both.remove_range(10, 11);
    both.check();
    both.remove_range(18, 40);
    both.insert(20, 0);
    both.check();
    both.commit(&before);
}

#[test]
fn ranges_with_every_bound() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let bounds = [Unbounded, Included(key(4)), Excluded(key(4)), Included(key(5)), Excluded(key(18)), Included(key(18))];
    for from in &bounds {
        for to in &bounds {
            let mut both = Both::new(Isolation::Serializable);
            both.insert(4, 3);
            both.insert(5, 3);
            let before = both.tx.range(&both.one.k, (from.clone(), to.clone())).count();
            let inside = |k: &Vec<u8>| ashlar_tests::state::in_range(&(from.clone(), to.clone()), k);
            assert_eq!(before, both.expected.keys().filter(|k| inside(k)).count());
            both.tx.remove_range(&both.one.k, (from.clone(), to.clone())).unwrap();
            both.expected.retain(|k, _| !inside(k));
            let Both { one, tx, expected } = both;
            assert_eq!(tx.iter(&one.k).count(), expected.len(), "{from:?} {to:?}");
            assert_eq!(tx.len(&one.k).unwrap(), expected.len() as u64);
            tx.commit().unwrap();
            super::common::assert_holds(&one.k, &expected);
        }
    }
}

#[test]
fn cleared_and_filled_again() {
    let mut both = Both::new(Isolation::Serializable);
    let before = both.expected.clone();
    both.insert(3, 20);
    both.tx.clear(&both.one.k).unwrap();
    both.expected.clear();
    both.check();
    both.insert(2, 100_000);
    both.insert(9, 9000);
    both.check();
    both.remove_range(0, 5);
    both.check();
    both.tx.clear(&both.one.k).unwrap();
    both.expected.clear();
    both.insert(4, 4);
    both.insert(5, 9000);
    both.commit(&before);
}

#[test]
fn what_others_commit_meanwhile_is_not_seen() {
    let mut both = Both::new(Isolation::Serializable);
    both.insert(4, 10);
    both.remove(6);
    both.remove_range(16, 19);
    let k = &both.one.k;
    k.insert(key(8), "theirs").unwrap();
    k.insert(key(9), "theirs").unwrap();
    k.insert(key(17), "theirs").unwrap();
    k.remove(key(0)).unwrap();
    k.remove(key(18)).unwrap();
    k.remove_range(key(10)..key(14)).unwrap();
    both.one.db.checkpoint().unwrap();
    both.check();
    k.clear().unwrap();
    both.one.db.checkpoint().unwrap();
    both.check();
    both.one.db.drop_keyspace("k").unwrap();
    while both.one.db.maintain().unwrap() {}
    both.check();
    assert!(super::conflicts(both.tx));
}

#[test]
fn keys_and_transactions_that_are_too_large() {
    let dir = super::scratch();
    let db = super::quiet().transaction_limit(10_000).open(dir.path().join("db")).unwrap();
    let k = db.keyspace("k").unwrap();
    let mut tx = db.begin().unwrap();
    let long = vec![1; db.key_len_max() + 1];
    assert!(matches!(tx.insert(&k, &long, ""), Err(Error::KeyTooLarge { .. })));
    assert!(matches!(tx.remove(&k, &long), Err(Error::KeyTooLarge { .. })));
    assert!(tx.get(&k, &long).unwrap().is_none());
    tx.insert(&k, "a", [0; 6000]).unwrap();
    assert!(matches!(tx.insert(&k, "b", [0; 6000]), Err(Error::TransactionTooLarge { .. })));
    let savepoint = tx.savepoint();
    let removed = (0..).find(|n: &u32| tx.remove(&k, n.to_be_bytes()).is_err()).unwrap();
    assert!((20..100).contains(&removed), "removals count as well: {removed}");
    tx.rollback_to(&savepoint).unwrap();
    // What was refused left nothing, and what is overwritten takes no room.
    tx.insert(&k, "a", [1; 100]).unwrap();
    tx.insert(&k, "b", [1; 3000]).unwrap();
    tx.commit().unwrap();
    assert_eq!(k.len().unwrap(), 2);
    assert_eq!(k.get("a").unwrap().unwrap(), [1; 100]);
}
