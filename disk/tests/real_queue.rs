//! Queues: the same tests for `io_uring` and for threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::real::{RealFs, RealOptions, SyncMethod};
use ashlar_disk::sync::{Mutex, random_u64};
use ashlar_disk::{
    AlignedBuf, Arena, BufPart, Buffer, Completed, Create, Durability, Error, File, Fs, Queue, QueueKind, Spares, Transfer,
    TransferOp,
};
use common::{KINDS, how, new_file, pattern, real_fs, test_dir};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A queue of each kind that there is here.
fn each_queue(depth: u32, test: impl Fn(Arc<RealFs>, Arc<dyn Queue>)) {
    for kind in KINDS {
        let fs = real_fs();
        match fs.queue(kind, depth) {
            Ok(queue) => test(fs, queue),
            Err(error) => println!("skipped {kind:?}: {error}"),
        }
    }
}

fn transfer(
    file: &Arc<dyn File>,
    op: TransferOp,
    offset: u64,
    buffers: Vec<Buffer>,
    done: impl FnOnce(Completed) + Send + 'static,
) -> Transfer {
    Transfer { file: Arc::clone(file), op, offset, buffers, done: Box::new(done) }
}

/// Submits one transfer and waits for it.
fn run_one(queue: &dyn Queue, file: &Arc<dyn File>, op: TransferOp, offset: u64, buffers: Vec<Buffer>) -> Completed {
    let slot = Arc::new(Mutex::new(None));
    let put = Arc::clone(&slot);
    queue.submit(vec![transfer(file, op, offset, buffers, move |completed| *put.lock() = Some(completed))]);
    queue.wait(&|| slot.lock().is_some());
    let completed = slot.lock().take();
    completed.unwrap()
}

fn bytes(completed: &Completed, index: usize) -> Vec<u8> {
    match &completed.buffers[index] {
        Buffer::Heap(buf) => buf.to_vec(),
        Buffer::Arena(slice) => {
            let mut out = vec![0; slice.len()];
            ashlar_disk::words::copy_out(slice.words(), 0, &mut out);
            out
        }
        Buffer::Part(part) => part.to_vec(),
        Buffer::Shared(buf, range) => buf[range.clone()].to_vec(),
    }
}

const LATER: TransferOp = TransferOp::Write(Durability::Later);
const NOW: TransferOp = TransferOp::Write(Durability::Now);

#[test]
fn every_kind_of_buffer_both_ways() {
    each_queue(8, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let arena = Arena::new(1 << 20).unwrap();
        let slice = arena.slice(8192, 8192);
        ashlar_disk::words::copy_in(slice.words(), 0, &pattern(2, 8192));
        let shared = Arc::new(pattern(3, 65536));
        let written = run_one(
            &*queue,
            &file,
            LATER,
            4096,
            vec![Buffer::Heap(pattern(1, 4096)), Buffer::Arena(slice), Buffer::Shared(Arc::clone(&shared), 4096..12288)],
        );
        written.result.as_ref().unwrap();
        assert_eq!(written.buffers.len(), 3);
        let read = run_one(
            &*queue,
            &file,
            TransferOp::Read,
            4096,
            vec![Buffer::Heap(AlignedBuf::zeroed(12288)), Buffer::Arena(arena.slice(65536, 8192))],
        );
        read.result.as_ref().unwrap();
        assert_eq!(bytes(&read, 0)[..4096], pattern(1, 4096)[..]);
        assert_eq!(bytes(&read, 0)[4096..], pattern(2, 8192)[..]);
        assert_eq!(bytes(&read, 1), shared[4096..12288]);
        assert_eq!(queue.in_flight(), 0);
    });
}

