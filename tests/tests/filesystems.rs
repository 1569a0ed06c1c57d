//! A database on the file systems that there are: on loop devices with small and large sectors, on layers, and moved between them. As
//! root only; a file system that this kernel or machine does not have is skipped, and said so.
//!
//! `tests/scripts/filesystems` runs the other tests on real files on each of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Database, Durability, Error, IoMode, Options, QueueKind};
use common::process::{self, is_root, say, start};
use common::{Expected, assert_clean, assert_holds, copy_database, message, quiet, scratch, skipped, value_of};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The parts that other processes play in the tests below.
#[test]
#[ignore = "plays a part in other tests"]
fn plays_a_part() {
    let Some((part, dir)) = process::part() else { return };
    assert_eq!(part, "busy writer");
    let db = options(QueueKind::Best).open(dir).unwrap();
    let keyspace = db.keyspace("busy").unwrap();
    for i in 0.. {
        keyspace.insert(format!("{i:08}"), value_of(i, 300)).unwrap();
        say(i);
    }
}

/// A file system of its own, taken away with the guard.
struct Mount {
    device: Option<String>,
    at: PathBuf,
    _dir: tempfile::TempDir,
}

fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(format!("{program}: {}", said(&output.stderr))) }
}

impl Mount {
    /// On a loop device with sectors of that many bytes. `None`, having said why, where that can't be had.
    fn new(test: &str, filesystem: &str, sector: u32) -> Option<Mount> {
        if !is_root() {
            skipped(test, "only root can mount a file system");
            return None;
        }
        match Mount::make(filesystem, sector) {
            Ok(mount) => Some(mount),
            Err(why) => {
                skipped(test, &format!("no {filesystem} with sectors of {sector} bytes here: {why}"));
                None
            }
        }
    }

    fn make(filesystem: &str, sector: u32) -> Result<Mount, String> {
        let dir = scratch();
        let (image, at) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        std::fs::create_dir(&at).unwrap();
        let mut mount = Mount { device: None, at, _dir: dir };
        let number = sector.to_string();
        let device = run("losetup", &["-f", "--show", "-b", &number, image.to_str().unwrap()])?;
        mount.device = Some(device.clone());
        let (block, sectors) = (format!("size={}", sector.max(4096)), format!("size={sector}"));
        match filesystem {
            "xfs" => run("mkfs.xfs", &["-q", "-b", &block, "-s", &sectors, &device])?,
            "btrfs" => run("mkfs.btrfs", &["-q", &device])?,
            _ => run("mkfs.ext4", &["-q", &device])?,
        };
        run("mount", &[OsStr::new(&device), mount.at.as_os_str()])?;
        if filesystem == "btrfs" {
            // Files without checksums; with them there is no direct I/O.
            run("chattr", &[OsStr::new("+C"), mount.at.as_os_str()])?;
        }
        Ok(mount)
    }

    /// Where a database can be made.
    fn path(&self) -> PathBuf {
        self.at.join("db")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).output();
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["-d", device]).output();
        }
    }
}

fn options(kind: QueueKind) -> Options {
    Options::new().cache_size(1 << 20).segment_size(256 << 10).log_limit(4 << 20).queue_kind(kind)
}

/// Commits, large values, evictions, checkpoints, deletes: what is there then.
fn fill(db: &Database, seed: u64) -> Expected {
    let keyspace = db.keyspace("k").unwrap();
    keyspace.clear().unwrap();
    let mut expected = Expected::new();
    for i in 0..2000u64 {
        let key = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20).to_be_bytes();
        let value = value_of(seed * 2000 + i, if i % 150 == 7 { 150_000 } else { 40 + (i % 30) as usize * 40 });
        let durability = if i % 40 == 0 { Durability::Immediate } else { Durability::Eventual };
        keyspace.insert_with(key, &value, durability).unwrap();
        expected.insert(key.to_vec(), value);
        if i % 600 == 599 {
            db.checkpoint().unwrap();
        }
    }
    let removed: Vec<_> = expected.keys().step_by(3).cloned().collect();
    for key in removed {
        keyspace.remove_with(&key, Durability::Eventual).unwrap();
        expected.remove(&key);
    }
    db.flush().unwrap();
    expected
}

/// Everything a database does, by both kinds of queues; at most so many pages of it may be in the kernel's page cache.
fn works(path: &Path, residue: u64) {
    let mut expected = Expected::new();
    for (seed, kind) in [QueueKind::Best, QueueKind::Threads].into_iter().enumerate() {
        let db = options(kind).open(path).unwrap();
        let keyspace = db.keyspace("k").unwrap();
        assert_holds(&keyspace, &expected);
        expected = fill(&db, seed as u64);
        assert_holds(&keyspace, &expected);
        assert_clean(&db);
        let cached = db.page_cache_residue().unwrap().unwrap_or(0);
        assert!(cached <= residue, "{kind:?}: {cached} pages in the page cache");
        db.compact().unwrap();
        drop(keyspace);
        if seed == 0 {
            db.close().unwrap();
        }
    }
    let reader = quiet().read_only(true).open(path).unwrap();
    assert_holds(&reader.keyspace("k").unwrap(), &expected);
    assert_clean(&reader);
}

