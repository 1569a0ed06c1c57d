//! Names that are durable when the call returns: made, renamed and removed files and directories, each with the syncs it needs.
//!
//! 1. A created file is complete or not there: it is filled under a temporary name, synced with all its metadata, renamed,
//!    and then its directory is synced.
//! 2. A temporary name is the final one with [`TEMPORARY_SUFFIX`]. One that a crash has left is removed by the next creation of
//!    that name; whoever lists a directory passes over such names.
//! 3. After an error nothing may be assumed about the name: it may be there after a power cut, or not.
//!
//! Not here: what files hold; and a database's directory is made durable in its parent by whoever makes it.

use crate::{Access, Create, File, Fs, OpenHow, Result, SyncKind};
use std::path::Path;

/// What a temporary name ends with.
pub const TEMPORARY_SUFFIX: &str = ".new";

/// Makes the file `name` in `dir`, filled by `fill`, replacing what has that name. `how` says mode and block; the file is
/// opened for writing, and must be opened again to be used.
pub fn create_file(fs: &dyn Fs, dir: &Path, name: &str, how: &OpenHow, fill: impl FnOnce(&dyn File) -> Result<()>) -> Result<()> {
    let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
    if fs.exists(&temporary)? {
        fs.remove(&temporary)?;
    }
    let file = fs.open(&temporary, &OpenHow { access: Access::ReadWrite, create: Create::New, ..*how })?;
    let filled = fill(&*file).and_then(|()| file.sync(SyncKind::All));
    drop(file);
    let renamed = filled.and_then(|()| fs.rename(&temporary, &dir.join(name)));
    if renamed.is_err() {
        // The first error is the one to tell; a name that stays is removed next time (2).
        let _ = fs.remove(&temporary);
    }
    renamed?;
    fs.sync_dir(dir)
}

/// Renames a file, replacing what has the new name, and syncs both directories: the new name's first, so that after a power cut
/// the file has one name at least.
pub fn rename(fs: &dyn Fs, from: &Path, to: &Path) -> Result<()> {
    fs.rename(from, to)?;
    let (source, target) = (directory_of(from), directory_of(to));
    fs.sync_dir(target)?;
    if source == target { Ok(()) } else { fs.sync_dir(source) }
}

/// Removes a file.
pub fn remove(fs: &dyn Fs, path: &Path) -> Result<()> {
    fs.remove(path)?;
    fs.sync_dir(directory_of(path))
}

/// Makes an empty directory; its parent must be there.
pub fn create_dir(fs: &dyn Fs, path: &Path) -> Result<()> {
    fs.create_dir(path)?;
    fs.sync_dir(path)?;
    fs.sync_dir(directory_of(path))
}

/// The directory that a path's last name is in: `.` for a name alone.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_path() {
        for (path, dir) in [("/a/b", "/a"), ("/a", "/"), ("/", "/"), ("a", "."), ("a/b", "a"), ("./a", ".")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(dir), "{path}");
        }
    }
}
