//! Files of the kernel's: transfers, lengths, alignment, the page cache, and what direct I/O does on each file system.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::real::{RealFs, RealOptions, SyncMethod};
use ashlar_disk::{Access, AlignedBuf, BlockSize, Create, Durability, Error, File, Fs, IoMode, LockMode, OpenHow, SyncKind};
use common::{Mount, how, new_file, pattern, real_fs, run, test_dir};
use std::io::{Read, Write};
use std::sync::Arc;

fn read_back(file: &dyn File, offset: u64, len: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    file.read(offset, &[buf.words_mut()]).unwrap();
    buf
}

#[test]
fn what_is_written_is_read_in_order_of_the_buffers() {
    let dir = test_dir();
    let file = new_file(&real_fs(), &dir.path().join("f"));
    let mut parts: Vec<AlignedBuf> = [4096, 65536, 8192, 4096].iter().zip(1..).map(|(len, seed)| pattern(seed, *len)).collect();
    let words: Vec<_> = parts.iter_mut().map(|p| p.words_mut()).collect();
    file.write(12288, &words, Durability::Later).unwrap();
    assert_eq!(file.len().unwrap(), 12288 + 81920);
    let mut offset = 12288;
    for part in &parts {
        assert_eq!(read_back(&*file, offset, part.len())[..], part[..]);
        offset += part.len() as u64;
    }
    assert!(read_back(&*file, 0, 12288).iter().all(|b| *b == 0));
}

#[test]
fn more_pieces_than_one_call_takes() {
    let dir = test_dir();
    let file = new_file(&real_fs(), &dir.path().join("f"));
    let mut parts: Vec<AlignedBuf> = (0..2500).map(|seed| pattern(seed, 4096)).collect();
    let words: Vec<_> = parts.iter_mut().map(|p| p.words_mut()).collect();
    file.write(0, &words, Durability::Now).unwrap();
    let mut back: Vec<AlignedBuf> = (0..2500).map(|_| AlignedBuf::zeroed(4096)).collect();
    let words: Vec<_> = back.iter_mut().map(|p| p.words_mut()).collect();
    file.read(0, &words).unwrap();
    assert!(parts.iter().zip(&back).all(|(a, b)| a[..] == b[..]));
}

#[test]
fn durable_writes_by_either_method() {
    let dir = test_dir();
    let fs = real_fs();
    let file = new_file(&fs, &dir.path().join("f"));
    for (seed, method) in [(1, SyncMethod::Dsync), (2, SyncMethod::Fdatasync)] {
        fs.set_sync_method(method);
        let mut data = pattern(seed, 8192);
        file.write(0, &[data.words_mut()], Durability::Now).unwrap();
        assert_eq!(read_back(&*file, 0, 8192)[..], data[..]);
    }
    let costs = fs.measure_sync_methods(dir.path()).unwrap();
    println!("{costs:?}, best: {:?}", costs.best());
    assert_eq!(fs.list(dir.path()).unwrap(), ["f"], "the measurement leaves nothing behind");
}

#[test]
fn transfers_that_are_not_aligned_are_refused_at_the_door() {
    let dir = test_dir();
    let file = new_file(&real_fs(), &dir.path().join("f"));
    let mut buf = AlignedBuf::zeroed(8192);
    let words = buf.words_mut();
    for (offset, words) in [(512, words), (0, &words[..64]), (0, &words[1..513]), (0, &words[..0])] {
        let read = file.read(offset, &[words]);
        let written = file.write(offset, &[words], Durability::Later);
        assert!(matches!((read, written), (Err(Error::Alignment { .. }), Err(Error::Alignment { .. }))), "{offset}");
    }
    assert!(matches!(file.read(0, &[]), Err(Error::Alignment { .. })));
    assert!(file.write(u64::MAX - 4095, &[words], Durability::Later).is_err());
}

#[test]
fn a_file_that_was_cut_short_says_where_it_ends() {
    let dir = test_dir();
    let path = dir.path().join("f");
    let file = new_file(&real_fs(), &path);
    file.write(0, &[pattern(1, 32768).words_mut()], Durability::Later).unwrap();
    let outside = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for (cut, expected) in [(20000, 20000), (16384, 16384), (12289, 12289), (8192, 8192), (100, 100)] {
        outside.set_len(cut).unwrap();
        let mut buf = AlignedBuf::zeroed(16384);
        match file.read(8192, &[buf.words_mut()]) {
            Err(Error::Short { offset: 8192, wanted: 16384, end, path: p }) => {
                assert!(end == expected && p == path, "{end} at {cut}")
            }
            other => panic!("{other:?} after a cut at {cut}"),
        }
    }
}

