//! `wal`: one logical, redo-only log. It appends records, makes them durable in groups, reads them back, and finds where the log
//! ends after a crash.
//!
//! It knows records as opaque bytes, and nothing of keys, transactions or pages. It never tries again what failed: the first
//! error of a write or a sync is final, and opening the log again finds out what is really there.
//!
//! ```text
//!            segment 7                      segment 8                     segment 9
//!  ├──────────────────────────────┼──────────────────────────────┼────────────────────────── ─ ─
//!  │ flush  │ flush │  flush      │ flush │  leftovers, or zeros │ made before segment 8 got
//!  │h r1 r2 │h r3 ··│h··r3 r4 ····│h··r4  │                      │ its first flush
//!  └──────────────────────────────┴───────▲──────────────────────┴────────────────────────── ─ ─
//!                                         └ the next flush begins here, on a fresh block
//! ```
//!
//! An [`Lsn`] is a byte position in an endless log, so a record is found by arithmetic. A record is there when its last byte is;
//! its LSN is the position after it.
//!
//! What holds (other modules and tests cite these numbers):
//! 1. A block that was confirmed is never written again in the life of its segment: each flush begins on a fresh block.
//! 2. A flush never crosses a segment; the next flush begins where this one, padded to whole blocks, ends. A record may span
//!    flushes and segments, but never a change of incarnation.
//! 3. Before a segment gets its first flush, the one after it exists at full length, and its name is durable.
//! 4. One flush is being written at a time, and its header tells what was confirmed before it.
//! 5. After a failed write or sync nothing is confirmed any more.
//!
//! ```
//! use ashlar_disk::Fs;
//! use ashlar_disk::sim::{Sim, SimOptions};
//! use ashlar_wal::{LogStart, Lsn, Wal, WalOptions, read_log, sync_log};
//! use std::{path::Path, sync::Arc};
//!
//! let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(1)).fs();
//! let (dir, options) = (Path::new("/wal"), WalOptions::new([7; 16]));
//! fs.create_dir(dir)?;
//! Wal::create_first_segment(&fs, dir, &options)?;
//!
//! // What the superblock says. The caller raises the incarnation there, durably, before it opens the log.
//! let start = LogStart { c: Lsn(0), incarnation_at_c: 0, newest_incarnation: 1, durable: Lsn(0) };
//! sync_log(&fs, dir, &options)?;
//! let scan = read_log(&fs, dir, &options, &start)?;
//! assert_eq!(scan.records()?.count(), 0);
//!
//! let wal = Wal::open(&fs, dir, options.clone(), scan.tail(), 1)?;
//! let room = wal.reserve(5)?; // may wait or fail: before anything is locked
//! let record = wal.append_with(room, b"hello".to_vec()); // memory only: under the commit lock
//! wal.flush_to(record.lsn)?; // durable when it returns
//!
//! let record = read_log(&fs, dir, &options, &start)?.records()?.next().transpose()?;
//! assert_eq!(record.map(|record| record.body), Some(b"hello".to_vec()));
//! # Ok::<(), ashlar_wal::Error>(())
//! ```
//!
//! Reading order: [`lsn`](Lsn), `format` (the bytes of a flush and of a record), `layout` (where a record goes), `segment` (the
//! files) and `pool` (which of them there are), `room`, `queue`, `image`, `writer`, `group` and `log` (the way out), `ahead`, `window`,
//! `record`, `tail`, `reader` and `inspect` (the way back in), `survey` (the way back in where the log is damaged).

mod ahead;
mod error;
mod format;
mod group;
mod image;
mod inspect;
mod layout;
mod log;
mod lsn;
mod options;
mod pool;
mod queue;
mod reader;
mod record;
mod room;
mod segment;
mod stats;
mod survey;
mod tail;
mod window;
mod writer;

pub use error::{Damage, Error, Result};
pub use format::FORMAT_VERSION;
pub use image::Body;
pub use inspect::{FlushInfo, Inspection, inspect};
pub use log::{Appended, Wal};
pub use lsn::Lsn;
pub use options::{Mistake, WalOptions};
pub use reader::{LogScan, LogStart, LogTail, Met, Records, Source, read_closed_log, read_log, read_log_until};
pub use record::{LentRecord, LogRecord};
pub use room::{Pressure, Room};
pub use segment::{holds_any_flush, remove_segments, sync_log};
pub use stats::WalStats;
pub use survey::{LogTraits, Piece, Survey, SurveyOptions, log_traits, survey};
pub use tail::LogEnd;
