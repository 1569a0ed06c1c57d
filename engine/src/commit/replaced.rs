//! What stands elsewhere and whose cell has been replaced: overflow pages, runs of blobs.
//!
//! Two steps. *Retired*: gone from this epoch's checkpoint on, and readable. *Freed*: once no snapshot can see it. Where nobody
//! could (in replay, in dropped trees) it is freed at once.

use crate::error::{Corruption, Result};
use crate::pages::{self, EnginePool};
use crate::value::cell::{self, Cell, OverflowRef, StoredBlob};
use crate::value::fetch::undecodable;
use crate::value::overflow;
use crate::versions;
use ashlar_bufferpool::Miss;

/// Cells that a tree has let go of and that name something beside themselves.
#[derive(Default)]
pub(super) struct Replaced {
    cells: Vec<(u8, Box<[u8]>)>,
}

impl Replaced {
    /// A key held this.
    pub(super) fn note(&mut self, old: Option<(u8, &[u8])>) {
        if let Some((kind, bytes)) = old
            && kind != cell::INLINE
        {
            self.cells.push((kind, bytes.into()));
        }
    }

    /// Retires what the commit at `lsn` has replaced; without versions it is freed.
    pub(super) fn retire(self, pool: &EnginePool, lsn: u64, mut versions: Option<&mut versions::Writer>) -> Result<()> {
        for (kind, bytes) in self.cells {
            match &mut versions {
                Some(versions) => {
                    each_part(pool, kind, &bytes, Step::Retire)?;
                    versions.retire(lsn, kind, bytes);
                }
                None => each_part(pool, kind, &bytes, Step::Free)?,
            }
        }
        Ok(())
    }
}

/// Frees what was retired with this cell.
pub(super) fn free_retired(pool: &EnginePool, kind: u8, bytes: &[u8]) -> Result<()> {
    each_part(pool, kind, bytes, Step::FreeRetired)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Retire,
    FreeRetired,
    Free,
}

fn each_part(pool: &EnginePool, kind: u8, bytes: &[u8], step: Step) -> Result<()> {
    match Cell::decode(kind, bytes, overflow::piece_len_max(pool.page_size())) {
        Some(Cell::Overflow(list)) => pages_of(pool, &list, step),
        Some(Cell::Blob(blob)) => {
            runs_of(pool, &blob, step);
            Ok(())
        }
        Some(Cell::LongBlob(list)) => {
            let list_bytes = overflow::read(pool, &list)?;
            let blob = list_bytes.as_deref().and_then(cell::decode_blob).ok_or_else(|| undecodable(kind))?;
            runs_of(pool, &blob, step);
            pages_of(pool, &list, step)
        }
        Some(Cell::Inline(_)) => Ok(()),
        None => Err(undecodable(kind)),
    }
}

fn pages_of(pool: &EnginePool, list: &OverflowRef, step: Step) -> Result<()> {
    list.pages.iter().try_for_each(|&page| match step {
        Step::Retire => pool.retire(page).map_err(|miss: Miss| {
            Corruption::page(miss.page().0, None, "an overflow cell names it, but there is no such page").into()
        }),
        Step::FreeRetired | Step::Free => pages::discard(pool, page),
    })
}

fn runs_of(pool: &EnginePool, blob: &StoredBlob, step: Step) {
    let (store, epoch) = (pool.store(), pool.epoch());
    if step != Step::Retire {
        store.blob_cache().forget(blob);
    }
    match step {
        Step::Retire => store.retire_blob(blob.pages(), epoch),
        Step::FreeRetired => store.free_retired_blob(blob.pages(), epoch),
        Step::Free => store.free_blob(blob.pages(), epoch),
    }
}
