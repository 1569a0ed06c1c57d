//! A memory cgroup for this process, so that the page cache that it uses counts as its memory.
//!
//! 1. Version 1 of the interface (`/sys/fs/cgroup/memory`) and version 2 (a `memory` controller in the unified hierarchy) are used,
//!    whichever has the controller. Either needs the right to make a group, as root mostly has it.
//! 2. What was charged to the group before stays there: memory that the process had before it entered, and pages of files that others
//!    have read, do not count. Files are therefore dropped from the page cache before.
//! 3. Left behind by a killed process, an empty group is removed by the next one that is made.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Names of our groups begin so.
const PREFIX: &str = "ashlar-peers-";

/// The two interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    V1,
    V2,
}

/// A group that this process is in; dropped, it leaves it and removes it.
#[derive(Debug)]
pub struct Group {
    version: Version,
    path: PathBuf,
    /// The group that it was in before.
    parent: PathBuf,
}

/// Puts this process into a new group of at most `bytes`.
///
/// # Errors
/// There is no controller, or no right to use it; the message says what was tried.
pub fn enter(bytes: u64) -> Result<Group> {
    let (version, parent) = find()?;
    remove_left_behind(&parent);
    let path = parent.join(format!("{PREFIX}{}", std::process::id()));
    std::fs::create_dir(&path).with_context(|| format!("making the memory cgroup {}", path.display()))?;
    let group = Group { version, path, parent };
    let limit = match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    group.write(limit, &bytes.to_string())?;
    if version == Version::V2 {
        // Where there is swap: none of it.
        let _ = group.write("memory.swap.max", "0");
    }
    group.write("cgroup.procs", "0")?;
    Ok(group)
}

impl Group {
    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.path.join(file);
        std::fs::write(&path, text).with_context(|| format!("writing {text} to {}", path.display()))
    }

    /// The most that was charged at once, if the kernel tells.
    pub fn peak_bytes(&self) -> Option<u64> {
        let file = match self.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        };
        std::fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What can't be removed here is removed by the next group that is made.
        let _ = std::fs::write(self.parent.join("cgroup.procs"), "0");
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// The controller's version, and the directory of the group that this process is in.
fn find() -> Result<(Version, PathBuf)> {
    let (mounts, own) = (read("/proc/self/mounts")?, read("/proc/self/cgroup")?);
    if let (Some(root), Some(path)) = (mount_v1(&mounts), path_v1(&own)) {
        return Ok((Version::V1, below(&root, path)));
    }
    if let (Some(root), Some(path)) = (mount_v2(&mounts), path_v2(&own)) {
        let dir = below(&root, path);
        let enabled = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
        if enabled.split_whitespace().any(|name| name == "memory") {
            return Ok((Version::V2, dir));
        }
        // A group with processes in it has no children with controllers; the root may have them.
        let enabled = std::fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        if enabled.split_whitespace().any(|name| name == "memory") {
            return Ok((Version::V2, root));
        }
    }
    bail!(
        "the disk profile needs a memory cgroup: neither version 1 (/sys/fs/cgroup/memory) nor version 2 with the memory controller \
         enabled for children was found; run it as root where there is one, or use the mem profile"
    )
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

/// A path of `/proc/self/cgroup` below a mount; in a container it may be one that is not visible, then the mount itself is meant.
fn below(root: &Path, path: &str) -> PathBuf {
    let dir = root.join(path.trim_start_matches('/'));
    if dir.is_dir() { dir } else { root.to_owned() }
}

fn mount_v1(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut parts = line.split(' ').skip(1);
        let (path, kind, options) = (parts.next()?, parts.next()?, parts.next()?);
        (kind == "cgroup" && options.split(',').any(|option| option == "memory")).then(|| path.into())
    })
}

fn mount_v2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut parts = line.split(' ').skip(1);
        let (path, kind) = (parts.next()?, parts.next()?);
        (kind == "cgroup2").then(|| path.into())
    })
}

fn path_v1(own: &str) -> Option<&str> {
    own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(path)
    })
}

fn path_v2(own: &str) -> Option<&str> {
    own.lines().find_map(|line| line.strip_prefix("0::"))
}

fn remove_left_behind(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // One with a process in it stays.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_v1(mounts), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(mount_v2(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_v1("cgroup2 /sys/fs/cgroup cgroup2 rw,memory_recursiveprot 0 0\n"), None);
        let own = "9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/d\n";
        assert_eq!((path_v1(own), path_v2(own)), (Some("/a/b"), Some("/d")));
        assert_eq!(path_v1("0::/\n"), None);
    }

    #[test]
    fn a_path_that_is_not_visible_is_the_mount() {
        assert_eq!(below(Path::new("/proc"), "/no/such/group"), Path::new("/proc"));
        assert_eq!(below(Path::new("/proc"), "/self"), Path::new("/proc/self"));
    }
}
