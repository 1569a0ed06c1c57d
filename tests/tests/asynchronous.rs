//! Futures of reads and commits under two executors that have nothing in common: that of `futures` and that of `tokio`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Background, Database, Durability, Error, Keyspace, Options};
use common::{Expected, assert_clean, scratch, value_of};
use futures::executor::{ThreadPool, block_on};
use futures::future::join_all;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn options() -> Options {
    Options::new().cache_size(1 << 20).segment_size(1 << 20)
}

/// More than the cache holds, values of every kind among them.
fn filled(db: &Database) -> (Keyspace, Expected) {
    let keyspace = db.keyspace("k").unwrap();
    let mut expected = Expected::new();
    for i in 0..6000u64 {
        let len = match i % 500 {
            0 => 150_000,
            1 => 20_000,
            _ => 400,
        };
        let (key, value) = ((i.wrapping_mul(0x9E37_79B9) & 0xFFFF_FFFF).to_be_bytes(), value_of(i, len));
        keyspace.insert_with(key, &value, Durability::Eventual).unwrap();
        expected.insert(key.to_vec(), value);
    }
    db.checkpoint().unwrap();
    (keyspace, expected)
}

/// Runs a future that owns all it needs, on another executor each time.
fn on_each_executor<T: Send + 'static, F: Future<Output = T> + Send + 'static>(make: impl Fn() -> F) -> Vec<T> {
    let by_futures = {
        let pool = ThreadPool::builder().pool_size(2).create().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let future = make();
        pool.spawn_ok(async move { send.send(future.await).unwrap() });
        receive.recv().unwrap()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let by_tokio = runtime.block_on(runtime.spawn(make())).unwrap();
    vec![by_futures, by_tokio, block_on(make())]
}

#[test]
fn many_reads_are_in_flight_from_one_task() {
    let dir = scratch();
    let db = options().open(dir.path().join("db")).unwrap();
    let (keyspace, expected) = filled(&db);
    let keys: Vec<Vec<u8>> = expected.keys().cloned().chain([b"absent".to_vec()]).collect();
    let before = db.stats().pool.prefetches;
    let found = on_each_executor(|| join_all(keys.iter().map(|key| keyspace.get_async(key)).collect::<Vec<_>>()));
    for found in found {
        for (key, value) in keys.iter().zip(found) {
            assert_eq!(value.unwrap().map(|v| v.to_vec()).as_ref(), expected.get(key));
        }
    }
    assert!(db.stats().pool.prefetches > before + 500, "hardly a read was asked for ahead");
    let found = on_each_executor(|| keyspace.get_many_async(&keys));
    for found in found {
        assert!(keys.iter().zip(found.unwrap()).all(|(key, value)| value.map(|v| v.to_vec()).as_ref() == expected.get(key)));
    }
    let snapshot = db.snapshot().unwrap();
    keyspace.clear().unwrap();
    let (key, value) = expected.first_key_value().unwrap();
    assert_eq!(block_on(snapshot.get_async(&keyspace, key)).unwrap().unwrap(), *value);
    assert_eq!(block_on(keyspace.get_async(key)).unwrap(), None);
}

/// Fewer frames than futures: what finds no frame waits for one elsewhere.
#[test]
fn reads_get_on_in_the_smallest_cache() {
    let dir = scratch();
    let db = options().cache_size(16 * 8192).open(dir.path().join("db")).unwrap();
    let (keyspace, expected) = filled(&db);
    let found = block_on(join_all(expected.keys().step_by(3).map(|key| keyspace.get_async(key)).collect::<Vec<_>>()));
    assert!(expected.values().step_by(3).zip(found).all(|(value, found)| found.unwrap().unwrap() == *value));
}

#[test]
fn commits_under_way_together_share_flushes_and_are_all_there() {
    let dir = scratch();
    let path = dir.path().join("db");
    let db = options().open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let commits = db.stats().commits;
    let commit = |i: u32| {
        let mut tx = db.begin().unwrap();
        tx.insert(&keyspace, i.to_be_bytes(), value_of(u64::from(i), 50)).unwrap();
        tx.commit_async(Durability::Immediate)
    };
    let flushes = db.stats().log.unwrap().flushes;
    let outcomes = on_each_executor(|| join_all((0..500).map(commit).collect::<Vec<_>>()));
    assert!(outcomes.into_iter().flatten().all(|outcome| outcome.is_ok()));
    let (stats, log) = (db.stats(), db.stats().log.unwrap());
    assert_eq!(stats.commits - commits, 1500);
    assert!(log.flushes - flushes < 1200, "{} flushes for 1500 commits", log.flushes - flushes);
    drop((keyspace, db));
    let db = options().open(&path).unwrap();
    assert_eq!(db.keyspace("k").unwrap().len().unwrap(), 500);
    assert_clean(&db);
}

#[test]
fn a_dropped_future_drops_only_the_answer() {
    let dir = scratch();
    let db = options().open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..200u32 {
        let mut tx = db.begin().unwrap();
        tx.insert(&keyspace, i.to_be_bytes(), b"v").unwrap();
        let mut future = Box::pin(tx.commit_async(Durability::Immediate));
        if i % 2 == 0 {
            let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(future);
    }
    let mut tx = db.begin().unwrap();
    tx.insert(&keyspace, b"last", b"v").unwrap();
    block_on(tx.commit_async(Durability::Immediate)).unwrap();
    assert_eq!(keyspace.len().unwrap(), 201);
    let reads: Vec<_> = (0..200u32).map(|i| keyspace.get_async(i.to_be_bytes())).collect();
    for mut read in reads {
        let _ = std::pin::Pin::new(&mut read).poll(&mut Context::from_waker(Waker::noop()));
    }
    assert_clean(&db);
}

#[test]
fn conflicts_are_told() {
    let dir = scratch();
    let db = options().open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let (mut one, mut two) = (db.begin().unwrap(), db.begin().unwrap());
    for tx in [&mut one, &mut two] {
        assert_eq!(tx.get(&keyspace, "n").unwrap(), None);
        tx.insert(&keyspace, "n", "1").unwrap();
    }
    block_on(one.commit_async(Durability::Eventual)).unwrap();
    assert!(matches!(block_on(two.commit_async(Durability::Immediate)), Err(Error::Conflict)));
    block_on(db.begin().unwrap().commit_async(Durability::Immediate)).unwrap();
}

/// Where the last handle goes with a commit under way, the commit is there all the same, and nothing hangs.
#[test]
fn the_last_handle_may_go_with_a_commit_under_way() {
    let dir = scratch();
    let path = dir.path().join("db");
    for round in 0..20u32 {
        let db = options().open(&path).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let mut tx = db.begin().unwrap();
        tx.insert(&keyspace, round.to_be_bytes(), b"v").unwrap();
        drop((keyspace, db));
        let future = tx.commit_async(Durability::Immediate);
        if round % 2 == 0 {
            block_on(future).unwrap();
        } else {
            drop(future);
        }
        // The database is released by the thread that commits.
        while ashlardb::Options::new().read_only(true).open(&path).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    assert_eq!(options().open(&path).unwrap().keyspace("k").unwrap().len().unwrap(), 20);
}

#[test]
fn without_threads_of_its_own_everything_is_done_in_the_first_poll() {
    let dir = scratch();
    let db = options().background(Background::Manual).open(dir.path().join("db")).unwrap();
    let (keyspace, expected) = filled(&db);
    let mut cx = Context::from_waker(Waker::noop());
    for (key, value) in &expected {
        let Poll::Ready(found) = pin!(keyspace.get_async(key)).poll(&mut cx) else { panic!("it waits") };
        assert_eq!(found.unwrap().unwrap(), *value);
    }
    let mut tx = db.begin().unwrap();
    tx.insert(&keyspace, "k", "v").unwrap();
    assert!(matches!(pin!(tx.commit_async(Durability::Immediate)).poll(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!(keyspace.get("k").unwrap().unwrap(), "v");
}
