//! Who sees what when: small stories, each under many schedules of the simulated machine.

use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_disk::sync::spawn;
use ashlar_tests::geometry::Geometry;
use ashlardb::{Background, Database, Durability, Error, TransactionOptions};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Runs a story with a database, under so many schedules.
fn under_schedules(count: u64, story: impl Fn(&Database) + Send + Copy + 'static) {
    for seed in 0..count {
        let geometry = Geometry::draw(&mut ChaCha8Rng::seed_from_u64(seed));
        let sim = Sim::new(SimOptions::new(seed));
        let fs = sim.fs();
        let run = move || {
            let db = geometry.options(Some(fs), Background::Manual).open("/db").expect("a database");
            story(&db);
        };
        sim.run(run).expect("the story");
    }
}

/// Does something in a thread of its own meanwhile.
fn beside(db: &Database, other: impl FnOnce(&Database) + Send + 'static, here: impl FnOnce(&Database)) {
    let clone = db.clone();
    let thread = spawn("other", move || other(&clone)).expect("a thread");
    here(db);
    thread.join().expect("the other thread");
}

const EVENTUAL: TransactionOptions =
    TransactionOptions { isolation: ashlardb::Isolation::Serializable, durability: Some(Durability::Eventual) };

#[test]
fn what_was_removed_is_gone_at_once_also_from_a_keyspace_that_is_being_cleared() {
    under_schedules(300, |db| {
        let keyspace = db.keyspace("k").expect("a keyspace");
        keyspace.insert("key", "value").expect("insert");
        let cleared = keyspace.clone();
        let clear = move |_: &Database| cleared.clear().expect("clear");
        beside(db, clear, |_| {
            keyspace.remove_with("key", Durability::Eventual).expect("remove");
            assert!(keyspace.get("key").expect("get").is_none());
            keyspace.insert_with("key", "again", Durability::Eventual).expect("insert");
            let found = keyspace.get("key").expect("get");
            // The clear may have come after the insert.
            assert!(found.is_none_or(|value| value == "again"));
        });
    });
}

#[test]
fn a_keyspace_dropped_by_oneself_is_gone_at_once() {
    under_schedules(200, |db| {
        let (keyspace, other) = (db.keyspace("k").expect("a keyspace"), db.keyspace("other").expect("a keyspace"));
        let insert = move |_: &Database| other.insert("key", "value").expect("insert");
        beside(db, insert, |db| {
            db.transact_with(EVENTUAL, |tx| tx.drop_keyspace("k").map(drop)).expect("drop");
            assert!(matches!(keyspace.get("key"), Err(Error::NoSuchKeyspace { .. })));
        });
    });
}

#[test]
fn a_keyspace_that_a_transaction_found_dropped_stays_dropped_for_all() {
    under_schedules(300, |db| {
        let keyspace = db.keyspace("k").expect("a keyspace");
        let drop_it = |db: &Database| assert!(db.drop_keyspace("k").expect("drop"));
        beside(db, drop_it, |db| {
            let mut found_gone = false;
            while !found_gone {
                // It reads what is applied, durable or not, and its end waits for what it has read.
                let tx = db.begin();
                found_gone = matches!(tx.expect("begin").get(&keyspace, "key"), Err(Error::NoSuchKeyspace { .. }));
                // Everybody else sees only what no crash can take back.
                let gone_for_all = matches!(keyspace.get("key"), Err(Error::NoSuchKeyspace { .. }));
                assert!(gone_for_all || !found_gone, "a transaction told of a drop that may yet be lost");
            }
        });
    });
}

#[test]
fn a_bulk_load_beside_commits_ends() {
    under_schedules(300, |db| {
        let (keyspace, other) = (db.keyspace("k").expect("a keyspace"), db.keyspace("other").expect("a keyspace"));
        let insert = move |_: &Database| {
            for key in 0..4u8 {
                other.insert([key], "value").expect("insert");
            }
        };
        beside(db, insert, |_| {
            let entries = (0..9u8).map(|key| Ok::<_, Error>(([key], "value")));
            assert_eq!(keyspace.bulk_load(entries).expect("bulk_load"), 9);
        });
    });
}