#[test]
fn several_transfers_fill_one_buffer() {
    each_queue(8, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let content = pattern(5, 10 * 4096);
        run_one(&*queue, &file, LATER, 0, vec![Buffer::Heap(pattern(5, 10 * 4096))]).result.unwrap();
        let spares = Spares::new(1 << 20);
        let parts = spares.take(10 * 4096).split([3, 3, 3, 1].map(|blocks| blocks * 4096));
        let back: Arc<Mutex<Vec<(u64, BufPart)>>> = Arc::default();
        let mut offset = 0;
        let transfers = parts.into_iter().map(|part| {
            let (at, back) = (offset, back.clone());
            offset += part.len() as u64;
            transfer(&file, TransferOp::Read, at, vec![Buffer::Part(part)], move |mut completed| {
                completed.result.unwrap();
                let Some(Buffer::Part(part)) = completed.buffers.pop() else { panic!("another buffer") };
                back.lock().push((at, part));
            })
        });
        queue.submit(transfers.collect());
        queue.drain();
        let mut parts = std::mem::take(&mut *back.lock());
        for (at, part) in &parts {
            assert_eq!(part[..], content[*at as usize..*at as usize + part.len()]);
        }
        parts.reverse();
        let whole = BufPart::join(parts.into_iter().map(|(_, part)| part).collect()).unwrap();
        assert_eq!(whole[..], content[..]);
        drop(whole);
        assert_eq!(spares.idle_bytes(), 10 * 4096);
    });
}

#[test]
fn durable_writes_by_either_method() {
    each_queue(8, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        for (seed, method) in [(1, SyncMethod::Dsync), (2, SyncMethod::Fdatasync)] {
            fs.set_sync_method(method);
            run_one(&*queue, &file, NOW, 0, vec![Buffer::Heap(pattern(seed, 8192))]).result.unwrap();
            let read = run_one(&*queue, &file, TransferOp::Read, 0, vec![Buffer::Heap(AlignedBuf::zeroed(8192))]);
            assert_eq!(bytes(&read, 0), pattern(seed, 8192)[..]);
        }
    });
}

#[test]
fn long_transfers_of_many_pieces_are_completed() {
    each_queue(4, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let pieces = |make: &dyn Fn(u64) -> AlignedBuf| (0..2500).map(|i| Buffer::Heap(make(i))).collect::<Vec<_>>();
        run_one(&*queue, &file, NOW, 0, pieces(&|i| pattern(i, 4096))).result.unwrap();
        let read = run_one(&*queue, &file, TransferOp::Read, 0, pieces(&|_| AlignedBuf::zeroed(4096)));
        read.result.as_ref().unwrap();
        assert!((0..2500).all(|i| bytes(&read, i)[..] == pattern(i as u64, 4096)[..]));
    });
}

#[test]
fn a_cut_file_is_short_and_gives_the_buffers_back() {
    each_queue(4, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        file.write(0, &[pattern(1, 16384).words_mut()], Durability::Later).unwrap();
        for (cut, expected) in [(12288, 12288), (5000, 5000), (4096, 4096), (0, 0)] {
            file.set_len(cut).unwrap();
            let read = run_one(&*queue, &file, TransferOp::Read, 4096, vec![Buffer::Heap(AlignedBuf::zeroed(12288))]);
            assert!(
                matches!(read.result, Err(Error::Short { offset: 4096, wanted: 12288, end, .. }) if end == expected),
                "{read:?}"
            );
            assert_eq!(read.buffers.len(), 1);
        }
    });
}

#[test]
fn what_can_not_start_completes_with_its_error() {
    each_queue(4, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let read = |offset, buffer| run_one(&*queue, &file, TransferOp::Read, offset, vec![buffer]).result;
        assert!(matches!(read(100, Buffer::Heap(AlignedBuf::zeroed(4096))), Err(Error::Alignment { .. })));
        let shared = Arc::new(AlignedBuf::zeroed(4096));
        assert!(matches!(
            read(0, Buffer::Shared(shared, 0..4096)),
            Err(Error::Io { kind: std::io::ErrorKind::InvalidInput, .. })
        ));
        let read_only = ashlar_disk::OpenHow { access: ashlar_disk::Access::Read, ..how(Create::Never) };
        let unwritable = fs.open(&dir.path().join("f"), &read_only).unwrap();
        assert!(run_one(&*queue, &unwritable, LATER, 0, vec![Buffer::Heap(AlignedBuf::zeroed(4096))]).result.is_err());
        assert_eq!(queue.in_flight(), 0);
    });
}

