//! Putting records together from the pieces in flushes: the counterpart of `image`.
//!
//! Invariants:
//! 1. A record comes out only when its last byte has been seen, in flushes that follow each other and are of one incarnation.
//! 2. Where a flush says that its first record begins is where the pieces before it end; anything else is [`BadFraming`].
//! 3. Memory grows with the bytes that were seen, never with a length that was only claimed.

use crate::Lsn;
use crate::format::{FRAME_SIZE, FlushHeader, HEADER_SIZE, end_marker, u32_at};
use crate::options::Mistake;

/// A record read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    /// Where its first byte stands.
    pub start: Lsn,
    /// Its LSN: the position after its last byte.
    pub lsn: Lsn,
    /// The flush that its first byte is in: where replay must start to see this record.
    pub flush_start: Lsn,
    /// What was appended.
    pub body: Vec<u8>,
}

/// A record where it was read: its body is lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LentRecord<'a> {
    /// Where its first byte stands.
    pub start: Lsn,
    /// Its LSN: the position after its last byte.
    pub lsn: Lsn,
    /// The flush that its first byte is in: where replay must start to see this record.
    pub flush_start: Lsn,
    /// What was appended.
    pub body: &'a [u8],
}

impl LentRecord<'_> {
    /// One of its own.
    pub fn to_owned(self) -> LogRecord {
        LogRecord { start: self.start, lsn: self.lsn, flush_start: self.flush_start, body: self.body.to_vec() }
    }
}

/// Checksums are right, but the records don't fit together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadFraming;

/// What has been seen of records so far.
#[derive(Debug)]
pub(crate) struct Assembler {
    state: State,
    any_incarnation: bool,
}

#[derive(Debug)]
enum State {
    /// Before the first record that begins in the log as it is read: what comes is the rest of an earlier one.
    Skipping,
    /// A record may begin.
    Between,
    /// Some of a record was there.
    Inside(Partial),
}

/// A record that goes on in the next flush.
#[derive(Debug)]
struct Partial {
    start: Lsn,
    flush_start: Lsn,
    incarnation: u32,
    framed: Vec<u8>,
}

impl Assembler {
    /// At the start of reading.
    pub(crate) fn new() -> Assembler {
        Assembler { state: State::Skipping, any_incarnation: false }
    }

    /// The same, making the mistake that records go on whatever the incarnation.
    pub(crate) fn making(mistake: Mistake) -> Assembler {
        Assembler { any_incarnation: mistake == Mistake::RecordGoesOn, ..Assembler::new() }
    }

