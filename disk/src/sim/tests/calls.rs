//! Calls that are refused, locks, and room.

use super::*;
use crate::fs::LockMode;
use crate::words::Words;
use std::sync::atomic::AtomicU64;

fn fs() -> Arc<SimFs> {
    Sim::new(SimOptions::new(1)).fs()
}

#[test]
fn transfers_are_checked_at_the_door() {
    let fs = fs();
    let file = create(&fs, "/f");
    let buf = AlignedBuf::zeroed(BLOCK);
    let odd: Vec<AtomicU64> = (0..BLOCK / 8 + 1).map(|_| AtomicU64::new(0)).collect();
    let odd: &Words = if odd.as_ptr().addr().is_multiple_of(BLOCK) { &odd[1..] } else { &odd[..BLOCK / 8] };
    assert!(matches!(file.write(512, &[buf.words()], Durability::Later), Err(Error::Alignment { .. })));
    assert!(matches!(file.write(0, &[&buf.words()[..64]], Durability::Later), Err(Error::Alignment { .. })));
    assert!(matches!(file.write(0, &[odd], Durability::Later), Err(Error::Alignment { .. })));
    assert!(matches!(file.read(0, &[]), Err(Error::Alignment { .. })));
}

#[test]
fn a_disk_that_needs_larger_blocks_refuses_to_open() {
    let fs = Sim::new(SimOptions { alignment: 16384, ..SimOptions::new(1) }).fs();
    assert!(matches!(fs.open(Path::new("/f"), &how(Create::New)), Err(Error::Alignment { needed: 16384, block: 4096, .. })));
}

#[test]
fn opening_and_making_say_what_is_wrong() {
    let fs = fs();
    create(&fs, "/f");
    assert!(open(&fs, "/none").expect_err("not there").is_not_found());
    assert!(fs.open(Path::new("/none/f"), &how(Create::New)).expect_err("no directory").is_not_found());
    let kind = |e: Error| if let Error::Io { kind, .. } = e { kind } else { panic!("{e}") };
    assert_eq!(kind(fs.open(Path::new("/f"), &how(Create::New)).expect_err("there")), std::io::ErrorKind::AlreadyExists);
    assert_eq!(kind(fs.create_dir(Path::new("/f")).expect_err("there")), std::io::ErrorKind::AlreadyExists);
    assert_eq!(kind(open(&fs, "/").expect_err("a directory")), std::io::ErrorKind::IsADirectory);
    assert_eq!(kind(fs.list(Path::new("/f")).expect_err("a file")), std::io::ErrorKind::NotADirectory);
    assert!(fs.exists(Path::new("/f")).expect("asked") && !fs.exists(Path::new("/g")).expect("asked"));
}

#[test]
fn a_read_only_file_is_not_written() {
    let fs = fs();
    create(&fs, "/f");
    let file = fs.open(Path::new("/f"), &OpenHow { access: Access::Read, ..how(Create::Never) }).expect("opened");
    assert!(write(&file, 0, 1, Durability::Later).is_err());
    assert!(file.set_len(4096).is_err());
    assert_eq!(file.len().expect("a length"), 0);
}

#[test]
fn a_read_past_the_end_tells_where_it_is() {
    let file = create(&fs(), "/f");
    file.set_len(5000).expect("grown");
    let error = sectors(&file, 1).expect_err("short");
    assert!(matches!(error, Error::Short { offset: 4096, wanted: 4096, end: 5000, .. }), "{error}");
    assert_eq!(sectors(&file, 0).expect("zeros"), [0; 8]);
}

#[test]
fn one_writer_or_many_readers_hold_the_lock() {
    let sim = Sim::new(SimOptions::new(1));
    let fs = sim.fs();
    let path = Path::new("/LOCK");
    let writer = fs.lock(path, LockMode::Exclusive).expect("free");
    assert!(matches!(fs.lock(path, LockMode::Shared), Err(Error::Locked { .. })));
    drop(writer);
    let readers = [fs.lock(path, LockMode::Shared), fs.lock(path, LockMode::Shared)];
    assert!(readers.iter().all(Result::is_ok));
    assert!(matches!(fs.lock(path, LockMode::Exclusive), Err(Error::Locked { .. })));
    let after = sim.restart(Restart::Kill, SimOptions::new(2)).fs();
    let _writer = after.lock(path, LockMode::Exclusive).expect("a crash releases it");
    drop(readers);
    assert!(matches!(after.lock(path, LockMode::Exclusive), Err(Error::Locked { .. })), "an old guard releases nothing");
}

#[test]
fn a_full_disk_refuses_and_changes_nothing() {
    let sim = Sim::new(SimOptions::new(1).capacity(4 * BLOCK as u64));
    let fs = sim.fs();
    let file = durable_file(&fs, "/f", 2, 1);
    assert!(file.allocate(0, 5 * BLOCK as u64).expect_err("no room").is_no_space());
    assert_eq!(file.len().expect("a length"), 2 * BLOCK as u64);
    let other = durable_file(&fs, "/g", 2, 1);
    assert!(write(&other, 2, 1, Durability::Later).expect_err("no room").is_no_space());
    assert_eq!(other.len().expect("a length"), 2 * BLOCK as u64);
    write(&other, 1, 2, Durability::Later).expect("has room already");
    file.punch_hole(0, BLOCK as u64).expect("punched");
    write(&other, 2, 1, Durability::Later).expect("room of the hole");
    drop(file);
    fs.remove(Path::new("/f")).expect("removed");
    fs.sync_dir(Path::new("/")).expect("synced");
    write(&other, 3, 1, Durability::Later).expect("room of the removed file");
    assert_eq!(fs.capacity(Path::new("/")).expect("a capacity"), 4 * BLOCK as u64);
}
