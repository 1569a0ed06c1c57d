//! Lines of bytes, counted, in bounded memory.

use std::io::{self, BufRead, Read};

/// The longest line that is read, in bytes: room for a value of 1 GiB in any form.
const LINE_LEN_MAX: u64 = (3 << 30) + 16;

/// Reads lines.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    len_max: u64,
}

/// What reading a line gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A line, without its end.
    Line,
    /// There is none any more.
    End,
    /// One that is longer than [`Lines::len_max`].
    TooLong,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Lines<R> {
        Lines { reader, number: 0, len_max: LINE_LEN_MAX }
    }

    #[cfg(test)]
    pub(super) fn with_len_max(self, len_max: u64) -> Lines<R> {
        Lines { len_max, ..self }
    }

    /// The number of the line read last, counted from 1; at the end, of the last there is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The longest line that is read, in bytes.
    pub(super) fn len_max(&self) -> u64 {
        self.len_max
    }

    /// Reads the next line into `line`, replacing what was there. The last one needs no line end.
    pub(super) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<Found> {
        line.clear();
        let read = self.reader.by_ref().take(self.len_max + 1).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(Found::End);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 > self.len_max {
            return Ok(Found::TooLong);
        }
        Ok(Found::Line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_the_last_needs_no_end() {
        let mut lines = Lines::new(&b"one\n\nthree"[..]);
        let mut line = Vec::new();
        for expected in [&b"one"[..], b"", b"three"] {
            assert_eq!(lines.read(&mut line).unwrap(), Found::Line);
            assert_eq!(line, expected);
        }
        assert_eq!(lines.read(&mut line).unwrap(), Found::End);
        assert_eq!(lines.number(), 3);
    }

    #[test]
    fn a_line_without_end_is_not_read_whole() {
        let mut lines = Lines::new(io::BufReader::new(io::repeat(b'x').take(1 << 40))).with_len_max(100);
        let mut line = Vec::new();
        assert_eq!(lines.read(&mut line).unwrap(), Found::TooLong);
        assert!(line.len() <= 101);
        let mut lines = Lines::new(&b"12345\n"[..]).with_len_max(5);
        assert_eq!(lines.read(&mut line).unwrap(), Found::Line);
    }
}
