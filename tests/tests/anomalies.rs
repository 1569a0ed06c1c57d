//! What transactions that run at the same time may do to each other at each isolation level, anomaly by anomaly.
//!
//! Each test plays one history of the literature, two or three transactions in one thread, at each level. Names are those of
//! Berenson et al., *A Critique of ANSI SQL Isolation Levels*, 1995 (P0 to P4, A5A, A5B), and Adya, *Weak Consistency: A
//! Generalized Theory and Optimistic Implementations for Distributed Transactions*, 1999 (G0 to G2); the histories are
//! those of Hermitage (Kleppmann, 2014), which also names OTV (after Bailis et al., 2013) and PMP. `docs/transactions.md` has the
//! table.
//!
//! There are two rows, 1 = 10 and 2 = 20. No transaction ever waits for another, so the order of the calls is the history.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::Isolation::{Serializable, Snapshot};
use ashlardb::{Database, Error, Isolation, Keyspace, Transaction};
use common::{quiet, scratch};

const LEVELS: [Isolation; 2] = [Serializable, Snapshot];

/// The two rows, and whatever the history adds.
struct Rows {
    db: Database,
    test: Keyspace,
    _dir: tempfile::TempDir,
}

impl Rows {
    fn new() -> Rows {
        Rows::with(&[(1, 10), (2, 20)])
    }

    fn with(rows: &[(u8, i64)]) -> Rows {
        let dir = scratch();
        let db = quiet().open(dir.path().join("db")).unwrap();
        let test = db.keyspace("test").unwrap();
        rows.iter().for_each(|(id, value)| test.insert([*id], value.to_string()).unwrap());
        Rows { db, test, _dir: dir }
    }

    fn begin(&self, level: Isolation) -> T<'_> {
        T { tx: self.db.begin_with(level).unwrap(), test: &self.test }
    }

    /// What a transaction that begins now reads, which is what plain reads and a snapshot see.
    fn now(&self) -> Vec<(u8, i64)> {
        let all = self.begin(Serializable).select(|_| true);
        let plain: Vec<_> = self.test.iter().map(|entry| row(entry.unwrap())).collect();
        let snapshot: Vec<_> = self.db.snapshot().unwrap().iter(&self.test).map(|entry| row(entry.unwrap())).collect();
        assert_eq!((&plain, &snapshot), (&all, &all));
        all
    }
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

fn row((key, value): (Vec<u8>, ashlardb::Value)) -> (u8, i64) {
    (key[0], number(&value))
}

/// A transaction on the rows.
struct T<'a> {
    tx: Transaction,
    test: &'a Keyspace,
}

impl T<'_> {
    fn get(&self, id: u8) -> i64 {
        number(&self.tx.get(self.test, [id]).unwrap().unwrap())
    }

    fn put(&mut self, id: u8, value: i64) {
        self.tx.insert(self.test, [id], value.to_string()).unwrap();
    }

    fn delete(&mut self, id: u8) {
        self.tx.remove(self.test, [id]).unwrap();
    }

    /// A read by predicate: the rows whose values fulfil it.
    fn select(&self, predicate: impl Fn(i64) -> bool) -> Vec<(u8, i64)> {
        self.tx.iter(self.test).map(|entry| row(entry.unwrap())).filter(|(_, value)| predicate(*value)).collect()
    }

    /// How the commit ends: whether it does.
    fn commits(self) -> bool {
        match self.tx.commit() {
            Ok(()) => true,
            Err(Error::Conflict) => false,
            Err(e) => panic!("{e}"),
        }
    }
}

/// Checks that a commit went as the level says.
fn expect(level: Isolation, commits: bool, [serializable, snapshot]: [bool; 2]) {
    assert_eq!(commits, if level == Serializable { serializable } else { snapshot }, "under {level:?}");
}

const BOTH_COMMIT: [bool; 2] = [true, true];
const BOTH_REFUSE: [bool; 2] = [false, false];
const ONLY_SNAPSHOT_COMMITS: [bool; 2] = [false, true];
const ONLY_SERIALIZABLE_COMMITS: [bool; 2] = [true, false];