#[test]
fn lengths_room_and_holes() {
    let dir = test_dir();
    let file = new_file(&real_fs(), &dir.path().join("f"));
    file.allocate(0, 1 << 20).unwrap();
    file.sync(SyncKind::All).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    assert!(read_back(&*file, 4096, 4096).iter().all(|b| *b == 0));
    file.write(0, &[pattern(1, 65536).words_mut()], Durability::Later).unwrap();
    file.allocate(0, 4096).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20, "allocating within a file changes nothing");
    file.punch_hole(4096, 8192).unwrap();
    assert!(read_back(&*file, 4096, 8192).iter().all(|b| *b == 0));
    assert_eq!(read_back(&*file, 12288, 4096)[..], pattern(1, 65536)[12288..16384]);
    file.set_len(8192).unwrap();
    file.set_len(16384).unwrap();
    assert!(read_back(&*file, 8192, 8192).iter().all(|b| *b == 0));
}

#[test]
fn opening_what_is_not_there_and_making_what_is() {
    let dir = test_dir();
    let (fs, path) = (real_fs(), dir.path().join("f"));
    assert!(fs.open(&path, &how(Create::Never)).unwrap_err().is_not_found());
    new_file(&fs, &path);
    assert!(fs.open(&path, &how(Create::New)).is_err());
    assert!(fs.exists(&path).unwrap());
    fs.rename(&path, &dir.path().join("g")).unwrap();
    fs.create_dir(&dir.path().join("d")).unwrap();
    fs.sync_dir(dir.path()).unwrap();
    assert_eq!(fs.list(dir.path()).unwrap(), ["d", "g"]);
    fs.remove(&dir.path().join("g")).unwrap();
    assert!(fs.list(&dir.path().join("g")).is_err());
    assert!(fs.capacity(dir.path()).unwrap() > 1 << 20);
    let read_only = OpenHow { access: Access::Read, ..how(Create::Never) };
    new_file(&fs, &path).write(0, &[pattern(1, 4096).words_mut()], Durability::Now).unwrap();
    let file = fs.open(&path, &read_only).unwrap();
    assert_eq!(read_back(&*file, 0, 4096)[..], pattern(1, 4096)[..]);
    assert!(file.write(0, &[pattern(1, 4096).words_mut()], Durability::Later).is_err());
}

#[test]
fn nothing_of_ours_is_in_the_page_cache_and_residue_is_dropped() {
    let dir = test_dir();
    let (fs, path) = (real_fs(), dir.path().join("f"));
    let file = new_file(&fs, &path);
    file.write(0, &[pattern(1, 65536).words_mut()], Durability::Later).unwrap();
    read_back(&*file, 0, 65536);
    let Some(pages) = file.resident_pages().unwrap() else {
        return println!("skipped: this kernel has no cachestat");
    };
    assert_eq!(pages, 0);
    let mut sink = Vec::new();
    std::fs::File::open(&path).unwrap().read_to_end(&mut sink).unwrap();
    assert!(file.resident_pages().unwrap() > Some(0), "somebody else has read it buffered");
    file.drop_cache().unwrap();
    assert_eq!(file.resident_pages().unwrap(), Some(0));
    // Dirty pages, and met at the next open.
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[7; 4096]).unwrap();
    assert!(file.resident_pages().unwrap() > Some(0));
    let again = fs.open(&path, &how(Create::Never)).unwrap();
    assert_eq!(again.resident_pages().unwrap(), Some(0));
    assert!(read_back(&*again, 65536, 4096).iter().all(|b| *b == 7));
}

