//! A kernel that allows no `io_uring`, as in most containers: threads do its work, and whoever insists on it is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::{Durability, Options, QueueKind};
use common::process::{self, say, start};
use common::{Expected, assert_clean, assert_holds, message, scratch, value_of};
use std::path::Path;

/// The parts that other processes play in the tests below.
#[test]
#[ignore = "plays a part in other tests"]
fn plays_a_part() {
    let Some((part, dir)) = process::part() else { return };
    let errno = match part.as_str() {
        "not permitted" => libc::EPERM,
        "no such call" => libc::ENOSYS,
        "no memory may be locked" => libc::ENOMEM,
        _ => panic!("no such part: {part}"),
    };
    forbid_io_uring(errno);
    works_with_threads(&dir);
    say("done");
}

/// From here on `io_uring_setup` fails with `errno` in this thread and those that it starts.
fn forbid_io_uring(errno: i32) {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // The number of the call stands first in `seccomp_data`.
        step(load, 0, 0, 0),
        step(equal, 0, 1, u32::try_from(libc::SYS_io_uring_setup).unwrap()),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers; afterwards this process gains no rights by starting programs.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its steps live through the call, which copies them.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
}

fn works_with_threads(dir: &Path) {
    let options = || Options::new().cache_size(1 << 20).segment_size(256 << 10).log_limit(2 << 20);
    let text = message(options().queue_kind(QueueKind::Uring).open(dir), &["io_uring"]);
    say(text);
    let mut expected = Expected::new();
    for round in 0..2 {
        let db = options().open(dir).unwrap();
        assert_eq!(db.stats().queue, "threads");
        let keyspace = db.keyspace("k").unwrap();
        assert_holds(&keyspace, &expected);
        for i in 0..1500u64 {
            let (key, value) =
                (format!("{:05}", i * 7919 % 5000).into_bytes(), value_of(round * 5000 + i, 20 + (i % 60) as usize * 50));
            let durability = if i % 50 == 0 { Durability::Immediate } else { Durability::Eventual };
            keyspace.insert_with(&key, &value, durability).unwrap();
            expected.insert(key, value);
        }
        db.checkpoint().unwrap();
        assert_holds(&keyspace, &expected);
        let keys: Vec<_> = expected.keys().cloned().collect();
        assert!(
            keyspace.get_many(&keys).unwrap().iter().zip(expected.values()).all(|(found, v)| **found.as_ref().unwrap() == v[..])
        );
        assert_clean(&db);
    }
}

fn forbidden(part: &str) -> String {
    let dir = scratch();
    let mut player = start(part, &dir.path().join("db"));
    let told = player.hears().expect("the player says what was refused");
    assert_eq!(player.hears().as_deref(), Some("done"));
    player.ends();
    told
}

#[test]
fn by_a_filter_of_system_calls() {
    let text = forbidden("not permitted");
    assert!(text.contains("not permitted") || text.contains("EPERM"), "{text}");
}

#[test]
fn by_a_kernel_without_it() {
    forbidden("no such call");
}

#[test]
fn by_a_limit_on_memory() {
    forbidden("no memory may be locked");
}
