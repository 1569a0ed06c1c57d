//! How a transaction can end beside its commit, and what it refuses: it leaves nothing and holds up nobody.

use super::common::{assert_clean, value_of};
use super::{One, letters, quiet, scratch};
use ashlardb::{Background, Durability, Error, Isolation, TransactionOptions};
use std::time::Duration;

/// Nothing is held for anybody, and nothing but the letters is there.
fn assert_untouched(one: &One, expected: &str) {
    assert_eq!(letters(&one.k), expected);
    let stats = one.db.stats();
    assert_eq!(stats.snapshots, 0);
    while one.db.maintain().unwrap() {}
    assert_eq!((one.db.stats().versions, one.db.stats().version_bytes), (0, 0));
    one.db.checkpoint().unwrap();
    assert_clean(&one.db);
}

#[test]
fn a_dropped_one_leaves_nothing() {
    let one = One::with_letters("abc");
    // The first checkpoints make the catalog and the map.
    one.db.checkpoint().unwrap();
    one.db.checkpoint().unwrap();
    let before = one.db.stats();
    for rolls_back in [false, true] {
        let mut tx = one.db.begin().unwrap();
        tx.insert(&one.k, "large", value_of(1, 1 << 20)).unwrap();
        tx.remove_range(&one.k, "a"..).unwrap();
        tx.keyspace("made").unwrap();
        assert_eq!(one.db.stats().snapshots, 1);
        if rolls_back { tx.rollback().unwrap() } else { drop(tx) }
    }
    let after = one.db.stats();
    assert_eq!((after.commits, after.log.unwrap().appended), (before.commits, before.log.unwrap().appended));
    assert_untouched(&one, "abc");
    let space = one.db.stats().space;
    assert_eq!((space.file - space.free, space.pages), (before.space.file - before.space.free, before.space.pages));
}

/// What a refused commit had written to runs of their own is free again.
#[test]
fn a_refused_one_leaves_nothing() {
    let one = One::with_letters("abc");
    one.db.checkpoint().unwrap();
    one.db.checkpoint().unwrap();
    let before = one.db.stats().space;
    for _ in 0..3 {
        let mut tx = one.db.begin().unwrap();
        tx.get(&one.k, "a").unwrap();
        tx.insert(&one.k, "large", value_of(1, 1 << 20)).unwrap();
        tx.keyspace("made").unwrap();
        one.k.insert("a", "a").unwrap();
        assert!(super::conflicts(tx));
    }
    assert_untouched(&one, "abc");
    one.db.checkpoint().unwrap();
    let after = one.db.stats().space;
    assert_eq!((after.file - after.free, after.pages), (before.file - before.free, before.pages));
}

#[test]
fn an_error_of_the_closure_is_the_callers() {
    #[derive(Debug)]
    enum Own {
        NotEnough(u32),
        Database(Error),
    }
    impl From<Error> for Own {
        fn from(e: Error) -> Own {
            Own::Database(e)
        }
    }
    let one = One::with_letters("abc");
    let outcome: Result<(), Own> = one.db.transact_with(TransactionOptions::default(), |tx| {
        tx.insert(&one.k, "d", "")?;
        Err(Own::NotEnough(7))
    });
    assert!(matches!(outcome, Err(Own::NotEnough(7))));
    let outcome: Result<(), Own> =
        one.db.transact_with(TransactionOptions::default(), |tx| Ok(tx.insert(&one.k, vec![0; 10_000], "")?));
    assert!(matches!(outcome, Err(Own::Database(Error::KeyTooLarge { .. }))));
    assert_untouched(&one, "abc");
}

/// A panic in a transaction takes it back. Others go on, also those that want the same keys.
#[test]
fn a_panicking_closure_rolls_back_and_holds_up_nobody() {
    let dir = scratch();
    let db = quiet().background(Background::Threads).open(dir.path().join("db")).unwrap();
    let k = db.keyspace("k").unwrap();
    k.insert("n", "0").unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        db.transact(|tx| {
            tx.insert(&k, "n", "of the panic")?;
            tx.drop_keyspace("k")?;
            tx.keyspace("made")?;
            if tx.is_empty(&tx.existing_keyspace("made")?.unwrap())? {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            Ok(())
        })
    }));
    assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (db, k) = (&db, &k);
            scope.spawn(move || {
                for round in 0..30u64 {
                    let panics = thread == 0 && round % 3 == 0;
                    let work = || {
                        db.transact(|tx| {
                            let n: u64 = std::str::from_utf8(&tx.get(k, "n")?.unwrap()).unwrap().parse().unwrap();
                            tx.insert(k, "n", (n + 1).to_string())?;
                            if panics {
                                std::panic::resume_unwind(Box::new(()));
                            }
                            Ok(())
                        })
                    };
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                    assert_eq!(outcome.is_err(), panics);
                }
            });
        }
    });
    assert_eq!(k.get("n").unwrap().unwrap(), b"80");
    assert_eq!((db.keyspaces().unwrap(), db.stats().snapshots), (vec!["k".to_owned()], 0));
}

