//! Where all of this happens: a mount namespace of this process and its children alone.
//!
//! 1. A tmpfs is mounted over the directory that was named, in this namespace only: nothing of it is seen outside, and nothing is left
//!    when the last process of the namespace ends, however it ends. What was in the directory is reached by a descriptor from before.
//! 2. This process serves the disk under test, so it never waits for that disk itself: what mounts, unmounts or uses a file system on it
//!    are children. If this process is killed, their transfers fail, and they end.

use crate::error::{Error, Result};
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directory, hidden behind a tmpfs.
pub(super) struct Scene {
    at: PathBuf,
    behind: File,
}

impl Scene {
    /// Sets it up. Before any thread is started: they would stay in the old namespace.
    pub(super) fn new(dir: &Path) -> Result<Scene> {
        let at = dir.canonicalize().map_err(|e| Error::file("finding", dir, e))?;
        let behind = File::open(&at).map_err(|e| Error::file("opening", &at, e))?;
        let failed = |what: &'static str| move |e: nix::Error| Error::file(what, "the mount namespace", e.into());
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("leaving"))?;
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(failed("closing"))?;
        nix::mount::mount(Some("ashlar-stress"), &at, Some("tmpfs"), MsFlags::empty(), Some("size=80%,mode=700"))
            .map_err(|e| Error::file("mounting a tmpfs over", &at, e.into()))?;
        Ok(Scene { at, behind })
    }

    /// A new directory in it.
    pub(super) fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.at.join(name);
        std::fs::create_dir_all(&path).map_err(|e| Error::file("making", &path, e))?;
        Ok(path)
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    /// A name in the directory itself: what is written there stays.
    pub(super) fn kept(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.behind.as_raw_fd())).join(name)
    }

    /// That name as others know it.
    pub(super) fn kept_name(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }
}

/// A mount made by this process, taken away with the guard: never of the disk that it serves.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub(super) fn new(device: &Path, at: &Path, filesystem: &str, options: &str) -> nix::Result<Mounted> {
        nix::mount::mount(Some(device), at, Some(filesystem), MsFlags::empty(), Some(options))?;
        Ok(Mounted(at.to_owned()))
    }

    /// Unmounts, and says if that can't be done.
    pub(super) fn unmount(self) -> nix::Result<()> {
        let at = self.0.clone();
        std::mem::forget(self);
        nix::mount::umount(&at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Runs a program of the system to its end.
pub(super) fn run(program: &str, args: &[&std::ffi::OsStr]) -> std::result::Result<(), String> {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(Stdio::null()).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {args:?} ended with {}: {}", output.status, said.trim_end()))
}
