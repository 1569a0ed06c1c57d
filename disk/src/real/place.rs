//! Kinds of file systems: their names, which of them are on a network, and what helps where direct I/O doesn't work.

use super::sys;
use crate::{Error, Op, Result};
use std::fs::File;
use std::path::Path;

/// The type of a file system, as `fstatfs` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Filesystem {
    magic: u64,
}

/// Known types: magic number, name, and whether a server stands behind it.
const KNOWN: [(u64, &str, bool); 27] = [
    (0xef53, "ext4", false), // and ext2 and ext3, which have the same number
    (0x5846_5342, "xfs", false),
    (0x9123_683e, "btrfs", false),
    (0x0102_1994, "tmpfs", false),
    (0x8584_58f6, "ramfs", false),
    (0x794c_7630, "overlayfs", false),
    (0xf2f5_2010, "f2fs", false),
    (0xca45_1a4e, "bcachefs", false),
    (0x2fc1_2fc1, "zfs", false),
    (0x3153_464a, "jfs", false),
    (0x7366_746e, "ntfs3", false),
    (0x4d44, "vfat", false),
    (0x2011_bab0, "exfat", false),
    (0x7371_7368, "squashfs", false),
    (0x0116_1970, "gfs2", false),
    (0x7461_636f, "ocfs2", false),
    (0xf15f, "ecryptfs", false),
    (0x6264_6576, "bdevfs", false),
    (0x6969, "nfs", true),
    (0x517b, "smb", true),
    (0xff53_4d42, "cifs", true),
    (0xfe53_4d42, "smb2", true),
    (0x0102_1997, "9p", true),
    (0x6573_5546, "fuse", true),
    (0x00c3_6400, "ceph", true),
    (0x0bd0_0bd0, "lustre", true),
    (0x5346_414f, "afs", true),
];

impl Filesystem {
    /// That which holds an open file or directory.
    pub(super) fn of(file: &File, path: &Path) -> Result<Filesystem> {
        let magic = sys::filesystem_magic(file).map_err(|e| Error::from_io(Op::Stat, path, None, &e))?;
        Ok(Filesystem { magic })
    }

    /// Its name, or its number where it has none here.
    pub(super) fn name(self) -> String {
        let known = KNOWN.iter().find(|(magic, ..)| *magic == self.magic);
        known.map_or_else(|| format!("type {:#x}", self.magic), |(_, name, _)| (*name).to_owned())
    }

    /// Whether a server may stand behind it (FUSE may be anything, so it counts).
    pub(super) fn is_network(self) -> bool {
        KNOWN.iter().any(|(magic, _, network)| *magic == self.magic && *network)
    }

    /// Whether it is btrfs, whose files go through the page cache unless they are marked no-copy-on-write.
    pub(super) fn is_btrfs(self) -> bool {
        self.name() == "btrfs"
    }

    /// Whether its files are in memory and nowhere else.
    pub(super) fn is_memory(self) -> bool {
        matches!(self.name().as_str(), "tmpfs" | "ramfs")
    }

    /// The error for direct I/O that doesn't work there.
    pub(super) fn unsupported(self, path: &Path, reason: impl Into<String>) -> Error {
        let remedy = match self.name().as_str() {
            "btrfs" => "put the database into a directory that was marked no-copy-on-write while it was empty (chattr +C DIR)",
            "tmpfs" | "ramfs" => "put the database on a disk, since this is memory",
            "overlayfs" => "put the database on a volume of its own instead of a container's layers",
            _ => "put the database on a local ext4 or xfs file system",
        };
        let remedy = format!("{remedy}, or open it with IoMode::Buffered");
        Error::DirectIoUnsupported { path: path.to_owned(), filesystem: self.name(), reason: reason.into(), remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::{RealFs, RealOptions};

    #[test]
    fn network_file_systems_are_known_by_number() {
        for (magic, name) in [(0x6969, "nfs"), (0xff53_4d42, "cifs"), (0x6573_5546, "fuse"), (0x0102_1997, "9p")] {
            let filesystem = Filesystem { magic };
            assert!(filesystem.is_network() && filesystem.name() == name);
        }
        for magic in [0xef53, 0x5846_5342, 0x0102_1994, 0x1234] {
            assert!(!Filesystem { magic }.is_network());
        }
        assert_eq!(Filesystem { magic: 0x1234 }.name(), "type 0x1234");
    }

    #[test]
    fn a_network_file_system_is_refused_unless_allowed() {
        let nfs = Filesystem { magic: 0x6969 };
        let check = |allow_network_fs| {
            let fs = RealFs::new(RealOptions { allow_network_fs, ..RealOptions::default() }).unwrap();
            fs.check_network(nfs, Path::new("/mnt/db"))
        };
        check(true).unwrap();
        let message = check(false).unwrap_err().to_string();
        assert!(message.contains("/mnt/db") && message.contains("(nfs)") && message.contains("allow_network_fs"), "{message}");
    }

    #[test]
    fn numbers_are_not_repeated() {
        for (i, a) in KNOWN.iter().enumerate() {
            assert!(KNOWN[i + 1..].iter().all(|b| b.0 != a.0 && b.1 != a.1), "{}", a.1);
        }
    }

    #[test]
    fn the_remedy_fits_the_file_system() {
        let message = |magic| Filesystem { magic }.unsupported(Path::new("/db"), "seen").to_string();
        assert!(message(0x9123_683e).contains("chattr +C"));
        assert!(message(0x0102_1994).contains("memory"));
        assert!(message(0xef53).contains("IoMode::Buffered"));
    }
}
