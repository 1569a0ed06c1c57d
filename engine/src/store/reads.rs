//! Reads that nobody waits for in their own thread: pages that stand side by side come with one transfer.
//!
//! 1. Each page is checked by itself, and each `done` is told of its own page.
//! 2. Where a transfer of several pages fails, it is not known which of them can't be read: nobody is told that his can't be.
//!    Their reads count as never made, so that whoever needs one of them reads it again; and from then on each page is read by a
//!    transfer of its own, so that an error is that of its page.

use super::Store;
use super::page_header;
use crate::error::{Corruption, Error};
use ashlar_bufferpool::PageRead;
use ashlar_disk::{Buffer, Completed, Transfer, TransferOp};
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that are read with one transfer, at most.
const MERGED_MAX: usize = 256 << 10;

/// A read, and the bytes of its image.
type Sized = (PageRead<Error>, usize);

impl Store {
    /// Starts reads.
    pub(super) fn start_reads(&self, reads: Vec<PageRead<Error>>) {
        let mut sized: Vec<Sized> = Vec::with_capacity(reads.len());
        for read in reads {
            match self.image_len(read.page, read.at) {
                Ok(len) => sized.push((read, len)),
                Err(e) => (read.done)(Err(e)),
            }
        }
        let bytes_max = if self.reads_alone.load(Relaxed) { 0 } else { MERGED_MAX };
        let runs = runs(sized, self.block.bytes(), bytes_max);
        self.queue.submit(runs.into_iter().map(|run| self.transfer(run)).collect());
    }

    /// One transfer for pages that stand side by side.
    fn transfer(&self, run: Vec<Sized>) -> Transfer {
        let buffers = run.iter().map(|(read, len)| Buffer::Arena(read.frame.arena().slice(read.frame.offset(), *len))).collect();
        let offset = run.first().map_or(0, |(read, _)| self.byte_offset(read.at.address()));
        run.iter().for_each(|(_, len)| self.count_read(*len));
        let (file, mistake, alone) = (self.file.clone(), self.fault, self.reads_alone.clone());
        let done = move |completed: Completed| {
            let error = completed.result.err().map(Error::from);
            drop(completed.buffers);
            if error.is_some() && run.len() > 1 {
                alone.store(true, Relaxed);
                return;
            }
            for (PageRead { page, at, frame, done }, len) in run {
                done(error.clone().map_or_else(
                    || {
                        // SAFETY: the transfer has ended, and until `done` is called the frame is this read's alone.
                        let checked = unsafe { page_header::check_and_unpack(frame.words(), len, page, at, mistake) };
                        checked.map_err(|f| Corruption::image(file.path(), "page", page.0, at.address(), &f).into())
                    },
                    Err,
                ));
            }
        };
        Transfer { file: self.file.clone(), op: TransferOp::Read, offset, buffers, done: Box::new(done) }
    }
}

/// The reads by where they stand, those side by side together, with so many bytes at most.
fn runs(mut reads: Vec<Sized>, block: usize, bytes_max: usize) -> Vec<Vec<Sized>> {
    reads.sort_by_key(|(read, _)| read.at.address());
    let mut runs: Vec<Vec<Sized>> = Vec::with_capacity(reads.len());
    let (mut end, mut bytes) = (0, 0);
    for (read, len) in reads {
        let address = read.at.address();
        let next = address + (len / block) as u64;
        match runs.last_mut() {
            Some(run) if address == end && bytes + len <= bytes_max => {
                run.push((read, len));
                bytes += len;
            }
            _ => {
                runs.push(vec![(read, len)]);
                bytes = len;
            }
        }
        end = next;
    }
    runs
}