/// G0 (P0), dirty write: two transactions' writes never mix. Of blind writes the later commit overwrites the earlier one; under
/// `Snapshot` the first committer wins.
#[test]
fn g0_dirty_write() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        t1.put(1, 11);
        t2.put(1, 12);
        t1.put(2, 21);
        assert!(t1.commits());
        assert_eq!(rows.now(), [(1, 11), (2, 21)]);
        t2.put(2, 22);
        let commits = t2.commits();
        expect(level, commits, ONLY_SERIALIZABLE_COMMITS);
        assert_eq!(rows.now(), if commits { [(1, 12), (2, 22)] } else { [(1, 11), (2, 21)] });
    }
}

/// G1a (P1), aborted read: what a transaction has written and rolled back, nobody has seen.
#[test]
fn g1a_aborted_read() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, t2) = (rows.begin(level), rows.begin(level));
        t1.put(1, 101);
        assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
        assert_eq!(rows.now(), [(1, 10), (2, 20)]);
        t1.tx.rollback().unwrap();
        assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
        assert!(t2.commits());
        assert_eq!(rows.now(), [(1, 10), (2, 20)]);
    }
}

/// G1a with a transaction that is refused at its commit.
#[test]
fn g1a_aborted_read_of_a_refused_transaction() {
    for level in LEVELS {
        let rows = Rows::new();
        let mut t1 = rows.begin(level);
        t1.put(1, t1.get(1) + 91);
        rows.test.insert([1], "10").unwrap();
        let t2 = rows.begin(level);
        assert!(!t1.commits(), "the same value written again is a change");
        assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
        assert!(t2.commits());
    }
}

/// G1b, intermediate read: of several writes of a key only the last is seen.
#[test]
fn g1b_intermediate_read() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, t2) = (rows.begin(level), rows.begin(level));
        t1.put(1, 101);
        assert_eq!((t2.get(1), t1.get(1)), (10, 101));
        assert_eq!(rows.now(), [(1, 10), (2, 20)]);
        t1.put(1, 11);
        assert!(t1.commits());
        assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
        assert!(t2.commits());
        assert_eq!(rows.now(), [(1, 11), (2, 20)]);
    }
}

/// G1c, circular information flow: no two transactions both see what the other has written. Here neither sees the other's;
/// that both commit all the same is G2-item, and `Snapshot` allows that.
#[test]
fn g1c_circular_information_flow() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        t1.put(1, 11);
        t2.put(2, 22);
        assert_eq!((t1.get(2), t2.get(1)), (20, 10));
        assert!(t1.commits());
        expect(level, t2.commits(), ONLY_SNAPSHOT_COMMITS);
    }
}

/// OTV, observed transaction vanishes: who has seen one write of a transaction sees all of it, for as long as he looks.
#[test]
fn otv_observed_transaction_vanishes() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        t1.put(1, 11);
        t1.put(2, 19);
        t2.put(1, 12);
        assert!(t1.commits());
        let t3 = rows.begin(level);
        assert_eq!(t3.get(1), 11);
        t2.put(2, 18);
        assert_eq!(t3.get(2), 19);
        let commits = t2.commits();
        expect(level, commits, ONLY_SERIALIZABLE_COMMITS);
        assert_eq!((t3.get(2), t3.get(1)), (19, 11));
        assert_eq!(t3.select(|_| true), [(1, 11), (2, 19)]);
        assert!(t3.commits());
        assert_eq!(rows.now(), if commits { [(1, 12), (2, 18)] } else { [(1, 11), (2, 19)] });
    }
}

