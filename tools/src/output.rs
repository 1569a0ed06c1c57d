//! Stdout: buffered, and never a panic.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, StdoutLock, Write};

/// Where results go, in words or as JSON.
pub(crate) struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Output {
    /// On stdout.
    pub(crate) fn new(json: bool) -> Output {
        Output { stdout: BufWriter::with_capacity(64 << 10, std::io::stdout().lock()), json }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person is likely to read it.
    pub(crate) fn is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<()> {
        writeln!(self.stdout, "{text}").map_err(failed)
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdout.write_all(bytes).map_err(failed)
    }

    /// An object on a line.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.stdout, object).map_err(|e| failed(e.into()))?;
        self.bytes(b"\n")
    }

    /// Hands on what is buffered.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stdout.flush().map_err(failed)
    }

    /// The stream itself, for those who format by themselves; [`failed`] makes its errors ours.
    pub(crate) fn stream(&mut self) -> &mut impl Write {
        &mut self.stdout
    }
}

/// An error of stdout.
pub(crate) fn failed(error: std::io::Error) -> Error {
    Error::file("writing", "stdout", error)
}

/// Something for people on stderr, which is never a reason to fail.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "ashlar: {text}");
}
