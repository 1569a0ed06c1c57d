//! The page cache's share of files: forgetting it, and finding out how much of it there is.
//!
//! Files that another process has loaded or copied stand in the page cache at its expense: for a row whose memory is limited that would
//! be memory beside the limit. Before a row begins they are synced and dropped.

use anyhow::{Context, Result};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// All files below a directory.
///
/// # Errors
/// A directory can't be read.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Makes all files below a directory durable, and drops them from the page cache.
///
/// # Errors
/// A file can't be read or synced.
pub fn drop_files(dir: &Path) -> Result<()> {
    for path in files_below(dir)? {
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        file.sync_all().with_context(|| format!("syncing {}", path.display()))?;
        // SAFETY: the call reads nothing but its arguments; the descriptor is open.
        let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if error != 0 {
            let error = std::io::Error::from_raw_os_error(error);
            return Err(error).with_context(|| format!("dropping {} from the page cache", path.display()));
        }
    }
    Ok(())
}

/// Bytes that the page cache holds of the files below a directory.
///
/// # Errors
/// A file can't be mapped.
pub fn cached_bytes(dir: &Path) -> Result<u64> {
    files_below(dir)?.iter().map(|path| cached_of(path)).sum()
}

fn cached_of(path: &Path) -> Result<u64> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let len = usize::try_from(file.metadata()?.len())?;
    if len == 0 {
        return Ok(0);
    }
    // SAFETY: a new mapping, of nobody's memory; its pages are never touched.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("mapping {}", path.display()));
    }
    // SAFETY: no memory is concerned.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })?;
    let mut pages = vec![0u8; len.div_ceil(page)];
    // SAFETY: the mapping has `len` bytes, and `pages` a byte for each page of it.
    let error = unsafe { libc::mincore(start, len, pages.as_mut_ptr()) };
    let failed = (error != 0).then(std::io::Error::last_os_error);
    // SAFETY: the mapping from above, which nothing else uses.
    unsafe { libc::munmap(start, len) };
    match failed {
        Some(error) => Err(error).with_context(|| format!("asking what of {} is cached", path.display())),
        None => Ok((pages.iter().filter(|&&resident| resident & 1 == 1).count() * page) as u64),
    }
}

/// Bytes that the files below a directory take on the device.
///
/// # Errors
/// A file can't be looked at.
pub fn space_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for path in files_below(dir)? {
        // One that a background thread has just removed takes no space.
        sum += std::fs::metadata(&path).map_or(0, |metadata| metadata.blocks() * 512);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_cached_until_it_is_dropped() {
        let dir = tempfile::tempdir_in(".").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/a"), vec![1; 1 << 20]).unwrap();
        std::fs::write(dir.path().join("empty"), b"").unwrap();
        assert_eq!(files_below(dir.path()).unwrap().len(), 2);
        assert!(cached_bytes(dir.path()).unwrap() >= 1 << 20);
        drop_files(dir.path()).unwrap();
        assert!(cached_bytes(dir.path()).unwrap() < 1 << 18);
        let space = space_bytes(dir.path()).unwrap();
        assert!((1 << 20..1 << 21).contains(&space), "{space}");
    }
}
