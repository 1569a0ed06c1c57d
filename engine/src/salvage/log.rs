//! The log: what its whole records say, as far as it may be applied.
//!
//! 1. Over a checkpoint, records beyond its last commit are applied up to the first gap that can hide one of them, and none behind
//!    it: what results is a state that was there, with each transaction whole. The caller may ask for those behind gaps as well.
//! 2. Without a checkpoint the leaves are of different ages, and there is no such state to keep: all records count, and each is applied
//!    where it is newer than the leaf in which its key falls.
//! 3. What a record says of a tree is only kept: of the operations on a key the last one is what counts, since each says all that the key
//!    holds afterwards. They are sorted by tree and key.
//!
//! Where the log is as recovery wants it, it is read to the end that recovery would find, and nothing is reported.

use super::geometry::Geometry;
use super::pages::Blocks;
use super::report::{Finding, FindingKind, SuperblockState, Teller};
use super::sorter::{Item, Scratch, Sorter};
use crate::bulk::Placed;
use crate::commit::record::{self, Operation};
use crate::error::Result;
use crate::recovery::{log_start, wal_options};
use crate::stranded::StrandedWrite;
use ashlar_bufferpool::{BlockPtr, PageId};
use ashlar_disk::{Fs, IoMode};
use ashlar_wal::{LogStart, Lsn, Piece, SurveyOptions};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

/// When an operation was made: the LSN of its commit, its place in it, and which incarnation wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Moment {
    pub(super) lsn: u64,
    pub(super) index: u64,
    pub(super) incarnation: u32,
}

/// A removal of a range of keys.
#[derive(Clone, Debug)]
pub(super) struct RangeRemoved {
    pub(super) moment: Moment,
    pub(super) from: Bound<Vec<u8>>,
    pub(super) to: Bound<Vec<u8>>,
}

/// A keyspace that comes, goes, or gets another tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Whole {
    Created {
        tree: u64,
        name: String,
    },
    Dropped {
        tree: u64,
        name: String,
    },
    /// `is_empty`: the new tree is; else it was bulk-loaded.
    Exchanged {
        tree: u64,
        new_tree: u64,
        is_empty: bool,
        name: String,
    },
}

/// What the log says.
#[derive(Debug)]
pub(super) struct Logged {
    /// Puts and deletes; number: the tree, order: LSN, place in the commit, incarnation, payload: the operation as a record of its own.
    pub(super) points: Sorter,
    pub(super) ranges: BTreeMap<u64, Vec<RangeRemoved>>,
    /// In the order of the log.
    pub(super) whole: Vec<(Moment, Whole)>,
    /// Pages and runs that records name.
    pub(super) placed: BTreeMap<PageId, BlockPtr>,
    /// Pages of bulk loads.
    pub(super) loaded: Vec<Placed>,
    /// Where incarnations began to write.
    pub(super) turns: BTreeMap<u32, u64>,
    /// The log was read as recovery would.
    pub(super) is_sound: bool,
}

/// How the log is to be read.
pub(super) struct Reading {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    pub(super) mode: IoMode,
    /// Over the checkpoint of the superblock, or over leaves of different ages.
    pub(super) over_checkpoint: bool,
    pub(super) past_gaps: bool,
}

impl Reading {
    /// Reads the log, and tells of what is wrong with it.
    pub(super) fn read(
        &self,
        geometry: &Geometry,
        blocks: &Blocks,
        scratch: &Scratch,
        teller: &mut Teller<'_>,
    ) -> Result<Logged> {
        let mut logged = Logged {
            points: scratch.sorter("log"),
            ranges: BTreeMap::new(),
            whole: Vec::new(),
            placed: BTreeMap::new(),
            loaded: Vec::new(),
            turns: BTreeMap::new(),
            is_sound: false,
        };
        let Some(options) = self.options(geometry, blocks, teller) else { return Ok(logged) };
        let start = self.start(geometry);
        let sound_end = match start.map(|start| self.sound_end(geometry, &start)) {
            Some(Ok(end)) => Some(end),
            Some(Err(e)) => {
                self.find(teller, e);
                None
            }
            None => None,
        };
        logged.is_sound = sound_end.is_some();
        let options = SurveyOptions { from: start.map(|start| start.c), ..options };
        let pieces = match ashlar_wal::survey(&self.fs, &self.dir, &options) {
            Ok(pieces) => pieces,
            Err(e) => {
                self.find(teller, format!("the log can't be read at all: {e}"));
                return Ok(logged);
            }
        };
        let mut follow = Follow { logged, last_commit: start.map_or(0, |start| start.durable.0), is_over: false, unread: None };
        for piece in pieces {
            let ended = sound_end.zip(position(&piece)).is_some_and(|(end, at)| at >= end);
            if ended {
                break;
            }
            self.take(piece, &mut follow, sound_end.is_some(), teller)?;
        }
        Ok(follow.logged)
    }