#[test]
fn more_than_fits_waits_for_room() {
    each_queue(3, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let count = Arc::new(AtomicUsize::new(0));
        let all = (0..200).map(|i| {
            let count = Arc::clone(&count);
            transfer(&file, LATER, i * 4096, vec![Buffer::Heap(pattern(i, 4096))], move |completed| {
                completed.result.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            })
        });
        queue.submit(all.collect());
        assert!(queue.in_flight() <= 3);
        queue.drain();
        assert_eq!((count.load(Ordering::Relaxed), queue.in_flight(), queue.poll()), (200, 0, 0));
        assert_eq!(file.len().unwrap(), 200 * 4096);
    });
}

#[test]
fn polling_alone_runs_completions() {
    each_queue(16, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let all = (0..16).map(|i| transfer(&file, LATER, i * 4096, vec![Buffer::Heap(pattern(i, 4096))], |_| ()));
        queue.submit(all.collect());
        let mut ran = 0;
        while queue.in_flight() > 0 {
            ran += queue.poll();
        }
        assert_eq!(ran, 16);
    });
}

#[test]
fn dropping_a_queue_completes_everything() {
    each_queue(64, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let arena = Arena::new(1 << 20).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let all = (0..64).map(|i| {
            let count = Arc::clone(&count);
            let buffers = vec![Buffer::Arena(arena.slice(i * 16384, 16384))];
            transfer(&file, LATER, i as u64 * 16384, buffers, move |completed| {
                completed.result.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            })
        });
        queue.submit(all.collect());
        drop(arena);
        drop(queue);
        assert_eq!(count.load(Ordering::Relaxed), 64);
    });
}

#[test]
fn a_panic_in_a_completion_leaves_the_queue_whole() {
    each_queue(16, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let count = Arc::new(AtomicUsize::new(0));
        let all = (0..16).map(|i| {
            let count = Arc::clone(&count);
            transfer(&file, LATER, i * 4096, vec![Buffer::Heap(pattern(i, 4096))], move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                if i == 5 {
                    // A panic that prints nothing.
                    resume_unwind(Box::new("on purpose"));
                }
            })
        });
        queue.submit(all.collect());
        let mut panics = 0;
        while queue.in_flight() > 0 {
            panics += usize::from(catch_unwind(AssertUnwindSafe(|| queue.drain())).is_err());
        }
        assert_eq!((panics, count.load(Ordering::Relaxed)), (1, 16));
        run_one(&*queue, &file, LATER, 0, vec![Buffer::Heap(pattern(1, 4096))]).result.unwrap();
    });
}

/// Some kernels cancel what the helper threads of an ending thread have not begun. Nobody may notice.
#[test]
fn transfers_outlive_the_thread_that_submitted_them() {
    each_queue(256, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        fs.set_sync_method(SyncMethod::Fdatasync);
        let failures = Arc::new(Mutex::new(Vec::new()));
        for round in 0..20u64 {
            std::thread::scope(|scope| {
                for thread in 0..8u64 {
                    let (queue, file, failures) = (&queue, &file, Arc::clone(&failures));
                    scope.spawn(move || {
                        let at = (round * 8 + thread) * 65536;
                        let op = if thread % 2 == 0 { NOW } else { LATER };
                        let note = move |completed: Completed| failures.lock().extend(completed.result.err());
                        queue.submit(vec![transfer(file, op, at, vec![Buffer::Heap(pattern(at, 65536))], note)]);
                    });
                }
            });
        }
        queue.drain();
        assert!(failures.lock().is_empty(), "{:?}", failures.lock());
        for at in (0..160 * 65536).step_by(65536) {
            let mut buf = AlignedBuf::zeroed(65536);
            file.read(at, &[buf.words_mut()]).unwrap();
            assert!(buf[..] == pattern(at, 65536)[..], "{at}");
        }
    });
}

/// One who waits for a transfer that another thread's submission fails at the door is woken from the kernel.
#[test]
fn a_leader_in_the_kernel_hears_of_what_completes_elsewhere() {
    each_queue(8, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        for _ in 0..50 {
            let told = Arc::new(AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| queue.wait(&|| told.load(Ordering::Acquire)));
                std::thread::sleep(Duration::from_millis(random_u64() % 3));
                let tell = Arc::clone(&told);
                let never = transfer(&file, TransferOp::Read, 1, Vec::new(), move |_| tell.store(true, Ordering::Release));
                queue.submit(vec![never]);
            });
        }
    });
}

