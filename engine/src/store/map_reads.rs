//! Reading the nodes of the page map: many reads in flight, and nodes that stand side by side with one transfer.
//!
//! 1. Each node is checked by itself, and handed over in the order asked for; memory is bounded by [`BYTES_AT_ONCE`], whatever the
//!    length of a level.
//! 2. Where a transfer of several nodes fails, each of them is read again by itself, so that an error is that of its node.

use super::StoreParts;
use super::page_header::{self, PageKind};
use crate::error::{Corruption, Error, Result};
use ashlar_bufferpool::BlockPtr;
use ashlar_disk::sync::Mutex;
use ashlar_disk::{AlignedBuf, Buffer, Completed, Transfer, TransferOp};
use std::sync::Arc;

/// Bytes of nodes that are read before the first of them is handed over, at most.
const BYTES_AT_ONCE: usize = 8 << 20;

/// Bytes that are read with one transfer, at most.
const MERGED_MAX: usize = 256 << 10;

/// A node: its index within the level, and where it stands.
pub(super) type Node = (usize, BlockPtr);

/// A node's image, if its bytes could be read.
type Image = Result<AlignedBuf>;

/// Reads the nodes of one level and hands each one's checked image to `found`. What is wrong with one goes to `complain`; where that
/// gives no error, the node is left out.
pub(super) fn read_nodes(
    parts: &StoreParts,
    total: u64,
    level: usize,
    nodes: &[Node],
    complain: &mut dyn FnMut(Error) -> Result<()>,
    found: &mut dyn FnMut(Node, &[u8]),
) -> Result<()> {
    for some in nodes.chunks((BYTES_AT_ONCE / parts.page_size).max(1)) {
        let images = read_some(parts, total, level, some);
        for (&node, image) in some.iter().zip(images) {
            match image.and_then(|image| check(parts, level, node, &image).map(|()| image)) {
                Ok(image) => found(node, &image),
                Err(e) => complain(e)?,
            }
        }
    }
    Ok(())
}

/// The bytes of each of these nodes, in their order.
fn read_some(parts: &StoreParts, total: u64, level: usize, nodes: &[Node]) -> Vec<Image> {
    if let [node] = nodes {
        return vec![read_alone(parts, total, level, *node)];
    }
    // Filled by completions, in whichever order they come.
    let images: Arc<Mutex<Vec<Option<AlignedBuf>>>> = Arc::new(Mutex::new(nodes.iter().map(|_| None).collect()));
    let runs = runs(parts, total, nodes);
    let left = Arc::new(Mutex::new(runs.len()));
    let transfers = runs.into_iter().map(|run| {
        let buffers = run.iter().map(|&i| Buffer::Heap(AlignedBuf::zeroed(len_of(parts, nodes[i].1)))).collect();
        let offset = run.first().map_or(0, |&i| nodes[i].1.address() * parts.block.bytes() as u64);
        let (images, left) = (images.clone(), left.clone());
        let done = move |completed: Completed| {
            if completed.result.is_ok() {
                let mut images = images.lock();
                for (i, buffer) in run.into_iter().zip(completed.buffers) {
                    if let Buffer::Heap(buffer) = buffer {
                        images[i] = Some(buffer);
                    }
                }
            }
            *left.lock() -= 1;
        };
        Transfer { file: parts.file.clone(), op: TransferOp::Read, offset, buffers, done: Box::new(done) }
    });
    parts.queue.submit(transfers.collect());
    parts.queue.wait(&|| *left.lock() == 0);
    let images = std::mem::take(&mut *images.lock());
    let images = images.into_iter().zip(nodes);
    // Those that no transfer has brought, by themselves (2).
    images.map(|(image, node)| image.map_or_else(|| read_alone(parts, total, level, *node), Ok)).collect()
}

/// The indices of nodes by where they stand, those side by side together. What can't be a node is left out.
fn runs(parts: &StoreParts, total: u64, nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..nodes.len()).filter(|&i| fits(parts, total, nodes[i].1)).collect();
    order.sort_by_key(|&i| nodes[i].1.address());
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let (mut end, mut bytes) = (0, 0);
    for i in order {
        let (at, len) = (nodes[i].1, len_of(parts, nodes[i].1));
        match runs.last_mut() {
            Some(run) if at.address() == end && bytes + len <= MERGED_MAX => {
                run.push(i);
                bytes += len;
            }
            _ => {
                runs.push(vec![i]);
                bytes = len;
            }
        }
        end = at.address() + u64::from(at.blocks());
    }
    runs
}

fn read_alone(parts: &StoreParts, total: u64, level: usize, node: Node) -> Image {
    let at = node.1;
    if !fits(parts, total, at) {
        let what = format!("{} blocks are more than a page, or lie beyond the file's end ({total} blocks)", at.blocks());
        return Err(damaged(parts, level, node, what));
    }
    let mut image = AlignedBuf::zeroed(len_of(parts, at));
    parts.file.read(at.address() * parts.block.bytes() as u64, &[image.words_mut()])?;
    Ok(image)
}

fn len_of(parts: &StoreParts, at: BlockPtr) -> usize {
    at.blocks() as usize * parts.block.bytes()
}

fn fits(parts: &StoreParts, total: u64, at: BlockPtr) -> bool {
    len_of(parts, at) <= parts.page_size && at.address() + u64::from(at.blocks()) <= total
}

fn check(parts: &StoreParts, level: usize, node: Node, image: &[u8]) -> Result<()> {
    let checked = page_header::check_image(image, Some(node.0 as u64), node.1, parts.fault);
    checked.map_err(|fault| damaged(parts, level, node, fault.to_string()))?;
    let right = image[page_header::KIND] == PageKind::Map.code() && usize::from(image[page_header::LEVEL]) == level;
    match right {
        true => Ok(()),
        false => Err(damaged(parts, level, node, "a page of another kind or level stands there".into())),
    }
}

fn damaged(parts: &StoreParts, level: usize, (index, at): Node, what: String) -> Error {
    Corruption {
        place: format!("{}, block {}, page-map node {index} of level {level}", parts.file.path().display(), at.address()),
        page: None,
        block: Some(at.address()),
        tree: None,
        what,
    }
    .into()
}
