//! The rules of direct I/O, seen from outside: nothing of a database goes through the page cache, whatever is done with it; where
//! that can't be had, it is said and not worked around.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Background, Database, Durability, Error, IoMode, Options, QueueKind};
use common::process::{self, command_under, is_root, say, there_is};
use common::{Expected, assert_clean, assert_holds, message, quiet, scratch, skipped, value_of};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The parts that other processes play in the tests below.
#[test]
#[ignore = "plays a part in other tests"]
fn plays_a_part() {
    let Some((part, dir)) = process::part() else { return };
    match part.as_str() {
        "small load" => small_load(&dir),
        "opens" => match quiet().open(&dir) {
            Ok(_) => say("open"),
            Err(e) => say(e),
        },
        "reads" => match quiet().read_only(true).open(&dir) {
            Ok(db) => {
                assert_clean(&db);
                say(format!("{} keyspaces", db.keyspaces().unwrap().len()));
            }
            Err(e) => say(e),
        },
        _ => panic!("no such part: {part}"),
    }
}

/// Everything that moves bytes: commits of both kinds, large values, evictions, checkpoints, scans, verification, a reopen.
fn small_load(dir: &Path) {
    for (round, kind) in [QueueKind::Best, QueueKind::Threads].into_iter().enumerate() {
        let options = Options::new().cache_size(1 << 20).segment_size(64 << 10).log_limit(1 << 20).queue_kind(kind);
        let db = options.open(dir).unwrap();
        heavy(&db, round as u64, 1500);
        db.close().unwrap();
    }
}

/// Uses a database heavily; what is in it then.
fn heavy(db: &Database, seed: u64, count: u64) -> Expected {
    let keyspace = db.keyspace("k").unwrap();
    keyspace.clear().unwrap();
    let mut expected = Expected::new();
    for i in 0..count {
        let key = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16).to_be_bytes();
        let value = value_of(seed * count + i, if i % 100 == 7 { 120_000 } else { 50 + (i % 20) as usize * 60 });
        let durability = if i % 20 == 0 { Durability::Immediate } else { Durability::Eventual };
        keyspace.insert_with(key, &value, durability).unwrap();
        expected.insert(key.to_vec(), value);
        if i % 500 == 499 {
            db.checkpoint().unwrap();
            assert_holds(&keyspace, &expected);
        }
    }
    let removed: Vec<_> = expected.keys().step_by(5).cloned().collect();
    for key in removed {
        keyspace.remove_with(&key, Durability::Eventual).unwrap();
        expected.remove(&key);
    }
    let keys: Vec<_> = expected.keys().cloned().collect();
    assert!(keyspace.get_many(&keys).unwrap().iter().zip(expected.values()).all(|(found, v)| found.as_ref().unwrap() == v));
    assert_clean(db);
    expected
}

#[test]
fn nothing_stays_in_the_page_cache() {
    let dir = scratch();
    let path = dir.path().join("db");
    let open = |kind| Options::new().cache_size(1 << 20).segment_size(1 << 20).queue_kind(kind).open(&path).unwrap();
    for kind in [QueueKind::Uring, QueueKind::Threads] {
        let db = match kind {
            QueueKind::Uring if !uring_works(&path) => {
                skipped("nothing_stays_in_the_page_cache", "the kernel allows no io_uring");
                continue;
            }
            kind => open(kind),
        };
        let expected = heavy(&db, 3, 3000);
        match db.page_cache_residue().unwrap() {
            Some(pages) => assert_eq!(pages, 0, "{kind:?}"),
            None => skipped("nothing_stays_in_the_page_cache", "this kernel has no cachestat"),
        }
        for (file, pages) in resident(&path) {
            assert_eq!(pages, 0, "{kind:?}: {}", file.display());
        }
        drop(db);
        let db = open(kind);
        assert_eq!(db.page_cache_residue().unwrap().unwrap_or(0), 0);
        assert_holds(&db.keyspace("k").unwrap(), &expected);
        assert_eq!(db.page_cache_residue().unwrap().unwrap_or(0), 0);
    }
}

