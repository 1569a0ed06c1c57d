//! Pages whose every word says which page and which version of it they are, so that a torn, stale or foreign one is seen.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

pub(crate) mod crowd;

use ashlar_bufferpool::{PageId, PageMut};

/// What each word of version `version` of `page` is.
pub(crate) fn pattern(page: PageId, version: u64) -> u64 {
    (version << 16) ^ page.0
}

/// Makes the page say that it is `version` of `page`.
pub(crate) fn stamp(target: &mut PageMut, page: PageId, version: u64) {
    for offset in (0..target.len()).step_by(8) {
        target.put_u64(offset, pattern(page, version));
    }
}

/// The version of `page` that `bytes` are, all of them.
pub(crate) fn version_of(page: PageId, bytes: &[u8]) -> u64 {
    let words: Vec<u64> = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert!(words.iter().all(|&word| word == words[0]), "{page} is torn: {:x} and others", words[0]);
    let version = words[0] >> 16;
    assert_eq!(words[0], pattern(page, version), "these are not bytes of {page}");
    version
}
