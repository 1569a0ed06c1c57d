//! What snapshots keep takes memory within a limit; beyond it the oldest is taken away, and says so.
//!
//! `ASHLAR_UPDATES` sets how many updates.

use super::assert_nothing_is_kept;
use super::common::{assert_clean, quiet, scratch};
use ashlar_tests::number;
use ashlardb::{Background, Database, Durability, Error, Keyspace, Snapshot, Transaction};
use std::time::{Duration, Instant};

const KEYS: u64 = 2000;

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn filled(limit: u64) -> (tempfile::TempDir, Database, Keyspace) {
    let dir = scratch();
    let db = quiet().versions_limit(limit).cache_size(4 << 20).log_limit(8 << 20).open(dir.path().join("db")).unwrap();
    let k = db.keyspace("k").unwrap();
    (0..KEYS).for_each(|n| k.insert_with(n.to_be_bytes(), "0", Durability::Eventual).unwrap());
    (dir, db, k)
}

fn update(k: &Keyspace, n: u64) {
    k.insert_with((n % KEYS).to_be_bytes(), n.to_string(), Durability::Eventual).unwrap();
}

/// What the snapshot of the beginning gives; whether it is still there.
fn reads(snapshot: &Snapshot, k: &Keyspace, n: u64) -> bool {
    let some = snapshot.get(k, (n % KEYS).to_be_bytes());
    let range = snapshot.range(k, (n % KEYS).to_be_bytes()..).take(5).collect::<Result<Vec<_>, Error>>();
    let len = snapshot.len(k);
    match (some, range, len) {
        (Ok(some), Ok(range), Ok(len)) => {
            assert_eq!(some.unwrap(), b"0");
            assert_eq!((range.len() as u64, len), ((KEYS - n % KEYS).min(5), KEYS));
            assert!(range.iter().all(|(_, value)| *value == b"0"));
            true
        }
        (some, range, len) => {
            for error in [some.err(), range.err(), len.err()].into_iter().flatten() {
                assert!(matches!(error, Error::SnapshotTooOld { lsn } if lsn == snapshot.lsn()), "{error}");
            }
            false
        }
    }
}

#[test]
fn of_one_that_is_held_during_many_updates() {
    const LIMIT: u64 = 1 << 20;
    let (_dir, db, k) = filled(LIMIT);
    let snapshot = db.snapshot().unwrap();
    let (updates, started) = (number("ASHLAR_UPDATES", u64::MAX), Instant::now());
    let (mut alive, mut most, mut early, mut n) = (true, 0, 0, 0);
    while n < updates && (updates < u64::MAX || started.elapsed() < Duration::from_secs(4)) {
        n += 1;
        update(&k, n);
        if n % 64 == 0 {
            most = most.max(db.stats().version_bytes);
            let still = reads(&snapshot, &k, n * 7);
            if alive && !still {
                println!("taken away after {n} updates");
                assert!(n * 100 > LIMIT / 4, "not before the limit is near");
            }
            assert!(alive || !still, "what was taken away does not come back");
            alive = still;
        }
        if n == 20_000 {
            early = resident();
        }
    }
    let late = resident();
    println!("{n} updates, at most {most} bytes of versions; resident {early}, then {late}");
    assert!(!alive, "{n} updates take more than the limit");
    assert!(most < LIMIT + (256 << 10), "{most}");
    assert!(early == 0 || late < early + (128 << 20), "memory grows: {early}, then {late}");
    assert!(matches!(snapshot.get(&k, "absent"), Err(Error::SnapshotTooOld { .. })));
    assert!(matches!(snapshot.keyspaces(), Err(Error::SnapshotTooOld { .. })));
    assert!(matches!(snapshot.keyspace("k"), Err(Error::SnapshotTooOld { .. })));
    assert!(matches!(snapshot.get_many(&k, ["absent"]), Err(Error::SnapshotTooOld { .. })));
    assert!(matches!(snapshot.iter(&k).next_back(), Some(Err(Error::SnapshotTooOld { .. }))));
    drop(snapshot);
    // A new one is as good as ever.
    let snapshot = db.snapshot().unwrap();
    update(&k, n + 1);
    assert_eq!(snapshot.get(&k, (n % KEYS).to_be_bytes()).unwrap().unwrap(), n.to_string().as_bytes());
    drop(snapshot);
    assert_nothing_is_kept(&db);
    db.checkpoint().unwrap();
    assert_clean(&db);
}