/// A file's blocks as the test believes them to be, one owner a block at a time.
struct Blocks {
    file: Arc<dyn File>,
    /// `None` while a transfer is on its way.
    seeds: Mutex<Vec<Option<u64>>>,
}

const BLOCK: usize = 8192;

impl Blocks {
    fn claim(&self, at: usize) -> Option<u64> {
        self.seeds.lock()[at].take()
    }

    fn put(&self, at: usize, seed: u64) {
        self.seeds.lock()[at] = Some(seed);
    }
}

fn random_transfer(blocks: &Arc<Blocks>, at: usize, seed: u64, rng: &mut StdRng, left: &Arc<AtomicUsize>) -> Transfer {
    let (blocks, left) = (Arc::clone(blocks), Arc::clone(left));
    let file = Arc::clone(&blocks.file);
    let offset = (at * BLOCK) as u64;
    let split = rng.random_bool(0.5);
    let parts = |whole: AlignedBuf| match split {
        true => vec![Buffer::Heap(AlignedBuf::from_bytes(&whole[..4096])), Buffer::Heap(AlignedBuf::from_bytes(&whole[4096..]))],
        false => vec![Buffer::Heap(whole)],
    };
    if rng.random_bool(0.5) {
        let new = rng.random::<u64>();
        let op = if rng.random_bool(0.1) { NOW } else { LATER };
        return transfer(&file, op, offset, parts(pattern(new, BLOCK)), move |completed| {
            completed.result.unwrap();
            blocks.put(at, new);
            left.fetch_sub(1, Ordering::Release);
        });
    }
    transfer(&file, TransferOp::Read, offset, parts(AlignedBuf::zeroed(BLOCK)), move |completed| {
        completed.result.as_ref().unwrap();
        let read: Vec<u8> = (0..completed.buffers.len()).flat_map(|i| bytes(&completed, i)).collect();
        assert!(read[..] == pattern(seed, BLOCK)[..], "block {at} holds what was written last");
        blocks.put(at, seed);
        left.fetch_sub(1, Ordering::Release);
    })
}

#[test]
fn random_transfers_from_many_threads() {
    each_queue(48, |fs, queue| {
        let dir = test_dir();
        let file = new_file(&fs, &dir.path().join("f"));
        let count = 256;
        for at in 0..count {
            file.write((at * BLOCK) as u64, &[pattern(0, BLOCK).words_mut()], Durability::Later).unwrap();
        }
        let blocks = Arc::new(Blocks { file, seeds: Mutex::new(vec![Some(0); count]) });
        let seed = random_u64();
        println!("seed {seed}");
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (blocks, queue) = (Arc::clone(&blocks), Arc::clone(&queue));
                scope.spawn(move || {
                    let mut rng = StdRng::seed_from_u64(seed ^ thread);
                    for _ in 0..60 {
                        some_transfers(&blocks, &*queue, &mut rng);
                    }
                });
            }
        });
        assert_eq!(queue.in_flight(), 0);
        assert!(blocks.seeds.lock().iter().all(Option::is_some));
    });
}

/// Submits some transfers on blocks that nobody else has, and waits for those, or for one of them, or polls.
fn some_transfers(blocks: &Arc<Blocks>, queue: &dyn Queue, rng: &mut StdRng) {
    let left = Arc::new(AtomicUsize::new(0));
    let mut transfers = Vec::new();
    for _ in 0..rng.random_range(1..20) {
        let at = rng.random_range(0..blocks.seeds.lock().len());
        if let Some(seed) = blocks.claim(at) {
            left.fetch_add(1, Ordering::Relaxed);
            transfers.push(random_transfer(blocks, at, seed, rng, &left));
        }
    }
    let submitted = transfers.len();
    queue.submit(transfers);
    if submitted > 0 && rng.random_bool(0.3) {
        queue.wait(&|| left.load(Ordering::Acquire) < submitted);
    }
    if rng.random_bool(0.2) {
        queue.poll();
    }
    queue.wait(&|| left.load(Ordering::Acquire) == 0);
}

