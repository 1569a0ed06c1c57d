//! What `probe` says of file systems that differ, and that it leaves nothing behind; durable names on a real disk.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::probe::probe;
use ashlar_disk::real::FoundBy;
use ashlar_disk::{Create, Durability, Error, Fs, durable};
use common::{Mount, how, new_file, pattern, real_fs, run, test_dir};

#[test]
fn a_directory_on_a_disk() {
    let dir = test_dir();
    let found = probe(dir.path()).unwrap();
    println!("{found:#?}");
    let direct = found.direct.as_ref().unwrap();
    assert!(direct.alignment.offset.is_power_of_two() && direct.alignment.offset <= 4096);
    assert_eq!(direct.seen_uncached, found.cachestat);
    assert!(found.is_usable() && found.capacity > 0 && found.sync_method().is_some());
    assert!(real_fs().list(dir.path()).unwrap().is_empty());
}

#[test]
fn a_file_is_only_read() {
    let dir = test_dir();
    let path = dir.path().join("f");
    new_file(&real_fs(), &path).write(0, &[pattern(1, 65536).words_mut()], Durability::Now).unwrap();
    // What somebody else has read into the page cache is not held against the file system.
    let before = std::fs::read(&path).unwrap();
    let found = probe(&path).unwrap();
    assert!(found.direct.is_ok(), "{:?}", found.direct);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(probe(&dir.path().join("none")).unwrap_err().is_not_found());
}

#[test]
fn file_systems_that_differ() {
    for (filesystem, sector, found_by) in [
        ("ext4", 4096, FoundBy::Statx),
        ("xfs", 512, FoundBy::Statx),
        ("btrfs", 512, FoundBy::Reads),
        ("tmpfs", 512, FoundBy::Reads),
    ] {
        let Some(mount) = Mount::new(filesystem, 320, sector) else { continue };
        let mut dir = mount.path();
        let found = probe(&dir).unwrap();
        assert_eq!(found.filesystem, filesystem);
        match filesystem {
            "tmpfs" => {
                assert!(matches!(found.direct, Err(Error::DirectIoUnsupported { .. })) && !found.is_usable());
                continue;
            }
            "btrfs" => {
                assert!(matches!(found.direct, Err(Error::DirectIoUnsupported { .. })) && !found.is_usable());
                dir = dir.join("d");
                std::fs::create_dir(&dir).unwrap();
                run("chattr", &["+C", dir.to_str().unwrap()]).unwrap();
            }
            _ => {}
        }
        let direct = probe(&dir).unwrap().direct.unwrap();
        println!("{filesystem}: {direct:?}, atomic writes {:?}", found.atomic_writes);
        assert!(direct.found_by == found_by || direct.found_by == FoundBy::Statx);
        assert!(sector as usize <= direct.alignment.offset || filesystem == "btrfs");
    }
}

#[test]
fn a_block_device_tells_its_sector() {
    let Some(mount) = Mount::new("ext4", 64, 4096) else { return };
    let found = probe(std::path::Path::new(mount.device())).unwrap();
    let direct = found.direct.unwrap();
    assert_eq!((direct.alignment.offset, direct.found_by), (4096, FoundBy::Device));
}

#[test]
fn durable_names() {
    let dir = test_dir();
    let fs = real_fs();
    let sub = dir.path().join("d");
    durable::create_dir(&*fs, &sub).unwrap();
    // What a crash has left of an earlier attempt is no obstacle.
    std::fs::write(sub.join("f.new"), b"half").unwrap();
    for seed in [1, 2] {
        let fill = |file: &dyn ashlar_disk::File| file.write(0, &[pattern(seed, 8192).words_mut()], Durability::Later);
        durable::create_file(&*fs, &sub, "f", &how(Create::New), fill).unwrap();
        assert_eq!(fs.list(&sub).unwrap(), ["f"]);
        assert_eq!(std::fs::read(sub.join("f")).unwrap(), pattern(seed, 8192)[..]);
    }
    let failing = |_: &dyn ashlar_disk::File| Err(Error::ForkedChild);
    assert!(durable::create_file(&*fs, &sub, "g", &how(Create::New), failing).is_err());
    durable::rename(&*fs, &sub.join("f"), &dir.path().join("h")).unwrap();
    assert!(fs.list(&sub).unwrap().is_empty());
    durable::remove(&*fs, &dir.path().join("h")).unwrap();
    assert_eq!(fs.list(dir.path()).unwrap(), ["d"]);
}
