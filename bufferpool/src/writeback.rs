//! Write-back: packing dirty frames into staging buffers and writing them in batches.
//!
//! 1. Packing copies a page's image under its shared latch (a detached frame's under none: nobody changes it). From then on the
//!    frame may change, and the image can't. At most one image of a frame is in flight.
//! 2. A batch is at most [`STAGING_BYTES`] long and sorted by [`PageStore::order`], so that it leaves as one write.
//! 3. What became of each image is told to the store with the frame's body locked: in the order in which it happened to the
//!    page, and before the frame can change again.
//! 4. A failed batch leaves its frames to be written again, and its error where all who depend on writing find it; nothing more
//!    is written in the background until the failed epoch is merged ([`crate::checkpoint`]).

use crate::core::{Core, InFlight};
use crate::held;
use crate::ledger::Listed;
use crate::page_id::PageId;
use crate::page_table::Entry;
use crate::slot::FrameId;
use crate::states::State;
use crate::store::{ImageDesc, PageStore, WriteBatch, WriteOutcome};
use ashlar_disk::AlignedBuf;
use ashlar_disk::sync::Mutex;
use std::sync::Arc;

/// The most bytes of one write-back write.
pub(crate) const STAGING_BYTES: usize = 256 << 10;

/// Buffers for packed images, kept for the next batch.
pub(crate) struct Staging {
    bytes: usize,
    idle: Mutex<Vec<AlignedBuf>>,
}

/// Buffers beyond so many are given back to the allocator.
const IDLE_MAX: usize = 8;

impl Staging {
    /// Buffers of `bytes` each, none yet.
    pub(crate) fn new(bytes: usize) -> Staging {
        Staging { bytes, idle: Mutex::new(Vec::new()) }
    }

    /// The size of a buffer.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&self) -> AlignedBuf {
        let idle = self.idle.lock().pop();
        idle.unwrap_or_else(|| AlignedBuf::zeroed(self.bytes))
    }

    fn put(&self, buf: AlignedBuf) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX && buf.len() == self.bytes {
            idle.push(buf);
        }
    }
}

/// Images that are being collected for one write.
pub(crate) struct Batch {
    staging: AlignedBuf,
    used: usize,
    images: Vec<ImageDesc>,
    frames: Vec<FrameId>,
}

impl Batch {
    /// How many bytes are packed.
    pub(crate) fn bytes(&self) -> usize {
        self.used
    }

    fn has_room(&self, page_size: usize) -> bool {
        self.staging.len() - self.used >= page_size
    }
}

impl<S: PageStore> Core<S> {
    /// Writes the first batch of what the queues hold. Gives the frames that are on their way.
    pub(crate) fn write_oldest(self: &Arc<Self>) -> Vec<FrameId> {
        loop {
            let listed = self.ledger.take_oldest(self.batch_pages());
            if listed.is_empty() {
                return Vec::new();
            }
            let frames = self.unlist(listed);
            let written = self.write_frames(&frames);
            if !written.is_empty() {
                return written;
            }
        }
    }

    /// Notes of frames that were taken off a queue that they are in it no more.
    pub(crate) fn unlist(&self, listed: Vec<Listed>) -> Vec<FrameId> {
        let unlist = |Listed { frame, queue }: Listed| {
            let mut body = self.frames.get(frame).lock();
            if queue.is_some() && body.listed == queue {
                body.listed = None;
            }
            frame
        };
        listed.into_iter().map(unlist).collect()
    }

    /// Writes those of `frames` that can be written now. Gives those that are on their way.
    pub(crate) fn write_frames(self: &Arc<Self>, frames: &[FrameId]) -> Vec<FrameId> {
        let mut written = Vec::new();
        let mut sorted = self.sorted(frames).into_iter().peekable();
        while sorted.peek().is_some() {
            let batch = self.pack_batch(&mut sorted);
            written.extend_from_slice(&batch.frames);
            self.submit(batch, || {});
        }
        written
    }

