//! Keyspaces made, dropped and cleared inside of transactions: what becomes of them and of handles on them.

use super::common::{assert_clean, value_of};
use super::{One, conflicts, is_no_such_keyspace, letters};
use ashlardb::{Database, Error, Isolation, Keyspace};

/// Everything that a handle can be used for gives [`Error::NoSuchKeyspace`].
fn assert_useless(db: &Database, keyspace: &Keyspace) {
    assert!(is_no_such_keyspace(keyspace.get("a")));
    assert!(is_no_such_keyspace(keyspace.insert("a", "")));
    assert!(is_no_such_keyspace(keyspace.len()));
    assert!(is_no_such_keyspace(keyspace.clear()));
    assert!(is_no_such_keyspace(keyspace.iter().next().unwrap()));
    assert!(is_no_such_keyspace(keyspace.get_many(["a"])));
    let mut tx = db.begin().unwrap();
    assert!(is_no_such_keyspace(tx.get(keyspace, "a")));
    assert!(is_no_such_keyspace(tx.insert(keyspace, "a", "")));
    assert!(is_no_such_keyspace(tx.remove_range(keyspace, "a"..)));
    assert!(is_no_such_keyspace(tx.len(keyspace)));
    assert!(is_no_such_keyspace(tx.iter(keyspace).next_back().unwrap()));
    let snapshot = db.snapshot().unwrap();
    assert!(is_no_such_keyspace(snapshot.get(keyspace, "a")));
    assert!(is_no_such_keyspace(snapshot.iter(keyspace).next().unwrap()));
}

#[test]
fn one_that_is_made_is_there_with_the_commit() {
    let one = One::new();
    let snapshot = one.db.snapshot().unwrap();
    let mut tx = one.db.begin().unwrap();
    let made = tx.keyspace("made").unwrap();
    assert_eq!(tx.existing_keyspace("made").unwrap().unwrap().name(), "made");
    tx.insert(&made, "a", "1").unwrap();
    tx.insert(&tx.existing_keyspace("made").unwrap().unwrap(), "b", value_of(1, 100_000)).unwrap();
    assert_eq!(tx.len(&made).unwrap(), 2);
    assert!(one.db.existing_keyspace("made").unwrap().is_none());
    assert_useless(&one.db, &made);
    tx.commit().unwrap();
    assert_eq!(letters(&made), "ab");
    assert_eq!(letters(&one.db.keyspace("made").unwrap()), "ab");
    assert!(snapshot.keyspace("made").unwrap().is_none() && is_no_such_keyspace(snapshot.get(&made, "a")));
    made.insert("c", "").unwrap();
    assert_eq!(letters(&made), "abc");
    assert_clean(&one.db);
}

#[test]
fn one_that_is_made_and_not_committed_never_was() {
    for way in 0..3 {
        let one = One::with_letters("a");
        let mut tx = one.db.begin().unwrap();
        let made = tx.keyspace("made").unwrap();
        tx.insert(&made, "a", "1").unwrap();
        match way {
            0 => tx.rollback().unwrap(),
            1 => drop(tx),
            _ => {
                tx.get(&one.k, "a").unwrap();
                one.k.insert("a", "changed").unwrap();
                assert!(conflicts(tx));
            }
        }
        assert_eq!(one.db.keyspaces().unwrap(), ["k"]);
        assert_useless(&one.db, &made);
        // One that another makes is another one, also for the handle.
        one.db.keyspace("made").unwrap().insert("z", "").unwrap();
        assert_useless(&one.db, &made);
    }
}

#[test]
fn one_that_is_dropped_goes_with_the_commit() {
    let one = One::with_letters("abc");
    let snapshot = one.db.snapshot().unwrap();
    let mut tx = one.db.begin().unwrap();
    assert!(tx.drop_keyspace("k").unwrap());
    assert!(!tx.drop_keyspace("k").unwrap() && !tx.drop_keyspace("none").unwrap());
    assert!(is_no_such_keyspace(tx.get(&one.k, "a")) && is_no_such_keyspace(tx.insert(&one.k, "a", "")));
    assert!(is_no_such_keyspace(tx.clear(&one.k)) && tx.existing_keyspace("k").unwrap().is_none());
    assert_eq!(letters(&one.k), "abc", "nobody else sees it yet");
    tx.commit().unwrap();
    assert_useless(&one.db, &one.k);
    assert!(one.db.keyspaces().unwrap().is_empty());
    assert_eq!(snapshot.iter(&one.k).count(), 3);
    assert_eq!(snapshot.keyspaces().unwrap(), ["k"]);
}

