//! Putting records into flushes: the counterpart of `record`.

use crate::Lsn;
use crate::format::{FRAME_SIZE, HEADER_SIZE, frame};
use crate::layout::FlushPlan;
use std::sync::Arc;

/// The bytes of a record, as the caller hands them over. Only of a small one a copy is made before the flush is assembled, so that it can go
/// where it was made.
#[derive(Clone, Debug)]
pub enum Body {
    /// The log's alone.
    Owned(Vec<u8>),
    /// Shared with whoever applies it.
    Shared(Arc<[u8]>),
}

impl Body {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::Owned(bytes) => bytes,
            Body::Shared(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::Owned(bytes)
    }
}

impl From<Box<[u8]>> for Body {
    fn from(bytes: Box<[u8]>) -> Body {
        Body::Owned(bytes.into_vec())
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Body {
        Body::Shared(bytes)
    }
}

/// A record that is to be written.
#[derive(Debug)]
pub(crate) enum Record {
    /// So many bytes, which stand with those of other small ones.
    Small(usize),
    Apart(Body),
}

/// The records of consecutive flushes as one stream of bytes.
pub(crate) struct Stream<'a, I> {
    records: std::slice::Iter<'a, Record>,
    /// Bytes of the small ones: those that come next, and those behind.
    small: (&'a [u8], I),
    current: Option<Framed<'a>>,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Stream<'a, I> {
    /// From the start of the first record on.
    pub(crate) fn new(records: &'a [Record], small: I) -> Stream<'a, I> {
        Stream { records: records.iter(), small: (&[], small), current: None }
    }

    /// Fills the payload of a flush; `flush` is its first `length` bytes. The header is left alone.
    pub(crate) fn fill(&mut self, plan: &FlushPlan, flush: &mut [u8]) {
        debug_assert_eq!(flush.len() as u64, plan.length);
        let mut at = HEADER_SIZE as usize;
        while at < flush.len() {
            let mut framed = match self.current.take() {
                Some(framed) => framed,
                None => self.next_record(plan.start.plus(at as u64)),
            };
            at += framed.copy_into(&mut flush[at..]);
            if framed.left() > 0 {
                self.current = Some(framed);
            }
        }
    }

    /// Whether every byte was placed.
    pub(crate) fn is_done(&self) -> bool {
        self.current.is_none() && self.records.len() == 0 && self.small.0.is_empty()
    }

    fn next_record(&mut self, start: Lsn) -> Framed<'a> {
        let body = match self.records.next().expect("the layout placed exactly these records") {
            Record::Small(len) => next_small(&mut self.small.0, &mut self.small.1, *len),
            Record::Apart(body) => body.bytes(),
        };
        let (head, end) = frame(start, body.len() as u32);
        Framed { head, body, end, done: 0 }
    }
}

/// The next small record, of so many bytes: in `part`, or in the next one.
pub(crate) fn next_small<'a>(part: &mut &'a [u8], parts: &mut impl Iterator<Item = &'a [u8]>, len: usize) -> &'a [u8] {
    if part.is_empty() && len > 0 {
        *part = parts.next().unwrap_or(&[]);
    }
    part.split_off(..len).expect("small records stand side by side, each whole in one part")
}

/// A record between its two words, some of it placed already.
struct Framed<'a> {
    head: [u8; 4],
    body: &'a [u8],
    end: [u8; 4],
    done: usize,
}

impl Framed<'_> {
    fn left(&self) -> usize {
        self.body.len() + FRAME_SIZE as usize - self.done
    }

