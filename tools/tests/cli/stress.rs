//! stress: processes killed and forked, the power cut. A few of each; by a number on the command line it is as many as wanted.

use crate::common::{Dir, objects};
use std::io::Write;

/// Why the power can't be cut here, if so: what the command says, printed past the harness's capture.
fn power_can_not_be_cut(dir: &Dir, words: &str) -> bool {
    let ran = dir.run(&format!("{words} --images 0"));
    if ran.status == 0 {
        return false;
    }
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    let _ = writeln!(std::io::stderr(), "skipped: {words}: {}", ran.stderr.trim_end());
    true
}

fn is_empty(dir: &Dir) -> bool {
    std::fs::read_dir(dir.path()).unwrap().next().is_none()
}

#[test]
fn kill() {
    let dir = Dir::new();
    // In each round the machine decides how far a process comes; that in none of a dozen one comes to a commit is a fault.
    let object = &dir.run("stress kill --runs 12 --seed 3 --json").objects()[0];
    assert_eq!((&object["rounds"], &object["failure"]), (&12.into(), &serde_json::Value::Null), "{object}");
    assert!(object["kills"].as_u64().unwrap() >= 12 && object["commits_found"].as_u64().unwrap() > 0, "{object}");
    assert!(is_empty(&dir), "the database is removed");
    let text = dir.run("stress kill --runs 2 --seed 8").done();
    assert!(text.starts_with("rounds          2 in ") && text.lines().count() == 3, "{text}");
}

/// A database that confirms what is not durable is caught, and kept.
#[test]
fn kill_finds_who_lies() {
    let dir = Dir::new();
    let text = dir.run("stress kill --runs 60 --lie").no();
    assert!(text.contains("FAILED") && text.contains("is gone"), "{text}");
    assert!(text.contains("repeat          ashlar stress kill --dir DIR --seed 0"), "{text}");
    assert!(dir.path().join("ashlar-stress/data").exists());
    assert!(dir.run("stress kill --runs 1").refused().contains("is there already"));
}

#[test]
fn fork() {
    let dir = Dir::new();
    let object = &dir.run("stress fork --runs 10 --json").objects()[0];
    assert_eq!((&object["forks"], &object["failure"]), (&10.into(), &serde_json::Value::Null), "{object}");
    assert!(object["commits"].as_u64().unwrap() > 0, "{object}");
    assert!(is_empty(&dir));
    let text = dir.run("stress fork --runs 4 --seed 2").done();
    assert!(text.starts_with("forks           4 in "), "{text}");
}

#[test]
fn power() {
    let dir = Dir::new();
    dir.file("others", "stays");
    for words in ["stress power --fs ext4", "stress power --fs xfs", "stress power --fs btrfs"] {
        if power_can_not_be_cut(&dir, words) {
            continue;
        }
        let object = &dir.run(&format!("{words} --images 5 --json")).objects()[0];
        assert_eq!((&object["images"], &object["failure"]), (&5.into(), &serde_json::Value::Null), "{object}");
        assert!(object["flushes"].as_u64().unwrap() > 0, "{object}");
        // On a busy machine all of so few cuts may come before there is a database. That longer runs find what they should, the next
        // test shows.
        let no_commits = object["commits_found"] == 0;
        assert!(!no_commits || object["without_database"] == 5, "{object}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    assert_eq!(std::fs::read(dir.path().join("others")).unwrap(), b"stays");
}

/// Whoever confirms what is not durable, the process at work, the engine or the disk, is caught; the image that shows it is kept and
/// shows it again.
#[test]
fn power_finds_who_lies() {
    let dir = Dir::new();
    if power_can_not_be_cut(&dir, "stress power") {
        return;
    }
    for lie in ["no-sync", "no-log-sync", "no-data-sync", "deaf-disk"] {
        let object = &objects(&dir.run(&format!("stress power --images 200 --seed 5 --lie {lie} --json")).no())[0];
        assert!(object["failure"].is_string(), "{lie}: {object}");
        // A process that confirms too early may be caught by a kill before any power cut: there is no image then.
        let Some(kept) = object["kept"].as_str() else {
            assert!(lie == "no-sync" && object["failure"].as_str().unwrap().contains("killed: "), "{lie}: {object}");
            continue;
        };
        let again = objects(&dir.run(&format!("stress power --again {kept} --json")).no());
        assert!(again[0]["failure"].is_string(), "{lie}: {}", again[0]);
        std::fs::remove_dir_all(kept).unwrap();
    }
    assert!(is_empty(&dir));
}

#[test]
fn what_can_not_be_done_is_said() {
    let dir = Dir::new();
    dir.file("file", "");
    for (words, part) in [
        ("stress kill --dir nowhere/at/all --runs 1", "nowhere"),
        ("stress fork --dir nowhere --runs 1", "nowhere"),
        ("stress power --dir nowhere --images 1", "nowhere"),
        ("stress power --dir file --images 1", "is no directory"),
        ("stress power --again nowhere", "nowhere"),
    ] {
        let text = dir.run(words).refused();
        assert!(text.contains(part), "{words}: {text}");
    }
    assert!(dir.run("stress power --fs ntfs").misused().contains("invalid value"));
    if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
        for what in ["kill", "fork"] {
            let text = dir.run(&format!("stress {what} --dir {} --runs 1", memory.path().display())).refused();
            assert!(text.contains("direct I/O does not work"), "{text}");
        }
        assert_eq!(std::fs::read_dir(memory.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
