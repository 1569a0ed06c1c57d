//! A file on which calls fail.

use super::{Call, Failure, Plan, Script};
use ashlar_disk::words::Words;
use ashlar_disk::{Alignment, Durability, File, Op, Result, SyncKind};
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct FailingFile {
    pub(super) inner: Arc<dyn File>,
    pub(super) script: Arc<Script>,
}

/// About the first half of a transfer's memory, in blocks.
fn half<'a>(parts: &[&'a Words]) -> Vec<&'a Words> {
    const BLOCK: usize = 4096 / 8;
    let blocks: usize = parts.iter().map(|words| words.len() / BLOCK).sum();
    let mut left = blocks / 2;
    let mut out = Vec::new();
    for words in parts {
        let take = left.min(words.len() / BLOCK);
        if take > 0 {
            out.push(&words[..take * BLOCK]);
            left -= take;
        }
    }
    out
}

fn len_of(parts: &[&Words]) -> u64 {
    parts.iter().map(|words| size_of_val(*words) as u64).sum()
}

impl FailingFile {
    fn call<T>(&self, call: Call, op: Op, real: impl FnOnce() -> Result<T>) -> Result<T> {
        self.script.call(call, op, self.inner.path(), real)
    }

    /// A transfer that fails: half of it is moved, or all, or nothing.
    fn fail(&self, plan: Plan, op: Op, offset: u64, parts: &[&Words], real: impl FnOnce(&[&Words]) -> Result<()>) -> Result<()> {
        let moved = match (plan.failure, plan.with_effect) {
            (Failure::Short, _) => half(parts),
            (_, true) => parts.to_vec(),
            (_, false) => Vec::new(),
        };
        if !moved.is_empty() {
            drop(real(&moved));
        }
        Err(plan.failure.error(op, self.inner.path(), Some((offset, len_of(parts)))))
    }
}

impl File for FailingFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn len(&self) -> Result<u64> {
        self.call(Call::Len, Op::Stat, || self.inner.len())
    }
    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        match self.script.count(Call::Read, self.inner.path()) {
            None => self.inner.read(offset, into),
            Some(plan) => self.fail(plan, Op::Read, offset, into, |parts| self.inner.read(offset, parts)),
        }
    }
    fn write(&self, offset: u64, from: &[&Words], durability: Durability) -> Result<()> {
        let call = match durability {
            Durability::Later => Call::Write,
            Durability::Now => Call::WriteDurably,
        };
        match self.script.count(call, self.inner.path()) {
            None => self.inner.write(offset, from, durability),
            // What has been written is not durable.
            Some(plan) => self.fail(plan, Op::Write, offset, from, |parts| self.inner.write(offset, parts, Durability::Later)),
        }
    }
    fn sync(&self, kind: SyncKind) -> Result<()> {
        let call = match kind {
            SyncKind::Data => Call::SyncData,
            SyncKind::All => Call::SyncAll,
        };
        self.call(call, Op::SyncFile, || self.inner.sync(kind))
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.call(Call::Allocate, Op::Allocate, || self.inner.allocate(offset, len))
    }
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        // The engine makes no holes: a call that comes one day is to be counted, and to be in the work.
        unreachable!("a hole of {len} bytes at {offset}")
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.call(Call::SetLen, Op::SetLength, || self.inner.set_len(len))
    }
    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }
    fn resident_pages(&self) -> Result<Option<u64>> {
        self.inner.resident_pages()
    }
    fn drop_cache(&self) -> Result<()> {
        self.inner.drop_cache()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self.inner.as_any()
    }
}
