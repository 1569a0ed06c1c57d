//! Verifying a whole tree: every page, fence, key and cell.
//!
//! The caller keeps writers out, or must expect pages that a writer changes meanwhile to be reported. Each page is copied and
//! examined in private memory; one page a level is kept at a time. The children of a page are asked for many at once.

use super::Tree;
use super::access::{Access, Plain};
use super::build::common_len;
use super::error::{Corrupt, TreeError};
use super::layout::{DEAD_AT, HEAD_LEN};
use super::node::{Fault, Node};
use ashlar_bufferpool::{LoadError, PageId, PageStore, Pool};
use std::error::Error;

/// Children that are asked for at once.
const READ_AHEAD: usize = 32;

/// Something that [`Tree::check`] has come upon.
#[derive(Debug)]
pub enum Finding<'a, E: Error + 'static> {
    /// A page of the tree, reported before what is in it. A page that is reported twice has two parents.
    Page {
        /// Its id.
        page: PageId,
        /// 0 for a leaf.
        level: u8,
        /// Entries of a leaf, children of an inner page.
        count: usize,
        /// Bytes of slots, cells and fences.
        used: usize,
    },
    /// An entry of a leaf.
    Entry {
        /// The leaf.
        page: PageId,
        /// The key.
        key: &'a [u8],
        /// The value's kind.
        kind: u8,
        /// The value.
        value: &'a [u8],
    },
    /// A page is wrong. What is below it is not examined, as far as it can't be found.
    Corrupt(Corrupt),
    /// A page, and so what is below it, could not be read.
    Unreadable {
        /// The page.
        page: PageId,
        /// Why.
        error: &'a LoadError<E>,
    },
}

/// What a parent says about a child.
#[derive(Clone, Copy)]
struct Expected<'a> {
    page: PageId,
    /// `None` for the root, whose level nobody else knows.
    level: Option<u8>,
    lower: &'a [u8],
    upper: Option<&'a [u8]>,
}

