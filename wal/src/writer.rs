//! Writing a batch: assembling each flush (one copy and one checksum of its bytes) and writing it durably.

use crate::format::FlushHeader;
use crate::image::Stream;
use crate::layout::{FlushPlan, Geometry};
use crate::lsn::SegmentNo;
use crate::pool::Pool;
use crate::queue::Batch;
use crate::stats::Counters;
use crate::{Lsn, Result};
use ashlar_disk::{AlignedBuf, Durability, File};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What whoever has the turn writes with.
pub(crate) struct Writer {
    geometry: Geometry,
    uuid_tag: u64,
    incarnation: u32,
    /// The segment that was written last.
    file: Option<(SegmentNo, Arc<dyn File>)>,
    image: AlignedBuf,
    /// What is being written; empty between batches.
    pub(crate) batch: Batch,
    /// Up to where a confirmed flush says that the log was durable.
    vouched: Lsn,
    /// Where the last flush that carries records ends.
    records_end: Lsn,
}

impl Writer {
    /// Writes flushes of `incarnation`. What was found at open: the log's records end with a flush that ends at `records_end`,
    /// and a flush says that it was durable up to `vouched`.
    pub(crate) fn new(geometry: Geometry, uuid_tag: u64, incarnation: u32, vouched: Lsn, records_end: Lsn) -> Writer {
        let image = AlignedBuf::zeroed(geometry.block as usize);
        Writer { geometry, uuid_tag, incarnation, file: None, image, batch: Batch::default(), vouched, records_end }
    }

    /// Whether damage to the last flush with records could not be told from a torn tail, because no flush vouches for it.
    pub(crate) fn needs_witness(&self) -> bool {
        self.vouched < self.records_end
    }

    /// Writes the batch's flushes, one behind the other; tells `confirm` where each one ends as soon as it is durable.
    pub(crate) fn write(&mut self, pool: &Pool, counters: &Counters, mut confirm: impl FnMut(Lsn)) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let mut stream = Stream::new(&batch.records, batch.small());
        for plan in &batch.plans {
            self.write_flush(plan, &mut stream, pool)?;
            counters.flush(plan, &self.geometry);
            confirm(plan.end(&self.geometry));
        }
        debug_assert!(stream.is_done(), "a batch is whole records");
        drop(stream);
        counters.records.fetch_add(batch.records.len() as u64, Relaxed);
        self.batch = batch;
        self.batch.clear();
        Ok(())
    }

    fn write_flush<'a>(
        &mut self,
        plan: &FlushPlan,
        stream: &mut Stream<'a, impl Iterator<Item = &'a [u8]>>,
        pool: &Pool,
    ) -> Result<()> {
        let end = plan.end(&self.geometry);
        let padded = end.since(plan.start) as usize;
        if self.image.len() < padded {
            let len = padded.next_power_of_two().min(self.geometry.flush_max as usize);
            self.image = AlignedBuf::zeroed(len);
        }
        let (flush, padding) = self.image[..padded].split_at_mut(plan.length as usize);
        stream.fill(plan, flush);
        padding.fill(0);
        // One flush at a time: what lies before this one is durable.
        let header = FlushHeader {
            incarnation: self.incarnation,
            lsn: plan.start,
            durable: plan.start,
            length: plan.length as u32,
            first_record: plan.first_record as u32,
        };
        header.encode(self.uuid_tag, flush);
        let segment = self.geometry.segment_of(plan.start);
        // The one after must be there before this one gets its first flush.
        pool.ensure(segment.next())?;
        let file = self.file_of(segment, pool)?;
        let words = &self.image.words_mut()[..padded / 8];
        file.write(self.geometry.offset_of(plan.start), &[words], Durability::Now)?;
        self.vouched = header.durable;
        if !plan.is_empty() {
            self.records_end = end;
        }
        Ok(())
    }

    fn file_of(&mut self, segment: SegmentNo, pool: &Pool) -> Result<Arc<dyn File>> {
        match &self.file {
            Some((open, file)) if *open == segment => Ok(file.clone()),
            _ => {
                let file = pool.open_segment(segment)?;
                self.file = Some((segment, file.clone()));
                Ok(file)
            }
        }
    }
}