#[test]
fn buffered_only_where_asked_for() {
    let dir = test_dir();
    let (fs, path) = (real_fs(), dir.path().join("f"));
    let buffered = OpenHow { mode: IoMode::Buffered, ..how(Create::New) };
    let file = fs.open(&path, &buffered).unwrap();
    file.write(0, &[pattern(1, 8192).words_mut()], Durability::Now).unwrap();
    assert_eq!(read_back(&*file, 0, 8192)[..], pattern(1, 8192)[..]);
    assert_eq!(file.alignment().offset, 1);
    assert!(file.resident_pages().unwrap().is_none_or(|n| n > 0));
    let mut buf = AlignedBuf::zeroed(16384);
    assert!(matches!(file.read(0, &[buf.words_mut()]), Err(Error::Short { end: 8192, .. })));
}

fn refusal(fs: &RealFs, dir: &std::path::Path) -> String {
    let error = fs.open(&dir.join("f"), &how(Create::New)).unwrap_err();
    assert!(matches!(error, Error::DirectIoUnsupported { .. }), "{error:?}");
    assert_eq!(fs.list(dir).unwrap().iter().filter(|n| *n != "lost+found").count(), 0, "a refusal leaves nothing behind");
    error.to_string()
}

#[test]
fn an_open_that_refuses_o_direct_says_so() {
    let read_only = OpenHow { access: Access::Read, ..how(Create::Never) };
    let error = real_fs().open(std::path::Path::new("/proc/self/status"), &read_only).unwrap_err();
    assert!(matches!(&error, Error::DirectIoUnsupported { reason, .. } if reason.contains("O_DIRECT")), "{error:?}");
}

#[test]
fn a_read_only_file_system_can_be_read() {
    let Some(mount) = Mount::new("ext4", 64, 512) else { return };
    let path = mount.path().join("f");
    new_file(&real_fs(), &path).write(0, &[pattern(1, 8192).words_mut()], Durability::Now).unwrap();
    let lock = mount.path().join("LOCK");
    drop(real_fs().lock(&lock, LockMode::Exclusive).unwrap());
    if let Err(why) = run("mount", &["-o", "remount,ro", mount.path().to_str().unwrap()]) {
        return println!("skipped: {why}");
    }
    let fs = real_fs();
    let _lock = fs.lock(&lock, LockMode::Shared).unwrap();
    assert!(fs.open(&path, &how(Create::Never)).is_err(), "not for writing");
    let file = fs.open(&path, &OpenHow { access: Access::Read, ..how(Create::Never) }).unwrap();
    assert_eq!(read_back(&*file, 0, 8192)[..], pattern(1, 8192)[..]);
    assert_eq!(file.resident_pages().unwrap().unwrap_or(0), 0);
}

#[test]
fn tmpfs_is_refused_because_it_caches() {
    let Some(mount) = Mount::new("tmpfs", 4, 512) else { return };
    let message = refusal(&real_fs(), &mount.path());
    assert!(message.contains("tmpfs") && message.contains("IoMode::Buffered"), "{message}");
    let buffered = OpenHow { mode: IoMode::Buffered, ..how(Create::New) };
    real_fs().open(&mount.path().join("f"), &buffered).unwrap();
    // A file that is there already is refused as well, also for reading.
    for access in [Access::Read, Access::ReadWrite] {
        let opened = real_fs().open(&mount.path().join("f"), &OpenHow { access, ..how(Create::Never) });
        assert!(matches!(opened, Err(Error::DirectIoUnsupported { .. })));
    }
}

#[test]
fn a_directory_in_memory_is_refused_without_being_root() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return println!("skipped: no /dev/shm") };
    if run("stat", &["-f", "-c", "%T", "/dev/shm"]).as_deref() != Ok("tmpfs") {
        return println!("skipped: /dev/shm is no tmpfs");
    }
    assert!(refusal(&real_fs(), dir.path()).contains("page cache"));
}

/// ext4 that journals data takes `O_DIRECT` and goes through the page cache: seen by asking the cache, not by name.
#[test]
fn a_file_system_that_caches_all_the_same_is_refused() {
    let Some(mount) = Mount::with_options("ext4", 64, 512, "data=journal") else { return };
    let message = refusal(&real_fs(), &mount.path());
    assert!(message.contains("left") && message.contains("page cache"), "{message}");
}