impl Tree {
    /// Examines all pages and reports what it finds, pages in the order of a walk from the root, keys in order.
    ///
    /// # Errors
    /// [`TreeError::Reserve`] only: everything else is a finding.
    pub fn check<S: PageStore>(
        &self,
        pool: &Pool<S>,
        report: &mut dyn FnMut(Finding<'_, S::Error>),
    ) -> Result<(), TreeError<S::Error>> {
        let root = Expected { page: self.root, level: None, lower: &[], upper: None };
        self.check_page(pool, root, report)
    }

    fn check_page<S: PageStore>(
        &self,
        pool: &Pool<S>,
        expected: Expected<'_>,
        report: &mut dyn FnMut(Finding<'_, S::Error>),
    ) -> Result<(), TreeError<S::Error>> {
        let page = expected.page;
        let bytes = match copy_page(pool, page) {
            Ok(bytes) => bytes,
            Err(error) => {
                report(Finding::Unreadable { page, error: &error });
                return Ok(());
            }
        };
        let node = match Node::open(Plain(&bytes), self.id) {
            Ok(node) => node,
            Err(what) => {
                report(Finding::Corrupt(Corrupt { page, what }));
                return Ok(());
            }
        };
        report(Finding::Page { page, level: node.level(), count: node.count(), used: node.used() });
        if let Err(what) = check_node(&node, &expected) {
            report(Finding::Corrupt(Corrupt { page, what }));
            return Ok(());
        }
        if node.is_leaf() {
            report_entries(page, &node, report);
            return Ok(());
        }
        self.check_children(pool, &node, report)
    }

    fn check_children<S: PageStore>(
        &self,
        pool: &Pool<S>,
        node: &Node<Plain<'_>>,
        report: &mut dyn FnMut(Finding<'_, S::Error>),
    ) -> Result<(), TreeError<S::Error>> {
        let (mut lower, mut upper) = (node.lower_fence().to_vec(), Vec::new());
        for index in 0..node.count() {
            if index.is_multiple_of(READ_AHEAD) {
                let next: Vec<PageId> = (index..node.count().min(index + READ_AHEAD)).map(|i| node.child(i)).collect();
                pool.prefetch(&next);
            }
            let last = index + 1 == node.count();
            if !last && node.key_into(index + 1, &mut upper).is_err() {
                // Found wrong, and reported, before.
                break;
            }
            let upper_fence = if last { node.upper_fence() } else { Some(&upper[..]) };
            let child = Expected { page: node.child(index), level: Some(node.level() - 1), lower: &lower, upper: upper_fence };
            self.check_page(pool, child, report)?;
            std::mem::swap(&mut lower, &mut upper);
        }
        Ok(())
    }
}

fn copy_page<S: PageStore>(pool: &Pool<S>, page: PageId) -> Result<Vec<u8>, LoadError<S::Error>> {
    loop {
        let _hold = pool.load(page)?;
        if let Ok(guard) = pool.shared(page) {
            return Ok(guard.bytes().to_vec());
        }
    }
}

fn report_entries<E: Error>(page: PageId, node: &Node<Plain<'_>>, report: &mut dyn FnMut(Finding<'_, E>)) {
    let mut key = Vec::new();
    for index in 0..node.count() {
        if let (Ok(()), Ok((kind, value))) = (node.key_into(index, &mut key), node.value(index)) {
            report(Finding::Entry { page, key: &key, kind, value });
        }
    }
}

/// Everything that can be said about a page from what its parent says and what is in it.
fn check_node(node: &Node<Plain<'_>>, expected: &Expected<'_>) -> Result<(), Fault> {
    if expected.level.is_some_and(|level| level != node.level()) {
        return Err("the page's level is not one below its parent's");
    }
    if node.lower_fence() != expected.lower || node.upper_fence() != expected.upper {
        return Err("the page's fences are not the separators beside it in its parent");
    }
    check_alone(node)
}

/// Everything that can be said about a page from what is in it.
pub(crate) fn check_alone(node: &Node<Plain<'_>>) -> Result<(), Fault> {
    if node.upper_fence().is_some_and(|upper| node.lower_fence() >= upper) {
        return Err("the page's lower fence is not below its upper one");
    }
    let common = node.upper_fence().map_or(node.lower_len(), |upper| common_len(node.lower_fence(), upper));
    if node.prefix_len() > common {
        return Err("the page's prefix is longer than what its fences have in common");
    }
    check_cells(node)?;
    check_keys(node)
}

/// Cells lie in the heap, don't overlap, and leave as many dead bytes as the header says.
fn check_cells(node: &Node<Plain<'_>>) -> Result<(), Fault> {
    let mut cells = Vec::with_capacity(node.count());
    for index in 0..node.count() {
        cells.push((node.slot(index).offset(), node.cell(index)?.len()));
    }
    cells.sort_unstable();
    if cells.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
        return Err("two cells overlap");
    }
    let live: usize = cells.iter().map(|cell| cell.1).sum();
    if live + usize::from(node.page().u16(DEAD_AT)) != node.heap_end() - node.heap_start() {
        return Err("the page's dead bytes are not those that its cells leave");
    }
    Ok(())
}

/// Keys ascend, lie between the fences, and their slots say what they are.
fn check_keys(node: &Node<Plain<'_>>) -> Result<(), Fault> {
    let (mut key, mut below) = (Vec::new(), Vec::new());
    for index in 0..node.count() {
        let slot = node.slot(index);
        let padding = HEAD_LEN.saturating_sub(slot.suffix_len());
        if padding > 0 && u64::from(slot.head()).trailing_zeros() < 8 * padding as u32 && slot.head() != 0 {
            return Err("a short key's head is not padded with zeros");
        }
        if index == 0 && !node.is_leaf() {
            if slot.suffix_len() > 0 {
                return Err("an inner page's first child has a separator of its own");
            }
            continue;
        }
        node.key_into(index, &mut key)?;
        if !node.covers(&key) {
            return Err("a key is not between the page's fences");
        }
        let first = index == usize::from(!node.is_leaf());
        if !first && below >= key || first && !node.is_leaf() && node.lower_fence() >= &key[..] {
            return Err("the page's keys are not in order");
        }
        std::mem::swap(&mut key, &mut below);
    }
    Ok(())
}

impl<E: Error> Finding<'_, E> {
    /// Whether this is something wrong.
    pub fn is_fault(&self) -> bool {
        matches!(self, Finding::Corrupt(_) | Finding::Unreadable { .. })
    }
}