#[test]
fn without_any_nothing_piles_up() {
    let (_dir, db, k) = filled(64 << 20);
    let mut most = 0;
    for n in 0..30_000 {
        update(&k, n);
        if n % 100 == 0 {
            most = most.max(db.stats().version_bytes);
        }
    }
    println!("at most {most} bytes");
    assert!(most < 256 << 10, "{most}");
    assert_nothing_is_kept(&db);
}

/// What a snapshot has held back goes by itself when it has gone, though nobody writes any more.
#[test]
fn the_background_takes_away_what_was_held_back() {
    let dir = scratch();
    let db = quiet().background(Background::Threads).open(dir.path().join("db")).unwrap();
    let k = db.keyspace("k").unwrap();
    let snapshot = db.snapshot().unwrap();
    (0..1000).for_each(|n| update(&k, n));
    k.insert("large", vec![0; 100_000]).unwrap();
    k.remove("large").unwrap();
    assert!(db.stats().versions >= 1000);
    drop(snapshot);
    let until = Instant::now() + Duration::from_secs(20);
    while db.stats().versions > 0 {
        assert!(Instant::now() < until, "{:?}", db.stats());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(db.stats().version_bytes, 0);
}

/// A transaction is held to the same limit: its reads and its commit end with the same error, and nothing of it is applied.
#[test]
fn of_a_transaction_that_is_held() {
    let too_old = |error: &Error| matches!(error, Error::SnapshotTooOld { .. });
    for reads_first in [true, false] {
        let (_dir, db, k) = filled(256 << 10);
        let mut tx: Transaction = db.begin().unwrap();
        if reads_first {
            assert_eq!(tx.get(&k, 5u64.to_be_bytes()).unwrap().unwrap(), b"0");
        }
        tx.insert(&k, "new", "").unwrap();
        let gone = (1..100_000).find(|n| {
            update(&k, *n);
            n % 50 == 0 && tx.get(&k, 5u64.to_be_bytes()).is_err_and(|e| too_old(&e))
        });
        println!("taken away after {gone:?} updates");
        assert!(gone.is_some());
        assert!(too_old(&tx.iter(&k).next().unwrap().unwrap_err()));
        assert!(too_old(&tx.len(&k).unwrap_err()));
        assert!(too_old(&tx.existing_keyspace("none").unwrap_err()));
        assert!(too_old(&tx.commit().unwrap_err()));
        assert!(k.get("new").unwrap().is_none());
        assert_nothing_is_kept(&db);
    }
}

/// The oldest goes, not those that are newer and need less.
#[test]
fn the_oldest_goes_first() {
    let (_dir, db, k) = filled(256 << 10);
    let old = db.snapshot().unwrap();
    let mut n = 0;
    while old.get(&k, "absent").is_ok() {
        n += 1;
        update(&k, n);
        if n % 500 == 0 {
            let new = db.snapshot().unwrap();
            update(&k, n);
            assert!(new.get(&k, "absent").is_ok());
        }
    }
    let new = db.snapshot().unwrap();
    (0..200).for_each(|n| update(&k, n));
    assert!(new.get(&k, "absent").is_ok() && old.get(&k, "absent").is_err());
    // A clone is the same snapshot: it lives as long as either.
    let clone = new.clone();
    drop(new);
    (0..200).for_each(|n| update(&k, n));
    assert!(clone.get(&k, "absent").is_ok());
    assert_eq!(db.stats().snapshots, 1);
}