/// What another program has left in the page cache goes with the next open, dirty or clean.
#[test]
fn what_others_left_in_the_page_cache_is_dropped() {
    let dir = scratch();
    let path = dir.path().join("db");
    let db = quiet().open(&path).unwrap();
    let expected = heavy(&db, 1, 800);
    db.close().unwrap();
    let before = std::fs::read(path.join("data")).unwrap();
    if resident(&path).iter().all(|(_, pages)| *pages == 0) {
        skipped("what_others_left_in_the_page_cache_is_dropped", "nothing was cached by a plain read here");
        return;
    }
    // The same bytes, written by somebody else and not synced.
    std::fs::write(path.join("data"), &before).unwrap();
    let db = quiet().open(&path).unwrap();
    assert_eq!(db.page_cache_residue().unwrap().unwrap_or(0), 0);
    assert_holds(&db.keyspace("k").unwrap(), &expected);
    assert_clean(&db);
    // And one that reads along while the database is open gets no harm done.
    std::fs::read(path.join("data")).unwrap();
    let expected = heavy(&db, 2, 800);
    assert_holds(&db.keyspace("k").unwrap(), &expected);
}

fn uring_works(dir: &Path) -> bool {
    let db = Options::new().cache_size(1 << 20).segment_size(1 << 20).queue_kind(QueueKind::Uring).open(dir);
    match db {
        Ok(db) => {
            assert_eq!(db.stats().queue, "io_uring");
            true
        }
        Err(e) => {
            assert!(e.to_string().contains("io_uring"), "{e}");
            false
        }
    }
}

/// The database's files that hold data, with how many of their pages are in memory, by `mincore`.
fn resident(dir: &Path) -> Vec<(PathBuf, usize)> {
    files(dir).into_iter().map(|file| (file.clone(), resident_pages(&file))).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir.join("wal")).unwrap().map(|e| e.unwrap().path()).collect();
    all.push(dir.join("data"));
    all
}

fn resident_pages(path: &Path) -> usize {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len() as usize;
    if len == 0 {
        return 0;
    }
    // SAFETY: a mapping at an address that the kernel chooses; it is never read, only asked about, and unmapped below.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(start, libc::MAP_FAILED);
    let mut pages = vec![0u8; len.div_ceil(4096)];
    // SAFETY: the range is mapped, and there is a byte for each of its pages.
    let outcome = unsafe { libc::mincore(start, len, pages.as_mut_ptr()) };
    // SAFETY: mapped above, and nothing refers to it.
    unsafe { libc::munmap(start, len) };
    assert_eq!(outcome, 0);
    pages.iter().filter(|p| **p & 1 == 1).count()
}

/// This process's open descriptors on files below `dir`, with their flags.
fn descriptors(dir: &Path) -> Vec<(PathBuf, i32)> {
    let dir = dir.canonicalize().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        if !target.starts_with(&dir) {
            continue;
        }
        let info = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(entry.file_name())).unwrap_or_default();
        let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).map(str::trim);
        found.extend(flags.and_then(|f| i32::from_str_radix(f, 8).ok()).map(|flags| (target, flags)));
    }
    found
}

#[test]
fn open_files_have_the_flags_of_direct_io() {
    let dir = scratch();
    let path = dir.path().join("db");
    let db = quiet().segment_size(64 << 10).open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut seen = [0, 0, 0];
    for i in 0..200 {
        keyspace.insert(format!("{i}"), value_of(i, 3000)).unwrap();
        for (file, flags) in descriptors(&path) {
            assert!(flags & libc::O_CLOEXEC != 0, "{} is not closed on exec", file.display());
            let name = file.file_name().unwrap().to_str().unwrap();
            let kind = if name == "LOCK" { 2 } else { usize::from(name != "data") };
            assert!(kind == 2 || flags & libc::O_DIRECT != 0, "{} is open without O_DIRECT: {flags:o}", file.display());
            seen[kind] += 1;
        }
    }
    assert!(seen.iter().all(|&n| n >= 200), "data, log and lock are open all the time: {seen:?}");
    drop((keyspace, db));
    assert_eq!(descriptors(&path), [], "all are closed");
    let reader = quiet().read_only(true).open(&path).unwrap();
    reader.keyspace("k").unwrap().get("7").unwrap();
    for (file, flags) in descriptors(&path).iter().filter(|(f, _)| !f.ends_with("LOCK")) {
        assert!(flags & libc::O_DIRECT != 0 && flags & libc::O_ACCMODE == libc::O_RDONLY, "{}: {flags:o}", file.display());
    }
}

