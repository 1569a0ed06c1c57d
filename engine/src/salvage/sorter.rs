//! Sorting more than memory holds: sorted runs in a file of its own, merged when they are read.
//!
//! Items come out by number, then key, then order; which of two that are alike comes first is not said. The file is made when it is
//! needed, stands in the directory of the new database, and goes with the sorter.

use crate::error::{Corruption, Result};
use ashlar_disk::{Access, AlignedBuf, BlockSize, Create, Durability, File, Fs, IoMode, OpenHow};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of items that one sorter keeps in memory, about.
const MEMORY: usize = 32 << 20;

/// Bytes of a run that are read at once.
const WINDOW: usize = 64 << 10;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

/// Bytes of an item in a run before its key and payload.
const HEAD: usize = 40;

/// Something to be sorted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Item {
    /// Compared first.
    pub(super) number: u64,
    /// Then this, as bytes.
    pub(super) key: Vec<u8>,
    /// Then this.
    pub(super) order: [u64; 3],
    /// What it is about; compared last, so that the order is one.
    pub(super) payload: Vec<u8>,
}

impl Item {
    fn size(&self) -> usize {
        size_of::<Item>() + self.key.len() + self.payload.len()
    }
}

/// Where runs that don't fit in memory go.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    mode: IoMode,
    block: BlockSize,
    memory: usize,
}

impl Scratch {
    /// Files in `dir`.
    pub(super) fn new(fs: &Arc<dyn Fs>, dir: &Path, mode: IoMode, block: BlockSize) -> Scratch {
        Scratch { fs: fs.clone(), dir: dir.to_owned(), mode, block, memory: MEMORY }
    }

    /// The same, with so many bytes in memory: for tests.
    pub(super) fn memory(self, memory: Option<usize>) -> Scratch {
        Scratch { memory: memory.unwrap_or(self.memory), ..self }
    }

    /// A sorter whose file, if it needs one, has this name.
    pub(super) fn sorter(&self, name: &str) -> Sorter {
        let path = self.dir.join(format!("{name}.salvage.tmp"));
        Sorter {
            scratch: self.clone(),
            spill: Spill { fs: self.fs.clone(), path, file: None },
            runs: Vec::new(),
            items: Vec::new(),
            size: 0,
            count: 0,
        }
    }
}

/// The file of a sorter, removed with it.
#[derive(Debug)]
struct Spill {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    file: Option<Arc<dyn File>>,
}

impl Drop for Spill {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What can't be removed is left beside the database and harms nothing.
            let _ = self.fs.remove(&self.path);
        }
    }
}

/// Takes items in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    scratch: Scratch,
    spill: Spill,
    /// Where each run begins, in bytes, and how many items it has.
    runs: Vec<(u64, u64)>,
    items: Vec<Item>,
    size: usize,
    count: u64,
}

impl Sorter {
    /// Adds an item.
    pub(super) fn push(&mut self, item: Item) -> Result<()> {
        self.size += item.size();
        self.count += 1;
        self.items.push(item);
        if self.size >= self.scratch.memory { self.write_run() } else { Ok(()) }
    }

    fn write_run(&mut self) -> Result<()> {
        self.items.sort_unstable();
        let start = self.end()?;
        let (block, file) = (self.scratch.block, self.file()?);
        let mut out = Out { file: &*file, block, at: start, buf: AlignedBuf::zeroed(CHUNK), used: 0 };
        for item in &self.items {
            let mut head = [0; HEAD];
            for (i, number) in [item.number, item.order[0], item.order[1], item.order[2]].into_iter().enumerate() {
                head[8 * i..8 * i + 8].copy_from_slice(&number.to_le_bytes());
            }
            head[32..36].copy_from_slice(&(item.key.len() as u32).to_le_bytes());
            head[36..].copy_from_slice(&(item.payload.len() as u32).to_le_bytes());
            for part in [&head[..], &item.key, &item.payload] {
                out.write(part)?;
            }
        }
        out.flush()?;
        self.runs.push((start, self.items.len() as u64));
        self.items.clear();
        self.size = 0;
        Ok(())
    }

    fn end(&self) -> Result<u64> {
        Ok(self.spill.file.as_ref().map_or(Ok(0), |file| file.len())?)
    }

    fn file(&mut self) -> Result<Arc<dyn File>> {
        if let Some(file) = &self.spill.file {
            return Ok(file.clone());
        }
        let Scratch { fs, mode, block, .. } = &self.scratch;
        let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: *mode, block: *block };
        let file = fs.open(&self.spill.path, &how)?;
        self.spill.file = Some(file.clone());
        Ok(file)
    }

    /// All items, in order.
    pub(super) fn sorted(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            self.items.sort_unstable_by(|a, b| b.cmp(a));
            let next = self.items.pop();
            return Ok(Sorted {
                memory: self.items,
                runs: Vec::new(),
                heap: BinaryHeap::new(),
                next,
                count: self.count,
                taken: 0,
                _spill: self.spill,
            });
        }
        if !self.items.is_empty() {
            self.write_run()?;
        }
        let file = self.file()?;
        let block = self.scratch.block.bytes();
        let window = WINDOW.max(block);
        let mut runs: Vec<Run> = self
            .runs
            .iter()
            .map(|&(at, left)| Run { file: file.clone(), at, left, buf: AlignedBuf::zeroed(window), used: 0, filled: 0 })
            .collect();
        let mut heap = BinaryHeap::new();
        for (index, run) in runs.iter_mut().enumerate() {
            if let Some(item) = run.next()? {
                heap.push(Reverse((item, index)));
            }
        }
        let mut sorted = Sorted { memory: Vec::new(), runs, heap, next: None, count: self.count, taken: 0, _spill: self.spill };
        sorted.next = sorted.pull()?;
        Ok(sorted)
    }
}

