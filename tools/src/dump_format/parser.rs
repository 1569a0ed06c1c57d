//! Reading dumps, and plain text pairs, entry by entry.
//!
//! ```text
//!            VERSION=3            HEADER=END             DATA=END
//!   Between ───────────> (header) ───────────> Entries ───────────> Between ── end of input ──> Over
//!   Start, like Between, but there must be a database            plain text: Pairs until the end of input
//! ```
//!
//! 1. Whatever the input, it ends in events or in one error that names line and column; never in a panic.
//! 2. An event is given only when all its lines were read whole; memory is that of the longest line.

use super::Format;
use super::header::{Header, shorten};
use super::line::{self, Fault};
use super::lines::{Found, Lines};
use std::io::BufRead;

/// Why a dump can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    /// The input is not what it should be.
    #[error("line {line}, column {column}: {what}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// The byte of the line, counted from 1.
        column: usize,
        /// What was found, or missing.
        what: String,
    },
    /// It can't be read on.
    #[error("reading after line {line} failed: {source}")]
    Read {
        /// The last line that was read.
        line: u64,
        /// Why not.
        source: std::io::Error,
    },
}

/// What comes next in a dump.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Event<'a> {
    /// A database begins.
    Begin(&'a Header),
    /// One of its entries.
    Entry {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// It ends.
    End,
}

/// Reads a dump.
pub(crate) struct Parser<R> {
    lines: Lines<R>,
    state: State,
    header: Header,
    key: Vec<u8>,
    value: Vec<u8>,
    /// The line of the last entry's key.
    key_line: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Start,
    Between,
    Entries(Format),
    /// Plain text, nothing read yet.
    PlainStart,
    Pairs,
    Over,
}

/// A step as it is decided, before it borrows what was read.
enum Step {
    Begin,
    Entry,
    End,
    Over,
}

impl<R: BufRead> Parser<R> {
    /// Reads the dump format.
    pub(crate) fn dump(reader: R) -> Parser<R> {
        Parser::starting(reader, State::Start)
    }

    /// Reads plain text: a line a key and a line a value in turn, escaped as in `format=print`; one unnamed database.
    pub(crate) fn plain(reader: R) -> Parser<R> {
        Parser::starting(reader, State::PlainStart)
    }

    fn starting(reader: R, state: State) -> Parser<R> {
        let lines = Lines::new(reader);
        Parser { lines, state, header: Header::default(), key: Vec::new(), value: Vec::new(), key_line: 0 }
    }

    /// What comes next, and the line it stands at (an entry's key, a header's end); none at the end of the input.
    pub(crate) fn next_event(&mut self) -> Result<Option<(Event<'_>, u64)>, ParseError> {
        let step = match self.state {
            State::Start | State::Between => self.header()?,
            State::Entries(format) => self.entry(format)?,
            State::PlainStart => {
                self.state = State::Pairs;
                Step::Begin
            }
            State::Pairs => self.pair()?,
            State::Over => Step::Over,
        };
        let event = match step {
            Step::Begin => Event::Begin(&self.header),
            Step::Entry => Event::Entry { key: &self.key, value: &self.value },
            Step::End => Event::End,
            Step::Over => return Ok(None),
        };
        Ok(Some((event, self.key_line)))
    }

    fn header(&mut self) -> Result<Step, ParseError> {
        loop {
            match self.read_key_line()? {
                false if self.state == State::Between => {
                    self.state = State::Over;
                    return Ok(Step::Over);
                }
                false => return Err(self.malformed(1, "the input is empty: a dump begins with VERSION=3".into())),
                true if self.key.is_empty() && self.state == State::Between => {}
                true => break,
            }
        }
        self.version()?;
        self.header = Header::default();
        while self.next_header_line()? {
            self.header.take(&self.key).map_err(|what| self.malformed(1, what))?;
        }
        let format = self.header.finish().map_err(|what| self.malformed(1, what))?;
        self.state = State::Entries(format);
        Ok(Step::Begin)
    }

    fn version(&self) -> Result<(), ParseError> {
        match self.key.strip_prefix(b"VERSION=") {
            Some(b"3") => Ok(()),
            Some([b'3', b'\r']) => {
                Err(self.malformed(10, "the lines end in carriage returns: the file was converted, use the original".into()))
            }
            Some(other) => Err(self.malformed(9, format!("version {} of the dump format is not known: 3 is", shorten(other)))),
            None => Err(self.malformed(1, format!("\"{}\" stands where VERSION=3 should begin a database", shorten(&self.key)))),
        }
    }

    /// False at `HEADER=END`.
    fn next_header_line(&mut self) -> Result<bool, ParseError> {
        match self.read_key_line()? {
            false => Err(self.malformed(1, "the input ends within a header: it was cut short".into())),
            true => Ok(self.key != b"HEADER=END"),
        }
    }

    fn entry(&mut self, format: Format) -> Result<Step, ParseError> {
        if !self.read_key_line()? {
            return Err(self.malformed(1, "the input ends without DATA=END: it was cut short".into()));
        }
        if self.key == b"DATA=END" {
            self.state = State::Between;
            return Ok(Step::End);
        }
        self.check_space(&self.key, "an entry's key (after one space) or DATA=END")?;
        if !self.read_value_line()? {
            return Err(self.malformed(1, "the input ends after a key, without its value: it was cut short".into()));
        }
        if self.value == b"DATA=END" {
            return Err(
                self.malformed(1, format!("DATA=END stands where the value for the key of line {} should be", self.key_line))
            );
        }
        self.check_space(&self.value, "an entry's value (after one space)")?;
        self.decode(format, 1)
    }

    fn check_space(&self, line: &[u8], expected: &str) -> Result<(), ParseError> {
        match line.first() {
            Some(b' ') => Ok(()),
            _ => Err(self.malformed(1, format!("\"{}\" stands where {expected} should be", shorten(line)))),
        }
    }

    fn pair(&mut self) -> Result<Step, ParseError> {
        if !self.read_key_line()? {
            self.state = State::Over;
            return Ok(Step::End);
        }
        if !self.read_value_line()? {
            return Err(self.malformed(1, "the input ends after a key, without its value: pairs of lines are needed".into()));
        }
        self.decode(Format::Print, 0)
    }

    /// Decodes both lines, of which each has its text from byte `from` on.
    fn decode(&mut self, format: Format, from: usize) -> Result<Step, ParseError> {
        let at = |line| move |fault: Fault| ParseError::Malformed { line, column: fault.column, what: fault.what };
        line::decode(format, &mut self.key, from).map_err(at(self.key_line))?;
        line::decode(format, &mut self.value, from).map_err(at(self.lines.number()))?;
        Ok(Step::Entry)
    }

    /// Reads a line into `key`; false at the end.
    fn read_key_line(&mut self) -> Result<bool, ParseError> {
        let found = self.lines.read(&mut self.key);
        self.key_line = self.lines.number();
        self.checked(found)
    }

    fn read_value_line(&mut self) -> Result<bool, ParseError> {
        let found = self.lines.read(&mut self.value);
        self.checked(found)
    }

    fn checked(&self, found: std::io::Result<Found>) -> Result<bool, ParseError> {
        match found {
            Ok(Found::Line) => Ok(true),
            Ok(Found::End) => Ok(false),
            Ok(Found::TooLong) => {
                let max = self.lines.len_max();
                Err(self.malformed(1, format!("the line is longer than {max} bytes: this is no dump, or a value is above 1 GiB")))
            }
            Err(source) => Err(ParseError::Read { line: self.lines.number(), source }),
        }
    }

    fn malformed(&self, column: usize, what: String) -> ParseError {
        ParseError::Malformed { line: self.lines.number().max(1), column, what }
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
