//! One owner: locks within a process, between processes, and across `fork`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::fork_guard::{Owner, check, is_forked_child};
use ashlar_disk::{AlignedBuf, Arena, Buffer, Create, Durability, Error, Fs, Lock, LockMode, Transfer, TransferOp};
use common::{KINDS, how, new_file, pattern, real_fs, test_dir};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn lock(path: &Path, mode: LockMode) -> Result<Box<dyn Lock>, Error> {
    real_fs().lock(path, mode)
}

fn holder(result: Result<Box<dyn Lock>, Error>) -> Option<u32> {
    match result {
        Err(Error::Locked { pid, .. }) => pid,
        other => panic!("{other:?} where it is locked"),
    }
}

#[test]
fn two_openers_in_one_process() {
    let dir = test_dir();
    let path = dir.path().join("LOCK");
    let first = lock(&path, LockMode::Exclusive).unwrap();
    assert_eq!(holder(lock(&path, LockMode::Exclusive)), Some(std::process::id()));
    assert_eq!(holder(lock(&path, LockMode::Shared)), Some(std::process::id()), "a failed try leaves the number there");
    drop(first);
    let readers = [lock(&path, LockMode::Shared).unwrap(), lock(&path, LockMode::Shared).unwrap()];
    assert_eq!(holder(lock(&path, LockMode::Exclusive)), None, "of many readers none is the holder");
    drop(readers);
    lock(&path, LockMode::Exclusive).unwrap();
}

#[test]
fn a_number_that_a_dead_holder_left_is_not_told() {
    let dir = test_dir();
    let path = dir.path().join("LOCK");
    let _reader = lock(&path, LockMode::Shared).unwrap();
    for left in ["4194305\n", "nonsense", "-1", "0", ""] {
        std::fs::write(&path, left).unwrap();
        assert_eq!(holder(lock(&path, LockMode::Exclusive)), None, "{left:?}");
    }
}

const HELPER_PATH: &str = "ASHLAR_TEST_LOCK_PATH";

/// Not a test by itself: with the variable set it is the other process of the tests below. It takes the lock, forks a child that
/// lives on, says so, and waits to be killed.
#[test]
fn helper_process() {
    let Some(path) = std::env::var_os(HELPER_PATH).map(PathBuf::from) else { return };
    let _lock = lock(&path, LockMode::Exclusive).unwrap();
    // SAFETY: the child calls nothing but `sleep` and `_exit`.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            // It runs, so the handlers of `fork` have run in it before.
            let ready = b"\nready\n";
            libc::write(1, ready.as_ptr().cast(), ready.len());
            libc::sleep(60);
            libc::_exit(0);
        }
        child
    };
    println!("\nforked {child}");
    std::thread::sleep(Duration::from_secs(60));
}

/// Starts the other process; gives it and its child's process id.
fn start_helper(path: &Path) -> (Child, libc::pid_t) {
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_process", "--nocapture"])
        .env(HELPER_PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut child, mut ready) = (None, false);
    for line in BufReader::new(helper.stdout.take().unwrap()).lines().map_while(Result::ok) {
        ready |= line == "ready";
        child = child.or_else(|| line.strip_prefix("forked ")?.parse().ok());
        if ready && child.is_some() {
            break;
        }
    }
    (helper, child.expect("the helper says what it forked"))
}

#[test]
fn a_killed_owner_gives_the_lock_up_although_its_child_lives() {
    let dir = test_dir();
    let path = dir.path().join("LOCK");
    let (mut helper, child) = start_helper(&path);
    assert_eq!(holder(lock(&path, LockMode::Exclusive)), Some(helper.id()));
    helper.kill().unwrap();
    helper.wait().unwrap();
    // SAFETY: takes numbers only; the child was made by the helper, and signal 0 does nothing.
    assert_eq!(unsafe { libc::kill(child, 0) }, 0, "the child lives");
    let start = Instant::now();
    let taken = lock(&path, LockMode::Exclusive);
    // SAFETY: as above.
    unsafe { libc::kill(child, libc::SIGKILL) };
    assert!(taken.is_ok(), "{taken:?} after {:?}", start.elapsed());
}

/// Runs `in_child` in a child made by `fork`, and gives the bits it returned. The child is one thread of a program with many, so
/// it may do no more than the crate promises for one.
fn forked(in_child: impl FnOnce() -> u8) -> u8 {
    // SAFETY: the child runs `in_child`, which the tests below keep to checks that refuse and to drops, then `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let bits = in_child();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(bits.into()) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "the child ended by {status:#x}");
    libc::WEXITSTATUS(status) as u8
}

#[test]
fn a_child_that_drops_the_lock_does_not_release_it() {
    let dir = test_dir();
    let path = dir.path().join("LOCK");
    let mut held = Some(lock(&path, LockMode::Exclusive).unwrap());
    let bits = forked(|| {
        held = None;
        1
    });
    assert_eq!(bits, 1);
    assert!(held.is_some(), "the parent's is the parent's");
    assert_eq!(holder(lock(&path, LockMode::Exclusive)), Some(std::process::id()));
}

