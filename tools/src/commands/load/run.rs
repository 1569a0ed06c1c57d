//! Applying an input: database by database, each as one bulk load or in transactions.

use super::Args;
use super::apply::{Applied, Applier};
use super::ascending::Ascending;
use super::check::{Checker, Section, fault};
use super::input::Input;
use crate::cli::DEFAULT_KEYSPACE;
use crate::dump_format::{Event, Header, ParseError, Parser};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::progress::Progress;
use crate::units::counted;
use ashlardb::Database;
use std::io::BufRead;

/// Why applying stops.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The input can't be read on.
    Input(ParseError),
    /// The engine can't take it.
    Engine(ashlardb::Error),
}

impl From<ashlardb::Error> for LoadError {
    fn from(error: ashlardb::Error) -> LoadError {
        LoadError::Engine(error)
    }
}

/// The input as it is read to be applied.
pub(super) struct Source<R> {
    parser: Parser<R>,
    checker: Checker,
    progress: Progress,
}

impl<R: BufRead> Source<R> {
    /// What comes next, checked.
    pub(super) fn next_event(&mut self) -> Result<Option<Event<'_>>, LoadError> {
        self.progress.add(1);
        let Some((event, line)) = self.parser.next_event().map_err(LoadError::Input)? else { return Ok(None) };
        self.checker.check(&event).map_err(|what| LoadError::Input(fault(line, what)))?;
        Ok(Some(event))
    }
}

/// A load under way.
pub(super) struct Load<'a> {
    args: &'a Args,
    input: &'a Input,
    checker: Checker,
    db: &'a Database,
}

impl<'a> Load<'a> {
    pub(super) fn new(args: &'a Args, input: &'a Input, checker: Checker, db: &'a Database) -> Load<'a> {
        Load { args, input, checker, db }
    }

    /// Applies everything, durably; `contents` is what a check of the whole input has found. An error tells what stays.
    pub(super) fn run(self, contents: Option<&[Section]>, out: &Output) -> Result<Vec<Applied>> {
        let total = contents.map(|sections| sections.iter().map(|s| s.entries).sum());
        let mut source = Source {
            parser: self.args.parser(self.input.reader()?),
            checker: self.checker.clone(),
            progress: Progress::new(out, "loading", total),
        };
        let mut applier = Applier::new(self.db, self.args.no_overwrite);
        match self.apply(&mut source, contents.unwrap_or_default(), &mut applier) {
            Ok(()) => Ok(applier.into_applied()),
            Err(error) => Err(self.stopped(error, applier)),
        }
    }

    fn apply<R: BufRead>(
        &self,
        source: &mut Source<R>,
        contents: &[Section],
        applier: &mut Applier<'_>,
    ) -> Result<(), LoadError> {
        let mut sections = contents.iter();
        loop {
            match source.next_event()? {
                Some(Event::Begin(header)) => {
                    let empty = applier.begin(&self.keyspace_of(header))?;
                    if empty && sections.next().is_some_and(|section| section.ascending) {
                        applier.bulk_load(&mut Ascending::new(source))?;
                    }
                }
                Some(Event::Entry { key, value }) => applier.put(key, value)?,
                Some(Event::End) => {}
                None => return Ok(applier.finish()?),
            }
        }
    }

    fn keyspace_of(&self, header: &Header) -> String {
        match (&self.args.keyspace, &header.database) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => String::from_utf8_lossy(name).into_owned(),
            (None, None) => DEFAULT_KEYSPACE.to_owned(),
        }
    }

    /// What came before the error and is sound is kept, and counted.
    fn stopped(&self, error: LoadError, mut applier: Applier<'_>) -> Error {
        let kept = match &error {
            LoadError::Input(_) => applier.finish(),
            LoadError::Engine(_) => self.db.flush(),
        };
        let applied: u64 = applier.into_applied().iter().map(|a| a.loaded).sum();
        let mut stay = match applied {
            0 => "nothing was applied".to_owned(),
            n => format!("{} applied before and stay", counted(n, "entry was", "entries were")),
        };
        if let Err(flush) = kept {
            stay = format!("{stay}, though not all may be durable ({flush})");
        }
        let name = self.input.name();
        if matches!(error, LoadError::Engine(ashlardb::Error::TransactionTooLarge { .. })) {
            stay.push_str("; a pipe is loaded in transactions of limited size: cat it into this command");
        }
        match error {
            LoadError::Input(error) => Error::input(name, error, stay),
            LoadError::Engine(error) => Error::Input { input: name.into(), error: Box::new(Error::from(error)), applied: stay },
        }
    }
}
