//! What a file holds at one moment, and the changes that make it hold something else.
//!
//! 1. Content is sparse and shared: a chunk that was never written, or written full of zeros, costs nothing; a copy of a
//!    content shares its chunks.
//! 2. No byte past the length is ever read; a chunk may lie there while a length is on its way to the disk.

use super::copy::hash_chunk;
use super::ranges::Ranges;
use crate::words::{self, Words};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The unit in which content is kept: the smallest block, so that transfers move whole chunks.
pub(super) const CHUNK: usize = crate::BLOCK_SIZE_MIN;

/// What a device writes whole or not at all.
pub(super) const SECTOR: usize = 512;

const _: () = assert!(CHUNK.is_multiple_of(SECTOR), "a chunk is torn between sectors");

/// The bytes of one chunk; `None` is all zeros.
pub(super) type Chunk = Option<Arc<[u8; CHUNK]>>;

/// A change of a file. Offsets are in bytes, chunks are numbered from the file's start.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Data, from chunk `first` on. Does not change the length.
    Write { first: u64, chunks: Vec<Chunk> },
    /// The length becomes `to` if it is less.
    Grow { to: u64 },
    /// Room for the chunks, and the length becomes `grow_to` if it is less.
    Allocate { first: u64, end: u64, grow_to: u64 },
    /// The length becomes `to` if it is more; what lay behind is gone.
    Cut { to: u64 },
    /// The bytes read zero; whole chunks give back their room.
    Punch { start: u64, end: u64 },
}

impl Change {
    /// Whether it is the file system's and not the data's: such changes reach the disk in their order.
    pub(super) fn is_metadata(&self) -> bool {
        !matches!(self, Change::Write { .. })
    }

    /// Whether bytes vanish by it.
    pub(super) fn takes_away(&self) -> bool {
        matches!(self, Change::Cut { .. } | Change::Punch { .. })
    }
}

/// What a file holds.
#[derive(Clone, Default, Debug)]
pub(super) struct Content {
    pub(super) len: u64,
    chunks: BTreeMap<u64, Arc<[u8; CHUNK]>>,
    pub(super) allocated: Ranges,
}

impl Content {
    /// The chunk of that number.
    pub(super) fn chunk(&self, number: u64) -> Chunk {
        self.chunks.get(&number).cloned()
    }

    /// `count` chunks from `first` on.
    pub(super) fn chunks(&self, first: u64, count: u64) -> Vec<Chunk> {
        (first..first + count).map(|n| self.chunk(n)).collect()
    }

    /// Flips bits of a byte of a chunk.
    pub(super) fn flip(&mut self, number: u64, at: usize, mask: u8) {
        Arc::make_mut(self.chunks.entry(number).or_insert_with(|| Arc::new([0; CHUNK])))[at] ^= mask;
    }

    /// Gives all that is in it, as words.
    pub(super) fn hash_into(&self, add: &mut impl FnMut(u64)) {
        add(self.len);
        add(self.allocated.total());
        for (&number, bytes) in &self.chunks {
            hash_chunk(number, &Some(bytes.clone()), add);
        }
    }

    /// Makes a change.
    pub(super) fn apply(&mut self, change: &Change) {
        match *change {
            Change::Write { first, ref chunks } => self.write(first, chunks),
            Change::Grow { to } => self.len = self.len.max(to),
            Change::Allocate { first, end, grow_to } => {
                self.allocated.insert(first, end);
                self.len = self.len.max(grow_to);
            }
            Change::Cut { to } if to < self.len => {
                self.zero(to, u64::MAX);
                self.len = to;
            }
            Change::Cut { .. } => {}
            Change::Punch { start, end } => self.zero(start, end),
        }
    }

    /// Takes away what lies past the length.
    pub(super) fn forget_past_the_end(&mut self) {
        self.zero(self.len, u64::MAX);
    }

    fn write(&mut self, first: u64, chunks: &[Chunk]) {
        for (number, chunk) in (first..).zip(chunks) {
            match chunk {
                Some(bytes) => self.chunks.insert(number, bytes.clone()),
                None => self.chunks.remove(&number),
            };
        }
        self.allocated.insert(first, first + chunks.len() as u64);
    }

    /// Zeros `start..end`; the chunks wholly within lose their room.
    fn zero(&mut self, start: u64, end: u64) {
        let chunk = CHUNK as u64;
        let (first_whole, end_whole) = (start.div_ceil(chunk), end / chunk);
        if first_whole > end_whole {
            return self.zero_within(first_whole - 1, start % chunk, end % chunk);
        }
        self.zero_within(first_whole.wrapping_sub(1), if start.is_multiple_of(chunk) { chunk } else { start % chunk }, chunk);
        self.zero_within(end_whole, 0, end % chunk);
        let mut behind = self.chunks.split_off(&first_whole);
        self.chunks.append(&mut behind.split_off(&end_whole));
        self.allocated.remove(first_whole, end_whole);
    }

