//! Why a command ends without its result, as one sentence with a remedy.

use crate::dump_format::ParseError;
use std::path::{Path, PathBuf};

/// The result of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// How a command that could run has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It is done; the answer is yes.
    Done,
    /// The answer is no: a key is absent, damage was found.
    No,
}

/// Why a command could not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Of the engine.
    #[error("{}", engine_text(.0))]
    Engine(#[from] ashlardb::Error),
    /// Of the disk, where a command looks at files itself.
    #[error("{}", by_option(&.0.to_string()))]
    Disk(#[from] ashlar_disk::Error),
    /// Of the log, likewise.
    #[error(transparent)]
    Wal(#[from] ashlar_wal::Error),
    /// A file or stream that a command was told to read or write.
    #[error("{what} {path}: {source}")]
    File {
        /// What was being done, as "reading" or "writing".
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Input that can't be loaded.
    #[error("{input}: {error}; {applied}")]
    Input {
        /// Where it comes from.
        input: String,
        /// Where and why.
        error: Box<dyn std::error::Error + Send + Sync>,
        /// What has been done before.
        applied: String,
    },
    /// Arguments that don't fit each other or the database.
    #[error("{0}")]
    Usage(String),
    /// A read gave something else than was written: the one thing that must not be.
    #[error("{0}")]
    Wrong(String),
    /// A thread of this program has panicked: its fault.
    #[error(transparent)]
    Panicked(#[from] ashlar_disk::sync::Panicked),
    /// Whoever reads stdout has gone: not worth a word.
    #[error("nobody reads the output")]
    Pipe,
}

impl Error {
    /// The exit status that it makes.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Error::Wrong(_) => 1,
            _ => 2,
        }
    }

    /// An error of a file that was to be read or written; of stdout, quietly, if nobody reads it.
    pub(crate) fn file(what: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Error {
        match source.kind() {
            std::io::ErrorKind::BrokenPipe => Error::Pipe,
            _ => Error::File { what, path: path.as_ref().to_owned(), source },
        }
    }

    /// Of input that can't be parsed.
    pub(crate) fn input(input: &str, error: ParseError, applied: String) -> Error {
        Error::Input { input: input.to_owned(), error: error.into(), applied }
    }
}

/// The engine's words, with this program's options in place of the library's where it names one.
fn engine_text(error: &ashlardb::Error) -> String {
    match error {
        ashlardb::Error::CacheTooSmall { needed } => {
            let mib = needed.div_ceil(1 << 20);
            format!("the cache is too small: this needs {mib} MiB; pass --cache-mb {mib}")
        }
        other => by_option(&other.to_string()),
    }
}

fn by_option(text: &str) -> String {
    text.replace("IoMode::Buffered", "--buffered").replace("set allow_network_fs", "pass --allow-network-fs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_options_of_this_program() {
        let too_small = Error::from(ashlardb::Error::CacheTooSmall { needed: (3 << 20) + 1 });
        assert_eq!(too_small.to_string(), "the cache is too small: this needs 4 MiB; pass --cache-mb 4");
        let alignment = ashlardb::Error::Alignment { path: "data".into(), needed: 8192, block: 4096 };
        assert!(Error::from(alignment).to_string().ends_with("open it with --buffered"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_of_a_file() {
        let source = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(matches!(Error::file("writing", "stdout", source), Error::Pipe));
        assert_eq!(Error::Wrong("x".into()).status(), 1);
        assert_eq!(Error::Usage("x".into()).status(), 2);
    }
}
