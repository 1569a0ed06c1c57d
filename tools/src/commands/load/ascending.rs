//! The entries of one database as the iterator that a bulk load takes.

use super::run::{LoadError, Source};
use crate::dump_format::Event;
use std::io::BufRead;

/// Gives the entries up to the end of the database.
pub(super) struct Ascending<'a, R> {
    source: &'a mut Source<R>,
}

impl<'a, R: BufRead> Ascending<'a, R> {
    /// Of the database that has just begun.
    pub(super) fn new(source: &'a mut Source<R>) -> Ascending<'a, R> {
        Ascending { source }
    }
}

impl<R: BufRead> Iterator for Ascending<'_, R> {
    type Item = Result<(Vec<u8>, Vec<u8>), LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.source.next_event() {
            Ok(Some(Event::Entry { key, value })) => Some(Ok((key.to_vec(), value.to_vec()))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