/// Keyspaces belong to one database; with another they are refused, even where one of that name is there.
#[test]
fn handles_of_another_database() {
    fn refused<T>(outcome: Result<T, Error>) {
        let Err(error) = outcome else { panic!("a handle of another database was taken") };
        assert!(error.to_string().contains("of another database"), "{error}");
    }
    let (one, other) = (One::with_letters("a"), One::with_letters("b"));
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let mut tx = one.db.begin_with(isolation).unwrap();
        refused(tx.get(&other.k, "b"));
        refused(tx.contains_key(&other.k, "b"));
        refused(tx.get_many(&other.k, ["b"]));
        refused(tx.range(&other.k, "a"..).next().unwrap());
        refused(tx.iter(&other.k).next_back().unwrap());
        refused(tx.prefix(&other.k, "b").next().unwrap());
        refused(tx.first(&other.k));
        refused(tx.last(&other.k));
        refused(tx.len(&other.k));
        refused(tx.is_empty(&other.k));
        refused(tx.insert(&other.k, "c", ""));
        refused(tx.remove(&other.k, "b"));
        refused(tx.remove_range(&other.k, "b"..));
        refused(tx.clear(&other.k));
        tx.commit().unwrap();
    }
    let snapshot = one.db.snapshot().unwrap();
    refused(snapshot.get(&other.k, "b"));
    refused(snapshot.len(&other.k));
    refused(snapshot.iter(&other.k).next().unwrap());
    drop(snapshot);
    assert_untouched(&one, "a");
    assert_untouched(&other, "b");
}

/// A commit of each durability, by default and as asked for; one without writes is none.
#[test]
fn durability_is_as_asked_for() {
    let dir = scratch();
    let path = dir.path().join("db");
    let hour = Duration::from_secs(3600);
    let db = quiet().durability(Durability::Eventual).eventual_bound(hour).open(&path).unwrap();
    let k = db.keyspace("k").unwrap();
    let durable = || {
        let log = db.stats().log.unwrap();
        log.durable >= log.appended
    };
    let options = |durability| TransactionOptions { durability, isolation: Isolation::Serializable };
    let commit = |durability| {
        db.transact_with(options(durability), |tx| {
            let n = tx.len(&k)?;
            tx.insert(&k, n.to_be_bytes(), "")
        })
        .unwrap();
        durable()
    };
    assert!(!commit(None) && !commit(Some(Durability::Eventual)));
    assert!(commit(Some(Durability::Immediate)));
    let commits = db.stats().commits;
    assert!(!commit(None));
    // Reads of what is visible to all, and no writes: nothing is written, and there is nothing to wait for.
    db.transact_with(options(Some(Durability::Immediate)), |tx| tx.len(&k)).unwrap();
    assert!(!durable());
    assert_eq!((db.stats().commits, k.len().unwrap()), (commits + 1, 4));
    let mut tx = db.begin().unwrap();
    tx.insert(&k, "last", "").unwrap();
    tx.commit_with(Durability::Immediate).unwrap();
    assert!(durable());
    super::common::copy_database(&path, &dir.path().join("copy"));
    let copy = quiet().open(dir.path().join("copy")).unwrap();
    assert_eq!(copy.keyspace("k").unwrap().len().unwrap(), 5);
}

/// A reader's transactions read, and refuse to commit writes.
#[test]
fn in_a_read_only_database() {
    let one = One::with_letters("abc");
    let path = one.db.path().to_owned();
    let One { db, k, _dir } = one;
    drop((db, k));
    let db = quiet().read_only(true).open(path).unwrap();
    let k = db.existing_keyspace("k").unwrap().unwrap();
    let tx = db.begin().unwrap();
    assert_eq!((tx.len(&k).unwrap(), tx.iter(&k).count()), (3, 3));
    tx.commit().unwrap();
    let mut tx = db.begin().unwrap();
    tx.insert(&k, "d", "").unwrap();
    assert!(matches!(tx.commit(), Err(Error::ReadOnly { .. })));
    assert!(matches!(db.transact(|tx| tx.insert(&k, "d", "")), Err(Error::ReadOnly { .. })));
    assert_eq!(letters(&k), "abc");
}