#[test]
fn the_best_kind_is_one_of_both_and_can_be_forced() {
    let best = real_fs().queue(QueueKind::Best, 8).unwrap();
    println!("best: {}", best.kind());
    let forced = RealFs::new(RealOptions { queue: QueueKind::Threads, ..RealOptions::default() }).unwrap();
    assert_eq!(forced.queue(QueueKind::Best, 8).unwrap().kind(), "threads");
}

/// Writes and reads an arena of several registered steps, whole pages of it and pieces that cross from one step to the next.
fn use_an_arena(fs: &RealFs, queue: &dyn Queue) {
    let dir = test_dir();
    let file = new_file(fs, &dir.path().join("f"));
    let arena = Arena::new(40 << 20).unwrap();
    let places = [0, 65536, (2 << 20) - 4096, (16 << 20) - 4096, 16 << 20, (32 << 20) - 65536, (40 << 20) - 65536];
    for (at, seed) in places.into_iter().zip(1..) {
        let slice = arena.slice(at, 65536);
        ashlar_disk::words::copy_in(slice.words(), 0, &pattern(seed, 65536));
        run_one(queue, &file, if seed % 2 == 0 { NOW } else { LATER }, seed * 65536, vec![Buffer::Arena(slice)]).result.unwrap();
    }
    for (at, seed) in places.into_iter().zip(1..) {
        let read = run_one(queue, &file, TransferOp::Read, seed * 65536, vec![Buffer::Arena(arena.slice(at, 65536))]);
        read.result.as_ref().unwrap();
        assert!(bytes(&read, 0)[..] == pattern(seed, 65536)[..], "{at}");
    }
    // Another arena, perhaps at the same address, is not taken for the first.
    drop(arena);
    let arena = Arena::new(40 << 20).unwrap();
    let read = run_one(queue, &file, TransferOp::Read, 65536, vec![Buffer::Arena(arena.slice(65536, 65536))]);
    assert!(bytes(&read, 0)[..] == pattern(1, 65536)[..]);
}

#[test]
fn arenas_are_registered_as_they_are_used() {
    each_queue(8, |fs, queue| {
        use_an_arena(&fs, &*queue);
        println!("{}: {:?} bytes registered", queue.kind(), queue.registered_bytes());
        // Three steps of the first arena, of 2, 16 and (up to its end) 8 MiB, and one of the second, where the limit allows it.
        assert!(matches!(queue.registered_bytes(), None | Some(0x1C00000)));
    });
    let never = RealFs::new(RealOptions { register_arenas: false, ..RealOptions::default() }).unwrap();
    let queue = never.queue(QueueKind::Best, 8).unwrap();
    use_an_arena(&never, &*queue);
    assert_eq!(queue.registered_bytes(), None);
}

const UNPRIVILEGED: &str = "ASHLAR_TEST_UNPRIVILEGED";

/// Not a test by itself: the next one runs it as a user whom the locked-memory limit binds.
#[test]
fn unprivileged_process() {
    if std::env::var_os(UNPRIVILEGED).is_none() {
        return;
    }
    each_queue(8, |fs, queue| {
        use_an_arena(&fs, &*queue);
        println!("{}: {:?} bytes registered", queue.kind(), queue.registered_bytes());
        assert_eq!(queue.registered_bytes(), None);
    });
    println!("done without registering");
}

#[test]
fn a_limit_on_locked_memory_is_no_error() {
    let dir = test_dir();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), everybody).unwrap();
    let output = std::process::Command::new("prlimit")
        .args(["--memlock=1048576", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "unprivileged_process", "--nocapture"])
        .env(UNPRIVILEGED, "1")
        .env("ASHLAR_TEST_DIR", dir.path())
        .output();
    let Ok(output) = output else { return println!("skipped: no prlimit") };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if err.contains("setpriv:") || err.contains("prlimit:") || err.contains("failed to execute") {
        return println!("skipped: {err}");
    }
    assert!(output.status.success() && out.contains("done without registering"), "{out}\n{err}");
    println!("{out}");
}
