//! Transfers that are done when they are submitted, and complete later.

use super::lock;
use ashlar_disk::words::Words;
use ashlar_disk::{AlignedBuf, Buffer, Completed, Queue, Transfer, TransferOp};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long somebody waits in vain before that is taken for a hang.
const PATIENCE: Duration = Duration::from_secs(60);

type Done = (Completed, Box<dyn FnOnce(Completed) + Send>);

/// See the module.
#[derive(Default)]
pub(super) struct ImageQueue {
    completed: Mutex<VecDeque<Done>>,
    unfinished: AtomicUsize,
}

impl std::fmt::Debug for ImageQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageQueue({} in flight)", self.in_flight())
    }
}

/// Does a transfer whose buffers this crate can look into.
fn perform(transfer: &mut Transfer) -> ashlar_disk::Result<()> {
    let mut copies = Vec::new();
    let mut parts: Vec<&Words> = Vec::new();
    for buffer in &mut transfer.buffers {
        if let Buffer::Shared(shared, range) = buffer {
            copies.push(AlignedBuf::from_bytes(&shared[range.clone()]));
        }
    }
    let mut copies = copies.iter_mut();
    for buffer in &mut transfer.buffers {
        parts.push(match buffer {
            Buffer::Heap(buf) => buf.words_mut(),
            Buffer::Part(part) => part.words_mut(),
            Buffer::Arena(slice) => slice.words(),
            Buffer::Shared(..) => match copies.next() {
                Some(copy) => copy.words_mut(),
                None => continue,
            },
        });
    }
    match transfer.op {
        TransferOp::Read => transfer.file.read(transfer.offset, &parts),
        TransferOp::Write(durability) => transfer.file.write(transfer.offset, &parts, durability),
    }
}

impl Queue for ImageQueue {
    fn submit(&self, transfers: Vec<Transfer>) {
        for mut transfer in transfers {
            self.unfinished.fetch_add(1, SeqCst);
            let result = perform(&mut transfer);
            lock(&self.completed).push_back((Completed { result, buffers: transfer.buffers }, transfer.done));
        }
    }
    fn poll(&self) -> usize {
        let mut count = 0;
        loop {
            let next = lock(&self.completed).pop_front();
            let Some((completed, done)) = next else { return count };
            done(completed);
            self.unfinished.fetch_sub(1, SeqCst);
            count += 1;
        }
    }
    fn wait(&self, until: &dyn Fn() -> bool) {
        let mut since = Instant::now();
        while !until() {
            if self.poll() > 0 {
                since = Instant::now();
            } else {
                assert!(since.elapsed() < PATIENCE, "somebody waits for a transfer that nobody has submitted");
                std::thread::yield_now();
            }
        }
    }
    fn in_flight(&self) -> usize {
        self.unfinished.load(SeqCst)
    }
    fn kind(&self) -> &'static str {
        "images"
    }
}