    /// Takes the pieces in the next flush and gives what became whole, in order.
    pub(crate) fn push(
        &mut self,
        flush: &FlushHeader,
        payload: &[u8],
        mut out: impl FnMut(LentRecord<'_>),
    ) -> Result<(), BadFraming> {
        let mut at = match std::mem::replace(&mut self.state, State::Between) {
            State::Skipping if flush.first_record == 0 => {
                self.state = State::Skipping;
                return Ok(());
            }
            State::Skipping => flush.first_record as usize - HEADER_SIZE as usize,
            State::Inside(partial) if partial.incarnation == flush.incarnation || self.any_incarnation => {
                self.resume(partial, flush, payload, &mut out)?
            }
            State::Inside(_) | State::Between => 0,
        };
        let first = if at < payload.len() { at + HEADER_SIZE as usize } else { 0 };
        if first != flush.first_record as usize {
            return Err(BadFraming);
        }
        while at < payload.len() {
            let start = flush.lsn.plus(HEADER_SIZE + at as u64);
            let rest = &payload[at..];
            let Some(framed) = framed_len(rest).filter(|&framed| framed <= rest.len()) else {
                let partial = Partial { start, flush_start: flush.lsn, incarnation: flush.incarnation, framed: rest.to_vec() };
                self.state = State::Inside(partial);
                break;
            };
            at += framed;
            let lsn = flush.lsn.plus(HEADER_SIZE + at as u64);
            let body = unframe(start, &rest[..framed])?;
            out(LentRecord { start, lsn, flush_start: flush.lsn, body });
        }
        Ok(())
    }

    /// Goes on with a record at the start of a flush; gives how much of the payload was its.
    fn resume(
        &mut self,
        mut partial: Partial,
        flush: &FlushHeader,
        payload: &[u8],
        out: &mut impl FnMut(LentRecord<'_>),
    ) -> Result<usize, BadFraming> {
        let mut at = 0;
        // The length itself may have been cut.
        let head = (FRAME_SIZE as usize / 2).saturating_sub(partial.framed.len()).min(payload.len());
        partial.framed.extend_from_slice(&payload[..head]);
        at += head;
        if let Some(framed) = framed_len(&partial.framed) {
            let piece = (framed - partial.framed.len()).min(payload.len() - at);
            partial.framed.extend_from_slice(&payload[at..at + piece]);
            at += piece;
            if partial.framed.len() == framed {
                let Partial { start, flush_start, framed, .. } = partial;
                let lsn = flush.lsn.plus(HEADER_SIZE + at as u64);
                let body = unframe(start, &framed)?;
                out(LentRecord { start, lsn, flush_start, body });
                return Ok(at);
            }
        }
        self.state = State::Inside(partial);
        Ok(at)
    }
}

/// How long the record is that begins here, frame included, if enough of it is there to tell.
fn framed_len(bytes: &[u8]) -> Option<usize> {
    (bytes.len() >= 4).then(|| u32_at(bytes, 0) as usize + FRAME_SIZE as usize)
}

/// The body of a whole record.
fn unframe(start: Lsn, framed: &[u8]) -> Result<&[u8], BadFraming> {
    let (body, end) = framed[4..].split_at(framed.len() - FRAME_SIZE as usize);
    let good = u32_at(end, 0) == end_marker(start, body.len() as u32);
    if good { Ok(body) } else { Err(BadFraming) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame;

    /// The payload of a flush at `lsn` with one record of this body.
    fn payload(lsn: Lsn, body: &[u8]) -> Vec<u8> {
        let (head, end) = frame(lsn.plus(HEADER_SIZE), body.len() as u32);
        [&head, body, &end].concat()
    }

    fn flush(lsn: Lsn, payload: &[u8], first_record: u32) -> FlushHeader {
        FlushHeader { incarnation: 1, lsn, durable: lsn, length: HEADER_SIZE as u32 + payload.len() as u32, first_record }
    }

    fn push(assembler: &mut Assembler, header: &FlushHeader, payload: &[u8]) -> Result<Vec<LogRecord>, BadFraming> {
        let mut found = Vec::new();
        assembler.push(header, payload, |record| found.push(record.to_owned())).map(|()| found)
    }

    #[test]
    fn a_record_of_another_position_or_length_is_bad_framing() {
        let lsn = Lsn(4096);
        let good = payload(lsn, b"body");
        let found = push(&mut Assembler::new(), &flush(lsn, &good, 64), &good).expect("one record");
        assert_eq!((found.len(), found[0].lsn, &found[0].body[..]), (1, Lsn(4096 + 64 + 12), &b"body"[..]));
        let elsewhere = payload(Lsn(8192), b"body");
        assert_eq!(push(&mut Assembler::new(), &flush(lsn, &elsewhere, 64), &elsewhere), Err(BadFraming));
        let mut shorter = good;
        shorter[0] -= 1;
        assert_eq!(push(&mut Assembler::new(), &flush(lsn, &shorter, 64), &shorter), Err(BadFraming));
    }

    #[test]
    fn a_first_record_elsewhere_than_where_the_pieces_end_is_bad_framing() {
        let (first, second) = (Lsn(4096), Lsn(8192));
        let whole = payload(first, &[1; 100]);
        let (head, rest) = whole.split_at(50);
        let more = [rest, &payload(second.plus(rest.len() as u64), b"next")].concat();
        for (first_record, good) in [(64 + rest.len() as u32, true), (64, false), (0, false), (65, false)] {
            let mut assembler = Assembler::new();
            assert_eq!(push(&mut assembler, &flush(first, head, 64), head), Ok(vec![]));
            let found = push(&mut assembler, &flush(second, &more, first_record), &more);
            assert_eq!(found.as_ref().map(Vec::len), if good { Ok(2) } else { Err(&BadFraming) }, "{first_record}");
        }
    }
}
