//! Values that do not stand in their leaf: overflow pages and runs of blobs.

use super::Walk;
use crate::blob;
use crate::btree::TreeId;
use crate::error::Error;
use crate::pages::EnginePool;
use crate::value::cell::{self, Cell, OverflowRef, StoredBlob};
use crate::value::overflow;
use ashlar_bufferpool::{LoadError, PageId};
use std::sync::Arc;

/// Overflow pages that are asked for at once.
const READ_AHEAD: usize = 32;

impl Walk<'_> {
    /// Checks what the cell of `key` in `leaf` names.
    pub(super) fn value(
        &mut self,
        pool: &EnginePool,
        (name, tree): (&Arc<str>, TreeId),
        leaf: PageId,
        key: &[u8],
        kind: u8,
        bytes: &[u8],
    ) {
        let wrong = |walk: &mut Self, what: &str| {
            walk.hidden = true;
            let what = format!("the value of key \"{}\" (kind {kind}): {what}", key.escape_ascii());
            walk.found_page(pool.store(), leaf, "page", Some(name), &what);
        };
        match Cell::decode(kind, bytes, overflow::piece_len_max(pool.page_size())) {
            Some(Cell::Overflow(list)) => drop(self.overflow(pool, (name, tree), key, &list)),
            Some(Cell::Blob(blob)) => self.blob(pool, name, key, &blob),
            Some(Cell::LongBlob(list)) => match self.overflow(pool, (name, tree), key, &list).as_deref().map(cell::decode_blob) {
                Some(Some(blob)) => self.blob(pool, name, key, &blob),
                Some(None) => wrong(self, "its list of runs does not decode"),
                // Its runs can't be told from pages that nothing refers to.
                None => self.hidden = true,
            },
            Some(Cell::Inline(_)) => {}
            None => wrong(self, "its cell does not decode"),
        }
    }

    /// Checks the pages of an overflow list, all of them; gives their bytes where all are right.
    fn overflow(
        &mut self,
        pool: &EnginePool,
        (name, tree): (&Arc<str>, TreeId),
        key: &[u8],
        list: &OverflowRef,
    ) -> Option<Vec<u8>> {
        let mut out = Some(Vec::new());
        for (number, &page) in list.pages.iter().enumerate() {
            if number.is_multiple_of(READ_AHEAD) {
                pool.prefetch(&list.pages[number..list.pages.len().min(number + READ_AHEAD)]);
            }
            self.own(pool.store(), page, name);
            match copy_page(pool, page) {
                Ok(bytes) => match overflow::check_piece(&bytes, tree, list, number) {
                    Ok(piece) => {
                        self.report.overflow_pages += 1;
                        if let Some(out) = &mut out {
                            out.extend_from_slice(piece);
                        }
                    }
                    Err(what) => {
                        let what = format!("piece {number} of the value of key \"{}\": {what}", key.escape_ascii());
                        self.found_page(pool.store(), page, "page", Some(name), &what);
                        out = None;
                    }
                },
                Err(e) => {
                    self.load_error(pool.store(), page, name, &e);
                    out = None;
                }
            }
        }
        out
    }

    /// Checks the runs of a blob, all of them.
    pub(super) fn blob(&mut self, pool: &EnginePool, name: &Arc<str>, key: &[u8], blob: &StoredBlob) {
        let mut bytes = Some(0);
        for run in &blob.runs {
            self.own(pool.store(), run.page, name);
            match blob::check_run(pool.store(), run) {
                Ok(len) => {
                    self.report.blob_runs += 1;
                    self.report.bytes += len;
                    bytes = bytes.map(|bytes| bytes + len);
                }
                Err(e) => {
                    let what = format!("a run of the value of key \"{}\": {}", key.escape_ascii(), what_of(&e));
                    self.found_page(pool.store(), run.page, "blob run", Some(name), &what);
                    bytes = None;
                }
            }
        }
        let block = pool.store().block().bytes() as u64;
        if let Some(bytes) = bytes.filter(|&bytes| bytes != blob.len.next_multiple_of(block)) {
            let what = format!(
                "the runs of the value of key \"{}\" have {bytes} bytes, expected {} in whole blocks",
                key.escape_ascii(),
                blob.len
            );
            let first = blob.runs.first().map_or(PageId(0), |run| run.page);
            self.found_page(pool.store(), first, "blob run", Some(name), &what);
        }
    }
}

/// What an error says, without its place where that is given already.
fn what_of(e: &Error) -> String {
    match e {
        Error::Corrupt(corruption) => corruption.what.clone(),
        other => other.to_string(),
    }
}

fn copy_page(pool: &EnginePool, page: PageId) -> Result<Vec<u8>, LoadError<Error>> {
    loop {
        let _hold = pool.load(page)?;
        if let Ok(guard) = pool.shared(page) {
            return Ok(guard.bytes().to_vec());
        }
    }
}