    /// How to look through the log; `None`: there is nothing to look through, and that was told.
    fn options(&self, geometry: &Geometry, blocks: &Blocks, teller: &mut Teller<'_>) -> Option<SurveyOptions> {
        let any = SurveyOptions {
            segment_size: 0,
            block: blocks.block,
            uuid_tag: 0,
            mode: self.mode,
            from: None,
            incarnation_min: 0,
            incarnation_max: u32::MAX,
        };
        if let Some(superblock) = &geometry.superblock {
            let uuid_tag = wal_options(superblock, self.mode, 0).uuid_tag();
            let options = SurveyOptions { segment_size: superblock.segment_size, uuid_tag, ..any };
            return Some(match self.over_checkpoint {
                true => SurveyOptions { incarnation_min: superblock.incarnation_at_replay, ..options },
                false => options,
            });
        }
        match ashlar_wal::log_traits(&self.fs, &self.dir, self.mode) {
            Ok(Some(traits)) => Some(SurveyOptions { segment_size: traits.segment_size, uuid_tag: traits.uuid_tag, ..any }),
            Ok(None) => {
                self.find(teller, "no segment of it holds anything whole".into());
                None
            }
            Err(e) => {
                self.find(teller, format!("it can't be read at all: {e}"));
                None
            }
        }
    }

    /// Where to start over a checkpoint.
    fn start(&self, geometry: &Geometry) -> Option<LogStart> {
        let superblock = geometry.superblock.as_ref().filter(|_| self.over_checkpoint)?;
        // A superblock that is lost may have been of a higher incarnation.
        let newest_incarnation = match geometry.state {
            SuperblockState::Known => superblock.incarnation,
            _ => u32::MAX,
        };
        Some(LogStart { newest_incarnation, ..log_start(superblock) })
    }

    /// Where recovery finds the log's end, if the log is as it wants it.
    fn sound_end(&self, geometry: &Geometry, start: &LogStart) -> std::result::Result<Lsn, String> {
        let Some(superblock) = &geometry.superblock else { return Err("there is no superblock".into()) };
        let options = wal_options(superblock, self.mode, 64 << 20);
        let scan = ashlar_wal::read_log(&self.fs, &self.dir, &options, start).map_err(|e| e.to_string())?;
        Ok(scan.tail().end)
    }

    /// Whether the log is as recovery wants it, from the checkpoint of the superblock on.
    pub(super) fn is_sound(&self, geometry: &Geometry) -> bool {
        self.start(geometry).is_some_and(|start| self.sound_end(geometry, &start).is_ok())
    }

    fn find(&self, teller: &mut Teller<'_>, what: String) {
        teller.find(Finding { file: Some(self.dir.clone()), ..Finding::new(FindingKind::Log, what) });
    }

    fn take(&self, piece: Piece, follow: &mut Follow, is_sound: bool, teller: &mut Teller<'_>) -> Result<()> {
        match piece {
            Piece::Turn { incarnation, at } => {
                follow.logged.turns.insert(incarnation, at.0);
            }
            Piece::Unreadable { path, part } => {
                let bytes = part.bytes;
                // Windows overlap: one stretch is told once.
                if follow.unread.as_ref().is_none_or(|(known, end)| *known != path || *end < bytes.end) {
                    let what = format!("bytes {} to {} can't be read: {}", bytes.start, bytes.end, part.why);
                    teller.find(Finding { file: Some(path.clone()), ..Finding::new(FindingKind::Unreadable, what) });
                    follow.unread = Some((path, bytes.end));
                }
            }
            Piece::Gap { from, to: Some(to), what } => {
                // What lies before the checkpoint's last commit is in the checkpoint.
                if self.over_checkpoint && to.0 <= follow.last_commit {
                    return Ok(());
                }
                teller.report.log.gaps += 1;
                let rest = match self.over_checkpoint && !self.past_gaps {
                    true => "commits behind it are not applied",
                    false => "commits within it are missing",
                };
                self.find(teller, format!("a gap from LSN {from} to {to} ({what}): {rest}"));
                follow.is_over |= self.over_checkpoint && !self.past_gaps;
            }
            Piece::Gap { from, to: None, what } if self.over_checkpoint && !is_sound => {
                self.find(teller, format!("it ends at LSN {from}: {what}"));
            }
            Piece::Gap { .. } => {}
            Piece::Record { record, incarnation } => self.take_record(&record.body, record.lsn.0, incarnation, follow, teller)?,
        }
        Ok(())
    }

