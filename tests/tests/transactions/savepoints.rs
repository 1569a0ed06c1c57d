//! Savepoints: a transaction goes back to where it was, and no further.

use super::common::Expected;
use super::{One, assert_sees, is_no_such_keyspace, letters};
use ashlardb::Error;

fn expected(letters: &str) -> Expected {
    letters.chars().map(|letter| (letter.to_string().into_bytes(), letter.to_string().into_bytes())).collect()
}

#[test]
fn nested_ones_restore_what_was() {
    let one = One::with_letters("abcdef");
    let mut tx = one.db.begin().unwrap();
    tx.insert(&one.k, "g", "g").unwrap();
    let first = tx.savepoint();
    tx.remove(&one.k, "a").unwrap();
    tx.insert(&one.k, "g", "changed").unwrap();
    let second = tx.savepoint();
    tx.remove_range(&one.k, "b".."e").unwrap();
    tx.insert(&one.k, "c", "again").unwrap();
    let third = tx.savepoint();
    tx.clear(&one.k).unwrap();
    tx.insert(&one.k, "z", "z").unwrap();
    assert_sees(&tx, &one.k, &expected("z"));
    tx.rollback_to(&third).unwrap();
    assert_eq!(tx.get(&one.k, "c").unwrap().unwrap(), b"again");
    assert_eq!(tx.len(&one.k).unwrap(), 4);
    tx.rollback_to(&second).unwrap();
    assert_eq!(tx.get(&one.k, "g").unwrap().unwrap(), b"changed");
    assert_eq!(tx.len(&one.k).unwrap(), 6);
    for _ in 0..3 {
        tx.rollback_to(&first).unwrap();
        assert_sees(&tx, &one.k, &expected("abcdefg"));
        tx.remove_range(&one.k, "a".."d").unwrap();
        tx.insert(&one.k, "b", "b").unwrap();
        assert_sees(&tx, &one.k, &expected("bdefg"));
    }
    tx.commit().unwrap();
    assert_eq!(letters(&one.k), "bdefg");
}

/// Passed by a rollback to an earlier one, a savepoint is gone, whatever is written since.
#[test]
fn those_that_were_rolled_back_past_are_gone() {
    let one = One::with_letters("ab");
    let mut tx = one.db.begin().unwrap();
    let first = tx.savepoint();
    tx.insert(&one.k, "c", "c").unwrap();
    let second = tx.savepoint();
    tx.rollback_to(&first).unwrap();
    assert!(matches!(tx.rollback_to(&second), Err(Error::NoSuchSavepoint)));
    tx.insert(&one.k, "x", "x").unwrap();
    tx.insert(&one.k, "y", "y").unwrap();
    assert!(matches!(tx.rollback_to(&second), Err(Error::NoSuchSavepoint)), "it would undo half of what is new");
    assert_sees(&tx, &one.k, &expected("abxy"));
    let third = tx.savepoint();
    tx.remove(&one.k, "a").unwrap();
    tx.rollback_to(&third).unwrap();
    assert!(matches!(tx.rollback_to(&second), Err(Error::NoSuchSavepoint)));
    tx.commit().unwrap();
    assert_eq!(letters(&one.k), "abxy");
}

/// Two savepoints between which nothing was written are the same state; going back to the later keeps the earlier.
#[test]
fn two_with_nothing_in_between() {
    let one = One::with_letters("a");
    let mut tx = one.db.begin().unwrap();
    let (first, second) = (tx.savepoint(), tx.savepoint());
    tx.insert(&one.k, "b", "b").unwrap();
    tx.rollback_to(&second).unwrap();
    tx.insert(&one.k, "c", "c").unwrap();
    tx.rollback_to(&first).unwrap();
    tx.insert(&one.k, "d", "d").unwrap();
    tx.commit().unwrap();
    assert_eq!(letters(&one.k), "ad");
}

