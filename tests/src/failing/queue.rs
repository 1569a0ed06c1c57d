//! A queue whose transfers fail. One that fails goes through the queue beneath like any other, so that whoever waits is told in the same
//! way; only its answer is exchanged.

use super::{Call, Failure, Script};
use ashlar_disk::{Buffer, Completed, Op, Queue, Transfer, TransferOp};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct FailingQueue {
    pub(super) inner: Arc<dyn Queue>,
    pub(super) script: Arc<Script>,
}

fn len_of(buffers: &[Buffer]) -> u64 {
    let bytes = buffers.iter().map(|buffer| match buffer {
        Buffer::Heap(buf) => buf.len(),
        Buffer::Part(part) => part.len(),
        Buffer::Arena(slice) => slice.len(),
        Buffer::Shared(_, range) => range.len(),
    });
    bytes.sum::<usize>() as u64
}

impl FailingQueue {
    fn pass(&self, transfer: Transfer) -> Transfer {
        let (call, op) = match transfer.op {
            TransferOp::Read => (Call::QueuedRead, Op::Read),
            TransferOp::Write(_) => (Call::QueuedWrite, Op::Write),
        };
        let Some(plan) = self.script.count(call, transfer.file.path()) else { return transfer };
        let error = plan.failure.error(op, transfer.file.path(), Some((transfer.offset, len_of(&transfer.buffers))));
        let Transfer { file, op, offset, buffers, done } = transfer;
        let done = Box::new(move |completed: Completed| done(Completed { result: Err(error), buffers: completed.buffers }));
        // At an offset that no file takes nothing is moved: the queue beneath refuses it, and completes it so.
        let moves = plan.with_effect || plan.failure == Failure::Short;
        Transfer { file, op, offset: if moves { offset } else { offset + 1 }, buffers, done }
    }
}

impl Queue for FailingQueue {
    fn submit(&self, transfers: Vec<Transfer>) {
        self.inner.submit(transfers.into_iter().map(|transfer| self.pass(transfer)).collect());
    }
    fn poll(&self) -> usize {
        self.inner.poll()
    }
    fn wait(&self, until: &dyn Fn() -> bool) {
        self.inner.wait(until);
    }
    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}
