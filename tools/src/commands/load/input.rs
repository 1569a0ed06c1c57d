//! Where a load reads from: a file, which can be read again, or a pipe, which can't.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The input of a load.
pub(super) struct Input {
    name: PathBuf,
    file: File,
    /// Where it begins, if it can be read again.
    start: Option<u64>,
}

impl Input {
    /// A file, or stdin.
    pub(super) fn open(path: Option<&Path>) -> Result<Input> {
        let name = path.unwrap_or(Path::new("stdin")).to_owned();
        let opened = match path {
            Some(path) => File::open(path),
            None => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        let failed = |e| Error::file("reading", &name, e);
        let mut file = opened.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let start = if metadata.is_file() { Some(file.stream_position().map_err(failed)?) } else { None };
        Ok(Input { name, file, start })
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        self.name.to_str().unwrap_or("the input")
    }

    /// Reads all of it, if it can be read once more afterwards.
    pub(super) fn again(&self) -> Result<Option<impl BufRead>> {
        if self.start.is_some() { self.reader().map(Some) } else { Ok(None) }
    }

    /// Reads all of it.
    pub(super) fn reader(&self) -> Result<impl BufRead> {
        let failed = |e| Error::file("reading", &self.name, e);
        let mut file = self.file.try_clone().map_err(failed)?;
        if let Some(start) = self.start {
            file.seek(SeekFrom::Start(start)).map_err(failed)?;
        }
        Ok(BufReader::with_capacity(256 << 10, file))
    }
}
