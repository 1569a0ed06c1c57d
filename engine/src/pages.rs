//! The engine's pool of pages: blocking look-ups over the tree's non-blocking ones, and the pool's errors as the engine's.

use crate::btree::{Found, LeafCopy, Seek, Stop, Tree, TreeError, TreeId};
use crate::error::{Corruption, Error, Result};
use crate::store::Store;
use ashlar_bufferpool::{Hold, LoadError, Miss, PageId, Pool, Reservation, ReserveError};

/// The pool over the store.
pub(crate) type EnginePool = Pool<Store>;

/// Bytes of pages that are asked for ahead of one reader, at most.
const AHEAD_BYTES: usize = 2 << 20;

/// One frame in so many is for what is read ahead of one reader. The pool takes the touches of a page's youngest days for one use, while it
/// is among the youngest twentieth: a page that were asked for earlier than that would leave before its turn, or be taken for one that is
/// used again and again.
const AHEAD_SHARE: usize = 32;

/// So many pages are asked for in small pools, too, as long as they are among the youngest twentieth.
const AHEAD_MIN: usize = 4;

/// How many pages are asked for ahead of one reader who goes through pages in order, at most.
pub(crate) fn ahead_max(pool: &EnginePool) -> usize {
    let frames = pool.frames() as usize;
    let share = (frames / AHEAD_SHARE).max(AHEAD_MIN.min(frames / 20));
    share.min(AHEAD_BYTES / pool.page_size())
}

/// `n` frames for an operation; waits with nothing held.
pub(crate) fn reserve(pool: &EnginePool, n: usize) -> Result<Reservation<'_, Store>> {
    pool.reserve(n).map_err(|e| reserve_error(pool, e))
}

fn reserve_error(pool: &EnginePool, e: ReserveError<Error>) -> Error {
    match e {
        // Three quarters of the frames can be taken by changes at most.
        ReserveError::CacheTooSmall { needed, .. } => {
            Error::CacheTooSmall { needed: needed as u64 * pool.page_size() as u64 * 4 / 3 }
        }
        ReserveError::WriteBack(e) => e,
        ReserveError::TooManyPages { pages_max } => {
            Error::NoSpace { detail: format!("page {pages_max}: the file system is not that large") }
        }
        ReserveError::Memory(e) => e.into(),
    }
}

/// Runs `take`, which takes up to `n` page ids from the store, with the page table opened for them.
pub(crate) fn take_ids<T>(pool: &EnginePool, n: usize, take: impl FnOnce() -> Result<T>) -> Result<T> {
    let _one = pool.store().giving_ids.lock();
    pool.admit_ids(n).map_err(|e| reserve_error(pool, e))?;
    take()
}

/// Brings a page into memory and holds it there; `None` where there is no such page (any more).
pub(crate) fn load(pool: &EnginePool, page: PageId) -> Result<Option<Hold<'_, Store>>> {
    load_into(pool, page, None)
}

/// The same, into a reserved frame where there is one.
pub(crate) fn load_into<'a>(
    pool: &'a EnginePool,
    page: PageId,
    frames: Option<&mut Reservation<'_, Store>>,
) -> Result<Option<Hold<'a, Store>>> {
    let loaded = match frames {
        Some(frames) => pool.load_from(page, frames),
        None => pool.load(page),
    };
    match loaded {
        Ok(hold) => Ok(Some(hold)),
        Err(LoadError::NotAllocated(_)) => Ok(None),
        Err(e) => Err(load_error(page, e)),
    }
}

fn load_error(page: PageId, e: LoadError<Error>) -> Error {
    match e {
        LoadError::NotAllocated(_) => Corruption::page(page.0, None, "something names it, but there is no such page").into(),
        LoadError::Store(e) | LoadError::WriteBack(e) => e,
        LoadError::Memory(e) => e.into(),
    }
}