/// PMP (P3), predicate-many-preceders: a predicate gives the same rows for as long as the transaction lasts.
#[test]
fn pmp_predicate_many_preceders() {
    for level in LEVELS {
        let rows = Rows::new();
        let (t1, mut t2) = (rows.begin(level), rows.begin(level));
        assert_eq!(t1.select(|value| value == 30), []);
        t2.put(3, 30);
        assert!(t2.commits());
        assert_eq!(t1.select(|value| value % 3 == 0), []);
        assert_eq!((t1.tx.len(&rows.test).unwrap(), t1.tx.last(&rows.test).unwrap().map(row)), (2, Some((2, 20))));
        assert!(t1.commits());
        assert_eq!(rows.now(), [(1, 10), (2, 20), (3, 30)]);
    }
}

/// PMP for a predicate that chooses what is written: rows deleted where they hold 20, while another adds 10 to all.
#[test]
fn pmp_predicate_of_a_write() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        t1.select(|_| true).into_iter().for_each(|(id, value)| t1.put(id, value + 10));
        t2.select(|value| value == 20).into_iter().for_each(|(id, _)| t2.delete(id));
        assert!(t1.commits());
        expect(level, t2.commits(), BOTH_REFUSE);
        assert_eq!(rows.now(), [(1, 20), (2, 30)]);
    }
}

/// PMP for a range that is removed unread: serially it removes what came before. Under `Snapshot` the first committer wins.
#[test]
fn pmp_range_removed_unread() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        t1.put(3, 30);
        t2.tx.remove_range(&rows.test, [2]..[9]).unwrap();
        assert!(t1.commits());
        let commits = t2.commits();
        expect(level, commits, ONLY_SERIALIZABLE_COMMITS);
        assert_eq!(rows.now(), if commits { vec![(1, 10)] } else { vec![(1, 10), (2, 20), (3, 30)] });
    }
}

/// P4, lost update: of two that change what both have read, one does.
#[test]
fn p4_lost_update() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        let (one, two) = (t1.get(1), t2.get(1));
        t1.put(1, one + 1);
        t2.put(1, two + 1);
        assert!(t1.commits());
        expect(level, t2.commits(), BOTH_REFUSE);
        assert_eq!(rows.now(), [(1, 11), (2, 20)]);
    }
}

/// P4 where the other is no transaction: a single write, a batch.
#[test]
fn p4_lost_update_to_a_single_write() {
    for level in LEVELS {
        for batch in [false, true] {
            let rows = Rows::new();
            let mut t1 = rows.begin(level);
            t1.put(1, t1.get(1) + 1);
            if batch {
                let mut batch = rows.db.batch();
                batch.insert(&rows.test, [1], "50").unwrap();
                batch.commit().unwrap();
            } else {
                rows.test.insert([1], "50").unwrap();
            }
            expect(level, t1.commits(), BOTH_REFUSE);
            assert_eq!(rows.now(), [(1, 50), (2, 20)]);
        }
    }
}

/// P4C, cursor lost update: the same where the row was met by iterating.
#[test]
fn p4c_cursor_lost_update() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        let met = t1.tx.range(&rows.test, [2]..).next_back().unwrap().map(row).unwrap();
        t2.put(2, t2.get(2) + 1);
        assert!(t2.commits());
        t1.put(met.0, met.1 + 1);
        expect(level, t1.commits(), BOTH_REFUSE);
        assert_eq!(rows.now(), [(1, 10), (2, 21)]);
    }
}

/// G-single (A5A), read skew: what a transaction reads is of one state. One that only reads commits; one that also writes
/// elsewhere stands at a later moment than what it has read, which `Serializable` refuses.
#[test]
fn g_single_read_skew() {
    for level in LEVELS {
        for writes in [false, true] {
            let rows = Rows::new();
            let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
            assert_eq!(t1.get(1), 10);
            assert_eq!((t2.get(1), t2.get(2)), (10, 20));
            t2.put(1, 12);
            t2.put(2, 18);
            assert!(t2.commits());
            assert_eq!(t1.get(2), 20);
            if writes {
                t1.put(3, 30);
            }
            expect(level, t1.commits(), if writes { ONLY_SNAPSHOT_COMMITS } else { BOTH_COMMIT });
        }
    }
}