    fn take_record(&self, body: &[u8], lsn: u64, incarnation: u32, follow: &mut Follow, teller: &mut Teller<'_>) -> Result<()> {
        if lsn <= follow.last_commit {
            return Ok(());
        }
        if follow.is_over {
            teller.report.log.left_out += 1;
            return Ok(());
        }
        let operations = match record::read(body, lsn) {
            Ok(operations) => operations,
            Err(e) => {
                self.find(teller, e.to_string());
                follow.is_over |= self.over_checkpoint && !self.past_gaps;
                return Ok(());
            }
        };
        for (index, operation) in operations.into_iter().enumerate() {
            follow.logged.add(Moment { lsn, index: index as u64, incarnation }, operation)?;
        }
        teller.report.log.applied += 1;
        teller.report.log.last = Some(lsn);
        Ok(())
    }
}

/// Where a piece stands, as far as that decides whether it lies beyond the log's end.
fn position(piece: &Piece) -> Option<Lsn> {
    match piece {
        Piece::Turn { at, .. } => Some(*at),
        Piece::Gap { from, .. } => Some(*from),
        Piece::Record { record, .. } => Some(record.start),
        Piece::Unreadable { .. } => None,
    }
}

/// What has been read so far.
struct Follow {
    logged: Logged,
    /// LSN of the checkpoint's last commit; 0 without one.
    last_commit: u64,
    /// A gap has ended what is applied.
    is_over: bool,
    /// The file, and the end, of what could not be read last.
    unread: Option<(PathBuf, u64)>,
}

impl Logged {
    fn add(&mut self, moment: Moment, operation: Operation<'_>) -> Result<()> {
        let whole = match operation {
            Operation::CreateKeyspace { tree, name } => Whole::Created { tree: tree.0, name: name.to_owned() },
            Operation::DropKeyspace { tree, name } => Whole::Dropped { tree: tree.0, name: name.to_owned() },
            Operation::ClearKeyspace { tree, new_tree, name } => {
                Whole::Exchanged { tree: tree.0, new_tree: new_tree.0, is_empty: true, name: name.to_owned() }
            }
            Operation::BulkLoad { tree, new_tree, name, placed, .. } => {
                self.placed.extend(placed.iter().copied());
                self.loaded.extend(placed);
                Whole::Exchanged { tree: tree.0, new_tree: new_tree.0, is_empty: false, name: name.to_owned() }
            }
            Operation::DeleteRange { tree, from, to } => {
                let own = |bound: Bound<&[u8]>| bound.map(<[u8]>::to_vec);
                self.ranges.entry(tree.0).or_default().push(RangeRemoved { moment, from: own(from), to: own(to) });
                return Ok(());
            }
            Operation::Put { .. } | Operation::PutBlob { .. } | Operation::Delete { .. } => {
                return self.add_point(moment, &operation);
            }
        };
        self.whole.push((moment, whole));
        Ok(())
    }

    /// Adds a write that the catalog has.
    pub(super) fn add_stranded(&mut self, write: &StrandedWrite) -> Result<()> {
        let moment = Moment { lsn: write.lsn, ..Moment::default() };
        record::read(&write.record, write.lsn)?.iter().try_for_each(|operation| self.add_point(moment, operation))
    }

    fn add_point(&mut self, moment: Moment, operation: &Operation<'_>) -> Result<()> {
        if let Operation::PutBlob { blob, .. } = operation {
            self.placed.extend(blob.runs.iter().map(|run| (run.page, run.at)));
        }
        let Some((tree, key)) = operation.point() else { return Ok(()) };
        let order = [moment.lsn, moment.index, u64::from(moment.incarnation)];
        self.points.push(Item { number: tree.0, key: key.to_vec(), order, payload: record::single(operation) })
    }
}
