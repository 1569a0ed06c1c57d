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
         put-sync put-async update-rand ycsb-a ycsb-b ycsb-c ycsb-d ycsb-e ycsb-f pause small pause large blob put blob get \
         reopen recover"
    );
    for object in &found {
        let latency = |name| object["latency_ns"][name].as_u64().unwrap();
        assert!(latency("p50") <= latency("p99_9") && latency("p99_9") <= latency("max"), "{object}");
        assert!(object["ops_per_s"].as_f64().unwrap() > 0.0 && object["latency_ns"]["max"].as_u64().unwrap() > 0, "{object}");
        assert!(object["longest_pause_ns"].as_u64().unwrap() > 0, "{object}");
        let steps = object["over_time"]["operations"].as_array().unwrap();
        assert_eq!(steps.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), object["operations"].as_u64().unwrap(), "{object}");
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

#[test]
fn opens_are_measured_after_a_close_and_after_a_kill() {
    let dir = Dir::new();
    let found = dir.run("bench -w load-seq,reopen,recover -n 3000 --threads 2 --seconds 0.6 --cache-mb 8 --json").objects();
    let [_, reopen, recover] = &found[..] else { panic!("{found:?}") };
    assert!(reopen["operations"].as_u64().unwrap() >= 5 && reopen["close_ns"].as_u64().unwrap() > 0, "{reopen}");
    assert!(reopen["first_read_ns"].as_u64().unwrap() > 0, "{reopen}");
    // Under load, three times: what the process did without a checkpoint after it is replayed.
    assert_eq!(recover["operations"], 3);
    let of = |name: &str| recover[name].as_u64().unwrap();
    assert!(of("replayed") > 0 && of("commits_found") >= of("replayed") && of("entries") == of("replayed"), "{recover}");
    assert!(recover["replayed_per_s"].as_f64().unwrap() > 0.0, "{recover}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_process_has_written_is_used_again_and_checked() {
    let dir = Dir::new();
    for threads in [1, 3] {
        dir.run(&format!("bench -w recover -n 20 --threads {threads} --seconds 0.3 --keep --cache-mb 8")).done();
    }
    dir.run("verify ashlar-bench").done();
}

#[test]
fn a_cold_cache_reads_pages() {
    let dir = Dir::new();
    let pages = |words: &str| {
        let found = dir.run(&format!("bench -w load-seq,get-rand,scan-full -n 20000 --seconds 0.1 --json {words}")).objects();
        [&found[1], &found[2]].map(|object| object["engine"]["pages_read"].as_u64().unwrap())
    };
    assert_eq!(pages(""), [0, 0]);
    let cold = pages("--cold");
    // How many reads there are in that time the machine decides; a scan reads all leaves: 2.3 MB.
    assert!(cold[0] > 0 && cold[1] > 250, "{cold:?}");
}

#[test]
fn checkpoints_are_placed_in_the_time_of_a_run() {
    let dir = Dir::new();
    // More data than cache: the old images of pages wait, and when they are a tenth of the file, and 16 MiB, a checkpoint is due: after
    // some 2,500 updates. A slow disk that is shared with other tests has done 4,000 of them in two seconds.
    let found = dir.run("bench -w update-rand -n 200000 --seconds 6 --cache-mb 8 --json").objects();
    let run = &found[0];
    let spans = run["over_time"]["checkpoints"].as_array().unwrap();
    let count: u64 = spans.iter().map(|span| span["count"].as_u64().unwrap()).sum();
    assert!(count > 0 && count == run["engine"]["checkpoints"].as_u64().unwrap(), "{run}");
    let mut before = 0.0;
    for span in spans {
        let (begin, end) = (span["begin_s"].as_f64().unwrap(), span["end_s"].as_f64().unwrap());
        assert!(begin <= end && before <= end && end <= run["seconds"].as_f64().unwrap() + 1.0, "{run}");
        before = end;
    }
}

#[test]
fn the_text_fits_a_terminal_and_ends_with_a_summary() {
    let dir = Dir::new();
    let text = dir.run("bench -w load-rand,get-rand-writers,put-sync,reopen,recover -n 2000 --threads 2 --seconds 0.1").done();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let (_, summary) = text.split_once("\n\n").unwrap();
    let names: Vec<&str> = summary.lines().map(|line| line[..21].trim()).collect();
    assert_eq!(names, ["workload", "load-rand", "get-rand-writers get", "get-rand-writers put", "put-sync", "reopen", "recover"]);
    assert!(summary.lines().next().unwrap().ends_with("p99.9      max    pause"), "{summary}");
}

#[test]
fn costs_are_points_of_curves_in_a_database_of_their_own() {
    let dir = Dir::new();
    let found = dir.run("bench -w costs --sizes 3000,500,1000 --seconds 0.05 --cache-mb 16 --json").objects();
    let point =
        |o: &serde_json::Value| format!("{} {} {}", o["workload"].as_str().unwrap(), o["cost"]["of"], o["cost"]["against"]);
    let points: Vec<String> = found.iter().map(point).collect();
    let mut want: Vec<String> = [500, 1000, 3000].iter().map(|n| format!("cost-log {n} \"get\" \"bytes of log\"")).collect();
    for n in [500, 1000, 3000] {
        want.extend(["get", "commit", "open"].map(|of| format!("cost-{of} {n} \"{of}\" \"entries\"")));
    }
    assert_eq!(points, want);
    // The log is as long as the writes make it: 116 bytes each, at least.
    for (object, n) in found.iter().zip([500, 1000, 3000]) {
        assert!(object["cost"]["x"].as_u64().unwrap() > 116 * n, "{object}");
    }
    assert_eq!(found[11]["cost"]["x"], 3000);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_report_is_a_page_that_needs_nothing_else_and_results() {
    let dir = Dir::new();
    let words = "bench -w put-async,reopen,costs -n 1000 --sizes 300,900 --seconds 0.4 --cache-mb 16 --report out/first";
    let text = dir.run(words).done();
    let read = |name: &str| std::fs::read_to_string(dir.path().join("out/first").join(name)).unwrap();
    let results: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(results["command"], format!("ashlar {words}"));
    assert_eq!((&results["options"]["entries"], &results["failure"]), (&1000.into(), &serde_json::Value::Null));
    assert!(results["machine"]["processors"].as_u64().unwrap() > 0 && results["version"].is_string());
    let names: Vec<&str> = results["results"].as_array().unwrap().iter().map(|o| o["workload"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2 + 4 * 2);
    let page = read("index.html");
    for name in names {
        assert!(page.contains(&format!("<td>{name}</td>")) && text.contains(name), "{name}");
    }
    // Two of put-async, one of reopen if it was many, four curves.
    let plots = page.matches("<svg").count();
    assert!((6..=8).contains(&plots), "{plots}");
    for forbidden in ["<script", "href=", "src=", "url(", "@import"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for wanted in ["longest pause", "put-async: operations a second", "open against entries", "get against bytes of log"] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_run_that_ends_early_is_reported_as_far_as_it_came() {
    let dir = Dir::new();
    dir.run("bench -w load-seq -n 500 --keep").done();
    let ran = dir.run("bench -w get-rand,load-seq -n 500 --seconds 0.05 --report out");
    assert_eq!(ran.status, 2);
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("out/results.json")).unwrap()).unwrap();
    assert_eq!(results["results"].as_array().unwrap().len(), 1);
    assert!(results["failure"].as_str().unwrap().contains("a load needs a new database"), "{}", results["failure"]);
    assert!(std::fs::read_to_string(dir.path().join("out/index.html")).unwrap().contains("The run ended early"));
    dir.run("verify ashlar-bench").done();
}
