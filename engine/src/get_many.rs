//! Many point reads with their misses in flight together.

use crate::btree::{Stop, Tree};
use crate::database::Shared;
use crate::error::Result;
use crate::read::View;
use crate::value::Value;
use std::borrow::Borrow;
use std::collections::VecDeque;

/// Keys whose pages are being read at once, at most.
const WINDOW: usize = 64;

/// Reads `keys` under a view, and gives of each what it holds and the LSN of its leaf: a sliding window of look-ups, each of which asks for the page that it misses and is tried again when
/// the oldest one's page has come. Waiting for the oldest only, never for all: what is read behind it goes on meanwhile.
pub(crate) fn get_many<K: AsRef<[u8]>, H: Borrow<Shared>>(
    view: &View<H>,
    tree: Tree,
    keys: &[K],
) -> Result<Vec<(Option<Value>, u64)>> {
    let mut reads = Reads { view, tree, keys, out: Vec::new(), waiting: VecDeque::new() };
    reads.out.resize_with(keys.len(), || (None, 0));
    for index in 0..keys.len() {
        if !reads.is_missing(index) {
            reads.read(index)?;
            continue;
        }
        reads.waiting.push_back(index);
        if reads.waiting.len() == WINDOW {
            reads.finish_oldest()?;
        }
    }
    while !reads.waiting.is_empty() {
        reads.finish_oldest()?;
    }
    Ok(reads.out)
}

struct Reads<'a, K, H: Borrow<Shared>> {
    view: &'a View<H>,
    tree: Tree,
    keys: &'a [K],
    out: Vec<(Option<Value>, u64)>,
    /// Those whose pages are on their way.
    waiting: VecDeque<usize>,
}

impl<K: AsRef<[u8]>, H: Borrow<Shared>> Reads<'_, K, H> {
    fn read(&mut self, index: usize) -> Result<()> {
        self.out[index] = self.view.get(self.tree, self.keys[index].as_ref(), Value::copy_of)?;
        Ok(())
    }

    /// Completes the oldest look-up, then advances those behind it: one whose inner page has come asks for the next.
    fn finish_oldest(&mut self) -> Result<()> {
        if let Some(oldest) = self.waiting.pop_front() {
            self.read(oldest)?;
        }
        for _ in 0..self.waiting.len() {
            let Some(index) = self.waiting.pop_front() else { break };
            if self.is_missing(index) {
                self.waiting.push_back(index);
            } else {
                self.read(index)?;
            }
        }
        Ok(())
    }

    /// Whether the key's way is not yet in memory; the page that is missing has been asked for.
    fn is_missing(&self, index: usize) -> bool {
        let pool = self.view.pool();
        match self.tree.get(pool, self.keys[index].as_ref(), |_| ()) {
            Err(Stop::Missing(page)) => {
                pool.prefetch(&[page]);
                true
            }
            _ => false,
        }
    }
}
