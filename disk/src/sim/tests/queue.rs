//! Queues without a scheduler.

use super::*;
use crate::fs::{Buffer, Queue, QueueKind, Transfer, TransferOp};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;

pub(super) fn queue(fs: &SimFs, depth: u32) -> Arc<dyn Queue> {
    fs.queue(QueueKind::Best, depth).expect("a queue")
}

pub(super) fn write_transfer(
    file: &Arc<dyn File>,
    block: u64,
    byte: u8,
    done: impl FnOnce(Result<()>) + Send + 'static,
) -> Transfer {
    Transfer {
        file: file.clone(),
        op: TransferOp::Write(Durability::Later),
        offset: block * BLOCK as u64,
        buffers: vec![Buffer::Heap(AlignedBuf::from_bytes(&[byte; BLOCK]))],
        done: Box::new(move |completed| done(completed.result)),
    }
}

#[test]
fn transfers_complete_once_each_in_any_order() {
    let orders: BTreeSet<Vec<u64>> = (0..50)
        .map(|seed| {
            let fs = Sim::new(SimOptions::new(seed)).fs();
            let (file, queue) = (create(&fs, "/f"), queue(&fs, 8));
            let (sender, receiver) = mpsc::channel();
            let transfers = (0..4).map(|n| {
                let sender = sender.clone();
                write_transfer(&file, n, 1, move |result| sender.send((n, result.is_ok())).expect("received"))
            });
            queue.submit(transfers.collect());
            assert_eq!(queue.in_flight(), 4);
            queue.drain();
            let order: Vec<_> = receiver.try_iter().collect();
            assert!(order.len() == 4 && order.iter().all(|&(_, ok)| ok));
            order.into_iter().map(|(n, _)| n).collect()
        })
        .collect();
    assert!(orders.len() > 10, "{orders:?}");
}

#[test]
fn no_more_than_the_depth_are_in_flight() {
    let fs = Sim::new(SimOptions::new(1)).fs();
    let (file, queue) = (create(&fs, "/f"), queue(&fs, 3));
    for n in 0..20 {
        queue.submit(vec![write_transfer(&file, n, 1, |result| result.expect("written"))]);
        assert!(queue.in_flight() <= 3);
    }
    while queue.in_flight() > 0 {
        queue.poll();
    }
    assert_eq!(file.len().expect("a length"), 20 * BLOCK as u64);
}

#[test]
fn what_can_not_be_started_completes_with_its_error() {
    let fs = Sim::new(SimOptions::new(1)).fs();
    let (file, queue) = (durable_file(&fs, "/f", 2, 1), queue(&fs, 4));
    let elsewhere = durable_file(&Sim::new(SimOptions::new(1)).fs(), "/f", 2, 1);
    let errors = Arc::new(AtomicUsize::new(0));
    let counted = |transfer: Transfer| {
        let errors = errors.clone();
        let done = Box::new(move |c: crate::fs::Completed| {
            assert_eq!(c.buffers.len(), 1, "the buffers come back");
            errors.fetch_add(usize::from(c.result.is_err()), Relaxed);
        });
        Transfer { done, ..transfer }
    };
    let shared = Buffer::Shared(Arc::new(AlignedBuf::zeroed(BLOCK)), 0..BLOCK);
    queue.submit(vec![
        counted(Transfer { offset: 100, ..write_transfer(&file, 0, 1, |_| ()) }),
        counted(Transfer { op: TransferOp::Read, buffers: vec![shared], ..write_transfer(&file, 0, 1, |_| ()) }),
        counted(Transfer { op: TransferOp::Read, ..write_transfer(&file, 2, 1, |_| ()) }),
        counted(write_transfer(&elsewhere, 0, 1, |_| ())),
    ]);
    queue.drain();
    assert_eq!(errors.load(Relaxed), 4);
}

