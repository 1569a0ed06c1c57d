//! Whether what a dump holds can be loaded: names that are possible, keys that fit. Beside the parser, which knows no database.

use super::input::Input;
use crate::dump_format::{Event, Header, ParseError, Parser};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::progress::Progress;
use ashlardb::KEYSPACE_NAME_MAX;
use std::io::BufRead;

/// What a checked input holds of one database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Section {
    pub(super) entries: u64,
    /// Whether each key is above the one before.
    pub(super) ascending: bool,
}

/// Reads an input to its end and checks all of it.
pub(super) fn whole(mut parser: Parser<impl BufRead>, input: &Input, mut checker: Checker, out: &Output) -> Result<Vec<Section>> {
    let failed = |error| Error::input(input.name(), error, "nothing was applied".into());
    let mut progress = Progress::new(out, "checking", None);
    let mut sections: Vec<Section> = Vec::new();
    let mut last_key: Vec<u8> = Vec::new();
    while let Some((event, line)) = parser.next_event().map_err(failed)? {
        checker.check(&event).map_err(|what| failed(fault(line, what)))?;
        match (&event, sections.last_mut()) {
            (Event::Begin(_), _) => sections.push(Section { entries: 0, ascending: true }),
            (Event::Entry { key, .. }, Some(section)) => {
                section.ascending &= section.entries == 0 || *key > &last_key[..];
                section.entries += 1;
                last_key.clear();
                last_key.extend_from_slice(key);
            }
            (Event::Entry { .. }, None) | (Event::End, _) => {}
        }
        progress.add(1);
    }
    Ok(sections)
}

/// The error of an event at `line` that can't be loaded.
pub(super) fn fault(line: u64, what: String) -> ParseError {
    ParseError::Malformed { line, column: 1, what }
}

/// Checks events in their order.
#[derive(Clone)]
pub(super) struct Checker {
    key_len_max: usize,
    /// Everything goes to one keyspace that was named.
    one_only: bool,
    databases: usize,
}

impl Checker {
    pub(super) fn new(key_len_max: usize, one_only: bool) -> Checker {
        Checker { key_len_max, one_only, databases: 0 }
    }

    /// An error says what can't be loaded.
    pub(super) fn check(&mut self, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Begin(header) => self.begin(header),
            Event::Entry { key, .. } if key.len() > self.key_len_max => {
                let (len, max) = (key.len(), self.key_len_max);
                Err(format!("the key has {len} bytes, at most {max} are possible with this database's page size"))
            }
            Event::Entry { .. } | Event::End => Ok(()),
        }
    }

    fn begin(&mut self, header: &Header) -> Result<(), String> {
        self.databases += 1;
        if self.one_only {
            return if self.databases == 1 {
                Ok(())
            } else {
                Err("the dump holds more than one database, but -k names one keyspace: leave -k out".into())
            };
        }
        let Some(bytes) = &header.database else { return Ok(()) };
        let reason = match std::str::from_utf8(bytes) {
            Err(_) => "it is no UTF-8",
            Ok("") => "it is empty",
            Ok(name) if name.len() > KEYSPACE_NAME_MAX => "it is longer than 255 bytes",
            Ok(name) if name.chars().any(char::is_control) => "it holds a control character",
            Ok(_) => return Ok(()),
        };
        Err(format!("database \"{}\" has no possible name for a keyspace ({reason}): name one with -k", bytes.escape_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(checker: &mut Checker, name: &[u8]) -> Result<(), String> {
        let mut header = Header::default();
        header.database = Some(name.to_vec());
        checker.check(&Event::Begin(&header))
    }

    #[test]
    fn names_must_be_possible_unless_one_is_given() {
        let mut any = Checker::new(100, false);
        assert_eq!(begin(&mut any, "größe".as_bytes()), Ok(()));
        for (name, part) in [(&b""[..], "empty"), (b"\xff", "UTF-8"), (b"a\nb", "control"), (&[b'x'; 256], "longer than 255")] {
            assert!(begin(&mut any, name).unwrap_err().contains(part));
        }
        let mut one = Checker::new(100, true);
        assert_eq!(begin(&mut one, b""), Ok(()));
        assert!(begin(&mut one, b"b").unwrap_err().contains("leave -k out"));
    }

    #[test]
    fn keys_must_fit() {
        let mut checker = Checker::new(3, false);
        assert_eq!(checker.check(&Event::Entry { key: b"abc", value: &[0; 1000] }), Ok(()));
        assert!(checker.check(&Event::Entry { key: b"abcd", value: b"" }).unwrap_err().contains("at most 3"));
    }
}