/// Writes a run, chunk by chunk.
struct Out<'a> {
    file: &'a dyn File,
    block: BlockSize,
    at: u64,
    buf: AlignedBuf,
    used: usize,
}

impl Out<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(self.buf.len() - self.used);
            self.buf[self.used..self.used + n].copy_from_slice(&bytes[..n]);
            self.used += n;
            bytes = &bytes[n..];
            if self.used == self.buf.len() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let len = self.used.next_multiple_of(self.block.bytes());
        if len > 0 {
            self.buf[self.used..len].fill(0);
            self.file.allocate(self.at, len as u64)?;
            self.file.write(self.at, &[&self.buf.words_mut()[..len / 8]], Durability::Later)?;
        }
        self.at += len as u64;
        self.used = 0;
        Ok(())
    }
}

/// A run that is being read.
#[derive(Debug)]
struct Run {
    file: Arc<dyn File>,
    at: u64,
    left: u64,
    buf: AlignedBuf,
    used: usize,
    filled: usize,
}

impl Run {
    fn next(&mut self) -> Result<Option<Item>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut head = [0; HEAD];
        self.fill(&mut head)?;
        let number = |i: usize| head[8 * i..8 * i + 8].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        let len = |at: usize| head[at..at + 4].iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
        let (mut key, mut payload) = (vec![0; len(32)], vec![0; len(36)]);
        self.fill(&mut key)?;
        self.fill(&mut payload)?;
        Ok(Some(Item { number: number(0), key, order: [number(1), number(2), number(3)], payload }))
    }

    fn fill(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            if self.used == self.filled {
                let left = self.file.len()?.saturating_sub(self.at).min(self.buf.len() as u64) as usize;
                if left == 0 {
                    return Err(Corruption::record(self.at, "the file in which salvage sorts has been cut short").into());
                }
                self.file.read(self.at, &[&self.buf.words_mut()[..left / 8]])?;
                self.at += left as u64;
                (self.used, self.filled) = (0, left);
            }
            let n = out.len().min(self.filled - self.used);
            out[..n].copy_from_slice(&self.buf[self.used..self.used + n]);
            self.used += n;
            out = &mut out[n..];
        }
        Ok(())
    }
}

/// Gives items in order.
#[derive(Debug)]
pub(super) struct Sorted {
    /// What never left memory, last first.
    memory: Vec<Item>,
    runs: Vec<Run>,
    heap: BinaryHeap<Reverse<(Item, usize)>>,
    next: Option<Item>,
    count: u64,
    taken: u64,
    _spill: Spill,
}

impl Sorted {
    /// The item that comes next.
    pub(super) fn peek(&self) -> Option<&Item> {
        self.next.as_ref()
    }

    /// How many there were in all.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// How many have been taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next item.
    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        let after = self.pull()?;
        self.taken += u64::from(self.next.is_some());
        Ok(std::mem::replace(&mut self.next, after))
    }

    fn pull(&mut self) -> Result<Option<Item>> {
        if self.runs.is_empty() {
            return Ok(self.memory.pop());
        }
        let Some(Reverse((item, run))) = self.heap.pop() else { return Ok(None) };
        if let Some(next) = self.runs[run].next()? {
            self.heap.push(Reverse((next, run)));
        }
        Ok(Some(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::sim::{Sim, SimOptions};
    use rand::{Rng, RngExt, SeedableRng};

    #[test]
    fn items_come_in_order_whether_they_fit_in_memory_or_not() {
        let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(3)).fs();
        fs.create_dir(Path::new("/new")).unwrap();
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
        for (count, memory) in [(0, None), (1, Some(1)), (500, None), (500, Some(1)), (3000, Some(20_000)), (60, Some(300_000))] {
            let scratch = Scratch::new(&fs, Path::new("/new"), IoMode::Direct, BlockSize::MIN).memory(memory);
            let mut sorter = scratch.sorter("test");
            let mut all = Vec::new();
            for _ in 0..count {
                let mut bytes = |max: usize| {
                    let mut out = vec![0; random.random_range(0..max)];
                    random.fill_bytes(&mut out);
                    out
                };
                let (key, payload) = (bytes(5), bytes(if count == 60 { 200_000 } else { 200 }));
                let order = [random.random_range(0..2), random.random_range(0..u64::MAX), random.random()];
                let item = Item { number: random.random_range(0..4), key, order, payload };
                all.push(item.clone());
                sorter.push(item).unwrap();
            }
            all.sort();
            let mut sorted = sorter.sorted().unwrap();
            assert_eq!(sorted.len(), count);
            for item in &all {
                assert_eq!(sorted.peek(), Some(item));
                assert_eq!(sorted.next().unwrap().as_ref(), Some(item));
            }
            assert_eq!(sorted.next().unwrap(), None);
            let spilled = memory.is_some_and(|memory| count as usize > 0 && memory < 300_001);
            assert_eq!(fs.list(Path::new("/new")).unwrap().is_empty(), !spilled, "{count} {memory:?}");
            drop(sorted);
            assert!(fs.list(Path::new("/new")).unwrap().is_empty());
        }
    }
}
