//! What a process that works on a database tells of it, record by record, to somebody whom a crash does not touch.
//!
//! 1. A record is written before what it announces begins, and after what it confirms has returned. So the order of records is known
//!    truth: what was told to have ended before something was told to begin, has ended before it began.
//! 2. A record is one `write` of 24 bytes: whole or not at all, on a pipe or on our own file system.

use std::io::Write;

/// Bytes of a record.
pub(super) const RECORD: usize = 24;

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The database is open, in this life.
    Opened { life: u32 },
    /// A writer begins a commit, in this life.
    Began { writer: u8, number: u32, life: u32 },
    /// The commit has returned. `turn`: what a transaction has counted.
    Ended { writer: u8, number: u32, immediate: bool, turn: Option<u64> },
    /// A flush or a checkpoint begins.
    BarrierBegan { by: u8 },
    /// It has returned: what had ended when it began is durable.
    BarrierEnded { by: u8 },
    /// The database is being closed or dropped; everybody has stopped.
    Closing,
    /// That has returned: all is durable.
    Closed,
    /// After a kill: what a writer has left ends with this commit (0: with none); what it had begun after that is gone for good.
    Settled { writer: u8, number: u32 },
}

/// Bit of `turn`s that are there; no count gets that far.
const TURN: u64 = 1 << 63;

impl Event {
    /// The bytes of a record.
    pub(super) fn to_bytes(self) -> [u8; RECORD] {
        let (kind, writer, flag, number, extra) = match self {
            Event::Opened { life } => (1, 0, 0, life, 0),
            Event::Began { writer, number, life } => (2, writer, 0, number, life.into()),
            Event::Ended { writer, number, immediate, turn } => {
                (3, writer, u8::from(immediate), number, turn.map_or(0, |turn| turn | TURN))
            }
            Event::BarrierBegan { by } => (4, by, 0, 0, 0),
            Event::BarrierEnded { by } => (5, by, 0, 0, 0),
            Event::Closing => (6, 0, 0, 0, 0),
            Event::Closed => (7, 0, 0, 0, 0),
            Event::Settled { writer, number } => (8, writer, 0, number, 0),
        };
        let mut bytes = [0; RECORD];
        bytes[0..4].copy_from_slice(&[kind, writer, flag, 0xA5]);
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&u64::to_le_bytes(extra));
        bytes
    }

    /// What a record says; `None` if it is none.
    pub(super) fn from_bytes(bytes: &[u8; RECORD]) -> Option<Event> {
        let number = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
        let extra = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
        let (writer, flag) = (bytes[1], bytes[2]);
        let event = match bytes[0] {
            1 => Event::Opened { life: number },
            2 => Event::Began { writer, number, life: extra.try_into().ok()? },
            3 => {
                let turn = (extra & TURN != 0).then_some(extra & !TURN);
                Event::Ended { writer, number, immediate: flag == 1, turn }
            }
            4 => Event::BarrierBegan { by: writer },
            5 => Event::BarrierEnded { by: writer },
            6 => Event::Closing,
            7 => Event::Closed,
            8 => Event::Settled { writer, number },
            _ => return None,
        };
        (bytes[3] == 0xA5).then_some(event)
    }
}

type Sink = dyn Fn(Event) -> std::io::Result<()> + Send + Sync;

/// Where events are told, by many threads.
pub(super) struct Journal(Box<Sink>);

impl Journal {
    /// Into a file or pipe.
    pub(super) fn to_file(file: std::fs::File) -> Journal {
        Journal::new(move |event| match (&file).write(&event.to_bytes())? {
            RECORD => Ok(()),
            n => Err(std::io::Error::other(format!("{n} bytes of a record were written"))),
        })
    }

    /// To whoever.
    pub(super) fn new(sink: impl Fn(Event) -> std::io::Result<()> + Send + Sync + 'static) -> Journal {
        Journal(Box::new(sink))
    }

    /// Tells it.
    pub(super) fn tell(&self, event: Event) -> Result<(), String> {
        (self.0)(event).map_err(|e| format!("the journal: {e}"))
    }
}

/// The records in these bytes; an unfinished one at the end is none.
pub(super) fn events(bytes: &[u8]) -> Result<Vec<Event>, String> {
    let (records, _) = bytes.as_chunks::<RECORD>();
    records
        .iter()
        .enumerate()
        .map(|(n, record)| Event::from_bytes(record).ok_or(format!("record {n} of the journal is none")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back() {
        let all = [
            Event::Opened { life: 7 },
            Event::Began { writer: 3, number: 70_000, life: 9 },
            Event::Ended { writer: 3, number: 70_000, immediate: true, turn: Some(0) },
            Event::Ended { writer: 3, number: 70_000, immediate: false, turn: None },
            Event::BarrierBegan { by: 2 },
            Event::BarrierEnded { by: 2 },
            Event::Closing,
            Event::Closed,
            Event::Settled { writer: 1, number: 5 },
        ];
        let mut bytes: Vec<u8> = all.iter().flat_map(|e| e.to_bytes()).collect();
        bytes.extend([1, 2, 3]);
        assert_eq!(events(&bytes), Ok(all.to_vec()));
        bytes[3] = 0;
        assert!(events(&bytes).is_err());
    }
}