/// A process that writes is killed: what it has confirmed is there.
fn survives_kills(path: &Path) {
    for round in 1..=3 {
        let mut writer = start("busy writer", path);
        let mut confirmed = 0u64;
        while confirmed < 30 * round {
            confirmed = writer.hears().unwrap().parse().unwrap();
        }
        message(quiet().open(path), &["locked by process"]);
        writer.kill();
        while let Some(line) = writer.hears() {
            confirmed = line.parse().unwrap();
        }
        let db = quiet().open(path).unwrap();
        let keyspace = db.keyspace("busy").unwrap();
        for i in 0..=confirmed {
            assert_eq!(keyspace.get(format!("{i:08}")).unwrap().unwrap(), value_of(i, 300));
        }
        assert_clean(&db);
    }
}

fn is_a_home(test: &str, filesystem: &str, sector: u32) {
    let Some(mount) = Mount::new(test, filesystem, sector) else { return };
    // btrfs serves some reads through the page cache: with a ring one page, with threads 3 to 15 of some thousand (6.18). That the memory
    // was not there yet is not all of it: touching it before made no difference. A read of several pages may be one of them.
    works(&mount.path(), if filesystem == "btrfs" { 64 } else { 0 });
    survives_kills(&mount.path());
}

#[test]
fn ext4() {
    is_a_home("ext4", "ext4", 512);
}

#[test]
fn ext4_on_large_sectors() {
    is_a_home("ext4_on_large_sectors", "ext4", 4096);
}

#[test]
fn xfs() {
    is_a_home("xfs", "xfs", 512);
}

#[test]
fn xfs_on_large_sectors() {
    is_a_home("xfs_on_large_sectors", "xfs", 4096);
}

#[test]
fn btrfs_without_copy_on_write() {
    is_a_home("btrfs_without_copy_on_write", "btrfs", 512);
}

/// Sectors larger than a block of 4096 bytes: a new database has larger blocks by itself, and one that has not is refused.
#[test]
fn sectors_larger_than_the_usual_block() {
    let Some(mount) = Mount::new("sectors_larger_than_the_usual_block", "xfs", 8192) else { return };
    works(&mount.path(), 0);
    survives_kills(&mount.path());
    let dir = scratch();
    let (from, to) = (dir.path().join("db"), mount.at.join("moved"));
    let db = quiet().open(&from).unwrap();
    let expected = fill(&db, 9);
    db.close().unwrap();
    copy_database(&from, &to);
    for options in [quiet(), quiet().read_only(true)] {
        let text = message(options.clone().open(&to), &["data", "8192", "4096", "IoMode::Buffered"]);
        assert!(matches!(options.open(&to), Err(Error::Alignment { needed: 8192, block: 4096, .. })), "{text}");
    }
    // What the message says helps; and refusing it has harmed nothing.
    let db = quiet().io_mode(IoMode::Buffered).open(&to).unwrap();
    assert_holds(&db.keyspace("k").unwrap(), &expected);
    db.close().unwrap();
    // The other way there is nothing in the way.
    copy_database(&mount.path(), &dir.path().join("back"));
    assert_clean(&quiet().open(dir.path().join("back")).unwrap());
    // Pages smaller than a block can't be.
    let text = message(Options::new().page_size(4096).open(mount.at.join("small pages")), &["8192"]);
    assert!(text.contains("4096") || text.contains("page"), "{text}");
}

/// Layers, as containers have them: a database in the lower one is copied up by the first who writes, and stays as it was below.
#[test]
fn overlayfs() {
    let Some(mount) = Mount::new("overlayfs", "ext4", 512) else { return };
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| mount.at.join(name));
    [&lower, &upper, &work, &merged].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    let db = quiet().open(lower.join("db")).unwrap();
    let expected = fill(&db, 5);
    db.close().unwrap();
    let layers = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let args = ["-t", "overlay", "none", "-o", &layers].map(OsStr::new);
    if let Err(why) = run("mount", &[&args[..], &[merged.as_os_str()]].concat()) {
        return skipped("overlayfs", &why);
    }
    let merged = Mount { device: None, at: merged, _dir: scratch() };
    let reader = quiet().read_only(true).open(merged.path()).unwrap();
    assert_holds(&reader.keyspace("k").unwrap(), &expected);
    drop(reader);
    let db = quiet().open(merged.path()).unwrap();
    assert_holds(&db.keyspace("k").unwrap(), &expected);
    db.keyspace("k").unwrap().insert("above", "only").unwrap();
    db.close().unwrap();
    works(&merged.at.join("new"), 0);
    survives_kills(&merged.path());
    drop(merged);
    let db = quiet().open(lower.join("db")).unwrap();
    assert_holds(&db.keyspace("k").unwrap(), &expected);
    assert_clean(&db);
}
