//! A large value's run never takes a page id that the last durable checkpoint, or the log beyond it, has for something else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Options};

fn open(sim: &Sim) -> Database {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).page_size(4096).cache_size(4 << 20);
    options.segment_size(1 << 20).log_limit(8 << 20).grow_step(256 << 10).blob_threshold(4096).open("/db").unwrap()
}

#[test]
fn a_run_written_after_pages_went_free_is_there_after_replay() {
    let mut sim = Sim::new(SimOptions::new(1));
    let db = open(&sim);
    let keyspace = db.keyspace("a").unwrap();
    for i in 0..200 {
        keyspace.insert(format!("k{i:03}"), [b'v'; 500]).unwrap();
    }
    db.checkpoint().unwrap();
    // Leaves that the checkpoint has are joined and their ids go free; then runs want ids, some of them twice.
    for i in 0..150 {
        keyspace.remove(format!("k{i:03}")).unwrap();
    }
    for round in 0..3u8 {
        keyspace.insert("large", vec![round; 20_000]).unwrap();
        keyspace.remove("large").unwrap();
        keyspace.insert(format!("kept {round}"), vec![round; 30_000]).unwrap();
    }
    drop((keyspace, db));
    for seed in 2..4 {
        sim = sim.restart(Restart::PowerCut, SimOptions::new(seed));
        let db = open(&sim);
        let keyspace = db.keyspace("a").unwrap();
        assert_eq!(keyspace.get("large").unwrap(), None);
        for round in 0..3u8 {
            assert_eq!(keyspace.get(format!("kept {round}")).unwrap().unwrap(), vec![round; 30_000]);
        }
        db.checkpoint().unwrap();
        let report = db.verify().unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }
}