#[test]
fn a_child_may_close_what_has_the_number_of_the_lock() {
    let dir = test_dir();
    let held = lock(&dir.path().join("LOCK"), LockMode::Exclusive).unwrap();
    let null = c"/dev/null";
    let bits = forked(|| {
        // The lowest number is given out: that of the lock, which the child no longer has, or a lower one.
        // SAFETY: opens a file by a C string; `fcntl` asks about its number.
        let taken: Vec<i32> = (0..512).map(|_| unsafe { libc::open(null.as_ptr(), libc::O_RDONLY) }).collect();
        drop(held);
        // SAFETY: as above.
        u8::from(taken.iter().all(|fd| *fd < 0 || unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0))
    });
    assert_eq!(bits, 1, "dropping the lock in the child closed a file of somebody else's");
}

fn is_refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::ForkedChild))
}

#[test]
fn everything_refuses_in_a_child_and_nothing_is_touched() {
    for kind in KINDS {
        let dir = test_dir();
        let fs = real_fs();
        let Ok(queue) = fs.queue(kind, 8) else { continue };
        let owner = Owner::this_process().unwrap();
        let file = new_file(&fs, &dir.path().join("f"));
        file.write(0, &[pattern(1, 65536).words_mut()], Durability::Now).unwrap();
        let arena = Arena::new(4 << 20).unwrap();
        arena.words(0, 8)[0].store(1, std::sync::atomic::Ordering::Relaxed);
        // In flight while the process forks.
        let reads = (0..4).map(|i| Transfer {
            file: Arc::clone(&file),
            op: TransferOp::Read,
            offset: i * 16384,
            buffers: vec![Buffer::Arena(arena.slice(i as usize * 16384, 16384))],
            done: Box::new(|completed| completed.result.unwrap()),
        });
        queue.submit(reads.collect());
        let mut buf = AlignedBuf::zeroed(4096);
        let mut inherited = Some((Arc::clone(&queue), arena.clone()));
        let bits = forked(|| {
            let words = buf.words_mut();
            let refused = [
                owner.is_forked_child(),
                is_refused(owner.check()),
                is_refused(file.read(0, &[words])),
                is_refused(file.write(0, &[words], Durability::Now)),
                is_refused(file.sync(ashlar_disk::SyncKind::All)) && is_refused(file.len()),
                is_refused(fs.open(dir.path(), &how(Create::Never))),
                is_refused(fs.lock(dir.path(), LockMode::Shared)),
            ];
            // A wait would be for ever: it returns. The last handles go, and touch nothing.
            queue.wait(&|| false);
            drop((queue, inherited.take(), arena));
            refused.iter().enumerate().map(|(i, refused)| u8::from(*refused) << i).sum::<u8>()
        });
        assert_eq!(bits, 0x7f, "{kind:?}");
        let (queue, arena) = inherited.unwrap();
        queue.drain();
        let mut out = vec![0; 65536];
        ashlar_disk::words::copy_out(arena.words(0, 65536), 0, &mut out);
        assert_eq!(out[..], pattern(1, 65536)[..], "the parent's transfers went on");
    }
}

#[test]
fn a_child_may_open_files_of_its_own() {
    let old = Owner::this_process().unwrap();
    let bits = forked(|| {
        let before = is_forked_child() && is_refused(check());
        let new = Owner::this_process();
        let after = !is_forked_child() && check().is_ok();
        let bits = [before, new.is_ok_and(|new| !new.is_forked_child()), after, old.is_forked_child()];
        bits.iter().enumerate().map(|(i, bit)| u8::from(*bit) << i).sum()
    });
    assert_eq!(bits, 0xf);
    assert!(!old.is_forked_child() && !is_forked_child());
}

/// Locks come and go while other threads fork: no child keeps one.
#[test]
fn forking_beside_taking_and_giving_locks() {
    let dir = test_dir();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let path = dir.path().join(format!("LOCK{thread}"));
            scope.spawn(move || {
                for _ in 0..200 {
                    drop(lock(&path, LockMode::Exclusive).unwrap());
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..50 {
                assert_eq!(forked(|| 1), 1);
            }
        });
    });
}

/// btrfs serves a read through the page cache where the memory it goes to is shared with a child: no reason to refuse it.
#[test]
fn btrfs_is_not_refused_beside_forks() {
    let Some(mount) = common::Mount::new("btrfs", 256, 512) else { return };
    let dir = mount.path().join("db");
    std::fs::create_dir(&dir).unwrap();
    if let Err(why) = common::run("chattr", &["+C", dir.to_str().unwrap()]) {
        return println!("skipped: {why}");
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(forked(|| 0), 0);
            }
        });
        let opened: Vec<_> = (0..300)
            .map(|_| {
                let opened = real_fs().open(&dir.join("f"), &how(Create::New)).map(drop);
                std::fs::remove_file(dir.join("f")).and(Ok(())).or_else(|e| opened.is_err().then_some(()).ok_or(e)).unwrap();
                opened
            })
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let refused: Vec<_> = opened.into_iter().filter_map(Result::err).collect();
        assert!(refused.is_empty(), "{} of 300 were refused: {}", refused.len(), refused[0]);
    });
}
