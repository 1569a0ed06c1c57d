//! bench: every workload runs, and what it leaves.

use crate::common::Dir;

#[test]
fn every_workload_runs_and_leaves_nothing() {
    let dir = Dir::new();
    let found = dir
        .run("bench -w all -n 3000 --seconds 0.05 --threads 2 --cache-mb 8 --value-size 300 --blobs 5 --blob-size 200001 --json")
        .objects();
    let names: Vec<&str> = found.iter().map(|o| o["workload"].as_str().unwrap()).collect();
    assert_eq!(
        names.join(" "),
        "load-bulk load-seq load-rand get-rand get-zipf get-many scan-full scan-100 put-sync put-async update-rand blob put blob get"
    );
    for object in &found {
        let latency = |name| object["latency_ns"][name].as_u64().unwrap();
        assert!(latency("p50") <= latency("p99_9") && latency("p99_9") <= latency("max"), "{object}");
        assert!(object["ops_per_s"].as_f64().unwrap() > 0.0 && object["latency_ns"]["max"].as_u64().unwrap() > 0, "{object}");
    }
    let entries = |name| found.iter().find(|o| o["workload"] == name).unwrap()["entries"].as_u64();
    assert_eq!((entries("load-seq"), entries("load-rand")), (Some(3000), Some(3000)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_data_set_is_kept_and_used_again() {
    let dir = Dir::new();
    let text = dir.run("bench -w load-bulk -n 2000 --keep --page-size 4096").done();
    assert!(text.starts_with("workload ") && text.contains("\nload-bulk "), "{text}");
    dir.run("bench -w get-rand,update-rand,scan-full -n 2000 --seconds 0.05").done();
    assert!(dir.path().join("ashlar-bench/data").exists());
    let refused = |words: &str, part: &str| {
        let ran = dir.run(words);
        assert!(ran.status == 2 && ran.stderr.contains(part), "{words}: {}", ran.stderr);
    };
    refused("bench -w get-rand -n 10", "holds 2000 entries with values of 100 bytes: pass --n 2000 --value-size 100");
    refused("bench -w load-rand -n 10", "a load needs a new database");
    refused("bench -w get-rand -n 2000 --page-size 8192", "has pages of 4096 bytes, not of 8192");
    refused("bench -w get-rand --dir none", "none is no directory");
    dir.run("verify ashlar-bench").done();
}