#[test]
fn btrfs_needs_a_directory_without_copy_on_write() {
    let Some(mount) = Mount::new("btrfs", 256, 512) else { return };
    let message = refusal(&real_fs(), &mount.path());
    assert!(message.contains("chattr +C") && message.contains("checksums"), "{message}");
    let dir = mount.path().join("db");
    std::fs::create_dir(&dir).unwrap();
    if let Err(why) = run("chattr", &["+C", dir.to_str().unwrap()]) {
        return println!("skipped the rest: {why}");
    }
    let fs = real_fs();
    let file = new_file(&fs, &dir.join("f"));
    file.write(0, &[pattern(1, 65536).words_mut()], Durability::Now).unwrap();
    assert_eq!(read_back(&*file, 0, 65536)[..], pattern(1, 65536)[..]);
    println!("btrfs needs {:?}", file.alignment());
    // Finding that out has left nothing in the page cache.
    let file = fs.open(&dir.join("f"), &how(Create::Never)).unwrap();
    assert_eq!((file.alignment().offset, file.resident_pages().unwrap().unwrap_or(0)), (4096, 0));
    // A file that was moved in with its checksums.
    let plain = OpenHow { mode: IoMode::Buffered, ..how(Create::New) };
    fs.open(&mount.path().join("g"), &plain).unwrap();
    fs.rename(&mount.path().join("g"), &dir.join("g")).unwrap();
    assert!(matches!(fs.open(&dir.join("g"), &how(Create::Never)), Err(Error::DirectIoUnsupported { .. })));
}

#[test]
fn a_device_with_large_sectors_says_so() {
    for filesystem in ["ext4", "xfs"] {
        let Some(mount) = Mount::new(filesystem, 320, 4096) else { continue };
        let fs = real_fs();
        let file = new_file(&fs, &mount.path().join("f"));
        assert_eq!(file.alignment().offset, 4096, "{filesystem}");
        file.write(0, &[pattern(1, 65536).words_mut()], Durability::Now).unwrap();
        assert_eq!(read_back(&*file, 4096, 4096)[..], pattern(1, 65536)[4096..8192]);
        assert_eq!(file.resident_pages().unwrap().unwrap_or(0), 0);
    }
}

#[test]
fn a_full_file_system_is_its_own_error() {
    let Some(mount) = Mount::new("ext4", 16, 512) else { return };
    let fs = real_fs();
    let path = mount.path().join("f");
    let file = new_file(&fs, &path);
    file.allocate(0, 1 << 20).unwrap();
    let error = file.allocate(1 << 20, 1 << 30).unwrap_err();
    assert!(error.is_no_space(), "{error:?}");
    assert_eq!(file.len().unwrap(), 1 << 20, "the length is as before");
    let mut data = pattern(1, 1 << 20);
    let mut offset = 0;
    let error = loop {
        match file.write(offset, &[data.words_mut()], Durability::Later) {
            Ok(()) => offset += 1 << 20,
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space() && offset > 4 << 20, "{error:?} at {offset}");
    // A full disk opens all the same, and reads.
    drop(file);
    let file = real_fs().open(&path, &how(Create::Never)).unwrap();
    assert_eq!(read_back(&*file, 0, 1 << 20)[..], data[..]);
}

#[test]
fn a_block_that_does_not_suit_the_file_names_both() {
    let Some(mount) = Mount::new("ext4", 64, 4096) else { return };
    let path = mount.path().join("f");
    let fs = real_fs();
    let large = OpenHow { block: BlockSize::new(16384).unwrap(), ..how(Create::New) };
    let file = fs.open(&path, &large).unwrap();
    assert!(matches!(file.write(4096, &[pattern(1, 16384).words_mut()], Durability::Later), Err(Error::Alignment { .. })));
    file.write(16384, &[pattern(1, 16384).words_mut()], Durability::Later).unwrap();
}

#[test]
fn a_handle_can_be_shared_by_threads() {
    let dir = test_dir();
    let file = new_file(&RealFs::new(RealOptions::default()).unwrap(), &dir.path().join("f"));
    std::thread::scope(|scope| {
        for seed in 0..8u64 {
            let file = Arc::clone(&file);
            scope.spawn(move || {
                for round in 0..20 {
                    let mut data = pattern(seed * 100 + round, 8192);
                    file.write(seed * 8192, &[data.words_mut()], Durability::Later).unwrap();
                    assert_eq!(read_back(&*file, seed * 8192, 8192)[..], data[..]);
                }
            });
        }
    });
}