    /// Zeros bytes `start..end` of one chunk.
    fn zero_within(&mut self, number: u64, start: u64, end: u64) {
        if start < end
            && let Some(bytes) = self.chunks.get_mut(&number)
        {
            Arc::make_mut(bytes)[start as usize..end as usize].fill(0);
        }
    }
}

/// The chunks that the memory of a transfer holds.
pub(super) fn chunks_of(buffers: &[&Words]) -> Vec<Chunk> {
    let parts = buffers.iter().flat_map(|words| words.chunks_exact(CHUNK / 8));
    parts
        .map(|part| {
            let mut bytes = Arc::new([0; CHUNK]);
            words::copy_out(part, 0, &mut Arc::make_mut(&mut bytes)[..]);
            (*bytes != [0; CHUNK]).then_some(bytes)
        })
        .collect()
}

/// Copies chunks into the memory of a transfer, which is as long.
pub(super) fn copy_to(chunks: &[Chunk], buffers: &[&Words]) {
    let parts = buffers.iter().flat_map(|words| words.chunks_exact(CHUNK / 8));
    for (part, chunk) in parts.zip(chunks) {
        match chunk {
            Some(bytes) => words::copy_in(part, 0, &bytes[..]),
            None => words::copy_in(part, 0, &[0; CHUNK]),
        }
    }
}

/// `new` where `sector_is_new` says so, numbering sectors from the first chunk's start; else `old`.
pub(super) fn mix(old: &[Chunk], new: &[Chunk], mut sector_is_new: impl FnMut(usize) -> bool) -> Vec<Chunk> {
    let sectors = CHUNK / SECTOR;
    let pairs = old.iter().zip(new).enumerate();
    pairs
        .map(|(i, (old, new))| {
            let mut bytes = old.as_deref().copied().unwrap_or([0; CHUNK]);
            for s in (0..sectors).filter(|s| sector_is_new(i * sectors + s)) {
                let range = s * SECTOR..(s + 1) * SECTOR;
                let source = new.as_deref().unwrap_or(&[0; CHUNK]);
                bytes[range.clone()].copy_from_slice(&source[range]);
            }
            (bytes != [0; CHUNK]).then(|| Arc::new(bytes))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::simulation::rng::Rng;

    fn filled(byte: u8) -> Chunk {
        (byte != 0).then(|| Arc::new([byte; CHUNK]))
    }

    fn bytes(content: &Content) -> Vec<u8> {
        let count = content.len.div_ceil(CHUNK as u64);
        let chunks = content.chunks(0, count);
        let mut bytes: Vec<u8> = chunks.iter().flat_map(|c| c.as_deref().copied().unwrap_or([0; CHUNK])).collect();
        bytes.truncate(content.len as usize);
        bytes
    }

    #[test]
    fn changes_do_what_they_would_to_an_array() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed, 0);
            let mut content = Content::default();
            let mut model: Vec<u8> = Vec::new();
            for step in 1..30u8 {
                let (a, b) = (rng.below(6 * CHUNK) as u64, rng.below(3 * CHUNK) as u64);
                let first = a / CHUNK as u64;
                let change = match rng.below(4) {
                    0 => {
                        let end = (first as usize + 1) * CHUNK;
                        content.apply(&Change::Grow { to: end as u64 });
                        model.resize(model.len().max(end), 0);
                        model[end - CHUNK..end].fill(step % 3);
                        Change::Write { first, chunks: vec![filled(step % 3)] }
                    }
                    1 => {
                        model.resize(model.len().max(a as usize), 0);
                        Change::Grow { to: a }
                    }
                    2 => {
                        model.truncate(a as usize);
                        Change::Cut { to: a }
                    }
                    _ => {
                        let end = model.len().min((a + b) as usize);
                        model[(a as usize).min(end)..end].fill(0);
                        Change::Punch { start: a, end: a + b }
                    }
                };
                content.apply(&change);
                assert!(bytes(&content) == model, "seed {seed}, step {step}, after {:?} {a} {b}", rng);
            }
        }
    }

    #[test]
    fn a_mix_takes_whole_sectors() {
        let mixed = mix(&[filled(1), None], &[filled(2), filled(3)], |s| s % 2 == 1);
        let first = mixed[0].as_ref().expect("not zero");
        let second = mixed[1].as_ref().expect("not zero");
        assert!(first.chunks(SECTOR).enumerate().all(|(s, b)| b == [if s % 2 == 1 { 2 } else { 1 }; SECTOR]));
        assert!(second.chunks(SECTOR).enumerate().all(|(s, b)| b == [if s % 2 == 1 { 3 } else { 0 }; SECTOR]));
    }
}