/// Frees a page without reading it.
pub(crate) fn discard(pool: &EnginePool, page: PageId) -> Result<()> {
    loop {
        match pool.discard(page) {
            Ok(()) => return Ok(()),
            Err(Miss::NotAllocated(page)) => {
                return Err(Corruption::page(page.0, None, "it is freed, but there is no such page").into());
            }
            Err(Miss::NotResident(page)) => drop(load(pool, page)?),
        }
    }
}

/// A tree's error as the engine's.
pub(crate) fn tree_error(pool: &EnginePool, tree: TreeId, e: TreeError<Error>) -> Error {
    match e {
        TreeError::Corrupt(corrupt) => corruption(tree, corrupt.page, corrupt.what),
        TreeError::Load(LoadError::NotAllocated(page)) => corruption(tree, page, "the tree names it, but there is no such page"),
        TreeError::TooLarge { key_len, value_len } => Corruption {
            place: "a commit's record".into(),
            page: None,
            block: None,
            tree: Some(tree.0),
            what: format!("an entry of {key_len} and {value_len} bytes is larger than a page takes"),
        }
        .into(),
        TreeError::Load(e) => load_error(PageId(0), e),
        TreeError::Reserve(e) => reserve_error(pool, e),
    }
}

fn corruption(tree: TreeId, page: PageId, what: &str) -> Error {
    Corruption::page(page.0, Some(tree.0), what).into()
}

/// Pages that a look-up may miss, one after the other, before it reserves frames for all that it needs at once.
const MISSES_MAX: usize = 16;

/// Frames by which such a reservation grows when it was too small.
const FRAMES_MORE: usize = 4;

/// Runs a look-up that stops at pages that are not in memory, loading them, until it comes to an answer.
///
/// 1. Nobody waits for a frame while holding a page: any number of look-ups can wait, and none for another's pages. The page that
///    was loaded last is held only until the look-up has met it.
/// 2. Where there are hardly any frames for reading, what one load brings in the next one may evict. A look-up that gets nowhere
///    reserves frames, all at once, for a whole path, and keeps what it loads into them.
pub(crate) fn until_found<R>(pool: &EnginePool, tree: Tree, mut look: impl FnMut() -> std::result::Result<R, Stop>) -> Result<R> {
    let mut holds = Vec::new();
    let mut frames = None;
    let mut misses = 0;
    let mut gone = 0;
    loop {
        let page = match look() {
            Ok(found) => return Ok(found),
            Err(Stop::Corrupt(corrupt)) => return Err(corruption(tree.id, corrupt.page, corrupt.what)),
            Err(Stop::Missing(page)) => page,
        };
        misses += 1;
        if misses <= MISSES_MAX {
            holds.clear();
        } else if frames.as_ref().is_none_or(Reservation::is_empty) {
            let least = holds.len() + 1;
            holds.clear();
            // None is left of those reserved before.
            frames = Some(reserve(pool, (least + FRAMES_MORE).min(pool.reservation_max()).max(least))?);
        }
        let loaded = load_into(pool, page, frames.as_mut())?;
        gone = if loaded.is_some() { 0 } else { gone + 1 };
        holds.extend(loaded);
        // A page may be freed between the look and the load, but then the next look finds another way.
        if gone > 100 {
            return Err(corruption(tree.id, page, "the tree names it, but there is no such page"));
        }
    }
}

/// Reads what a key holds.
pub(crate) fn find<R>(pool: &EnginePool, tree: Tree, key: &[u8], mut use_found: impl FnMut(Found<'_>) -> R) -> Result<R> {
    until_found(pool, tree, || tree.get(pool, key, &mut use_found))
}

/// Copies the leaf where a seek lands.
pub(crate) fn read_leaf(pool: &EnginePool, tree: Tree, seek: Seek<'_>, copy: &mut LeafCopy) -> Result<()> {
    until_found(pool, tree, || tree.read_leaf(pool, seek, copy, |_, _, _| ()))
}