#[test]
fn a_drop_that_is_rolled_back_changes_nothing() {
    let one = One::with_letters("abc");
    let mut tx = one.db.begin().unwrap();
    tx.drop_keyspace("k").unwrap();
    tx.rollback().unwrap();
    assert_eq!(letters(&one.k), "abc");
    let mut tx = one.db.begin().unwrap();
    tx.clear(&one.k).unwrap();
    drop(tx);
    assert_eq!(letters(&one.k), "abc");
}

#[test]
fn dropped_and_made_again_in_one_transaction() {
    let one = One::with_letters("abc");
    let mut tx = one.db.begin().unwrap();
    tx.insert(&one.k, "d", "").unwrap();
    tx.drop_keyspace("k").unwrap();
    let again = tx.keyspace("k").unwrap();
    assert!(tx.is_empty(&again).unwrap());
    tx.insert(&again, "x", "").unwrap();
    assert!(is_no_such_keyspace(tx.get(&one.k, "x")));
    let snapshot = one.db.snapshot().unwrap();
    tx.commit().unwrap();
    assert_useless(&one.db, &one.k);
    assert_eq!(letters(&again), "x");
    assert_eq!(letters(&one.db.existing_keyspace("k").unwrap().unwrap()), "x");
    assert_eq!(snapshot.iter(&snapshot.keyspace("k").unwrap().unwrap()).count(), 3);
    drop(snapshot);
    while one.db.maintain().unwrap() {}
    one.db.checkpoint().unwrap();
    assert_clean(&one.db);
}

/// One that is made and dropped in the same transaction leaves nothing, not even a commit of its own that means nothing.
#[test]
fn made_and_dropped_in_one_transaction() {
    for also_writes in [false, true] {
        let one = One::with_letters("a");
        let mut tx = one.db.begin().unwrap();
        let made = tx.keyspace("made").unwrap();
        tx.insert(&made, "a", "").unwrap();
        assert!(tx.drop_keyspace("made").unwrap());
        if also_writes {
            tx.insert(&one.k, "b", "").unwrap();
        }
        tx.commit().unwrap();
        assert_eq!(one.db.keyspaces().unwrap(), ["k"]);
        assert_eq!(letters(&one.k), if also_writes { "ab" } else { "a" });
        assert_useless(&one.db, &made);
        let path = one.db.path().to_owned();
        let One { db, k, _dir } = one;
        drop((db, k, made));
        let db = super::quiet().open(path).unwrap();
        assert_eq!(db.keyspaces().unwrap(), ["k"]);
        assert_clean(&db);
    }
}

#[test]
fn a_cleared_one_keeps_its_handles() {
    let one = One::with_letters("abc");
    let mut tx = one.db.begin().unwrap();
    tx.clear(&one.k).unwrap();
    tx.insert(&one.k, "x", "").unwrap();
    assert_eq!(letters(&one.k), "abc");
    tx.commit().unwrap();
    assert_eq!(letters(&one.k), "x");
    one.k.insert("y", "").unwrap();
    assert_eq!(letters(&one.k), "xy");
    let mut tx = one.db.begin().unwrap();
    tx.clear(&one.k).unwrap();
    tx.drop_keyspace("k").unwrap();
    tx.commit().unwrap();
    assert_useless(&one.db, &one.k);
}

#[test]
fn impossible_names_are_refused() {
    let one = One::new();
    let mut tx = one.db.begin().unwrap();
    for name in ["", "with\nbreak", &"n".repeat(ashlardb::KEYSPACE_NAME_MAX + 1)] {
        assert!(matches!(tx.keyspace(name), Err(Error::KeyspaceName { .. })), "{name:?}");
        assert!(tx.existing_keyspace(name).unwrap().is_none());
    }
    tx.commit().unwrap();
}