#[test]
fn a_crash_completes_what_is_in_flight() {
    let sim = Sim::new(SimOptions::new(1));
    let (file, queue) = (create(&sim.fs(), "/f"), queue(&sim.fs(), 8));
    let crashed = Arc::new(AtomicUsize::new(0));
    let transfer = |n| {
        let crashed = crashed.clone();
        write_transfer(&file, n, 1, move |result| {
            crashed.fetch_add(usize::from(matches!(result, Err(Error::Crashed { .. }))), Relaxed);
        })
    };
    queue.submit(vec![transfer(0), transfer(1)]);
    sim.crash();
    queue.submit(vec![transfer(2)]);
    queue.drain();
    assert_eq!(crashed.load(Relaxed), 3);
}

#[test]
fn a_completion_that_panics_is_counted_and_the_others_run() {
    let fs = Sim::new(SimOptions::new(1)).fs();
    let (file, queue) = (create(&fs, "/f"), queue(&fs, 8));
    let done = Arc::new(AtomicUsize::new(0));
    let transfers = (0..3).map(|n| {
        let done = done.clone();
        write_transfer(&file, n, 1, move |_| {
            done.fetch_add(1, Relaxed);
            std::panic::resume_unwind(Box::new("broken"));
        })
    });
    queue.submit(transfers.collect());
    for left in (0..3).rev() {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.drain())).expect_err("it panics");
        assert_eq!(queue.in_flight(), left);
    }
    assert_eq!(done.load(Relaxed), 3);
}

#[test]
fn dropping_a_queue_completes_what_is_in_flight() {
    let fs = Sim::new(SimOptions::new(1)).fs();
    let file = create(&fs, "/f");
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    queue(&fs, 8).submit(vec![write_transfer(&file, 0, 1, move |_| {
        counted.fetch_add(1, Relaxed);
    })]);
    assert_eq!(done.load(Relaxed), 1);
}

#[test]
fn memory_changed_in_flight_shows_and_a_read_beside_a_write_is_a_mixture() {
    let mut mixtures = BTreeSet::new();
    for seed in 0..50 {
        let fs = Sim::new(SimOptions::new(seed)).fs();
        let (file, queue) = (durable_file(&fs, "/f", 1, 1), queue(&fs, 8));
        let arena = crate::Arena::new(BLOCK).expect("memory");
        let slice = arena.slice(0, BLOCK);
        crate::words::copy_in(slice.words(), 0, &[2; BLOCK]);
        let transfer = write_transfer(&file, 0, 0, |result| result.expect("written"));
        queue.submit(vec![Transfer { buffers: vec![Buffer::Arena(arena.slice(0, BLOCK))], ..transfer }]);
        mixtures.insert(sectors(&file, 0).expect("read").into_iter().collect::<BTreeSet<_>>());
        crate::words::copy_in(slice.words(), 0, &[3; BLOCK]);
        queue.drain();
        assert_eq!(sectors(&file, 0).expect("read"), [3; 8]);
    }
    assert!(mixtures.contains(&BTreeSet::from([1, 2])), "{mixtures:?}");
}

#[test]
fn plain_threads_share_a_queue() {
    let fs = Sim::new(SimOptions::new(1)).fs();
    let (file, queue) = (create(&fs, "/f"), queue(&fs, 4));
    std::thread::scope(|scope| {
        for t in 0..4 {
            let (file, queue) = (&file, &queue);
            scope.spawn(move || {
                for n in 0..200 {
                    let done = Arc::new(AtomicUsize::new(0));
                    let counted = done.clone();
                    queue.submit(vec![write_transfer(file, t * 200 + n, t as u8 + 1, move |result| {
                        result.expect("written");
                        counted.store(1, Relaxed);
                    })]);
                    queue.wait(&|| done.load(Relaxed) == 1);
                }
            });
        }
    });
    assert_eq!(queue.in_flight(), 0);
    assert!((0..800).all(|n| sectors(&file, n).expect("read") == [(n / 200) as u8 + 1; 8]));
}