/// G-single by predicates: two of them are answered from one state.
#[test]
fn g_single_by_predicates() {
    for level in LEVELS {
        let rows = Rows::new();
        let (t1, mut t2) = (rows.begin(level), rows.begin(level));
        assert_eq!(t1.select(|value| value % 5 == 0), [(1, 10), (2, 20)]);
        t2.select(|value| value == 10).into_iter().for_each(|(id, _)| t2.put(id, 12));
        assert!(t2.commits());
        assert_eq!(t1.select(|value| value % 3 == 0), []);
        assert!(t1.commits());
        assert_eq!(rows.now(), [(1, 12), (2, 20)]);
    }
}

/// G-single where the predicate chooses what is written.
#[test]
fn g_single_with_a_predicate_of_a_write() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        assert_eq!(t1.get(1), 10);
        assert_eq!(t2.select(|_| true).len(), 2);
        t2.put(1, 12);
        t2.put(2, 18);
        assert!(t2.commits());
        t1.select(|value| value == 20).into_iter().for_each(|(id, _)| t1.delete(id));
        expect(level, t1.commits(), BOTH_REFUSE);
        assert_eq!(rows.now(), [(1, 12), (2, 18)]);
    }
}

/// G-single where the other is rolled back: there was nothing to be seen, and nothing to conflict with.
#[test]
fn g_single_with_a_rollback() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        assert_eq!(t1.get(1), 10);
        t2.put(1, 12);
        t2.put(2, 18);
        t2.tx.rollback().unwrap();
        assert_eq!(t1.get(2), 20);
        t1.put(1, 11);
        assert!(t1.commits());
        assert_eq!(rows.now(), [(1, 11), (2, 20)]);
    }
}

/// G2-item (A5B), write skew: two have read both rows, each changes one. This is what `Snapshot` allows.
#[test]
fn g2_item_write_skew() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        assert_eq!((t1.get(1), t1.get(2)), (10, 20));
        assert_eq!((t2.get(1), t2.get(2)), (10, 20));
        t1.put(1, 11);
        t2.put(2, 21);
        assert!(t1.commits());
        let commits = t2.commits();
        expect(level, commits, ONLY_SNAPSHOT_COMMITS);
        assert_eq!(rows.now(), [(1, 11), (2, if commits { 21 } else { 20 })]);
    }
}

/// G2-item with rows that are read in one call, and with one that is not there.
#[test]
fn g2_item_of_many_keys_and_absent_ones() {
    for level in LEVELS {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
        for t in [&t1, &t2] {
            let found = t.tx.get_many(&rows.test, [[3], [4]]).unwrap();
            assert!(found.iter().all(Option::is_none));
        }
        t1.put(3, 30);
        t2.put(4, 40);
        assert!(t1.commits());
        expect(level, t2.commits(), ONLY_SNAPSHOT_COMMITS);
    }
}