/// Who makes a keyspace relies on its not being there; who has looked for one, too, if that is validated.
#[test]
fn conflicts_by_name() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let one = One::new();
        let begin = || one.db.begin_with(isolation).unwrap();
        let (mut first, mut second) = (begin(), begin());
        first.keyspace("new").unwrap();
        let lost = second.keyspace("new").unwrap();
        first.commit().unwrap();
        assert!(conflicts(second));
        assert_useless(&one.db, &lost);

        let mut third = begin();
        third.keyspace("newer").unwrap();
        one.db.keyspace("newer").unwrap();
        assert!(conflicts(third));

        // There it is, so nothing is made: no conflict.
        let (mut fourth, mut fifth) = (begin(), begin());
        for tx in [&mut fourth, &mut fifth] {
            let new = tx.keyspace("new").unwrap();
            tx.insert(&new, "a", "").unwrap();
        }
        fourth.commit().unwrap();
        assert_eq!(conflicts(fifth), isolation == Isolation::Snapshot, "both wrote one key");

        let mut looks = begin();
        assert!(looks.existing_keyspace("newest").unwrap().is_none());
        one.db.keyspace("newest").unwrap();
        assert!(looks.existing_keyspace("newest").unwrap().is_none(), "one state");
        looks.insert(&one.k, "a", "").unwrap();
        assert_eq!(conflicts(looks), isolation == Isolation::Serializable);

        let (mut drops, mut drops_too, mut writes) = (begin(), begin(), begin());
        assert!(drops.drop_keyspace("new").unwrap() && drops_too.drop_keyspace("new").unwrap());
        writes.insert(&writes.existing_keyspace("new").unwrap().unwrap(), "w", "").unwrap();
        drops.commit().unwrap();
        assert!(conflicts(drops_too) && conflicts(writes));

        // A name that was found and is another's by now.
        let mut found = begin();
        assert!(found.existing_keyspace("newest").unwrap().is_some());
        one.db.drop_keyspace("newest").unwrap();
        one.db.keyspace("newest").unwrap();
        found.insert(&one.k, "b", "").unwrap();
        assert_eq!(conflicts(found), isolation == Isolation::Serializable);
    }
}

/// A keyspace that is dropped or cleared has been changed by whoever wrote to it.
#[test]
fn drops_and_clears_against_writes() {
    for (isolation, conflict) in [(Isolation::Serializable, false), (Isolation::Snapshot, true)] {
        for drops in [true, false] {
            let one = One::with_letters("ab");
            let mut tx = one.db.begin_with(isolation).unwrap();
            if drops {
                tx.drop_keyspace("k").unwrap();
            } else {
                tx.clear(&one.k).unwrap();
            }
            one.k.insert("c", "").unwrap();
            assert_eq!(conflicts(tx), conflict, "{isolation:?}: unread, it goes whatever it holds");
            assert_eq!(one.db.existing_keyspace("k").unwrap().is_some(), conflict || !drops);
            if conflict {
                assert_eq!(letters(&one.k), "abc");
            }
        }
    }
}

/// A handle on a keyspace that is newer than the transaction: there is none yet, which is relied on as anything that was read.
#[test]
fn a_handle_on_a_keyspace_that_is_newer_than_the_transaction() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        for writes in [false, true] {
            let one = One::new();
            let mut old = one.db.begin_with(isolation).unwrap();
            let newer = one.db.keyspace("newer").unwrap();
            newer.insert("a", "").unwrap();
            if writes {
                assert!(is_no_such_keyspace(old.insert(&newer, "a", "")));
            } else {
                assert!(is_no_such_keyspace(old.get(&newer, "a")) && is_no_such_keyspace(old.iter(&newer).next().unwrap()));
            }
            old.insert(&one.k, "a", "").unwrap();
            assert_eq!(conflicts(old), isolation == Isolation::Serializable);
            assert_eq!(letters(&newer), "a");
        }
    }
}
