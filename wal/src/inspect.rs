//! The log as a tool looks at it: flush by flush, as far as recovery would follow it.

use crate::reader::{Follow, LogStart, Source};
use crate::tail::LogEnd;
use crate::{Lsn, Result, WalOptions};
use ashlar_disk::Fs;
use std::path::Path;
use std::sync::Arc;

/// A flush as a tool shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlushInfo {
    /// Where it begins.
    pub lsn: Lsn,
    /// Header and records in bytes, without the padding.
    pub length: u32,
    /// Where the next one begins.
    pub end: Lsn,
    /// Which opening of the database wrote it.
    pub incarnation: u32,
    /// Up to where the log was durable when it was written.
    pub durable: Lsn,
    /// Where the first record that begins in it begins.
    pub first_record: Option<Lsn>,
}

/// The flushes of a log, for looking at: [`inspect`]. After an error it ends.
pub struct Inspection {
    follow: Follow,
    block: u64,
    over: bool,
}

/// Looks at the log from `start.c` on, flush by flush. Writes nothing; needs no recovery before.
///
/// # Errors
/// Options that can't work, or a start that isn't the start of a block. What is wrong further on comes from the iterator, after all
/// flushes before it.
pub fn inspect(fs: &Arc<dyn Fs>, dir: &Path, options: &WalOptions, start: &LogStart) -> Result<Inspection> {
    let follow = Follow::new(&Source::new(fs, dir, options), start)?;
    let block = follow.window.geometry().block;
    Ok(Inspection { follow, block, over: false })
}

impl Inspection {
    /// Where the next flush begins or would begin, and, once the iterator has ended without an error, why it doesn't.
    pub fn end(&self) -> (Lsn, Option<LogEnd>) {
        (self.follow.next, self.follow.ended)
    }
}

impl Iterator for Inspection {
    type Item = Result<FlushInfo>;

    fn next(&mut self) -> Option<Result<FlushInfo>> {
        if self.over {
            return None;
        }
        let found = self.follow.next_flush().transpose();
        self.over = !matches!(found, Some(Ok(_)));
        Some(found?.map(|flush| FlushInfo {
            lsn: flush.lsn,
            length: flush.length,
            end: flush.end(self.block),
            incarnation: flush.incarnation,
            durable: flush.durable,
            first_record: flush.first_record_at(),
        }))
    }
}
