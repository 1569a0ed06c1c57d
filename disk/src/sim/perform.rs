//! What a transfer does when it completes, and what faults make of it.

use super::content::{CHUNK, Change, Chunk, mix};
use super::disk::State;
use super::faults::eio;
use super::kinds::FaultKind;
use super::transfer::{InFlight, Work};
use crate::{Durability, Error, Op, Result};
use std::sync::Arc;

/// How far a transfer has come.
pub(super) enum Progress {
    /// To its end; the chunks of a read.
    Ended(Result<Vec<Chunk>>),
    /// Some blocks have been moved; the rest is still to be.
    Short,
}

impl State {
    /// Does what a transfer is to do, now: all that is left of it, or a part of that.
    pub(super) fn perform(&mut self, transfer: &mut InFlight) -> Progress {
        let Some((first, end)) = transfer.rest() else {
            return Progress::Ended(self.sync(transfer).map(|()| Vec::new()));
        };
        if let Err(error) = self.check_end(transfer) {
            return Progress::Ended(Err(error));
        }
        let offset = Some(first * CHUNK as u64);
        let mut part = end - first;
        if part > 1 && self.faults.strikes(FaultKind::ShortTransfer, transfer.work.op(), &transfer.path, offset) {
            part = 1 + self.faults.rng.below(part as usize - 1) as u64;
        }
        let moved = match transfer.work {
            Work::Write { durability, .. } => self.write(transfer, first, part, durability == Durability::Now),
            _ => self.read(transfer, first, part),
        };
        match moved {
            Err(error) => Progress::Ended(Err(error)),
            Ok(mut chunks) => {
                transfer.moved += part;
                transfer.read.append(&mut chunks);
                if first + part < end { Progress::Short } else { Progress::Ended(Ok(std::mem::take(&mut transfer.read))) }
            }
        }
    }

    /// An error for a read past the end.
    fn check_end(&mut self, transfer: &InFlight) -> Result<()> {
        let Work::Read { first, count } = transfer.work else { return Ok(()) };
        let (offset, wanted) = (first * CHUNK as u64, count * CHUNK as u64);
        let end = self.inode(transfer.inode).live.len;
        if offset + wanted > end {
            return Err(Error::Short { path: transfer.path.to_path_buf(), offset, wanted, end });
        }
        Ok(())
    }

    fn read(&mut self, transfer: &InFlight, first: u64, count: u64) -> Result<Vec<Chunk>> {
        let (path, offset) = (&transfer.path, Some(first * CHUNK as u64));
        if self.faults.strikes(FaultKind::ReadError, Op::Read, path, offset) {
            return Err(eio(Op::Read, path, offset));
        }
        let mut chunks = self.inode(transfer.inode).live.chunks(first, count);
        self.mix_with_writes_in_flight(transfer.inode, first, &mut chunks);
        if self.faults.strikes(FaultKind::BadSector, Op::Read, path, offset) {
            let nth = self.faults.rng.below(count as usize) as u64;
            self.inode(transfer.inode).bad.insert(first + nth);
        }
        if let Some(&bad) = self.inode(transfer.inode).bad.range(first..first + count).next() {
            return Err(eio(Op::Read, path, Some(bad * CHUNK as u64)));
        }
        if self.faults.strikes(FaultKind::BitFlip, Op::Read, path, offset) {
            self.flip_a_bit(transfer.inode, first, &mut chunks);
        }
        Ok(chunks)
    }

    /// Flips a bit of what is read, and half of the time of what is stored as well.
    fn flip_a_bit(&mut self, inode: u64, first: u64, chunks: &mut [Chunk]) {
        let rng = &mut self.faults.rng;
        let (nth, at, mask, stays) = (rng.below(chunks.len()), rng.below(CHUNK), 1u8 << rng.below(8), rng.chance(128));
        if stays {
            self.inode(inode).flip(first + nth as u64, at, mask);
        }
        let mut bytes = chunks[nth].as_deref().copied().unwrap_or([0; CHUNK]);
        bytes[at] ^= mask;
        chunks[nth] = Some(Arc::new(bytes));
    }

    fn write(&mut self, transfer: &InFlight, first: u64, count: u64, certain: bool) -> Result<Vec<Chunk>> {
        let (path, inode, end) = (transfer.path.clone(), transfer.inode, first + count);
        let (offset, op) = (Some(first * CHUNK as u64), Op::Write);
        let has_room = self.inode(inode).live.allocated.covered(first, end) == count;
        if !has_room && self.faults.strikes(FaultKind::NoSpace, op, &path, offset) {
            return Err(Error::NoSpace { op, path: path.to_path_buf() });
        }
        self.check_room(op, &path, inode, first, end)?;
        let mut chunks = transfer.data();
        chunks.drain(..transfer.moved as usize);
        chunks.truncate(count as usize);
        let number = self.next_change();
        if self.faults.strikes(FaultKind::WriteError, op, &path, offset) {
            let left = self.faults.rng.below(chunks.len() + 1);
            chunks.truncate(left);
            if left > 0 {
                self.inode(inode).write(number, first, chunks, false);
            }
            return Err(eio(op, &path, offset));
        }
        let is_lost = self.faults.strikes(FaultKind::LostWrite, op, &path, offset);
        if is_lost || self.faults.strikes(FaultKind::MisdirectedWrite, op, &path, offset) {
            // The file system has done its part.
            let len = end * CHUNK as u64;
            self.inode(inode).change(number, Change::Allocate { first, end, grow_to: len }, false);
            let places = self.inode(inode).live.len / CHUNK as u64 - count;
            let elsewhere = self.faults.rng.below(places as usize + 1) as u64;
            if !is_lost && elsewhere != first {
                let number = self.next_change();
                self.inode(inode).write(number, elsewhere, chunks, certain);
            }
            return Ok(Vec::new());
        }
        self.inode(inode).write(number, first, chunks, certain);
        Ok(Vec::new())
    }

    fn sync(&mut self, transfer: &InFlight) -> Result<()> {
        let Work::Sync { kind, until } = transfer.work else { return Ok(()) };
        if self.faults.strikes(FaultKind::SyncError, Op::SyncFile, &transfer.path, None) {
            let mut rng = self.faults.rng.clone();
            self.inode(transfer.inode).fail_sync(until, &mut rng);
            self.faults.rng = rng;
            return Err(eio(Op::SyncFile, &transfer.path, None));
        }
        self.inode(transfer.inode).sync(kind, until);
        Ok(())
    }

    /// A read beside a write of the same place may find any of its sectors written.
    fn mix_with_writes_in_flight(&mut self, inode: u64, first: u64, chunks: &mut [Chunk]) {
        let end = first + chunks.len() as u64;
        for write in self.in_flight.iter().filter(|t| t.inode == inode) {
            let (Work::Write { .. }, Some((write_first, write_end))) = (&write.work, write.rest()) else { continue };
            let (from, to) = (first.max(write_first), end.min(write_end));
            if from >= to {
                continue;
            }
            let data = &write.data()[write.moved as usize..];
            let new = &data[(from - write_first) as usize..(to - write_first) as usize];
            let old = &mut chunks[(from - first) as usize..(to - first) as usize];
            let mixed = mix(old, new, |_| self.rng.chance(128));
            old.clone_from_slice(&mixed);
        }
    }
}
