//! What the power cuts need of the machine, and the file systems under which they are made.

use super::image::Image;
use super::place::{self, Scene};
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::path::Path;

/// A file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub(super) enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    pub(super) fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }

    fn maker(self) -> String {
        format!("mkfs.{}", self.name())
    }

    /// MiB of a disk that it takes, and not many more.
    fn mib(self) -> u64 {
        match self {
            FileSystem::Ext4 => 192,
            FileSystem::Xfs => 320,
            FileSystem::Btrfs => 256,
        }
    }

    /// How it is mounted. btrfs has direct I/O only for files without checksums, and so without copies on write. Images of one recording
    /// have the same UUID, which xfs is told to accept.
    pub(super) fn options(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "",
            FileSystem::Xfs => "nouuid",
            FileSystem::Btrfs => "nodatacow",
        }
    }

    fn arguments(self, sector: u32) -> Vec<String> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        match self {
            FileSystem::Ext4 => words("-q -F -b 4096 -J size=8 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0"),
            FileSystem::Xfs => words(&format!("-q -f -K -s size={sector}")),
            FileSystem::Btrfs => words("-q -f -K"),
        }
    }

    /// An empty one, on a disk with sectors of this many bytes.
    pub(super) fn make(self, scene: &Scene, sector: u32) -> Result<Image> {
        let path = scene.file(&format!("empty-{}-{sector}", self.name()));
        let failed = |e| Error::file("making", &path, e);
        let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).map_err(failed)?;
        file.set_len(self.mib() << 20).map_err(failed)?;
        let args = self.arguments(sector);
        let args: Vec<_> = args.iter().map(AsRef::as_ref).chain([path.as_os_str()]).collect();
        place::run(&self.maker(), &args).map_err(Error::Usage)?;
        let image = Image::load(&mut file).map_err(failed);
        std::fs::remove_file(&path).map_err(failed)?;
        image
    }
}

/// What is missing here, in words; empty if nothing is.
pub(super) fn missing(filesystem: FileSystem) -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if let Err(e) = OpenOptions::new().read(true).write(true).open(device) {
            missing.push(format!("{device} ({e})"));
        }
    }
    for program in [&*filesystem.maker(), "mount", "umount"] {
        if !is_there(program) {
            missing.push(format!("the program {program}"));
        }
    }
    if !is_known(filesystem.name()) {
        missing.push(format!("a kernel with {} (/proc/filesystems has none)", filesystem.name()));
    }
    missing
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).chain(["/sbin".into(), "/usr/sbin".into()]).any(|dir| dir.join(program).exists())
}

/// Whether the kernel has a file system, after it was asked to load it.
fn is_known(name: &str) -> bool {
    let listed = || {
        let all = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        all.lines().any(|line| line.split_whitespace().last() == Some(name))
    };
    listed() || (place::run("modprobe", &[name.as_ref()]).is_ok() && listed())
}

/// Whether a name is a directory that can be used.
pub(super) fn check_dir(dir: &Path) -> Result<()> {
    match File::open(dir).and_then(|f| f.metadata()) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::Usage(format!("{} is no directory", dir.display()))),
        Err(e) => Err(Error::file("opening", dir, e)),
    }
}