    /// The frames in the order in which they should stand on disk.
    pub(crate) fn sorted(&self, frames: &[FrameId]) -> Vec<FrameId> {
        let mut keyed: Vec<_> = frames.iter().map(|&frame| (self.store.order(self.frames.view(frame)), frame)).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, frame)| frame).collect()
    }

    /// Packs frames until the batch is full or there are no more.
    pub(crate) fn pack_batch(&self, frames: &mut impl Iterator<Item = FrameId>) -> Batch {
        held::assert_no_latch("write-back");
        let mut batch = Batch { staging: self.staging.take(), used: 0, images: Vec::new(), frames: Vec::new() };
        while batch.has_room(self.frames.page_size())
            && let Some(frame) = frames.next()
        {
            self.pack(frame, &mut batch);
        }
        batch
    }

    /// Packs the image of `frame`, if it has one to be written and none in flight.
    fn pack(&self, frame: FrameId, batch: &mut Batch) {
        let header = self.frames.get(frame);
        loop {
            let (state, page) = {
                let body = header.lock();
                (body.state, header.page())
            };
            let packed = match state {
                State::Detached { .. } => self.pack_latched(frame, page, None, batch),
                State::Dirty { .. } => {
                    let Some(entry) = self.table.entry(page) else { return };
                    entry.latch.lock_shared();
                    let packed = self.pack_latched(frame, page, Some(entry), batch);
                    entry.latch.unlock_shared();
                    packed
                }
                _ => return,
            };
            if packed {
                return;
            }
            // The page has moved, or the frame changed its state, between the look and the latch: look again.
        }
    }

    /// Packs the image of `page` in `frame`: under the shared latch of `entry` where the page is resident there, and under none
    /// where the frame is detached. False where neither is so any more.
    fn pack_latched(&self, frame: FrameId, page: PageId, entry: Option<Entry<'_>>, batch: &mut Batch) -> bool {
        let header = self.frames.get(frame);
        let epoch = {
            let mut body = header.lock();
            let as_seen = header.page() == page
                && match entry {
                    Some(entry) => entry.is_resident_in(frame),
                    None => body.state.is_detached(),
                };
            let Some((next, epoch)) = body.state.pack().filter(|_| as_seen) else { return false };
            self.set_state(frame, &mut body, next);
            epoch
        };
        let room = &mut batch.staging[batch.used..batch.used + self.frames.page_size()];
        let len = self.store.pack(page, self.frames.view(frame), room);
        assert!(len > 0 && len <= room.len(), "an image of {page} of {len} bytes");
        batch.images.push(ImageDesc { page, epoch, offset: batch.used, len });
        batch.frames.push(frame);
        batch.used += len;
        true
    }

    /// Starts writing a batch; `ended` runs when that has ended, either way.
    pub(crate) fn submit(self: &Arc<Self>, batch: Batch, ended: impl FnOnce() + Send + 'static) {
        let Batch { staging, used, images, frames } = batch;
        if images.is_empty() {
            self.staging.put(staging);
            ended();
            return;
        }
        self.counters.batches_written.add(1);
        self.counters.images_written.add(images.len() as u64);
        self.counters.bytes_written.add(used as u64);
        self.write_begins();
        let in_flight = InFlight(Arc::clone(self));
        let pages: Vec<_> = images.iter().map(|image| image.page).zip(frames).collect();
        let done = move |outcome: WriteOutcome<S::Error>, staging: AlignedBuf| {
            let core = &in_flight.0;
            core.batch_ended(&pages, outcome);
            core.staging.put(staging);
            core.write_ends();
            ended();
            drop(in_flight);
        };
        self.progress.submit(1, || self.store.write(WriteBatch { images, staging, done: Box::new(done) }));
    }

    fn batch_ended(&self, pages: &[(PageId, FrameId)], outcome: WriteOutcome<S::Error>) {
        match outcome {
            Ok(pointers) => {
                assert_eq!(pointers.len(), pages.len(), "a pointer for each image");
                for (&(page, frame), at) in pages.iter().zip(pointers) {
                    self.image_written(page, frame, at);
                }
            }
            Err(error) => {
                tracing::warn!(images = pages.len(), %error, "writing pages failed");
                self.counters.write_errors.add(1);
                self.set_write_error(error);
                pages.iter().for_each(|&(_, frame)| self.image_failed(frame));
            }
        }
    }

    fn image_written(&self, page: PageId, frame: FrameId, at: crate::BlockPtr) {
        let mut body = self.frames.get(frame).lock();
        let Some(written) = body.state.written(at) else {
            unreachable!("{page} was written from a frame that is {:?}", body.state)
        };
        self.store.record(page, written.image, at, written.fate);
        self.set_state(frame, &mut body, written.next);
        drop(body);
        if written.next == State::Free {
            self.free.put(frame);
        }
    }

    fn image_failed(&self, frame: FrameId) {
        let mut body = self.frames.get(frame).lock();
        let from = body.state;
        let Some(next) = from.write_failed() else { unreachable!("a write failed of a frame that is {from:?}") };
        // Where the frame has changed since, its older image is lost. The error stays until that image's epoch is merged, and
        // until then no checkpoint of it can be written.
        self.set_state(frame, &mut body, next);
        drop(body);
        if next == State::Free {
            self.free.put(frame);
        }
    }
}