/// What the kernel was asked for, by an eye-witness.
#[test]
fn no_system_call_on_data_or_log_is_buffered() {
    let name = "no_system_call_on_data_or_log_is_buffered";
    if !there_is("strace") {
        return skipped(name, "there is no strace");
    }
    let dir = scratch();
    let (path, trace) = (dir.path().join("db"), dir.path().join("trace"));
    let trace_name = trace.to_str().unwrap();
    let args = ["-f", "-y", "-e", "trace=file,desc,mmap", "-v", "-s", "0", "-o", trace_name];
    let ran = command_under(Some(("strace", &args)), "small load", &path).output().unwrap();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    if !ran.status.success() && !text.contains("openat") {
        return skipped(name, &format!("strace can't trace here: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let path = path.canonicalize().unwrap();
    let (mut direct_opens, mut transfers) = (0, 0);
    for line in text.lines().filter(|l| l.contains(path.to_str().unwrap())) {
        let call = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
        let call_name = call.split('(').next().unwrap();
        let of_data = [".wal", "db/data", "next.tmp", "O_TMPFILE"].iter().any(|part| call.contains(part));
        match call_name {
            "openat" | "open" | "openat2" if of_data && !call.contains("ENOENT") => {
                // The trial of what direct I/O does in a directory is a nameless file.
                assert!(call.contains("O_DIRECT"), "opened without O_DIRECT: {line}");
                direct_opens += 1;
            }
            "mmap" => panic!("mapped: {line}"),
            "read" | "write" | "pread64" | "pwrite64" | "readv" | "writev" | "preadv" | "pwritev" | "preadv2" | "pwritev2"
                if of_data =>
            {
                transfers += 1;
                assert_aligned(call, line);
            }
            "sendfile" | "splice" | "copy_file_range" => panic!("{line}"),
            "fcntl" => assert!(!call.contains("F_SETFL"), "O_DIRECT is given to open: {line}"),
            _ => {}
        }
    }
    assert!(direct_opens >= 4 && transfers > 100, "{direct_opens} opens, {transfers} transfers");
}

/// Length and offset of a traced transfer are whole blocks: what a file opened with O_DIRECT takes, and nothing else would be.
fn assert_aligned(call: &str, line: &str) {
    if call.contains("unfinished") || call.contains("resumed") {
        return;
    }
    let arguments = call.rsplit_once(") = ").map_or(call, |(arguments, _)| arguments);
    let numbers: Vec<u64> = arguments.rsplit(", ").take(3).filter_map(|a| a.parse().ok()).collect();
    let lengths = arguments.split("iov_len=").skip(1).filter_map(|a| a.split('}').next()?.parse::<u64>().ok());
    let name = call.split('(').next().unwrap();
    let all: Vec<u64> = match name {
        "pread64" | "pwrite64" => numbers[..2].to_vec(),
        _ => lengths.collect(),
    };
    assert!(!all.is_empty() && all.iter().all(|n| n % 4096 == 0), "not in whole blocks: {line}");
}

#[test]
fn memory_file_systems_are_refused_unless_asked_for() {
    let shm = Path::new("/dev/shm");
    let Ok(dir) = tempfile::tempdir_in(shm) else {
        return skipped("memory_file_systems_are_refused_unless_asked_for", "/dev/shm can't be written");
    };
    let path = dir.path().join("db");
    let text = message(quiet().open(&path), &["direct I/O does not work", "tmpfs", "IoMode::Buffered"]);
    assert!(matches!(quiet().open(&path), Err(Error::DirectIoUnsupported { .. })), "{text}");
    let leftovers: Vec<_> = files_below(dir.path()).into_iter().filter(|f| !f.ends_with("LOCK")).collect();
    assert_eq!(leftovers, Vec::<PathBuf>::new(), "a refusal leaves nothing behind");
    let buffered = || quiet().io_mode(IoMode::Buffered);
    let db = buffered().open(&path).unwrap();
    let expected = heavy(&db, 5, 500);
    db.close().unwrap();
    message(quiet().open(&path), &["direct I/O does not work", "tmpfs"]);
    message(quiet().read_only(true).open(&path), &["direct I/O does not work", "tmpfs"]);
    for options in [buffered().read_only(true), buffered()] {
        let db = options.open(&path).unwrap();
        assert_holds(&db.keyspace("k").unwrap(), &expected);
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { files_below(&p) } else { vec![p] }).collect()
}

#[test]
fn both_kinds_of_queues_make_the_same_database() {
    let dir = scratch();
    let path = dir.path().join("db");
    let mut expected = Expected::new();
    for kind in [QueueKind::Threads, QueueKind::Best, QueueKind::Uring, QueueKind::Threads] {
        if kind == QueueKind::Uring && !uring_works(&path) {
            skipped("both_kinds_of_queues_make_the_same_database", "the kernel allows no io_uring");
            continue;
        }
        let db = quiet().cache_size(1 << 20).queue_kind(kind).open(&path).unwrap();
        match kind {
            QueueKind::Threads => assert_eq!(db.stats().queue, "threads"),
            QueueKind::Uring => assert_eq!(db.stats().queue, "io_uring"),
            _ => {}
        }
        if !expected.is_empty() {
            assert_holds(&db.keyspace("k").unwrap(), &expected);
        }
        expected = heavy(&db, expected.len() as u64, 700);
    }
}

/// Another mode than before, on a database that is there: nothing about the files differs.
#[test]
fn a_database_moves_between_buffered_and_direct() {
    let dir = scratch();
    let path = dir.path().join("db");
    let mut expected = Expected::new();
    for (round, mode) in [IoMode::Buffered, IoMode::Direct, IoMode::Buffered, IoMode::Direct].into_iter().enumerate() {
        let db = quiet().io_mode(mode).open(&path).unwrap();
        if !expected.is_empty() {
            assert_holds(&db.keyspace("k").unwrap(), &expected);
        }
        expected = heavy(&db, round as u64, 300);
        if mode == IoMode::Direct {
            assert_eq!(db.page_cache_residue().unwrap().unwrap_or(0), 0);
        }
        // Dropped, not closed: what was buffered is synced by the next open before it is read.
        drop(db);
    }
}

/// Cut short while it is open: an error that says so; the process lives, and what is in memory can still be read.
#[test]
fn data_cut_short_under_a_running_engine() {
    let dir = scratch();
    let path = dir.path().join("db");
    for kind in [QueueKind::Best, QueueKind::Threads] {
        let db = quiet().cache_size(128 << 10).queue_kind(kind).open(&path).unwrap();
        let expected = heavy(&db, 9, 1500);
        db.checkpoint().unwrap();
        let data = path.join("data");
        let whole = std::fs::read(&data).unwrap();
        common::damage::cut(&data, 1 << 20);
        let keyspace = db.keyspace("k").unwrap();
        let mut failed = 0;
        for (key, value) in &expected {
            match keyspace.get(key) {
                Ok(found) => assert!(*found.unwrap() == value[..], "a wrong byte"),
                Err(e) => {
                    let text = message::<()>(Err(e), &["data", "byte"]);
                    assert!(text.contains("ends at byte 1048576") && text.contains("cut short"), "{text}");
                    failed += 1;
                }
            }
        }
        assert!(failed > expected.len() / 2, "{failed} of {}", expected.len());
        let (mut right, mut errors) = (0, 0);
        for entry in keyspace.iter().take(3000) {
            match entry {
                Ok((key, value)) => {
                    assert!(*value == expected[&key][..]);
                    right += 1;
                }
                Err(_) => errors += 1,
            }
        }
        assert!(errors > 0 && right < expected.len(), "{right} right, {errors} errors");
        let report = db.verify().unwrap();
        assert!(!report.is_clean());
        // Writing goes on as long as it can, ends with an error, and never with a wrong answer.
        for i in 0..200 {
            let _ = keyspace.insert(format!("new {i}"), value_of(i, 500));
        }
        let _ = db.checkpoint();
        drop(keyspace);
        drop(db);
        std::fs::write(&data, whole).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }
}

/// The log cut short while it is open: at most an error, and reopening finds what was confirmed or says that it can't.
#[test]
fn a_log_cut_short_under_a_running_engine() {
    let dir = scratch();
    let path = dir.path().join("db");
    let db = quiet().segment_size(64 << 10).open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..40 {
        keyspace.insert(format!("{i:03}"), value_of(i, 2000)).unwrap();
    }
    for segment in common::damage::segments(&path) {
        common::damage::cut(&segment, 8192);
    }
    for i in 40..80 {
        let _ = keyspace.insert(format!("{i:03}"), value_of(i, 2000));
    }
    for i in 0..40 {
        assert_eq!(keyspace.get(format!("{i:03}")).unwrap().unwrap(), value_of(i, 2000));
    }
    drop(keyspace);
    drop(db);
    message(quiet().open(&path), &["the log is damaged", "wal", "bytes long instead of 65536"]);
}

/// A file system that may only be read: readers read, writers are told, nothing is written.
#[test]
fn a_read_only_file_system() {
    let name = "a_read_only_file_system";
    if !is_root() {
        return skipped(name, "only root can mount");
    }
    let dir = scratch();
    let path = dir.path().join("db");
    let db = quiet().open(&path).unwrap();
    let expected = heavy(&db, 4, 300);
    drop(db);
    let mount = |args: &[&str]| Command::new("mount").args(args).output().is_ok_and(|o| o.status.success());
    let at = path.to_str().unwrap();
    if !mount(&["--bind", at, at]) {
        return skipped(name, "mount --bind is not allowed here");
    }
    let mounted = Unmount(path.clone());
    if !mount(&["-o", "remount,bind,ro", at]) {
        return skipped(name, "a bind mount can't be made read-only here");
    }
    message(quiet().open(&path), &["LOCK", "Read-only file system"]);
    let reader = quiet().read_only(true).open(&path).unwrap();
    assert_holds(&reader.keyspace("k").unwrap(), &expected);
    assert_eq!(reader.page_cache_residue().unwrap().unwrap_or(0), 0);
    assert_clean(&reader);
    drop(reader);
    drop(mounted);
    let db = quiet().open(&path).unwrap();
    assert_holds(&db.keyspace("k").unwrap(), &expected);
}

/// Takes a mount away.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A directory that may only be read, for a user who is not root.
#[test]
fn a_directory_without_the_right_to_write() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let name = "a_directory_without_the_right_to_write";
    let dir = scratch();
    let path = dir.path().join("db");
    let db = quiet().open(&path).unwrap();
    let expected = heavy(&db, 4, 100);
    db.close().unwrap();
    let rights = |mode| {
        let mut all = files_below(&path);
        all.extend([path.clone(), path.join("wal")]);
        for file in all {
            let mode = if file.is_dir() { mode | 0o111 } else { mode };
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    rights(0o444);
    if is_root() {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = process::command("opens", &path);
        let output = command.uid(65534).gid(65534).output();
        let Ok(output) = output else { return skipped(name, "this program can't be run as another user") };
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.contains("player:") {
            return skipped(name, &format!("another user can't run it: {}", String::from_utf8_lossy(&output.stderr)));
        }
        assert!(text.contains("Permission denied") && text.contains("LOCK"), "{text}");
        let output = process::command("reads", &path).uid(65534).gid(65534).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("player: 1 keyspaces"), "{text}");
    } else {
        message(quiet().open(&path), &["LOCK", "Permission denied"]);
        let reader = quiet().read_only(true).open(&path).unwrap();
        assert_holds(&reader.keyspace("k").unwrap(), &expected);
    }
    rights(0o644);
    let db = quiet().background(Background::Threads).open(&path).unwrap();
    assert_holds(&db.keyspace("k").unwrap(), &expected);
}