    /// Copies as much as fits; gives how much that was.
    fn copy_into(&mut self, out: &mut [u8]) -> usize {
        let (mut at, mut part_start) = (0, 0);
        for part in [&self.head[..], self.body, &self.end[..]] {
            let skip = self.done - part_start;
            if let Some(rest) = part.get(skip..) {
                let piece = rest.len().min(out.len() - at);
                out[at..at + piece].copy_from_slice(&rest[..piece]);
                at += piece;
                self.done += piece;
            }
            part_start += part.len();
            if self.done < part_start {
                break;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FlushHeader;
    use crate::layout::{Geometry, Layout};
    use crate::record::{Assembler, LogRecord};
    use proptest::prelude::*;

    /// Flushes of the given bodies as a reader finds them; `close_after` says after which records the flush is closed.
    fn flushes(
        geometry: Geometry,
        start: Lsn,
        bodies: &[Vec<u8>],
        close_after: &[bool],
    ) -> (Vec<(FlushHeader, Vec<u8>)>, Vec<LogRecord>) {
        let mut layout = Layout::new(geometry, start);
        let (mut plans, mut records) = (Vec::new(), Vec::new());
        for (index, body) in bodies.iter().enumerate() {
            let place = layout.place(body.len() as u64, |plan| plans.push(plan));
            records.push(LogRecord { start: place.start, lsn: place.end, flush_start: place.flush_start, body: body.clone() });
            if close_after.get(index) == Some(&true) {
                plans.push(layout.close());
            }
        }
        plans.extend(layout.close_if_used());
        let mut small = Vec::new();
        let some_apart = bodies.iter().enumerate().map(|(index, body)| match index % 3 {
            0 => Record::Apart(body.clone().into()),
            _ => {
                small.extend_from_slice(body);
                Record::Small(body.len())
            }
        });
        let queued: Vec<_> = some_apart.collect();
        let mut stream = Stream::new(&queued, std::iter::once(&small[..]));
        let images = plans.iter().map(|plan| {
            let mut flush = vec![0; plan.length as usize];
            stream.fill(plan, &mut flush);
            let header = FlushHeader {
                incarnation: 1,
                lsn: plan.start,
                durable: plan.start,
                length: plan.length as u32,
                first_record: plan.first_record as u32,
            };
            (header, flush.split_off(HEADER_SIZE as usize))
        });
        let images = images.collect();
        assert!(stream.is_done());
        (images, records)
    }

    fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let len = prop_oneof![0usize..8, 4000usize..4100, 0usize..30_000];
        prop::collection::vec((len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]), 0..20)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(bodies in bodies(), closes in prop::collection::vec(any::<bool>(), 20), first in 0u64..16) {
            let geometry = Geometry { block: 4096, segment_size: 65536, flush_max: 16384 };
            let (flushes, records) = flushes(geometry, Lsn(first * 4096), &bodies, &closes);
            for skip in 0..flushes.len() {
                let mut assembler = Assembler::new();
                let mut found = Vec::new();
                for (header, payload) in &flushes[skip..] {
                    prop_assert!(assembler.push(header, payload, |record| found.push(record.to_owned())).is_ok());
                }
                let from = flushes[skip].0.lsn;
                let wanted: Vec<_> = records.iter().filter(|record| record.flush_start >= from).cloned().collect();
                prop_assert_eq!(found, wanted);
            }
        }

        #[test]
        fn a_change_of_incarnation_voids_what_is_unfinished(bodies in bodies(), cut in 0usize..20) {
            let geometry = Geometry { block: 4096, segment_size: 65536, flush_max: 8192 };
            let (flushes, records) = flushes(geometry, Lsn(0), &bodies, &[]);
            let cut = cut.min(flushes.len());
            let end = flushes[..cut].last().map_or(Lsn(0), |(header, _)| header.end(4096));
            let mut assembler = Assembler::new();
            let mut found = Vec::new();
            for (header, payload) in &flushes[..cut] {
                prop_assert!(assembler.push(header, payload, |record| found.push(record.to_owned())).is_ok());
            }
            let later = vec![vec![7; 100]];
            let (more, new) = self::flushes(geometry, end, &later, &[]);
            let header = FlushHeader { incarnation: 2, ..more[0].0 };
            prop_assert!(assembler.push(&header, &more[0].1, |record| found.push(record.to_owned())).is_ok());
            let mut wanted: Vec<_> = records.into_iter().filter(|record| record.lsn <= end).collect();
            wanted.extend(new);
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn junk_behind_a_right_checksum_never_panics(
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), any::<u8>()), 1..6),
        ) {
            let mut assembler = Assembler::new();
            let mut lsn = Lsn(4096);
            for (payload, first) in &payloads {
                let length = HEADER_SIZE as u32 + payload.len() as u32;
                let first_record = if u32::from(*first) + 64 < length && *first < 128 { u32::from(*first) + 64 } else { 0 };
                let header = FlushHeader { incarnation: 1, lsn, durable: lsn, length, first_record };
                if assembler.push(&header, payload, |_| ()).is_err() {
                    break;
                }
                lsn = header.end(4096);
            }
        }
    }
}