/// G2, anti-dependency cycle by predicates: both find no row, each inserts one. With each way to ask.
#[test]
fn g2_anti_dependency_cycle() {
    type Ask = fn(&T<'_>) -> bool;
    let by_value: Ask = |t| t.select(|value| value % 3 == 0).is_empty();
    let by_range: Ask = |t| t.tx.range(t.test, [3]..=[9]).next().is_none();
    let by_range_from_the_back: Ask = |t| t.tx.range(t.test, [3]..=[9]).next_back().is_none();
    let by_prefix: Ask = |t| t.tx.prefix(t.test, [3]).next().is_none() && t.tx.prefix(t.test, [4]).next().is_none();
    let by_len: Ask = |t| t.tx.len(t.test).unwrap() == 2;
    let by_last: Ask = |t| t.tx.last(t.test).unwrap().map(row) == Some((2, 20));
    let asks = [by_value, by_range, by_range_from_the_back, by_prefix, by_len, by_last];
    for level in LEVELS {
        for (number, ask) in asks.iter().enumerate() {
            let rows = Rows::new();
            let (mut t1, mut t2) = (rows.begin(level), rows.begin(level));
            assert!(ask(&t1) && ask(&t2), "way {number}");
            t1.put(3, 30);
            t2.put(4, 42);
            assert!(t1.commits());
            let commits = t2.commits();
            println!("way {number}, {level:?}: {commits}");
            expect(level, commits, ONLY_SNAPSHOT_COMMITS);
        }
    }
}

/// G2 with two anti-dependency edges (Fekete et al., *Making Snapshot Isolation Serializable*, 2005): the third has seen the second
/// and not the first, which has not seen the second.
#[test]
fn g2_two_edges() {
    for level in LEVELS {
        let rows = Rows::new();
        let mut t1 = rows.begin(level);
        assert_eq!(t1.select(|_| true), [(1, 10), (2, 20)]);
        let mut t2 = rows.begin(level);
        t2.put(2, t2.get(2) + 5);
        assert!(t2.commits());
        let t3 = rows.begin(level);
        assert_eq!(t3.select(|_| true), [(1, 10), (2, 25)]);
        assert!(t3.commits());
        t1.put(1, 0);
        expect(level, t1.commits(), ONLY_SNAPSHOT_COMMITS);
    }
}

/// G2 of three: each reads what the next one writes. Two of them have an order, the three have not.
#[test]
fn g2_cycle_of_three() {
    for level in LEVELS {
        let rows = Rows::with(&[(1, 10), (2, 20), (3, 30)]);
        let mut all = [1, 2, 3].map(|id| (id, rows.begin(level)));
        for (id, t) in &mut all {
            let next = *id % 3 + 1;
            let read = t.tx.range(&rows.test, [next]..=[next]).next().unwrap().map(row).unwrap();
            assert_eq!(read, (next, i64::from(next) * 10));
            t.put(*id, read.1);
        }
        let [one, two, three] = all.map(|(_, t)| t);
        // Two reads 3 and precedes three, which reads 1 and precedes one.
        assert!(two.commits());
        assert!(three.commits());
        expect(level, one.commits(), ONLY_SNAPSHOT_COMMITS);
    }
}

/// The read-only anomaly (Fekete, O'Neil, O'Neil, *A Read-Only Transaction Anomaly Under Snapshot Isolation*, 2004): a customer
/// withdraws 10 from the first of two empty accounts, with a charge of 1 if that overdraws both together, while 20 are paid
/// into the second. Either order of the two is possible, until somebody looks.
#[test]
fn read_only_transaction_anomaly() {
    for level in LEVELS {
        for looks in [false, true] {
            let accounts = Rows::with(&[(1, 0), (2, 0)]);
            let mut withdrawal = accounts.begin(level);
            let sum = withdrawal.get(1) + withdrawal.get(2);
            let mut deposit = accounts.begin(level);
            deposit.put(2, deposit.get(2) + 20);
            assert!(deposit.commits());
            if looks {
                // The deposit is there and the withdrawal is not: so no charge is due.
                let look = accounts.begin(level);
                assert_eq!(look.select(|_| true), [(1, 0), (2, 20)]);
                assert!(look.commits());
                assert_eq!(accounts.now(), [(1, 0), (2, 20)]);
            }
            withdrawal.put(1, if sum < 10 { -11 } else { -10 });
            let commits = withdrawal.commits();
            expect(level, commits, ONLY_SNAPSHOT_COMMITS);
            if commits {
                assert_eq!(accounts.now(), [(1, -11), (2, 20)], "the charge, which contradicts what was seen");
            }
        }
    }
}

/// The levels side by side: a serializable transaction's reads hold whatever level the others have; one under `Snapshot` checks only
/// its own writes.
#[test]
fn levels_side_by_side() {
    for (first, second, commits) in [(Snapshot, Serializable, false), (Serializable, Snapshot, true)] {
        let rows = Rows::new();
        let (mut t1, mut t2) = (rows.begin(first), rows.begin(second));
        assert_eq!((t1.get(2), t2.get(1)), (20, 10));
        t1.put(1, 11);
        t2.put(2, 21);
        assert!(t1.commits());
        assert_eq!(t2.commits(), commits, "{first:?}, then {second:?}");
    }
}
