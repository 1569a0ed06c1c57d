//! Overflow pages: pieces of a value too long to stand in a leaf and short enough to travel in the log.
//!
//! Behind the common header: piece number (4 bytes at 48), bytes in this page (4 bytes at 52), the bytes from 56 on.
//!
//! Invariants:
//! 1. The pages of a value are written once, by the commit that brings it, and never changed; they are discarded by the commit
//!    that replaces it.
//! 2. Every page bears that commit's LSN, and so does the cell that names them. A reader holds no latch between leaf and pages:
//!    a page with another LSN, kind or number has been discarded and used again since, and the reader starts over at the leaf.

use super::cell::OverflowRef;
use crate::btree::TreeId;
use crate::error;
use crate::pages::{self, EnginePool};
use crate::store::page_header::{self, PAGE_HEADER_LEN, PageKind};
use ashlar_bufferpool::{Miss, PageId, PageMut};

const PIECE_NUMBER: usize = PAGE_HEADER_LEN;
const PIECE_LEN: usize = PAGE_HEADER_LEN + 4;
const PIECE: usize = PAGE_HEADER_LEN + 8;

/// Bytes of a value that a page holds.
pub(crate) fn piece_len_max(page_size: usize) -> usize {
    page_size - PIECE
}

/// Pages that a value of this length takes.
pub(crate) fn pages_for(len: usize, page_size: usize) -> usize {
    len.div_ceil(piece_len_max(page_size))
}

/// Writes a value to new pages. Under the apply lock.
pub(crate) fn write(pool: &EnginePool, tree: TreeId, lsn: u64, value: &[u8]) -> error::Result<OverflowRef> {
    let page_size = pool.page_size();
    let mut page_ids = Vec::with_capacity(pages_for(value.len(), page_size));
    for (number, piece) in value.chunks(piece_len_max(page_size)).enumerate() {
        let mut frames = pages::reserve(pool, 1)?;
        let mut page = pool.create(&mut frames);
        let id = page.page();
        fill(&mut page, id, tree, lsn, number, piece);
        page_ids.push(id);
    }
    Ok(OverflowRef { len: value.len() as u64, lsn, pages: page_ids })
}

/// Makes a page the piece of that number.
pub(crate) fn fill(page: &mut PageMut, id: PageId, tree: TreeId, lsn: u64, number: usize, piece: &[u8]) {
    let mut head = [0; PIECE];
    page_header::format_header(&mut head, PageKind::Overflow, 0, id.0, tree.0);
    page_header::put_u64(&mut head, page_header::COMMIT_LSN, lsn);
    page_header::put_u32(&mut head, page_header::LOWER, (PIECE + piece.len()) as u32);
    page_header::put_u32(&mut head, page_header::UPPER, page.len() as u32);
    page_header::put_u32(&mut head, PIECE_NUMBER, number as u32);
    page_header::put_u32(&mut head, PIECE_LEN, piece.len() as u32);
    page.copy_from(0, &head);
    page.copy_from(PIECE, piece);
}

/// Reads a value, its pages in flight together in a sliding window. `None`: its pages are no longer what the cell says, the value was
/// replaced meanwhile.
pub(crate) fn read(pool: &EnginePool, overflow: &OverflowRef) -> error::Result<Option<Vec<u8>>> {
    let mut out = Vec::with_capacity(usize::try_from(overflow.len).unwrap_or(0));
    // Where there is but one, whoever waits for it reads it.
    let ahead = if overflow.pages.len() > 1 && pool.may_miss() { pages::ahead_max(pool) } else { 0 };
    let mut asked = 0;
    for (number, &page) in overflow.pages.iter().enumerate() {
        let end = overflow.pages.len().min(number + ahead);
        if ahead > 0 && asked < end && asked <= number + ahead / 2 {
            pool.prefetch(&overflow.pages[asked..end]);
            asked = end;
        }
        if !read_piece(pool, page, number, overflow.lsn, &mut out)? {
            return Ok(None);
        }
    }
    Ok((out.len() as u64 == overflow.len).then_some(out))
}

/// Appends one page's piece; false where the page is another one by now.
fn read_piece(pool: &EnginePool, page: PageId, number: usize, lsn: u64, out: &mut Vec<u8>) -> error::Result<bool> {
    let mut _hold = None;
    loop {
        match pool.shared(page) {
            Ok(guard) => return Ok(copy_piece(guard.bytes(), number, lsn, out)),
            Err(Miss::NotAllocated(_)) => return Ok(false),
            Err(Miss::NotResident(_)) => match pages::load(pool, page)? {
                Some(hold) => _hold = Some(hold),
                None => return Ok(false),
            },
        }
    }
}

/// The piece in a page that is to be the one of that number of a list, every field of it checked; or what is wrong.
pub(crate) fn check_piece<'a>(bytes: &'a [u8], tree: TreeId, list: &OverflowRef, number: usize) -> Result<&'a [u8], String> {
    let max = piece_len_max(bytes.len());
    let len = (list.len as usize).saturating_sub(number * max).min(max);
    let fields = [
        ("kind", u64::from(bytes[page_header::KIND]), u64::from(PageKind::Overflow.code())),
        ("tree", page_header::get_u64(bytes, page_header::TREE_ID), tree.0),
        ("LSN", page_header::get_u64(bytes, page_header::COMMIT_LSN), list.lsn),
        ("piece", u64::from(page_header::get_u32(bytes, PIECE_NUMBER)), number as u64),
        ("length", u64::from(page_header::get_u32(bytes, PIECE_LEN)), len as u64),
        ("lower", u64::from(page_header::get_u32(bytes, page_header::LOWER)), (PIECE + len) as u64),
    ];
    match fields.iter().find(|(_, found, expected)| found != expected) {
        Some((field, found, expected)) => Err(format!("{field} {found}, expected {expected}")),
        None => Ok(&bytes[PIECE..PIECE + len]),
    }
}

fn copy_piece(bytes: &[u8], number: usize, lsn: u64, out: &mut Vec<u8>) -> bool {
    let same = bytes[page_header::KIND] == PageKind::Overflow.code()
        && page_header::get_u64(bytes, page_header::COMMIT_LSN) == lsn
        && page_header::get_u32(bytes, PIECE_NUMBER) as usize == number;
    let len = page_header::get_u32(bytes, PIECE_LEN) as usize;
    match bytes.get(PIECE..).and_then(|b| b.get(..len)) {
        Some(piece) if same => {
            out.extend_from_slice(piece);
            true
        }
        _ => false,
    }
}