#[test]
fn those_of_another_transaction_are_refused() {
    let one = One::with_letters("a");
    let (mut tx, mut other) = (one.db.begin().unwrap(), one.db.begin().unwrap());
    let (own, others) = (tx.savepoint(), other.savepoint());
    tx.insert(&one.k, "b", "b").unwrap();
    assert!(matches!(tx.rollback_to(&others), Err(Error::NoSuchSavepoint)));
    assert_sees(&tx, &one.k, &expected("ab"));
    tx.rollback_to(&own).unwrap();
    assert_sees(&tx, &one.k, &expected("a"));
}

#[test]
fn keyspaces_made_cleared_and_dropped_come_back() {
    let one = One::with_letters("abc");
    one.db.keyspace("other").unwrap().insert("o", "o").unwrap();
    let mut tx = one.db.begin().unwrap();
    let start = tx.savepoint();
    let made = tx.keyspace("made").unwrap();
    tx.insert(&made, "m", "m").unwrap();
    let with_made = tx.savepoint();
    assert!(tx.drop_keyspace("other").unwrap());
    assert!(tx.drop_keyspace("made").unwrap());
    tx.clear(&one.k).unwrap();
    tx.insert(&one.k, "x", "x").unwrap();
    assert!(tx.existing_keyspace("other").unwrap().is_none() && tx.existing_keyspace("made").unwrap().is_none());
    assert!(is_no_such_keyspace(tx.get(&made, "m")));
    tx.rollback_to(&with_made).unwrap();
    assert_sees(&tx, &made, &expected("m"));
    assert_sees(&tx, &one.k, &expected("abc"));
    let other = tx.existing_keyspace("other").unwrap().unwrap();
    assert_sees(&tx, &other, &expected("o"));
    tx.rollback_to(&start).unwrap();
    assert!(tx.existing_keyspace("made").unwrap().is_none());
    assert!(is_no_such_keyspace(tx.get(&made, "m")) && is_no_such_keyspace(tx.insert(&made, "m", "m")));
    // Another of that name is another one.
    let again = tx.keyspace("made").unwrap();
    tx.insert(&again, "n", "n").unwrap();
    tx.insert(&other, "p", "p").unwrap();
    tx.commit().unwrap();
    assert!(is_no_such_keyspace(made.get("m")));
    assert_eq!((letters(&again), letters(&other), letters(&one.k)), ("n".into(), "op".into(), "abc".into()));
    assert_eq!(one.db.keyspaces().unwrap(), ["k", "made", "other"]);
}

/// What is rolled back needs no memory, no log, and is not validated as written.
#[test]
fn what_is_rolled_back_was_never_written() {
    let dir = super::scratch();
    let db = super::quiet().transaction_limit(10_000).open(dir.path().join("db")).unwrap();
    let k = db.keyspace("k").unwrap();
    let mut tx = db.begin_with(ashlardb::Isolation::Snapshot).unwrap();
    let savepoint = tx.savepoint();
    for _ in 0..10 {
        tx.insert(&k, "large", [0; 9000]).unwrap();
        tx.rollback_to(&savepoint).unwrap();
    }
    k.insert("large", "theirs").unwrap();
    tx.insert(&k, "small", "").unwrap();
    tx.commit().unwrap();
    let mut tx = db.begin().unwrap();
    let savepoint = tx.savepoint();
    tx.clear(&k).unwrap();
    tx.rollback_to(&savepoint).unwrap();
    let commits = db.stats().commits;
    tx.commit().unwrap();
    assert_eq!(db.stats().commits, commits, "nothing was written");
}

/// What was read before a rollback to a savepoint counts all the same: it may be known outside.
#[test]
fn what_was_read_counts_all_the_same() {
    let one = One::with_letters("ab");
    let mut tx = one.db.begin().unwrap();
    let savepoint = tx.savepoint();
    assert!(tx.get(&one.k, "a").unwrap().is_some());
    tx.rollback_to(&savepoint).unwrap();
    tx.insert(&one.k, "c", "c").unwrap();
    one.k.insert("a", "changed").unwrap();
    assert!(super::conflicts(tx));
}
