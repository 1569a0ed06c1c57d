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
        "load-bulk load-seq load-rand get-rand get-zipf get-rand-writers get get-rand-writers put get-many scan-full scan-100 \
         put-sync put-async update-rand ycsb-a ycsb-b ycsb-c ycsb-d ycsb-e ycsb-f pause small pause large blob put blob get"
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
fn inserts_of_one_workload_are_gone_before_the_next() {
    let dir = Dir::new();
    let mixes = "ycsb-d,ycsb-e,scan-full,ycsb-f,update-rand,get-rand-writers";
    let found = dir.run(&format!("bench -w {mixes} -n 500 --seconds 0.1 --threads 3 --keep --json")).objects();
    let named = |name| found.iter().find(|o| o["workload"] == name).unwrap();
    for name in ["ycsb-d", "ycsb-e"] {
        assert!(named(name)["engine"]["commits"].as_u64().unwrap() > 0, "{}", named(name));
    }
    for name in ["ycsb-f", "update-rand"] {
        assert!(named(name)["retries"].is_u64(), "{}", named(name));
    }
    assert_eq!([&named("get-rand-writers get")["threads"], &named("get-rand-writers put")["threads"]], [3, 1]);
    // Nor does one find what another run has left.
    dir.run("bench -w ycsb-d -n 500 --seconds 0.05").done();
    dir.run("bench -w scan-full -n 500 --seconds 0.05").done();
    dir.run("verify ashlar-bench").done();
}

#[test]
fn threads_share_flushes_and_are_seen_to() {
    let dir = Dir::new();
    let engine = |words: &str| dir.run(words).objects().remove(0)["engine"].clone();
    let of = |engine: &serde_json::Value, name: &str| engine[name].as_f64().unwrap();
    let alone = engine("bench -w put-sync -n 1000 --seconds 0.2 --json");
    assert!(of(&alone, "commits") > 0.0 && of(&alone, "commits_per_flush") < 1.1, "{alone}");
    let many = engine("bench -w put-sync -n 1000 --seconds 0.2 --threads 16 --json");
    assert!(of(&many, "commits_per_flush") > 1.0, "{many}");
    assert!(of(&many, "log_flushes") < of(&many, "commits"), "{many}");
    let text = dir.run("bench -w put-sync -n 1000 --seconds 0.05 --threads 4").done();
    assert!(text.contains(" commits in ") && text.contains(" a flush, "), "{text}");
}

#[test]
fn pauses_are_measured_also_behind_transactions_beyond_the_usual_limits() {
    let dir = Dir::new();
    let found = dir.run("bench -w pause -n 3000 --pause-writes 100 --seconds 0.2 --json").objects();
    let [small, large] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&small["workload"], &large["workload"]), (&"pause small".into(), &"pause large".into()));
    assert!(small["operations"].as_u64().unwrap() > 0);
    assert_eq!(large["entries"].as_u64().unwrap(), 100 * large["operations"].as_u64().unwrap());
    // 20 MB in one transaction: more than the log of a small database takes unless told otherwise.
    let found = dir.run("bench -w pause -n 2000 --value-size 10000 --pause-writes 5000 --seconds 0.01 --json").objects();
    assert_eq!((&found[1]["operations"], &found[1]["entries"]), (&1.into(), &2000.into()));
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
